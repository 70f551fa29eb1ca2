/* test_bucket.c: every bucket row against the reference, and the reference at the thresholds themselves. */
#include "kernels/encode/bucket.h"

#include "tests/support/stage_check.h"

static void every_row_equals_the_reference(void **state) {
    (void)state;
    adm_rng rng;
    static const float thresholds[][3] = {
        {-10, 0, 10}, {-0.5f, 0.25f, 0.75f}, {0, 0, 0}, {-INFINITY, 0, INFINITY}, {-0x1p-149f, 0, 0x1p-149f}};
    static const size_t counts[] = {0, 1, 3, 16, 63, 64, 65, 129, 1000};
    CHECK_EACH_ROW_WITH(ADM_STAGE_BUCKET, row, rng)
    for (size_t t = 0; t < sizeof thresholds / sizeof *thresholds; t++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
            for (int k = 0; k < CHECK_N_KINDS; k++) {
                size_t n = counts[c];
                check_case("n=%zu, thresholds %g, %g, %g, %s inputs, slack=%zu", n, (double)thresholds[t][0],
                           (double)thresholds[t][1], (double)thresholds[t][2], check_kind_name((check_kind)k), c % 4);
                check_buffer y = check_rows(&rng, (check_kind)k, ADM_F32, n, 1, 0);
                check_buffer codes = check_new(n, c % 4);
                const float *values = (const float *)(const void *)y.data;
                uint8_t expected[1000];
                adm_bucket_reference(values, n, thresholds[t], expected);
                row->fn.bucket(values, n, thresholds[t], codes.data);
                for (size_t i = 0; i < n; i++)
                    if (codes.data[i] != expected[i])
                        fail_msg("element %zu, %a, has code %u, not %u", i, (double)values[i], codes.data[i], expected[i]);
                check_free(&y);
                check_free(&codes);
            }
}

/* Above means strictly above, a signed zero is a zero, and a NaN is above nothing. */
static void thresholds_are_exclusive(void **state) {
    (void)state;
    const float t[3] = {-10, 0, 10};
    const struct {
        float y;
        uint8_t code;
    } cases[] = {
        {-INFINITY, 0},
        {-0x1.fffffep127f, 0},
        {-10, 0},
        {nextafterf(-10, 0), 1},
        {-0x1p-149f, 1},
        {-0.0f, 1},
        {0.0f, 1},
        {0x1p-149f, 2},
        {10, 2},
        {nextafterf(10, 11), 3},
        {0x1.fffffep127f, 3},
        {INFINITY, 3},
        {NAN, 0},
        {-NAN, 0},
    };
    CHECK_EACH_ROW(ADM_STAGE_BUCKET, row)
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t code = 99;
        row->fn.bucket(&cases[i].y, 1, t, &code);
        if (code != cases[i].code) fail_msg("%s: %a has code %u, not %u", row->name, (double)cases[i].y, code, cases[i].code);
    }
}

/* Equal thresholds merge buckets: code 1 and 2 cannot occur. */
static void equal_thresholds_leave_two_buckets(void **state) {
    (void)state;
    adm_rng rng;
    const float t[3] = {0.5f, 0.5f, 0.5f};
    CHECK_EACH_ROW_WITH(ADM_STAGE_BUCKET, row, rng)
    for (int i = 0; i < 1000; i++) {
        float y = (float)adm_rng_normal(&rng);
        uint8_t code;
        check_case("n=1, value %a, thresholds 0.5", (double)y);
        row->fn.bucket(&y, 1, t, &code);
        assert_int_equal(code, y > 0.5f ? 3 : 0);
    }
}

static void the_model_counts_what_moves(void **state) {
    (void)state;
    assert_true(adm_bucket_bytes(3, 128) == 3.0 * 128 * 5);
    assert_true(adm_bucket_flops(3, 128) == 3.0 * 128 * 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_equals_the_reference),
        cmocka_unit_test(thresholds_are_exclusive),
        cmocka_unit_test(equal_thresholds_leave_two_buckets),
        cmocka_unit_test(the_model_counts_what_moves),
    };
    return cmocka_run_group_tests_name("bucket", tests, NULL, NULL);
}
