/* test_distance.c: every distance row against a definition of its metric written here on unpacked codes, and the
 * properties of the metrics. */
#include "kernels/distance/distance_metric.h"

#include "core/policy/coding.h"
#include "kernels/encode/code.h"

#include "tests/support/stage_check.h"

#include <stdbool.h>

enum { MAX_TOKENS = 131 };

/* The distance of two 2-bit codes, as tables: row a, column b. */
typedef struct metric_table {
    const char *name;
    uint32_t bits, largest;
    bool is_metric; /* zero from itself, and the triangle inequality: not so of squares and products */
    uint8_t of[4][4];
} metric_table;

static const metric_table metrics[] = {
    {"l1", 2, 3, true, {{0, 1, 2, 3}, {1, 0, 1, 2}, {2, 1, 0, 1}, {3, 2, 1, 0}}},
    {"xor", 2, 3, true, {{0, 1, 2, 3}, {1, 0, 3, 2}, {2, 3, 0, 1}, {3, 2, 1, 0}}},
    {"sign", 2, 1, true, {{0, 0, 1, 1}, {0, 0, 1, 1}, {1, 1, 0, 0}, {1, 1, 0, 0}}},
    {"l2", 2, 9, false, {{0, 1, 4, 9}, {1, 0, 1, 4}, {4, 1, 0, 1}, {9, 4, 1, 0}}},
    {"dot", 2, 9, false, {{0, 3, 6, 9}, {3, 4, 5, 6}, {6, 5, 4, 3}, {9, 6, 3, 0}}},
    {"hamming", 1, 1, true, {{0, 1}, {1, 0}}},
};

static const metric_table *table_of(const adm_host_impl *row) {
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        if (strcmp(row->metric, metrics[i].name) == 0) {
            assert_int_equal(row->bits, metrics[i].bits);
            return &metrics[i];
        }
    fail_msg("row %s computes '%s', which has no table here", row->name, row->metric);
    return NULL;
}

/* Those of asym4 compare no codes: tests/kernels/test_asym4.c. */
static bool compares_codes(const adm_host_impl *row) { return strcmp(row->metric, "asym4") != 0; }

static uint16_t expected_distance(const metric_table *table, const uint8_t *q, const uint8_t *k, uint32_t d) {
    uint8_t a[256], b[256];
    adm_decode_reference(q, 1, d, table->bits, a);
    adm_decode_reference(k, 1, d, table->bits, b);
    uint16_t sum = 0;
    for (uint32_t i = 0; i < d; i++) sum = (uint16_t)(sum + table->of[a[i]][b[i]]);
    return sum;
}

/* Rows of random codes, or of one code alone: against one another these reach 0 and 3d. */
static void fill_rows(adm_rng *rng, check_buffer *rows, size_t row_bytes) {
    check_random_bytes(rng, rows);
    for (size_t at = 0; at < rows->bytes; at += row_bytes)
        if (adm_rng_below(rng, 3) == 0) memset(rows->data + at, (int)(0x55 * adm_rng_below(rng, 4)), row_bytes);
}

static void every_row_equals_its_metric(void **state) {
    (void)state;
    adm_rng rng;
    static const size_t counts[] = {0, 1, 2, 3, 15, 16, 17, 64, MAX_TOKENS};
    CHECK_EACH_ROW_WITH(ADM_STAGE_DISTANCE, row, rng)
    for (int h = 0; h < 3 && compares_codes(row); h++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (size_t slack = 0; slack < 4; slack++) {
                uint32_t d = check_head_dims[h];
                size_t n = counts[c], row_bytes = row->bits * d / 8;
                check_case("d=%u, n=%zu keys, slack=%zu of q and %zu of k", d, n, slack, 3 - slack);
                check_buffer q = check_new(row_bytes, slack), k = check_new(n * row_bytes, 3 - slack);
                check_buffer out = check_new(n * sizeof(uint16_t), 0);
                fill_rows(&rng, &q, row_bytes);
                fill_rows(&rng, &k, row_bytes);
                const uint16_t *got = (const uint16_t *)(const void *)out.data;
                row->fn.distance(q.data, k.data, n, d, (uint16_t *)(void *)out.data);
                for (size_t t = 0; t < n; t++)
                    assert_int_equal(got[t], expected_distance(table_of(row), q.data, k.data + t * row_bytes, d));
                check_free(&q);
                check_free(&k);
                check_free(&out);
            }
}

/* Each pair of codes at each position: exhaustive where the metric is a sum over positions. */
static void every_pair_at_every_position(void **state) {
    (void)state;
    CHECK_EACH_ROW(ADM_STAGE_DISTANCE, row) {
        if (!compares_codes(row)) continue;
        const metric_table *table = table_of(row);
        const unsigned n_codes = 1u << row->bits, top = n_codes - 1, per_byte = 8 / row->bits;
        for (uint32_t i = 0; i < 256; i++)
            for (unsigned a = 0; a < n_codes; a++)
                for (unsigned b = 0; b < n_codes; b++) {
                    uint8_t q[64], k[64];
                    uint16_t distance;
                    check_case("d=256, n=1, element %u: codes %u and %u", i, a, b);
                    memset(q, 0xff, sizeof q); /* equal elsewhere, and not zero */
                    memset(k, 0xff, sizeof k);
                    q[i / per_byte] = (uint8_t)(0xffu ^ (a ^ top) << row->bits * (i % per_byte));
                    k[i / per_byte] = (uint8_t)(0xffu ^ (b ^ top) << row->bits * (i % per_byte));
                    row->fn.distance(q, k, 1, 256, &distance);
                    assert_int_equal(distance, table->of[a][b]);
                }
    }
}

static void the_range_ends_at_opposite_codes(void **state) {
    (void)state;
    CHECK_EACH_ROW(ADM_STAGE_DISTANCE, row)
    for (int h = 0; h < 3 && compares_codes(row); h++) {
        uint32_t d = check_head_dims[h];
        uint8_t low[64] = {0}, high[64];
        uint16_t distance;
        memset(high, 0xff, sizeof high);
        row->fn.distance(low, high, 1, d, &distance);
        assert_int_equal(distance, table_of(row)->largest * d);
        row->fn.distance(high, low, 1, d, &distance);
        assert_int_equal(distance, table_of(row)->largest * d);
        row->fn.distance(high, high, 1, d, &distance);
        assert_int_equal(distance, 0);
    }
}

/* Symmetric; and the triangle inequality holds of those that are metrics. */
static void they_are_metrics(void **state) {
    (void)state;
    adm_rng rng;
    CHECK_EACH_ROW_WITH(ADM_STAGE_DISTANCE, row, rng)
    for (int round = 0; round < 200 && compares_codes(row); round++) {
        check_case("d=128, n=1, round %d", round);
        check_buffer r = check_new(3 * 32, 0);
        check_random_bytes(&rng, &r);
        uint8_t *a = r.data, *b = a + 32, *c = b + 32;
        uint16_t ab, ba, bc, ac;
        row->fn.distance(a, b, 1, 128, &ab);
        row->fn.distance(b, a, 1, 128, &ba);
        row->fn.distance(b, c, 1, 128, &bc);
        row->fn.distance(a, c, 1, 128, &ac);
        assert_int_equal(ab, ba);
        if (table_of(row)->is_metric) assert_true(ac <= ab + bc);
        check_free(&r);
    }
}

/* The tables above are core/policy/coding.h's formulas. */
static void the_tables_are_the_formulas(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        for (adm_code_metric m = ADM_METRIC_L1; m < ADM_METRIC_ASYMMETRIC; m++)
            for (uint32_t a = 0; a < 4 && strcmp(metrics[i].name, adm_code_metric_name(m)) == 0; a++)
                for (uint32_t b = 0; b < 4; b++) assert_int_equal(metrics[i].of[a][b], adm_code_distance(m, 2, a, b));
}

/* The authors' kernel: the pair (1,2) scores 3, where L1 scores 1. */
static void xor_is_not_l1(void **state) {
    (void)state;
    uint8_t q[16], k[16];
    uint16_t l1, xor;
    memset(q, 0x55, sizeof q);
    memset(k, 0xaa, sizeof k);
    adm_distance_reference(q, k, 1, 64, &l1);
    adm_distance_xor(q, k, 1, 64, &xor);
    assert_int_equal(l1, 64);
    assert_int_equal(xor, 192);
}

static void the_model_counts_what_moves(void **state) {
    (void)state;
    const adm_shape shape = {32, 8, 128};
    assert_true(adm_distance_bytes(&shape, 1000) == 8 * 1000.0 * 32 + 32 * 32.0 + 32 * 1000.0 * 2);
    assert_true(adm_distance_flops(&shape, 1000) == 3 * 32 * 1000.0 * 128);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_equals_its_metric),      cmocka_unit_test(every_pair_at_every_position),
        cmocka_unit_test(the_range_ends_at_opposite_codes), cmocka_unit_test(they_are_metrics),
        cmocka_unit_test(the_tables_are_the_formulas),      cmocka_unit_test(xor_is_not_l1),
        cmocka_unit_test(the_model_counts_what_moves),
    };
    return cmocka_run_group_tests_name("distance", tests, NULL, NULL);
}
