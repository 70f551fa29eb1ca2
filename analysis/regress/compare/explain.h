/* explain.h: why a time changed. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_EXPLAIN_H
#define ADM_ANALYSIS_REGRESS_COMPARE_EXPLAIN_H

#include "analysis/regress/compare/comparison.h"

/* Fills row->why, and the change in cycles of a time that changed. */
adm_status adm_compare_explain(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *options,
                               adm_compare_row *row, adm_error *err);

#endif
