/* test_topk.c: every top-k row against a selection by sorting. */
#include "kernels/topk/topk.h"

#include "tests/support/stage_check.h"

enum { MAX_TOKENS = 12000, MAX_DISTANCE = 3 * 256 };

/* The rule, spelled out another way: sort the unforced tokens by (distance, newest first) and take from the front. */
typedef struct entry {
    uint16_t distance;
    uint32_t token;
} entry;

static int by_distance_newest_first(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return x->token > y->token ? -1 : 1;
}

static uint32_t sorted_selection(const uint16_t *distance, uint32_t n, const adm_select_rule *rule, uint32_t *index,
                                 adm_select_info *info) {
    static entry entries[MAX_TOKENS];
    static unsigned char selected[MAX_TOKENS];
    uint32_t n_entries = 0, n_selected = 0;
    uint64_t recent = rule->n_recent == 0 ? 1 : rule->n_recent;
    for (uint32_t t = 0; t < n; t++) {
        selected[t] = t < rule->n_sinks || t + recent >= n;
        n_selected += selected[t];
        if (!selected[t]) entries[n_entries++] = (entry){distance[t], t};
    }
    qsort(entries, n_entries, sizeof *entries, by_distance_newest_first);
    *info = (adm_select_info){0};
    uint32_t taken = 0;
    while (n_selected < rule->budget && taken < n_entries) {
        selected[entries[taken++].token] = 1;
        n_selected++;
    }
    if (taken > 0) info->boundary = entries[taken - 1].distance;
    for (uint32_t i = 0; i < n_entries && taken > 0; i++)
        if (entries[i].distance == info->boundary) {
            info->n_tied++;
            info->n_tied_in += i < taken;
        }
    uint32_t m = 0;
    for (uint32_t t = 0; t < n; t++)
        if (selected[t]) index[m++] = t;
    return m;
}

static void compare(const adm_host_impl *row, const uint16_t *values, uint32_t n, uint32_t max_distance, adm_select_rule rule) {
    static uint32_t expected[MAX_TOKENS];
    adm_select_info expected_info, info;
    check_case("n=%u, largest distance %u, budget=%u, sinks=%u, recent=%u, slack=0", n, max_distance, rule.budget, rule.n_sinks,
               rule.n_recent);
    assert_int_equal(adm_select_rule_check(&rule, NULL), ADM_OK);
    uint32_t m = sorted_selection(values, n, &rule, expected, &expected_info);

    check_buffer distance = check_copy(values, n * sizeof *values, 0);
    check_buffer histogram = check_new(((size_t)max_distance + 1) * sizeof(uint32_t), 0); /* not cleared */
    check_buffer index = check_new((rule.budget < n ? rule.budget : n) * sizeof(uint32_t), 0);
    uint32_t *got = (uint32_t *)(void *)index.data;
    memset(&info, CHECK_CANARY, sizeof info);
    uint32_t count = row->fn.topk((const uint16_t *)(const void *)distance.data, n, max_distance, &rule,
                                  (uint32_t *)(void *)histogram.data, got, &info);
    if (count != m) fail_msg("selected %u tokens, and sorting %u", count, m);
    for (uint32_t i = 0; i < m; i++)
        if (got[i] != expected[i]) fail_msg("index[%u] is token %u, and by sorting %u", i, got[i], expected[i]);
    assert_int_equal(info.boundary, expected_info.boundary);
    assert_int_equal(info.n_tied, expected_info.n_tied);
    assert_int_equal(info.n_tied_in, expected_info.n_tied_in);
    count = row->fn.topk((const uint16_t *)(const void *)distance.data, n, max_distance, &rule,
                         (uint32_t *)(void *)histogram.data, got, NULL);
    assert_int_equal(count, m);
    check_free(&distance);
    check_free(&histogram);
    check_free(&index);
}

typedef enum pattern {
    ALL_EQUAL,
    TWO_VALUES,
    NARROW,
    FULL_RANGE,
    EXTREMES,
    ASCENDING,
    DESCENDING,
    REGULAR,
    N_PATTERNS
} pattern;

static uint16_t distance_value(adm_rng *rng, pattern p, uint32_t t, uint32_t n) {
    switch (p) {
    case ALL_EQUAL: return 77;
    case TWO_VALUES: return (uint16_t)(40 + adm_rng_below(rng, 2));
    case NARROW: return (uint16_t)fmax(0, 128 + 12 * adm_rng_normal(rng)); /* what real codes look like */
    case FULL_RANGE: return (uint16_t)adm_rng_below(rng, MAX_DISTANCE + 1);
    case EXTREMES: return adm_rng_below(rng, 2) ? MAX_DISTANCE : 0;
    case ASCENDING: return (uint16_t)((uint64_t)t * MAX_DISTANCE / n);
    case DESCENDING: return (uint16_t)((uint64_t)(n - t) * MAX_DISTANCE / n);
    case REGULAR: /* misleads a regular sample: the only small ones are where it looks */
        return (uint16_t)(t % 256 >= 8 ? 100 + adm_rng_below(rng, 100) : t < 1024 ? 0 : MAX_DISTANCE);
    case N_PATTERNS: break;
    }
    return 0;
}

static void every_row_selects_what_sorting_selects(void **state) {
    (void)state;
    adm_rng rng;
    static const uint32_t lengths[] = {0, 1, 2, 3, 5, 16, 17, 100, 1023, 3000, MAX_TOKENS};
    static const adm_select_rule rules[] = {
        {1, 0, 0},
        {1, 0, 1},
        {2, 1, 1},
        {2, 1, 0},
        {4, 2, 2},
        {8, 4, 4},
        {16, 0, 16},
        {16, 15, 0},
        {16, 4, 8},
        {64, 0, 0},
        {64, 4, 16},
        {100, 0, 0},
        {100, 50, 50},
        {99, 3, 5},
        {1022, 4, 8},
        {1023, 4, 8},
        {1024, 4, 8},
        {2999, 0, 1},
        {3000, 0, 1},
        {UINT32_MAX, 4, 8},
        {UINT32_MAX, UINT32_MAX - 1, 1},
        {UINT32_MAX, 0, UINT32_MAX},
    };
    static uint16_t values[MAX_TOKENS];
    CHECK_EACH_ROW_WITH(ADM_STAGE_TOPK, row, rng)
    for (int p = 0; p < N_PATTERNS; p++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            for (uint32_t t = 0; t < lengths[l]; t++) values[t] = distance_value(&rng, (pattern)p, t, lengths[l]);
            for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) compare(row, values, lengths[l], MAX_DISTANCE, rules[r]);
        }
}

static void random_rules_over_random_inputs(void **state) {
    (void)state;
    adm_rng rng;
    static uint16_t values[MAX_TOKENS];
    CHECK_EACH_ROW_WITH(ADM_STAGE_TOPK, row, rng)
    for (int round = 0; round < 2000; round++) {
        uint32_t n = (uint32_t)adm_rng_below(&rng, 80);
        uint32_t max_distance = (uint32_t)adm_rng_below(&rng, 20); /* few values: ties everywhere */
        adm_select_rule rule;
        rule.budget = 1 + (uint32_t)adm_rng_below(&rng, 90);
        rule.n_sinks = (uint32_t)adm_rng_below(&rng, rule.budget);
        rule.n_recent = (uint32_t)adm_rng_below(&rng, rule.budget - rule.n_sinks + 1);
        for (uint32_t t = 0; t < n; t++) values[t] = (uint16_t)adm_rng_below(&rng, max_distance + 1);
        compare(row, values, n, max_distance, rule);
    }
}

/* Lengths that sorting takes too long for, against the reference, which is compared with sorting above. The second is
 * the longest at which a sample of one stripe in 256 would be too long for its buffer. */
static void long_contexts_equal_the_reference(void **state) {
    (void)state;
    adm_rng rng;
    static const uint32_t lengths[] = {131072, 131583, 300001}, budgets[] = {1, 16, 128, 1500, 4096, 20000};
    static uint16_t values[300001];
    static uint32_t expected[20000], histogram[MAX_DISTANCE + 1];
    CHECK_EACH_ROW_WITH(ADM_STAGE_TOPK, row, rng)
    for (int p = 0; p < N_PATTERNS; p++)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
            const uint32_t n = lengths[l];
            for (uint32_t t = 0; t < n; t++) values[t] = distance_value(&rng, (pattern)p, t, n);
            for (size_t b = 0; b < sizeof budgets / sizeof *budgets; b++) {
                const adm_select_rule rule = {budgets[b], budgets[b] > 8 ? 4 : 0, 0};
                check_case("pattern %d, n=%u, budget=%u, sinks=%u, recent=0", p, n, rule.budget, rule.n_sinks);
                adm_select_info expected_info, info;
                adm_topk_reference(values, n, MAX_DISTANCE, &rule, histogram, expected, &expected_info);
                check_buffer index = check_new(budgets[b] * sizeof(uint32_t), 0);
                uint32_t *got = (uint32_t *)(void *)index.data;
                assert_int_equal(row->fn.topk(values, n, MAX_DISTANCE, &rule, histogram, got, &info), budgets[b]);
                assert_memory_equal(got, expected, budgets[b] * sizeof *got);
                assert_memory_equal(&info, &expected_info, sizeof info);
                check_free(&index);
            }
        }
}

/* The rule by hand, so that the sorting above is held to something too. */
static void ties_go_to_the_most_recent(void **state) {
    (void)state;
    CHECK_EACH_ROW(ADM_STAGE_TOPK, row) {
        const uint16_t distance[] = {9, 5, 5, 1, 5, 5, 9, 9};
        const adm_select_rule rule = {5, 1, 0}; /* token 0 and 7 by force, 3 by rank, and two of 1, 2, 4, 5 */
        uint32_t histogram[10], index[5];
        adm_select_info info;
        assert_int_equal(row->fn.topk(distance, 8, 9, &rule, histogram, index, &info), 5);
        const uint32_t expected[] = {0, 3, 4, 5, 7};
        assert_memory_equal(index, expected, sizeof expected);
        assert_int_equal(info.boundary, 5);
        assert_int_equal(info.n_tied, 4);
        assert_int_equal(info.n_tied_in, 2);

        const adm_select_rule newest_only = {1, 0, 0};
        assert_int_equal(row->fn.topk(distance, 8, 9, &newest_only, histogram, index, &info), 1);
        assert_int_equal(index[0], 7);
        assert_int_equal(info.n_tied, 0);
    }
}

static void the_model_counts_what_moves(void **state) {
    (void)state;
    const adm_shape shape = {32, 8, 128};
    assert_true(adm_topk_bytes(&shape, 1000, 64) == 32 * (1000.0 * 2 + 64 * 4));
    assert_true(adm_topk_flops(&shape, 1000) == 32 * 1000.0 * 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_selects_what_sorting_selects),
        cmocka_unit_test(random_rules_over_random_inputs),
        cmocka_unit_test(long_contexts_equal_the_reference),
        cmocka_unit_test(ties_go_to_the_most_recent),
        cmocka_unit_test(the_model_counts_what_moves),
    };
    return cmocka_run_group_tests_name("topk", tests, NULL, NULL);
}
