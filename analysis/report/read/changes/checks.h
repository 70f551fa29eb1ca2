/* checks.h: the checks of a database and their verdicts, for a report's document. */
#ifndef ADM_ANALYSIS_REPORT_READ_CHANGES_CHECKS_H
#define ADM_ANALYSIS_REPORT_READ_CHANGES_CHECKS_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Sets document["checks"], every check, the newest first, and document["check_rows"], those of their rows that are not
 * equivalent: see web-report/README.md. */
adm_status adm_report_checks(adm_store *store, json_t *document, adm_error *err);

#endif
