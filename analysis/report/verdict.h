/* verdict.h: what a reader wants to know first, for a report's document. */
#ifndef ADM_ANALYSIS_REPORT_VERDICT_H
#define ADM_ANALYSIS_REPORT_VERDICT_H

#include <jansson.h>

#include "core/base/error.h"

/* Adds "verdict" to a document that is complete but for it:
 *   pairs[]      every two sides that were compared: kind (check, comparison, history), name, when, verdict, counts, the
 * largest
 *                row in words, its cause, and the view that shows it
 *   nothing      where there is no pair: the command that would make one; else null
 *   health[]     how the measurements went: level (good, warn, bad), what, text, view
 *   headlines[]  speed-up, limit, smallest budget: title, value, text, view; those that the database can tell */
adm_status adm_report_verdict(json_t *document, adm_error *err);

#endif
