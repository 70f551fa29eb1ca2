/* differences.h: the view of what changed between a baseline's runs and the report's. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_CHANGES_DIFFERENCES_H
#define ADM_ANALYSIS_REPORT_VIEW_CHANGES_DIFFERENCES_H

#include <jansson.h>
#include "analysis/output/text.h"

void adm_view_differences(adm_text *page, const json_t *document);

#endif
