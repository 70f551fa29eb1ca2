/* budget.h: the view where everything about a budget meets: what it loses, what it costs, what it gains. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_QUALITY_BUDGET_H
#define ADM_ANALYSIS_REPORT_VIEW_QUALITY_BUDGET_H

#include <jansson.h>
#include "analysis/output/text.h"

void adm_view_budget(adm_text *page, const json_t *document);

#endif
