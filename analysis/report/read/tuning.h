/* tuning.h: sessions of `adamas tune`, for a report's document. */
#ifndef ADM_ANALYSIS_REPORT_READ_TUNING_H
#define ADM_ANALYSIS_REPORT_READ_TUNING_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Sets document["tunings"], the sessions that are shown, and document["candidates"], a row for each of their candidates: see
 * web-report/README.md. Of all runs the latest few with a candidate of one's own, or those among run_ids. */
adm_status adm_report_tuning_read(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *document,
                                  adm_error *err);

#endif
