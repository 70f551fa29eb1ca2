/* history.h: how figures changed over the runs of a database, for a report's document. Shared by the files that
 * gather it; nothing else. */
#ifndef ADM_ANALYSIS_REPORT_READ_CHANGES_HISTORY_H
#define ADM_ANALYSIS_REPORT_READ_CHANGES_HISTORY_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Sets document["history"]: change points of times and output errors over the latest complete runs, and the series that
 * have them; null if there are too few runs for any. Recorded runs are left out. See web-report/README.md. */
adm_status adm_report_history(adm_store *store, json_t *document, adm_error *err);

#endif
