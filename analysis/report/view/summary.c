/* summary.c: the headline figures, each computed from the document's rows. */
#include "analysis/report/view/summary.h"

#include <stdio.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/sketches.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/write.h"

/* Median output errors that the summary looks for. */
static const double error_goals[] = {0.05, 0.01};
enum { N_GOALS = sizeof error_goals / sizeof error_goals[0] };

/* The longest sequence length with quality figures; 0 if there is none. */
static int64_t longest_length(const json_t *document, size_t session) {
    int64_t longest = 0;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i,
                       row) if (adm_row_is(row, session, "output_rel_l2") && adm_field_int(row, "seq_len") > longest)
        longest = adm_field_int(row, "seq_len");
    return longest;
}

/* The budget in the summary's sentences: the largest measured that is at most an eighth of the length, else the
 * smallest measured. An eighth is where sparse attention should still be clearly cheaper than dense. */
static int64_t headline_budget(const json_t *document, size_t session, int64_t length) {
    int64_t best = 0, smallest = 0;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i, row) {
        int64_t budget = adm_field_int(row, "budget");
        if (!adm_row_is(row, session, "output_rel_l2") || adm_field_int(row, "seq_len") != length || budget == 0) continue;
        if (budget <= length / 8 && budget > best) best = budget;
        if (smallest == 0 || budget < smallest) smallest = budget;
    }
    return best > 0 ? best : smallest;
}

static const json_t *find_quality(const json_t *document, size_t session, const char *metric, const char *series,
                                  int64_t length, int64_t budget) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i,
                       row) if (adm_row_is(row, session, metric) && strcmp(adm_field_text(row, "series"), series) == 0 &&
                                adm_field_int(row, "seq_len") == length && adm_field_int(row, "budget") == budget) return row;
    return NULL;
}

/* The smallest budget whose median output error is at most `goal`, as a cell. True if it has a note. */
static bool write_goal_cell(adm_text *page, const json_t *document, size_t session, const char *series, int64_t length,
                            double goal) {
    const json_t *best = NULL;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i, row) {
        double median;
        if (adm_row_is(row, session, "output_rel_l2") && strcmp(adm_field_text(row, "series"), series) == 0 &&
            adm_field_int(row, "seq_len") == length && adm_field_number(row, "median", &median) && median <= goal &&
            (best == NULL || adm_field_int(row, "budget") < adm_field_int(best, "budget")))
            best = row;
    }
    if (best == NULL) adm_text_add(page, "<td class=\"none\">none measured</td>");
    else if (adm_field_text(best, "note")[0])
        adm_text_format(page, "<td>%lld&nbsp;*</td>", (long long)adm_field_int(best, "budget"));
    else adm_write_count_cell(page, best, "budget", "all");
    return adm_field_text(best, "note")[0] != '\0';
}

/* True if any of its cells has a note. */
static bool write_summary_row(adm_text *page, const json_t *document, size_t session, const json_t *error, int64_t length,
                              int64_t budget) {
    static const char *const metrics[] = {"recall", "mass", "output_rel_l2"};
    const char *series = adm_field_text(error, "series");
    bool is_noted = adm_field_text(error, "note")[0] != '\0';
    adm_text_add(page, "<tr>");
    adm_write_series_cell(page, error);
    for (size_t m = 0; m < sizeof metrics / sizeof metrics[0]; m++) {
        const json_t *row = find_quality(document, session, metrics[m], series, length, budget);
        adm_write_value_cell(page, row, "median", adm_metric_unit(document, metrics[m]));
    }
    adm_write_value_cell(page, error, "worst_mean", adm_metric_unit(document, "output_rel_l2"));
    for (int g = 0; g < N_GOALS; g++) is_noted |= write_goal_cell(page, document, session, series, length, error_goals[g]);
    adm_write_count_cell(page, error, "n", "");
    adm_text_add(page, "</tr>\n");
    return is_noted;
}

static void write_summary_table(adm_text *page, const json_t *document, size_t session, int64_t length, int64_t budget) {
    char shown_length[ADM_NUMBER_CHARS], shown_budget[ADM_NUMBER_CHARS];
    adm_shown_count(length, shown_length);
    adm_shown_count(budget, shown_budget);
    adm_text_format(
        page,
        "<div class=\"scroll\" tabindex=\"0\"><table class=\"headline\"><caption>At %s cached tokens with a "
        "budget of %s: medians over steps, layers and heads</caption>\n" ADM_SQL(
            "SELECT policy, variant, metric, p50, worst, n FROM quality_summary WHERE run_id = %lld AND seq_len = %lld AND "
            "budget = %lld ORDER BY metric, policy, variant") "<thead><tr><th scope=\"col\" "
                                                              "class=\"text\">policy and variant</th>"
                                                              "<th scope=\"col\">recall, %%</th>"
                                                              "<th scope=\"col\">mass, "
                                                              "%%</th><th scope=\"col\">output error, %%</th>"
                                                              "<th scope=\"col\">worst head\u2019s mean error, "
                                                              "%%</th>",
        shown_length, shown_budget, (long long)adm_field_int(adm_session_run(document, session), "run_id"), (long long)length,
        (long long)budget);
    for (int g = 0; g < N_GOALS; g++)
        adm_text_format(page, "<th scope=\"col\">budget for error \u2264 %g%%</th>", error_goals[g] * 100);
    adm_text_add(page, "<th scope=\"col\">n</th></tr></thead>\n<tbody>\n");
    size_t i;
    json_t *row;
    bool is_noted = false;
    json_array_foreach(adm_document_rows(document, "quality"), i, row) if (adm_row_is(row, session, "output_rel_l2") &&
                                                                           adm_field_int(row, "seq_len") == length &&
                                                                           adm_field_int(row, "budget") == budget)
        is_noted |= write_summary_row(page, document, session, row, length, budget);
    adm_text_add(page, "</tbody></table></div>\n");
    if (is_noted) adm_write_notes(page, document, session, "output_rel_l2");
}

/* --- The best selection measured ------------------------------------------------------------------------------------ */

/* "; the best sketch (adamas asym4 calibrated) 13.1%", unless that is named already or no better than the default. */
static void write_best_sketch(adm_text *page, const json_t *best) {
    const json_t *sketch = json_object_get(best, "sketch"), *series = json_object_get(sketch, "series");
    char shown[ADM_NUMBER_CHARS];
    double median = 0, base_median = 0;
    if (!adm_field_number(sketch, "median", &median) || json_equal(series, json_object_get(best, "series"))) return;
    if (adm_field_number(json_object_get(best, "default"), "median", &base_median) && median >= base_median) return;
    adm_shown_value(median, "ratio", shown);
    adm_text_add(page, "; the best sketch (");
    adm_text_escaped(page, adm_field_text(sketch, "series"));
    adm_text_format(page, ") %s%%", shown);
}

/* ": <strong>adamas dot calibrated</strong>: 12.3% median output error; the default (adamas l1 calibrated) 17.5%; n = 1,152" */
static void write_best_figures(adm_text *page, const json_t *best) {
    const json_t *base = json_object_get(best, "default");
    const int64_t n = adm_field_int(best, "n"), n_base = adm_field_int(base, "n");
    const bool is_default = json_equal(json_object_get(best, "series"), json_object_get(base, "series"));
    char shown[ADM_NUMBER_CHARS];
    double median = 0, base_median = 0;
    adm_field_number(best, "median", &median);
    adm_shown_value(median, "ratio", shown);
    adm_text_format(page, ": %s<strong>", is_default ? "the default, " : "");
    adm_text_escaped(page, adm_field_text(best, "series"));
    adm_text_format(page, "</strong>: %s%% median output error", shown);
    if (adm_field_int(best, "n_equal") > 0)
        adm_text_format(page, ", and %lld with the same", (long long)adm_field_int(best, "n_equal"));
    if (adm_field_number(base, "median", &base_median) && !is_default) {
        adm_shown_value(base_median, "ratio", shown);
        adm_text_add(page, "; the default (");
        adm_text_escaped(page, adm_field_text(base, "series"));
        adm_text_format(page, ") %s%%", shown);
        if (n_base != n) {
            adm_shown_count(n_base, shown);
            adm_text_format(page, " (n = %s)", shown);
        }
    } else if (!is_default) {
        adm_text_add(page, "; the default (adamas l1 calibrated) was not measured");
    }
    write_best_sketch(page, best);
    adm_shown_count(n, shown);
    adm_text_format(page, "; n = %s; of %lld selection%s</li>\n", shown, (long long)adm_field_int(best, "n_compared"),
                    adm_field_int(best, "n_compared") == 1 ? "" : "s");
}

/* The row of "best" of the next budget after `last`; NULL if there is none. */
static const json_t *next_best(const json_t *document, size_t session, int64_t length, int64_t last) {
    const json_t *next = NULL;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "best"), i, row) {
        const int64_t budget = adm_field_int(row, "budget");
        if (adm_row_is(row, session, NULL) && adm_field_int(row, "seq_len") == length && budget > last &&
            (next == NULL || budget < adm_field_int(next, "budget")))
            next = row;
    }
    return next;
}

/* A line for each budget at the session's longest length. */
static void write_best(adm_text *page, const json_t *document, size_t session, int64_t length) {
    const json_t *best;
    char shown_budget[ADM_NUMBER_CHARS], shown_length[ADM_NUMBER_CHARS];
    int64_t last = 0;
    size_t n = 0;
    while ((best = next_best(document, session, length, last)) != NULL) {
        if (n++ == 0)
            adm_text_add(page, "<p>The selection with the smallest median output error on this session, without the oracle and "
                               "random, which are there to compare with:</p>\n<ul class=\"best\">\n");
        last = adm_field_int(best, "budget");
        adm_shown_count(last, shown_budget);
        adm_shown_count(length, shown_length);
        adm_text_format(page, "<li>Best measured at budget %s, %s tokens", shown_budget, shown_length);
        write_best_figures(page, best);
    }
    if (n > 0) adm_text_add(page, "</ul>\n");
}

static const json_t *find_stage(const json_t *document, size_t session, const char *stage, int64_t length, int64_t budget) {
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "stages"), i,
                       row) if (adm_row_is(row, session, "time_ns") && strcmp(adm_field_text(row, "stage"), stage) == 0 &&
                                adm_field_int(row, "seq_len") == length && adm_field_int(row, "budget") == budget) return row;
    return NULL;
}

/* "The six stages took 3.21 ms on this host (median, n = 128), dense attention 7.45 ms: 2.3 times as long." */
static void write_time_sentence(adm_text *page, const json_t *document, size_t session, int64_t length, int64_t budget) {
    const json_t *step = find_stage(document, session, "step", length, budget);
    const json_t *dense = find_stage(document, session, "dense", length, 0);
    double step_ns, dense_ns;
    if (!adm_field_number(step, "median", &step_ns) || !adm_field_number(dense, "median", &dense_ns) || step_ns <= 0) return;
    char shown_step[ADM_NUMBER_CHARS], shown_dense[ADM_NUMBER_CHARS];
    adm_shown_duration(step_ns, shown_step);
    adm_shown_duration(dense_ns, shown_dense);
    adm_text_format(page,
                    "<p>There the six stages of one layer took %s on the host (median, n = %lld) and dense attention "
                    "%s (n = %lld): a ratio of %.1f",
                    shown_step, (long long)adm_field_int(step, "n"), shown_dense, (long long)adm_field_int(dense, "n"),
                    dense_ns / step_ns);
    adm_write_ratio_interval(page, dense, step, 1, 1);
    adm_text_add(page, ". These are times of one core; the ratio says where the work goes, not how fast a GPU is.</p>\n");
}

static void write_shape_sentence(adm_text *page, const json_t *trace) {
    char n_tokens[ADM_NUMBER_CHARS], n_steps[ADM_NUMBER_CHARS];
    adm_shown_count(adm_field_int(trace, "n_tokens"), n_tokens);
    adm_shown_count(adm_field_int(trace, "n_steps"), n_steps);
    adm_text_format(page,
                    "<p>A session of %s tokens, %s decode steps, %lld layers; %lld query heads share %lld KV heads of "
                    "dimension %lld.</p>\n",
                    n_tokens, n_steps, (long long)adm_field_int(trace, "n_layers"),
                    (long long)adm_field_int(trace, "n_q_heads"), (long long)adm_field_int(trace, "n_kv_heads"),
                    (long long)adm_field_int(trace, "head_dim"));
}

/* --- GPU profiles --------------------------------------------------------------------------------------------------- */

static void write_kind_of_step(adm_text *page, const json_t *unit, const char *words) {
    const json_t *ratio = json_object_get(unit, "limit_ratio");
    double ns;
    char shown[ADM_NUMBER_CHARS];
    if (!adm_field_number(unit, "median", &ns)) return;
    adm_shown_duration(ns, shown);
    adm_text_format(page, "%s %s (median, n = %lld", words, shown, (long long)adm_field_int(unit, "n"));
    if (json_is_number(ratio)) {
        adm_text_format(page, "; %.0f%% of what its bytes allow", json_number_value(ratio) * 100);
        adm_write_ratio_interval(page, NULL, unit, json_number_value(ratio) * ns * 100, 0);
    }
    adm_text_add(page, ")");
}

/* "At 32,768 cached tokens and a budget of 256, a whole step takes 26.5 us (...), and the fastest dense attention known (split)
 * 129 us (...): 4.9 times as long. As six stages it takes 32.0 us (...)." */
static void write_profile_summary(adm_text *page, const json_t *document, const json_t *headline) {
    int64_t length = adm_field_int(headline, "seq_len"), budget = adm_field_int(headline, "budget");
    const json_t *setting = json_array_get(adm_document_rows(document, "settings"), (size_t)adm_field_int(headline, "setting"));
    const json_t *step = adm_find_unit(document, setting, "step", NULL, length, budget);
    const json_t *six = adm_find_unit(document, setting, "step", "six", length, budget);
    const json_t *dense = adm_find_unit(document, setting, "dense", NULL, length, 0);
    double step_ns, dense_ns;
    char shown_length[ADM_NUMBER_CHARS], shown_budget[ADM_NUMBER_CHARS], words[128];
    if (!adm_field_number(step, "median", &step_ns) || step_ns <= 0) return;
    adm_shown_count(length, shown_length);
    adm_shown_count(budget, shown_budget);
    snprintf(words, sizeof words, ", a whole step (%.60s) takes", adm_field_text(adm_row_config(document, step), "variant"));
    adm_text_format(page, "<p>At %s cached tokens and a budget of %s", shown_length, shown_budget);
    write_kind_of_step(page, step, words);
    if (adm_field_number(dense, "median", &dense_ns)) {
        char dense_words[128];
        snprintf(dense_words, sizeof dense_words, ", and the fastest dense attention known (%.60s)",
                 adm_field_text(adm_row_config(document, dense), "variant"));
        write_kind_of_step(page, dense, dense_words);
        adm_text_format(page, ": <strong>%.1f times</strong> as long", dense_ns / step_ns);
        adm_write_ratio_interval(page, dense, step, 1, 1);
    }
    adm_text_add(page, ".");
    if (six != NULL && six != step) {
        write_kind_of_step(page, six, " As six separate stages it takes");
        adm_text_add(page, ".");
    }
    adm_text_add(page, " One layer; ");
    adm_text_escaped(page, adm_field_text(setting, "name"));
    adm_text_add(page, ".</p>\n");
}

static void write_profiles(adm_text *page, const json_t *document) {
    for (size_t i = 0; i < adm_n_profiles(document); i++) {
        const json_t *headline = json_object_get(adm_profile(document, i), "headline");
        if (headline == NULL) continue;
        adm_write_profile_heading(page, document, i);
        write_profile_summary(page, document, headline);
    }
}

/* --- The view ------------------------------------------------------------------------------------------------------- */

void adm_view_summary(adm_text *page, const json_t *document) {
    if (adm_document_is_empty(document)) adm_write_nothing(page, "No run in this database measured anything yet.");
    for (size_t session = 0; session < adm_n_sessions(document); session++) {
        adm_write_session_heading(page, document, session);
        write_shape_sentence(page, adm_session_trace(document, session));
        int64_t length = longest_length(document, session);
        int64_t budget = length > 0 ? headline_budget(document, session, length) : 0;
        if (budget == 0) {
            adm_write_nothing(page, "This run measured no policy with a budget.");
            continue;
        }
        write_summary_table(page, document, session, length, budget);
        write_best(page, document, session, length);
        write_time_sentence(page, document, session, length, budget);
    }
    adm_view_sketches(page, document);
    write_profiles(page, document);
}
