/* serving.c: runs of `adamas simulate`. */
#include "analysis/report/read/serving.h"

#include <string.h>

#include "analysis/output/rows.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Of each model, GPU and trace; more are in the database. */
enum { MAX_SERVINGS = 6 };

/* --- Which ---------------------------------------------------------------------------------------------------------- */

static bool is_like(const json_t *servings, const json_t *row) {
    static const char *const keys[] = {"model", "gpu", "trace"};
    size_t i;
    json_t *other;
    json_array_foreach(servings, i, other) {
        bool same = true;
        for (size_t k = 0; k < COUNT(keys); k++)
            same &= json_equal(json_object_get(other, keys[k]), json_object_get(row, keys[k]));
        if (same) return true;
    }
    return false;
}

static adm_status choose(adm_store *store, int64_t run_id, json_t *servings, adm_error *err) {
    static const adm_rows_column columns[] = {
        {"run_id", 'i'}, {"model", 's'}, {"gpu", 's'}, {"trace", 's'}, {"n_requests", 'i'}};
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(store,
                                       "SELECT DISTINCT s.run_id, s.model, s.gpu, s.trace, s.n_requests FROM simulation s "
                                       "JOIN run r USING (run_id) WHERE (?1 = 0 AND r.status = 'complete') OR r.run_id = ?1 "
                                       "ORDER BY r.started_utc DESC, r.run_id DESC",
                                       &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        json_t *row = adm_rows_object(query, columns, COUNT(columns));
        if (run_id == 0 && row != NULL && (is_like(servings, row) || json_array_size(servings) == MAX_SERVINGS))
            json_decref(row);
        else status = adm_rows_append(servings, row, err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_report_serving_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *servings,
                                     adm_error *err) {
    adm_status status = n_run_ids == 0 ? choose(store, 0, servings, err) : ADM_OK;
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) status = choose(store, run_ids[i], servings, err);
    return status;
}

/* --- What they hold ------------------------------------------------------------------------------------------------- */

/* One row for each simulation, in the order of the run. */
static adm_status read_cases(adm_store *store, int64_t run_id, size_t serving, json_t *served, adm_error *err) {
    static const adm_rows_column columns[] = {{"simulation_id", 'i'}, {"policy", 's'},        {"variant", 's'},
                                              {"budget", 'i'},        {"layer_budgets", 's'}, {"memory", 's'}};
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(store,
                                       "SELECT simulation_id, policy, variant, budget, layer_budgets, memory FROM simulation "
                                       "WHERE run_id = ? ORDER BY simulation_id",
                                       &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        json_t *row = adm_rows_object(query, columns, COUNT(columns));
        json_t *rest = json_pack("{s:I, s:{}, s:{}, s:[]}", "serving", (json_int_t)serving, "metric", "quality", "uses");
        if (row != NULL && json_object_update_new(row, rest) != 0) {
            json_decref(row);
            row = NULL;
        }
        status = adm_rows_append(served, row, err);
    }
    adm_query_close(&query);
    return status;
}

/* The metrics of a case under their names: "metric" the simulated, "quality" the replayed. */
static adm_status read_metrics(adm_store *store, json_t *row, adm_error *err) {
    static const adm_rows_column columns[] = {
        {"source", 's'}, {"name", 's'},   {"unit", 's'},  {"n", 'i'},     {"mean", 'd'},    {"p50", 'd'},    {"p95", 'd'},
        {"p99", 'd'},    {"reason", 's'}, {"model", 's'}, {"trace", 's'}, {"seq_len", 'i'}, {"variant", 's'}};
    adm_query *query = NULL;
    bool there = false;
    adm_status status =
        adm_query_open(store,
                       "SELECT source, metric, unit, n, mean, p50, p95, p99, reason, quality_model, quality_trace, "
                       "quality_seq_len, quality_variant FROM frontier_summary WHERE simulation_id = ?",
                       &query, err, "i", (int64_t)json_integer_value(json_object_get(row, "simulation_id")));
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        const bool replayed = strcmp(adm_query_text(query, 0), "replayed") == 0;
        status = adm_rows_set(json_object_get(row, replayed ? "quality" : "metric"), adm_query_text(query, 1),
                              adm_rows_object(query, columns, COUNT(columns)), err);
    }
    adm_query_close(&query);
    return status;
}

static adm_status read_uses(adm_store *store, json_t *row, adm_error *err) {
    static const adm_rows_column columns[] = {{"part", 's'}, {"rule", 's'}, {"n", 'i'}, {"time_ns", 'i'}, {"reach", 'd'}};
    adm_query *query = NULL;
    adm_status status =
        adm_query_open(store,
                       "SELECT part, rule, n, time_ns, reach FROM prediction WHERE simulation_id = ? AND time_ns > 0 "
                       "ORDER BY part, time_ns DESC",
                       &query, err, "i", (int64_t)json_integer_value(json_object_get(row, "simulation_id")));
    return status == ADM_OK ? adm_rows_read(&query, columns, COUNT(columns), -1, json_object_get(row, "uses"), err) : status;
}

static adm_status read_validations(adm_store *store, json_t *validations, adm_error *err) {
    static const adm_rows_column columns[] = {
        {"run_id", 'i'},     {"calibration", 's'}, {"held_out", 's'},  {"stage", 's'},     {"variant", 's'},  {"n", 'i'},
        {"mape_ratio", 'd'}, {"bias_ratio", 'd'},  {"p50_ratio", 'd'}, {"p95_ratio", 'd'}, {"max_ratio", 'd'}};
    adm_query *query = NULL;
    adm_status status = adm_query_open(
        store,
        "SELECT v.run_id, ifnull((SELECT label FROM run c WHERE c.run_uuid = v.calibration_uuid), ''), v.held_out, v.stage, "
        "v.variant, v.n, v.mape_ratio, v.bias_ratio, v.p50_ratio, v.p95_ratio, v.max_ratio FROM validation v "
        "WHERE v.run_id = (SELECT max(run_id) FROM validation) AND v.stage IN ('all', 'step', 'dense') "
        "ORDER BY instr('interior row frontier batch shape other gpu', v.held_out), v.stage, v.variant",
        &query, err, "");
    return status == ADM_OK ? adm_rows_read(&query, columns, COUNT(columns), -1, validations, err) : status;
}

adm_status adm_report_serving_read(adm_store *store, json_t *document, adm_error *err) {
    json_t *served = json_array(), *validations = json_array();
    const json_t *servings = json_object_get(document, "servings");
    adm_status status = adm_rows_set(document, "served", served, err);
    if (status == ADM_OK) status = adm_rows_set(document, "validations", validations, err);
    else json_decref(validations);
    for (size_t i = 0; i < json_array_size(servings) && status == ADM_OK; i++)
        status = read_cases(store, json_integer_value(json_object_get(json_array_get(servings, i), "run_id")), i, served, err);
    for (size_t i = 0; status == ADM_OK && i < json_array_size(served); i++) {
        status = read_metrics(store, json_array_get(served, i), err);
        if (status == ADM_OK) status = read_uses(store, json_array_get(served, i), err);
    }
    return status == ADM_OK ? read_validations(store, validations, err) : status;
}
