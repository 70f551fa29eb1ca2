/* renamed.c: finds the series that go on with another. */
#include "analysis/regress/renamed.h"

#include <string.h>

#include "core/base/mem.h"

typedef struct span {
    const adm_series *series;
    size_t at, first, last; /* index among the set's series; its first and last run */
} span;

static bool has_names(const adm_series *s) { return s->stage[0] != '\0' && strcmp(s->config->policy, "static") != 0; }

static int order_work(const adm_series *a, const adm_series *b) {
    int order = strcmp(a->config->work, b->config->work);
    if (order == 0) order = strcmp(a->config->launch, b->config->launch);
    if (order == 0) order = strcmp(a->source, b->source);
    if (order == 0) order = strcmp(a->stage, b->stage);
    return order != 0 ? order : strcmp(a->metric->name, b->metric->name);
}

bool adm_series_same_but_variant(const adm_series *a, const adm_series *b) { return has_names(a) && order_work(a, b) == 0; }

static int by_work(const void *x, const void *y) {
    const span *a = x, *b = y;
    int order = order_work(a->series, b->series);
    return order != 0 ? order : (a->first > b->first) - (a->first < b->first);
}

/* The only span of the group that begins after `a` before any of those that do has ended; NULL: none or several. */
static const span *follower(const span *group, size_t n, const span *a) {
    const span *found = NULL;
    size_t first_end = SIZE_MAX, n_found = 0;
    for (size_t i = 0; i < n; i++)
        if (group[i].first > a->last && group[i].last < first_end) first_end = group[i].last;
    for (size_t i = 0; i < n; i++)
        if (group[i].first > a->last && group[i].first <= first_end) {
            found = &group[i];
            n_found++;
        }
    return n_found == 1 ? found : NULL;
}

/* The only one that ended before `b` after all of those that did have begun. */
static const span *leader(const span *group, size_t n, const span *b) {
    const span *found = NULL;
    size_t last_begin = 0, n_found = 0;
    for (size_t i = 0; i < n; i++)
        if (group[i].last < b->first && group[i].first > last_begin) last_begin = group[i].first;
    for (size_t i = 0; i < n; i++)
        if (group[i].last < b->first && group[i].last >= last_begin) {
            found = &group[i];
            n_found++;
        }
    return n_found == 1 ? found : NULL;
}

adm_status adm_series_find_renamed(const adm_series_set *set, size_t *next, bool *is_next, adm_error *err) {
    span *spans = NULL;
    size_t n = 0;
    adm_status status = adm_alloc(&spans, set->n_series, sizeof *spans, "series", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < set->n_series; i++) {
        const adm_series *s = &set->series[i];
        next[i] = SIZE_MAX;
        is_next[i] = false;
        if (s->n_points > 0 && has_names(s)) spans[n++] = (span){s, i, s->point[0].run, s->point[s->n_points - 1].run};
    }
    adm_sort(spans, n, sizeof *spans, by_work);
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from + 1; to < n && order_work(spans[from].series, spans[to].series) == 0;) to++;
        for (size_t i = from; to - from > 1 && i < to; i++) {
            const span *b = follower(spans + from, to - from, &spans[i]);
            if (b == NULL || leader(spans + from, to - from, b) != &spans[i]) continue;
            next[spans[i].at] = b->at;
            is_next[b->at] = true;
        }
    }
    adm_free(&spans);
    return ADM_OK;
}
