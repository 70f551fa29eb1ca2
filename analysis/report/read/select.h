/* select.h: which runs and traces a report is about. */
#ifndef ADM_ANALYSIS_REPORT_READ_SELECT_H
#define ADM_ANALYSIS_REPORT_READ_SELECT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Fills document["sessions"], and which runs they are of into document["runs"]: see adm_report_data(). */
adm_status adm_report_select(adm_store *store, const char *database, const uint32_t *run_ids, size_t n_run_ids,
                             json_t *document, adm_error *err);

#endif
