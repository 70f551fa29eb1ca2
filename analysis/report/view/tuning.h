/* tuning.h: the section of tuning sessions. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_TUNING_H
#define ADM_ANALYSIS_REPORT_VIEW_TUNING_H

#include <jansson.h>

#include "analysis/output/text.h"

/* Nothing where the document has no tunings. */
void adm_view_tuning(adm_text *page, const json_t *document);

#endif
