/* series.h: loading the series of runs from a database. */
#ifndef ADM_ANALYSIS_REGRESS_SERIES_H
#define ADM_ANALYSIS_REGRESS_SERIES_H

#include <stddef.h>
#include <stdint.h>

#include "analysis/regress/series_set.h"

/* Loads the series of these runs; `only_metric` not NULL: of this metric. */
adm_status adm_series_load(adm_store *store, const int64_t *run_ids, size_t n_run_ids, const char *only_metric,
                           adm_series_set *set, adm_error *err);

/* The raw samples of a point, ascending, but for the *n_left_out that were taken while something else used the core; its median
 * alone if none are stored. Values: adm_free(). */
adm_status adm_series_samples(const adm_series_set *set, const adm_point *point, double **values, size_t *n, size_t *n_left_out,
                              adm_error *err);

/* Why a point holds no figure; copied into out. */
adm_status adm_series_reason(const adm_series_set *set, const adm_point *point, char *out, size_t out_bytes, adm_error *err);

#endif
