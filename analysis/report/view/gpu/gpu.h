/* gpu.h: the sections "GPU stages" and "Roofline". */
#ifndef ADM_ANALYSIS_REPORT_VIEW_GPU_GPU_H
#define ADM_ANALYSIS_REPORT_VIEW_GPU_GPU_H

#include <jansson.h>
#include "analysis/output/text.h"

/* Write nothing for a document without the figures they are about: then the page has no such section. */
void adm_view_gpu_stages(adm_text *page, const json_t *document);
void adm_view_roofline(adm_text *page, const json_t *document);

#endif
