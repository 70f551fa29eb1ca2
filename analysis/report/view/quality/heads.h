/* heads.h: the section "Heads". */
#ifndef ADM_ANALYSIS_REPORT_VIEW_QUALITY_HEADS_H
#define ADM_ANALYSIS_REPORT_VIEW_QUALITY_HEADS_H

#include <jansson.h>
#include "analysis/output/text.h"

/* Writes nothing for a document without the figures it is about: then the page has no such section. */
void adm_view_heads(adm_text *page, const json_t *document);

#endif
