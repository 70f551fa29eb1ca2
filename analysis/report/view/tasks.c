/* tasks.c: what a budget costs the model itself: perplexity and passkey retrieval. */
#include "analysis/report/view/tasks.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

static const json_t *evaluation_at(const json_t *document, size_t index) {
    return json_array_get(json_object_get(document, "evaluations"), index);
}

static bool has_metric(const json_t *document, size_t evaluation, const char *metric) {
    size_t i;
    json_t *task;
    json_array_foreach(adm_document_rows(document, "tasks"), i,
                       task) if (adm_field_int(task, "evaluation") == (int64_t)evaluation &&
                                 json_object_get(json_object_get(task, "value"), metric) != NULL) return true;
    return false;
}

static void write_heading(adm_text *page, const json_t *document, size_t index) {
    const json_t *evaluation = evaluation_at(document, index);
    const char *model = adm_field_text(evaluation, "model");
    size_t i;
    json_t *run;
    adm_text_add(page, "<h3>");
    adm_text_escaped(page, model[0] ? model : "model not stated");
    json_array_foreach(adm_document_rows(document, "runs"), i, run) {
        if (adm_field_int(run, "run_id") != adm_field_int(evaluation, "run_id")) continue;
        adm_write_recorded_badge(page, run);
        adm_text_add(page, "</h3>\n<p class=\"about\">");
        adm_write_run(page, document, run);
        return;
    }
    adm_text_add(page, "</h3>\n");
}

static void write_frame(adm_text *page, size_t evaluation, const char *metric, adm_markup caption) {
    adm_text_format(page, "<figure class=\"plot\" data-plot=\"tasks\" data-evaluation=\"%zu\" data-metric=\"%s\"", evaluation,
                    metric);
    adm_write_frame_end(page, caption);
}

/* A value of a task with its 95% interval, "6.88 (6.80 to 6.95)", in a unit "1" or "ratio". */
static void write_interval_cell(adm_text *page, const json_t *task, const char *metric, const char *unit) {
    const json_t *values = json_object_get(task, "value");
    char key[96], shown[3][ADM_NUMBER_CHARS], exact[ADM_NUMBER_CHARS];
    const char *const suffixes[] = {"", "_ci95_low", "_ci95_high"};
    bool has[3];
    double value[3];
    for (int i = 0; i < 3; i++) {
        snprintf(key, sizeof key, "%s%s", metric, suffixes[i]);
        has[i] = adm_field_number(values, key, &value[i]);
        if (has[i] && strcmp(unit, "ratio") == 0) adm_shown_value(value[i], "ratio", shown[i]);
        else if (has[i]) snprintf(shown[i], sizeof shown[i], "%.4g", value[i]);
    }
    if (!has[0]) {
        adm_text_add(page, "<td>\u2013</td>");
        return;
    }
    adm_exact_value(value[0], exact);
    adm_text_format(page, "<td title=\"%s, n = %lld\">%s", exact, (long long)adm_field_int(json_object_get(task, "n"), metric),
                    shown[0]);
    if (has[1] && has[2]) adm_text_format(page, " <small>%s to %s</small>", shown[1], shown[2]);
    adm_text_add(page, "</td>");
}

/* What a table of one metric's tasks shows. */
typedef struct task_table {
    const char *metric, *title, *description, *titles;
    struct {
        const char *metric, *unit;
    } column[2];
} task_table;

static const task_table tables[] = {
    {"perplexity",
     "Perplexity",
     "Perplexity of the text behind the cached one, and its ratio to dense attention\u2019s on the same tokens, each with its "
     "95% interval over blocks of tokens",
     "<text|<kind|<policy and variant|length, tokens|budget, tokens|n|perplexity|over dense",
     {{"perplexity", "1"}, {"perplexity_ratio", "1"}}},
    {"passkey_accuracy",
     "Passkey retrieval",
     "Share of the passkeys hidden in the cached text that the model repeats, with its 95% interval",
     "<text|<kind|<policy and variant|length, tokens|budget, tokens|n|found, %",
     {{"passkey_accuracy", "ratio"}, {NULL, NULL}}},
};

static bool is_of_table(const json_t *task, size_t evaluation, const char *metric) {
    return adm_field_int(task, "evaluation") == (int64_t)evaluation &&
           json_object_get(json_object_get(task, "value"), metric) != NULL;
}

static void write_series_cell(adm_text *page, const json_t *task) {
    const char *note = adm_field_text(task, "note");
    adm_text_add(page, "<td class=\"text\">");
    adm_text_escaped(page, adm_field_text(task, "series"));
    adm_text_markup(page, note[0] ? ADM_MARKUP("&nbsp;*</td>") : ADM_MARKUP("</td>"));
}

/* A paragraph for each different note of the table's rows. */
static void write_notes(adm_text *page, const json_t *document, size_t evaluation, const char *metric) {
    const json_t *tasks = adm_document_rows(document, "tasks");
    size_t i;
    json_t *task;
    json_array_foreach(tasks, i, task) {
        const char *note = adm_field_text(task, "note");
        bool is_new = note[0] != '\0' && is_of_table(task, evaluation, metric);
        for (size_t j = 0; j < i && is_new; j++) {
            const json_t *earlier = json_array_get(tasks, j);
            is_new = !is_of_table(earlier, evaluation, metric) || strcmp(adm_field_text(earlier, "note"), note) != 0;
        }
        if (!is_new) continue;
        adm_text_add(page, "<p class=\"about\">* ");
        adm_text_escaped(page, note);
        adm_text_add(page, ".</p>\n");
    }
}

static void write_table(adm_text *page, const json_t *document, size_t evaluation, const task_table *table) {
    size_t n_rows = 0, i;
    json_t *task;
    const char *last_trace = "";
    json_array_foreach(adm_document_rows(document, "tasks"), i, task) n_rows += is_of_table(task, evaluation, table->metric);
    if (n_rows == 0) return;
    adm_write_table_start(page, document, table->title, n_rows, false, NULL);
    char name[ADM_SQL_TEXT_BYTES];
    adm_text_format(
        page,
        ADM_SQL("SELECT trace, policy, variant, seq_len, budget, metric, n, mean FROM quality_summary WHERE run_id = "
                "%lld AND metric LIKE %s || '%%' ORDER BY trace, policy, variant, budget"),
        (long long)adm_field_int(evaluation_at(document, evaluation), "run_id"), adm_sql_text(table->metric, name));
    adm_text_format(page, "<caption>%s</caption>", table->description);
    adm_write_table_head(page, table->titles);
    json_array_foreach(adm_document_rows(document, "tasks"), i, task) {
        if (!is_of_table(task, evaluation, table->metric)) continue;
        adm_write_row_start(page, strcmp(last_trace, adm_field_text(task, "trace")) != 0);
        adm_text_add(page, "<th scope=\"row\">");
        last_trace = adm_field_text(task, "trace");
        adm_text_escaped(page, last_trace);
        adm_text_add(page, "</th>");
        adm_write_text_cell(page, task, "kind");
        write_series_cell(page, task);
        adm_write_count_cell(page, task, "seq_len", "");
        adm_write_count_cell(page, task, "budget", "all");
        const char *counted = strcmp(table->metric, "perplexity") == 0 ? "nll" : table->metric;
        adm_write_count_cell(page, json_object_get(task, "n"), counted, "");
        for (int c = 0; c < 2 && table->column[c].metric != NULL; c++)
            write_interval_cell(page, task, table->column[c].metric, table->column[c].unit);
        adm_text_add(page, "</tr>\n");
    }
    adm_text_add(page, "</tbody></table></div>\n");
    write_notes(page, document, evaluation, table->metric);
    adm_text_add(page, "</details>\n");
}

void adm_view_tasks(adm_text *page, const json_t *document) {
    size_t n = json_array_size(json_object_get(document, "evaluations"));
    for (size_t i = 0; i < n; i++) {
        adm_write_part_start(page, "evaluation", i);
        write_heading(page, document, i);
        if (has_metric(document, i, "perplexity_ratio"))
            write_frame(
                page, i, "perplexity_ratio",
                ADM_MARKUP(
                    "<strong>Perplexity over that of dense attention</strong>, on the same tokens of real text. Band: 95% "
                    "interval. At 1 the budget costs nothing."));
        if (has_metric(document, i, "passkey_accuracy"))
            write_frame(
                page, i, "passkey_accuracy",
                ADM_MARKUP("<strong>Passkeys found</strong>: a number hidden in a long made-up text and asked for at its end. "
                           "Band: 95% interval."));
        for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) write_table(page, document, i, &tables[t]);
        adm_write_part_end(page);
    }
}
