/* commit_order.c: sorts the runs of a set by commit. */
#include "analysis/regress/commit_order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "analysis/regress/git.h"
#include "core/base/mem.h"

/* One commit that runs name. */
typedef struct commit {
    const char *hash;
    const char *first_started; /* of its runs */
    int64_t git_at;            /* its index in git's order; -1: git does not know it */
    int64_t made_s;            /* its date in seconds; INT64_MIN: not known */
} commit;

/* A run on its way to its place. */
typedef struct placed {
    const adm_series_run *run;
    const commit *commit;
    int64_t git_at; /* of its commit, or of the last known commit that is not younger */
    bool is_known;  /* to git */
    int64_t made_s;
    size_t from;    /* its index before */
} placed;

static bool is_hash(const char *text) {
    size_t n = strlen(text);
    return n >= 40 && strspn(text, "0123456789abcdef") == n;
}

static int64_t seconds_of(const char *utc) {
    struct tm time = {0};
    return strptime(utc, "%Y-%m-%dT%H:%M:%S", &time) != NULL ? (int64_t)timegm(&time) : INT64_MIN;
}

/* --- Commits ------------------------------------------------------------------------------------------------------ */

static int by_hash(const void *a, const void *b) { return strcmp(((const commit *)a)->hash, ((const commit *)b)->hash); }

/* The commits of a set, by hash, each once. */
static adm_status list_commits(const adm_series_set *set, commit **out, size_t *n_out, adm_error *err) {
    commit *list = NULL;
    size_t n = 0;
    adm_status status = adm_alloc(&list, set->n_runs, sizeof *list, "commits", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < set->n_runs; i++) {
        const adm_series_run *r = &set->run[i];
        list[i] = (commit){r->commit, r->started_utc, -1, seconds_of(r->commit_utc)};
    }
    adm_sort(list, set->n_runs, sizeof *list, by_hash);
    for (size_t i = 0; i < set->n_runs; i++) {
        if (n > 0 && strcmp(list[n - 1].hash, list[i].hash) == 0) {
            commit *c = &list[n - 1];
            if (strcmp(list[i].first_started, c->first_started) < 0) c->first_started = list[i].first_started;
            if (c->made_s == INT64_MIN) c->made_s = list[i].made_s;
        } else {
            list[n++] = list[i];
        }
    }
    *out = list;
    *n_out = n;
    return ADM_OK;
}

/* Reads "SECONDS HASH" lines, oldest first, of all ancestors; those of the list get their places. */
static void read_order(char *lines, commit *list, size_t n) {
    int64_t at = 0;
    for (char *line = strtok(lines, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char *hash;
        int64_t made_s = strtoll(line, &hash, 10);
        if (*hash != ' ') continue;
        const commit key = {.hash = hash + 1};
        commit *found = adm_search(&key, list, n, sizeof *list, by_hash);
        if (found == NULL) continue;
        found->git_at = at++;
        found->made_s = made_s;
    }
}

static adm_status ask_git(commit *list, size_t n, adm_commit_order *order, adm_error *err) {
    char *wanted = NULL, *lines = NULL;
    adm_error why = {0};
    char *const argv[] = {"git", "rev-list", "--topo-order", "--reverse", "--timestamp", "--ignore-missing", "--stdin", NULL};
    size_t n_bytes = 1;
    for (size_t i = 0; i < n; i++) n_bytes += strlen(list[i].hash) + 1;
    adm_status status = adm_alloc(&wanted, n_bytes, 1, "commits", err);
    if (status != ADM_OK) return status;
    char *at = wanted;
    for (size_t i = 0; i < n; i++)
        if (is_hash(list[i].hash)) at += sprintf(at, "%s\n", list[i].hash);
    if (at > wanted) {
        if (adm_git(argv, wanted, &lines, &why) != ADM_OK)
            snprintf(order->git_says, sizeof order->git_says, "%.250s", why.text);
        else read_order(lines, list, n);
    }
    adm_free(&wanted);
    adm_free(&lines);
    return ADM_OK;
}

/* --- Places ------------------------------------------------------------------------------------------------------- */

static int by_git(const void *x, const void *y) {
    const commit *a = *(commit *const *)x, *b = *(commit *const *)y;
    return (a->git_at > b->git_at) - (a->git_at < b->git_at);
}

/* Of a commit that git does not know: the index of the last known commit that is as old or older. */
static int64_t place_by_date(const commit *const *known, const int64_t *newest_s, size_t n, int64_t made_s) {
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (newest_s[middle] <= made_s) low = middle + 1;
        else high = middle;
    }
    return low > 0 ? known[low - 1]->git_at : -1;
}

static int by_place(const void *x, const void *y) {
    const placed *a = x, *b = y;
    if (a->git_at != b->git_at) return a->git_at < b->git_at ? -1 : 1;
    if (a->is_known != b->is_known) return a->is_known ? -1 : 1;
    if (a->made_s != b->made_s) return a->made_s < b->made_s ? -1 : 1;
    int order = strcmp(a->commit->first_started, b->commit->first_started);
    if (order == 0) order = strcmp(a->run->commit, b->run->commit);
    if (order == 0) order = a->run->dirty - b->run->dirty;
    if (order == 0) order = strcmp(a->run->started_utc, b->run->started_utc);
    return order != 0 ? order : (a->run->id > b->run->id) - (a->run->id < b->run->id);
}

/* A run whose commit is no hash, such as 'unknown', is placed by itself. */
static void place(const adm_series_set *set, size_t i, commit *list, size_t n, const commit *const *known,
                  const int64_t *newest_s, size_t n_known, commit *own, adm_commit_order *order, placed *out) {
    const adm_series_run *r = &set->run[i];
    const commit key = {.hash = r->commit};
    const commit *c = adm_search(&key, list, n, sizeof *list, by_hash);
    if (!is_hash(r->commit)) {
        *own = (commit){r->commit, r->started_utc, -1, INT64_MIN};
        c = own;
    }
    bool has_date = c->made_s != INT64_MIN;
    *out = (placed){.run = r, .commit = c, .git_at = c->git_at, .is_known = c->git_at >= 0, .from = i};
    out->made_s = has_date ? c->made_s : seconds_of(c->first_started);
    if (!out->is_known) out->git_at = place_by_date(known, newest_s, n_known, out->made_s);
    order->n_by_git += out->is_known;
    order->n_by_date += !out->is_known && has_date;
    order->n_by_start += !out->is_known && !has_date;
}

static adm_status place_all(const adm_series_set *set, commit *list, size_t n, commit *own, adm_commit_order *order,
                            placed *out, adm_error *err) {
    const commit **known = NULL;
    int64_t *newest_s = NULL;
    size_t n_known = 0;
    adm_status status = adm_alloc(&known, n, sizeof *known, "commits", err);
    if (status == ADM_OK) status = adm_alloc(&newest_s, n, sizeof *newest_s, "commits", err);
    if (status == ADM_OK) {
        for (size_t i = 0; i < n; i++)
            if (list[i].git_at >= 0) known[n_known++] = &list[i];
        adm_sort(known, n_known, sizeof *known, by_git);
        for (size_t i = 0; i < n_known; i++)
            newest_s[i] = i > 0 && newest_s[i - 1] > known[i]->made_s ? newest_s[i - 1] : known[i]->made_s;
        for (size_t i = 0; i < set->n_runs; i++) place(set, i, list, n, known, newest_s, n_known, &own[i], order, &out[i]);
        adm_sort(out, set->n_runs, sizeof *out, by_place);
    }
    adm_free(&known);
    adm_free(&newest_s);
    return status;
}

/* --- The set ------------------------------------------------------------------------------------------------------ */

static int by_run(const void *a, const void *b) {
    size_t x = ((const adm_point *)a)->run, y = ((const adm_point *)b)->run;
    return (x > y) - (x < y);
}

static bool are_replicates(const placed *a, const placed *b) {
    return !a->run->dirty && !b->run->dirty && a->commit == b->commit && is_hash(a->run->commit);
}

/* Moves the runs to their places, and their points with them. */
static adm_status move(adm_series_set *set, const placed *order, adm_error *err) {
    adm_series_run *run = NULL;
    size_t *to = NULL;
    adm_status status = adm_alloc(&run, set->n_runs, sizeof *run, "runs", err);
    if (status == ADM_OK) status = adm_alloc(&to, set->n_runs, sizeof *to, "runs", err);
    if (status == ADM_OK) {
        for (size_t i = 0, at = 0; i < set->n_runs; i++) {
            at += i > 0 && !are_replicates(&order[i - 1], &order[i]);
            run[i] = *order[i].run;
            run[i].commit_at = at;
            to[order[i].from] = i;
        }
        adm_copy(set->run, run, set->n_runs * sizeof *run);
        for (size_t i = 0; i < set->n_points; i++) set->point[i].run = to[set->point[i].run];
        for (size_t i = 0; i < set->n_series; i++)
            adm_sort(set->point + (set->series[i].point - set->point), set->series[i].n_points, sizeof *set->point, by_run);
    }
    adm_free(&run);
    adm_free(&to);
    return status;
}

adm_status adm_series_order_by_commit(adm_series_set *set, adm_commit_order *order, adm_error *err) {
    commit *list = NULL, *own = NULL;
    placed *places = NULL;
    size_t n = 0;
    *order = (adm_commit_order){0};
    adm_status status = list_commits(set, &list, &n, err);
    if (status == ADM_OK) status = adm_alloc(&own, set->n_runs, sizeof *own, "runs", err);
    if (status == ADM_OK) status = adm_alloc(&places, set->n_runs, sizeof *places, "runs", err);
    if (status == ADM_OK) status = ask_git(list, n, order, err);
    if (status == ADM_OK) status = place_all(set, list, n, own, order, places, err);
    if (status == ADM_OK) status = move(set, places, err);
    adm_free(&list);
    adm_free(&own);
    adm_free(&places);
    return status;
}
