/* change_points.h: where a series of runs changed its level: E-divisive means.
 *
 * Hierarchical bisection by the energy statistic of Matteson and James (JASA 109, 2014) with exponent 2, which is the one
 * that sees means; the largest over all splits is tested by permuting. Differences from the paper, each for a reason:
 *   - steps in one direction that a straight line fits better are one drift;
 *   - values are clipped at 4 robust deviations from their segment's median, since one bad run is no change of level;
 *   - runs of one machine are correlated, and plain permutation would mistake that for changes. So the
 *     innovations of a first-order autoregression are permuted. Its coefficient is that of the whole series, one standard error
 *     above the estimate, but at most 0.65, and 0.5 with fewer than 50 runs: with more, a short series could prove nothing. */
#ifndef ADM_ANALYSIS_REGRESS_STATISTICS_CHANGE_POINTS_H
#define ADM_ANALYSIS_REGRESS_STATISTICS_CHANGE_POINTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef struct adm_change_options {
    double min_ratio;         /* smallest change of the median that counts, 0.02 */
    size_t min_points;        /* on either side of a change point, 3: one or two runs after prove nothing */
    uint32_t n_permutations;  /* 499 */
    double level;             /* largest p of a change point, 0.004 */
    uint64_t seed;
    const size_t *group;      /* [n] NULL, or equal for neighbours that are replicates: no change lies between them */
} adm_change_options;

#define ADM_CHANGE_DEFAULTS {.min_ratio = 0.02, .min_points = 3, .n_permutations = 499, .level = 0.004, .seed = 1}

typedef struct adm_change_point {
    size_t at;             /* the first value after the change */
    double before, after;  /* medians of the segments on either side */
    double p;              /* of the permutation test */
    size_t from, to;       /* where the segments before and after it begin and end */
    bool is_drift;         /* a straight line from `from` to `to` fits better than steps: before and after are its ends */
} adm_change_point;

/* Finds the change points of value [n], in order. On a log scale if all values are above 0; else on that of the values
 * divided by the median of their magnitudes. *out is freshly allocated (NULL if there are none): adm_free(). NaN is not
 * allowed. ADM_EENVIRONMENT: out of memory. */
adm_status adm_change_points(const double *value, size_t n, const adm_change_options *options, adm_change_point **out,
                             size_t *n_out, adm_error *err);

#endif
