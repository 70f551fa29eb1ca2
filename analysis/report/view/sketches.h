/* sketches.h: the part of the section "Summary" that names the best sketch of each model. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_SKETCHES_H
#define ADM_ANALYSIS_REPORT_VIEW_SKETCHES_H

#include <jansson.h>
#include "analysis/output/text.h"

/* Writes nothing for a document without calibrations. */
void adm_view_sketches(adm_text *page, const json_t *document);

#endif
