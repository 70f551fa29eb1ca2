/* validate_show.h: a validation of the cost model, for a terminal, as JSON, and as rows of the database. */
#ifndef ADM_ANALYSIS_SERVING_VALIDATE_SHOW_H
#define ADM_ANALYSIS_SERVING_VALIDATE_SHOW_H

#include <jansson.h>

#include "analysis/cost/validate.h"
#include "core/store/store.h"

/* other: NULL where no other GPU was predicted. */
void adm_validation_print(const adm_cost *cost, const adm_cost *other, const adm_validation *validation);

/* NULL when out of memory. */
json_t *adm_validation_json(const adm_cost *cost, const adm_cost *other, const adm_validation *validation);

adm_status adm_validation_record(adm_store *store, int64_t run_id, const adm_cost *cost, const adm_validation *validation,
                                 adm_error *err);

#endif
