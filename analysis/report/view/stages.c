/* stages.c: where the time of a decode step goes. */
#include "analysis/report/view/stages.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/shards.h"
#include "analysis/report/view/write.h"

static size_t count_rows(const json_t *document, size_t session, const char *metric) {
    size_t i, n_rows = 0;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "stages"), i, row) n_rows += adm_row_is(row, session, metric);
    return n_rows;
}

static void write_stage_row(adm_text *page, const json_t *row, bool first, const char *unit, bool is_joined) {
    adm_write_row_start(page, first);
    adm_text_add(page, "<th scope=\"row\">");
    adm_text_escaped(page, adm_field_text(row, "stage"));
    adm_text_add(page, "</th>");
    adm_write_text_cell(page, row, "source");
    adm_write_text_cell(page, row, "variant");
    adm_write_count_cell(page, row, "seq_len", "");
    adm_write_count_cell(page, row, "budget", "any");
    adm_write_count_cell(page, row, "n", "");
    if (strcmp(adm_field_text(row, "status"), "ok") != 0) {
        adm_write_reason_cell(page, row, 4);
    } else {
        adm_write_value_cell(page, row, "median", unit);
        adm_write_value_cell(page, row, "p10", unit);
        adm_write_value_cell(page, row, "p90", unit);
        adm_write_value_cell(page, row, "mean", unit);
    }
    if (is_joined) adm_write_place_cell(page, row);
    adm_text_add(page, "</tr>\n");
}

static void write_stage_table(adm_text *page, const json_t *document, size_t session, const char *metric) {
    size_t n_rows = count_rows(document, session, metric), i;
    if (n_rows == 0) return;
    const char *unit = adm_metric_unit(document, metric);
    const bool is_joined = adm_run_is_joined(document, adm_field_int(adm_session_run(document, session), "run_id"));
    adm_write_table_start(page, document, metric, n_rows, false, metric);
    char name[ADM_SQL_TEXT_BYTES];
    adm_text_format(
        page,
        ADM_SQL("SELECT stage, source, variant, seq_len, budget, n, median, p10, p90, status, reason FROM stage_summary "
                "WHERE run_id = %lld AND metric = %s ORDER BY seq_len, stage, budget"),
        (long long)adm_field_int(adm_session_run(document, session), "run_id"), adm_sql_text(metric, name));
    adm_text_add(page, "<thead><tr><th scope=\"col\" class=\"text\">stage</th><th scope=\"col\" class=\"text\">on</th>"
                       "<th scope=\"col\" class=\"text\">implementation</th><th scope=\"col\">length, tokens</th>"
                       "<th scope=\"col\">budget, tokens</th><th scope=\"col\">n</th>");
    static const char *const titles[] = {"median", "p10", "p90", "mean"};
    for (size_t t = 0; t < 4; t++) {
        adm_text_format(page, "<th scope=\"col\">%s%s", titles[t], adm_shown_unit(unit)[0] ? ", " : "");
        adm_text_escaped(page, adm_shown_unit(unit));
        adm_text_add(page, "</th>");
    }
    if (is_joined) adm_text_add(page, "<th scope=\"col\" class=\"text\">measured on</th>");
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
    int64_t last_length = -1;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "stages"), i, row) {
        if (!adm_row_is(row, session, metric)) continue;
        write_stage_row(page, row, adm_field_int(row, "seq_len") != last_length, unit, is_joined);
        last_length = adm_field_int(row, "seq_len");
    }
    adm_write_table_end(page);
}

void adm_view_stages(adm_text *page, const json_t *document) {
    for (size_t session = 0; session < adm_n_sessions(document); session++) {
        if (count_rows(document, session, NULL) == 0) continue;
        adm_write_part_start(page, "session", session);
        adm_write_session_heading(page, document, session);
        if (count_rows(document, session, "time_ns") > 0)
            adm_write_plot(
                page, "stages", session, "time_ns",
                ADM_MARKUP("<strong>Median time of one layer of one decode step</strong>, all heads, stage by stage. The "
                           "mark is the median of the whole step, which is the sum of its stages in each layer step; the "
                           "sum of the stages\u2019 medians need not equal it."));
        adm_text_add(page, "<p class=\"about\">A budget of \u201cany\u201d means that the stage does not depend on it.</p>\n");
        size_t i;
        json_t *metric;
        json_array_foreach(adm_document_rows(document, "metrics"), i, metric)
            write_stage_table(page, document, session, adm_field_text(metric, "name"));
        adm_write_part_end(page);
    }
}
