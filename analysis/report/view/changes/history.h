/* history.h: the section "History". */
#ifndef ADM_ANALYSIS_REPORT_VIEW_CHANGES_HISTORY_H
#define ADM_ANALYSIS_REPORT_VIEW_CHANGES_HISTORY_H

#include <jansson.h>
#include "analysis/output/text.h"

/* Writes nothing for a document without the figures it is about: then the page has no such section. */
void adm_view_history(adm_text *page, const json_t *document);

#endif
