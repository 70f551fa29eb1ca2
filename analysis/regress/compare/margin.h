/* margin.h: the margin within which a time counts as equivalent. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_MARGIN_H
#define ADM_ANALYSIS_REGRESS_COMPARE_MARGIN_H

#include "analysis/regress/compare/comparison.h"

/* The margin of a time: forced, calibrated on this machine, or the default. */
adm_status adm_compare_margin(const adm_series_set *base, const adm_compare_options *options, adm_compare_row *row,
                              adm_error *err);

#endif
