/* test_policy.c: the selection policies that Adamas is compared with, against their definitions. */
#include "tests/support/stage_check.h"

#include <stdbool.h>

#include "core/policy/policy.h"
#include "core/policy/rank.h"

enum { MOST = 400 };

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Sorts the first n tokens of an order; each must be there once, and the newest among them. */
static void check_selection(uint32_t *order, size_t n, size_t n_tokens) {
    assert_int_equal(order[0], n_tokens - 1);
    qsort(order, n, sizeof *order, ascending);
    for (size_t i = 0; i < n; i++) {
        assert_true(order[i] < n_tokens);
        assert_true(i == 0 || order[i - 1] < order[i]);
    }
}

/* What a budget keeps by the policy's definition: its first tokens and its last. */
static void streaming_keeps_both_ends(void **state) {
    (void)state;
    uint32_t order[MOST];
    assert_int_equal(adm_streaming_order(100, 10, order), 10);
    check_selection(order, 10, 100);
    const uint32_t expected[] = {0, 1, 2, 3, 94, 95, 96, 97, 98, 99};
    assert_memory_equal(order, expected, sizeof expected);
    assert_int_equal(adm_streaming_order(100, 3, order), 3);
    const uint32_t first[] = {99, 0, 1};
    assert_memory_equal(order, first, sizeof first);
    assert_int_equal(adm_streaming_order(7, 50, order), 7);
    check_selection(order, 7, 7);
    assert_int_equal(adm_streaming_order(1, 50, order), 1);
}

static void random_is_fair_and_repeatable(void **state) {
    (void)state;
    adm_rng rng, again;
    uint32_t index[MOST], same[MOST];
    int count[20] = {0};
    adm_rng_seed(&rng, 5);
    adm_rng_seed(&again, 5);
    enum { ROUNDS = 20000 };
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(adm_random_order(&rng, 20, 6, index), 6);
        assert_int_equal(adm_random_order(&again, 20, 6, same), 6);
        assert_memory_equal(index, same, 6 * sizeof *index);
        check_selection(index, 6, 20);
        for (int i = 0; i < 6; i++) count[index[i]]++;
    }
    assert_int_equal(count[19], ROUNDS);
    /* Each of the other 19 tokens is in with probability 5/19; five standard deviations. */
    const double p = 5.0 / 19;
    for (int t = 0; t < 19; t++) assert_true(fabs(count[t] - ROUNDS * p) < 5 * sqrt(ROUNDS * p * (1 - p)));
    assert_int_equal(adm_random_order(&rng, 4, 9, index), 4);
    check_selection(index, 4, 4);
}

static void quest_takes_the_pages_with_the_largest_bound(void **state) {
    (void)state;
    enum { D = 64, N = 23 * ADM_QUEST_PAGE + 5 }; /* the last page is short */
    static float keys[N * D], bounds[24 * 2 * D];
    float q[D];
    double bound[24];
    uint32_t pages[24], index[MOST];
    static adm_ranked scratch[2 * 24];
    adm_rng rng;
    for (uint64_t round = 0; round < 20; round++) {
        adm_rng_seed(&rng, check_seed() + round);
        for (int i = 0; i < D; i++) q[i] = (float)adm_rng_normal(&rng);
        for (int i = 0; i < N * D; i++) keys[i] = (float)adm_rng_normal(&rng);
        for (size_t t = 0; t < N; t++) adm_quest_append(bounds, t, keys + t * D, D);
        assert_int_equal(adm_quest_pages(N), 24);
        memset(bound, 0, sizeof bound);
        adm_quest_add_bounds(bounds, q, D, N, bound);
        size_t n = adm_quest_tokens(N, 100); /* 6 pages: the short one and 5 others */
        assert_int_equal(n, 5 * ADM_QUEST_PAGE + 5);
        assert_int_equal(adm_quest_order(bound, N, n, scratch, pages, index), n);
        assert_int_equal(pages[0], 23);
        check_selection(index, n, N);
        /* By definition: a page that is in has no smaller bound than one that is out, and the bound is one. */
        bool in[24] = {false};
        double lowest_in = INFINITY, highest_out = -INFINITY;
        for (size_t i = 0; i < n; i++) in[index[i] / ADM_QUEST_PAGE] = true;
        for (int p = 0; p < 23; p++) {
            double best = 0, largest_dot = -INFINITY;
            for (int i = 0; i < D; i++) {
                double most = -INFINITY;
                for (int t = 0; t < ADM_QUEST_PAGE; t++)
                    most = fmax(most, (double)q[i] * keys[(p * ADM_QUEST_PAGE + t) * D + i]);
                best += most;
            }
            for (int t = 0; t < ADM_QUEST_PAGE; t++) {
                double dot = 0;
                for (int i = 0; i < D; i++) dot += (double)q[i] * keys[(p * ADM_QUEST_PAGE + t) * D + i];
                largest_dot = fmax(largest_dot, dot);
            }
            assert_true(best >= largest_dot);
            if (in[p]) lowest_in = fmin(lowest_in, best);
            else highest_out = fmax(highest_out, best);
        }
        assert_true(lowest_in >= highest_out);
    }
    assert_int_equal(adm_quest_tokens(N, 10 * N), N);
    assert_int_equal(adm_quest_tokens(N, ADM_QUEST_PAGE), 5); /* the newest page alone */
    assert_int_equal(adm_quest_tokens(N, ADM_QUEST_PAGE - 1), 0);
    /* The smallest budget for so many tokens is the first that has them. */
    for (size_t needed = 1; needed <= N; needed++) {
        size_t budget = adm_quest_budget(N, needed);
        assert_true(adm_quest_tokens(N, budget) >= needed);
        assert_true(budget == ADM_QUEST_PAGE || adm_quest_tokens(N, budget - ADM_QUEST_PAGE) < needed);
    }
}

/* The definition, for one budget by itself: the recent half, and the heaviest of the rest. */
static size_t h2o_by_definition(const uint32_t *rank, size_t n_tokens, size_t budget, uint32_t *selected) {
    size_t n = budget < n_tokens ? budget : n_tokens, n_recent = (n + 1) / 2, found = 0;
    for (size_t i = 0; found < n - n_recent; i++)
        if (rank[i] < n_tokens - n_recent) selected[found++] = rank[i];
    for (size_t t = n_tokens - n_recent; t < n_tokens; t++) selected[found++] = (uint32_t)t;
    qsort(selected, found, sizeof *selected, ascending);
    return found;
}

static void h2o_takes_the_recent_and_the_heavy(void **state) {
    (void)state;
    double drawn[MOST];
    uint32_t rank[MOST], order[MOST], expected[MOST];
    uint8_t taken[MOST];
    static adm_ranked scratch[2 * MOST];
    for (int t = 0; t < 100; t++) drawn[t] = t == 3 || t == 40 || t == 41 || t == 98 ? 5 : 0.001 * (t % 7);
    adm_rank(drawn, 100, scratch, rank);
    assert_int_equal(adm_h2o_order(rank, 100, 5, taken, order), 5);
    check_selection(order, 5, 100);
    const uint32_t five[] = {40, 41, 97, 98, 99}; /* 98 is recent already; of the tied 3, 40, 41 the later two */
    assert_memory_equal(order, five, sizeof five);
    for (size_t budget = 1; budget < 120; budget++) {
        size_t n = adm_h2o_order(rank, 100, budget, taken, order);
        assert_int_equal(n, h2o_by_definition(rank, 100, budget, expected));
        check_selection(order, n, 100);
        assert_memory_equal(order, expected, n * sizeof *order);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streaming_keeps_both_ends),
        cmocka_unit_test(random_is_fair_and_repeatable),
        cmocka_unit_test(quest_takes_the_pages_with_the_largest_bound),
        cmocka_unit_test(h2o_takes_the_recent_and_the_heavy),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
