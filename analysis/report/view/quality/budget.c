/* budget.c: a row per policy and budget: quality of a session, times of a GPU's setting, perplexity and throughput where they
 * were measured. A part per session and GPU; without a GPU one per session. */
#include "analysis/report/view/quality/budget.h"

#include <math.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/shards.h"
#include "analysis/report/view/write.h"

/* Median output errors for which the smallest budget is sought. */
static const double targets[] = {0.01, 0.02, 0.05, 0.1, 0.2};
enum { N_TARGETS = sizeof targets / sizeof targets[0] };

/* One table: a session at one length, and the setting of a GPU or NULL. */
typedef struct meeting {
    const json_t *document, *setting;
    size_t session;
    int64_t seq_len;     /* of the session */
    int64_t gpu_seq_len; /* of the setting: where its steps were measured */
    double dense_ns;     /* NAN: not measured */
} meeting;

static int64_t longest(const json_t *document, size_t session) {
    int64_t max_len = 0;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i,
                       row) if (adm_row_is(row, session, "output_rel_l2") && json_is_integer(json_object_get(row, "budget")) &&
                                adm_field_int(row, "seq_len") > max_len) max_len = adm_field_int(row, "seq_len");
    return max_len;
}

static const json_t *find(const meeting *m, const json_t *like, const char *metric) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(m->document, "quality"), i,
                       row) if (adm_row_is(row, m->session, metric) &&
                                adm_field_int(row, "seq_len") == adm_field_int(like, "seq_len") &&
                                adm_field_int(row, "budget") == adm_field_int(like, "budget") &&
                                strcmp(adm_field_text(row, "series"), adm_field_text(like, "series")) == 0) return row;
    return NULL;
}

/* Perplexity over dense attention's, of an evaluation of the session's model by the same policy and budget. */
static bool find_perplexity(const meeting *m, const json_t *like, double *ratio) {
    const char *model = adm_field_text(adm_session_trace(m->document, m->session), "model");
    size_t i;
    json_t *task;
    json_array_foreach(adm_document_rows(m->document, "tasks"), i, task) {
        const json_t *evaluation = json_array_get(adm_document_rows(m->document, "evaluations"),
                                                  (size_t)adm_field_int(task, "evaluation"));
        if (strcmp(adm_field_text(evaluation, "model"), model) == 0 &&
            adm_field_int(task, "budget") == adm_field_int(like, "budget") &&
            strcmp(adm_field_text(task, "series"), adm_field_text(like, "series")) == 0 &&
            adm_field_number(json_object_get(task, "value"), "perplexity_ratio", ratio))
            return true;
    }
    return false;
}

/* Simulated tokens per second of this budget, of the first simulation that has it. */
static bool find_throughput(const meeting *m, const json_t *like, double *tokens_per_s) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(m->document, "served"), i,
                       row) if (adm_field_int(row, "budget") == adm_field_int(like, "budget") &&
                                adm_field_number(json_object_get(json_object_get(row, "metric"), "output_tokens_per_s"), "p50",
                                                 tokens_per_s)) return true;
    return false;
}

/* Kernels of this project run adamas; what another policy would take on a GPU is not known. */
static bool is_timed(const json_t *row) { return strcmp(adm_field_text(row, "policy"), "adamas") == 0; }

static void write_time(adm_text *page, const meeting *m, const json_t *row, const char *stage) {
    const json_t *unit = is_timed(row)
                             ? adm_find_unit(m->document, m->setting, stage, NULL, m->gpu_seq_len, adm_field_int(row, "budget"))
                             : NULL;
    adm_write_value_cell(page, unit, "median", "ns");
}

static void write_gain(adm_text *page, const meeting *m, const json_t *row) {
    const json_t *step = is_timed(row) ? adm_find_unit(m->document, m->setting, "step", NULL, m->gpu_seq_len,
                                                       adm_field_int(row, "budget"))
                                       : NULL;
    double ns;
    if (adm_field_number(step, "median", &ns) && ns > 0 && isfinite(m->dense_ns))
        adm_text_format(page, "<td class=\"%s\">%.2f</td>", m->dense_ns >= ns ? "gain" : "loss", m->dense_ns / ns);
    else adm_text_add(page, "<td>\u2013</td>");
}

static bool is_joined(const meeting *m) {
    return adm_run_is_joined(m->document, adm_field_int(adm_session_run(m->document, m->session), "run_id"));
}

static void write_row(adm_text *page, const meeting *m, const json_t *row, bool first, bool with_perplexity,
                      bool with_throughput) {
    double value;
    adm_write_row_start(page, first);
    adm_write_series_cell(page, row);
    adm_write_count_cell(page, row, "budget", "all");
    adm_write_value_cell(page, find(m, row, "recall"), "median", "ratio");
    adm_write_value_cell(page, find(m, row, "mass"), "median", "ratio");
    adm_write_value_cell(page, row, "median", "ratio");
    adm_write_value_cell(page, row, "worst_mean", "ratio");
    if (with_perplexity) {
        if (find_perplexity(m, row, &value)) adm_text_format(page, "<td>%.3f</td>", value);
        else adm_text_add(page, "<td>\u2013</td>");
    }
    if (m->setting != NULL) {
        write_time(page, m, row, "topk");
        write_time(page, m, row, "attention");
        write_time(page, m, row, "step");
        write_gain(page, m, row);
    }
    if (with_throughput) {
        if (is_timed(row) && find_throughput(m, row, &value)) adm_write_number_cell(page, value, "");
        else adm_text_add(page, "<td>\u2013</td>");
    }
    adm_write_count_cell(page, row, "n", "");
    if (is_joined(m)) adm_write_place_cell(page, row);
    adm_text_add(page, "</tr>\n");
}

static bool is_of_table(const meeting *m, const json_t *row) {
    return adm_row_is(row, m->session, "output_rel_l2") && adm_field_int(row, "seq_len") == m->seq_len &&
           json_is_integer(json_object_get(row, "budget")) && strcmp(adm_field_text(row, "status"), "ok") == 0;
}

/* A query of the session's quality, and of the GPU's steps. */
static void write_sql(adm_text *page, const meeting *m, const char *further) {
    const json_t *profile = m->setting != NULL ? adm_profile(m->document, (size_t)adm_field_int(m->setting, "profile")) : NULL;
    adm_text_format(
        page,
        ADM_SQL("SELECT q.policy, q.variant, q.budget, q.metric, q.p50, q.worst, q.n, (SELECT min(s.median) FROM "
                "stage_summary s WHERE s.run_id = %lld AND s.stage = 'step' AND s.metric = 'time_ns' AND s.status = "
                "'ok' AND s.seq_len = %lld AND s.kv_heads = %lld AND s.batch = %lld AND s.budget = q.budget) AS "
                "step_ns FROM quality_summary q WHERE q.run_id = %lld AND q.seq_len = %lld AND q.metric IN ('recall', "
                "'mass', 'output_rel_l2') AND q.budget IS NOT NULL%s ORDER BY q.policy, q.variant, q.budget"),
        (long long)adm_field_int(profile, "run_id"), (long long)m->gpu_seq_len,
        (long long)adm_field_int(m->setting, "n_kv_heads"), (long long)adm_field_int(m->setting, "batch"),
        (long long)adm_field_int(adm_session_run(m->document, m->session), "run_id"), (long long)m->seq_len, further);
}

static void write_table(adm_text *page, const meeting *m) {
    const json_t *rows = adm_document_rows(m->document, "quality");
    bool with_perplexity = false, with_throughput = false;
    size_t n = 0, i;
    double value;
    json_t *row;
    json_array_foreach(rows, i, row) {
        if (!is_of_table(m, row)) continue;
        n++;
        with_perplexity |= find_perplexity(m, row, &value);
        with_throughput |= is_timed(row) && find_throughput(m, row, &value);
    }
    adm_write_table_start(page, m->document, "Every budget", n, true, NULL);
    write_sql(page, m, "");
    adm_text_add(page,
                 "<thead><tr><th scope=\"col\" class=\"text\">policy and variant</th><th scope=\"col\">budget, tokens</th>"
                 "<th scope=\"col\">recall, %</th><th scope=\"col\">mass, %</th><th scope=\"col\">output error, %</th>"
                 "<th scope=\"col\">worst head\u2019s error, %</th>");
    if (with_perplexity) adm_text_add(page, "<th scope=\"col\">perplexity over dense</th>");
    if (m->setting != NULL)
        adm_text_add(page,
                     "<th scope=\"col\">top-k, \u00b5s</th><th scope=\"col\">attention, \u00b5s</th><th scope=\"col\">step, "
                     "\u00b5s</th><th scope=\"col\">speed-up, times</th>");
    if (with_throughput) adm_text_add(page, "<th scope=\"col\">simulated tokens/s</th>");
    adm_text_add(page, "<th scope=\"col\">n</th>");
    if (is_joined(m)) adm_text_add(page, "<th scope=\"col\" class=\"text\">measured on</th>");
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
    const char *last = "";
    json_array_foreach(rows, i, row) {
        if (!is_of_table(m, row)) continue;
        write_row(page, m, row, strcmp(last, adm_field_text(row, "series")) != 0, with_perplexity, with_throughput);
        last = adm_field_text(row, "series");
    }
    adm_write_table_end(page);
}

/* --- The smallest budget within a target ---------------------------------------------------------------------------- */

/* The smallest budget of a series whose `key` is within the target; 0 if none that was measured is. */
static int64_t smallest(const meeting *m, const char *series, const char *key, double target) {
    int64_t best = 0;
    size_t i;
    double value;
    json_t *row;
    json_array_foreach(adm_document_rows(m->document, "quality"), i, row) {
        const int64_t budget = adm_field_int(row, "budget");
        if (is_of_table(m, row) && strcmp(adm_field_text(row, "series"), series) == 0 && adm_field_number(row, key, &value) &&
            value <= target && (best == 0 || budget < best))
            best = budget;
    }
    return best;
}

static void write_smallest_cell(adm_text *page, int64_t budget) {
    char shown[ADM_NUMBER_CHARS];
    adm_shown_count(budget, shown);
    adm_text_format(page, "<td>%s</td>", budget > 0 ? shown : "\u2013");
}

static void write_targets(adm_text *page, const meeting *m) {
    const json_t *rows = adm_document_rows(m->document, "quality");
    const char *last = "";
    size_t n = 0, i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        if (!is_of_table(m, row) || strcmp(adm_field_text(row, "series"), last) == 0) continue;
        last = adm_field_text(row, "series");
        n++;
    }
    adm_write_table_start(page, m->document, "The smallest budget within a target error", n, true, NULL);
    adm_text_add(page, "<caption>Of the budgets measured. First for the median over steps, layers and heads, then for the "
                       "worst head\u2019s mean; a dash: none is enough</caption>\n");
    write_sql(page, m, " AND p50 <= 0.2");
    adm_text_add(page, "<thead><tr><th scope=\"col\" class=\"text\">policy and variant</th>");
    for (int t = 0; t < N_TARGETS; t++)
        adm_text_format(page, "<th scope=\"col\">\u2264 %g%%, median</th><th scope=\"col\">\u2264 %g%%, worst head</th>",
                        100 * targets[t], 100 * targets[t]);
    adm_text_add(page, "</tr></thead>\n<tbody>\n");
    last = "";
    json_array_foreach(rows, i, row) {
        const char *series = adm_field_text(row, "series");
        if (!is_of_table(m, row) || strcmp(series, last) == 0) continue;
        last = series;
        adm_text_format(page, "<tr><th scope=\"row\">%s</th>", series);
        for (int t = 0; t < N_TARGETS; t++) {
            write_smallest_cell(page, smallest(m, series, "median", targets[t]));
            write_smallest_cell(page, smallest(m, series, "worst_mean", targets[t]));
        }
        adm_text_add(page, "</tr>\n");
    }
    adm_write_table_end(page);
}

/* --- Parts ---------------------------------------------------------------------------------------------------------- */

static void write_about(adm_text *page, const meeting *m, const json_t *profile) {
    char length[ADM_NUMBER_CHARS], gpu_length[ADM_NUMBER_CHARS];
    adm_shown_count(m->seq_len, length);
    adm_text_format(page, "<p class=\"about\">Quality at %s tokens of context: medians over steps, layers and heads.", length);
    if (profile != NULL) {
        adm_shown_count(adm_field_int(json_object_get(profile, "headline"), "seq_len"), gpu_length);
        adm_text_format(
            page,
            " Times of one layer on the %s%s, at %s tokens, in the setting chosen; the speed-up is over the fastest "
            "dense attention known. A budget takes the same time on any model of that shape.",
            adm_field_text(profile, "gpu"), json_is_true(json_object_get(profile, "is_recorded")) ? " (recorded)" : "",
            gpu_length);
    }
    adm_text_add(page, "</p>\n");
}

static void write_plot(adm_text *page, size_t session, int64_t profile) {
    adm_text_format(page, "<figure class=\"plot\" data-plot=\"budget\" data-session=\"%zu\"", session);
    if (profile >= 0) adm_text_format(page, " data-gpu=\"%lld\"", (long long)profile);
    adm_write_frame_end(page,
                        ADM_MARKUP("<strong>What a budget loses and costs</strong>: output error and recall, and on a GPU the "
                                   "time of a step against dense attention\u2019s and the speed-up."));
}

/* The tables of one GPU: one per setting with whole steps. */
static void write_settings(adm_text *page, meeting *m, size_t profile) {
    const json_t *settings = adm_document_rows(m->document, "settings");
    m->gpu_seq_len = adm_field_int(json_object_get(adm_profile(m->document, profile), "headline"), "seq_len");
    size_t s;
    json_t *setting;
    json_array_foreach(settings, s, setting) {
        if (!adm_row_is_of(setting, profile) || adm_find_unit(m->document, setting, "step", NULL, m->gpu_seq_len, 0) == NULL)
            continue;
        m->setting = setting;
        m->dense_ns = NAN;
        adm_field_number(adm_find_unit(m->document, setting, "dense", NULL, m->gpu_seq_len, 0), "median", &m->dense_ns);
        adm_text_format(page, "<div data-setting=\"%zu\">\n<p class=\"about\">%s</p>\n", s, adm_field_text(setting, "name"));
        write_table(page, m);
        adm_text_add(page, "</div>\n");
    }
}

void adm_view_budget(adm_text *page, const json_t *document) {
    for (size_t session = 0; session < adm_n_sessions(document); session++) {
        meeting m = {.document = document, .session = session, .seq_len = longest(document, session), .dense_ns = NAN};
        bool any_gpu = false;
        if (m.seq_len == 0) continue;
        for (size_t profile = 0; profile < adm_n_profiles(document); profile++) {
            if (json_object_get(adm_profile(document, profile), "headline") == NULL) continue;
            any_gpu = true;
            adm_text_format(page, "<noscript data-session=\"%zu\" data-gpu=\"%zu\">\n", session, profile);
            adm_write_session_heading(page, document, session);
            write_about(page, &m, adm_profile(document, profile));
            write_plot(page, session, (int64_t)profile);
            write_targets(page, &m);
            write_settings(page, &m, profile);
            adm_write_part_end(page);
        }
        if (any_gpu) continue;
        adm_write_part_start(page, "session", session);
        adm_write_session_heading(page, document, session);
        write_about(page, &m, NULL);
        write_plot(page, session, -1);
        write_targets(page, &m);
        write_table(page, &m);
        adm_write_part_end(page);
    }
}
