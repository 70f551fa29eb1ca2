/* document.h: reading the report's document (web-report/README.md describes it). */
#ifndef ADM_ANALYSIS_REPORT_VIEW_DOCUMENT_H
#define ADM_ANALYSIS_REPORT_VIEW_DOCUMENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/stats/ratio.h"

/* "" and 0 for what is missing or null. Strings are borrowed from the document. */
const char *adm_field_text(const json_t *row, const char *key);
int64_t adm_field_int(const json_t *row, const char *key);

/* False, with *value untouched, if the field is missing or null. */
bool adm_field_number(const json_t *row, const char *key, double *value);

/* The document's array of this name; never NULL. */
const json_t *adm_document_rows(const json_t *document, const char *name);

/* What a row of "stages" or "units" knows of how sure its median is. */
adm_timing_spread adm_row_spread(const json_t *row);

size_t adm_n_sessions(const json_t *document);

/* The run and trace that a session joins. */
const json_t *adm_session_run(const json_t *document, size_t session);
const json_t *adm_session_trace(const json_t *document, size_t session);

/* True if no run measured anything that a view shows. */
bool adm_document_is_empty(const json_t *document);

/* True if the provenance has the run. */
bool adm_run_is_shown(const json_t *document, int64_t run_id);

/* True if the row is of this session and, unless it is NULL, of this metric. */
bool adm_row_is(const json_t *row, size_t session, const char *metric);

/* The stored unit of a metric: "1" if the document does not know it. */
const char *adm_metric_unit(const json_t *document, const char *metric);

/* The metric's row; NULL if the document does not know it. */
const json_t *adm_metric_row(const json_t *document, const char *metric);

#endif
