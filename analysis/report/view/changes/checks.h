/* checks.h: the section "Checks". */
#ifndef ADM_ANALYSIS_REPORT_VIEW_CHANGES_CHECKS_H
#define ADM_ANALYSIS_REPORT_VIEW_CHANGES_CHECKS_H

#include <jansson.h>
#include "analysis/output/text.h"

/* Writes nothing for a document without checks. */
void adm_view_checks(adm_text *page, const json_t *document);

#endif
