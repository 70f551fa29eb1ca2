/* test_hadamard.c: every hadamard row against the reference to the last bit, the reference against the definition in
 * double, and the properties of an orthonormal involution. */
#include "kernels/encode/hadamard.h"

#include "tests/support/stage_check.h"

enum { MAX_ROWS = 9 };

static void compare_rows(const adm_host_impl *row, adm_rng *rng, adm_dtype dtype, uint32_t d, check_kind kind) {
    static const size_t counts[] = {0, 1, 2, 7, MAX_ROWS};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        size_t n = counts[c] * d;
        check_case("%s, d=%u, n=%zu rows, %s inputs, slack=%zu", adm_dtype_name(dtype), d, counts[c], check_kind_name(kind),
                   c % 2);
        check_buffer x = check_rows(rng, kind, dtype, counts[c], d, c % 2);
        check_buffer y = check_new(n * sizeof(float), 0);
        float expected[MAX_ROWS * 256];
        adm_hadamard_reference(dtype, x.data, counts[c], d, expected);
        row->fn.hadamard(dtype, x.data, counts[c], d, (float *)(void *)y.data);
        const float *got = (const float *)(const void *)y.data;
        for (size_t i = 0; i < n; i++)
            if (!check_same_float(got[i], expected[i]))
                fail_msg("row %zu element %zu: %a, not %a", i / d, i % d, (double)got[i], (double)expected[i]);
        check_free(&x);
        check_free(&y);
    }
}

static void every_row_equals_the_reference(void **state) {
    (void)state;
    adm_rng rng;
    CHECK_EACH_ROW_WITH(ADM_STAGE_HADAMARD, row, rng)
    for (int t = 0; t < 3; t++)
        for (int k = 0; k < CHECK_N_KINDS; k++)
            for (int h = 0; h < 3; h++)
                if (check_head_dims[h] <= row->max_head_dim)
                    compare_rows(row, &rng, check_dtypes[t], check_head_dims[h], (check_kind)k);
}

/* From 8 MiB of result on, rows may write past the caches. */
static void large_results_equal_the_reference(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int h = 0; h < 3; h++) {
        const uint32_t d = check_head_dims[h];
        const size_t n_rows = (8 << 20) / sizeof(float) / d + 3, n = n_rows * d;
        check_buffer x = check_rows(&rng, CHECK_NORMAL, ADM_F16, n_rows, d, 0);
        check_buffer expected = check_new(n * sizeof(float), 0);
        adm_hadamard_reference(ADM_F16, x.data, n_rows, d, (float *)(void *)expected.data);
        CHECK_EACH_ROW(ADM_STAGE_HADAMARD, row)
        for (size_t slack = 0; slack <= 4; slack += 4) {
            check_case("F16, d=%u, n=%zu rows, slack=%zu", d, n_rows, slack);
            check_buffer y = check_new(n * sizeof(float), slack);
            row->fn.hadamard(ADM_F16, x.data, n_rows, d, (float *)(void *)y.data);
            assert_memory_equal(y.data, expected.data, n * sizeof(float));
            check_free(&y);
        }
        check_free(&x);
        check_free(&expected);
    }
}

/* With u = 2^-24 and L = log2(d): each of the L butterfly levels rounds every element once, so it adds at most u times
 * the norm of its result, and a level only scales the norm by sqrt(2); the final multiplication adds u for itself and u
 * for the rounded 1/sqrt(d). Hence ||fl(y) - y|| <= ((1+u)^(L+2) - 1) ||y||, for which (L+3) u is enough. A
 * product that underflows is off by up to 2^-150 more in each of d elements. */
static double allowed_error(uint32_t d, double norm) { return (log2(d) + 3) * 0x1p-24 * norm + sqrt(d) * 0x1p-150; }

static void the_reference_is_the_definition(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    for (int t = 0; t < 3; t++)
        for (int h = 0; h < 3; h++)
            for (int k = 0; k < CHECK_HUGE; k++) {
                uint32_t d = check_head_dims[h];
                check_buffer x = check_rows(&rng, (check_kind)k, check_dtypes[t], MAX_ROWS, d, 1);
                float y[MAX_ROWS * 256];
                double exact[MAX_ROWS * 256];
                adm_hadamard_reference(check_dtypes[t], x.data, MAX_ROWS, d, y);
                adm_hadamard_exact(check_dtypes[t], x.data, MAX_ROWS, d, exact);
                for (size_t r = 0; r < MAX_ROWS; r++) {
                    double error = 0, norm = 0;
                    for (size_t i = r * d; i < (r + 1) * d; i++) {
                        error += (y[i] - exact[i]) * (y[i] - exact[i]);
                        norm += exact[i] * exact[i];
                    }
                    if (sqrt(error) > allowed_error(d, sqrt(norm)))
                        fail_msg("%s, d=%u, %s inputs: error %g of norm %g", adm_dtype_name(check_dtypes[t]), d,
                                 check_kind_name((check_kind)k), sqrt(error), sqrt(norm));
                }
                check_free(&x);
            }
}

/* The matrix itself, from the recursion H_2n = [H H; H -H] rather than from the parity that hadamard.c uses. */
static void unit_vectors_give_the_sylvester_columns(void **state) {
    (void)state;
    for (int h = 0; h < 3; h++) {
        uint32_t d = check_head_dims[h];
        static signed char sylvester[256][256];
        sylvester[0][0] = 1;
        for (uint32_t n = 1; n < d; n *= 2)
            for (uint32_t i = 0; i < n; i++)
                for (uint32_t j = 0; j < n; j++) {
                    sylvester[i + n][j] = sylvester[i][j + n] = sylvester[i][j];
                    sylvester[i + n][j + n] = (signed char)-sylvester[i][j];
                }
        const float scale = (float)(1.0 / sqrt(d));
        for (uint32_t j = 0; j < d; j++) {
            float unit[256] = {0}, y[256];
            double exact[256];
            unit[j] = 1;
            adm_hadamard_reference(ADM_F32, unit, 1, d, y);
            adm_hadamard_exact(ADM_F32, unit, 1, d, exact);
            for (uint32_t i = 0; i < d; i++) {
                assert_true(y[i] == (float)sylvester[i][j] * scale);
                assert_true(fabs(exact[i] * sqrt(d) - sylvester[i][j]) < 0x1p-50);
            }
        }
    }
}

/* Two transforms give back the vector and one keeps its norm: each adds at most allowed_error(). */
static void it_is_an_orthonormal_involution(void **state) {
    (void)state;
    adm_rng rng;
    CHECK_EACH_ROW_WITH(ADM_STAGE_HADAMARD, row, rng)
    for (int h = 0; h < 3; h++)
        for (int k = 0; k <= CHECK_CONSTANT; k++) {
            uint32_t d = check_head_dims[h];
            float x[256], y[256], back[256];
            check_case("F32, d=%u, n=1, %s inputs", d, check_kind_name((check_kind)k));
            for (uint32_t i = 0; i < d; i++) x[i] = check_value(&rng, (check_kind)k, ADM_F32, i);
            row->fn.hadamard(ADM_F32, x, 1, d, y);
            row->fn.hadamard(ADM_F32, y, 1, d, back);
            double norm_x = 0, norm_y = 0, difference = 0;
            for (uint32_t i = 0; i < d; i++) {
                norm_x += (double)x[i] * x[i];
                norm_y += (double)y[i] * y[i];
                difference += ((double)back[i] - x[i]) * ((double)back[i] - x[i]);
            }
            double allowed = allowed_error(d, sqrt(norm_x)) + row->tolerance * sqrt(norm_x);
            assert_true(fabs(sqrt(norm_y) - sqrt(norm_x)) <= allowed);
            assert_true(sqrt(difference) <= 2 * allowed);
        }
}

static void the_model_counts_what_moves(void **state) {
    (void)state;
    assert_true(adm_hadamard_bytes(ADM_F16, 40, 128) == 40.0 * 128 * 6);
    assert_true(adm_hadamard_bytes(ADM_F32, 1, 64) == 64.0 * 8);
    assert_true(adm_hadamard_flops(3, 128) == 3.0 * 128 * 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_equals_the_reference),  cmocka_unit_test(large_results_equal_the_reference),
        cmocka_unit_test(the_reference_is_the_definition), cmocka_unit_test(unit_vectors_give_the_sylvester_columns),
        cmocka_unit_test(it_is_an_orthonormal_involution), cmocka_unit_test(the_model_counts_what_moves),
    };
    return cmocka_run_group_tests_name("hadamard", tests, NULL, NULL);
}
