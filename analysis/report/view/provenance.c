/* provenance.c: where every figure comes from: runs, traces, thresholds, and the runs not shown. */
#include "analysis/report/view/provenance.h"

#include <string.h>

#include "analysis/report/view/document.h"
#include "analysis/report/view/shards.h"
#include "analysis/report/view/write.h"
#include "core/base/json_text.h"
#include "core/base/mem.h"

/* A value of any JSON type as text for people. */
static void write_json_value(adm_text *page, const json_t *value) {
    if (json_is_string(value)) {
        adm_text_escaped(page, json_string_value(value));
    } else {
        char *text = NULL;
        if (adm_json_text(value, JSON_ENCODE_ANY | JSON_COMPACT, "a value", &text, &page->error) == ADM_OK)
            adm_text_escaped(page, text);
        adm_free(&text);
    }
}

/* What a table of fields shows, for its query. */
typedef enum fields_source { A_RUN, A_TRACE, METADATA } fields_source;

/* The names of what an object lacks, as a last row. */
static void write_lacking(adm_text *page, const json_t *object) {
    const char *key;
    json_t *value;
    size_t n = 0;
    json_object_foreach((json_t *)object, key, value) {
        if (!json_is_null(value)) continue;
        adm_text_markup(page,
                        n++ == 0 ? ADM_MARKUP("<tr><th scope=\"row\">not recorded</th><td class=\"text\">") : ADM_MARKUP(", "));
        adm_text_escaped(page, key);
    }
    if (n > 0) adm_text_add(page, "</td></tr>\n");
}

/* Every member of an object as a two-column table. */
static void write_fields(adm_text *page, const json_t *document, const char *title, const json_t *object, fields_source source,
                         int64_t id) {
    const char *key;
    json_t *value;
    size_t n_rows = 0, n_lacking = 0;
    json_object_foreach((json_t *)object, key, value) {
        n_rows += !json_is_object(value) && !json_is_null(value);
        n_lacking += json_is_null(value);
    }
    adm_text_add(page, "<div class=\"fields\">");
    adm_write_table_start(page, document, title, n_rows + (n_lacking > 0), false, NULL);
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
        if (json_is_object(value) || json_is_null(value)) continue; /* a table of its own; the last row */
        adm_text_add(page, "<tr><th scope=\"row\">");
        adm_text_escaped(page, key);
        adm_text_add(page, "</th><td class=\"text\">");
        write_json_value(page, value);
        adm_text_add(page, "</td></tr>\n");
    }
    write_lacking(page, object);
    adm_write_table_end(page);
    adm_text_add(page, "</div>\n");
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

/* One word as a shell reads it back: bare where that is safe, else in single quotes. */
static void write_shell_word(adm_text *page, const char *word) {
    static const char bare[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%";
    char *quoted = NULL, *out;
    if (word[0] != '\0' && word[strspn(word, bare)] == '\0') {
        adm_text_escaped(page, word);
        return;
    }
    if (adm_alloc(&quoted, 4 * strlen(word) + 3, sizeof *quoted, "a command line", &page->error) != ADM_OK) return;
    out = quoted;
    *out++ = '\'';
    for (; *word != '\0'; word++) {
        if (*word == '\'') out = stpcpy(out, "'\\''");
        else *out++ = *word;
    }
    strcpy(out, "'");
    adm_text_escaped(page, quoted);
    adm_free(&quoted);
}

/* The command as a line to paste. Its first word may hold the program and its command. */
static void write_command(adm_text *page, const json_t *argv) {
    size_t i;
    json_t *word;
    if (!json_is_array(argv) || json_array_size(argv) == 0) return;
    adm_text_add(page, "<pre class=\"command\" tabindex=\"0\">");
    json_array_foreach(argv, i, word) {
        const char *text = json_is_string(word) ? json_string_value(word) : "";
        if (i > 0) adm_text_add(page, " ");
        if (i == 0) adm_text_escaped(page, text);
        else write_shell_word(page, text);
    }
    adm_text_add(page, "</pre>\n");
}

/* A run: what it was, the command, what it ran on; every column below, folded. */
static void write_shown_run(adm_text *page, const json_t *document, const json_t *run) {
    const long long id = (long long)adm_field_int(run, "run_id");
    const char *gpu = adm_field_text(run, "gpu_name"), *cpu = adm_field_text(run, "cpu_model");
    adm_text_format(page, "<h3 id=\"run-%lld\">Run %lld", id, id);
    if (adm_field_text(run, "label")[0] != '\0') {
        adm_text_add(page, " \u201c");
        adm_text_escaped(page, adm_field_text(run, "label"));
        adm_text_add(page, "\u201d");
    }
    adm_write_recorded_badge(page, run);
    adm_text_add(page, "</h3>\n");
    write_command(page, json_object_get(run, "argv"));
    adm_text_add(page, "<p class=\"about\">");
    adm_text_escaped(page, adm_field_text(run, "started_utc"));
    adm_text_add(page, " on ");
    adm_text_escaped(page, gpu[0] != '\0' ? gpu : cpu[0] != '\0' ? cpu : "a machine that was not recorded");
    adm_text_add(page, ", commit ");
    adm_text_escaped(page, adm_field_text(run, "git_commit"));
    adm_text_format(page, "%s, seed %lld.</p>\n", adm_field_int(run, "git_dirty") != 0 ? " with local changes" : "",
                    (long long)adm_field_int(run, "seed"));
    adm_write_shards(page, document, (int64_t)id);
    write_fields(page, document, "Every field of the run", run, A_RUN, (int64_t)id);
}

void adm_view_provenance(adm_text *page, const json_t *document) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "runs"), i, row) { write_shown_run(page, document, row); }
    json_array_foreach(adm_document_rows(document, "traces"), i, row) {
        adm_text_add(page, "<h3>Trace ");
        adm_text_escaped(page, adm_field_text(row, "name"));
        adm_text_add(page, "</h3>\n");
        write_fields(page, document, "Every field of the trace", row, A_TRACE, adm_field_int(row, "trace_id"));
        const json_t *metadata = json_object_get(row, "metadata");
        if (json_is_object(metadata) && json_object_size(metadata) > 0)
            write_fields(page, document, "The trace's own metadata", metadata, METADATA, adm_field_int(row, "trace_id"));
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
