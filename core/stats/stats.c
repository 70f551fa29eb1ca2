/* stats.c: the distribution of a set of values. */
#include "core/stats/stats.h"

#include "core/base/mem.h"

#include <stdlib.h>

static int ascending_order(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double adm_quantile_sorted(const double *ascending, size_t n, double q) {
    double rank = q * (double)(n - 1);
    size_t below = (size_t)rank;
    if (below + 1 >= n) return ascending[n - 1];
    double fraction = rank - (double)below;
    return ascending[below] + fraction * (ascending[below + 1] - ascending[below]);
}

adm_distribution adm_distribution_of(double *values, size_t n) {
    adm_distribution d = {0};
    if (n == 0) return d;
    adm_sort(values, n, sizeof *values, ascending_order);
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    d.n = n;
    d.mean = sum / (double)n;
    d.min = values[0];
    d.p01 = adm_quantile_sorted(values, n, 0.01);
    d.p05 = adm_quantile_sorted(values, n, 0.05);
    d.p10 = adm_quantile_sorted(values, n, 0.10);
    d.median = adm_quantile_sorted(values, n, 0.50);
    d.p90 = adm_quantile_sorted(values, n, 0.90);
    d.p95 = adm_quantile_sorted(values, n, 0.95);
    d.p99 = adm_quantile_sorted(values, n, 0.99);
    d.max = values[n - 1];
    return d;
}
