/* test_stats.c: the summary of a set of values. */
#include "tests/support/stage_check.h"

#include "core/stats/stats.h"

static void quantiles_interpolate(void **state) {
    (void)state;
    double values[] = {40, 10, 30, 20};
    adm_distribution d = adm_distribution_of(values, 4);
    assert_int_equal(d.n, 4);
    assert_true(d.min == 10 && d.max == 40 && d.mean == 25 && d.median == 25);
    /* Rank 0.1 * 3 = 0.3 lies 0.3 of the way from 10 to 20. */
    assert_true(fabs(d.p10 - 13) < 1e-12 && fabs(d.p90 - 37) < 1e-12);
    assert_true(fabs(d.p01 - 10.3) < 1e-12 && fabs(d.p99 - 39.7) < 1e-12);
}

static void one_and_none(void **state) {
    (void)state;
    double value = -7;
    adm_distribution one = adm_distribution_of(&value, 1), none = adm_distribution_of(NULL, 0);
    assert_true(one.n == 1 && one.min == -7 && one.p01 == -7 && one.median == -7 && one.p99 == -7 && one.mean == -7);
    assert_true(none.n == 0 && none.mean == 0 && none.max == 0);
}

/* Whatever the values: quantiles ascend, lie within the range, and do not depend on the order of the values. */
static void order_does_not_matter(void **state) {
    (void)state;
    adm_rng rng;
    adm_rng_seed(&rng, check_seed());
    for (int round = 0; round < 200; round++) {
        double values[101], shuffled[101];
        size_t n = 1 + adm_rng_below(&rng, 101);
        check_case("round %d, n=%zu", round, n);
        for (size_t i = 0; i < n; i++)
            values[i] = shuffled[i] = adm_rng_normal(&rng) * (double)(1 + adm_rng_below(&rng, 1000000));
        for (size_t i = n; i > 1; i--) {
            size_t j = adm_rng_below(&rng, i);
            double other = shuffled[i - 1];
            shuffled[i - 1] = shuffled[j];
            shuffled[j] = other;
        }
        adm_distribution a = adm_distribution_of(values, n), b = adm_distribution_of(shuffled, n);
        assert_true(a.mean == b.mean && a.p01 == b.p01 && a.p05 == b.p05 && a.median == b.median && a.p99 == b.p99);
        assert_true(a.min <= a.p01 && a.p01 <= a.p05 && a.p05 <= a.p10 && a.p10 <= a.median && a.median <= a.p90 &&
                    a.p90 <= a.p95 && a.p95 <= a.p99 && a.p99 <= a.max && a.min <= a.mean && a.mean <= a.max);
    }
    check_case_end();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantiles_interpolate), cmocka_unit_test(one_and_none),
                                       cmocka_unit_test(order_does_not_matter)};
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
