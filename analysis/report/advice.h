/* advice.h: what limits each stage of each GPU profile, in a sentence with its advice. */
#ifndef ADM_ANALYSIS_REPORT_ADVICE_H
#define ADM_ANALYSIS_REPORT_ADVICE_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Adds "advice" to a document whose profiles are there: of each profile and stage the finding of `adamas explain` that saves
 * most, at the profile's headline or where it has counters. */
adm_status adm_report_advice(adm_store *store, json_t *document, adm_error *err);

#endif
