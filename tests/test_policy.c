/* test_policy.c: the selection policies that Adamas is compared with, against their definitions. */
#include "tests/stage_check.h"

#include <stdbool.h>

#include "core/policy.h"
#include "core/quality.h"

enum { MOST = 400 };

static void check_ascending(const uint32_t *index, size_t n, size_t n_tokens) {
    for (size_t i = 0; i < n; i++) {
        assert_true(index[i] < n_tokens);
        assert_true(i == 0 || index[i - 1] < index[i]);
    }
    assert_int_equal(index[n - 1], n_tokens - 1); /* the newest is always in */
}

static void streaming_keeps_both_ends(void **state) {
    (void)state;
    uint32_t index[MOST];
    assert_int_equal(adm_streaming_select(100, 10, index), 10);
    const uint32_t expected[] = {0, 1, 2, 3, 94, 95, 96, 97, 98, 99};
    assert_memory_equal(index, expected, sizeof expected);
    assert_int_equal(adm_streaming_select(100, 1, index), 1);
    assert_int_equal(index[0], 99);
    assert_int_equal(adm_streaming_select(100, 3, index), 3);
    assert_true(index[0] == 0 && index[1] == 1 && index[2] == 99);
    assert_int_equal(adm_streaming_select(7, 50, index), 7);
    check_ascending(index, 7, 7);
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
        assert_int_equal(adm_random_select(&rng, 20, 6, index), 6);
        assert_int_equal(adm_random_select(&again, 20, 6, same), 6);
        assert_memory_equal(index, same, 6 * sizeof *index);
        check_ascending(index, 6, 20);
        for (int i = 0; i < 6; i++) count[index[i]]++;
    }
    assert_int_equal(count[19], ROUNDS);
    /* Each of the other 19 tokens is in with probability 5/19; five standard deviations. */
    const double p = 5.0 / 19;
    for (int t = 0; t < 19; t++) assert_true(fabs(count[t] - ROUNDS * p) < 5 * sqrt(ROUNDS * p * (1 - p)));
    assert_int_equal(adm_random_select(&rng, 4, 9, index), 4);
    check_ascending(index, 4, 4);
}

static void quest_takes_the_pages_with_the_largest_bound(void **state) {
    (void)state;
    enum { D = 64, N = 23 * ADM_QUEST_PAGE + 5 }; /* the last page is short */
    static float keys[N * D], bounds[24 * 2 * D];
    float q[D];
    double bound[24];
    uint32_t order[24], index[MOST];
    char scratch[24 * ADM_RANK_SCRATCH];
    adm_rng rng;
    for (uint64_t round = 0; round < 20; round++) {
        adm_rng_seed(&rng, check_seed() + round);
        for (int i = 0; i < D; i++) q[i] = (float)adm_rng_normal(&rng);
        for (int i = 0; i < N * D; i++) keys[i] = (float)adm_rng_normal(&rng);
        for (size_t t = 0; t < N; t++) adm_quest_append(bounds, t, keys + t * D, D);
        assert_int_equal(adm_quest_pages(N), 24);
        adm_quest_rank(bounds, q, D, N, bound, scratch, order);
        assert_int_equal(order[0], 23);
        size_t n = adm_quest_select(order, N, 100, index); /* 6 pages: the short one and 5 others */
        assert_int_equal(n, 5 * ADM_QUEST_PAGE + 5);
        check_ascending(index, n, N);
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
    assert_int_equal(adm_quest_select(order, N, 10 * N, index), N);
    assert_int_equal(adm_quest_select(order, N, ADM_QUEST_PAGE, index), 5); /* the newest page alone */
}

static void h2o_takes_the_recent_and_the_heavy(void **state) {
    (void)state;
    double drawn[MOST];
    uint32_t order[MOST], index[MOST];
    static char scratch[MOST * ADM_RANK_SCRATCH];
    for (int t = 0; t < 100; t++) drawn[t] = t == 3 || t == 40 || t == 41 || t == 98 ? 5 : 0.001 * (t % 7);
    adm_rank(drawn, 100, scratch, order);
    assert_int_equal(adm_h2o_select(order, 100, 5, index), 5);
    const uint32_t expected[] = {40, 41, 97, 98, 99}; /* 98 is recent already; of the tied 3, 40, 41 the later two */
    assert_memory_equal(index, expected, sizeof expected);
    assert_int_equal(adm_h2o_select(order, 100, 1, index), 1);
    assert_int_equal(index[0], 99);
    assert_int_equal(adm_h2o_select(order, 100, 400, index), 100);
    check_ascending(index, 100, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streaming_keeps_both_ends), cmocka_unit_test(random_is_fair_and_repeatable),
        cmocka_unit_test(quest_takes_the_pages_with_the_largest_bound),
        cmocka_unit_test(h2o_takes_the_recent_and_the_heavy),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
