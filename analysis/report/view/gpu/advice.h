/* advice.h: what limits each stage and what to do, and how far each stage is from what its bytes allow. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_GPU_ADVICE_H
#define ADM_ANALYSIS_REPORT_VIEW_GPU_ADVICE_H

#include <jansson.h>
#include "analysis/output/text.h"

void adm_view_advice(adm_text *page, const json_t *document);

/* One step of each profile: six stages, one launch with its phases, dense attention. */
void adm_view_step(adm_text *page, const json_t *document);

/* Below the roofline: the distance of each stage of the headline to its floor, in words. */
void adm_view_distances(adm_text *page, const json_t *document, size_t profile);

#endif
