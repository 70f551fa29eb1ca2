/* history.c: series of runs and their change points, for a report's document. */
#include "analysis/report/read/changes/history.h"

#include <stdlib.h>
#include <string.h>

#include "analysis/regress/checks.h"
#include "analysis/regress/commit_order.h"
#include "analysis/regress/contended.h"
#include "analysis/regress/history.h"
#include "analysis/output/rows.h"
#include "core/base/mem.h"

/* Only the latest MAX_RUNS runs are analysed, and fewer than MIN_RUNS have no change point. MAX_SERIES series are shown, those
 * with changes first. */
enum { MAX_RUNS = 200, MIN_RUNS = 6, MAX_SERIES = 40 };

/* Times, and one metric of quality in place of all of them: `adamas history` analyses every metric. */
static const char *const metrics[] = {"time_ns", "output_rel_l2"};

/* The latest complete runs of this database's own, without baselines and failed candidates of checks. */
static adm_status find_runs(adm_store *store, int64_t ids[MAX_RUNS], size_t *n, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *n = 0;
    adm_status status =
        adm_query_open(store,
                       "SELECT run_id FROM (SELECT run_id, started_utc FROM run WHERE status = 'complete' AND label NOT LIKE "
                       "'recorded:%' ORDER BY started_utc DESC, run_id DESC LIMIT ?) ORDER BY started_utc, run_id",
                       &query, err, "i", (int64_t)MAX_RUNS);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        ids[(*n)++] = adm_query_int(query, 0);
    adm_query_close(&query);
    return status == ADM_OK ? adm_checks_select(store, NULL, ADM_SIDES_PASSED, ids, n, err) : status;
}

/* A candidate for the report: a series, its changes, and its runs. */
typedef struct candidate {
    const adm_series *series;
    size_t n_worse, n_changes, n_ok;
} candidate;

/* Series that got worse come first, then those that changed, then whole steps and dense attention, then the longest. */
static int by_interest(const void *x, const void *y) {
    const candidate *a = x, *b = y;
    const char *stages[] = {a->series->stage, b->series->stage};
    int whole[2];
    for (int i = 0; i < 2; i++) whole[i] = strcmp(stages[i], "step") == 0 || strcmp(stages[i], "dense") == 0;
    if ((a->n_worse > 0) != (b->n_worse > 0)) return a->n_worse > 0 ? -1 : 1;
    if ((a->n_changes > 0) != (b->n_changes > 0)) return a->n_changes > 0 ? -1 : 1;
    if (whole[0] != whole[1]) return whole[1] - whole[0];
    if (a->n_ok != b->n_ok) return a->n_ok > b->n_ok ? -1 : 1;
    return adm_series_order(a->series, b->series);
}

static json_t *change_of(const adm_history_change *c, const adm_series_set *set) {
    bool said = c->verdict[0] != '\0';
    return json_pack("{s:s, s:I, s:f, s:f, s:f, s:b, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "id", c->id, "run",
                     (json_int_t)(c->after_run - set->run), "before", c->before, "after", c->after, "p", c->p, "is_worse",
                     c->is_worse, "n_before", (json_int_t)c->n_before, "n_after", (json_int_t)c->n_after, "commit_before",
                     adm_rows_string(c->before_run->commit), "commit_after", adm_rows_string(c->after_run->commit),
                     "started_utc", adm_rows_string(c->after_run->started_utc), "verdict",
                     said ? adm_rows_string(c->verdict) : json_null(), "who", said ? adm_rows_string(c->who) : json_null(),
                     "why", said ? adm_rows_string(c->why) : json_null());
}

static adm_status add_series(const candidate *one, const adm_history *history, const adm_series_set *set, json_t *list,
                             adm_error *err) {
    const adm_series *s = one->series;
    json_t *row = json_pack("{s:o, s:o, s:o, s:o, s:o, s:s, s:s, s:s, s:[], s:[]}", "source", adm_rows_string(s->source),
                            "stage", s->stage[0] ? adm_rows_string(s->stage) : json_null(), "policy",
                            adm_rows_string(s->config->policy), "title", adm_rows_string(s->config->title), "shape",
                            adm_rows_string(s->config->shape), "metric", s->metric->name, "unit", s->metric->unit, "better",
                            s->metric->better, "points", "changes");
    adm_status status = adm_rows_append(list, row, err);
    json_t *points = json_object_get(row, "points"), *changes = json_object_get(row, "changes");
    for (size_t i = 0; i < s->n_points && status == ADM_OK; i++)
        if (s->point[i].ok)
            status = adm_rows_append(
                points, json_pack("[I, f, I]", (json_int_t)s->point[i].run, s->point[i].median, (json_int_t)s->point[i].n),
                err);
    for (size_t i = 0; i < history->n_changes && status == ADM_OK; i++)
        if (history->change[i].series == s && strcmp(history->change[i].verdict, "ignored") != 0)
            status = adm_rows_append(changes, change_of(&history->change[i], set), err);
    return status;
}

/* How many series there are, with too few runs, and changes that are ignored. */
typedef struct counted {
    json_int_t n, n_short, n_ignored;
} counted;

/* Series of the reference loop, which tells whether a core was shared, are no figures of their own. */
static adm_status add_best(const adm_series_set *set, const adm_history *history, json_t *list, counted *counts,
                           adm_error *err) {
    candidate *all = NULL;
    size_t n = 0;
    adm_status status = adm_alloc(&all, set->n_series, sizeof *all, "series", err);
    for (size_t i = 0; status == ADM_OK && i < set->n_series; i++) {
        candidate one = {.series = &set->series[i]};
        for (size_t p = 0; p < set->series[i].n_points; p++) one.n_ok += set->series[i].point[p].ok;
        for (size_t c = 0; c < history->n_changes; c++) {
            bool is_own = history->change[c].series == one.series && strcmp(history->change[c].verdict, "ignored") != 0;
            one.n_changes += is_own;
            one.n_worse += is_own && history->change[c].is_worse;
        }
        if (adm_is_core_loop(set->series[i].metric->name)) continue;
        counts->n++;
        if (one.n_ok >= MIN_RUNS) all[n++] = one;
        else counts->n_short++;
    }
    if (status == ADM_OK) adm_sort(all, n, sizeof *all, by_interest);
    for (size_t i = 0; status == ADM_OK && i < n && i < MAX_SERIES; i++) status = add_series(&all[i], history, set, list, err);
    adm_free(&all);
    return status;
}

static adm_status add_runs(const adm_series_set *set, json_t *runs, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < set->n_runs && status == ADM_OK; i++)
        status = adm_rows_append(runs,
                                 json_pack("{s:I, s:o, s:o, s:o, s:b}", "run_id", (json_int_t)set->run[i].id, "label",
                                           adm_rows_string(set->run[i].label), "started_utc",
                                           adm_rows_string(set->run[i].started_utc), "commit",
                                           adm_rows_string(set->run[i].commit), "dirty", set->run[i].dirty),
                                 err);
    return status;
}

/* One metric's series and changes; the runs once. Counts add up. */
static adm_status add_metric(adm_store *store, const int64_t *ids, size_t n, const char *metric, json_t *history,
                             counted *counts, adm_error *err) {
    adm_series_set set = {0};
    adm_history found = {0};
    adm_commit_order order;
    adm_history_options options = ADM_HISTORY_DEFAULTS;
    json_t *runs = json_object_get(history, "runs");
    adm_status status = adm_series_load(store, ids, n, metric, &set, err);
    if (status == ADM_OK) status = adm_series_order_by_commit(&set, &order, err);
    if (status == ADM_OK) status = adm_history_find(&set, &options, &found, err);
    if (status == ADM_OK && json_array_size(runs) == 0) status = add_runs(&set, runs, err);
    if (status == ADM_OK) status = add_best(&set, &found, json_object_get(history, "series"), counts, err);
    for (size_t i = 0; i < found.n_changes; i++) counts->n_ignored += strcmp(found.change[i].verdict, "ignored") == 0;
    adm_history_free(&found);
    adm_series_free(&set);
    return status;
}

adm_status adm_report_history(adm_store *store, json_t *document, adm_error *err) {
    int64_t ids[MAX_RUNS];
    size_t n = 0;
    counted counts = {0};
    json_t *history = json_pack("{s:[], s:[]}", "runs", "series");
    adm_status status = history != NULL ? find_runs(store, ids, &n, err)
                                        : adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering the report's data");
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0] && status == ADM_OK && n >= MIN_RUNS; i++)
        status = add_metric(store, ids, n, metrics[i], history, &counts, err);
    if (status == ADM_OK) status = adm_rows_set(history, "n_series", json_integer(counts.n), err);
    if (status == ADM_OK) status = adm_rows_set(history, "min_runs", json_integer(MIN_RUNS), err);
    if (status == ADM_OK) status = adm_rows_set(history, "n_short", json_integer(counts.n_short), err);
    if (status == ADM_OK) status = adm_rows_set(history, "n_ignored", json_integer(counts.n_ignored), err);
    bool is_empty = json_array_size(json_object_get(history, "series")) == 0;
    if (status == ADM_OK) status = adm_rows_set(document, "history", is_empty ? json_null() : json_incref(history), err);
    json_decref(history);
    return status;
}
