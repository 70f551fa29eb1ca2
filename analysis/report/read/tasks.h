/* tasks.h: what `traces/model/evaluate.py` measured with the model in the loop, for a report's document. Shared by the
 * files that gather it; nothing else. */
#ifndef ADM_ANALYSIS_REPORT_READ_TASKS_H
#define ADM_ANALYSIS_REPORT_READ_TASKS_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Appends {"run_id", "model"} to `evaluations`: with n_run_ids 0 the latest complete evaluation of every model, own
 * ones before recorded, else those
 * of the runs named that are evaluations. */
adm_status adm_report_tasks_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *evaluations,
                                   adm_error *err);

/* Fills document["tasks"] for the document's evaluations: see web-report/README.md. */
adm_status adm_report_tasks_read(adm_store *store, json_t *document, adm_error *err);

#endif
