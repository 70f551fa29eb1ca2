/* decode.h: the view of whole models' decode steps. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_DECODE_H
#define ADM_ANALYSIS_REPORT_VIEW_DECODE_H

#include "analysis/report/view/write.h"

/* Writes nothing where no step was measured. */
void adm_view_decode(adm_text *page, const json_t *document);

#endif
