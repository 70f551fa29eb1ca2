/* gpu_select.c: which GPU profiles a report shows, and for what.
 *
 *     runs, latest first     times  steps  counters  timeline
 *       7  one stage           x                                 shown for its times
 *       6  3 configurations    x      x       x         x        shown for its counters and timeline
 *       5  112 configurations  x      x                          shown for its steps: of 6's commit, and wider
 *       4  112 configurations  x      x                          not shown: an older commit
 *
 * Recorded runs are records and not a history: of these the widest grid is shown, whatever its commit. Phases go with
 * counters, which come from one command. */
#include "analysis/report/read/gpu_select.h"

#include <stdbool.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "analysis/report/read/sql.h"
#include "core/base/mem.h"

/* Times of some stage, times of whole steps, counters, a timeline, phases. */
enum {
    TIMES = ADM_REPORT_TIMES,
    STEPS = 16,
    COUNTERS = ADM_REPORT_COUNTERS,
    TIMELINE = ADM_REPORT_TIMELINE,
    PHASES = ADM_REPORT_PHASES
};

/* Runs looked at, the latest of own and recorded ones, and profiles shown: a bound for a database of years. */
enum { MAX_RUNS = 100, MAX_PROFILES = 8 };

typedef struct candidate {
    int64_t run_id, n_steps;
    char gpu[128], commit[64];
    bool is_recorded, of_trace;
    int has, chosen; /* parts */
} candidate;

/* Runs of one GPU, own or recorded, of random inputs or of a trace, are alternatives to one another. */
static bool is_alternative(const candidate *a, const candidate *b) {
    return strcmp(a->gpu, b->gpu) == 0 && a->is_recorded == b->is_recorded && a->of_trace == b->of_trace;
}

/* --- Reading -------------------------------------------------------------------------------------------------------- */

/* The metrics of a GPU stage that are not counters: times, and what the timeline says. */
#define NOT_COUNTERS                                                                                                  \
    ADM_REPORT_TIME_METRICS ", " ADM_REPORT_DEVICE_METRICS ", 'kernel_time_ns', 'launch_gap_ns', 'kernel_launches', " \
                            "'activity_dropped'"

#define OF_RUN \
    "FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ?1 AND m.source = 'gpu' AND m.stage IS NOT NULL "

static const char has_sql[] =
    "SELECT EXISTS (SELECT 1 " OF_RUN "AND k.name = 'time_ns'), (SELECT count(*) " OF_RUN "AND m.stage = 'step' AND k.name = "
    "'time_ns'), EXISTS (SELECT 1 " OF_RUN "AND k.name NOT IN (" NOT_COUNTERS ") AND " ADM_REPORT_NO_PHASE
    "), EXISTS (SELECT 1 FROM activity WHERE run_id "
    "= ?1), EXISTS (SELECT 1 FROM measurement m JOIN config c USING (config_id) WHERE m.run_id = ?1 AND c.trace_id IS NOT "
    "NULL), EXISTS (SELECT 1 " OF_RUN "AND NOT (" ADM_REPORT_NO_PHASE "))";

static adm_status read_parts(adm_store *store, candidate *c, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, has_sql, &query, err, "i", c->run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) {
        c->n_steps = adm_query_int(query, 1);
        c->has = (adm_query_int(query, 0) ? TIMES : 0) | (c->n_steps > 0 ? STEPS : 0) |
                 (adm_query_int(query, 2) ? COUNTERS : 0) | (adm_query_int(query, 3) ? TIMELINE : 0) |
                 (adm_query_int(query, 5) ? PHASES : 0);
        c->of_trace = adm_query_int(query, 4) != 0;
    }
    adm_query_close(&query);
    return status;
}

/* Own runs before recorded ones, complete before broken, later before earlier. */
static const char runs_sql[] =
    "SELECT run_id, gpu_name, git_commit, label LIKE 'recorded:%' FROM run WHERE command = 'profile' AND gpu_name IS NOT NULL "
    "AND (?1 = 0 OR run_id = ?1) ORDER BY label LIKE 'recorded:%', status = 'complete' DESC, started_utc DESC, run_id DESC "
    "LIMIT ?2";

/* Appends candidates to all [*n], which is large enough. `run_id` 0: every run. */
static adm_status read_candidates(adm_store *store, int64_t run_id, candidate *all, size_t *n, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, runs_sql, &query, err, "ii", run_id, (int64_t)(MAX_RUNS - *n));
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        candidate *c = &all[*n];
        *c = (candidate){.run_id = adm_query_int(query, 0), .is_recorded = adm_query_int(query, 3) != 0};
        snprintf(c->gpu, sizeof c->gpu, "%s", adm_query_text(query, 1));
        snprintf(c->commit, sizeof c->commit, "%s", adm_query_text(query, 2));
        status = read_parts(store, c, err);
        *n += status == ADM_OK && c->has != 0;
    }
    adm_query_close(&query);
    return status;
}

/* --- Choosing ------------------------------------------------------------------------------------------------------- */

/* Chooses, of the alternatives to all[first], the run to show for a part; none if one is chosen for it already. */
static void choose_part(candidate *all, size_t n, size_t first, int part) {
    candidate *best = NULL;
    for (size_t i = 0; i < n; i++) {
        if (!is_alternative(&all[i], &all[first])) continue;
        if (all[i].chosen & part) return;
        if (!(all[i].has & part)) continue;
        /* Of whole steps the widest grid of the latest commit. */
        bool is_wider = best != NULL && part == STEPS && all[i].n_steps > best->n_steps &&
                        (all[i].is_recorded || strcmp(all[i].commit, best->commit) == 0);
        if (best == NULL || is_wider) best = &all[i];
    }
    if (best == NULL) return;
    best->chosen |= part;
    if (part == STEPS) best->chosen |= TIMES;
}

static void choose(candidate *all, size_t n) {
    static const int parts[] = {STEPS, TIMES, COUNTERS, TIMELINE, PHASES};
    for (size_t first = 0; first < n; first++)
        for (size_t p = 0; p < sizeof parts / sizeof parts[0]; p++) choose_part(all, n, first, parts[p]);
    /* Times of some stage that are newer than the steps are shown too. */
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            bool is_hidden = is_alternative(&all[i], &all[j]) && (all[j].chosen & STEPS) && !(all[i].has & STEPS);
            bool is_first = true;
            for (size_t k = 0; k < i; k++) is_first &= !is_alternative(&all[k], &all[i]);
            if (is_hidden && is_first) all[i].chosen |= all[i].has & TIMES;
        }
}

adm_status adm_report_gpu_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *profiles,
                                 adm_error *err) {
    candidate *all = NULL;
    size_t n = 0;
    adm_status status = adm_alloc(&all, MAX_RUNS, sizeof *all, "profiles", err);
    if (status == ADM_OK && n_run_ids == 0) {
        status = read_candidates(store, 0, all, &n, err);
        if (status == ADM_OK) choose(all, n);
    }
    for (size_t i = 0; i < n_run_ids && n < MAX_RUNS && status == ADM_OK; i++)
        status = read_candidates(store, run_ids[i], all, &n, err);
    for (size_t i = 0; i < n && n_run_ids > 0; i++) all[i].chosen = all[i].has;
    for (size_t i = 0; i < n && status == ADM_OK && json_array_size(profiles) < MAX_PROFILES; i++)
        if (all[i].chosen != 0)
            status = adm_rows_append(profiles,
                                     json_pack("{s:I, s:o, s:b, s:i}", "run_id", (json_int_t)all[i].run_id, "gpu",
                                               adm_rows_string(all[i].gpu), "is_recorded", all[i].is_recorded, "parts",
                                               all[i].chosen & ~STEPS),
                                     err);
    adm_free(&all);
    return status;
}
