/* test_coding.c: the variants of adamas: their names, and codebooks and tables against their definitions. */
#include "core/policy/codebook.h"
#include "core/policy/coding_name.h"

#include "tests/support/stage_check.h"

enum { D = 64, N_KV = 3, N_ROWS = 301, GROUP = 4 };

static adm_coding coding_of(adm_code_metric metric, uint32_t bits, const char *thresholds) {
    adm_coding coding = adm_coding_default;
    coding.metric = metric;
    coding.bits = bits;
    assert_int_equal(adm_threshold_parse(thresholds, &coding.thresholds, NULL), ADM_OK);
    assert_int_equal(adm_coding_complete(&coding, NULL), ADM_OK);
    return coding;
}

static void metrics_are_their_formulas(void **state) {
    (void)state;
    for (uint32_t bits = 1; bits <= 3; bits++) {
        const int m = (1 << bits) - 1;
        for (int a = 0; a <= m; a++)
            for (int b = 0; b <= m; b++) {
                const uint32_t x = (uint32_t)a, y = (uint32_t)b;
                assert_int_equal(adm_code_distance(ADM_METRIC_L1, bits, x, y), abs(a - b));
                assert_int_equal(adm_code_distance(ADM_METRIC_XOR, bits, x, y), a ^ b);
                assert_int_equal(adm_code_distance(ADM_METRIC_L2, bits, x, y), (a - b) * (a - b));
                assert_int_equal(adm_code_distance(ADM_METRIC_SIGN, bits, x, y), (2 * a > m) != (2 * b > m));
                assert_int_equal(2 * adm_code_distance(ADM_METRIC_DOT, bits, x, y), m * m - (2 * a - m) * (2 * b - m));
                for (adm_code_metric metric = 0; metric < ADM_METRIC_ASYMMETRIC; metric++) {
                    assert_true(adm_code_distance(metric, bits, x, y) <= adm_code_distance_max(metric, bits));
                    if (bits == 1) assert_int_equal(adm_code_distance(metric, bits, x, y), a ^ b);
                }
            }
    }
}

static void names_say_what_is_not_the_default(void **state) {
    (void)state;
    char name[ADM_CODING_NAME_BYTES];
    adm_coding coding = coding_of(ADM_METRIC_L1, 2, "fixed:-10,0,10");
    adm_coding_name(&coding, name);
    assert_string_equal(name, "l1 fixed:-10,0,10");
    assert_true(adm_coding_is_contract(&coding));
    coding = coding_of(ADM_METRIC_DOT, 1, "channel");
    coding.hadamard = false;
    coding.selection = ADM_SELECT_GROUP;
    adm_coding_name(&coding, name);
    assert_string_equal(name, "dot channel, 1 bit, no Hadamard"); /* the group is the variant's, core/policy/policy.h */
    assert_false(adm_coding_is_contract(&coding));
    coding = coding_of(ADM_METRIC_L1, 2, "centred");
    assert_false(adm_coding_is_contract(&coding));
}

/* asym4 centres and scales its keys by channel: `calibrated` means that, and nothing else goes with it. */
static void asym4_takes_scaled_thresholds_alone(void **state) {
    (void)state;
    static const char *const refused[] = {"fixed:-10,0,10", "quantile:0.2,0.5,0.8", "centred", "channel"};
    adm_error err;
    char name[ADM_CODING_NAME_BYTES];
    adm_coding coding = coding_of(ADM_METRIC_ASYM4, 2, "calibrated"), same = coding_of(ADM_METRIC_ASYM4, 2, "scaled:1");
    adm_coding_name(&coding, name);
    assert_string_equal(name, "asym4 calibrated");
    assert_false(adm_coding_is_contract(&coding));
    assert_true(adm_coding_same_codes(&coding, &same));
    assert_int_equal(adm_coding_max_distance(&coding, 128, 4), 24 * 128 * 4);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        adm_coding other = adm_coding_default;
        other.metric = ADM_METRIC_ASYM4;
        assert_int_equal(adm_threshold_parse(refused[i], &other.thresholds, NULL), ADM_OK);
        err = (adm_error){0};
        assert_int_equal(adm_coding_complete(&other, &err), ADM_EINPUT);
        assert_non_null(strstr(err.text, refused[i]));
        assert_non_null(strstr(err.text, "scaled"));
    }
    same.bits = 3;
    assert_int_equal(adm_coding_complete(&same, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "3 bits"));
    /* 64 query heads of 256 dimensions sum to more than 16 bits hold */
    coding.selection = ADM_SELECT_GROUP;
    assert_int_equal(adm_coding_check(&coding, &(adm_shape){64, 1, 256}, &err), ADM_EUNSUPPORTED);
    assert_int_equal(adm_coding_check(&coding, &(adm_shape){8, 1, 256}, &err), ADM_OK);
}

static void thresholds_must_go_with_the_width(void **state) {
    (void)state;
    adm_error err = {0};
    adm_coding coding = adm_coding_default;
    coding.bits = 3;
    adm_threshold_parse("fixed:-10,0,10", &coding.thresholds, NULL);
    assert_int_equal(adm_coding_complete(&coding, &err), ADM_EINPUT);
    assert_non_null(strstr(err.text, "3 given, but codes of 3 bits have 7"));
    /* Defaults differ where the metric multiplies, and so do the codes. */
    adm_coding l1 = coding_of(ADM_METRIC_L1, 2, "calibrated"), dot = coding_of(ADM_METRIC_DOT, 2, "calibrated");
    adm_coding xor = coding_of(ADM_METRIC_XOR, 2, "quantile:0.33333333,0.5,0.66666667");
    assert_false(adm_coding_same_codes(&l1, &dot));
    assert_true(adm_coding_same_codes(&l1, &xor));
    xor.hadamard = false;
    assert_false(adm_coding_same_codes(&l1, &xor));
}

static void a_sum_that_does_not_fit_is_refused(void **state) {
    (void)state;
    adm_error err = {0};
    adm_coding coding = coding_of(ADM_METRIC_L2, 3, "calibrated");
    coding.selection = ADM_SELECT_GROUP;
    assert_int_equal(adm_coding_check(&coding, &(adm_shape){40, 8, 256}, &err), ADM_OK); /* 49 * 256 * 5 = 62720 */
    assert_int_equal(adm_coding_check(&coding, &(adm_shape){48, 8, 256}, &err), ADM_EUNSUPPORTED);
    assert_non_null(strstr(err.text, "75264"));
    coding.selection = ADM_SELECT_HEAD;
    assert_int_equal(adm_coding_check(&coding, &(adm_shape){48, 8, 256}, &err), ADM_OK);
}

/* Keys with a mean of their own in every channel, [N_KV][N_ROWS][D]. */
static float *random_keys(adm_rng *rng) {
    static float y[N_KV * N_ROWS * D];
    static float mean[N_KV * D];
    for (size_t i = 0; i < N_KV * D; i++) mean[i] = 3 * (float)adm_rng_normal(rng);
    for (size_t i = 0; i < N_KV * N_ROWS * D; i++)
        y[i] = mean[i / (N_ROWS * D) * D + i % D] + (1 + (float)(i % 7)) * (float)adm_rng_normal(rng);
    return y;
}

/* Share of values that are at most t: a quantile of n values may split them anywhere within one, and t is rounded, which may
 * put it on either side of n_near values. */
static void check_share(size_t n_below, size_t n_near, size_t n, double quantile) {
    if (fabs((double)n_below / (double)n - quantile) > (1.0 + (double)n_near) / (double)n + 1e-9)
        fail_msg("%zu of %zu values are below the quantile %g, and %zu at it", n_below, n, quantile, n_near);
}

static void thresholds_are_quantiles_of_what_they_say(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    const float *y = random_keys(&rng);
    const char *const kinds[] = {"calibrated", "centred", "channel"};
    for (uint32_t bits = 1; bits <= 3; bits++)
        for (int kind = 0; kind < 3; kind++) {
            adm_coding coding = coding_of(ADM_METRIC_DOT, bits, kinds[kind]);
            check_case("%u bits, %s", bits, kinds[kind]);
            adm_codebook *book;
            assert_int_equal(adm_codebook_create(&coding, y, N_ROWS, N_KV, D, &book, NULL), ADM_OK);
            const uint32_t n_t = (1u << bits) - 1;
            for (uint32_t l = 0; l < n_t; l++) {
                size_t below = 0;
                for (size_t h = 0; h < N_KV; h++)
                    for (size_t i = 0; i < D; i++) {
                        const float *column = y + h * N_ROWS * D + i;
                        double sum = 0;
                        size_t in_channel = 0, n_near = 0;
                        float t = adm_codebook_key(book, h)[l * D + i], tq = adm_codebook_query(book, h)[l * D + i];
                        for (size_t r = 0; r < N_ROWS; r++) {
                            sum += column[r * D];
                            in_channel += column[r * D] <= t;
                            n_near += fabsf(column[r * D] - t) <= 1e-5f * (1 + fabsf(t));
                        }
                        below += in_channel;
                        if (kind == 2) check_share(in_channel, n_near, N_ROWS, coding.thresholds.value[l]);
                        /* The query's thresholds lack the channel's mean, and nothing else. */
                        float mean = kind == 0 ? 0 : (float)(sum / N_ROWS);
                        assert_true(fabsf(tq + mean - t) <= 1e-5f * (1 + fabsf(t)));
                        if (kind < 2) assert_true(tq == book->layer[l]);
                    }
                if (kind < 2) assert_true(fabs((double)below / (N_KV * N_ROWS * D) - coding.thresholds.value[l]) < 1e-4);
            }
            adm_codebook_free(&book);
            assert_null(book);
        }
    check_case_end();
}

static uint32_t code_by(const float *t, uint32_t n_t, float y) {
    uint32_t code = 0;
    while (code < n_t && y > t[code * D]) code++; /* ascending */
    return code;
}

static void tables_of_codes_are_sums_over_queries(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    const float *y = random_keys(&rng);
    static uint16_t table[D << ADM_MAX_CODE_BITS];
    for (adm_code_metric metric = 0; metric < ADM_METRIC_ASYMMETRIC; metric++)
        for (uint32_t bits = 1; bits <= 3; bits++) {
            adm_coding coding = coding_of(metric, bits, "centred");
            check_case("%s, %u bits", adm_code_metric_name(metric), bits);
            const uint32_t n_t = (1u << bits) - 1;
            adm_codebook *book;
            assert_int_equal(adm_codebook_create(&coding, y, N_ROWS, N_KV, D, &book, NULL), ADM_OK);
            const float *queries = y + 5 * D; /* any rows will do */
            adm_codebook_table(&coding, book, 1, queries, GROUP, table);
            const float *t = adm_codebook_query(book, 1);
            uint32_t most = 0;
            for (uint32_t i = 0; i < D; i++) {
                uint32_t largest = 0;
                for (uint32_t c = 0; c <= n_t; c++) {
                    uint32_t sum = 0;
                    for (uint32_t q = 0; q < GROUP; q++)
                        sum += adm_code_distance(metric, bits, code_by(t + i, n_t, queries[q * D + i]), c);
                    assert_int_equal(table[(i << bits) + c], sum);
                    if (sum > largest) largest = sum;
                }
                most += largest;
            }
            assert_true(most <= adm_coding_max_distance(&coding, D, GROUP));
            adm_codebook_free(&book);
        }
    check_case_end();
}

/* The scaled integer distance against the float dot product with the keys' levels: an affine map, to half a unit an element. */
static void asymmetric_is_the_dot_product_with_levels(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    const float *y = random_keys(&rng);
    static uint16_t table[D << ADM_MAX_CODE_BITS];
    const char *const kinds[] = {"calibrated", "centred", "channel", "fixed"};
    for (uint32_t bits = 1; bits <= 3; bits++)
        for (int kind = 0; kind < 4; kind++) {
            static const char *const fixed[] = {"fixed:0", "fixed:-2,0,2", "fixed:-4,-2,-1,0,1,2,4"};
            adm_coding coding = coding_of(ADM_METRIC_ASYMMETRIC, bits, kind == 3 ? fixed[bits - 1] : kinds[kind]);
            const uint32_t n_codes = 1u << bits;
            check_case("%u bits, %s", bits, kinds[kind]);
            adm_codebook *book;
            assert_int_equal(adm_codebook_create(&coding, y, kind == 3 ? 0 : N_ROWS, N_KV, D, &book, NULL), ADM_OK);
            const float *queries = y;
            adm_codebook_table(&coding, book, 2, queries, GROUP, table);
            double most = 0, least = 0, sum_of_largest = 0;
            double gain[D][8];
            for (uint32_t i = 0; i < D; i++) {
                double best = -INFINITY, worst = INFINITY, largest = 0;
                for (uint32_t c = 0; c < n_codes; c++) {
                    float level = book->level[(2 * D + i) * n_codes + c];
                    assert_true(c == 0 || level >= book->level[(2 * D + i) * n_codes + c - 1]);
                    gain[i][c] = 0;
                    for (uint32_t q = 0; q < GROUP; q++) gain[i][c] += (double)queries[q * D + i] * level;
                    best = fmax(best, gain[i][c]);
                    worst = fmin(worst, gain[i][c]);
                    largest = fmax(largest, table[i * n_codes + c]);
                }
                most += best;
                least += worst;
                sum_of_largest += largest;
            }
            assert_true(sum_of_largest <= 65535 && sum_of_largest > 65535 - 2 * D);
            const double scale = (65535 - D / 2.0) / (most - least);
            for (int round = 0; round < 100; round++) {
                double dot = 0, sum = 0;
                for (uint32_t i = 0; i < D; i++) {
                    uint32_t c = (uint32_t)adm_rng_below(&rng, n_codes);
                    dot += gain[i][c];
                    sum += table[i * n_codes + c];
                }
                assert_true(fabs((most - dot) * scale - sum) <= D / 2.0 + 1e-6);
            }
            adm_codebook_free(&book);
        }
    check_case_end();
}

/* Levels are the means of what falls into each bucket. */
static void levels_are_means(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    const float *y = random_keys(&rng);
    adm_coding coding = coding_of(ADM_METRIC_ASYMMETRIC, 2, "channel");
    adm_codebook *book;
    assert_int_equal(adm_codebook_create(&coding, y, N_ROWS, N_KV, D, &book, NULL), ADM_OK);
    for (size_t h = 0; h < N_KV; h++)
        for (size_t i = 0; i < D; i++) {
            double sum[4] = {0}, mean = 0;
            int count[4] = {0};
            for (size_t r = 0; r < N_ROWS; r++) {
                float key = y[(h * N_ROWS + r) * D + i];
                uint32_t c = code_by(adm_codebook_key(book, h) + i, 3, key);
                sum[c] += key;
                count[c]++;
                mean += key / N_ROWS;
            }
            for (int c = 0; c < 4; c++)
                assert_true(fabs(sum[c] / count[c] - mean - book->level[(h * D + i) * 4 + (size_t)c]) < 1e-4);
        }
    adm_codebook_free(&book);
}

static void nothing_to_learn_from_is_said(void **state) {
    (void)state;
    adm_error err = {0};
    adm_codebook *book;
    adm_coding coding = coding_of(ADM_METRIC_L1, 2, "centred");
    assert_int_equal(adm_codebook_create(&coding, NULL, 0, 1, D, &book, &err), ADM_EINPUT);
    assert_null(book);
    assert_non_null(strstr(err.text, "'centred'"));
    static const float constant[D] = {0};
    assert_int_equal(adm_codebook_create(&coding, constant, 1, 1, D, &book, &err), ADM_OK);
    adm_codebook_free(&book);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_are_their_formulas),
        cmocka_unit_test(names_say_what_is_not_the_default),
        cmocka_unit_test(asym4_takes_scaled_thresholds_alone),
        cmocka_unit_test(thresholds_must_go_with_the_width),
        cmocka_unit_test(a_sum_that_does_not_fit_is_refused),
        cmocka_unit_test(thresholds_are_quantiles_of_what_they_say),
        cmocka_unit_test(tables_of_codes_are_sums_over_queries),
        cmocka_unit_test(asymmetric_is_the_dot_product_with_levels),
        cmocka_unit_test(levels_are_means),
        cmocka_unit_test(nothing_to_learn_from_is_said),
    };
    return cmocka_run_group_tests_name("coding", tests, NULL, NULL);
}
