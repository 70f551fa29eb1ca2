/* shift.h: how far one sample of processes lies from another, and how sure that is.
 *
 *     process      | samples ... |   -> its median     one number a process: samples inside one process share its memory
 *     baseline  A  a1 a2 ... am                        layout, clocks and luck, so they are no replicates
 *     candidate B  b1 b2 ... bn   -> Hodges-Lehmann shift: the median of all b_j - a_i
 *
 * All on the log scale, so that a shift is a ratio and B against A is the negative of A against B. */
#ifndef ADM_ANALYSIS_REGRESS_SHIFT_H
#define ADM_ANALYSIS_REGRESS_SHIFT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* One process: its samples, ascending, all finite and above 0. Borrowed. */
typedef struct adm_process {
    const double *sample;
    size_t n; /* at least 1 */
} adm_process;

typedef struct adm_shift_options {
    double confidence;     /* of the interval, 0.99 */
    uint32_t n_resamples;  /* of the bootstrap, 1999 */
    uint64_t seed;         /* the same seed gives the same interval on every machine */
} adm_shift_options;

#define ADM_SHIFT_DEFAULTS {.confidence = 0.99, .n_resamples = 1999, .seed = 1}

/* Logarithms of candidate / baseline. */
typedef struct adm_shift {
    double shift;      /* Hodges-Lehmann */
    double low, high;  /* its interval */
    double p;          /* two-sided Mann-Whitney over the processes' medians */
} adm_shift;

/* Compares two sides. The interval is that of a hierarchical bootstrap, processes first and then samples inside each, as
 * far from the shift as its percentiles are, widened by sqrt(n/(n-1)) * t/z (Hesterberg, The American Statistician 69(4),
 * 2015, section 5.3): plain percentiles of ten values are too narrow. With one process on a side, low and high are infinite.
 * ADM_EENVIRONMENT: out of memory. ADM_EINTERNAL: an empty side or process. */
adm_status adm_shift_compare(const adm_process *base, size_t n_base, const adm_process *cand, size_t n_cand,
                             const adm_shift_options *options, adm_shift *out, adm_error *err);

/* The median of all y_j - x_i; scratch holds n_x * n_y values. n_x, n_y >= 1. */
double adm_hodges_lehmann(const double *x, size_t n_x, const double *y, size_t n_y, double *scratch);

/* Two-sided p of the Mann-Whitney U test. Exact without ties and with at most 50 values per side; else the normal
 * approximation with correction for ties and continuity, which for few values errs to the large side. 1 if a side is empty
 * or all values are equal. Values are not NaN. ADM_EENVIRONMENT: out of memory. */
adm_status adm_mann_whitney(const double *x, size_t n_x, const double *y, size_t n_y, double *p, adm_error *err);

/* Replaces the p values of a family of tests by those adjusted for the false discovery rate (Benjamini and Hochberg, 1995).
 * ADM_EENVIRONMENT: out of memory. */
adm_status adm_benjamini_hochberg(double *p, size_t n, adm_error *err);

#endif
