/* claims.h: the section "Claims". */
#ifndef ADM_ANALYSIS_REPORT_VIEW_QUALITY_CLAIMS_H
#define ADM_ANALYSIS_REPORT_VIEW_QUALITY_CLAIMS_H

#include <jansson.h>
#include "analysis/output/text.h"

/* Writes a row per claim of the paper, measured or not. */
void adm_view_claims(adm_text *page, const json_t *document);

#endif
