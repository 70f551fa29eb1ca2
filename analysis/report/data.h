/* data.h: what a report shows, gathered from the database into one JSON document, "adamas-report/1".
 *
 *     store --adm_report_data()--> document --adm_report_html()--> page
 *                                            --json------------> standard output
 *
 * The document's fields are described in web-report/README.md. The program's tables and the page's charts are both
 * drawn from it, so they cannot disagree. */
#ifndef ADM_ANALYSIS_REPORT_DATA_H
#define ADM_ANALYSIS_REPORT_DATA_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/cli/command.h"
#include "core/store/store.h"

/* Gathers the document into *out, which the caller releases with json_decref(); NULL on failure.
 *
 * Which figures: with n_run_ids 0, for each trace those of the latest complete replay run that measured it, or, if
 * none is complete, of the latest that did, and for each GPU those of its latest profiles (report_gpu.h); otherwise
 * those of the runs named. `database` is the name shown. progress: begun; all zero shows nothing.
 *
 * ADM_EINPUT: the database holds no run, or not the one asked for; the sentence says what to do. */
adm_status adm_report_data(adm_store *store, const char *database, const uint32_t *run_ids, size_t n_run_ids,
                           const char *baseline, adm_progress *progress, json_t **out, adm_error *err);

#endif
