/* differences.h: order statistics of all differences between two samples, without making the differences.
 *
 *     y sorted  | y0 y1 y2 ...      row i of the matrix y[j] - x[i] ascends with j, column j descends with i, so that
 *     x sorted  | x0 x1 x2 ...      a walk along a staircase counts the differences up to a bound in n_x + n_y steps */
#ifndef ADM_ANALYSIS_REGRESS_STATISTICS_DIFFERENCES_H
#define ADM_ANALYSIS_REGRESS_STATISTICS_DIFFERENCES_H

#include <stddef.h>

/* The k-th smallest (from 0) of all y[j] - x[i]. x and y ascend and are finite; k < n_x * n_y. scratch holds
 * adm_difference_scratch(n_x, n_y) values. About log(n_x n_y) walks. */
double adm_difference_select(const double *x, size_t n_x, const double *y, size_t n_y, size_t k, double *scratch);
size_t adm_difference_scratch(size_t n_x, size_t n_y);

/* Their median: the Hodges-Lehmann shift of y against x. */
double adm_difference_median(const double *x, size_t n_x, const double *y, size_t n_y, double *scratch);

#endif
