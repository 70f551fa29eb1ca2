/* compare_internal.h: what the files of the comparison share; nobody else includes it. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_INTERNAL_H
#define ADM_ANALYSIS_REGRESS_COMPARE_INTERNAL_H

#include "analysis/regress/compare.h"

/* Whether the two sides may be compared at all; also fills out->machine. */
adm_status adm_compare_refuse(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *options,
                              adm_comparison *out, adm_error *err);

/* The margin of a time: forced, calibrated on this machine, or the default. */
adm_status adm_compare_margin(const adm_series_set *base, const adm_compare_options *options, adm_compare_row *row,
                              adm_error *err);

#endif
