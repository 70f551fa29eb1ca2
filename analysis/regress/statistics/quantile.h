/* quantile.h: quantiles of the normal distribution, of Student's t, and of values. */
#ifndef ADM_ANALYSIS_REGRESS_STATISTICS_QUANTILE_H
#define ADM_ANALYSIS_REGRESS_STATISTICS_QUANTILE_H

#include <stddef.h>

/* Quantile of the standard normal, 0 < q < 1 (Wichura's AS 241, about 1e-15), and of Student's t with df >= 1 degrees of
 * freedom (by bisection of its distribution function, 1e-10). */
double adm_normal_quantile(double q);
double adm_student_quantile(double q, double df);

/* The k-th smallest (from 0) of n values, which it reorders. n >= 1, k < n. */
double adm_select(double *values, size_t n, size_t k);

/* The median of n >= 1 values, which it reorders; the mean of the two middle ones for an even n. */
double adm_median(double *values, size_t n);

#endif
