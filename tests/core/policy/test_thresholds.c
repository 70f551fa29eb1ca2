/* test_thresholds.c: parsing of threshold specifications, and calibration by quantiles. */
#include "tests/support/stage_check.h"

#include "core/policy/thresholds.h"

static void good_specifications(void **state) {
    (void)state;
    adm_threshold_spec spec;
    assert_int_equal(adm_threshold_parse("fixed:-10,0,10", &spec, NULL), ADM_OK);
    assert_false(spec.per_layer);
    assert_true(spec.value[0] == -10 && spec.value[1] == 0 && spec.value[2] == 10);
    assert_string_equal(spec.text, "fixed:-10,0,10");
    assert_int_equal(adm_threshold_parse("quantile:0.1,0.5,1", &spec, NULL), ADM_OK);
    assert_true(spec.per_layer && spec.value[2] == 1);
    assert_int_equal(adm_threshold_parse("calibrated", &spec, NULL), ADM_OK);
    assert_true(spec.per_layer && spec.value[0] == 1.0f / 3 && spec.value[1] == 0.5f && spec.value[2] == 2.0f / 3);
    assert_int_equal(spec.n_values, 0);
    assert_int_equal(adm_threshold_parse("fixed:4", &spec, NULL), ADM_OK);
    assert_true(spec.kind == ADM_THRESHOLDS_FIXED && spec.n_values == 1 && spec.value[0] == 4);
    assert_int_equal(adm_threshold_parse("centred:0,.1,.2,.3,.4,.5,.6", &spec, NULL), ADM_OK);
    assert_true(spec.kind == ADM_THRESHOLDS_CENTRED && spec.per_layer && spec.n_values == 7 && spec.value[6] == 0.6f);
    assert_int_equal(adm_threshold_parse("channel", &spec, NULL), ADM_OK);
    assert_true(spec.kind == ADM_THRESHOLDS_CHANNEL && spec.per_layer && spec.n_values == 0);
    assert_int_equal(adm_threshold_parse("scaled", &spec, NULL), ADM_OK);
    assert_true(spec.kind == ADM_THRESHOLDS_SCALED && spec.per_layer && spec.n_values == 0);
    assert_int_equal(adm_threshold_parse("scaled:0.75", &spec, NULL), ADM_OK);
    assert_true(spec.n_values == 3 && spec.value[0] == -0.75f && spec.value[1] == 0 && spec.value[2] == 0.75f);
    assert_int_equal(adm_threshold_parse("scaled:-2,0.5,1", &spec, NULL), ADM_OK);
    assert_true(spec.n_values == 3 && spec.value[0] == -2 && spec.value[1] == 0.5f && spec.value[2] == 1);
}

static void defaults_ascend_and_are_even(void **state) {
    (void)state;
    for (uint32_t bits = 1; bits <= ADM_MAX_CODE_BITS; bits++)
        for (int products = 0; products < 2; products++) {
            const uint32_t n = (1u << bits) - 1;
            float value[ADM_MAX_THRESHOLDS + 1];
            value[n] = -7;
            adm_threshold_defaults(bits, products, value);
            assert_true(value[n] == -7 && value[n / 2] == 0.5f);
            for (uint32_t i = 0; i < n; i++) {
                assert_true(value[i] > 0 && value[i] < 1 && (i == 0 || value[i] > value[i - 1]));
                assert_true(fabsf(value[i] + value[n - 1 - i] - 1) < 1e-6f);
            }
        }
}

static void bad_specifications_are_named(void **state) {
    (void)state;
    const char *const bad[] = {"",
                               "paper",
                               "fixed",
                               "fixed:",
                               "fixed:1,2",
                               "fixed:1,2,3,4",
                               "fixed:1,2,3,4,5,6,7,8",
                               "fixed:3,2,1",
                               "fixed:1,2,x",
                               "fixed:1,2,inf",
                               "fixed:nan,1,2",
                               "fixed:1,,2",
                               "fixed:1,2,1e99",
                               "quantile:-0.1,0.5,0.9",
                               "quantile:0.1,0.5,1.1",
                               "calibrated:0.1,0.2,0.3",
                               "scaled:0",
                               "scaled:-1",
                               "scaled:1,2",
                               "scaled:1,0,2",
                               "scaled:1,2,3,4,5,6,7",
                               "quantile",
                               "channel:",
                               "channels",
                               "fixed:0000000000000000000000000000000000000000000000000000000000001,2,3"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        adm_threshold_spec spec;
        adm_error err = {0};
        assert_int_equal(adm_threshold_parse(bad[i], &spec, &err), ADM_EINPUT);
        assert_non_null(strstr(err.text, "thresholds '"));
    }
}

static void quantiles_split_the_keys(void **state) {
    (void)state;
    adm_threshold_spec spec;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    enum { N_VALUES = 10001 };
    static float y[N_VALUES];
    for (int i = 0; i < N_VALUES; i++) y[i] = (float)(i - 5000);
    for (int i = N_VALUES - 1; i > 0; i--) {
        size_t j = adm_rng_below(&rng, (uint64_t)i + 1);
        float other = y[i];
        y[i] = y[j];
        y[j] = other;
    }
    float t[3];
    assert_int_equal(adm_threshold_parse("quantile:0.25,0.5,0.75", &spec, NULL), ADM_OK);
    assert_int_equal(adm_threshold_resolve(&spec, y, N_VALUES, t, NULL), ADM_OK);
    assert_true(t[0] == -2500 && t[1] == 0 && t[2] == 2500);
    assert_int_equal(adm_threshold_parse("quantile:0,0.00005,1", &spec, NULL), ADM_OK);
    assert_int_equal(adm_threshold_resolve(&spec, y, N_VALUES, t, NULL), ADM_OK);
    assert_true(t[0] == -5000 && t[2] == 5000);
    assert_true(fabsf(t[1] + 4999.5f) < 1e-3f); /* halfway between the two lowest */
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Against sorting: few values, many alike, in order and turned round. */
static void quantiles_are_those_of_the_sorted_values(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int round = 0; round < 2000; round++) {
        float y[300], sorted[300], q[7], got[7];
        size_t n = 1 + adm_rng_below(&rng, round % 10 == 0 ? 300 : 12);
        uint64_t n_values = 1 + adm_rng_below(&rng, 20);
        check_case("round %d, n=%zu", round, n);
        for (size_t i = 0; i < n; i++)
            y[i] = round % 4 == 0 ? (float)i : round % 4 == 1 ? -(float)i : (float)adm_rng_below(&rng, n_values) - 3;
        memcpy(sorted, y, n * sizeof *y);
        qsort(sorted, n, sizeof *sorted, ascending);
        for (int i = 0; i < 7; i++) q[i] = (float)adm_rng_below(&rng, 101) / 100;
        qsort(q, 7, sizeof *q, ascending);
        adm_quantiles(y, n, q, 7, got);
        for (int i = 0; i < 7; i++) {
            double rank = (double)q[i] * (double)(n - 1), share = rank - floor(rank);
            size_t below = (size_t)rank, above = below + 1 < n ? below + 1 : below;
            assert_true(got[i] == (float)(sorted[below] + share * ((double)sorted[above] - sorted[below])));
        }
        qsort(y, n, sizeof *y, ascending);
        assert_memory_equal(y, sorted, n * sizeof *y); /* only reordered */
    }
    check_case_end();
}

static void fixed_needs_no_keys_and_quantiles_do(void **state) {
    (void)state;
    adm_threshold_spec spec;
    float t[3], one = 4;
    adm_threshold_parse("fixed:1,2,3", &spec, NULL);
    assert_int_equal(adm_threshold_resolve(&spec, NULL, 0, t, NULL), ADM_OK);
    assert_true(t[0] == 1 && t[1] == 2 && t[2] == 3);
    adm_threshold_parse("calibrated", &spec, NULL);
    assert_int_equal(adm_threshold_resolve(&spec, NULL, 0, t, NULL), ADM_EINPUT);
    assert_int_equal(adm_threshold_resolve(&spec, &one, 1, t, NULL), ADM_OK);
    assert_true(t[0] == 4 && t[1] == 4 && t[2] == 4);
    const char *const others[] = {"centred", "channel:.1,.5,.9", "fixed:4", "quantile:0,.1,.2,.3,.4,.5,.6"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(adm_threshold_parse(others[i], &spec, NULL), ADM_OK);
        assert_int_equal(adm_threshold_resolve(&spec, &one, 1, t, NULL), ADM_EINPUT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_specifications),
        cmocka_unit_test(bad_specifications_are_named),
        cmocka_unit_test(defaults_ascend_and_are_even),
        cmocka_unit_test(quantiles_split_the_keys),
        cmocka_unit_test(quantiles_are_those_of_the_sorted_values),
        cmocka_unit_test(fixed_needs_no_keys_and_quantiles_do),
    };
    return cmocka_run_group_tests_name("thresholds", tests, NULL, NULL);
}
