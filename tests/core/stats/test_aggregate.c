/* test_aggregate.c: distributions in bounded memory against those of all values. */
#include "tests/support/stage_check.h"

#include "core/stats/aggregate.h"

enum { MOST = 200000 };

static double *make_values(adm_rng *rng, int kind, size_t n) {
    double *value = malloc(n * sizeof *value);
    for (size_t i = 0; i < n; i++) {
        double x = adm_rng_normal(rng), u = adm_rng_unit(rng);
        value[i] = kind == 0 ? u : kind == 1 ? x : kind == 2 ? exp(4 * x) : kind == 3 ? floor(4 * u) / 4 : 1 - u * u * u * 1e-9;
    }
    return value;
}

static void take(adm_aggregate *a, const double *value, size_t n, size_t at_once) {
    for (size_t i = 0; i < n; i += at_once)
        assert_int_equal(adm_aggregate_add(a, value + i, n - i < at_once ? n - i : at_once, NULL), ADM_OK);
}

static void few_values_are_exact(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    static adm_bin scratch[ADM_AGGREGATE_MAX_BINS];
    for (size_t n = 0; n <= 1000; n = n * 3 + 1) {
        adm_aggregate a = {.max_exact = 1000};
        double *value = make_values(&rng, 1, n + 1);
        check_case("n=%zu", n);
        take(&a, value, n, 7);
        adm_distribution got = adm_aggregate_result(&a, scratch), wanted = adm_distribution_of(value, n);
        assert_memory_equal(&got, &wanted, sizeof got);
        assert_true(adm_aggregate_error(&a) == 0);
        adm_aggregate_free(&a);
        free(value);
    }
    check_case_end();
}

/* Each quantile against the exact one, within the error that the header states, of the neighbours it lies between. */
static void check_within(double got, const double *sorted, size_t n, double q, double error) {
    double rank = q * (double)(n - 1);
    size_t below = (size_t)rank, above = below + 1 < n ? below + 1 : below;
    double low = sorted[below] - error * fabs(sorted[below]), high = sorted[above] + error * fabs(sorted[above]);
    if (!(got >= low && got <= high)) fail_msg("quantile %g is %.17g, not in [%.17g, %.17g]", q, got, low, high);
}

static void many_values_are_within_the_stated_error(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    static adm_bin scratch[ADM_AGGREGATE_MAX_BINS];
    for (int kind = 0; kind < 5; kind++) {
        adm_aggregate a = {.max_exact = 500};
        double *value = make_values(&rng, kind, MOST);
        check_case("kind %d", kind);
        take(&a, value, MOST, 64);
        adm_distribution got = adm_aggregate_result(&a, scratch), wanted = adm_distribution_of(value, MOST);
        double error = adm_aggregate_error(&a);
        assert_true(a.n_bins <= ADM_AGGREGATE_MAX_BINS && a.value == NULL);
        assert_true(error > 0 && error <= (kind >= 3 ? 0x1p-10 : 0.01));
        assert_int_equal(got.n, MOST);
        assert_true(got.min == wanted.min && got.max == wanted.max);
        /* Two sums of MOST terms: the compensated one is as good as exact, the other off by MOST units at most. */
        assert_true(fabs(got.mean - wanted.mean) <= MOST * 0x1p-53 * fmax(fabs(got.max), fabs(got.min)));
        const double q[] = {0.01, 0.05, 0.10, 0.50, 0.90, 0.95, 0.99};
        const double v[] = {got.p01, got.p05, got.p10, got.median, got.p90, got.p95, got.p99};
        for (int i = 0; i < 7; i++) check_within(v[i], value, MOST, q[i], error); /* sorted by now */
        adm_aggregate_free(&a);
        free(value);
    }
    check_case_end();
}

/* Whatever the order and the portions in which they came, but for the last bits of the mean. */
static void the_order_does_not_matter(void **state) {
    (void)state;
    adm_rng rng = check_rng(__func__);
    static adm_bin scratch[ADM_AGGREGATE_MAX_BINS];
    for (int kind = 0; kind < 5; kind++) {
        enum { N = 30000 };
        adm_aggregate a = {.max_exact = 100}, b = {.max_exact = 100};
        double *value = make_values(&rng, kind, N);
        take(&a, value, N, 64);
        for (size_t i = N - 1; i > 0; i--) {
            size_t j = adm_rng_below(&rng, i + 1);
            double kept = value[i];
            value[i] = value[j];
            value[j] = kept;
        }
        take(&b, value, N, 1);
        adm_distribution x = adm_aggregate_result(&a, scratch), y = adm_aggregate_result(&b, scratch);
        assert_true(fabs(x.mean - y.mean) <= 0x1p-50 * fmax(fabs(x.max), fabs(x.min)));
        x.mean = y.mean;
        assert_memory_equal(&x, &y, sizeof x);
        adm_aggregate_free(&a);
        adm_aggregate_free(&b);
        free(value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_values_are_exact),
        cmocka_unit_test(many_values_are_within_the_stated_error),
        cmocka_unit_test(the_order_does_not_matter),
    };
    return cmocka_run_group_tests_name("aggregate", tests, NULL, NULL);
}
