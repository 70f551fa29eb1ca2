/* side.h: one side of a comparison: the processes whose times are judged. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_SIDE_H
#define ADM_ANALYSIS_REGRESS_COMPARE_SIDE_H

#include <stdbool.h>
#include <stddef.h>

#include "analysis/regress/series.h"
#include "analysis/regress/statistics/shift.h"
#include "core/base/error.h"

/* The processes of one side of a series as ascending samples; release with adm_compare_free_side(). Runs whose unit was
 * throttled are left out and counted, and so are contended ones while at least five are not. scale: a factor for the samples of
 * each run of the set, or NULL. */
typedef struct adm_compare_side {
    adm_process *process;
    double **sample;
    const char **only; /* what each process measured: the set's run[].only */
    size_t n, n_throttled, n_not_ok;
    size_t n_samples_out; /* of the processes that are left in, taken on a shared core */
    bool has_zero;
} adm_compare_side;
adm_status adm_compare_read_side(const adm_series_set *set, const adm_series *series, const double *scale,
                                 adm_compare_side *side, adm_error *err);
void adm_compare_free_side(adm_compare_side *side);

#endif
