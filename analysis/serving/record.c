/* record.c: writes simulation, simulation_metric and prediction. */
#include "analysis/serving/record.h"

#include "core/store/insert.h"

static adm_value text(const char *s) { return s != NULL && s[0] != '\0' ? (adm_value){'s', {.s = s}} : (adm_value){'n', {0}}; }

static adm_value whole(int64_t i) { return (adm_value){'i', {.i = i}}; }

static adm_value real(double d) { return (adm_value){'d', {.d = d}}; }

static adm_status insert(adm_store *store, const char *table, const char *const *columns, const adm_value *values, size_t n,
                         int64_t *row_id, adm_error *err) {
    adm_insert *insert = NULL;
    adm_status status = adm_insert_open(store, table, columns, n, &insert, err);
    if (status == ADM_OK) status = adm_insert_row(insert, values, row_id, err);
    adm_insert_close(&insert);
    return status;
}

static adm_status add_simulation(adm_store *store, const adm_simulation_row *r, int64_t *id, adm_error *err) {
    static const char *const columns[] = {"run_id",          "calibration_uuid", "quality_uuid",  "quality_trace",
                                          "quality_seq_len", "quality_variant",  "model",         "gpu",
                                          "trace",           "trace_xxh128",     "n_requests",    "policy",
                                          "variant",         "budget",           "layer_budgets", "memory",
                                          "settings"};
    const bool sparse = r->plan->n_sparse > 0, known = r->quality->run_uuid[0] != '\0';
    const adm_value values[] = {whole(r->run_id),
                                text(r->calibration_uuid),
                                text(r->quality->run_uuid),
                                text(r->quality->trace_xxh128),
                                known ? whole(r->quality->seq_len) : text(NULL),
                                text(r->quality->variant),
                                text(r->model),
                                text(r->gpu),
                                text(r->trace),
                                text(r->trace_xxh128),
                                whole((int64_t)r->n_requests),
                                text(sparse ? "adamas" : "dense"),
                                (adm_value){'s', {.s = r->variant}},
                                r->plan->budget > 0 ? whole(r->plan->budget) : text(NULL),
                                text(r->plan->layers),
                                text(r->memory),
                                text(r->settings)};
    return insert(store, "simulation", columns, values, sizeof values / sizeof values[0], id, err);
}

/* A metric's row, found by name or added. */
static adm_status metric_id(adm_store *store, const adm_metric *metric, int64_t *id, adm_error *err) {
    static const char *const columns[] = {"name", "unit", "better", "description"};
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(store, "SELECT metric_id FROM metric WHERE name = ?", &query, err, "s", metric->name);
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    if (status == ADM_OK && there) *id = adm_query_int(query, 0);
    adm_query_close(&query);
    if (status != ADM_OK || there) return status;
    const adm_value values[] = {text(metric->name), text(metric->unit), text(metric->better), text(metric->description)};
    return insert(store, "metric", columns, values, 4, id, err);
}

static adm_status add_metric(adm_store *store, int64_t simulation_id, const adm_outcome_value *v, adm_error *err) {
    static const char *const columns[] = {"simulation_id", "metric_id", "n", "mean", "p50", "p95", "p99", "max", "reason"};
    int64_t id;
    adm_status status = metric_id(store, v->metric, &id, err);
    if (status != ADM_OK) return status;
    const bool has = v->reason == NULL;
    const adm_value none = text(NULL);
    const adm_value values[] = {whole(simulation_id),
                                whole(id),
                                whole(has ? (int64_t)v->d.n : 0),
                                has ? real(v->d.mean) : none,
                                has ? real(v->d.median) : none,
                                has ? real(v->d.p95) : none,
                                has ? real(v->d.p99) : none,
                                has ? real(v->d.max) : none,
                                text(v->reason)};
    return insert(store, "simulation_metric", columns, values, sizeof values / sizeof values[0], NULL, err);
}

static adm_status add_uses(adm_store *store, int64_t simulation_id, const adm_step_time *time, adm_error *err) {
    static const char *const columns[] = {"simulation_id", "part", "rule", "n", "time_ns", "reach"};
    adm_status status = ADM_OK;
    for (adm_step_part part = 0; part < ADM_N_PARTS; part++)
        for (adm_cost_rule rule = 0; rule < ADM_N_COST_RULES && status == ADM_OK; rule++) {
            const adm_rule_use *use = &adm_step_time_uses(time)[part][rule];
            if (use->n == 0) continue;
            const adm_value values[] = {whole(simulation_id),   text(adm_step_part_name(part)), text(adm_cost_rule_name(rule)),
                                        whole((int64_t)use->n), whole((int64_t)use->ns),        real(use->reach)};
            status = insert(store, "prediction", columns, values, sizeof values / sizeof values[0], NULL, err);
        }
    return status;
}

adm_status adm_simulation_record(adm_store *store, const adm_simulation_row *row, const adm_outcome *outcome,
                                 const adm_step_time *time, adm_error *err) {
    int64_t id;
    adm_status status = add_simulation(store, row, &id, err);
    for (size_t i = 0; i < ADM_OUTCOME_METRICS && status == ADM_OK; i++)
        status = add_metric(store, id, &outcome->value[i], err);
    return status == ADM_OK ? add_uses(store, id, time, err) : status;
}
