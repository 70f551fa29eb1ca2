/* data.c: gathers a report's figures from the database. */
#include "analysis/report/data.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "analysis/report/advice.h"
#include "analysis/report/read/best.h"
#include "analysis/report/read/claims.h"
#include "analysis/report/read/gpu.h"
#include "analysis/report/read/changes/checks.h"
#include "analysis/report/read/changes/differences.h"
#include "analysis/report/read/changes/history.h"
#include "analysis/output/rows.h"
#include "analysis/report/read/select.h"
#include "analysis/report/read/serving.h"
#include "analysis/report/read/shards.h"
#include "analysis/report/read/tasks.h"
#include "analysis/report/verdict.h"
#include "analysis/report/read/sql.h"
#include "core/contract/stage.h"
#include "core/base/version.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Oracle and dense first: they are what the others are measured against. */
#define SERIES_ORDER "c.policy NOT IN ('dense', 'oracle'), c.policy, c.variant, c.config_id"

/* --- Quality over all layers and heads ----------------------------------------------------------------------------- */

static const adm_rows_column quality_columns[] = {
    {"series", 's'}, {"policy", 's'},      {"variant", 's'},    {"seq_len", 'i'},    {"budget", 'i'},  {"metric", 's'},
    {"n", 'i'},      {"mean", 'd'},        {"min", 'd'},        {"p01", 'd'},        {"p05", 'd'},     {"p10", 'd'},
    {"median", 'd'}, {"p90", 'd'},         {"p95", 'd'},        {"p99", 'd'},        {"max", 'd'},     {"status", 's'},
    {"reason", 's'}, {"worst_layer", 'i'}, {"worst_head", 'i'}, {"worst_mean", 'd'}, {"worst_n", 'i'}, {"place", 's'},
};

/* The worst head of a layer by its mean: SQLite takes the other columns from the row that holds the maximum. */
static const char quality_sql[] =
    "SELECT " ADM_REPORT_SERIES ", c.policy, c.variant, c.seq_len, c.budget, k.name, m.n, m.mean, m.min, m.p01, m.p05, m.p10, "
    "m.median, m.p90, m.p95, m.p99, m.max, m.status, m.reason, w.layer, w.head, w.mean, w.n, " ADM_REPORT_PLACE " "
    "FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
    "LEFT JOIN (SELECT h.config_id, h.metric_id, h.source, h.layer, h.head, h.mean, h.n, "
    "           max(CASE x.better WHEN 'higher' THEN -h.mean ELSE h.mean END) "
    "           FROM measurement h JOIN metric x USING (metric_id) "
    "           WHERE h.run_id = ? AND h.stage IS NULL AND h.layer IS NOT NULL AND h.head IS NOT NULL "
    "           AND h.status = 'ok' GROUP BY h.config_id, h.metric_id, h.source) w "
    "ON w.config_id = m.config_id AND w.metric_id = m.metric_id AND w.source = m.source "
    "WHERE m.run_id = ? AND c.trace_id = ? AND m.stage IS NULL AND m.layer IS NULL AND m.head IS NULL "
    "ORDER BY k.metric_id, " SERIES_ORDER ", c.seq_len, c.budget";

/* --- Means per layer and head, as matrices ------------------------------------------------------------------------- */

/* What a heat map or the table of codes shows; the others stay in the database. */
static const char heads_sql[] =
    "SELECT " ADM_REPORT_SERIES ", c.seq_len, c.budget, k.name, m.layer, m.head, m.n, m.mean, c.config_id, k.metric_id "
    "FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
    "WHERE m.run_id = ? AND c.trace_id = ? AND m.stage IS NULL AND m.layer IS NOT NULL AND m.head IS NOT NULL "
    "AND m.status = 'ok' AND c.policy <> 'dense' AND (k.name IN ('recall', 'mass', 'output_rel_l2', 'ties') "
    "OR k.name LIKE 'bucket%') "
    "ORDER BY k.metric_id, " SERIES_ORDER ", c.seq_len, c.budget, m.source, m.layer, m.head";

/* Starts the matrix of one configuration and metric from its first row. */
static json_t *new_matrix(const adm_query *query, int session) {
    static const adm_rows_column columns[] = {{"series", 's'}, {"seq_len", 'i'}, {"budget", 'i'}, {"metric", 's'}};
    json_t *matrix = adm_rows_object(query, columns, COUNT(columns));
    json_t *fields = json_pack("{s:i,s:I,s:I,s:[],s:[]}", "session", session, "n_min", (json_int_t)adm_query_int(query, 6),
                               "n_max", (json_int_t)adm_query_int(query, 6), "layers", "mean");
    if (json_object_update_new(matrix, fields) == 0) return matrix;
    json_decref(matrix);
    return NULL;
}

/* Puts the present row's mean into the matrix; heads that were not measured stay null. */
static adm_status add_to_matrix(const adm_query *query, json_t *matrix, adm_error *err) {
    json_t *layers = json_object_get(matrix, "layers"), *mean = json_object_get(matrix, "mean");
    int64_t layer = adm_query_int(query, 4), head = adm_query_int(query, 5), n = adm_query_int(query, 6);
    size_t n_layers = json_array_size(layers);
    adm_status status = ADM_OK;
    if (head < 0 || head > ADM_STORE_MAX_HEAD || layer < 0 || layer > ADM_STORE_MAX_LAYER)
        return adm_fail(
            err, ADM_EINPUT,
            "the database has a measurement '%s' of layer %lld, head %lld, and a report is of at most %d layers of %d "
            "heads",
            json_string_value(json_object_get(matrix, "metric")), (long long)layer, (long long)head, ADM_STORE_MAX_LAYER + 1,
            ADM_STORE_MAX_HEAD + 1);
    if (n_layers == 0 || json_integer_value(json_array_get(layers, n_layers - 1)) != layer) {
        status = adm_rows_append(layers, json_integer(layer), err);
        if (status == ADM_OK) status = adm_rows_append(mean, json_array(), err);
    }
    json_t *row = json_array_get(mean, json_array_size(mean) - 1);
    while (status == ADM_OK && (int64_t)json_array_size(row) < head) status = adm_rows_append(row, json_null(), err);
    if (status == ADM_OK) status = adm_rows_append(row, adm_rows_number(query, 7), err);
    if (status == ADM_OK && n < json_integer_value(json_object_get(matrix, "n_min")))
        status = adm_rows_set(matrix, "n_min", json_integer(n), err);
    if (status == ADM_OK && n > json_integer_value(json_object_get(matrix, "n_max")))
        status = adm_rows_set(matrix, "n_max", json_integer(n), err);
    return status;
}

static adm_status read_heads(adm_store *store, int64_t run_id, int64_t trace_id, int session, json_t *heads, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    int64_t config_id = -1, metric_id = -1;
    json_t *matrix = NULL; /* borrowed from `heads` */
    adm_status status = adm_query_open(store, heads_sql, &query, err, "ii", run_id, trace_id);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        if (matrix == NULL || adm_query_int(query, 8) != config_id || adm_query_int(query, 9) != metric_id) {
            matrix = new_matrix(query, session);
            status = adm_rows_append(heads, matrix, err);
            config_id = adm_query_int(query, 8);
            metric_id = adm_query_int(query, 9);
        }
        if (status == ADM_OK) status = add_to_matrix(query, matrix, err);
    }
    adm_query_close(&query);
    return status;
}

/* --- Stages, thresholds, metrics ----------------------------------------------------------------------------------- */

static const adm_rows_column stage_columns[] = {
    {"source", 's'},   {"stage", 's'},  {"policy", 's'},  {"variant", 's'}, {"n_q_heads", 'i'}, {"n_kv_heads", 'i'},
    {"head_dim", 'i'}, {"dtype", 's'},  {"seq_len", 'i'}, {"budget", 'i'},  {"batch", 'i'},     {"cache", 's'},
    {"launch", 's'},   {"metric", 's'}, {"n", 'i'},       {"mean", 'd'},    {"min", 'd'},       {"p10", 'd'},
    {"median", 'd'},   {"p90", 'd'},    {"max", 'd'},     {"status", 's'},  {"reason", 's'},    {"place", 's'},
};

static const char stage_sql[] =
    "SELECT m.source, m.stage, c.policy, c.variant, c.n_q_heads, c.n_kv_heads, c.head_dim, c.dtype, c.seq_len, c.budget, "
    "c.batch, c.cache, c.launch, k.name, m.n, m.mean, m.min, m.p10, m.median, m.p90, m.max, m.status, "
    "m.reason, " ADM_REPORT_PLACE " "
    "FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
    "WHERE m.run_id = ?1 AND c.trace_id = ?2 AND m.source <> 'gpu' AND m.stage IS NOT NULL AND m.layer IS NULL "
    "AND m.head IS NULL ORDER BY k.metric_id, m.source, c.seq_len, instr(?3, m.stage), c.variant, c.budget, c.config_id";

static const adm_rows_column calibration_columns[] = {
    {"variant", 's'}, {"layer", 'i'}, {"t0", 'd'}, {"t1", 'd'}, {"t2", 'd'}, {"xxh128", 's'},
};

static const char calibration_sql[] = "SELECT variant, layer, t0, t1, t2, xxh128 FROM calibration "
                                      "WHERE run_id = ? AND trace_id = ? ORDER BY variant, layer";

static const adm_rows_column metric_columns[] = {{"name", 's'}, {"unit", 's'}, {"better", 's'}, {"description", 's'}};

static adm_status read_metrics(adm_store *store, json_t *document, adm_error *err) {
    json_t *metrics = json_array();
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, "SELECT name, unit, better, description FROM metric ORDER BY metric_id", &query,
                                       err, "");
    if (status == ADM_OK) status = adm_rows_read(&query, metric_columns, COUNT(metric_columns), -1, metrics, err);
    if (status != ADM_OK) json_decref(metrics);
    return status != ADM_OK ? status : adm_rows_set(document, "metrics", metrics, err);
}

/* Every stage, in the order in which a step runs them. */
static adm_status add_stage_names(json_t *document, adm_error *err) {
    json_t *names = json_array();
    adm_status status = adm_rows_set(document, "stage_names", names, err);
    for (adm_stage s = 0; s < ADM_N_STAGES && status == ADM_OK; s++)
        status = adm_rows_append(names, json_string(adm_stage_name(s)), err);
    return status;
}

/* Everything that one run measured of one trace. */
static adm_status read_session(adm_store *store, json_t *document, int index, adm_error *err) {
    const json_t *session = json_array_get(json_object_get(document, "sessions"), (size_t)index);
    int64_t run_id = json_integer_value(json_object_get(session, "run_id"));
    int64_t trace_id = json_integer_value(json_object_get(session, "trace_id"));
    char names[128] = "";
    for (adm_stage s = 0; s < ADM_N_STAGES; s++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s ", adm_stage_name(s));
    }
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, quality_sql, &query, err, "iii", run_id, run_id, trace_id);
    if (status == ADM_OK)
        status = adm_rows_read(&query, quality_columns, COUNT(quality_columns), index, json_object_get(document, "quality"),
                               err);
    if (status == ADM_OK) status = read_heads(store, run_id, trace_id, index, json_object_get(document, "heads"), err);
    if (status == ADM_OK) status = adm_query_open(store, stage_sql, &query, err, "iis", run_id, trace_id, names);
    if (status == ADM_OK)
        status = adm_rows_read(&query, stage_columns, COUNT(stage_columns), index, json_object_get(document, "stages"), err);
    if (status == ADM_OK) status = adm_query_open(store, calibration_sql, &query, err, "ii", run_id, trace_id);
    if (status == ADM_OK)
        status = adm_rows_read(&query, calibration_columns, COUNT(calibration_columns), index,
                               json_object_get(document, "calibrations"), err);
    return status;
}

typedef adm_status read_fn(adm_store *store, json_t *document, adm_error *err);

/* What needs nothing but the database, in this order. */
static read_fn *const readers[] = {read_metrics,          adm_report_gpu_read,     adm_report_advice,
                                   adm_report_tasks_read, adm_report_serving_read, adm_report_claims_read,
                                   adm_report_history,    adm_report_checks,       adm_report_shards};

static adm_status read_sessions(adm_store *store, json_t *document, adm_progress *progress, adm_error *err) {
    const size_t n_sessions = json_array_size(json_object_get(document, "sessions"));
    adm_status status = ADM_OK;
    for (size_t i = 0; i < n_sessions && status == ADM_OK; i++) {
        adm_progress_step(progress, COUNT(readers) + 1 + i);
        status = read_session(store, document, (int)i, err);
    }
    return status;
}

adm_status adm_report_data(adm_store *store, const char *database, const uint32_t *run_ids, size_t n_run_ids,
                           const char *baseline, adm_progress *progress, json_t **out, adm_error *err) {
    *out = NULL;
    char now[32];
    time_t seconds = time(NULL);
    struct tm utc;
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &utc));
    json_t *document = json_pack("{s:s,s:s,s:s,s:s,s:o,s:[],s:[],s:[],s:[]}", "format", "adamas-report/1", "generated_utc", now,
                                 "tool_version", adm_version(), "git_commit", adm_git_commit(), "database",
                                 adm_rows_string(database), "quality", "heads", "stages", "calibrations");
    if (document == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while gathering the report's data");
    adm_status status = adm_report_select(store, database, run_ids, n_run_ids, document, err);
    if (status == ADM_OK) status = add_stage_names(document, err);
    progress->n_total = COUNT(readers) + 1 + json_array_size(json_object_get(document, "sessions")) + 1; /* and the page */
    for (size_t i = 0; i < COUNT(readers) && status == ADM_OK; i++) {
        adm_progress_step(progress, i);
        status = readers[i](store, document, err);
    }
    adm_progress_step(progress, COUNT(readers));
    if (status == ADM_OK) status = adm_report_differences(store, database, baseline, run_ids, n_run_ids, document, err);
    if (status == ADM_OK) status = read_sessions(store, document, progress, err);
    if (status == ADM_OK) status = adm_report_note_budgets(document, err);
    if (status == ADM_OK) status = adm_report_best(document, err);
    if (status == ADM_OK) status = adm_report_verdict(document, err);
    if (status == ADM_OK) *out = document;
    else json_decref(document);
    return status;
}
