/* verdict.h: the view that answers "did anything get worse?" on one screen. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_CHANGES_VERDICT_H
#define ADM_ANALYSIS_REPORT_VIEW_CHANGES_VERDICT_H

#include <jansson.h>
#include "analysis/output/text.h"

void adm_view_verdict(adm_text *page, const json_t *document);

#endif
