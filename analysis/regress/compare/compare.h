/* compare.h: two sets of runs, one verdict per series and one for the whole.
 *
 *     baseline set --+                          +-- rows of times: shift, interval, p adjusted over all of them
 *                    +-- same machine, shape? --+-- rows of counts and quality: exact or tight
 *     candidate set -+                          +-- why, for rows that changed
 *
 * Reads nothing but the two sets; writes nothing. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_COMPARE_H
#define ADM_ANALYSIS_REGRESS_COMPARE_COMPARE_H

#include "analysis/regress/compare/comparison.h"

/* Refuses with ADM_EINPUT and what differs: other shapes or traces; other machines (unless across_machines, or only compiled
 * figures and quality are compared); two sides that share no series. Release with adm_comparison_free(), also after a
 * failure. */
adm_status adm_compare(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *options,
                       adm_comparison *out, adm_error *err);

#endif
