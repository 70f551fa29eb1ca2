/* whole.h: decode steps of whole models as they were measured, beside what the cost model says. */
#ifndef ADM_ANALYSIS_SERVING_WHOLE_H
#define ADM_ANALYSIS_SERVING_WHOLE_H

#include <jansson.h>

#include "analysis/serving/step_time.h"
#include "core/store/store.h"

typedef struct adm_whole_row {
    const adm_cost_whole *measured; /* borrowed from the cost model */
    double predicted_ns;
} adm_whole_row;

/* A row for each step of a known model (metric token_time_ns) in the calibration run; *rows is released with adm_free(). The
 * first ADM_DENSE_LAYERS layers are dense. The model's matrix products come from the same run, where it has them. */
adm_status adm_whole_compare(const adm_cost *cost, double compute_share, adm_whole_row **rows, size_t *n, adm_error *err);

/* Rows of the table whole_validation. */
adm_status adm_whole_record(adm_store *store, int64_t run_id, const adm_cost *cost, const adm_whole_row *rows, size_t n,
                            adm_error *err);

void adm_whole_print(const adm_whole_row *rows, size_t n);

/* NULL when out of memory. */
json_t *adm_whole_json(const adm_whole_row *rows, size_t n);

#endif
