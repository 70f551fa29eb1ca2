/* sketches.h: the best sketch of a model's keys, as `adamas calibrate` measured it on held-out steps, for the document. */
#ifndef ADM_ANALYSIS_REPORT_READ_SKETCHES_H
#define ADM_ANALYSIS_REPORT_READ_SKETCHES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Appends to `sketches` a row for each budget of the latest complete calibration of every trace, or, with run_ids, of those
 * runs that are calibrations: see web-report/README.md. */
adm_status adm_report_sketches_read(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *sketches,
                                    adm_error *err);

#endif
