/* refuse.h: two sides that are not about the same thing are refused. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_REFUSE_H
#define ADM_ANALYSIS_REGRESS_COMPARE_REFUSE_H

#include "analysis/regress/compare/comparison.h"

/* Whether the two sides may be compared at all; also fills out->machine. */
adm_status adm_compare_refuse(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *options,
                              adm_comparison *out, adm_error *err);

#endif
