/* test_shift.c: the comparison of two samples of processes. */
#include "tests/support/stage_check.h"

#include "analysis/regress/statistics/differences.h"
#include "analysis/regress/statistics/quantile.h"
#include "analysis/regress/statistics/shift.h"
#include "core/stats/stats.h"

static adm_error err;

static double u_of(const double *x, size_t n_x, const double *y, size_t n_y) {
    double u = 0;
    for (size_t i = 0; i < n_x; i++)
        for (size_t j = 0; j < n_y; j++) u += y[j] > x[i] ? 1 : y[j] == x[i] ? 0.5 : 0;
    return u;
}

/* The two-sided p by trying every way to choose n_x of the pooled values. */
static double by_enumeration(const double *pool, size_t n, size_t n_x, double u) {
    double pairs = (double)n_x * (double)(n - n_x), far = fabs(u - pairs / 2);
    size_t n_far = 0, n_all = 0;
    for (uint32_t mask = 0; mask < 1u << n; mask++) {
        double x[16], y[16];
        size_t i = 0, j = 0;
        for (size_t k = 0; k < n; k++) {
            if (mask >> k & 1) x[i++] = pool[k];
            else y[j++] = pool[k];
        }
        if (i != n_x) continue;
        n_all++;
        n_far += fabs(u_of(x, i, y, j) - pairs / 2) >= far - 1e-9;
    }
    return (double)n_far / (double)n_all;
}

static void mann_whitney_is_exact(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int round = 0; round < 30; round++) {
        double pool[11], p;
        size_t n_x = 2 + adm_rng_below(&rng, 5), n_y = 2 + adm_rng_below(&rng, 4);
        for (size_t i = 0; i < n_x + n_y; i++) pool[i] = adm_rng_normal(&rng) + (i < n_x ? 0 : 1);
        assert_int_equal(adm_mann_whitney(pool, n_x, pool + n_x, n_y, &p, &err), ADM_OK);
        assert_true(fabs(p - by_enumeration(pool, n_x + n_y, n_x, u_of(pool, n_x, pool + n_x, n_y))) < 1e-12);
    }
    double low[10], high[10], p;
    for (int i = 0; i < 10; i++) low[i] = i, high[i] = 100 + i;
    adm_mann_whitney(low, 10, high, 10, &p, &err);
    assert_true(fabs(p - 2.0 / 184756) < 1e-15); /* 2 / (20 choose 10) */
}

/* With ties the approximation is on the safe side of the exact answer in the tail, and symmetric. */
static void mann_whitney_with_ties(void **state) {
    (void)state;
    double x[] = {1, 1, 2, 2, 3}, y[] = {3, 4, 4, 5, 5}, same[] = {7, 7, 7}, p, q;
    adm_mann_whitney(x, 5, y, 5, &p, &err);
    adm_mann_whitney(y, 5, x, 5, &q, &err);
    assert_true(p == q && p > 0.008 && p < 0.03); /* the exact one is 4 / 252 = 0.016 */
    adm_mann_whitney(same, 3, same, 3, &p, &err);
    assert_true(p == 1);
    adm_mann_whitney(x, 5, y, 0, &p, &err);
    assert_true(p == 1);
}

static void quantiles_of_distributions(void **state) {
    (void)state;
    /* Tables of the distributions. */
    assert_true(fabs(adm_normal_quantile(0.995) - 2.5758293035489) < 1e-12);
    assert_true(fabs(adm_normal_quantile(1e-9) + 5.9978070150077) < 1e-10 && adm_normal_quantile(0.5) == 0);
    assert_true(fabs(adm_student_quantile(0.995, 18) - 2.878440472738) < 1e-8);
    assert_true(fabs(adm_student_quantile(0.975, 1) - 12.70620473617) < 1e-7);
    assert_true(fabs(adm_student_quantile(0.05, 4) + 2.131846786327) < 1e-8);
    assert_true(fabs(adm_student_quantile(0.995, 1e6) - adm_normal_quantile(0.995)) < 1e-4);
}

static void medians_and_shifts(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int round = 0; round < 300; round++) {
        double v[40], sorted[40];
        size_t n = 1 + adm_rng_below(&rng, 40);
        for (size_t i = 0; i < n; i++) v[i] = sorted[i] = (double)adm_rng_below(&rng, round % 2 ? 5 : 1000000);
        adm_distribution d = adm_distribution_of(sorted, n);
        assert_true(adm_median(v, n) == d.median);
        size_t k = adm_rng_below(&rng, n);
        assert_true(adm_select(v, n, k) == sorted[k]);
    }
    double x[] = {1, 2, 10}, y[] = {4, 6}, scratch[128];
    assert_true(adm_difference_median(x, 3, y, 2, scratch) == 2.5); /* of -6 -4 2 3 4 5 */
    assert_true(adm_difference_median(y, 2, x, 3, scratch) == -2.5);
}

/* Every order statistic, against all differences sorted; with ties on every other round. */
static void differences_are_selected(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int round = 0; round < 200; round++) {
        static double x[90], y[90], all[8100], scratch[2 * 180 + 64];
        size_t n_x = 1 + adm_rng_below(&rng, 90), n_y = 1 + adm_rng_below(&rng, 90), n = 0;
        assert_true(adm_difference_scratch(n_x, n_y) <= sizeof scratch / sizeof scratch[0]);
        for (size_t i = 0; i < n_x; i++) x[i] = round % 2 ? (double)adm_rng_below(&rng, 4) : adm_rng_normal(&rng);
        for (size_t i = 0; i < n_y; i++) y[i] = round % 2 ? (double)adm_rng_below(&rng, 4) : adm_rng_normal(&rng);
        adm_distribution_of(x, n_x); /* sorts */
        adm_distribution_of(y, n_y);
        for (size_t i = 0; i < n_x; i++)
            for (size_t j = 0; j < n_y; j++) all[n++] = y[j] - x[i];
        adm_distribution d = adm_distribution_of(all, n);
        for (size_t k = 0; k < n; k += 1 + n / 50) assert_true(adm_difference_select(x, n_x, y, n_y, k, scratch) == all[k]);
        assert_true(adm_difference_select(x, n_x, y, n_y, n - 1, scratch) == all[n - 1]);
        assert_true(fabs(adm_difference_median(x, n_x, y, n_y, scratch) - d.median) < 1e-15);
    }
}

/* What is too few for the confidence has no interval, and no p below the smallest. */
static void few_processes_prove_little(void **state) {
    (void)state;
    double a[8], b[8];
    adm_process base[8], cand[8];
    for (int i = 0; i < 8; i++) {
        a[i] = 100 + i;
        b[i] = 200 + i;
        base[i] = (adm_process){&a[i], 1};
        cand[i] = (adm_process){&b[i], 1};
    }
    for (size_t n = 1; n <= 8; n++) {
        adm_shift s;
        assert_int_equal(adm_shift_compare(base, n, cand, n, 0.99, &s, &err), ADM_OK);
        assert_true(fabs(s.p - adm_smallest_p(n, n)) < 1e-12);
        assert_int_equal(isinf(s.low) && isinf(s.high), n < 5); /* 1 / (8 over 4) is above 0.005 */
    }
    assert_true(fabs(adm_smallest_p(5, 5) - 2.0 / 252) < 1e-15 && fabs(adm_smallest_p(10, 10) - 2.0 / 184756) < 1e-15);
}

static void benjamini_hochberg(void **state) {
    (void)state;
    double p[] = {0.04, 0.01, 0.5, 0.02};
    assert_int_equal(adm_benjamini_hochberg(p, 4, &err), ADM_OK);
    const double want[] = {0.04 * 4 / 3, 0.04, 0.5, 0.04};
    for (int i = 0; i < 4; i++) assert_true(fabs(p[i] - want[i]) < 1e-15);
    assert_int_equal(adm_benjamini_hochberg(p, 0, &err), ADM_OK);
}

enum { SIDE = 10, SAMPLES = 15 };

/* Ten processes of fifteen samples: a process is off by 1%, a sample by 2%. */
static void make_side(adm_rng *rng, double shift, double (*sample)[SAMPLES], adm_process *side) {
    for (int i = 0; i < SIDE; i++) {
        double own = shift + 0.01 * adm_rng_normal(rng);
        for (int k = 0; k < SAMPLES; k++) sample[i][k] = 1000 * exp(own + 0.02 * adm_rng_normal(rng));
        adm_distribution_of(sample[i], SAMPLES);
        side[i] = (adm_process){sample[i], SAMPLES};
    }
}

/* The 99% interval holds the truth in 99% of cases: 400 cases, and at most 12 misses have 99.9% probability if so. The seed is
 * fixed, so that the test does not fail one day in a thousand. */
static void intervals_cover(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, 20);
    int n_missed = 0;
    double width = 0;
    for (int round = 0; round < 400; round++) {
        static double a[SIDE][SAMPLES], b[SIDE][SAMPLES];
        adm_process base[SIDE], cand[SIDE];
        make_side(&rng, 0, a, base);
        make_side(&rng, 0.05, b, cand);
        adm_shift s;
        assert_int_equal(adm_shift_compare(base, SIDE, cand, SIDE, 0.99, &s, &err), ADM_OK);
        assert_true(s.low <= s.shift && s.shift <= s.high);
        n_missed += s.low > 0.05 || s.high < 0.05;
        width += (s.high - s.low) / 400;
    }
    print_message("# %d of 400 intervals missed, mean width %.4f\n", n_missed, width);
    assert_true(n_missed <= 12 && width < 0.06);
}

/* The same sides give the same interval; swapped sides the negative. */
static void comparisons_repeat(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    static double a[SIDE][SAMPLES], b[SIDE][SAMPLES];
    adm_process base[SIDE], cand[SIDE];
    make_side(&rng, 0, a, base);
    make_side(&rng, 0.02, b, cand);
    adm_shift one, two, back;
    adm_shift_compare(base, SIDE, cand, SIDE, 0.99, &one, &err);
    adm_shift_compare(base, SIDE, cand, SIDE, 0.99, &two, &err);
    adm_shift_compare(cand, SIDE, base, SIDE, 0.99, &back, &err);
    assert_true(one.low == two.low && one.high == two.high && one.p == two.p);
    assert_true(fabs(one.shift + back.shift) < 1e-12 && one.p == back.p);

    adm_shift_compare(base, 1, cand, SIDE, 0.99, &one, &err);
    assert_true(isinf(one.low) && isinf(one.high) && isfinite(one.shift));
    assert_int_equal(adm_shift_compare(base, 0, cand, SIDE, 0.99, &one, &err), ADM_EINTERNAL);
    base[3].n = 0;
    assert_int_equal(adm_shift_compare(base, SIDE, cand, SIDE, 0.99, &one, &err), ADM_EINTERNAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mann_whitney_is_exact),      cmocka_unit_test(mann_whitney_with_ties),
        cmocka_unit_test(quantiles_of_distributions), cmocka_unit_test(medians_and_shifts),
        cmocka_unit_test(benjamini_hochberg),         cmocka_unit_test(intervals_cover),
        cmocka_unit_test(comparisons_repeat),         cmocka_unit_test(differences_are_selected),
        cmocka_unit_test(few_processes_prove_little),
    };
    return cmocka_run_group_tests_name("shift", tests, NULL, NULL);
}
