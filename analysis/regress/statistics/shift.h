/* shift.h: how far one sample of processes lies from another, and how sure that is.
 *
 *     process      | samples ... |   -> its median     one number a process: samples inside one process share its memory
 *     baseline  A  a1 a2 ... am                        layout, clocks and luck, so they are no replicates
 *     candidate B  b1 b2 ... bn   -> Hodges-Lehmann shift: the median of all b_j - a_i
 *
 * All on the log scale, so that a shift is a ratio and B against A is the negative of A against B. */
#ifndef ADM_ANALYSIS_REGRESS_STATISTICS_SHIFT_H
#define ADM_ANALYSIS_REGRESS_STATISTICS_SHIFT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* One process: its samples, ascending, all finite and above 0. Borrowed. */
typedef struct adm_process {
    const double *sample;
    size_t n; /* at least 1 */
} adm_process;

/* Logarithms of candidate / baseline. */
typedef struct adm_shift {
    double shift;      /* Hodges-Lehmann */
    double low, high;  /* its interval; infinite with too few processes */
    double p;          /* two-sided Mann-Whitney over the processes' medians */
} adm_shift;

/* Compares two sides. The interval holds the shifts that the Mann-Whitney test does not reject (Hodges and Lehmann, 1963): from
 * one ordered difference to another, whatever the distribution of the processes' medians is; exact with at most 50 processes
 * per side, by the normal approximation above. With too few processes for the confidence, such as four per side for 0.99, low
 * and high are infinite. Time n log n. ADM_EENVIRONMENT: out of memory. ADM_EINTERNAL: an empty side or process. */
adm_status adm_shift_compare(const adm_process *base, size_t n_base, const adm_process *cand, size_t n_cand, double confidence,
                             adm_shift *out, adm_error *err);

/* The smallest p that adm_shift_compare() can find with so many processes: 2 / (n_base + n_cand over n_base). */
double adm_smallest_p(size_t n_base, size_t n_cand);

/* Two-sided p of the Mann-Whitney U test. Exact without ties and with at most 50 values per side; else the normal
 * approximation with correction for ties and continuity, which for few values errs to the large side. 1 if a side is empty
 * or all values are equal. Values are not NaN. ADM_EENVIRONMENT: out of memory. */
adm_status adm_mann_whitney(const double *x, size_t n_x, const double *y, size_t n_y, double *p, adm_error *err);

/* Replaces the p values of a family of tests by those adjusted for the false discovery rate (Benjamini and Hochberg, 1995).
 * ADM_EENVIRONMENT: out of memory. */
adm_status adm_benjamini_hochberg(double *p, size_t n, adm_error *err);

#endif
