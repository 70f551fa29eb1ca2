/* phases.h: the section on what happens inside a step of one launch. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_GPU_PHASES_H
#define ADM_ANALYSIS_REPORT_VIEW_GPU_PHASES_H

#include <jansson.h>

#include "analysis/output/text.h"

/* Per GPU profile with phases: the bars, and a row per phase. */
void adm_view_phases(adm_text *page, const json_t *document);

#endif
