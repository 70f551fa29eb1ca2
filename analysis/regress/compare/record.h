/* record.h: what a check decided goes into its database, so that history and report know it without the samples. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_RECORD_H
#define ADM_ANALYSIS_REGRESS_COMPARE_RECORD_H

#include "analysis/regress/compare/comparison.h"

/* Appends the comparison of check comparison->check_uuid and its rows to the batch. The sets are those of its sides, in the
 * same database; both may be empty if nothing was compared. */
adm_status adm_comparison_record(const adm_comparison *comparison, const adm_series_set *base, const adm_series_set *cand,
                                 adm_store *store, adm_error *err);

#endif
