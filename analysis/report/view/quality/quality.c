/* quality.c: what a budget costs in accuracy: charts of the main metrics, and a table of every one. */
#include "analysis/report/view/quality/quality.h"

#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/shards.h"
#include "analysis/report/view/write.h"

/* Columns of a quality table between n and the worst head. */
static const struct {
    const char *key, *title;
} columns[] = {
    {"mean", "mean"}, {"p01", "p1"}, {"p05", "p5"}, {"median", "p50"}, {"p95", "p95"}, {"p99", "p99"},
};
enum { N_COLUMNS = sizeof columns / sizeof columns[0] };

/* Metrics of the codes, and adaptive budgets, have views of their own. */
static bool is_about_codes(const char *metric) { return strcmp(metric, "ties") == 0 || strncmp(metric, "bucket", 6) == 0; }

static bool is_about_budgets(const char *metric) { return strncmp(metric, "budget_for_", 11) == 0; }

/* "; n = 64" or "; n = 32 to 64": how many values the means of the worst heads are of. */
static void write_worst_n(adm_text *page, const json_t *document, size_t session, const char *metric) {
    int64_t least = 0, most = 0;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i, row) {
        const int64_t n = adm_row_is(row, session, metric) ? adm_field_int(row, "worst_n") : 0;
        if (n > 0 && (least == 0 || n < least)) least = n;
        if (n > most) most = n;
    }
    if (most > 0) adm_text_format(page, "; n = %lld", (long long)least);
    if (most > least) adm_text_format(page, " to %lld", (long long)most);
}

static void write_quality_head(adm_text *page, const json_t *document, size_t session, const char *metric, bool is_joined) {
    const char *unit = adm_metric_unit(document, metric);
    const char *shown = adm_shown_unit(unit);
    adm_text_add(page, "<thead><tr><th scope=\"col\" class=\"text\">policy and variant</th><th scope=\"col\">length, "
                       "tokens</th><th scope=\"col\">budget, tokens</th><th scope=\"col\">n</th>");
    for (int i = 0; i < N_COLUMNS; i++) {
        adm_text_format(page, "<th scope=\"col\">%s%s", columns[i].title, shown[0] ? ", " : "");
        adm_text_escaped(page, shown);
        adm_text_add(page, "</th>");
    }
    adm_text_format(page, "<th scope=\"col\">worst head%s", shown[0] ? ", " : "");
    adm_text_escaped(page, shown);
    adm_text_add(page, "</th><th scope=\"col\">its layer, head");
    write_worst_n(page, document, session, metric);
    adm_text_add(page, "</th>");
    if (is_joined) adm_text_add(page, "<th scope=\"col\" class=\"text\">measured on</th>");
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
}

static void write_quality_row(adm_text *page, const json_t *row, bool first_of_series, const char *unit, bool is_joined) {
    adm_write_row_start(page, first_of_series);
    adm_write_series_cell(page, row);
    adm_write_count_cell(page, row, "seq_len", "");
    adm_write_count_cell(page, row, "budget", is_about_budgets(adm_field_text(row, "metric")) ? "sought" : "all");
    adm_write_count_cell(page, row, "n", "");
    if (strcmp(adm_field_text(row, "status"), "ok") != 0) {
        adm_write_reason_cell(page, row, N_COLUMNS + 2);
    } else {
        for (int i = 0; i < N_COLUMNS; i++) adm_write_value_cell(page, row, columns[i].key, unit);
        adm_write_value_cell(page, row, "worst_mean", unit);
        if (json_is_integer(json_object_get(row, "worst_head")))
            adm_text_format(page, "<td>%lld, %lld</td>", (long long)adm_field_int(row, "worst_layer"),
                            (long long)adm_field_int(row, "worst_head"));
        else adm_text_add(page, "<td>\u2013</td>");
    }
    if (is_joined) adm_write_place_cell(page, row);
    adm_text_add(page, "</tr>\n");
}

static void write_sql(adm_text *page, const json_t *document, size_t session, const char *metric) {
    char name[ADM_SQL_TEXT_BYTES], trace[ADM_SQL_TEXT_BYTES];
    adm_text_format(
        page,
        ADM_SQL("SELECT policy, variant, seq_len, budget, n, mean, p50, p95, p99, worst FROM quality_summary WHERE run_id "
                "= %lld AND trace = %s AND metric = %s ORDER BY policy, variant, seq_len, budget"),
        (long long)adm_field_int(adm_session_run(document, session), "run_id"),
        adm_sql_text(adm_field_text(adm_session_trace(document, session), "name"), trace), adm_sql_text(metric, name));
}

/* The table of one metric; nothing if the session does not have it. */
static void write_metric_table(adm_text *page, const json_t *document, size_t session, const char *metric, bool open) {
    const json_t *rows = adm_document_rows(document, "quality");
    const char *unit = adm_metric_unit(document, metric), *last_series = "";
    const bool is_joined = adm_run_is_joined(document, adm_field_int(adm_session_run(document, session), "run_id"));
    size_t i, n_rows = 0;
    json_t *row;
    json_array_foreach(rows, i, row) n_rows += adm_row_is(row, session, metric);
    if (n_rows == 0) return;
    adm_write_table_start(page, document, metric, n_rows, open, metric);
    write_sql(page, document, session, metric);
    write_quality_head(page, document, session, metric, is_joined);
    json_array_foreach(rows, i, row) {
        if (!adm_row_is(row, session, metric)) continue;
        const char *series = adm_field_text(row, "series");
        write_quality_row(page, row, strcmp(series, last_series) != 0, unit, is_joined);
        last_series = series;
    }
    adm_text_add(page, "</tbody></table></div>\n");
    adm_write_notes(page, document, session, metric);
    adm_text_add(page, "</details>\n");
}

static bool session_has(const json_t *document, size_t session, const char *metric) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i, row) if (adm_row_is(row, session, metric)) return true;
    return false;
}

/* How many policies and variants were measured at a budget, up to 2. */
static int n_series(const json_t *document, size_t session) {
    const char *first = NULL;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i, row) {
        if (!adm_row_is(row, session, "output_rel_l2") || !json_is_integer(json_object_get(row, "budget"))) continue;
        if (first != NULL && strcmp(first, adm_field_text(row, "series")) != 0) return 2;
        first = adm_field_text(row, "series");
    }
    return first != NULL;
}

void adm_view_quality(adm_text *page, const json_t *document) {
    static const struct {
        const char *metric;
        adm_markup caption;
    } plots[] = {
        {"recall", ADM_MARKUP_INIT("<strong>Recall</strong>: share of the exact top-k that was selected. Higher is better.")},
        {"mass", ADM_MARKUP_INIT(
                     "<strong>Softmax mass</strong>: attention weight that falls on the selected tokens. Higher is better.")},
        {"output_rel_l2",
         ADM_MARKUP_INIT("<strong>Output error</strong>: |o \u2212 o<sub>dense</sub>| / |o<sub>dense</sub>|, on a "
                         "logarithmic scale. Lower is better.")},
    };
    for (size_t session = 0; session < adm_n_sessions(document); session++) {
        if (!session_has(document, session, NULL)) continue;
        adm_write_part_start(page, "session", session);
        adm_write_session_heading(page, document, session);
        if (n_series(document, session) > 1)
            adm_write_plot(
                page, "policies", session, NULL,
                ADM_MARKUP("<strong>Policies side by side</strong> at one length and budget: how the values of all steps, "
                           "layers and heads spread."));
        for (size_t i = 0; i < sizeof plots / sizeof plots[0]; i++)
            if (session_has(document, session, plots[i].metric))
                adm_write_plot(page, "quality", session, plots[i].metric, plots[i].caption);
        adm_text_add(page, "<h4>Every figure</h4>\n<p class=\"about\">One value per step, layer and query head. p1 to p99 "
                           "are percentiles of those values; the worst head is the head of one layer whose mean over "
                           "the steps is worst. A cell\u2019s tooltip holds the exact value.</p>\n");
        size_t i;
        json_t *metric;
        json_array_foreach(adm_document_rows(document, "metrics"), i,
                           metric) if (!is_about_codes(adm_field_text(metric, "name")) &&
                                       !is_about_budgets(adm_field_text(metric, "name")))
            write_metric_table(page, document, session, adm_field_text(metric, "name"), false);
        adm_write_part_end(page);
    }
}

/* --- Adaptive budgets ----------------------------------------------------------------------------------------------- */

void adm_view_budgets(adm_text *page, const json_t *document) {
    for (size_t session = 0; session < adm_n_sessions(document); session++) {
        bool headed = false;
        size_t i;
        json_t *metric;
        json_array_foreach(adm_document_rows(document, "metrics"), i, metric) {
            const char *name = adm_field_text(metric, "name");
            if (!is_about_budgets(name) || !session_has(document, session, name)) continue;
            if (!headed) {
                adm_write_part_start(page, "session", session);
                adm_write_session_heading(page, document, session);
                adm_write_plot(
                    page, "budgets", session, NULL,
                    ADM_MARKUP("<strong>The smallest budget that reaches a target</strong>, sought for every step, layer and "
                               "head: a head far to the right of the median is what a budget for all must be made for."));
            }
            headed = true;
            write_metric_table(page, document, session, name, false);
        }
        if (headed) adm_write_part_end(page);
    }
}

/* --- How well the codes spread -------------------------------------------------------------------------------------- */

enum { N_CODES = 4 };

/* The session's row of a metric of the codes that is of the same policy and length as `like`. */
static const json_t *find_like(const json_t *document, size_t session, const char *metric, const json_t *like) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i,
                       row) if (adm_row_is(row, session, metric) &&
                                adm_field_int(row, "seq_len") == adm_field_int(like, "seq_len") &&
                                strcmp(adm_field_text(row, "series"), adm_field_text(like, "series")) == 0) return row;
    return NULL;
}

/* All codes side by side: one row per policy and length, the means over layers and KV heads. */
static void write_spread_table(adm_text *page, const json_t *document, size_t session) {
    size_t i, n_rows = 0;
    json_t *row;
    const json_t *rows = adm_document_rows(document, "quality");
    json_array_foreach(rows, i, row) n_rows += adm_row_is(row, session, "bucket_entropy_bits");
    if (n_rows == 0) return;
    adm_write_table_start(page, document, "Shares of the four codes", n_rows, true, NULL);
    write_sql(page, document, session, "bucket_entropy_bits");
    adm_text_add(page, "<thead><tr><th scope=\"col\" class=\"text\">policy and variant</th><th scope=\"col\">length, "
                       "tokens</th><th scope=\"col\">n layers \u00d7 KV heads</th>");
    for (int code = 0; code < N_CODES; code++) adm_text_format(page, "<th scope=\"col\">code %d, %%</th>", code);
    adm_text_add(page, "<th scope=\"col\">entropy, bits (at most 2)</th></tr></thead>\n<tbody>\n");
    json_array_foreach(rows, i, row) {
        if (!adm_row_is(row, session, "bucket_entropy_bits")) continue;
        adm_text_add(page, "<tr><th scope=\"row\">");
        adm_text_escaped(page, adm_field_text(row, "series"));
        adm_text_add(page, "</th>");
        adm_write_count_cell(page, row, "seq_len", "");
        adm_write_count_cell(page, row, "n", "");
        for (int code = 0; code < N_CODES; code++) {
            char metric[] = "bucket_occupancy_0";
            metric[sizeof metric - 2] = (char)('0' + code);
            adm_write_value_cell(page, find_like(document, session, metric, row), "mean", "ratio");
        }
        adm_write_value_cell(page, row, "mean", "bits");
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
}

void adm_view_codes(adm_text *page, const json_t *document) {
    for (size_t session = 0; session < adm_n_sessions(document); session++) {
        bool headed = false;
        size_t i;
        json_t *metric;
        json_array_foreach(adm_document_rows(document, "metrics"), i, metric) {
            const char *name = adm_field_text(metric, "name");
            if (!is_about_codes(name) || !session_has(document, session, name)) continue;
            if (!headed) {
                adm_write_part_start(page, "session", session);
                adm_write_session_heading(page, document, session);
                adm_text_add(page, "<p class=\"about\">How the elements of the cached keys fall into the four buckets: "
                                   "means over layers and KV heads; equal shares are 2 bits an element. Ties are tokens "
                                   "at the boundary distance, among which top-k chooses the most recent.</p>\n");
                write_spread_table(page, document, session);
            }
            headed = true;
            write_metric_table(page, document, session, name, false);
        }
        if (headed) adm_write_part_end(page);
    }
}
