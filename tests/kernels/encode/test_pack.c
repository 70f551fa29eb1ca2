/* test_pack.c: every pack row against the reference, the bit layout spelled out, the round trip, and append. */
#include "kernels/encode/pack.h"

#include "tests/support/stage_check.h"

enum { MAX_ROWS = 17 };

static void fill_codes(adm_rng *rng, uint8_t *codes, size_t n, int only) {
    for (size_t i = 0; i < n; i++) codes[i] = only < 4 ? (uint8_t)only : (uint8_t)adm_rng_below(rng, 4);
}

static void every_row_equals_the_reference(void **state) {
    (void)state;
    adm_rng rng;
    static const size_t counts[] = {0, 1, 2, 5, MAX_ROWS};
    CHECK_EACH_ROW_WITH(ADM_STAGE_PACK, row, rng)
    for (int h = 0; h < 3; h++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (int only = 0; only <= 4; only++) { /* one code alone, and with 4 all of them */
                uint32_t d = check_head_dims[h];
                check_case("d=%u, n=%zu rows, code %d (4: all), slack=%zu before and %zu behind", d, counts[c], only, c % 2,
                           (c + 1) % 2);
                check_buffer codes = check_new(counts[c] * d, c % 2);
                check_buffer packed = check_new(counts[c] * d / 4, (c + 1) % 2);
                uint8_t expected[MAX_ROWS * 64];
                fill_codes(&rng, codes.data, codes.bytes, only);
                adm_pack_reference(codes.data, counts[c], d, expected);
                row->fn.pack(codes.data, counts[c], d, packed.data);
                assert_memory_equal(packed.data, expected, packed.bytes);
                check_free(&codes);
                check_free(&packed);
            }
}

static void element_i_lies_at_bit_2i(void **state) {
    (void)state;
    CHECK_EACH_ROW(ADM_STAGE_PACK, row)
    for (uint32_t i = 0; i < 64; i++)
        for (unsigned code = 1; code < 4; code++) {
            uint8_t codes[64] = {0}, packed[16];
            check_case("d=64, n=1, element %u is %u", i, code);
            codes[i] = (uint8_t)code;
            row->fn.pack(codes, 1, 64, packed);
            for (uint32_t bit = 0; bit < 128; bit++) {
                unsigned expected = bit / 2 == i ? code >> bit % 2 & 1 : 0;
                assert_int_equal(packed[bit / 8] >> bit % 8 & 1, expected);
            }
        }
}

static void unpacking_gives_the_codes_back(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int h = 0; h < 3; h++) {
        uint32_t d = check_head_dims[h];
        uint8_t codes[MAX_ROWS * 256], packed[MAX_ROWS * 64];
        check_buffer back = check_new(MAX_ROWS * (size_t)d, 1);
        fill_codes(&rng, codes, back.bytes, 4);
        adm_pack_reference(codes, MAX_ROWS, d, packed);
        adm_unpack_reference(packed, MAX_ROWS, d, back.data);
        assert_memory_equal(back.data, codes, back.bytes);
        check_free(&back);
    }
}

static void append_touches_one_row_a_head(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    enum { HEADS = 3, CAPACITY = 5 };
    for (int h = 0; h < 3; h++)
        for (size_t pos = 0; pos < CAPACITY; pos++) {
            size_t row_bytes = check_head_dims[h] / 4;
            check_buffer rows = check_new(HEADS * row_bytes, 1);
            check_buffer cache = check_new(HEADS * CAPACITY * row_bytes, 0);
            uint8_t before[HEADS * CAPACITY * 64];
            check_random_bytes(&rng, &rows);
            check_random_bytes(&rng, &cache);
            memcpy(before, cache.data, cache.bytes);
            adm_append_reference(rows.data, HEADS, check_head_dims[h], pos, CAPACITY, cache.data);
            for (size_t head = 0; head < HEADS; head++)
                for (size_t token = 0; token < CAPACITY; token++) {
                    size_t at = (head * CAPACITY + token) * row_bytes;
                    const uint8_t *expected = token == pos ? rows.data + head * row_bytes : before + at;
                    assert_memory_equal(cache.data + at, expected, row_bytes);
                }
            check_free(&rows);
            check_free(&cache);
        }
}

static void the_model_counts_what_moves(void **state) {
    (void)state;
    assert_true(adm_pack_bytes(3, 128) == 3.0 * (128 + 32));
    assert_true(adm_pack_flops(3, 128) == 3.0 * 128 * 2);
    assert_true(adm_append_bytes(8, 128) == 8.0 * 32 * 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_equals_the_reference), cmocka_unit_test(element_i_lies_at_bit_2i),
        cmocka_unit_test(unpacking_gives_the_codes_back), cmocka_unit_test(append_touches_one_row_a_head),
        cmocka_unit_test(the_model_counts_what_moves),
    };
    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
