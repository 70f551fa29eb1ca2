/* report_view.h: the parts of the page that the program writes: headings, tables, and the frames that the page's own
 * script draws charts into. Shared by the report_view_*.c files and report_html.c; nothing else.
 *
 * Every view writes valid HTML for any document. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_REPORT_VIEW_H
#define ADM_ANALYSIS_REPORT_VIEW_REPORT_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "analysis/output/report_text.h"

/* --- The views, one a section of the page ---------------------------------------------------------------------------
 * A view writes nothing for a document without the figures it is about: then the page has no such section. */

void adm_view_summary(adm_text *page, const json_t *document);
void adm_view_speedup(adm_text *page, const json_t *document);
void adm_view_gpu_stages(adm_text *page, const json_t *document);
void adm_view_roofline(adm_text *page, const json_t *document);
void adm_view_counters(adm_text *page, const json_t *document);
void adm_view_timeline(adm_text *page, const json_t *document);
void adm_view_quality(adm_text *page, const json_t *document);
void adm_view_budgets(adm_text *page, const json_t *document);
void adm_view_heads(adm_text *page, const json_t *document);
void adm_view_codes(adm_text *page, const json_t *document);
void adm_view_tasks(adm_text *page, const json_t *document);
void adm_view_history(adm_text *page, const json_t *document);
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

/* --- Reading GPU profiles ------------------------------------------------------------------------------------------ */

size_t adm_n_profiles(const json_t *document);
const json_t *adm_profile(const json_t *document, size_t profile);
bool adm_row_is_of(const json_t *row, size_t profile);

/* The configuration of a row of "units", "counters" or "timelines"; NULL if it has none. */
const json_t *adm_row_config(const json_t *document, const json_t *row);

/* True if a configuration belongs to a setting: the same in all that both depend on. */
bool adm_setting_fits(const json_t *setting, const json_t *config);

/* The profile's unit of this stage, length and budget (0: any) in a setting that was measured, and of this variant, or, if
 * that is NULL, of the fastest. NULL if there is none. */
const json_t *adm_find_unit(const json_t *document, const json_t *setting, const char *stage, const char *variant,
                            int64_t seq_len, int64_t budget);

/* A heading with the GPU's name, whether it was recorded elsewhere, and its run. */
void adm_write_profile_heading(adm_text *page, const json_t *document, size_t profile);

/* A paragraph on what was measured where: read limit, driver, clocks, throttling. */
void adm_write_profile_about(adm_text *page, const json_t *document, size_t profile);

/* --- Reading sessions ---------------------------------------------------------------------------------------------- */

/* True if the row is of this session and, unless it is NULL, of this metric. */
bool adm_row_is(const json_t *row, size_t session, const char *metric);

/* The stored unit of a metric: "1" if the document does not know it. */
const char *adm_metric_unit(const json_t *document, const char *metric);

/* --- Writing ------------------------------------------------------------------------------------------------------- */

/* Writes "run 3 “label”, 2026-…" to the end of a paragraph, and below it a warning if the run is not complete. */
void adm_write_run(adm_text *page, const json_t *run);

/* Says so if the run was recorded elsewhere and imported. */
void adm_write_recorded_badge(adm_text *page, const json_t *run);

/* A heading with the trace's name, its kind, its model and its run; says so if the run did not complete. */
void adm_write_session_heading(adm_text *page, const json_t *document, size_t session);

/* The frame of a chart with its caption, for the script of the page (web-report/README.md). `metric` may be NULL. */
void adm_write_plot(adm_text *page, const char *plot, size_t session, const char *metric, const char *caption);

/* The end of a frame whose <figure is still open. */
void adm_write_frame_end(adm_text *page, const char *caption);

/* The same for a chart of a profile. */
void adm_write_gpu_plot(adm_text *page, const char *plot, size_t profile, const char *caption);

/* The start of a table that folds away: a title of our own, its number of rows, and the description of a metric if not
 * NULL. adm_write_table_end() closes it. */
void adm_write_table_start(adm_text *page, const json_t *document, const char *title, size_t n_rows, bool open,
                           const char *metric);
void adm_write_table_end(adm_text *page);

/* The head of a table and the start of its body: titles between bars, "<name|n|median, us"; those of text columns begin with
 * "<". Markup of our own. */
void adm_write_table_head(adm_text *page, const char *titles);

/* One cell each. A value shows in the unit's shown form and holds the exact value as its title; what is null shows as
 * a dash that says "not stored". */
void adm_write_text_cell(adm_text *page, const json_t *row, const char *key);
void adm_write_count_cell(adm_text *page, const json_t *row, const char *key, const char *if_null);
void adm_write_value_cell(adm_text *page, const json_t *row, const char *key, const char *unit);

/* The same for a value that is in no row. */
void adm_write_number_cell(adm_text *page, double value, const char *unit);

/* A cell over n_columns that says why there is no value: "skipped: no permission". */
void adm_write_reason_cell(adm_text *page, const json_t *row, int n_columns);

/* A paragraph of our own for what is not there. */
void adm_write_nothing(adm_text *page, const char *sentence);

#endif
