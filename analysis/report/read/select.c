/* select.c: which runs and traces a report is about.
 *
 *     run ──< session >── trace     one session: what one run measured of one trace
 *     run ─── profile               one profile: what one run measured on a GPU (report_gpu_select.c)
 *     run ──< sketch            what one calibration found at one budget (sketches.c)
 *     run ─── serving               one `adamas simulate` (serving.c)
 *     run ──< decoded               steps of whole models, by GPU (decode.c)
 *     run ─── evaluation            one evaluation: what one run measured with the model in the loop (report_tasks.c)
 *
 * Only figures of one session, or of one profile, ever share a line of a chart or a row of a table. */
#include "analysis/report/read/select.h"

#include <string.h>

#include "analysis/report/read/decode.h"
#include "analysis/report/read/gpu_select.h"
#include "analysis/output/rows.h"
#include "analysis/report/read/serving.h"
#include "analysis/report/read/sketches.h"
#include "analysis/report/read/tasks.h"
#include "analysis/report/read/tuning.h"
#include "core/base/mem.h"

/* Runs that a report does not show are listed, so that nobody wonders where they are; the latest so many. */
enum { MAX_OTHER_RUNS = 50 };

/* Of a run that is not shown. */
static const char *const other_columns[] = {"run_id", "label", "command", "status", "reason", "started_utc"};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Reads the first column of the only row. */
static adm_status read_one(adm_store *store, const char *sql, int64_t parameter, int64_t *value, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(store, sql, &query, err, "i", parameter);
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    *value = status == ADM_OK && there ? adm_query_int(query, 0) : 0;
    adm_query_close(&query);
    return status;
}

static bool has_trace(const json_t *sessions, int64_t trace_id) {
    size_t i;
    json_t *session;
    json_array_foreach(sessions, i,
                       session) if (json_integer_value(json_object_get(session, "trace_id")) == trace_id) return true;
    return false;
}

/* Adds a session for each trace that a run measured, real ones first; with `new_only`, for traces without a session. */
static adm_status add_sessions(adm_store *store, int64_t run_id, bool new_only, json_t *sessions, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(
        store,
        "SELECT t.trace_id FROM trace t WHERE EXISTS (SELECT 1 FROM config c JOIN measurement m USING (config_id) WHERE "
        "ifnull(c.trace_id, 0) = t.trace_id AND m.run_id = ?1 AND m.source <> 'gpu') AND EXISTS (SELECT 1 FROM run r "
        "WHERE r.run_id = ?1 AND r.command = 'replay') ORDER BY t.kind <> 'real', t.kind, t.name",
        &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        int64_t trace_id = adm_query_int(query, 0);
        if (new_only && has_trace(sessions, trace_id)) continue;
        status = adm_rows_append(sessions,
                                 json_pack("{s:I,s:I}", "run_id", (json_int_t)run_id, "trace_id", (json_int_t)trace_id), err);
    }
    adm_query_close(&query);
    return status;
}

/* Moves sessions of real traces before the others, and keeps the order among each. */
static adm_status put_real_first(adm_store *store, json_t *sessions, adm_error *err) {
    size_t n = json_array_size(sessions), n_real = 0;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        json_t *session = json_array_get(sessions, i);
        int64_t is_real;
        status = read_one(store, "SELECT kind = 'real' FROM trace WHERE trace_id = ?",
                          json_integer_value(json_object_get(session, "trace_id")), &is_real, err);
        if (status != ADM_OK || !is_real) continue;
        json_incref(session); /* it leaves the array for a moment */
        json_array_remove(sessions, i);
        if (json_array_insert_new(sessions, n_real++, session) != 0)
            status = adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering the report's data");
    }
    return status;
}

/* The latest replay of every trace: own runs before recorded ones, whole before those of a few times, complete before others.
 * Stops once every trace has
 * one. */
static adm_status choose_latest(adm_store *store, json_t *sessions, adm_error *err) {
    int64_t n_traces;
    adm_status status = read_one(store, "SELECT count(*) FROM trace WHERE ?", 1, &n_traces, err);
    adm_query *query = NULL;
    bool there = false;
    if (status == ADM_OK)
        status = adm_query_open(
            store,
            "SELECT run_id FROM run WHERE command = 'replay' "
            "ORDER BY label LIKE 'recorded:%', only_times IS NOT NULL, status = 'complete' DESC, started_utc DESC, "
            "run_id DESC",
            &query, err, "");
    while (status == ADM_OK && (int64_t)json_array_size(sessions) < n_traces &&
           (status = adm_query_next(query, &there, err)) == ADM_OK && there)
        status = add_sessions(store, adm_query_int(query, 0), true, sessions, err);
    adm_query_close(&query);
    return status == ADM_OK ? put_real_first(store, sessions, err) : status;
}

static adm_status choose_named(adm_store *store, const char *database, const uint32_t *run_ids, size_t n_run_ids,
                               json_t *sessions, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) {
        int64_t n, newest;
        status = read_one(store, "SELECT count(*) FROM run WHERE run_id = ?", run_ids[i], &n, err);
        if (status == ADM_OK && n == 0) {
            status = read_one(store, "SELECT max(run_id) FROM run WHERE ?", 1, &newest, err);
            if (status == ADM_OK)
                status = adm_fail(err, ADM_EINPUT, "--run: %s holds no run %u; its newest is run %lld", database, run_ids[i],
                                  (long long)newest);
        }
        if (status == ADM_OK) status = add_sessions(store, run_ids[i], false, sessions, err);
    }
    return status;
}

/* True if the report shows this run: something of it was chosen, or it was asked for by name. */
static bool is_shown(int64_t run_id, const json_t *document, const uint32_t *run_ids, size_t n_run_ids) {
    static const char *const lists[] = {"sessions", "profiles", "evaluations", "sketches", "servings", "tunings", "decoded"};
    size_t i;
    json_t *shown;
    for (i = 0; i < n_run_ids; i++)
        if (run_ids[i] == run_id) return true;
    for (size_t l = 0; l < COUNT(lists); l++)
        json_array_foreach(json_object_get(document, lists[l]), i,
                           shown) if (json_integer_value(json_object_get(shown, "run_id")) == run_id) return true;
    return false;
}

/* The row with other_columns alone; takes the row. NULL when out of memory. */
static json_t *cut_row(json_t *row) {
    json_t *cut = json_object();
    bool ok = true;
    for (size_t i = 0; i < COUNT(other_columns); i++)
        ok &= json_object_set(cut, other_columns[i], json_object_get(row, other_columns[i])) == 0;
    json_decref(row);
    if (ok) return cut;
    json_decref(cut);
    return NULL;
}

/* What raw samples a run has, in words; null if it timed nothing more than once. A recorded file need not carry them. */
static adm_status add_samples(adm_store *store, json_t *row, adm_error *err) {
    const char *label = json_string_value(json_object_get(row, "label"));
    const bool is_recorded = label != NULL && strncmp(label, "recorded:", 9) == 0;
    adm_query *query = NULL;
    bool there = false;
    json_t *words = NULL;
    adm_status status = adm_query_open(
        store,
        "SELECT count(*), ifnull(sum(EXISTS (SELECT 1 FROM sample s WHERE s.measurement_id = m.measurement_id)), 0) "
        "FROM measurement m JOIN metric k USING (metric_id) "
        "WHERE m.run_id = ? AND k.name IN ('time_ns', 'token_time_ns') AND m.status = 'ok' AND m.n > 1 "
        "AND m.layer IS NULL AND m.head IS NULL",
        &query, err, "i", (int64_t)json_integer_value(json_object_get(row, "run_id")));
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    if (status == ADM_OK && there) {
        const long long n_times = (long long)adm_query_int(query, 0), n_kept = (long long)adm_query_int(query, 1);
        if (n_times == 0) words = json_null();
        else if (n_kept > 0) words = json_sprintf("of %lld of %lld times", n_kept, n_times);
        else words = json_string(is_recorded ? "recorded without samples" : "none stored, or removed by adamas db gc");
    }
    adm_query_close(&query);
    return status == ADM_OK ? adm_rows_set(row, "samples", words, err) : status;
}

/* Splits the database's runs into those shown, with every column, and the latest of the others. */
static adm_status read_runs(adm_store *store, json_t *document, const uint32_t *run_ids, size_t n_run_ids, adm_error *err) {
    json_t *runs = json_object_get(document, "runs"), *others = json_object_get(document, "other_runs");
    json_int_t n_others = 0;
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(store, "SELECT * FROM run ORDER BY started_utc DESC, run_id DESC", &query, err, "");
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        json_t *row = adm_rows_whole(query, "argv");
        bool shown = is_shown(json_integer_value(json_object_get(row, "run_id")), document, run_ids, n_run_ids);
        n_others += !shown;
        if (!shown && row != NULL) row = cut_row(row);
        if (!shown && n_others > MAX_OTHER_RUNS) {
            json_decref(row);
            continue;
        }
        status = adm_rows_append(shown ? runs : others, row, err);
        if (status == ADM_OK && shown) status = add_samples(store, row, err);
    }
    adm_query_close(&query);
    return status == ADM_OK ? adm_rows_set(document, "n_other_runs", json_integer(n_others), err) : status;
}

static adm_status read_traces(adm_store *store, const json_t *sessions, json_t *traces, adm_error *err) {
    adm_status status = ADM_OK;
    size_t i;
    json_t *session;
    json_array_foreach(sessions, i, session) {
        int64_t trace_id = json_integer_value(json_object_get(session, "trace_id"));
        if (status != ADM_OK || has_trace(traces, trace_id)) continue;
        adm_query *query = NULL;
        bool there = false;
        status = adm_query_open(store, "SELECT * FROM trace WHERE trace_id = ?", &query, err, "i", trace_id);
        if (status == ADM_OK) status = adm_query_next(query, &there, err);
        if (status == ADM_OK && there) status = adm_rows_append(traces, adm_rows_whole(query, "metadata"), err);
        adm_query_close(&query);
    }
    return status;
}

adm_status adm_report_select(adm_store *store, const char *database, const uint32_t *run_ids, size_t n_run_ids,
                             json_t *document, adm_error *err) {
    int64_t n_runs;
    adm_status status = read_one(store, "SELECT count(*) FROM run WHERE ?", 1, &n_runs, err);
    if (status == ADM_OK && n_runs == 0)
        return adm_fail(err, ADM_EINPUT, "%s holds no run to report: write one with `adamas replay TRACE --db %s`", database,
                        database);
    static const char *const lists[] = {"sessions", "profiles",   "evaluations", "sketches",  "servings",
                                        "runs",     "other_runs", "traces",      "decodings", "decoded"};
    for (size_t i = 0; i < COUNT(lists) && status == ADM_OK; i++) status = adm_rows_set(document, lists[i], json_array(), err);
    json_t *sessions = json_object_get(document, "sessions");
    if (status == ADM_OK)
        status = n_run_ids > 0 ? choose_named(store, database, run_ids, n_run_ids, sessions, err)
                               : choose_latest(store, sessions, err);
    if (status == ADM_OK) status = adm_report_gpu_select(store, run_ids, n_run_ids, json_object_get(document, "profiles"), err);
    if (status == ADM_OK)
        status = adm_report_tasks_select(store, run_ids, n_run_ids, json_object_get(document, "evaluations"), err);
    if (status == ADM_OK)
        status = adm_report_sketches_read(store, run_ids, n_run_ids, json_object_get(document, "sketches"), err);
    if (status == ADM_OK)
        status = adm_report_serving_select(store, run_ids, n_run_ids, json_object_get(document, "servings"), err);
    if (status == ADM_OK) status = adm_report_tuning_read(store, run_ids, n_run_ids, document, err);
    if (status == ADM_OK) status = adm_report_decode_read(store, run_ids, n_run_ids, document, err);
    if (status == ADM_OK) status = read_runs(store, document, run_ids, n_run_ids, err);
    return status == ADM_OK ? read_traces(store, sessions, json_object_get(document, "traces"), err) : status;
}
