/* quality.h: the sections "Quality", "Budgets" and "Codes". */
#ifndef ADM_ANALYSIS_REPORT_VIEW_QUALITY_QUALITY_H
#define ADM_ANALYSIS_REPORT_VIEW_QUALITY_QUALITY_H

#include <jansson.h>
#include "analysis/output/text.h"

/* Write nothing for a document without the figures they are about: then the page has no such section. */
void adm_view_quality(adm_text *page, const json_t *document);
void adm_view_budgets(adm_text *page, const json_t *document);
void adm_view_codes(adm_text *page, const json_t *document);

#endif
