/* history.c: change points series by series. */
#include "analysis/regress/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

/* --- Parts of one machine ----------------------------------------------------------------------------------------- */

static int order_machines(const adm_series_run *a, const adm_series_run *b) {
    const char *const x[] = {a->host_name, a->cpu_model, a->gpu_name, a->gpu_uuid, a->driver, a->cuda};
    const char *const y[] = {b->host_name, b->cpu_model, b->gpu_name, b->gpu_uuid, b->driver, b->cuda};
    for (size_t i = 0; i < sizeof x / sizeof x[0]; i++) {
        int order = strcmp(x[i], y[i]);
        if (order != 0) return order;
    }
    return 0;
}

typedef struct run_limit {
    const adm_series_run *run;
    double power_limit_w;
    size_t at;
} run_limit;

static int by_machine(const void *x, const void *y) {
    const run_limit *a = x, *b = y;
    int order = order_machines(a->run, b->run);
    return order != 0 ? order : (a->at > b->at) - (a->at < b->at);
}

static int order_limits(const run_limit *a, const run_limit *b) {
    int order = order_machines(a->run, b->run);
    return order != 0 ? order : (a->power_limit_w > b->power_limit_w) - (a->power_limit_w < b->power_limit_w);
}

static int by_limit(const void *x, const void *y) {
    const run_limit *a = x, *b = y;
    int order = order_limits(a, b);
    return order != 0 ? order : (a->at > b->at) - (a->at < b->at);
}

/* Where a run does not know its power limit, as of an older program, it is that of the machine's last run that does; before
 * the first such, that of the first. `order` is by machine. */
static void fill_limits(run_limit *order, size_t n) {
    for (size_t i = 1; i < n; i++)
        if (order[i].power_limit_w == 0 && order_machines(order[i - 1].run, order[i].run) == 0)
            order[i].power_limit_w = order[i - 1].power_limit_w;
    for (size_t i = n; i-- > 1;)
        if (order[i - 1].power_limit_w == 0 && order_machines(order[i - 1].run, order[i].run) == 0)
            order[i - 1].power_limit_w = order[i].power_limit_w;
}

/* Numbers the machines of the runs: machine[i] of run i, *n_machines in all. */
static adm_status number_machines(const adm_series_set *set, size_t *machine, size_t *n_machines, adm_error *err) {
    run_limit *order = NULL;
    adm_status status = adm_alloc(&order, set->n_runs, sizeof *order, "runs", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < set->n_runs; i++) order[i] = (run_limit){&set->run[i], set->run[i].power_limit_w, i};
    adm_sort(order, set->n_runs, sizeof *order, by_machine);
    fill_limits(order, set->n_runs);
    adm_sort(order, set->n_runs, sizeof *order, by_limit);
    *n_machines = 0;
    for (size_t i = 0; i < set->n_runs; i++) {
        *n_machines += i == 0 || order_limits(&order[i - 1], &order[i]) != 0;
        machine[order[i].at] = *n_machines - 1;
    }
    adm_free(&order);
    return ADM_OK;
}

/* --- What people said --------------------------------------------------------------------------------------------- */

/* A change point may move by a run or two as runs are added. */
enum { SAME_WITHIN = 3 };

static adm_status look_up(const adm_series_set *set, const adm_point *const *point, size_t n, size_t at, adm_history_change *c,
                          adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(
        set->store,
        "SELECT run_uuid, verdict, who, why, made_utc FROM acknowledgement WHERE config_id = ? AND source = ? AND "
        "ifnull(stage, '') = ? AND metric_id = ? ORDER BY made_utc DESC, acknowledgement_id DESC",
        &q, err, "issi", c->series->config->id, c->series->source, c->series->stage, c->series->metric->id);
    while (status == ADM_OK && c->verdict[0] == '\0' && (status = adm_query_next(q, &row, err)) == ADM_OK && row)
        for (size_t i = at > SAME_WITHIN ? at - SAME_WITHIN : 0; i < n && i <= at + SAME_WITHIN; i++) {
            if (strcmp(set->run[point[i]->run].uuid, adm_query_text(q, 0)) != 0) continue;
            snprintf(c->verdict, sizeof c->verdict, "%s", adm_query_text(q, 1));
            snprintf(c->who, sizeof c->who, "%s", adm_query_text(q, 2));
            snprintf(c->why, sizeof c->why, "%s", adm_query_text(q, 3));
            snprintf(c->made_utc, sizeof c->made_utc, "%s", adm_query_text(q, 4));
        }
    adm_query_close(&q);
    return status;
}

/* FNV-1a, 48 bits of it: enough to tell the change points of a database apart, and short enough to type. */
static void make_id(const adm_series *s, const char *run_uuid, char id[13]) {
    const char *const parts[] = {s->config->key, s->source, s->stage, s->metric->name, run_uuid};
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        for (const unsigned char *c = (const unsigned char *)parts[i];; c++) {
            hash = (hash ^ *c) * 1099511628211u;
            if (*c == '\0') break;
        }
    snprintf(id, 13, "%012" PRIx64, hash >> 16);
}

/* --- Analysis ----------------------------------------------------------------------------------------------------- */

typedef struct finder {
    const adm_series_set *set;
    const adm_history_options *o;
    adm_history *out;
    size_t capacity;
    size_t *machine;
    const adm_point **point; /* of one part, in order */
    double *value;
} finder;

static adm_status add_change(finder *w, const adm_series *s, size_t n, const adm_change_point *found, size_t n_found, size_t i,
                             adm_error *err) {
    if (w->out->n_changes == w->capacity) {
        adm_history_change *larger;
        adm_status status = adm_alloc(&larger, w->capacity > 0 ? 2 * w->capacity : 64, sizeof *larger, "change points", err);
        if (status != ADM_OK) return status;
        adm_copy(larger, w->out->change, w->capacity * sizeof *larger);
        adm_free(&w->out->change);
        w->out->change = larger;
        w->capacity = w->capacity > 0 ? 2 * w->capacity : 64;
    }
    size_t at = found[i].at, from = i > 0 ? found[i - 1].at : 0, to = i + 1 < n_found ? found[i + 1].at : n;
    adm_history_change *c = &w->out->change[w->out->n_changes++];
    *c = (adm_history_change){.series = s,
                              .before_run = &w->set->run[w->point[at - 1]->run],
                              .after_run = &w->set->run[w->point[at]->run],
                              .n_before = at - from,
                              .n_after = to - at,
                              .before = found[i].before,
                              .after = found[i].after,
                              .p = found[i].p};
    c->is_worse = (c->after > c->before) == (strcmp(s->metric->better, "higher") != 0);
    make_id(s, c->after_run->uuid, c->id);
    return look_up(w->set, w->point, n, at, c, err);
}

static adm_status analyse_part(finder *w, const adm_series *s, adm_figure figure, double tolerance, size_t n, adm_error *err) {
    adm_change_options o = ADM_CHANGE_DEFAULTS;
    adm_change_point *found = NULL;
    size_t n_found = 0;
    o.min_ratio = figure == ADM_FIGURE_TIME ? w->o->min_ratio : tolerance;
    o.seed = w->o->seed;
    w->out->n_parts++;
    w->out->n_short += n < 2 * o.min_points;
    adm_status status = adm_change_points(w->value, n, &o, &found, &n_found, err);
    for (size_t i = 0; status == ADM_OK && i < n_found; i++) status = add_change(w, s, n, found, n_found, i, err);
    adm_free(&found);
    return status;
}

static adm_status analyse_series(finder *w, const adm_series *s, size_t n_machines, adm_error *err) {
    double tolerance;
    adm_figure figure = adm_figure_of(s->metric->name, s->metric->unit, s->metric->better, s->stage, &tolerance);
    if (figure == ADM_FIGURE_CONTEXT && w->o->metric == NULL) return ADM_OK;
    if (w->o->metric != NULL && strcmp(s->metric->name, w->o->metric) != 0) return ADM_OK;
    if (w->o->stage != NULL && strcmp(s->stage, w->o->stage) != 0) return ADM_OK;
    w->out->n_series++;
    adm_status status = ADM_OK;
    for (size_t m = 0; status == ADM_OK && m < n_machines; m++) {
        size_t n = 0;
        for (size_t i = 0; i < s->n_points; i++) {
            if (!s->point[i].ok || s->point[i].is_contended || w->machine[s->point[i].run] != m) continue;
            w->point[n] = &s->point[i];
            w->value[n++] = figure == ADM_FIGURE_QUALITY ? s->point[i].mean : s->point[i].median;
        }
        if (n > 0) status = analyse_part(w, s, figure, tolerance, n, err);
    }
    return status;
}

static int newest_first(const void *x, const void *y) {
    const adm_history_change *a = x, *b = y;
    int order = strcmp(b->after_run->started_utc, a->after_run->started_utc);
    return order != 0 ? order : adm_series_order(a->series, b->series);
}

adm_status adm_history_find(const adm_series_set *set, const adm_history_options *o, adm_history *out, adm_error *err) {
    *out = (adm_history){0};
    finder w = {.set = set, .o = o, .out = out};
    size_t n_machines = 0;
    adm_status status = adm_alloc(&w.machine, set->n_runs, sizeof *w.machine, "runs", err);
    if (status == ADM_OK) status = adm_alloc(&w.point, set->n_runs, sizeof *w.point, "a series", err);
    if (status == ADM_OK) status = adm_alloc(&w.value, set->n_runs, sizeof *w.value, "a series", err);
    if (status == ADM_OK) status = number_machines(set, w.machine, &n_machines, err);
    for (size_t i = 0; status == ADM_OK && i < set->n_series; i++)
        status = analyse_series(&w, &set->series[i], n_machines, err);
    if (status == ADM_OK && out->n_changes > 0) adm_sort(out->change, out->n_changes, sizeof *out->change, newest_first);
    adm_free(&w.machine);
    adm_free(&w.point);
    adm_free(&w.value);
    if (status != ADM_OK) adm_history_free(out);
    return status;
}

void adm_history_free(adm_history *history) {
    adm_free(&history->change);
    *history = (adm_history){0};
}
