/* test_asym4.c: a 4-bit query against 2-bit keys: its definition written a second time, and every row against it. */
#include "core/contract/asym4.h"

#include "kernels/distance/asym4.h"
#include "kernels/encode/code.h"

#include "tests/support/stage_check.h"

enum { MAX_TOKENS = 131 };

static bool is_asym4(const adm_host_impl *row) { return row->metric != NULL && strcmp(row->metric, "asym4") == 0; }

/* Rows of keys and queries, some of one value alone: against one another these reach 0 and 24 d. */
static void fill(adm_rng *rng, uint8_t *bytes, size_t n_rows, size_t row_bytes) {
    for (size_t r = 0; r < n_rows; r++, bytes += row_bytes) {
        const bool is_plain = adm_rng_below(rng, 3) == 0;
        const int plain = (int)(0x55 * adm_rng_below(rng, 4));
        for (size_t i = 0; i < row_bytes; i++) bytes[i] = (uint8_t)(is_plain ? plain : (int)adm_rng_below(rng, 256));
    }
}

static int expected_distance(const uint8_t *planes, const uint8_t *key, uint32_t d) {
    static const int weight[4] = {1, 2, 4, -8};
    uint8_t code[256];
    int distance = 0;
    adm_decode_reference(key, 1, d, 2, code);
    for (uint32_t i = 0; i < d; i++) {
        int q = 0;
        for (uint32_t p = 0; p < 4; p++) q += weight[p] * (planes[p * d / 8 + i / 8] >> i % 8 & 1);
        distance += q > 0 ? q * (3 - code[i]) : -q * code[i];
    }
    return distance;
}

static void every_row_is_the_definition(void **state) {
    (void)state;
    adm_rng rng;
    static const size_t counts[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, MAX_TOKENS};
    size_t n_rows = 0;
    CHECK_EACH_ROW_WITH(ADM_STAGE_DISTANCE, row, rng) {
        if (!is_asym4(row)) continue;
        n_rows++;
        for (int h = 0; h < 3; h++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
                for (size_t slack = 0; slack < 4; slack++) {
                    const uint32_t d = check_head_dims[h];
                    const size_t n = counts[c], row_bytes = d / 4;
                    check_case("d=%u, n=%zu keys, slack=%zu of q and %zu of k", d, n, slack, 3 - slack);
                    check_buffer q = check_new(adm_asym4_query_bytes(d), slack), k = check_new(n * row_bytes, 3 - slack);
                    check_buffer out = check_new(n * sizeof(uint16_t), 0);
                    fill(&rng, q.data, 4, d / 8);
                    fill(&rng, k.data, n, row_bytes);
                    row->fn.distance(q.data, k.data, n, d, (uint16_t *)(void *)out.data);
                    for (size_t t = 0; t < n; t++)
                        assert_int_equal(((const uint16_t *)(const void *)out.data)[t],
                                         expected_distance(q.data, k.data + t * row_bytes, d));
                    check_free(&q);
                    check_free(&k);
                    check_free(&out);
                }
    }
    assert_true(n_rows >= 2 || getenv("ADAMAS_TEST_ONLY") != NULL);
}

static void every_row_reaches_both_ends(void **state) {
    (void)state;
    CHECK_EACH_ROW(ADM_STAGE_DISTANCE, row)
    for (int h = 0; h < 3 && is_asym4(row); h++) {
        const uint32_t d = check_head_dims[h];
        uint8_t q[128] = {0}, low[64] = {0}, high[64];
        uint16_t distance;
        memset(high, 0xff, sizeof high);
        memset(q + 3 * d / 8, 0xff, d / 8); /* -8 everywhere */
        row->fn.distance(q, high, 1, d, &distance);
        assert_int_equal(distance, adm_asym4_max_distance(d));
        row->fn.distance(q, low, 1, d, &distance);
        assert_int_equal(distance, 0);
        memset(q, 0xff, 3 * d / 8); /* 7 */
        memset(q + 3 * d / 8, 0, d / 8);
        row->fn.distance(q, low, 1, d, &distance);
        assert_int_equal(distance, 21 * d);
        assert_int_equal(adm_asym4_largest(q, d), 21 * d);
        row->fn.distance(q, high, 1, d, &distance);
        assert_int_equal(distance, 0);
    }
}

/* --- Queries ---------------------------------------------------------------------------------------------------------- */

/* With no tails, light ones or heavy ones, and channels of different scale. */
static void random_query(adm_rng *rng, uint32_t d, float *y, float *scale) {
    const uint64_t kind = adm_rng_below(rng, 3);
    for (uint32_t i = 0; i < d; i++) {
        const double x = adm_rng_normal(rng);
        y[i] = (float)(kind == 0 ? adm_rng_unit(rng) - 0.5 : kind == 1 ? x : x * x * x);
        scale[i] = kind == 0 ? 1 : (float)exp(0.5 * adm_rng_normal(rng));
    }
}

static void a_query_is_rounded_to_its_best_step(void **state) {
    (void)state;
    static const double steps[] = ADM_ASYM4_STEPS;
    adm_rng rng = check_rng(__func__);
    size_t n_taken[ADM_ASYM4_N_STEPS] = {0};
    for (int round = 0; round < 600; round++) {
        const uint32_t d = check_head_dims[round % 3];
        float y[256], scale[256], largest = 0;
        int8_t q[256];
        double least = INFINITY;
        size_t taken = 0;
        check_case("d=%u, round %d", d, round);
        random_query(&rng, d, y, scale);
        adm_asym4_quantise(y, scale, d, q);
        for (uint32_t i = 0; i < d; i++) largest = fmaxf(largest, fabsf(y[i] * scale[i]));
        for (size_t s = 0; s < ADM_ASYM4_N_STEPS; s++) {
            double error = 0;
            for (uint32_t i = 0; i < d; i++) {
                const double x = (double)(y[i] * scale[i]) / largest * 2048;
                error += pow(rint(x) - steps[s] * fmin(fmax(rint(x / steps[s]), -8), 7), 2);
            }
            if (error < least) taken = s;
            least = fmin(least, error);
        }
        n_taken[taken]++;
        for (uint32_t i = 0; i < d; i++) {
            const double x = (double)(y[i] * scale[i]) / largest * 2048 / steps[taken];
            assert_true(fabs(q[i] - fmin(fmax(x, -8), 7)) <= 0.5 + 1e-4);
        }
    }
    for (size_t s = 0; s < ADM_ASYM4_N_STEPS; s++) assert_true(n_taken[s] > 0); /* so the test saw every step taken */
    check_case_end();
}

static void a_query_depends_on_neither_length_nor_order(void **state) {
    (void)state;
    enum { D = 128 };
    adm_rng rng = check_rng(__func__);
    for (int round = 0; round < 100; round++) {
        float y[D], scale[D], other[D], other_scale[D];
        int8_t q[D], of_other[D];
        check_case("round %d", round);
        random_query(&rng, D, y, scale);
        adm_asym4_quantise(y, scale, D, q);
        for (uint32_t i = 0; i < D; i++) {
            other[D - 1 - i] = y[i] * 0x1p20f;
            other_scale[D - 1 - i] = scale[i] * 0x1p-7f;
        }
        adm_asym4_quantise(other, other_scale, D, of_other);
        for (uint32_t i = 0; i < D; i++) assert_int_equal(q[i], of_other[D - 1 - i]);
    }
    check_case_end();
}

static void planes_hold_the_query(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int h = 0; h < 3; h++) {
        const uint32_t d = check_head_dims[h];
        int8_t q[256];
        uint8_t planes[128];
        uint32_t largest = 0;
        for (uint32_t i = 0; i < d; i++) {
            q[i] = (int8_t)((int)adm_rng_below(&rng, 16) - 8);
            largest += q[i] > 0 ? 3 * (uint32_t)q[i] : 0;
        }
        adm_asym4_planes(q, d, planes);
        for (uint32_t i = 0; i < d; i++) assert_int_equal(adm_asym4_element(planes, d, i), q[i]);
        assert_int_equal(adm_asym4_largest(planes, d), largest);
    }
}

/* Without a direction there is no nearest key: all are equally near, and the newest win. */
static void queries_without_a_direction_are_zero(void **state) {
    (void)state;
    static const float values[] = {0, 0x1p-120f, INFINITY, NAN};
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        float y[64], scale[64];
        uint8_t planes[32];
        for (int i = 0; i < 64; i++) y[i] = values[v], scale[i] = 1;
        memset(planes, 0xff, sizeof planes);
        adm_asym4_query(y, scale, 64, planes);
        for (size_t i = 0; i < sizeof planes; i++) assert_int_equal(planes[i], 0);
    }
}

/* --- Keys ------------------------------------------------------------------------------------------------------------- */

static void keys_are_centred_and_scaled_by_channel(void **state) {
    (void)state;
    enum { D = 64, N = 501 };
    static const float z[3] = {-0.8f, 0, 0.8f};
    static float y[N * D], centre[D], scale[D], t[3 * D];
    adm_rng rng = check_rng(__func__);
    for (int r = 0; r < N; r++)
        for (int c = 0; c < D; c++) y[r * D + c] = c == 5 ? 2.5f : (float)(30 * sin(c) + (1 + c) * adm_rng_normal(&rng));
    adm_asym4_learn(y, N, D, centre, scale);
    adm_asym4_thresholds(centre, scale, D, z, t);
    for (int c = 0; c < D; c++) {
        double sum = 0, squares = 0;
        for (int r = 0; r < N; r++) sum += (double)y[r * D + c];
        for (int r = 0; r < N; r++) squares += pow((double)y[r * D + c] - sum / N, 2);
        assert_true(fabs((double)centre[c] - sum / N) < 1e-4);
        assert_true(fabs((double)scale[c] - sqrt(squares / N)) < 1e-4);
        for (int r = 0; r < N; r++)
            for (int l = 0; l < 3; l++) {
                const double normal = ((double)y[r * D + c] - (double)centre[c]) / (double)scale[c];
                if (c != 5 && fabs(normal - (double)z[l]) > 1e-5)
                    assert_int_equal(y[r * D + c] > t[l * D + c], normal > (double)z[l]);
            }
    }
    assert_true(scale[5] == 0 && t[5] == 2.5f && t[D + 5] == 2.5f); /* never changes: code 0, and no weight in a query */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_the_definition),
        cmocka_unit_test(every_row_reaches_both_ends),
        cmocka_unit_test(a_query_is_rounded_to_its_best_step),
        cmocka_unit_test(a_query_depends_on_neither_length_nor_order),
        cmocka_unit_test(planes_hold_the_query),
        cmocka_unit_test(queries_without_a_direction_are_zero),
        cmocka_unit_test(keys_are_centred_and_scaled_by_channel),
    };
    return cmocka_run_group_tests_name("asym4", tests, NULL, NULL);
}
