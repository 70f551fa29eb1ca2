/* provenance.c: where every figure comes from: runs, traces, thresholds, and the runs not shown. */
#include "analysis/report/view/provenance.h"

#include <stdio.h>

#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"
#include "core/base/json_text.h"
#include "core/base/mem.h"

/* A value of any JSON type as text for people. */
static void write_json_value(adm_text *page, const json_t *value) {
    if (json_is_string(value)) {
        adm_text_escaped(page, json_string_value(value));
    } else if (value == NULL || json_is_null(value)) {
        adm_text_add(page, "<span class=\"none\">not recorded</span>");
    } else {
        char *text = NULL;
        if (adm_json_text(value, JSON_ENCODE_ANY | JSON_COMPACT, "a value", &text, &page->error) == ADM_OK)
            adm_text_escaped(page, text);
        adm_free(&text);
    }
}

/* What a table of fields shows, for its query. */
typedef enum fields_source { A_RUN, A_TRACE, METADATA } fields_source;

/* Every member of an object as a two-column table. */
static void write_fields(adm_text *page, const char *title, const json_t *object, fields_source source, int64_t id) {
    const char *key;
    json_t *value;
    adm_text_add(page, "<div class=\"scroll\" tabindex=\"0\"><table class=\"fields\"><caption>");
    adm_text_escaped(page, title);
    adm_text_add(page, "</caption>\n");
    switch (source) {
    case A_RUN: adm_text_format(page, ADM_SQL("SELECT * FROM run WHERE run_id = %lld"), (long long)id); break;
    case A_TRACE: adm_text_format(page, ADM_SQL("SELECT * FROM trace WHERE trace_id = %lld"), (long long)id); break;
    case METADATA:
        adm_text_format(page, ADM_SQL("SELECT m.key, m.value FROM trace, json_each(trace.metadata) m WHERE trace_id = %lld"),
                        (long long)id);
        break;
    }
    adm_text_add(page, "<tbody>\n");
    json_object_foreach((json_t *)object, key, value) {
        if (json_is_object(value)) continue; /* written as a table of its own */
        adm_text_add(page, "<tr><th scope=\"row\">");
        adm_text_escaped(page, key);
        adm_text_add(page, "</th><td class=\"text\">");
        write_json_value(page, value);
        adm_text_add(page, "</td></tr>\n");
    }
    adm_text_add(page, "</tbody></table></div>\n");
}

static void write_thresholds(adm_text *page, const json_t *document, size_t session) {
    static const char *const numbers[] = {"t0", "t1", "t2"};
    size_t i, n_rows = 0;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "calibrations"), i, row) n_rows += adm_row_is(row, session, NULL);
    if (n_rows == 0) return;
    adm_write_table_start(page, document, "Bucketing thresholds", n_rows, false, NULL);
    adm_text_format(page, ADM_SQL("SELECT * FROM calibration WHERE run_id = %lld ORDER BY variant, layer"),
                    (long long)adm_field_int(adm_session_run(document, session), "run_id"));
    adm_text_add(page, "<thead><tr><th scope=\"col\" class=\"text\">thresholds</th><th scope=\"col\">layer</th>"
                       "<th scope=\"col\">t0</th><th scope=\"col\">t1</th><th scope=\"col\">t2</th></tr></thead>\n<tbody>\n");
    json_array_foreach(adm_document_rows(document, "calibrations"), i, row) {
        if (!adm_row_is(row, session, NULL)) continue;
        adm_text_add(page, "<tr><th scope=\"row\">");
        adm_text_escaped(page, adm_field_text(row, "variant"));
        adm_text_add(page, "</th>");
        adm_write_count_cell(page, row, "layer", "");
        for (int t = 0; t < 3; t++) adm_write_value_cell(page, row, numbers[t], "1");
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
}

static void write_other_runs(adm_text *page, const json_t *document) {
    const json_t *others = adm_document_rows(document, "other_runs");
    static const char *const keys[] = {"label", "command", "status", "reason", "started_utc"};
    if (json_array_size(others) == 0) return;
    adm_write_table_start(page, document, "Runs in the database that this report does not show",
                          (size_t)adm_field_int(document, "n_other_runs"), false, NULL);
    adm_text_format(page, ADM_SQL("SELECT run_id, label, command, status, reason, started_utc FROM run ORDER BY run_id DESC"));
    adm_text_add(page, "<thead><tr><th scope=\"col\">run</th>");
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++)
        adm_text_format(page, "<th scope=\"col\" class=\"text\">%s</th>", keys[k]);
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
    size_t i;
    json_t *row;
    json_array_foreach(others, i, row) {
        adm_text_add(page, "<tr>");
        adm_write_count_cell(page, row, "run_id", "");
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) adm_write_text_cell(page, row, keys[k]);
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
}

void adm_view_provenance(adm_text *page, const json_t *document) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "runs"), i, row) {
        char title[64];
        snprintf(title, sizeof title, "Run %lld", (long long)adm_field_int(row, "run_id"));
        write_fields(page, title, row, A_RUN, adm_field_int(row, "run_id"));
    }
    json_array_foreach(adm_document_rows(document, "traces"), i, row) {
        write_fields(page, "Trace", row, A_TRACE, adm_field_int(row, "trace_id"));
        const json_t *metadata = json_object_get(row, "metadata");
        if (json_is_object(metadata) && json_object_size(metadata) > 0)
            write_fields(page, "The trace's own metadata", metadata, METADATA, adm_field_int(row, "trace_id"));
    }
    for (size_t session = 0; session < adm_n_sessions(document); session++) write_thresholds(page, document, session);
    write_other_runs(page, document);
    adm_text_add(page, "<p class=\"about\">Report made ");
    adm_text_escaped(page, adm_field_text(document, "generated_utc"));
    adm_text_add(page, " by adamas ");
    adm_text_escaped(page, adm_field_text(document, "tool_version"));
    adm_text_add(page, " (");
    adm_text_escaped(page, adm_field_text(document, "git_commit"));
    adm_text_add(page, ") from ");
    adm_text_escaped(page, adm_field_text(document, "database"));
    adm_text_add(page, ".</p>\n");
}
