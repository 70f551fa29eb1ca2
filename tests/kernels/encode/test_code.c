/* test_code.c: encoding with any width and thresholds, and distances by table. */
#include "kernels/encode/code.h"
#include "kernels/encode/pack.h"

#include "tests/support/stage_check.h"

enum { MAX_ROWS = 67 };

static float random_value(adm_rng *rng) {
    uint64_t which = adm_rng_below(rng, 50);
    return which == 0 ? NAN : which == 1 ? INFINITY : which == 2 ? -INFINITY : which == 3 ? 0.0f : (float)adm_rng_normal(rng);
}

/* Ascending thresholds of every channel; some coincide, and some values equal one. */
static void fill_thresholds(adm_rng *rng, float *t, uint32_t n_t, uint32_t d) {
    for (uint32_t i = 0; i < d; i++)
        for (uint32_t l = 0; l < n_t; l++) {
            float step = adm_rng_below(rng, 5) == 0 ? 0 : (float)adm_rng_below(rng, 100) / 100;
            t[l * d + i] = l == 0 ? (float)adm_rng_normal(rng) - 1 : t[(l - 1) * d + i] + step;
        }
}

static void both_encoders_count_thresholds(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    static float t[ADM_MAX_HEAD_DIM * 7], y[MAX_ROWS * ADM_MAX_HEAD_DIM];
    static uint8_t codes[MAX_ROWS * ADM_MAX_HEAD_DIM];
    for (int h = 0; h < 3; h++)
        for (uint32_t bits = 1; bits <= 3; bits++) {
            const uint32_t d = check_head_dims[h], n_t = (1u << bits) - 1;
            fill_thresholds(&rng, t, n_t, d);
            for (size_t i = 0; i < MAX_ROWS * d; i++) y[i] = i % 11 == 0 ? t[i % (n_t * d)] : random_value(&rng);
            adm_encode_fn *const versions[] = {adm_encode_reference, adm_encode_rows};
            for (int version = 0; version < 2; version++)
                for (size_t n = 0; n <= MAX_ROWS; n += 1 + n) {
                    check_case("%s d=%u bits=%u n=%zu slack=%zu", version == 0 ? "reference" : "rows", d, bits, n, n % 4);
                    check_buffer packed = check_new(n * bits * d / 8, n % 4);
                    versions[version](y, n, d, t, bits, packed.data);
                    adm_decode_reference(packed.data, n, d, bits, codes);
                    for (size_t i = 0; i < n * d; i++) {
                        uint32_t expected = 0;
                        for (uint32_t l = 0; l < n_t; l++) expected += y[i] > t[l * d + i % d];
                        assert_int_equal(codes[i], expected);
                    }
                    check_free(&packed);
                }
        }
    check_case_end();
}

static void two_bits_are_the_rows_of_pack(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    uint8_t packed[3 * 64], codes[3 * 256], unpacked[3 * 256];
    for (size_t i = 0; i < sizeof packed; i++) packed[i] = (uint8_t)adm_rng_u64(&rng);
    adm_decode_reference(packed, 3, 256, 2, codes);
    adm_unpack_reference(packed, 3, 256, unpacked);
    assert_memory_equal(codes, unpacked, sizeof codes);
}

/* Element i of three bits stands at bits 3i of the row read as one little-endian number. */
static void three_bits_run_on_across_bytes(void **state) {
    (void)state;
    float y[64], t[7 * 64];
    uint8_t packed[24], expected[24] = {0};
    for (int i = 0; i < 64; i++) y[i] = (float)(i % 8);
    for (int l = 0; l < 7; l++)
        for (int i = 0; i < 64; i++) t[l * 64 + i] = (float)l + 0.5f;
    for (uint32_t bit = 0; bit < 192; bit++)
        if (bit / 3 % 8 >> bit % 3 & 1) expected[bit / 8] = (uint8_t)(expected[bit / 8] | 1 << bit % 8);
    adm_encode_rows(y, 1, 64, t, 3, packed);
    assert_memory_equal(packed, expected, sizeof packed);
}

/* Random tables whose rows' largest entries sum to 65535 at most. */
static void scans_are_sums_of_table_entries(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    static uint16_t table[ADM_MAX_HEAD_DIM * 8];
    static uint8_t codes[ADM_MAX_HEAD_DIM];
    static const size_t counts[] = {0, 1, 2, 3, 5, 64, MAX_ROWS};
    for (int h = 0; h < 3; h++)
        for (uint32_t bits = 1; bits <= 3; bits++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
                const uint32_t d = check_head_dims[h];
                const size_t n = counts[c], row_bytes = bits * d / 8;
                check_buffer k = check_new(n * row_bytes, c % 3), out = check_new(n * sizeof(uint16_t), 0);
                check_buffer scratch = check_new(ADM_SCAN_SCRATCH, 0);
                check_random_bytes(&rng, &k);
                if (n > 1) memset(k.data, 0xff, row_bytes);
                for (uint32_t i = 0; i < d << bits; i++) table[i] = (uint16_t)adm_rng_below(&rng, 65536 / d);
                if (n > 1) /* the largest sum there can be, in the row of the highest codes */
                    for (uint32_t i = 0; i < d; i++) table[(i << bits) + (1u << bits) - 1] = (uint16_t)(65535 / d);
                adm_scan_fn *const versions[] = {adm_scan_reference, adm_scan_bytes};
                for (int version = 0; version < 2; version++) {
                    uint16_t *got = (uint16_t *)(void *)out.data;
                    check_case("%s d=%u bits=%u n=%zu slack=%zu", version == 0 ? "reference" : "bytes", d, bits, n, c % 3);
                    memset(out.data, CHECK_CANARY, out.bytes);
                    versions[version](table, k.data, n, d, bits, scratch.data, got);
                    for (size_t t = 0; t < n; t++) {
                        uint32_t sum = 0;
                        adm_decode_reference(k.data + t * row_bytes, 1, d, bits, codes);
                        for (uint32_t i = 0; i < d; i++) sum += table[(i << bits) + codes[i]];
                        assert_int_equal(got[t], sum);
                    }
                }
                check_free(&k);
                check_free(&out);
                check_free(&scratch);
            }
    check_case_end();
}

static void the_model_counts_what_moves(void **state) {
    (void)state;
    const adm_shape shape = {32, 8, 128};
    assert_true(adm_scan_bytes_moved(&shape, 3, 8, 1000) == 8 * 1000.0 * 48 + 8 * (128 * 8 * 2 + 1000 * 2));
    assert_true(adm_scan_flops(&shape, 8, 1000) == 2 * 8 * 1000.0 * 128);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_encoders_count_thresholds), cmocka_unit_test(two_bits_are_the_rows_of_pack),
        cmocka_unit_test(three_bits_run_on_across_bytes), cmocka_unit_test(scans_are_sums_of_table_entries),
        cmocka_unit_test(the_model_counts_what_moves),
    };
    return cmocka_run_group_tests_name("code", tests, NULL, NULL);
}
