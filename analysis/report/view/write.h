/* write.h: what views write: headings, frames that the page's script draws charts into, tables and cells. All of them
 * are valid HTML for any document. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_WRITE_H
#define ADM_ANALYSIS_REPORT_VIEW_WRITE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "analysis/output/text.h"

/* A part of a view that the reader chooses: what is between belongs to one GPU, session, ... of this number. Without scripts it
 * shows where it stands; with them it is text until it is chosen, so a page of any size opens at once. Parts do not nest. */
void adm_write_part_start(adm_text *page, const char *kind, size_t index);
void adm_write_part_end(adm_text *page);

/* "run 3" as a link to where the provenance has that run's command and machine. The run must be one that the report shows:
 * adm_run_is_shown(). */
void adm_write_run_link(adm_text *page, int64_t run_id);

/* "2026-11-30 10:40 UTC" of "2026-11-30T10:40:37.000Z"; what is shorter as it is. */
void adm_write_when(adm_text *page, const char *utc);

/* A cell with the run's number, linked where the report shows the run. */
void adm_write_run_cell(adm_text *page, const json_t *document, int64_t run_id);

/* Writes "run 3 “label”, 2026-…" to the end of a paragraph; below it from how many shards it was joined, if it was, and a
 * warning if the run is not complete. */
void adm_write_run(adm_text *page, const json_t *document, const json_t *run);

/* Says so if the run was recorded elsewhere and imported. */
void adm_write_recorded_badge(adm_text *page, const json_t *run);

/* A heading with the trace's name, its kind, its model and its run; says so if the run did not complete. */
void adm_write_session_heading(adm_text *page, const json_t *document, size_t session);

/* The frame of a chart with its caption, for the script of the page (web-report/README.md). `metric` may be NULL. */
void adm_write_plot(adm_text *page, const char *plot, size_t session, const char *metric, adm_markup caption);

/* The end of a frame whose <figure is still open. */
void adm_write_frame_end(adm_text *page, adm_markup caption);

/* The same for a chart of a profile. */
void adm_write_gpu_plot(adm_text *page, const char *plot, size_t profile, adm_markup caption);

/* The start of a table that folds away: a title of our own, its number of rows, and the description of a metric if not
 * NULL. adm_write_table_end() closes it. */
void adm_write_table_start(adm_text *page, const json_t *document, const char *title, size_t n_rows, bool open,
                           const char *metric);
void adm_write_table_end(adm_text *page);

/* The query that gives a table's rows from the database, as a literal for adm_text_format(); the page shows it on demand. It
 * comes right after the table's start, or its caption, and holds no double quote. Words of others in it: adm_sql_text(). */
#define ADM_SQL(literal) "<colgroup data-sql=\"" literal "\"></colgroup>\n"

/* A text as SQL writes it, in quotes; what does not fit gives a pattern-free empty text. Returns out. */
enum { ADM_SQL_TEXT_BYTES = 600 };
const char *adm_sql_text(const char *text, char out[ADM_SQL_TEXT_BYTES]);

/* The same for the times of a GPU's setting. */
void adm_write_setting_sql(adm_text *page, const json_t *document, const json_t *setting);

/* The head of a table and the start of its body: titles between bars, "<name|n|median, us"; those of text columns begin with
 * "<". */
void adm_write_table_head(adm_text *page, const char *titles);

/* Begins a row; the first of a group has a line above it. */
void adm_write_row_start(adm_text *page, bool is_first);

/* One cell each. A value is written in five digits of its shown unit, which the page's script rounds; what is null is
 * a dash. */
void adm_write_text_cell(adm_text *page, const json_t *row, const char *key);
void adm_write_long_cell(adm_text *page, const json_t *row, const char *key); /* of text that may take several lines */
void adm_write_count_cell(adm_text *page, const json_t *row, const char *key, const char *if_null);
void adm_write_value_cell(adm_text *page, const json_t *row, const char *key, const char *unit);

/* The same for a value that is in no row. */
void adm_write_number_cell(adm_text *page, double value, const char *unit);

/* The header cell of a row of "quality": its series, with an asterisk and a tooltip where the row has a note. */
void adm_write_series_cell(adm_text *page, const json_t *row);

/* Below a table with such cells: a paragraph for each note of the session's rows of a metric. */
void adm_write_notes(adm_text *page, const json_t *document, size_t session, const char *metric);

/* Behind a ratio of two rows' median times (the second: NULL for a constant): " (1.8 to 2.3, from p10 and p90)" times `scale`
 * where fewer than 20 timings are on either side, " (n < 20, no interval)" where there is none, else nothing. */
void adm_write_ratio_interval(adm_text *page, const json_t *over, const json_t *under, double scale, int n_digits);

/* A verdict, coloured where it is good or bad. */
void adm_write_verdict_cell(adm_text *page, const char *verdict);

/* A cell over n_columns that says why there is no value: "skipped: no permission". */
void adm_write_reason_cell(adm_text *page, const json_t *row, int n_columns);

/* A paragraph of our own for what is not there. */
void adm_write_nothing(adm_text *page, const char *sentence);

#endif
