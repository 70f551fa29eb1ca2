/* best.h: which selection loses least of what was measured, for a report's document. */
#ifndef ADM_ANALYSIS_REPORT_READ_BEST_H
#define ADM_ANALYSIS_REPORT_READ_BEST_H

#include <jansson.h>

#include "core/base/error.h"

/* Adds "best" to a document whose "quality" is complete: for each session, length and budget below that length one row with the
 * series of the smallest median output error among policies that a model could use, and the default's error beside it. Where
 * medians are equal the first row of "quality" is named, and "n_equal" says how many others have the same. "sketch" is the best
 * that a kernel can scan. */
adm_status adm_report_best(json_t *document, adm_error *err);

/* Adds "note" to each row of "quality" and "tasks" whose budget is smaller than its policy's authors use: what the reader
 * must know of it. */
adm_status adm_report_note_budgets(json_t *document, adm_error *err);

#endif
