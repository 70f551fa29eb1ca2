/* stats.h: the distribution of a set of values, as the database stores it. */
#ifndef ADM_CORE_STATS_H
#define ADM_CORE_STATS_H

#include <stddef.h>

typedef struct adm_distribution {
    size_t n;
    double mean, min, p01, p05, p10, median, p90, p95, p99, max;
} adm_distribution;

/* Summarises n values, sorting them in place. Quantiles interpolate linearly between order statistics (type 7 of
 * Hyndman and Fan, 1996; NumPy's default); the mean is summed in ascending order, so it does not depend on the order
 * in which the values came. n = 0 gives all zeros: callers store such a metric as not measured. No NaN. */
adm_distribution adm_distribution_of(double *values, size_t n);

/* The quantile, 0 <= q <= 1, of n >= 1 ascending values. */
double adm_quantile_sorted(const double *ascending, size_t n, double q);

#endif
