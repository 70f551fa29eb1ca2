/* judge.h: the decision on one series: what kind of figure it is, which margin holds, and the verdict.
 *
 *   time                 noisy: an interval against a margin, and a test adjusted over the whole family
 *   counted, compiled    exact, or within a tight tolerance that is stated
 *   quality              within a tight tolerance: faster but less accurate is a regression
 *   the rest             no verdict; clocks, stalls and bytes say why a time changed */
#ifndef ADM_ANALYSIS_REGRESS_STATISTICS_JUDGE_H
#define ADM_ANALYSIS_REGRESS_STATISTICS_JUDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analysis/regress/statistics/shift.h"
#include "core/base/error.h"

typedef enum adm_figure { ADM_FIGURE_CONTEXT, ADM_FIGURE_TIME, ADM_FIGURE_COUNT, ADM_FIGURE_QUALITY } adm_figure;

/* What kind a metric is. *tolerance is the relative difference up to which counts and quality are equal; 0: exactly. */
adm_figure adm_figure_of(const char *metric, const char *unit, const char *better, const char *stage, double *tolerance);

typedef enum adm_verdict {
    ADM_VERDICT_EQUIVALENT,
    ADM_VERDICT_IMPROVED,
    ADM_VERDICT_REGRESSED,
    ADM_VERDICT_INCONCLUSIVE
} adm_verdict;

/* "equivalent", "improved", "regressed", "inconclusive" */
const char *adm_verdict_name(adm_verdict verdict);

/* Fewer processes per side prove nothing: the smallest p of 5 against 5 is 0.008, before it is adjusted. */
enum { ADM_MIN_PROCESSES = 5 };

/* The decision on a time of which less is better. p_adjusted: over the family. margin and alpha as ratios.
 *   regressed     p_adjusted <= alpha, the interval is above 0 and the shift above the margin
 *   improved      the same downwards
 *   equivalent    the interval lies within the margin
 *   inconclusive  everything else */
adm_verdict adm_judge_time(const adm_shift *shift, double p_adjusted, double margin, double alpha);

/* The decision on a figure that does not scatter, better "lower" or "higher". */
adm_verdict adm_judge_exact(double base, double cand, double tolerance, bool lower_is_better);

/* The half width within which comparisons of a program with itself, n_a against n_b processes drawn from these, lie with
 * probability 0.95: the margin below which differences are this machine's own. process [n] are runs of one program in the
 * order in which they ran; draws are seeded. *margin is a ratio, at least `min`. ADM_EENVIRONMENT: out of memory. */
adm_status adm_margin_from_itself(const adm_process *process, size_t n, double min, uint64_t seed, double *margin,
                                  adm_error *err);

#endif
