/* checks.c: reads what checks decided. */
#include "analysis/regress/checks.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/store/runs_find.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"

adm_status adm_sides_parse(const char *text, adm_sides *sides, adm_error *err) {
    static const char *const names[] = {"passed", "candidates", "baselines", "none"};
    for (int i = 0; i < 4; i++)
        if (strcmp(text, names[i]) == 0) {
            *sides = (adm_sides)i;
            return ADM_OK;
        }
    return adm_refuse_word("--series", text, names, 4, err);
}

void adm_checks_free(adm_checks *c) {
    for (size_t i = 0; i < c->n_failed; i++)
        for (int side = 0; side < 2; side++) adm_series_free(&c->failed[i].set[side]);
    adm_free(&c->failed);
    adm_free(&c->change);
    adm_free(&c->of);
    *c = (adm_checks){0};
}

/* --- One failed check --------------------------------------------------------------------------------------------- */

static adm_status load_side(adm_store *store, const char *uuid, const char *side, adm_series_set *set, adm_error *err) {
    char named[96];
    int64_t *ids = NULL;
    size_t n = 0;
    snprintf(named, sizeof named, "check:%s:%s", uuid, side);
    adm_status status = adm_runs_find(store, named, ADM_RUNS_COMPLETE, "the database", &ids, &n, NULL);
    if (status == ADM_OK) status = adm_series_load(store, ids, n, NULL, set, err);
    else status = ADM_OK; /* a baseline of stored runs is no side of the check */
    adm_free(&ids);
    return status;
}

static bool asked_for(const adm_series *s, const adm_history_options *o) {
    return (o->metric == NULL || strcmp(s->metric->name, o->metric) == 0) &&
           (o->stage == NULL || strcmp(s->stage, o->stage) == 0);
}

static adm_status add_regressions(adm_checks *c, adm_store *store, const adm_failed_check *check, const adm_history_options *o,
                                  const adm_check_regression *regressed, size_t n, adm_error *err) {
    const adm_series_set *base = &check->set[0], *cand = &check->set[1];
    adm_history_change *change = NULL;
    const adm_failed_check **of = NULL;
    const char **uuids = NULL;
    adm_status status = adm_alloc(&change, c->n_changes + n, sizeof *change, "changes", err);
    if (status == ADM_OK) status = adm_alloc(&of, c->n_changes + n, sizeof *of, "changes", err);
    if (status == ADM_OK) status = adm_alloc(&uuids, cand->n_runs, sizeof *uuids, "runs", err);
    if (status == ADM_OK) {
        adm_copy(change, c->change, c->n_changes * sizeof *change);
        adm_copy(of, c->of, c->n_changes * sizeof *of);
        adm_free(&c->change);
        adm_free(&c->of);
        c->change = change;
        c->of = of;
        change = NULL;
        of = NULL;
    }
    for (size_t i = 0; status == ADM_OK && i < cand->n_runs; i++) uuids[i] = cand->run[i].uuid;
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        const adm_check_regression *r = &regressed[i];
        if (!asked_for(r->series, o)) continue;
        adm_history_change *one = &c->change[c->n_changes];
        c->of[c->n_changes++] = check;
        *one = (adm_history_change){.series = r->series,
                                    .before_run = base->n_runs > 0 ? &base->run[0] : &cand->run[0],
                                    .after_run = &cand->run[0],
                                    .named_run = &cand->run[0],
                                    .n_before = base->n_runs,
                                    .n_after = cand->n_runs,
                                    .before = r->before,
                                    .after = r->after,
                                    .p = r->p,
                                    .is_worse = true};
        adm_history_id(r->series, check->uuid, one->id);
        status = adm_history_said(store, r->series, uuids, cand->n_runs, one, err);
    }
    adm_free(&change);
    adm_free(&of);
    adm_free(&uuids);
    return status;
}

/* The regressed rows of a check, but for those that a later check has settled: one of the same commit judged the series anew,
 * or one found it improved. */
static const char rows_sql[] =
    "SELECT r.config_id, r.source, ifnull(r.stage, ''), r.metric_id, ifnull(r.baseline, 0), ifnull(r.candidate, 0),"
    " ifnull(r.shift_ratio, 0), r.p_adjusted FROM check_result k JOIN check_row r USING (check_result_id)"
    " WHERE k.check_uuid = ?1 AND r.verdict = 'regressed' AND NOT EXISTS (SELECT 1 FROM check_result l JOIN check_row s USING"
    " (check_result_id) WHERE l.made_utc > k.made_utc AND s.config_id = r.config_id AND s.source = r.source AND s.stage IS"
    " r.stage AND s.metric_id = r.metric_id AND (s.verdict = 'improved' OR (s.verdict <> 'inconclusive' AND"
    " l.candidate_commit = k.candidate_commit AND l.candidate_commit NOT IN ('', 'unknown'))))";

static const adm_series *series_of(const adm_series_set *set, int64_t config, const char *source, const char *stage,
                                   int64_t metric) {
    for (size_t i = 0; i < set->n_series; i++) {
        const adm_series *s = &set->series[i];
        if (s->config->id == config && s->metric->id == metric && strcmp(s->source, source) == 0 &&
            strcmp(s->stage, stage) == 0)
            return s;
    }
    return NULL;
}

static adm_status stored_regressions(adm_store *store, const adm_failed_check *check, adm_check_regression **out, size_t *n,
                                     adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_alloc(out, check->set[1].n_series, sizeof **out, "regressions", err);
    if (status == ADM_OK) status = adm_query_open(store, rows_sql, &q, err, "s", check->uuid);
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row && *n < check->set[1].n_series) {
        const adm_series *s = series_of(&check->set[1], adm_query_int(q, 0), adm_query_text(q, 1), adm_query_text(q, 2),
                                        adm_query_int(q, 3));
        if (s == NULL) continue;
        (*out)[(*n)++] = (adm_check_regression){s, adm_query_double(q, 4), adm_query_double(q, 5), adm_query_double(q, 6),
                                                adm_query_is_null(q, 7) ? NAN : adm_query_double(q, 7)};
    }
    adm_query_close(&q);
    return status;
}

/* exit_code -1: no verdict is stored. A check that turns out to have passed is dropped again. */
static adm_status read_check(adm_checks *c, adm_store *store, adm_failed_check *check, int exit_code,
                             const adm_history_options *o, adm_judge_check *judge, adm_error *err) {
    adm_check_regression *regressed = NULL;
    size_t n = 0;
    adm_status status = load_side(store, check->uuid, "baseline", &check->set[0], err);
    if (status == ADM_OK) status = load_side(store, check->uuid, "candidate", &check->set[1], err);
    const bool both = check->set[0].n_runs > 0 && check->set[1].n_runs > 0;
    if (status == ADM_OK && exit_code >= 0) status = stored_regressions(store, check, &regressed, &n, err);
    else if (status == ADM_OK && judge != NULL && both) status = judge(&check->set[0], &check->set[1], &regressed, &n, err);
    if (status == ADM_OK && (exit_code > 0 || n > 0)) {
        c->n_failed++;
        status = add_regressions(c, store, check, o, regressed, n, err);
    } else {
        for (int side = 0; side < 2; side++) adm_series_free(&check->set[side]);
    }
    adm_free(&regressed);
    return status;
}

/* --- All of them -------------------------------------------------------------------------------------------------- */

/* "[1,2,3]" for json_each(). */
static adm_status as_json(const int64_t *ids, size_t n, char **json, adm_error *err) {
    adm_status status = adm_alloc(json, n * 21 + 3, 1, "list of runs", err);
    char *at = *json;
    if (status != ADM_OK) return status;
    *at++ = '[';
    for (size_t i = 0; i < n; i++) at += sprintf(at, "%s%lld", i > 0 ? "," : "", (long long)ids[i]);
    strcpy(at, "]");
    return ADM_OK;
}

static const char checks_sql[] =
    "SELECT c.check_uuid, ifnull(k.exit_code, -1), ifnull(k.made_utc, max(r.started_utc)), ifnull(k.baseline, ''),"
    " ifnull(k.candidate, max(c.subject)) FROM check_run c JOIN run r USING (run_id)"
    " LEFT JOIN check_result k USING (check_uuid)"
    " WHERE c.side = 'candidate' AND c.run_id IN (SELECT value FROM json_each(?)) GROUP BY c.check_uuid ORDER BY 3 DESC, 1";

adm_status adm_checks_find(adm_store *store, const int64_t *run_ids, size_t n, const adm_history_options *o,
                           adm_judge_check *judge, adm_checks *out, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    char *json = NULL;
    int64_t n_checks = 0;
    *out = (adm_checks){0};
    adm_status status = as_json(run_ids, n, &json, err);
    if (status == ADM_OK) status = adm_query_open(store, "SELECT count(DISTINCT check_uuid) FROM check_run", &q, err, "");
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK) n_checks = adm_query_int(q, 0);
    adm_query_close(&q);
    /* All at once: changes point into the sets of a check. */
    if (status == ADM_OK) status = adm_alloc(&out->failed, (size_t)n_checks, sizeof *out->failed, "checks", err);
    if (status == ADM_OK) status = adm_query_open(store, checks_sql, &q, err, "s", json);
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row && out->n_failed < (size_t)n_checks) {
        adm_failed_check *check = &out->failed[out->n_failed];
        int exit_code = (int)adm_query_int(q, 1);
        *check = (adm_failed_check){0};
        snprintf(check->uuid, sizeof check->uuid, "%s", adm_query_text(q, 0));
        snprintf(check->made_utc, sizeof check->made_utc, "%s", adm_query_text(q, 2));
        snprintf(check->baseline, sizeof check->baseline, "%s", adm_query_text(q, 3));
        snprintf(check->candidate, sizeof check->candidate, "%s", adm_query_text(q, 4));
        out->n_checks++;
        out->n_judged += exit_code == 0 || exit_code == 1;
        /* What is inconclusive has not failed: a history decides it with the runs of other commits. */
        if (exit_code == 0 || exit_code == 3) continue;
        status = read_check(out, store, check, exit_code, o, judge, err);
    }
    adm_query_close(&q);
    adm_free(&json);
    if (status != ADM_OK) adm_checks_free(out);
    return status;
}

/* --- Which runs make up a history --------------------------------------------------------------------------------- */

static bool has_failed(const adm_checks *c, const char *uuid) {
    for (size_t i = 0; c != NULL && i < c->n_failed; i++)
        if (strcmp(c->failed[i].uuid, uuid) == 0) return true;
    return false;
}

static int by_id(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static const char sides_sql[] =
    "SELECT c.run_id, c.side, c.check_uuid, ifnull(k.exit_code, 0) IN (1, 4), r.only_times IS NOT NULL FROM check_run c"
    " JOIN run r USING (run_id) LEFT JOIN check_result k USING (check_uuid)";

adm_status adm_checks_select(adm_store *store, const adm_checks *checks, adm_sides sides, int64_t *ids, size_t *n,
                             adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    int64_t *left_out = NULL, n_sides = 0;
    size_t n_out = 0, kept = 0;
    adm_status status = adm_query_open(store, "SELECT count(*) FROM check_run", &q, err, "");
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK) n_sides = adm_query_int(q, 0);
    adm_query_close(&q);
    if (status == ADM_OK) status = adm_alloc(&left_out, (size_t)n_sides, sizeof *left_out, "runs", err);
    if (status == ADM_OK) status = adm_query_open(store, sides_sql, &q, err, "");
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row && n_out < (size_t)n_sides) {
        const bool is_candidate = strcmp(adm_query_text(q, 1), "candidate") == 0;
        const bool failed = adm_query_int(q, 3) != 0 || has_failed(checks, adm_query_text(q, 2));
        const bool belongs = sides == ADM_SIDES_PASSED       ? is_candidate && !failed
                             : sides == ADM_SIDES_CANDIDATES ? is_candidate
                             : sides == ADM_SIDES_BASELINES  ? !is_candidate
                                                             : false;
        /* A process that was added for a few times may have them on another level (compare/align.h). */
        if (!belongs || adm_query_int(q, 4) != 0) left_out[n_out++] = adm_query_int(q, 0);
    }
    adm_query_close(&q);
    if (status == ADM_OK) {
        adm_sort(left_out, n_out, sizeof *left_out, by_id);
        for (size_t i = 0; i < *n; i++)
            if (adm_search(&ids[i], left_out, n_out, sizeof *left_out, by_id) == NULL) ids[kept++] = ids[i];
        *n = kept;
    }
    adm_free(&left_out);
    return status;
}
