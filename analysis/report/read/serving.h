/* serving.h: simulated serving, and how far its times can be trusted, for a report's document. */
#ifndef ADM_ANALYSIS_REPORT_READ_SERVING_H
#define ADM_ANALYSIS_REPORT_READ_SERVING_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Appends to `servings` the runs of `adamas simulate` that are shown: of each model, GPU and trace the latest complete one, or
 * those among run_ids. */
adm_status adm_report_serving_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *servings,
                                     adm_error *err);

/* Sets document["served"], a row for each case of the servings, and document["validations"], the latest errors of the cost
 * model: see web-report/README.md. */
adm_status adm_report_serving_read(adm_store *store, json_t *document, adm_error *err);

#endif
