/* claims.h: what the paper claims, beside what the database measured, for a report's document. */
#ifndef ADM_ANALYSIS_REPORT_READ_CLAIMS_H
#define ADM_ANALYSIS_REPORT_READ_CLAIMS_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Sets document["claims"]: see web-report/README.md. */
adm_status adm_report_claims_read(adm_store *store, json_t *document, adm_error *err);

#endif
