/* report_view.h: the parts of the page that the program writes: headings, tables, and the frames that the page's own
 * script draws charts into. Shared by the report_view_*.c files and report_html.c; nothing else.
 *
 * Every view writes valid HTML for any document, also one without the figures it is about: then a sentence says so. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_H
#define ADM_ANALYSIS_REPORT_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "analysis/report_text.h"

/* --- The views, one a slot of the template -------------------------------------------------------------------------- */

void adm_view_summary(adm_text *page, const json_t *document);
void adm_view_quality(adm_text *page, const json_t *document);
void adm_view_heads(adm_text *page, const json_t *document);
void adm_view_codes(adm_text *page, const json_t *document);
void adm_view_stages(adm_text *page, const json_t *document);
void adm_view_provenance(adm_text *page, const json_t *document);

/* --- Reading the document ------------------------------------------------------------------------------------------ */

/* "" and 0 for what is missing or null. Strings are borrowed from the document. */
const char *adm_field_text(const json_t *row, const char *key);
int64_t adm_field_int(const json_t *row, const char *key);

/* False, with *value untouched, if the field is missing or null. */
bool adm_field_number(const json_t *row, const char *key, double *value);

/* The document's array of this name; never NULL. */
const json_t *adm_document_rows(const json_t *document, const char *name);

size_t adm_n_sessions(const json_t *document);

/* The run and trace that a session joins. */
const json_t *adm_session_run(const json_t *document, size_t session);
const json_t *adm_session_trace(const json_t *document, size_t session);

/* True if the row is of this session and, unless it is NULL, of this metric. */
bool adm_row_is(const json_t *row, size_t session, const char *metric);

/* The stored unit of a metric: "1" if the document does not know it. */
const char *adm_metric_unit(const json_t *document, const char *metric);

/* --- Writing ------------------------------------------------------------------------------------------------------- */

/* A heading with the trace's name, its kind, its model and its run; says so if the run did not complete. */
void adm_write_session_heading(adm_text *page, const json_t *document, size_t session);

/* The frame of a chart with its caption, for the script of the page (web-report/README.md). `metric` may be NULL. */
void adm_write_plot(adm_text *page, const char *plot, size_t session, const char *metric, const char *caption);

/* The start of a table that folds away: a title of our own, its number of rows, and the description of a metric if not
 * NULL. adm_write_table_end() closes it. */
void adm_write_table_start(adm_text *page, const json_t *document, const char *title, size_t n_rows, bool open,
                           const char *metric);
void adm_write_table_end(adm_text *page);

/* One cell each. A value shows in the unit's shown form and holds the exact value as its title; what is null shows as
 * a dash that says "not stored". */
void adm_write_text_cell(adm_text *page, const json_t *row, const char *key);
void adm_write_count_cell(adm_text *page, const json_t *row, const char *key, const char *if_null);
void adm_write_value_cell(adm_text *page, const json_t *row, const char *key, const char *unit);

/* A cell over n_columns that says why there is no value: "skipped: no permission". */
void adm_write_reason_cell(adm_text *page, const json_t *row, int n_columns);

/* A paragraph of our own for what is not there. */
void adm_write_nothing(adm_text *page, const char *sentence);

#endif
