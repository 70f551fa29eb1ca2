/* tasks.c: task-level results: perplexity and passkey retrieval, one row per text, policy and budget. */
#include "analysis/report/read/tasks.h"

#include <string.h>

#include "analysis/output/rows.h"
#include "analysis/report/read/sql.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Runs looked at, the latest first. */
#define MAX_RUNS "200"

static const char runs_sql[] =
    "SELECT r.run_id, (SELECT t.model FROM measurement m JOIN config c USING (config_id) JOIN trace t USING (trace_id) "
    "                  WHERE m.run_id = r.run_id LIMIT 1) AS model "
    "FROM run r WHERE r.command = 'evaluate' AND (?1 = 0 OR r.run_id = ?1) AND model IS NOT NULL "
    "ORDER BY r.label LIKE 'recorded:%', r.status = 'complete' DESC, r.started_utc DESC, r.run_id DESC LIMIT " MAX_RUNS;

static bool has_model(const json_t *evaluations, const char *model) {
    size_t i;
    json_t *evaluation;
    json_array_foreach(evaluations, i,
                       evaluation) if (strcmp(json_string_value(json_object_get(evaluation, "model")), model) == 0) return true;
    return false;
}

/* `run_id` 0: of all runs the latest of each model. */
static adm_status choose(adm_store *store, int64_t run_id, json_t *evaluations, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, runs_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (run_id == 0 && has_model(evaluations, adm_query_text(query, 1))) continue;
        status = adm_rows_append(evaluations,
                                 json_pack("{s:I, s:o}", "run_id", (json_int_t)adm_query_int(query, 0), "model",
                                           adm_rows_string(adm_query_text(query, 1))),
                                 err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_report_tasks_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *evaluations,
                                   adm_error *err) {
    adm_status status = n_run_ids == 0 ? choose(store, 0, evaluations, err) : ADM_OK;
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) status = choose(store, run_ids[i], evaluations, err);
    return status;
}

/* --- Rows ----------------------------------------------------------------------------------------------------------- */

enum { TRACE, KIND, SERIES, POLICY, SEQ_LEN, BUDGET, CONFIG_ID, METRIC, N, MEAN };

static const adm_rows_column columns[] = {{"trace", 's'},  {"kind", 's'},    {"series", 's'},
                                          {"policy", 's'}, {"seq_len", 'i'}, {"budget", 'i'}};

static const char tasks_sql[] =
    "SELECT t.name, t.kind, " ADM_REPORT_SERIES ", c.policy, c.seq_len, c.budget, c.config_id, k.name, m.n, m.mean "
    "FROM measurement m JOIN config c USING (config_id) JOIN trace t USING (trace_id) JOIN metric k USING (metric_id) "
    "WHERE m.run_id = ? AND m.stage IS NULL AND m.layer IS NULL AND m.head IS NULL AND m.status = 'ok' "
    "ORDER BY t.kind <> 'real', t.name LIKE '% at %', t.name NOT LIKE '% texts', t.name, c.policy NOT IN ('dense', 'oracle'), "
    "c.policy, c.variant, c.budget, c.config_id, m.measurement_id";

static json_t *new_task(const adm_query *query, size_t evaluation) {
    json_t *task = adm_rows_object(query, columns, COUNT(columns));
    json_t *rest = json_pack("{s:I, s:{}, s:{}}", "evaluation", (json_int_t)evaluation, "value", "n");
    if (task != NULL && json_object_update_new(task, rest) == 0) return task;
    json_decref(task);
    return NULL;
}

static adm_status read_evaluation(adm_store *store, json_t *document, size_t index, adm_error *err) {
    json_t *tasks = json_object_get(document, "tasks"), *task = NULL;
    const json_t *evaluation = json_array_get(json_object_get(document, "evaluations"), index);
    int64_t config_id = -1;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, tasks_sql, &query, err, "i",
                                       (int64_t)json_integer_value(json_object_get(evaluation, "run_id")));
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (task == NULL || adm_query_int(query, CONFIG_ID) != config_id) {
            task = new_task(query, index);
            status = adm_rows_append(tasks, task, err);
            config_id = adm_query_int(query, CONFIG_ID);
        }
        const char *metric = adm_query_text(query, METRIC);
        if (status == ADM_OK) status = adm_rows_set(json_object_get(task, "value"), metric, adm_rows_number(query, MEAN), err);
        if (status == ADM_OK)
            status = adm_rows_set(json_object_get(task, "n"), metric, json_integer((json_int_t)adm_query_int(query, N)), err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_report_tasks_read(adm_store *store, json_t *document, adm_error *err) {
    adm_status status = adm_rows_set(document, "tasks", json_array(), err);
    size_t n = json_array_size(json_object_get(document, "evaluations"));
    for (size_t i = 0; i < n && status == ADM_OK; i++) status = read_evaluation(store, document, i, err);
    return status;
}
