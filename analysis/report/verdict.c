/* verdict.c: what was compared and what came of it, and how the measurements went. The headline figures are headline.c's. */
#include "analysis/report/verdict.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/numbers.h"
#include "analysis/output/rows.h"
#include "analysis/report/headline.h"
#include "analysis/report/view/document.h"
#include "analysis/report/view/profile.h"
#include "analysis/report/view/shards.h"

/* Half the 95% interval of a median above which a time is called unsure: `adamas profile` aims at less. */
static const double WIDE_INTERVAL_RATIO = 0.01;

enum { WORDS = 512 };

/* --- Pairs ---------------------------------------------------------------------------------------------------------- */

/* "topk time_ns, cluster, 32,768 tokens, budget 256: +80.10% [+79.60%, +80.70%]" */
static void describe_row(const json_t *row, char out[WORDS]) {
    const char *stage = adm_field_text(row, "stage");
    char length[ADM_NUMBER_CHARS], budget[ADM_NUMBER_CHARS + 16] = "", change[96] = "";
    double shift, low, high;
    adm_shown_count(adm_field_int(row, "seq_len"), length);
    if (adm_field_int(row, "budget") > 0)
        snprintf(budget, sizeof budget, ", budget %lld", (long long)adm_field_int(row, "budget"));
    if (adm_field_number(row, "shift_ratio", &shift)) {
        const int n = snprintf(change, sizeof change, ": %+.2f%%", 100 * shift);
        if (adm_field_number(row, "low_ratio", &low) && adm_field_number(row, "high_ratio", &high))
            snprintf(change + n, sizeof change - (size_t)n, " [%+.2f%%, %+.2f%%]", 100 * low, 100 * high);
    }
    snprintf(out, WORDS, "%.60s %.60s, %.120s, %s tokens%s%s", stage[0] != '\0' ? stage : adm_field_text(row, "policy"),
             adm_field_text(row, "metric"), adm_field_text(row, "variant"), length, budget, change);
}

/* The row of the check that says most: the largest change among those of the gravest verdict; rows come in that order. */
static const json_t *largest_row(const json_t *rows, const char *check) {
    const json_t *best = NULL;
    double best_size = -1;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        double shift = 0;
        if (check != NULL && strcmp(adm_field_text(row, "check"), check) != 0) continue;
        if (best != NULL && strcmp(adm_field_text(row, "verdict"), adm_field_text(best, "verdict")) != 0) break;
        adm_field_number(row, "shift_ratio", &shift);
        if (fabs(shift) <= best_size) continue;
        best = row;
        best_size = fabs(shift);
    }
    return best;
}

static adm_status add_check(const json_t *document, const json_t *check, json_t *pairs, adm_error *err) {
    static const char *const counts[] = {"n_regressed", "n_inconclusive", "n_improved", "n_equivalent"};
    const json_t *row = largest_row(adm_document_rows(document, "check_rows"), adm_field_text(check, "check"));
    const char *failure = adm_field_text(check, "failure");
    char name[WORDS], largest[WORDS] = "";
    snprintf(name, sizeof name, "%.200s against %.200s", adm_field_text(check, "candidate"), adm_field_text(check, "baseline"));
    if (row != NULL) describe_row(row, largest);
    json_t *pair = json_pack("{s:s, s:o, s:O, s:O, s:o, s:o, s:s}", "kind", "check", "name", adm_rows_string(name), "when",
                             json_object_get(check, "made_utc"), "verdict", json_object_get(check, "verdict"), "largest",
                             adm_rows_string(largest), "cause",
                             adm_rows_string(failure[0] != '\0' ? failure : adm_field_text(row, "why")), "view", "differences");
    for (size_t i = 0; pair != NULL && i < sizeof counts / sizeof counts[0]; i++)
        json_object_set(pair, counts[i], json_object_get(check, counts[i]));
    return adm_rows_append(pairs, pair, err);
}

/* "topk l1, 4096 tokens, budget 64 time_ns: +80.10%": the largest of the gravest verdict; rows come in that order. */
static const json_t *largest_difference(const json_t *rows, char out[WORDS]) {
    const json_t *best = NULL;
    double best_shift = 0;
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        double shift = 0, before, after;
        if (strcmp(adm_field_text(row, "verdict"), "equivalent") == 0) continue;
        if (best != NULL && strcmp(adm_field_text(row, "verdict"), adm_field_text(best, "verdict")) != 0) break;
        if (!adm_field_number(json_object_get(row, "time"), "shift_ratio", &shift) &&
            adm_field_number(row, "baseline", &before) && adm_field_number(row, "candidate", &after) && before != 0)
            shift = after / before - 1;
        if (best != NULL && fabs(shift) <= fabs(best_shift)) continue;
        best = row;
        best_shift = shift;
    }
    if (best == NULL) return NULL;
    const char *stage = adm_field_text(best, "stage");
    snprintf(out, WORDS, "%.60s %.200s, %.60s: %+.2f%%", stage[0] != '\0' ? stage : adm_field_text(best, "policy"),
             adm_field_text(best, "configuration"), adm_field_text(best, "metric"), 100 * best_shift);
    return best;
}

/* What --baseline compared. */
static adm_status add_differences(const json_t *document, json_t *pairs, adm_error *err) {
    static const char *const counts[] = {"n_regressed", "n_inconclusive", "n_improved", "n_equivalent"};
    const json_t *d = json_object_get(document, "differences");
    if (!json_is_object(d)) return ADM_OK;
    char name[WORDS], largest[WORDS] = "";
    const json_t *row = largest_difference(json_object_get(d, "rows"), largest);
    snprintf(name, sizeof name, "%.200s against %.200s", adm_field_text(d, "candidate"), adm_field_text(d, "baseline"));
    const char *verdict = adm_field_int(d, "n_regressed") > 0      ? "regressed"
                          : adm_field_int(d, "n_inconclusive") > 0 ? "inconclusive"
                          : adm_field_int(d, "n_improved") > 0     ? "improved"
                                                                   : "passed";
    json_t *pair = json_pack("{s:s, s:o, s:s, s:s, s:o, s:o, s:s}", "kind", "comparison", "name", adm_rows_string(name), "when",
                             "", "verdict", verdict, "largest", adm_rows_string(largest), "cause",
                             adm_rows_string(adm_field_text(row, "why")), "view", "differences");
    for (size_t i = 0; pair != NULL && i < sizeof counts / sizeof counts[0]; i++)
        json_object_set(pair, counts[i], json_object_get(d, counts[i]));
    return adm_rows_append(pairs, pair, err);
}

/* Changes of level that nobody acknowledged. */
typedef struct changes {
    int64_t n_worse, n_better, n_steady;
    const json_t *largest, *of;
    double size;
} changes;

static void count_changes(const json_t *series, changes *c) {
    size_t i, before = (size_t)(c->n_worse + c->n_better);
    json_t *change;
    json_array_foreach(json_object_get(series, "changes"), i, change) {
        double low, high;
        if (adm_field_text(change, "verdict")[0] != '\0') continue;
        const bool worse = json_is_true(json_object_get(change, "is_worse"));
        const double size = adm_field_number(change, "before", &low) && adm_field_number(change, "after", &high) && low != 0
                                ? fabs(high / low - 1)
                                : 0;
        if (worse) c->n_worse++;
        else c->n_better++;
        const bool graver = c->largest == NULL || (worse && !json_is_true(json_object_get(c->largest, "is_worse")));
        const bool alike = c->largest != NULL && worse == json_is_true(json_object_get(c->largest, "is_worse"));
        if (!graver && !(alike && size > c->size)) continue;
        c->largest = change;
        c->of = series;
        c->size = size;
    }
    c->n_steady += (size_t)(c->n_worse + c->n_better) == before;
}

static adm_status add_history(const json_t *document, json_t *pairs, adm_error *err) {
    const json_t *history = json_object_get(document, "history"), *runs = json_object_get(history, "runs");
    changes c = {0};
    char name[WORDS], largest[WORDS] = "", cause[WORDS] = "";
    size_t i;
    json_t *series;
    if (!json_is_object(history)) return ADM_OK;
    json_array_foreach(json_object_get(history, "series"), i, series) count_changes(series, &c);
    snprintf(name, sizeof name, "The latest %zu runs", json_array_size(runs));
    if (c.largest != NULL) {
        double before = 1, after = 1;
        adm_field_number(c.largest, "before", &before);
        adm_field_number(c.largest, "after", &after);
        snprintf(largest, sizeof largest, "%.200s: %+.2f%%", adm_field_text(c.of, "title"), 100 * (after / before - 1));
        snprintf(cause, sizeof cause, "between commits %.10s and %.10s", adm_field_text(c.largest, "commit_before"),
                 adm_field_text(c.largest, "commit_after"));
    }
    return adm_rows_append(
        pairs,
        json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:s, s:I, s:I, s:I, s:I}", "kind", "history", "name", name, "when",
                  json_incref(json_object_get(json_array_get(runs, json_array_size(runs) - 1), "started_utc")), "verdict",
                  c.n_worse > 0    ? "regressed"
                  : c.n_better > 0 ? "improved"
                                   : "passed",
                  "largest", adm_rows_string(largest), "cause", adm_rows_string(cause), "view", "history", "n_regressed",
                  (json_int_t)c.n_worse, "n_inconclusive", (json_int_t)0, "n_improved", (json_int_t)c.n_better, "n_equivalent",
                  (json_int_t)c.n_steady),
        err);
}

/* --- Health --------------------------------------------------------------------------------------------------------- */

typedef struct health {
    json_t *rows;
    const char *what;
    int64_t run_id;
    adm_error *err;
} health;

ADM_PRINTF(4, 5) static adm_status say(const health *h, const char *level, const char *view, const char *format, ...) {
    char text[WORDS];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return adm_rows_append(h->rows,
                           json_pack("{s:s, s:o, s:I, s:o, s:s}", "level", level, "what", adm_rows_string(h->what), "run_id",
                                     (json_int_t)h->run_id, "text", adm_rows_string(text), "view", view),
                           h->err);
}

/* Right, steady, unthrottled: of a profile's units. */
static adm_status judge_units(const json_t *document, size_t profile, const health *h) {
    size_t n = 0, n_failed = 0, n_skipped = 0, n_wide = 0, n_throttled = 0, i;
    double widest = 0, value;
    json_t *unit;
    json_array_foreach(adm_document_rows(document, "units"), i, unit) {
        const char *verdict = adm_field_text(unit, "status");
        if (!adm_row_is_of(unit, profile)) continue;
        n++;
        n_failed += strcmp(verdict, "failed") == 0;
        n_skipped += strcmp(verdict, "ok") != 0 && strcmp(verdict, "failed") != 0;
        if (adm_field_number(unit, "median_ci_ratio", &value)) {
            n_wide += value > WIDE_INTERVAL_RATIO;
            widest = fmax(widest, value);
        }
        n_throttled += adm_field_number(unit, "throttled_ratio", &value) && value > 0;
    }
    if (n == 0) return ADM_OK;
    adm_status status = n_failed == 0 ? say(h, "good", "time", "All %zu kernels timed gave the right result", n - n_skipped)
                                      : say(h, "bad", "time", "%zu of %zu kernels were wrong and were not timed", n_failed, n);
    if (status == ADM_OK && n_skipped > 0)
        status = say(h, "warn", "time", "%zu of %zu kernels were left out, each with its reason", n_skipped, n);
    if (status == ADM_OK && n_wide == 0)
        status = say(h, "good", "time", "Every median is known within \u00b1%.2g%%", 100 * fmax(widest, 1e-4));
    else if (status == ADM_OK)
        status = say(h, "warn", "time", "%zu of %zu medians %s a 95%% interval wider than \u00b11%%, the widest \u00b1%.3g%%",
                     n_wide, n, n_wide == 1 ? "has" : "have", 100 * widest);
    if (status == ADM_OK && n_throttled > 0)
        status = say(h, "warn", "time", "%zu of %zu kernels were timed while the GPU throttled at times", n_throttled, n);
    return status;
}

static adm_status judge_counters(const json_t *document, size_t profile, const health *h) {
    size_t n = 0, n_missing = 0, i;
    const char *reason = "", *name;
    json_t *row, *why;
    json_array_foreach(adm_document_rows(document, "counters"), i, row) {
        const json_t *missing = json_object_get(row, "missing");
        if (!adm_row_is_of(row, profile)) continue;
        n += json_object_size(json_object_get(row, "value")) + json_object_size(missing);
        n_missing += json_object_size(missing);
        if (reason[0] == '\0') json_object_foreach((json_t *)missing, name, why) reason = json_string_value(why);
    }
    if (n_missing == 0) return ADM_OK;
    return say(h, "warn", "counters", "%zu of %zu counters could not be read: %.200s", n_missing, n, reason);
}

/* Builds or kinds of machine that meet in a joined run. */
static adm_status judge_joined(const json_t *document, const health *h) {
    char mixed[ADM_MIXED_BYTES];
    if (adm_mixed_words(document, h->run_id, mixed)[0] == '\0') return ADM_OK;
    return say(h, "warn", "provenance", "Run %lld joins shards of %s", (long long)h->run_id, mixed);
}

static adm_status judge_profiles(const json_t *document, json_t *rows, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t p = 0; p < adm_n_profiles(document) && status == ADM_OK; p++) {
        const json_t *profile = adm_profile(document, p);
        char what[WORDS];
        snprintf(what, sizeof what, "%.100s%s", adm_field_text(profile, "gpu"),
                 json_is_true(json_object_get(profile, "is_recorded")) ? ", recorded" : "");
        const health h = {rows, what, adm_field_int(profile, "run_id"), err};
        status = judge_units(document, p, &h);
        if (status == ADM_OK) status = judge_counters(document, p, &h);
        if (status == ADM_OK) status = judge_joined(document, &h);
    }
    return status;
}

/* What a session could not measure, and runs that are not whole. */
static adm_status judge_sessions(const json_t *document, json_t *rows, adm_error *err) {
    static const char *const lists[] = {"quality", "stages"};
    adm_status status = ADM_OK;
    for (size_t s = 0; s < adm_n_sessions(document) && status == ADM_OK; s++) {
        const json_t *run = adm_session_run(document, s);
        char what[WORDS];
        snprintf(what, sizeof what, "%.100s", adm_field_text(adm_session_trace(document, s), "name"));
        const health h = {rows, what, adm_field_int(run, "run_id"), err};
        size_t n = 0, n_lacking = 0, i;
        const char *reason = "";
        json_t *row;
        for (size_t l = 0; l < sizeof lists / sizeof lists[0]; l++)
            json_array_foreach(adm_document_rows(document, lists[l]), i, row) {
                if (!adm_row_is(row, s, NULL)) continue;
                n++;
                if (strcmp(adm_field_text(row, "status"), "ok") == 0) continue;
                if (n_lacking++ == 0) reason = adm_field_text(row, "reason");
            }
        status = judge_joined(document, &h);
        const char *run_status = adm_field_text(run, "status");
        if (status == ADM_OK && strcmp(run_status, "complete") != 0)
            status = say(&h, "bad", "provenance", "The run is not complete: %.60s", run_status);
        if (status == ADM_OK && n_lacking > 0)
            status = say(&h, "warn", "time", "%zu of %zu figures could not be measured: %.200s", n_lacking, n, reason);
        else if (status == ADM_OK && n > 0) {
            char count[ADM_NUMBER_CHARS];
            adm_shown_count((int64_t)n, count);
            status = say(&h, "good", "quality", "All %s figures were measured", count);
        }
    }
    return status;
}

/* --- The whole ------------------------------------------------------------------------------------------------------ */

/* What makes a first comparison. */
static const char *command_for(const json_t *document) {
    if (adm_n_sessions(document) > 0)
        return "adamas check --baseline HEAD~1 -- replay TRACE   (or: adamas report --baseline RUNS)";
    if (adm_n_profiles(document) > 0) return "adamas check --baseline HEAD~1 -- profile   (or: adamas report --baseline RUNS)";
    return adm_document_is_empty(document) ? "adamas replay TRACE" : "adamas report --baseline RUNS";
}

adm_status adm_report_verdict(json_t *document, adm_error *err) {
    json_t *pairs = json_array(), *health_rows = json_array(), *headlines = json_array(), *check;
    json_t *verdict = json_pack("{s:o, s:o, s:o}", "pairs", pairs, "health", health_rows, "headlines", headlines);
    if (verdict == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering the report's data");
    adm_status status = adm_rows_set(document, "verdict", verdict, err);
    if (status == ADM_OK) status = add_differences(document, pairs, err);
    size_t i;
    json_array_foreach(adm_document_rows(document, "checks"), i, check) if (status == ADM_OK)
        status = add_check(document, check, pairs, err);
    if (status == ADM_OK) status = add_history(document, pairs, err);
    if (status == ADM_OK)
        status = adm_rows_set(verdict, "nothing", json_array_size(pairs) > 0 ? json_null() : json_string(command_for(document)),
                              err);
    if (status == ADM_OK) status = judge_profiles(document, health_rows, err);
    if (status == ADM_OK) status = judge_sessions(document, health_rows, err);
    return status == ADM_OK ? adm_report_headlines(document, headlines, err) : status;
}
