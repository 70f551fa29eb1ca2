/* heads.c: which heads suffer: a heat map of every head, and the worst head of each layer. */
#include "analysis/report/view/quality/heads.h"

#include <math.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/write.h"

enum { MAX_BUDGETS = 64 };

/* The budgets that occur in a session's matrices of one metric, ascending; returns how many. */
static size_t budgets_of(const json_t *document, size_t session, const char *metric, int64_t budget[MAX_BUDGETS]) {
    size_t n = 0, i;
    json_t *matrix;
    json_array_foreach(adm_document_rows(document, "heads"), i, matrix) {
        if (!adm_row_is(matrix, session, metric)) continue;
        int64_t here = adm_field_int(matrix, "budget");
        size_t at = 0;
        while (at < n && budget[at] < here) at++;
        if ((at < n && budget[at] == here) || n == MAX_BUDGETS) continue;
        memmove(budget + at + 1, budget + at, (n - at) * sizeof *budget);
        budget[at] = here;
        n++;
    }
    return n;
}

static const json_t *find_matrix(const json_t *document, const json_t *like, int64_t budget) {
    size_t i;
    json_t *matrix;
    json_array_foreach(adm_document_rows(document, "heads"), i,
                       matrix) if (adm_row_is(matrix, (size_t)adm_field_int(like, "session"), adm_field_text(like, "metric")) &&
                                   adm_field_int(matrix, "seq_len") == adm_field_int(like, "seq_len") &&
                                   adm_field_int(matrix, "budget") == budget &&
                                   strcmp(adm_field_text(matrix, "series"), adm_field_text(like, "series")) == 0) return matrix;
    return NULL;
}

/* True if no earlier matrix is of the same metric, series and length. */
static bool is_first(const json_t *document, size_t index) {
    const json_t *heads = adm_document_rows(document, "heads"), *matrix = json_array_get(heads, index);
    const json_t *before = index > 0 ? json_array_get(heads, index - 1) : NULL;
    static const char *const keys[] = {"session", "metric", "series", "seq_len"};
    for (size_t i = 0; i < 4; i++)
        if (!json_equal(json_object_get(matrix, keys[i]), json_object_get(before, keys[i]))) return true;
    return false;
}

/* The worst head of one layer in one matrix, as a cell. */
static void write_worst_cell(adm_text *page, const json_t *matrix, size_t layer, bool higher_is_better, const char *unit) {
    double worst = NAN;
    size_t worst_head = 0, head;
    json_t *mean;
    json_array_foreach(json_array_get(json_object_get(matrix, "mean"), layer), head, mean) {
        if (!json_is_number(mean)) continue;
        double value = json_number_value(mean);
        if (!isnan(worst) && (higher_is_better ? value >= worst : value <= worst)) continue;
        worst = value;
        worst_head = head;
    }
    if (isnan(worst)) {
        adm_text_add(page, "<td>\u2013</td>");
        return;
    }
    char precise[ADM_NUMBER_CHARS];
    adm_precise_value(worst, unit, precise);
    adm_text_format(page, "<td>%s <small>h%zu</small></td>", precise, worst_head);
}

static void write_worst_rows(adm_text *page, const json_t *document, const json_t *matrix, const int64_t *budget,
                             size_t n_budgets, bool higher_is_better, const char *unit) {
    size_t layer;
    json_t *number;
    json_array_foreach(json_object_get(matrix, "layers"), layer, number) {
        adm_write_row_start(page, layer == 0);
        adm_text_add(page, "<th scope=\"row\">");
        adm_text_escaped(page, adm_field_text(matrix, "series"));
        adm_text_add(page, "</th>");
        adm_write_count_cell(page, matrix, "seq_len", "");
        adm_text_format(page, "<td>%lld</td>", (long long)json_integer_value(number));
        adm_write_count_cell(page, matrix, "n_min", "");
        for (size_t b = 0; b < n_budgets; b++)
            write_worst_cell(page, find_matrix(document, matrix, budget[b]), layer, higher_is_better, unit);
        adm_text_add(page, "</tr>\n");
    }
}

static void write_worst_table(adm_text *page, const json_t *document, size_t session, const char *metric, const char *title,
                              bool higher_is_better) {
    int64_t budget[MAX_BUDGETS];
    size_t n_budgets = budgets_of(document, session, metric, budget), n_rows = 0, i;
    const json_t *heads = adm_document_rows(document, "heads");
    const char *unit = adm_metric_unit(document, metric);
    json_t *matrix;
    json_array_foreach(heads, i, matrix) if (adm_row_is(matrix, session, metric) && is_first(document, i))
        n_rows += json_array_size(json_object_get(matrix, "layers"));
    if (n_rows == 0) return;
    adm_write_table_start(page, document, title, n_rows, false, metric);
    char name[ADM_SQL_TEXT_BYTES];
    adm_text_format(
        page,
        ADM_SQL("SELECT c.policy, c.variant, c.seq_len, c.budget, m.layer, m.head, m.n, m.mean FROM measurement m JOIN "
                "config c USING (config_id) JOIN metric k USING (metric_id) WHERE m.run_id = %lld AND c.trace_id = %lld "
                "AND m.head IS NOT NULL AND m.status = 'ok' AND k.name = %s ORDER BY 1, 2, 3, 4, 5, 6"),
        (long long)adm_field_int(adm_session_run(document, session), "run_id"),
        (long long)adm_field_int(adm_session_trace(document, session), "trace_id"), adm_sql_text(metric, name));
    adm_text_add(page, "<thead><tr><th scope=\"col\" class=\"text\">policy and variant</th><th scope=\"col\">length, "
                       "tokens</th><th scope=\"col\">layer</th><th scope=\"col\">n a head</th>");
    for (size_t b = 0; b < n_budgets; b++) {
        char shown[ADM_NUMBER_CHARS];
        adm_shown_count(budget[b], shown);
        adm_text_format(page, "<th scope=\"col\">budget %s, ", shown);
        adm_text_escaped(page, adm_shown_unit(unit));
        adm_text_add(page, "</th>");
    }
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
    json_array_foreach(heads, i, matrix) if (adm_row_is(matrix, session, metric) && is_first(document, i))
        write_worst_rows(page, document, matrix, budget, n_budgets, higher_is_better, unit);
    adm_write_table_end(page);
}

void adm_view_heads(adm_text *page, const json_t *document) {
    for (size_t session = 0; session < adm_n_sessions(document); session++) {
        int64_t budget[MAX_BUDGETS];
        if (budgets_of(document, session, "output_rel_l2", budget) == 0) continue;
        adm_write_part_start(page, "session", session);
        adm_write_session_heading(page, document, session);
        adm_write_plot(
            page, "heads", session, NULL,
            ADM_MARKUP("<strong>Every head</strong>: mean over the steps, one panel per budget, one row per layer, one "
                       "column a query head. The worst head of each panel is outlined."));
        write_worst_table(page, document, session, "output_rel_l2", "Worst head of each layer by mean output error", false);
        write_worst_table(page, document, session, "recall", "Worst head of each layer by mean recall", true);
        adm_write_part_end(page);
    }
}
