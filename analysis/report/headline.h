/* headline.h: the three figures that most readers come for. */
#ifndef ADM_ANALYSIS_REPORT_HEADLINE_H
#define ADM_ANALYSIS_REPORT_HEADLINE_H

#include <jansson.h>

#include "core/base/error.h"

/* Appends the speed-up of a step, what limits the step, and the smallest budget within a target error, each as {title, value,
 * text, view}; those that the document can tell. */
adm_status adm_report_headlines(const json_t *document, json_t *headlines, adm_error *err);

#endif
