/* history.c: change points series by series. */
#include "analysis/regress/history.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/machines.h"
#include "analysis/regress/renamed.h"
#include "core/base/mem.h"

/* --- What people said --------------------------------------------------------------------------------------------- */

/* A change point may move by a run or two as runs are added. */
enum { SAME_WITHIN = 3 };

adm_status adm_history_said(adm_store *store, const adm_series *s, const char *const *run_uuids, size_t n,
                            adm_history_change *c, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(
        store,
        "SELECT run_uuid, verdict, who, why, made_utc FROM acknowledgement WHERE config_id = ? AND source = ? AND "
        "ifnull(stage, '') = ? AND metric_id = ? ORDER BY made_utc DESC, acknowledgement_id DESC",
        &q, err, "issi", s->config->id, s->source, s->stage, s->metric->id);
    while (status == ADM_OK && c->verdict[0] == '\0' && (status = adm_query_next(q, &row, err)) == ADM_OK && row)
        for (size_t i = 0; i < n; i++) {
            if (strcmp(run_uuids[i], adm_query_text(q, 0)) != 0) continue;
            snprintf(c->verdict, sizeof c->verdict, "%s", adm_query_text(q, 1));
            snprintf(c->who, sizeof c->who, "%s", adm_query_text(q, 2));
            snprintf(c->why, sizeof c->why, "%s", adm_query_text(q, 3));
            snprintf(c->made_utc, sizeof c->made_utc, "%s", adm_query_text(q, 4));
        }
    adm_query_close(&q);
    return status;
}

/* FNV-1a, 48 bits of it: enough to tell the change points of a database apart, and short enough to type. */
void adm_history_id(const adm_series *s, const char *uuid, char id[13]) {
    const char *const parts[] = {s->config->key, s->source, s->stage, s->metric->name, uuid};
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
    adm_machines machines;
    size_t *next;   /* of each series: which goes on with it */
    bool *is_next;
    const adm_point **point; /* of one part, in order */
    const adm_series **of;   /* each point's series */
    double *value;
    size_t *group;
} finder;

static adm_status add_change(finder *w, size_t n, const adm_change_point *found, size_t i, adm_error *err) {
    const char *near[2 * SAME_WITHIN + 1];
    size_t n_near = 0;
    adm_status status = adm_grow(&w->out->change, w->out->n_changes, &w->capacity, sizeof *w->out->change, "change points",
                                 err);
    if (status != ADM_OK) return status;
    const size_t at = found[i].at;
    const adm_series *s = w->of[at];
    adm_history_change *c = &w->out->change[w->out->n_changes++];
    *c = (adm_history_change){.series = s,
                              .before_run = &w->set->run[w->point[at - 1]->run],
                              .after_run = &w->set->run[w->point[at]->run],
                              .n_before = at - found[i].from,
                              .n_after = found[i].to - at,
                              .before = found[i].before,
                              .after = found[i].after,
                              .p = found[i].p};
    c->named_run = c->after_run;
    if (found[i].is_drift) {
        c->is_drift = true;
        c->before_run = &w->set->run[w->point[found[i].from]->run];
        c->after_run = &w->set->run[w->point[found[i].to - 1]->run];
        c->n_before = at - found[i].from;
        c->n_after = found[i].to - at;
    }
    c->is_worse = (c->after > c->before) == (strcmp(s->metric->better, "higher") != 0);
    adm_history_id(s, c->named_run->uuid, c->id);
    for (size_t k = at > SAME_WITHIN ? at - SAME_WITHIN : 0; k < n && k <= at + SAME_WITHIN; k++)
        near[n_near++] = w->set->run[w->point[k]->run].uuid;
    return adm_history_said(w->set->store, s, near, n_near, c, err);
}

static adm_status analyse_part(finder *w, adm_figure figure, double tolerance, size_t n, adm_error *err) {
    adm_change_options o = ADM_CHANGE_DEFAULTS;
    adm_change_point *found = NULL;
    size_t n_found = 0;
    o.min_ratio = figure == ADM_FIGURE_TIME ? w->o->min_ratio : tolerance;
    o.seed = w->o->seed;
    o.group = w->group;
    w->out->n_parts++;
    w->out->kind[figure].n_parts++;
    /* Runs of one commit alone hold no place at which anything could have changed. */
    const bool is_short = n < 2 * o.min_points || w->group[0] == w->group[n - 1];
    w->out->n_short += is_short;
    w->out->kind[figure].n_judged += !is_short;
    if (is_short) return ADM_OK;
    adm_status status = adm_change_points(w->value, n, &o, &found, &n_found, err);
    for (size_t i = 0; status == ADM_OK && i < n_found; i++) status = add_change(w, n, found, i, err);
    adm_free(&found);
    return status;
}

/* The points of one machine of a series and of those that go on with it. */
static size_t gather(finder *w, const adm_series *s, adm_figure figure, size_t machine) {
    size_t n = 0;
    for (;;) {
        for (size_t i = 0; i < s->n_points; i++) {
            const adm_point *p = &s->point[i];
            if (!p->ok || adm_machine_of(&w->machines, s, figure, p->run) != machine) continue;
            if (p->is_contended && figure == ADM_FIGURE_TIME) {
                w->out->n_contended++;
                continue;
            }
            w->point[n] = p;
            w->of[n] = s;
            w->group[n] = w->set->run[p->run].commit_at;
            w->value[n++] = figure == ADM_FIGURE_QUALITY ? p->mean : p->median;
        }
        size_t at = (size_t)(s - w->set->series);
        if (w->next[at] == SIZE_MAX) return n;
        s = &w->set->series[w->next[at]];
    }
}

static adm_status analyse_series(finder *w, const adm_series *s, adm_error *err) {
    double tolerance;
    adm_figure figure = adm_figure_of(s->metric->name, s->metric->unit, s->metric->better, s->stage, &tolerance);
    if (figure == ADM_FIGURE_CONTEXT && w->o->metric == NULL) return ADM_OK;
    if (w->o->metric != NULL && strcmp(s->metric->name, w->o->metric) != 0) return ADM_OK;
    if (w->o->stage != NULL && strcmp(s->stage, w->o->stage) != 0) return ADM_OK;
    w->out->n_renamed += w->next[s - w->set->series] != SIZE_MAX;
    if (w->is_next[s - w->set->series]) return ADM_OK; /* analysed with the one that it goes on with */
    w->out->n_series++;
    adm_status status = ADM_OK;
    for (size_t m = 0; status == ADM_OK && m < adm_machines_n(&w->machines, s, figure); m++) {
        size_t n = gather(w, s, figure, m);
        if (n > 0) status = analyse_part(w, figure, tolerance, n, err);
    }
    return status;
}

static int newest_first(const void *x, const void *y) {
    const adm_history_change *a = x, *b = y;
    if (a->after_run != b->after_run) return a->after_run > b->after_run ? -1 : 1; /* of one array, in the order of commits */
    return adm_series_order(a->series, b->series);
}

static adm_status find_all(finder *w, adm_error *err) {
    const adm_series_set *set = w->set;
    adm_status status = adm_alloc(&w->point, set->n_runs, sizeof *w->point, "a series", err);
    if (status == ADM_OK) status = adm_alloc(&w->of, set->n_runs, sizeof *w->of, "a series", err);
    if (status == ADM_OK) status = adm_alloc(&w->value, set->n_runs, sizeof *w->value, "a series", err);
    if (status == ADM_OK) status = adm_alloc(&w->group, set->n_runs, sizeof *w->group, "a series", err);
    if (status == ADM_OK) status = adm_alloc(&w->next, set->n_series, sizeof *w->next, "series", err);
    if (status == ADM_OK) status = adm_alloc(&w->is_next, set->n_series, sizeof *w->is_next, "series", err);
    if (status == ADM_OK) status = adm_machines_find(set, w->o->same_machine, &w->machines, err);
    if (status == ADM_OK) status = adm_series_find_renamed(set, w->next, w->is_next, err);
    for (size_t i = 0; status == ADM_OK && i < set->n_series; i++) status = analyse_series(w, &set->series[i], err);
    return status;
}

adm_status adm_history_find(const adm_series_set *set, const adm_history_options *o, adm_history *out, adm_error *err) {
    *out = (adm_history){0};
    finder w = {.set = set, .o = o, .out = out};
    adm_status status = find_all(&w, err);
    if (status == ADM_OK && out->n_changes > 0) adm_sort(out->change, out->n_changes, sizeof *out->change, newest_first);
    adm_machines_free(&w.machines);
    adm_free(&w.next);
    adm_free(&w.is_next);
    adm_free(&w.point);
    adm_free(&w.of);
    adm_free(&w.value);
    adm_free(&w.group);
    if (status != ADM_OK) adm_history_free(out);
    return status;
}

void adm_history_free(adm_history *history) {
    adm_free(&history->change);
    *history = (adm_history){0};
}
