/* headline.c: the speed-up, the limit, the smallest budget and the best sketch, in a figure and a sentence each. */
#include "analysis/report/headline.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/output/rows.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "core/contract/stage.h"

enum { WORDS = 512 };

static adm_status add(json_t *headlines, const char *title, const char *value, const char *text, const char *view,
                      adm_error *err) {
    return adm_rows_append(headlines,
                           json_pack("{s:s, s:o, s:o, s:s}", "title", title, "value", adm_rows_string(value), "text",
                                     adm_rows_string(text), "view", view),
                           err);
}

/* The profile that speaks for the report: one measured here before a recorded one, a later one before an earlier, which is the
 * order of the list. */
static const json_t *chosen_profile(const json_t *document) {
    const json_t *chosen = NULL;
    for (size_t p = 0; p < adm_n_profiles(document); p++) {
        const json_t *profile = adm_profile(document, p);
        const bool recorded = json_is_true(json_object_get(profile, "is_recorded"));
        if (json_object_get(profile, "headline") == NULL) continue;
        if (chosen == NULL || (!recorded && json_is_true(json_object_get(chosen, "is_recorded")))) chosen = profile;
    }
    return chosen;
}

/* Where a profile's headline is: "32,768 tokens, budget 256 (NVIDIA H200, recorded)". */
typedef struct headline_point {
    const json_t *setting;
    int64_t seq_len, budget;
    char words[WORDS / 2];
} headline_point;

static headline_point point_of(const json_t *document, const json_t *profile) {
    const json_t *headline = json_object_get(profile, "headline");
    headline_point p = {json_array_get(adm_document_rows(document, "settings"), (size_t)adm_field_int(headline, "setting")),
                        adm_field_int(headline, "seq_len"), adm_field_int(headline, "budget"), ""};
    char length[ADM_NUMBER_CHARS], budget[ADM_NUMBER_CHARS];
    adm_shown_count(p.seq_len, length);
    adm_shown_count(p.budget, budget);
    snprintf(p.words, sizeof p.words, "%s tokens, budget %s, %lld KV heads (%.80s%s)", length, budget,
             (long long)adm_field_int(p.setting, "n_kv_heads"), adm_field_text(profile, "gpu"),
             json_is_true(json_object_get(profile, "is_recorded")) ? ", recorded" : "");
    return p;
}

static adm_status add_speedup(const json_t *document, const headline_point *at, json_t *headlines, adm_error *err) {
    const json_t *step = adm_find_unit(document, at->setting, "step", NULL, at->seq_len, at->budget);
    const json_t *dense = adm_find_unit(document, at->setting, "dense", NULL, at->seq_len, 0);
    double step_ns, dense_ns;
    char value[32], text[WORDS], step_shown[ADM_NUMBER_CHARS], dense_shown[ADM_NUMBER_CHARS];
    if (!adm_field_number(step, "median", &step_ns) || !adm_field_number(dense, "median", &dense_ns) || step_ns <= 0)
        return ADM_OK;
    adm_shown_duration(step_ns, step_shown);
    adm_shown_duration(dense_ns, dense_shown);
    snprintf(value, sizeof value, "%.1f\u00d7", dense_ns / step_ns);
    snprintf(text, sizeof text, "A step (%.60s) takes %s where dense attention takes %s: %s",
             adm_field_text(adm_row_config(document, step), "variant"), step_shown, dense_shown, at->words);
    return add(headlines, "faster than dense attention", value, text, "speedup", err);
}

/* The stage with the largest share of the six, and how near the fastest step is to what its bytes allow. */
static adm_status add_limit(const json_t *document, const headline_point *at, json_t *headlines, adm_error *err) {
    double sum_ns = 0, largest_ns = 0, ns, ratio = 0;
    const char *largest = "";
    char value[64], text[WORDS];
    for (adm_stage s = 0; s < ADM_N_STAGES; s++) {
        const char *name = adm_stage_name(s);
        const json_t *unit = adm_find_unit(document, at->setting, name, NULL, at->seq_len, at->budget);
        if (strcmp(name, "step") == 0 || strcmp(name, "dense") == 0 || !adm_field_number(unit, "median", &ns)) continue;
        sum_ns += ns;
        if (ns <= largest_ns) continue;
        largest_ns = ns;
        largest = name;
    }
    const json_t *step = adm_find_unit(document, at->setting, "step", NULL, at->seq_len, at->budget);
    if (sum_ns <= 0 || !adm_field_number(step, "limit_ratio", &ratio)) return ADM_OK;
    snprintf(value, sizeof value, "%s", largest);
    snprintf(text, sizeof text,
             "It takes %.0f%% of the time of all stages; the fastest step (%.60s) reaches %.0f%% of the read limit. What to "
             "do about each stage is one click away",
             100 * largest_ns / sum_ns, adm_field_text(adm_row_config(document, step), "variant"), 100 * ratio);
    return add(headlines, "is what limits a step most", value, text, "advice", err);
}

/* --- The smallest budget -------------------------------------------------------------------------------------------- */

/* The median output errors that are tried, strictest first: the first one that a measured budget reaches is shown. */
static const double targets[] = {0.05, 0.1, 0.2};

/* Of the session's longest length, the row of the smallest budget within the target, of a policy that a model could use. */
static const json_t *smallest_within(const json_t *document, size_t session, int64_t seq_len, double target) {
    static const char *const reference[] = {"dense", "oracle", "random"};
    const json_t *best = NULL;
    double best_error = 0, error;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i, row) {
        const int64_t budget = adm_field_int(row, "budget");
        bool is_reference = false;
        for (size_t r = 0; r < 3; r++) is_reference |= strcmp(adm_field_text(row, "policy"), reference[r]) == 0;
        if (!adm_row_is(row, session, "output_rel_l2") || is_reference || budget == 0 ||
            adm_field_int(row, "seq_len") != seq_len || !adm_field_number(row, "median", &error) || error > target)
            continue;
        if (best != NULL &&
            (budget > adm_field_int(best, "budget") || (budget == adm_field_int(best, "budget") && error >= best_error)))
            continue;
        best = row;
        best_error = error;
    }
    return best;
}

static int64_t longest(const json_t *document, size_t session) {
    int64_t max_len = 0;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i,
                       row) if (adm_row_is(row, session, "output_rel_l2") && adm_field_int(row, "seq_len") > max_len)
        max_len = adm_field_int(row, "seq_len");
    return max_len;
}

static adm_status add_budget(const json_t *document, size_t session, json_t *headlines, adm_error *err) {
    const int64_t seq_len = longest(document, session);
    char value[ADM_NUMBER_CHARS], title[96], text[WORDS], length[ADM_NUMBER_CHARS], worst[64] = "";
    double error = 0, worst_mean;
    for (size_t t = 0; t < sizeof targets / sizeof targets[0]; t++) {
        const json_t *row = smallest_within(document, session, seq_len, targets[t]);
        if (row == NULL) continue;
        adm_field_number(row, "median", &error);
        if (adm_field_number(row, "worst_mean", &worst_mean))
            snprintf(worst, sizeof worst, ", of the worst head %.1f%%", 100 * worst_mean);
        adm_shown_count(adm_field_int(row, "budget"), value);
        adm_shown_count(seq_len, length);
        snprintf(title, sizeof title, "is the smallest budget within %g%% output error", 100 * targets[t]);
        snprintf(text, sizeof text, "%.120s at %s tokens: the median error is %.1f%%%s (%.100s)", adm_field_text(row, "series"),
                 length, 100 * error, worst, adm_field_text(adm_session_trace(document, session), "name"));
        return add(headlines, title, value, text, "budget", err);
    }
    if (seq_len == 0) return ADM_OK;
    snprintf(text, sizeof text, "No budget measured reaches a median output error of %g%% (%.100s)",
             100 * targets[sizeof targets / sizeof targets[0] - 1],
             adm_field_text(adm_session_trace(document, session), "name"));
    return add(headlines, "budget is small enough", "None", text, "budget", err);
}

/* --- The best sketch ------------------------------------------------------------------------------------------------ */

/* How many sketches were measured at a row of "best". */
static size_t n_sketches(const json_t *document, const json_t *best) {
    size_t n = 0, i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "quality"), i, row)
        n += adm_row_is(row, (size_t)adm_field_int(best, "session"), "output_rel_l2") &&
             adm_field_int(row, "seq_len") == adm_field_int(best, "seq_len") &&
             adm_field_int(row, "budget") == adm_field_int(best, "budget") &&
             strcmp(adm_field_text(row, "policy"), "adamas") == 0;
    return n;
}

/* The row of "best" at a length whose budget is nearest to the one that the paper discusses most. */
static const json_t *best_to_show(const json_t *document, size_t session, int64_t seq_len) {
    enum { BUDGET = 256 };
    const json_t *found = NULL;
    int64_t distance = INT64_MAX;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "best"), i, row) {
        const int64_t here = llabs(adm_field_int(row, "budget") - BUDGET);
        if (!adm_row_is(row, session, NULL) || adm_field_int(row, "seq_len") != seq_len || here >= distance) continue;
        found = row;
        distance = here;
    }
    return found;
}

/* Only where there was a choice. */
static adm_status add_sketch(const json_t *document, size_t session, json_t *headlines, adm_error *err) {
    static const char prefix[] = "adamas ";
    const json_t *best = best_to_show(document, session, longest(document, session)), *sketch, *base;
    char text[WORDS], title[96], budget[ADM_NUMBER_CHARS], length[ADM_NUMBER_CHARS], beside[WORDS / 2] = "";
    double median, other;
    sketch = json_object_get(best, "sketch");
    base = json_object_get(best, "default");
    if (!adm_field_number(sketch, "median", &median) || n_sketches(document, best) < 2) return ADM_OK;
    const char *series = adm_field_text(sketch, "series");
    const char *name = strncmp(series, prefix, strlen(prefix)) == 0 ? series + strlen(prefix) : series;
    if (adm_field_number(base, "median", &other) && strcmp(adm_field_text(base, "series"), series) != 0)
        snprintf(beside, sizeof beside, ", the default (%.60s) %.1f%%", adm_field_text(base, "series") + strlen(prefix),
                 100 * other);
    else if (adm_field_number(best, "median", &other) && strcmp(adm_field_text(best, "series"), series) != 0)
        snprintf(beside, sizeof beside, ", the best of all selections (%.60s) %.1f%%", adm_field_text(best, "series"),
                 100 * other);
    adm_shown_count(adm_field_int(best, "budget"), budget);
    adm_shown_count(adm_field_int(best, "seq_len"), length);
    snprintf(title, sizeof title, "is the best of %zu sketches", n_sketches(document, best));
    snprintf(text, sizeof text, "At a budget of %s of %s tokens it loses %.1f%% of the output in the median%s (%.100s)", budget,
             length, 100 * median, beside, adm_field_text(adm_session_trace(document, session), "name"));
    return add(headlines, title, name, text, "policies", err);
}

/* --- Whole models and kernels of one's own -------------------------------------------------------------------------- */

static adm_status add_decoding(const json_t *document, json_t *headlines, adm_error *err) {
    const json_t *best = NULL;
    double largest = 0, gain;
    size_t i;
    json_t *row;
    char value[32], text[WORDS], length[ADM_NUMBER_CHARS], budget[ADM_NUMBER_CHARS];
    json_array_foreach(adm_document_rows(document, "decoded"), i, row) {
        if (adm_field_int(row, "budget") == 0 || !adm_field_number(row, "gain", &gain) || gain <= largest) continue;
        best = row;
        largest = gain;
    }
    if (best == NULL) return ADM_OK;
    adm_shown_count(adm_field_int(best, "seq_len"), length);
    adm_shown_count(adm_field_int(best, "budget"), budget);
    snprintf(value, sizeof value, "%.2f\u00d7", largest);
    snprintf(text, sizeof text, "At best, of all steps measured: %.60s at %s tokens, budget %s, batch %lld (%.80s%s)",
             adm_field_text(best, "model"), length, budget, (long long)adm_field_int(best, "batch"),
             adm_field_text(best, "gpu"), adm_field_int(best, "is_recorded") != 0 ? ", recorded" : "");
    return add(headlines, "as fast per token of a whole model as dense", value, text, "decode", err);
}

/* The fastest candidate of the latest session, or row of the registry. */
static const json_t *fastest_of(const json_t *document, bool of_registry) {
    const json_t *best = NULL;
    double least = 0, ns;
    size_t i;
    json_t *row;
    json_array_foreach(adm_document_rows(document, "candidates"), i, row) {
        const bool is_row = strcmp(adm_field_text(row, "kind"), "row") == 0;
        if (adm_field_int(row, "tuning") != 0 || is_row != of_registry || !adm_field_number(row, "median_ns", &ns)) continue;
        if (best != NULL && ns >= least) continue;
        best = row;
        least = ns;
    }
    return best;
}

static adm_status add_tuning(const json_t *document, json_t *headlines, adm_error *err) {
    const json_t *own = fastest_of(document, false), *registry = fastest_of(document, true);
    const json_t *tuning = json_array_get(adm_document_rows(document, "tunings"), 0);
    double own_ns, ns;
    char value[32], text[WORDS], own_shown[ADM_NUMBER_CHARS], shown[ADM_NUMBER_CHARS];
    if (!adm_field_number(own, "median_ns", &own_ns) || !adm_field_number(registry, "median_ns", &ns) || own_ns <= 0 || ns <= 0)
        return ADM_OK;
    adm_shown_duration(own_ns, own_shown);
    adm_shown_duration(ns, shown);
    snprintf(value, sizeof value, "%.2f\u00d7", own_ns <= ns ? ns / own_ns : own_ns / ns);
    snprintf(text, sizeof text, "%.80s takes %s, the registry's fastest (%.60s) %s: %.40s on %.80s",
             adm_field_text(own, "name"), own_shown, adm_field_text(registry, "name"), shown, adm_field_text(tuning, "stage"),
             adm_field_text(tuning, "device"));
    return add(headlines, own_ns <= ns ? "faster: the best kernel tuned" : "slower: the best kernel tuned", value, text,
               "tuning", err);
}

/* What the first screen has room for. */
enum { ENOUGH = 3 };

adm_status adm_report_headlines(const json_t *document, json_t *headlines, adm_error *err) {
    const json_t *profile = chosen_profile(document);
    adm_status status = ADM_OK;
    if (profile != NULL) {
        const headline_point at = point_of(document, profile);
        status = add_speedup(document, &at, headlines, err);
        if (status == ADM_OK) status = add_limit(document, &at, headlines, err);
    }
    if (status == ADM_OK && adm_n_sessions(document) > 0) status = add_budget(document, 0, headlines, err);
    if (status == ADM_OK && adm_n_sessions(document) > 0) status = add_sketch(document, 0, headlines, err);
    if (status == ADM_OK && json_array_size(headlines) < ENOUGH) status = add_tuning(document, headlines, err);
    if (status == ADM_OK && json_array_size(headlines) < ENOUGH) status = add_decoding(document, headlines, err);
    return status;
}
