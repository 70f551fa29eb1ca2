/* test_policy.c: the selection policies that Adamas is compared with, against their definitions. */
#include "tests/support/stage_check.h"

#include <stdbool.h>

#include "core/base/mem.h"
#include "core/policy/policy_set.h"
#include "core/policy/sweep.h"
#include "kernels/attention/quality.h"

enum { D = 64, MAX_TOKENS = 400, MAX_BUDGETS = 8, PAGE = 16 };

/* One policy with one KV head and one query head. */
typedef struct opened {
    adm_sweep sweep;
    adm_policy_set *set;
    adm_host_pipeline pipeline;
    void *scratch;
    uint16_t level_of[MAX_TOKENS];
    uint32_t list[MAX_TOKENS];
    size_t end[MAX_BUDGETS];
    adm_select_info info[MAX_BUDGETS];
} opened;

static opened *open_policy(const char *text) {
    opened *o = calloc(1, sizeof *o);
    adm_error err = {0};
    adm_host_pipeline_default(&o->pipeline);
    const adm_policy_setup setup = {.pipeline = &o->pipeline,
                                    .weights = adm_quality_fastest()->weights,
                                    .shape = {1, 1, D},
                                    .n_tokens = MAX_TOKENS,
                                    .n_layers = 1,
                                    .max_selected = MAX_TOKENS,
                                    .max_budgets = MAX_BUDGETS};
    if (adm_sweep_parse(text, NULL, 0, &o->sweep, &err) != ADM_OK) fail_msg("%s: %s", text, err.text);
    if (adm_policy_set_open(&setup, o->sweep.variant, o->sweep.n_variants, &o->set, &err) != ADM_OK) fail_msg("%s", err.text);
    assert_int_equal(adm_alloc(&o->scratch, adm_policy_set_scratch_bytes(o->set) + 1, 1, "scratch", &err), ADM_OK);
    adm_policy_set_begin(o->set, 0);
    return o;
}

static void close_policy(opened *o) {
    adm_policy_set_close(&o->set);
    adm_sweep_clear(&o->sweep);
    adm_free(&o->scratch);
    free(o);
}

static void select_at(opened *o, const adm_policy_query *at, const uint32_t *budget, size_t n_budgets) {
    const size_t last = budget[n_budgets - 1];
    adm_budgets budgets = {
        .budget = budget, .n = n_budgets, .widest = last < MAX_TOKENS ? last : MAX_TOKENS, .level_of = o->level_of};
    adm_selected selected = {o->list, o->end, o->info};
    adm_budgets_levels(budget, budgets.widest, o->level_of);
    adm_policy_set_select(o->set, o->scratch, at, 0, 0, &budgets, &selected);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Each token of the first n of the list once, and the newest among them; sorts them. */
static void check_selection(uint32_t *list, size_t n, size_t n_tokens) {
    qsort(list, n, sizeof *list, ascending);
    for (size_t i = 0; i < n; i++) {
        assert_true(list[i] < n_tokens);
        assert_true(i == 0 || list[i - 1] < list[i]);
    }
    assert_int_equal(list[n - 1], n_tokens - 1);
}

/* The order of all tokens: its first n are what the budget n selects by itself. */
static void check_order(opened *o, const adm_policy_query *at) {
    uint32_t order[MAX_TOKENS], sorted[MAX_TOKENS];
    select_at(o, at, (const uint32_t[]){(uint32_t)at->n_tokens}, 1);
    adm_policy_set_order(o->set, o->scratch, at, 0, 0, order);
    for (uint32_t budget = 1; budget <= at->n_tokens; budget += 7) {
        select_at(o, at, &budget, 1);
        if (o->end[0] == 0) continue; /* below the smallest budget */
        memcpy(sorted, order, o->end[0] * sizeof *sorted);
        check_selection(sorted, o->end[0], at->n_tokens);
        assert_memory_equal(sorted, o->list, o->end[0] * sizeof *sorted);
    }
}

/* What a budget keeps by the policy's definition: the first tokens and the last. */
static void streaming_keeps_both_ends(void **state) {
    (void)state;
    opened *o = open_policy("streaming");
    adm_policy_query at = {.n_tokens = 100};
    const uint32_t budgets[] = {3, 10, 50};
    select_at(o, &at, budgets, 3);
    assert_int_equal(o->end[0], 3);
    assert_int_equal(o->end[1], 10);
    const uint32_t first[] = {0, 1, 99}, ten[] = {0, 1, 2, 3, 94, 95, 96, 97, 98, 99};
    assert_memory_equal(o->list, first, sizeof first);
    check_selection(o->list, 10, 100);
    assert_memory_equal(o->list, ten, sizeof ten);
    check_order(o, &at);
    for (at.n_tokens = 1; at.n_tokens < 8; at.n_tokens++) {
        select_at(o, &at, budgets, 3);
        assert_int_equal(o->end[2], at.n_tokens);
        check_selection(o->list, at.n_tokens, at.n_tokens);
    }
    close_policy(o);
}

static void random_is_fair_and_repeatable(void **state) {
    (void)state;
    opened *o = open_policy("random:seed=5"), *again = open_policy("random:seed=5");
    int count[20] = {0};
    adm_policy_query at = {.n_tokens = 20};
    enum { ROUNDS = 20000 };
    for (at.step = 0; at.step < ROUNDS; at.step++) {
        const uint32_t six = 6;
        select_at(o, &at, &six, 1);
        select_at(again, &at, &six, 1);
        assert_int_equal(o->end[0], 6);
        assert_memory_equal(o->list, again->list, 6 * sizeof *o->list);
        check_selection(o->list, 6, 20);
        for (int i = 0; i < 6; i++) count[o->list[i]]++;
    }
    assert_int_equal(count[19], ROUNDS);
    /* Each of the other 19 tokens is in with probability 5/19; five standard deviations. */
    const double p = 5.0 / 19;
    for (int t = 0; t < 19; t++) assert_true(fabs(count[t] - ROUNDS * p) < 5 * sqrt(ROUNDS * p * (1 - p)));
    check_order(o, &at);
    at.n_tokens = 4;
    select_at(o, &at, (const uint32_t[]){9}, 1);
    assert_int_equal(o->end[0], 4);
    check_selection(o->list, 4, 4);
    close_policy(o);
    close_policy(again);
}

/* A page that is in has no smaller bound than one that is out, and the bound is one. */
static void check_pages(const float *q, const float *keys, const bool in[24]) {
    double min_in = INFINITY, max_out = -INFINITY;
    for (int p = 0; p < 23; p++) {
        double bound = 0, largest_dot = -INFINITY;
        for (int i = 0; i < D; i++) {
            double max = -INFINITY;
            for (int t = 0; t < PAGE; t++) max = fmax(max, (double)q[i] * keys[(p * PAGE + t) * D + i]);
            bound += max;
        }
        for (int t = 0; t < PAGE; t++) {
            double dot = 0;
            for (int i = 0; i < D; i++) dot += (double)q[i] * keys[(p * PAGE + t) * D + i];
            largest_dot = fmax(largest_dot, dot);
        }
        assert_true(bound >= largest_dot);
        if (in[p]) min_in = fmin(min_in, bound);
        else max_out = fmax(max_out, bound);
    }
    assert_true(min_in >= max_out);
}

/* For every number of tokens of the order, the budget that is said to be needed selects as many, and none smaller does; none is
 * beyond the context. */
static void check_budgets_needed(opened *o, const adm_policy_query *at) {
    uint32_t order[MAX_TOKENS];
    const size_t min_budget = adm_policy_min_budget(o->sweep.variant);
    for (size_t needed = 1; needed <= at->n_tokens; needed++) {
        select_at(o, at, (const uint32_t[]){(uint32_t)at->n_tokens}, 1);
        adm_policy_set_order(o->set, o->scratch, at, 0, 0, order);
        const uint32_t budget = (uint32_t)adm_policy_set_budget_for(o->set, o->scratch, at, 0, needed);
        assert_true(budget <= at->n_tokens && (budget >= min_budget || budget == at->n_tokens));
        select_at(o, at, &budget, 1);
        assert_true(o->end[0] >= needed);
        if (budget == min_budget) continue;
        select_at(o, at, (const uint32_t[]){budget - 1}, 1);
        assert_true(o->end[0] < needed);
    }
}

static void quest_takes_the_pages_with_the_largest_bound(void **state) {
    (void)state;
    enum { N = 23 * PAGE + 5 }; /* the last page is short */
    static float keys[N * D];
    float q[D];
    adm_rng rng;
    opened *o = open_policy("quest");
    const adm_policy_query at = {.n_tokens = N, .q = q};
    for (uint64_t round = 0; round < 20; round++) {
        adm_rng_seed(&rng, check_seed() + round);
        check_case("round %" PRIu64, round);
        for (int i = 0; i < D; i++) q[i] = (float)adm_rng_normal(&rng);
        for (int i = 0; i < N * D; i++) keys[i] = (float)adm_rng_normal(&rng);
        /* In two parts, the second again: what is appended again replaces what was. */
        adm_policy_set_append(o->set, o->scratch, &(adm_policy_keys){.k = keys, .stride = N, .n = 5 * PAGE});
        for (int again = 0; again < 2; again++)
            adm_policy_set_append(o->set, o->scratch,
                                  &(adm_policy_keys){.k = keys, .stride = N, .first = 5 * PAGE, .n = N - 5 * PAGE});
        select_at(o, &at, (const uint32_t[]){100}, 1); /* 6 pages: the short one and 5 others */
        assert_int_equal(o->end[0], 5 * PAGE + 5);
        check_selection(o->list, o->end[0], N);
        bool in[24] = {false};
        for (size_t i = 0; i < o->end[0]; i++) in[o->list[i] / PAGE] = true;
        assert_true(in[23]);
        check_pages(q, keys, in);
    }
    check_order(o, &at);
    assert_int_equal(adm_policy_min_budget(o->sweep.variant), PAGE);
    static const uint32_t budgets[] = {PAGE - 1, PAGE, 2 * PAGE + 15, N - 1, N, 10 * N};
    static const size_t n_expected[] = {0, 5, PAGE + 5, 22 * PAGE + 5, N, N}; /* 372 tokens buy 23 pages, 373 all 24 */
    select_at(o, &at, budgets, 6);
    for (int b = 0; b < 6; b++) assert_int_equal(o->end[b], n_expected[b]);
    check_budgets_needed(o, &at);
    close_policy(o);
    check_case_end();
}

/* The newest page is in only where its bound is high enough, and a page is a page whatever it holds. */
static void quest_by_the_evaluations_rule(void **state) {
    (void)state;
    enum { N = 4 * PAGE + 5, N_LATER = 5 * PAGE };
    static float keys[N_LATER * D]; /* those behind N, which the query does not see, are in the newest page and large */
    float q[D] = {1};
    opened *o = open_policy("quest:rule=evaluation");
    const adm_policy_query at = {.n_tokens = N, .q = q, .keys = {.k = keys, .stride = N_LATER}};
    static const float page_value[] = {3, 9, 1, 7, 5}; /* of the pages, in channel 0 */
    for (int t = 0; t < N_LATER; t++) keys[t * D] = t < N ? page_value[t / PAGE] : 100;
    adm_policy_set_append(o->set, o->scratch, &(adm_policy_keys){.k = keys, .stride = N_LATER, .n = N_LATER});
    static const uint32_t budgets[] = {16, 47, 48, 64, N - 1, N};
    static const size_t n_expected[] = {0, 0, 2 * PAGE + 5, 3 * PAGE + 5, 3 * PAGE + 5, N};
    select_at(o, &at, budgets, 6);
    for (int b = 0; b < 6; b++) assert_int_equal(o->end[b], n_expected[b]);
    qsort(o->list, o->end[2], sizeof *o->list, ascending);
    assert_int_equal(o->list[0], PAGE); /* pages 1, 3 and the newest, 4 */
    assert_int_equal(o->list[PAGE], 3 * PAGE);
    assert_int_equal(o->list[2 * PAGE], 4 * PAGE);
    for (int t = 4 * PAGE; t < N; t++) keys[t * D] = 2; /* now the newest page is the fourth of five */
    adm_policy_set_append(o->set, o->scratch, &(adm_policy_keys){.k = keys, .stride = N_LATER, .n = N_LATER});
    select_at(o, &at, budgets, 6);
    assert_int_equal(o->end[2], 3 * PAGE);
    for (size_t i = 0; i < o->end[2]; i++) assert_true(o->list[i] < 4 * PAGE);
    assert_int_equal(o->end[3], 3 * PAGE + 5);
    check_budgets_needed(o, &at);
    assert_int_equal(adm_policy_min_budget(o->sweep.variant), 48);
    close_policy(o);
}

/* The definition, for one budget by itself: the recent half, and the heaviest of the rest, the most recent of equals first. */
static size_t accumulated_by_definition(const double *drawn, size_t n_tokens, size_t budget, uint32_t *selected) {
    size_t n = budget < n_tokens ? budget : n_tokens, n_recent = (n + 1) / 2, found = 0;
    bool taken[MAX_TOKENS] = {false};
    while (found < n - n_recent) {
        size_t best = n_tokens;
        for (size_t t = 0; t < n_tokens - n_recent; t++)
            if (!taken[t] && (best == n_tokens || drawn[t] >= drawn[best])) best = t;
        taken[best] = true;
        selected[found++] = (uint32_t)best;
    }
    for (size_t t = n_tokens - n_recent; t < n_tokens; t++) selected[found++] = (uint32_t)t;
    qsort(selected, found, sizeof *selected, ascending);
    return found;
}

static void accumulated_takes_the_recent_and_the_heavy(void **state) {
    (void)state;
    double drawn[100];
    uint32_t expected[MAX_TOKENS];
    opened *o = open_policy("accumulated");
    const adm_policy_query at = {.n_tokens = 100};
    for (int t = 0; t < 100; t++) drawn[t] = t == 3 || t == 40 || t == 41 || t == 98 ? 5 : 0.001 * (t % 7);
    adm_policy_set_observe_dense(o->set, &at, 0, &(adm_attention_paid){NULL, 100, drawn, 1});
    select_at(o, &at, (const uint32_t[]){5}, 1);
    assert_int_equal(o->end[0], 5);
    const uint32_t five[] = {40, 41, 97, 98, 99}; /* 98 is recent already; of the tied 3, 40, 41 the later two */
    assert_memory_equal(o->list, five, sizeof five);
    for (uint32_t budget = 1; budget < 120; budget++) {
        select_at(o, &at, &budget, 1);
        assert_int_equal(o->end[0], accumulated_by_definition(drawn, 100, budget, expected));
        check_selection(o->list, o->end[0], 100);
        assert_memory_equal(o->list, expected, o->end[0] * sizeof *expected);
    }
    check_order(o, &at);
    close_policy(o);
}

/* H2O by its authors' code, in the plainest form: `alive` tokens and their scores; behind a step, those stay that are among the
 * last n_recent or the n_heavy with the highest scores of the others, the more recent of equals. */
static void evict_plainly(bool *alive, const double *score, size_t n, size_t n_recent, size_t n_heavy) {
    bool stays[MAX_TOKENS] = {false};
    for (size_t t = n - n_recent; t < n; t++) stays[t] = true;
    for (size_t found = 0; found < n_heavy; found++) {
        size_t best = n;
        for (size_t t = 0; t < n - n_recent; t++)
            if (alive[t] && !stays[t] && (best == n || score[t] >= score[best])) best = t;
        if (best < n) stays[best] = true;
    }
    for (size_t t = 0; t < n; t++) alive[t] &= stays[t];
}

/* Their cache holds n_heavy + n_recent tokens between steps, and a step attends to one more: our budget. */
static void check_evictions(opened *o, uint32_t budget, adm_rng *rng) {
    enum { N_PROMPT = 90, N_STEPS = 40 };
    double score[N_PROMPT + N_STEPS], weight[N_PROMPT + N_STEPS];
    bool alive[N_PROMPT + N_STEPS];
    const size_t n_heavy = budget / 2, n_recent = (budget + 1) / 2 - 1;
    adm_policy_set_begin(o->set, 0);
    for (size_t t = 0; t < N_PROMPT; t++) {
        score[t] = (double)adm_rng_below(rng, 30); /* ties */
        alive[t] = true;
    }
    const adm_policy_query prompt = {.n_tokens = N_PROMPT};
    adm_policy_set_observe_prompt(o->set, &prompt, 0, &(adm_attention_paid){NULL, N_PROMPT, score, 1}, true);
    for (size_t n = N_PROMPT + 1; n <= N_PROMPT + N_STEPS; n++) {
        const adm_policy_query at = {.n_tokens = n};
        if (n - 1 > n_heavy + n_recent) evict_plainly(alive, score, n - 1, n_recent, n_heavy);
        score[n - 1] = 0;
        alive[n - 1] = true;
        select_at(o, &at, &budget, 1);
        size_t found = 0;
        for (size_t t = 0; t < n; t++)
            if (alive[t] && (found == o->end[0] || o->list[found++] != t)) fail_msg("budget %u, %zu tokens: %zu", budget, n, t);
        assert_int_equal(found, o->end[0]);
        for (size_t j = 0; j < found; j++) {
            weight[j] = (double)adm_rng_below(rng, 3);
            score[o->list[j]] += weight[j] / 2;
        }
        adm_policy_set_observe(o->set, &at, 0, 0, 0, &(adm_attention_paid){o->list, found, weight, 2});
    }
}

static void h2o_evicts_for_good(void **state) {
    (void)state;
    static const uint32_t budgets[] = {1, 2, 3, 16, 17, 89, 90, 91, 92, 100, 200};
    adm_rng rng = check_rng(__func__);
    opened *o = open_policy("h2o");
    for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
        check_case("budget %u", budgets[b]);
        check_evictions(o, budgets[b], &rng);
    }
    close_policy(o);
    check_case_end();
}

/* Several budgets at once select what each selects alone. */
static void budgets_at_once_are_as_one_by_one(void **state) {
    (void)state;
    static const char *const policies[] = {"oracle", "quest", "quest:rule=evaluation", "streaming", "accumulated", "random"};
    static const uint32_t budgets[] = {1, 16, 17, 64, 200, 390};
    enum { N_BUDGETS = sizeof budgets / sizeof *budgets, N = 303 };
    static float keys[N * D];
    float q[D];
    double score[N];
    adm_rng rng = check_rng(__func__);
    for (int i = 0; i < D; i++) q[i] = (float)adm_rng_normal(&rng);
    for (int i = 0; i < N * D; i++) keys[i] = (float)adm_rng_normal(&rng);
    for (int t = 0; t < N; t++) score[t] = (double)adm_rng_below(&rng, 40); /* ties */
    const adm_head_scores head = {.score = score};
    const adm_policy_query at = {.n_tokens = N, .q = q, .keys = {.k = keys, .stride = N}, .head = &head};
    for (size_t p = 0; p < sizeof policies / sizeof *policies; p++) {
        opened *all = open_policy(policies[p]), *one = open_policy(policies[p]);
        check_case("%s", policies[p]);
        const adm_policy_keys appended = {.k = keys, .stride = N, .n = N};
        const adm_attention_paid paid = {NULL, N, score, 7};
        adm_policy_set_append(all->set, all->scratch, &appended);
        adm_policy_set_append(one->set, one->scratch, &appended);
        adm_policy_set_observe_dense(all->set, &at, 0, &paid);
        adm_policy_set_observe_dense(one->set, &at, 0, &paid);
        select_at(all, &at, budgets, N_BUDGETS);
        for (size_t b = 0; b < N_BUDGETS; b++) {
            uint32_t sorted[MAX_TOKENS];
            select_at(one, &at, &budgets[b], 1);
            if (all->end[b] != one->end[0]) fail_msg("%s at %u: %zu, %zu", policies[p], budgets[b], all->end[b], one->end[0]);
            memcpy(sorted, all->list, all->end[b] * sizeof *sorted);
            qsort(sorted, all->end[b], sizeof *sorted, ascending);
            if (memcmp(sorted, one->list, all->end[b] * sizeof *sorted) != 0) fail_msg("%s at %u", policies[p], budgets[b]);
        }
        close_policy(all);
        close_policy(one);
    }
    check_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streaming_keeps_both_ends),
        cmocka_unit_test(random_is_fair_and_repeatable),
        cmocka_unit_test(quest_takes_the_pages_with_the_largest_bound),
        cmocka_unit_test(quest_by_the_evaluations_rule),
        cmocka_unit_test(accumulated_takes_the_recent_and_the_heavy),
        cmocka_unit_test(h2o_evicts_for_good),
        cmocka_unit_test(budgets_at_once_are_as_one_by_one),
    };
    return cmocka_run_group_tests_name("policy", tests, NULL, NULL);
}
