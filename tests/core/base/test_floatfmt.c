/* test_floatfmt.c: the 16-bit formats against their definitions: every value widened, and narrowing at, just below and
 * just above every midpoint between neighbours. */
#include "core/base/floatfmt.h"

#include "tests/support/stage_check.h"

typedef struct format {
    adm_dtype dtype;
    int mantissa_bits, bias;
    uint16_t infinity;
    float (*widen)(uint16_t bits);
    uint16_t (*narrow)(float value);
} format;

static const format formats[] = {
    {ADM_F16, 10, 15, 0x7c00, adm_f16_to_f32, adm_f32_to_f16},
    {ADM_BF16, 7, 127, 0x7f80, adm_bf16_to_f32, adm_f32_to_bf16},
};

/* The value of a finite pattern by the definition of the format, in double, where all of it is exact. */
static double value_of(const format *f, uint16_t bits) {
    int exponent = (bits & 0x7fff) >> f->mantissa_bits;
    int mantissa = bits & ((1 << f->mantissa_bits) - 1);
    double magnitude = exponent == 0 ? ldexp(mantissa, 1 - f->bias - f->mantissa_bits)
                                     : ldexp(mantissa + (1 << f->mantissa_bits), exponent - f->bias - f->mantissa_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

static void every_pattern_widens_exactly_and_comes_back(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const format *f = &formats[i];
        for (uint32_t bits = 0; bits <= 0xffff; bits++) {
            float wide = f->widen((uint16_t)bits);
            uint16_t back = f->narrow(wide);
            assert_int_equal(signbit(wide) != 0, bits >> 15);
            if ((bits & 0x7fff) > f->infinity) {
                assert_true(isnan(wide));
                assert_true((back & 0x7fff) > f->infinity);
                assert_int_equal(back >> 15, bits >> 15);
                continue;
            }
            if ((bits & 0x7fff) == f->infinity) assert_true(isinf(wide));
            else assert_true(wide == value_of(f, (uint16_t)bits));
            assert_int_equal(back, bits);
        }
    }
}

/* Between the neighbours `low` and `low + 1`: to the nearer one, and from the middle to the even one. The neighbour of
 * the largest finite number is infinity, which stands one step further. */
static void narrowing_rounds_to_nearest_even(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const format *f = &formats[i];
        for (uint32_t low = 0; low < f->infinity; low++) {
            double a = value_of(f, (uint16_t)low), b = value_of(f, (uint16_t)(low + 1));
            float middle = (float)((a + b) / 2);
            assert_true(middle == (a + b) / 2);
            uint16_t even = (uint16_t)(low + (low & 1));
            for (int sign = 0; sign < 2; sign++) {
                uint16_t s = (uint16_t)(sign << 15);
                assert_int_equal(f->narrow(sign ? -middle : middle), s | even);
                float below = nextafterf(middle, 0), above = nextafterf(middle, INFINITY);
                assert_int_equal(f->narrow(sign ? -below : below), s | low);
                assert_int_equal(f->narrow(sign ? -above : above), s | (low + 1));
            }
        }
    }
}

static void the_ends_of_the_range(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const format *f = &formats[i];
        assert_int_equal(f->narrow(INFINITY), f->infinity);
        assert_int_equal(f->narrow(-INFINITY), 0x8000 | f->infinity);
        assert_int_equal(f->narrow(0x1.fffffep127f), f->infinity);
        assert_int_equal(f->narrow(-0.0f), 0x8000);
        assert_true((f->narrow(NAN) & 0x7fff) > f->infinity);
    }
    assert_int_equal(adm_f32_to_f16(0x1p-149f), 0);
    uint32_t low_payload = 0x7f800001; /* a NaN whose payload lies in the bits that narrowing drops */
    float nan;
    memcpy(&nan, &low_payload, sizeof nan);
    assert_true((adm_f32_to_f16(nan) & 0x7fff) > 0x7c00);
    assert_true((adm_f32_to_bf16(nan) & 0x7fff) > 0x7f80);
}

static void arrays_convert_at_any_address(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int t = 0; t < 3; t++)
        for (size_t n = 0; n < 40; n++)
            for (size_t slack = 0; slack < 3; slack++) {
                adm_dtype dtype = check_dtypes[t];
                check_buffer source = check_rows(&rng, CHECK_NORMAL, dtype, n, 1, slack);
                check_buffer wide = check_new(n * sizeof(float), 0);
                check_buffer back = check_new(source.bytes, slack);
                float *values = (float *)(void *)wide.data;
                adm_to_f32(dtype, source.data, n, values);
                adm_from_f32(dtype, values, n, back.data);
                assert_memory_equal(back.data, source.data, source.bytes);
                for (size_t i = 0; i < n && dtype != ADM_F32; i++) {
                    uint16_t bits;
                    memcpy(&bits, source.data + 2 * i, sizeof bits);
                    assert_true(values[i] == formats[dtype == ADM_BF16].widen(bits));
                }
                check_free(&source);
                check_free(&wide);
                check_free(&back);
            }
}

static void names_and_sizes(void **state) {
    (void)state;
    assert_string_equal(adm_dtype_name(ADM_F32), "F32");
    assert_string_equal(adm_dtype_name(ADM_F16), "F16");
    assert_string_equal(adm_dtype_name(ADM_BF16), "BF16");
    assert_int_equal(adm_dtype_bytes(ADM_F32), 4);
    assert_int_equal(adm_dtype_bytes(ADM_F16), 2);
    assert_int_equal(adm_dtype_bytes(ADM_BF16), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pattern_widens_exactly_and_comes_back),
        cmocka_unit_test(narrowing_rounds_to_nearest_even),
        cmocka_unit_test(the_ends_of_the_range),
        cmocka_unit_test(arrays_convert_at_any_address),
        cmocka_unit_test(names_and_sizes),
    };
    return cmocka_run_group_tests_name("floatfmt", tests, NULL, NULL);
}
