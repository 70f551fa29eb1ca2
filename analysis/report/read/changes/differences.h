/* differences.h: the runs that a report shows against a baseline, for its document. */
#ifndef ADM_ANALYSIS_REPORT_READ_CHANGES_DIFFERENCES_H
#define ADM_ANALYSIS_REPORT_READ_CHANGES_DIFFERENCES_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Adds "differences" to the document: null without a baseline, else what `adamas compare --json` prints of the baseline's runs
 * and the others, with only_one_side[] in place of the rows that only one side has: {"side", "group", "n"}. `baseline` names
 * runs as core/store/runs_find.h has it; the other side are run_ids, or with n_run_ids 0 all complete runs that started later
 * and were not recorded elsewhere. ADM_EINPUT: no such runs, no later ones, or two sides that cannot be compared. */
adm_status adm_report_differences(adm_store *store, const char *database, const char *baseline, const uint32_t *run_ids,
                                  size_t n_run_ids, json_t *document, adm_error *err);

#endif
