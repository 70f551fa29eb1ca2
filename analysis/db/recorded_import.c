/* recorded_import.c: runs from a text file into a database, in one transaction. Positions and types are checked by
 * recorded_read.c, meanings by the schema's own rules. */
#include <stdio.h>
#include <string.h>

#include "analysis/db/recorded_import.h"
#include "analysis/db/recorded_read.h"
#include "analysis/db/recorded_samples.h"
#include "core/base/mem.h"

typedef struct reader {
    adm_store *store;
    adm_recorded_file file;
    adm_recorded_table run, trace, metric, config, calibration, event, activity;
    adm_recorded_order config_order, calibration_order, event_order, activity_order;
    json_t *trace_ids, *metric_ids; /* hash or name -> id here */
    adm_insert *measurements;
} reader;

/* What the store said of a row, with the row's position before it. */
static adm_status at_position(const reader *r, adm_status status, adm_error *err) {
    if (status != ADM_EINPUT) return status;
    char said[sizeof err->text];
    memcpy(said, err->text, sizeof said);
    return adm_recorded_refuse(&r->file, err, "%.350s", said);
}

static adm_status no_memory(adm_error *err) { return adm_fail(err, ADM_EENVIRONMENT, "out of memory while importing runs"); }

/* --- Rows into the database ----------------------------------------------------------------------------------------- */

/* Inserts values by the table's columns, and `ids` (with their names) before them; NULL values keep their defaults. */
static adm_status insert(const reader *r, const adm_recorded_table *table, const adm_value *values, const char *const *id_names,
                         const int64_t *ids, size_t n_ids, int64_t *row_id, adm_error *err) {
    const char *names[ADM_RECORDED_MAX_COLUMNS + 4];
    adm_value row[ADM_RECORDED_MAX_COLUMNS + 4];
    size_t n = 0;
    for (size_t i = 0; i < n_ids; i++) {
        if (ids[i] == 0) continue;
        names[n] = id_names[i];
        row[n++] = (adm_value){.type = 'i', .i = ids[i]};
    }
    for (size_t i = 0; i < table->n_columns; i++) {
        if (values[i].type == 'n') continue;
        names[n] = table->column[i].name;
        row[n++] = values[i];
    }
    adm_insert *statement = NULL;
    adm_status status = adm_insert_open_foreign(r->store, table->name, names, n, &statement, err);
    if (status == ADM_OK) status = adm_insert_row(statement, row, row_id, err);
    adm_insert_close(&statement);
    return at_position(r, status, err);
}

/* The id of the row that `sql` selects, 0 if there is none. */
static adm_status find(const reader *r, const char *sql, const adm_value *values, size_t n, int64_t *id, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    *id = 0;
    adm_status status = adm_query_open_values(r->store, sql, values, n, &query, err);
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    if (status == ADM_OK && there) *id = adm_query_int(query, 0);
    adm_query_close(&query);
    return status;
}

static const adm_value *value_of(const adm_recorded_table *table, const adm_value *values, const char *column) {
    static const adm_value null = {.type = 'n'};
    for (size_t i = 0; i < table->n_columns; i++)
        if (strcmp(table->column[i].name, column) == 0) return &values[i];
    return &null;
}

static adm_status read_trace(reader *r, const json_t *object, adm_error *err) {
    adm_value values[ADM_RECORDED_MAX_COLUMNS];
    int64_t id = 0;
    adm_status status = adm_recorded_object(&r->file, object, &r->trace, values, err);
    if (status != ADM_OK) return status;
    const adm_value *hash = value_of(&r->trace, values, "xxh128");
    status = find(r, "SELECT trace_id FROM trace WHERE xxh128 = ?", hash, 1, &id, err);
    if (status == ADM_OK && id == 0) status = insert(r, &r->trace, values, NULL, NULL, 0, &id, err);
    if (status == ADM_OK && json_object_set_new(r->trace_ids, hash->s, json_integer((json_int_t)id)) != 0)
        status = no_memory(err);
    return status;
}

/* One name means one unit and one direction, whichever program wrote it. */
static adm_status read_metric(reader *r, const json_t *object, adm_error *err) {
    adm_value values[ADM_RECORDED_MAX_COLUMNS];
    int64_t id = 0, same = 0;
    adm_status status = adm_recorded_object(&r->file, object, &r->metric, values, err);
    if (status != ADM_OK) return status;
    const adm_value key[] = {*value_of(&r->metric, values, "name"), *value_of(&r->metric, values, "unit"),
                             *value_of(&r->metric, values, "better")};
    status = find(r, "SELECT metric_id FROM metric WHERE name = ?1", key, 1, &id, err);
    if (status == ADM_OK)
        status = find(r, "SELECT metric_id FROM metric WHERE name = ?1 AND unit = ?2 AND better = ?3", key, 3, &same, err);
    if (status == ADM_OK && id != same)
        return adm_recorded_refuse(&r->file, err, "the metric '%s' has another unit or direction in the database", key[0].s);
    if (status == ADM_OK && id == 0) status = insert(r, &r->metric, values, NULL, NULL, 0, &id, err);
    if (status == ADM_OK && json_object_set_new(r->metric_ids, key[0].s, json_integer((json_int_t)id)) != 0)
        status = no_memory(err);
    return status;
}

/* The trace's id here, 0 for null. */
static adm_status trace_id_of(const reader *r, const json_t *reference, int64_t *id, adm_error *err) {
    *id = 0;
    if (json_is_null(reference)) return ADM_OK;
    const char *hash = json_string_value(reference);
    *id = json_integer_value(json_object_get(r->trace_ids, hash != NULL ? hash : ""));
    return *id != 0 ? ADM_OK : adm_recorded_refuse(&r->file, err, "it names a trace that the file does not hold");
}

/* Finds the configuration by every column, or inserts it. */
static adm_status read_config(const reader *r, const json_t *row, int64_t *id, adm_error *err) {
    static const char *const id_names[] = {"trace_id"};
    adm_value values[ADM_RECORDED_MAX_COLUMNS + 1];
    const json_t *reference;
    char sql[2048];
    int64_t trace_id;
    adm_status status = adm_recorded_array(&r->file, row, &r->config, &r->config_order, &reference, values, err);
    if (status == ADM_OK) status = trace_id_of(r, reference, &trace_id, err);
    if (status != ADM_OK) return status;
    /* The first term is that of the index config_identity; IS takes the columns that may be NULL. */
    int at = snprintf(sql, sizeof sql, "SELECT config_id FROM config WHERE ifnull(trace_id, 0) = ?%zu",
                      r->config.n_columns + 1);
    for (size_t i = 0; i < r->config.n_columns && at < (int)sizeof sql; i++)
        at += snprintf(sql + at, sizeof sql - (size_t)at, " AND \"%s\" %s ?%zu", r->config.column[i].name,
                       r->config.column[i].is_required ? "=" : "IS", i + 1);
    if (at >= (int)sizeof sql) return adm_fail(err, ADM_EINTERNAL, "table config has too many columns");
    values[r->config.n_columns] = (adm_value){.type = 'i', .i = trace_id};
    status = find(r, sql, values, r->config.n_columns + 1, id, err);
    if (status == ADM_OK && *id == 0) status = insert(r, &r->config, values, id_names, &trace_id, 1, id, err);
    return status;
}

/* --- Measurements --------------------------------------------------------------------------------------------------- */

static const char *const measurement_columns[] = {"run_id", "config_id", "source", "stage", "layer", "head", "metric_id",
                                                  "status", "reason",    "n",      "mean",  "min",   "p01",  "p05",
                                                  "p10",    "median",    "p90",    "p95",   "p99",   "max"};
enum {
    N_COLUMNS = sizeof measurement_columns / sizeof measurement_columns[0],
    SOURCE_AT = 2,
    METRIC_AT = 6,
    STATUS_AT = 7,
    N_AT = 9,
    MEAN_AT = 10
};

/* A value; n and a value or ten figures; or why there is none. */
static adm_status read_figures(const reader *r, const json_t *json, adm_value values[N_COLUMNS], adm_error *err) {
    static const adm_recorded_column figure = {"a figure", 'd', true}, whole = {"n", 'i', true}, text = {"reason", 's', true};
    size_t n = json_is_array(json) ? json_array_size(json) : 0;
    adm_status status = ADM_OK;
    if (n == 2 && json_is_string(json_array_get(json, 0))) {
        status = adm_recorded_field(&r->file, json_array_get(json, 0), &text, &values[STATUS_AT], err);
        if (status == ADM_OK)
            status = adm_recorded_field(&r->file, json_array_get(json, 1), &text, &values[STATUS_AT + 1], err);
        values[N_AT] = (adm_value){.type = 'i', .i = 0};
        return status;
    }
    if (json_is_array(json) && n != 2 && n != 1 + ADM_RECORDED_N_FIGURES)
        return adm_recorded_refuse(&r->file, err, "a list of %zu values is no measurement", n);
    values[STATUS_AT] = (adm_value){.type = 's', .s = "ok"};
    values[N_AT] = (adm_value){.type = 'i', .i = 1};
    if (n > 0) status = adm_recorded_field(&r->file, json_array_get(json, 0), &whole, &values[N_AT], err);
    for (size_t i = 0; i < ADM_RECORDED_N_FIGURES && status == ADM_OK; i++)
        status = adm_recorded_field(&r->file, n == 0 ? json : json_array_get(json, n == 2 ? 1 : 1 + i), &figure,
                                    &values[MEAN_AT + i], err);
    return status;
}

/* One line: what its measurements have in common goes into `values`, and *metrics are they. */
static adm_status read_line(const reader *r, const json_t *line, adm_value values[N_COLUMNS], json_t **metrics,
                            adm_error *err) {
    static const adm_recorded_column fields[] = {
        {"source", 's', true}, {"stage", 's', false}, {"layer", 'i', false}, {"head", 'i', false}};
    size_t n = json_array_size(line);
    adm_status status = ADM_OK;
    *metrics = json_array_get(line, n - 1);
    if ((n != 3 && n != 5) || !json_is_object(*metrics))
        return adm_recorded_refuse(&r->file, err, "it must be source, stage, layer and head where they apply, and an object");
    for (size_t i = 0; i < N_COLUMNS; i++) values[i].type = 'n';
    for (size_t i = 0; i < n - 1 && status == ADM_OK; i++)
        status = adm_recorded_field(&r->file, json_array_get(line, i), &fields[i], &values[SOURCE_AT + i], err);
    return status;
}

static adm_status read_measurements(reader *r, const json_t *line, int64_t run_id, int64_t config_id, adm_error *err) {
    adm_value values[N_COLUMNS];
    json_t *metrics, *json;
    const char *name;
    size_t position_length = strlen(r->file.position);
    adm_status status = read_line(r, line, values, &metrics, err);
    if (status != ADM_OK) return status;
    values[0] = (adm_value){.type = 'i', .i = run_id};
    values[1] = (adm_value){.type = 'i', .i = config_id};
    json_object_foreach(metrics, name, json) {
        int64_t metric_id = json_integer_value(json_object_get(r->metric_ids, name));
        snprintf(r->file.position + position_length, sizeof r->file.position - position_length, ".%.80s", name);
        if (metric_id == 0) return adm_recorded_refuse(&r->file, err, "this metric is not in the file's list");
        for (size_t i = STATUS_AT; i < N_COLUMNS; i++) values[i].type = 'n';
        values[METRIC_AT] = (adm_value){.type = 'i', .i = metric_id};
        status = read_figures(r, json, values, err);
        if (status == ADM_OK) status = at_position(r, adm_insert_row(r->measurements, values, NULL, err), err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

/* How many measurements a configuration of the file has. */
static size_t count_measurements(const json_t *config) {
    size_t n = 0, i;
    json_t *line;
    json_array_foreach(json_object_get(config, "measurements"), i, line)
        n += json_object_size(json_array_get(line, json_array_size(line) - 1));
    return n;
}

/* --- Runs ----------------------------------------------------------------------------------------------------------- */

static adm_status read_configs(reader *r, const json_t *configs, size_t run, int64_t run_id, int64_t *config_ids,
                               adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t c = 0; c < json_array_size(configs) && status == ADM_OK; c++) {
        const json_t *config = json_array_get(configs, c), *rows;
        snprintf(r->file.position, sizeof r->file.position, "runs[%zu].configs[%zu]", run, c);
        status = adm_recorded_list(&r->file, config, "measurements", &rows, err);
        if (status == ADM_OK) status = read_config(r, json_object_get(config, "config"), &config_ids[c], err);
        for (size_t m = 0; status == ADM_OK && m < json_array_size(rows); m++) {
            snprintf(r->file.position, sizeof r->file.position, "runs[%zu].configs[%zu].measurements[%zu]", run, c, m);
            status = read_measurements(r, json_array_get(rows, m), run_id, config_ids[c], err);
        }
    }
    return status;
}

static adm_status read_calibrations(reader *r, const json_t *rows, size_t run, int64_t run_id, adm_error *err) {
    static const char *const id_names[] = {"run_id", "trace_id"};
    adm_value values[ADM_RECORDED_MAX_COLUMNS];
    const json_t *reference;
    adm_status status = ADM_OK;
    for (size_t i = 0; i < json_array_size(rows) && status == ADM_OK; i++) {
        int64_t ids[2] = {run_id, 0};
        snprintf(r->file.position, sizeof r->file.position, "runs[%zu].calibrations[%zu]", run, i);
        status = adm_recorded_array(&r->file, json_array_get(rows, i), &r->calibration, &r->calibration_order, &reference,
                                    values, err);
        if (status == ADM_OK) status = trace_id_of(r, reference, &ids[1], err);
        if (status == ADM_OK) status = insert(r, &r->calibration, values, id_names, ids, 2, NULL, err);
    }
    return status;
}

/* The rows of event or activity. */
static adm_status read_timeline(reader *r, const json_t *object, size_t run, const char *list, const adm_recorded_table *table,
                                const adm_recorded_order *order, const adm_recorded_run *into, const int64_t *config_ids,
                                adm_error *err) {
    static const char *const id_names[] = {"run_id", "config_id"};
    adm_value values[ADM_RECORDED_MAX_COLUMNS];
    const json_t *rows = json_object_get(object, list), *reference;
    adm_status status = ADM_OK;
    for (size_t i = 0; i < json_array_size(rows) && status == ADM_OK; i++) {
        int64_t ids[2] = {into->run_id, 0};
        snprintf(r->file.position, sizeof r->file.position, "runs[%zu].%s[%zu]", run, list, i);
        status = adm_recorded_array(&r->file, json_array_get(rows, i), table, order, &reference, values, err);
        if (status != ADM_OK) return status;
        json_int_t config = json_is_integer(reference) ? json_integer_value(reference) : -1;
        if (!json_is_null(reference) && (config < 0 || (size_t)config >= into->n_configs))
            return adm_recorded_refuse(&r->file, err, "its configuration is none of the run's %zu", into->n_configs);
        if (config >= 0) ids[1] = config_ids[config];
        status = insert(r, table, values, id_names, ids, 2, NULL, err);
    }
    return status;
}

/* The run's row, unless the database holds it. */
static adm_status read_run_row(reader *r, const json_t *object, adm_recorded_run *run, adm_error *err) {
    adm_value values[ADM_RECORDED_MAX_COLUMNS];
    adm_status status = adm_recorded_object(&r->file, object, &r->run, values, err);
    if (status != ADM_OK) return status;
    const char *label = value_of(&r->run, values, "label")->type == 's' ? value_of(&r->run, values, "label")->s : "";
    if (strncmp(label, "recorded:", 9) != 0)
        return adm_recorded_refuse(&r->file, err, "its label is '%.80s', and that of a recorded run begins with 'recorded:'",
                                   label);
    snprintf(run->label, sizeof run->label, "%s", label);
    status = find(r, "SELECT run_id FROM run WHERE run_uuid = ?", value_of(&r->run, values, "run_uuid"), 1, &run->run_id, err);
    run->is_new = status == ADM_OK && run->run_id == 0;
    if (run->is_new) status = insert(r, &r->run, values, NULL, NULL, 0, &run->run_id, err);
    return status;
}

static adm_status read_run(reader *r, const json_t *object, size_t index, adm_recorded_run *run, adm_error *err) {
    const json_t *configs;
    int64_t *config_ids = NULL;
    snprintf(r->file.position, sizeof r->file.position, "runs[%zu]", index);
    adm_status status = adm_recorded_list(&r->file, object, "configs", &configs, err);
    if (status == ADM_OK) status = read_run_row(r, json_object_get(object, "run"), run, err);
    if (status != ADM_OK) return status;
    run->n_configs = json_array_size(configs);
    run->n_events = json_array_size(json_object_get(object, "events")) + json_array_size(json_object_get(object, "activities"));
    for (size_t c = 0; c < run->n_configs; c++) run->n_measurements += count_measurements(json_array_get(configs, c));
    if (!run->is_new) return ADM_OK;
    status = adm_alloc(&config_ids, run->n_configs, sizeof *config_ids, "configurations", err);
    if (status == ADM_OK) status = read_configs(r, configs, index, run->run_id, config_ids, err);
    if (status == ADM_OK) status = read_calibrations(r, json_object_get(object, "calibrations"), index, run->run_id, err);
    if (status == ADM_OK) status = read_timeline(r, object, index, "events", &r->event, &r->event_order, run, config_ids, err);
    if (status == ADM_OK)
        status = read_timeline(r, object, index, "activities", &r->activity, &r->activity_order, run, config_ids, err);
    if (status == ADM_OK)
        status = adm_recorded_read_samples(r->store, &r->file, json_object_get(object, "samples"), index, run->run_id,
                                           config_ids, run->n_configs, err);
    adm_free(&config_ids);
    return status;
}

/* --- The whole ------------------------------------------------------------------------------------------------------ */

static adm_status read_tables(reader *r, adm_error *err) {
    const struct {
        const char *name;
        adm_recorded_table *table;
    } tables[] = {{"run", &r->run},
                  {"trace", &r->trace},
                  {"metric", &r->metric},
                  {"config", &r->config},
                  {"calibration", &r->calibration},
                  {"event", &r->event},
                  {"activity", &r->activity}};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0] && status == ADM_OK; i++)
        status = adm_recorded_table_read(r->store, tables[i].name, tables[i].table, err);
    if (status == ADM_OK) status = adm_recorded_order_read(&r->file, &r->config, "trace", &r->config_order, err);
    if (status == ADM_OK) status = adm_recorded_order_read(&r->file, &r->calibration, "trace", &r->calibration_order, err);
    if (status == ADM_OK) status = adm_recorded_order_read(&r->file, &r->event, "config", &r->event_order, err);
    if (status == ADM_OK) status = adm_recorded_order_read(&r->file, &r->activity, "config", &r->activity_order, err);
    return status;
}

static adm_status read_shared(reader *r, const char *key, adm_status (*read)(reader *, const json_t *, adm_error *),
                              adm_error *err) {
    const json_t *rows;
    adm_status status = adm_recorded_list(&r->file, r->file.document, key, &rows, err);
    for (size_t i = 0; status == ADM_OK && i < json_array_size(rows); i++) {
        snprintf(r->file.position, sizeof r->file.position, "%s[%zu]", key, i);
        status = read(r, json_array_get(rows, i), err);
    }
    r->file.position[0] = '\0';
    return status;
}

static adm_status read_document(reader *r, adm_recorded_run **runs, size_t *n_runs, adm_error *err) {
    const json_t *list;
    adm_status status = read_tables(r, err);
    if (status == ADM_OK) status = adm_recorded_list(&r->file, r->file.document, "runs", &list, err);
    if (status == ADM_OK && json_array_size(list) == 0) status = adm_recorded_refuse(&r->file, err, "it holds no run");
    if (status == ADM_OK) status = read_shared(r, "traces", read_trace, err);
    if (status == ADM_OK) status = read_shared(r, "metrics", read_metric, err);
    if (status == ADM_OK)
        status = adm_insert_open_foreign(r->store, "measurement", measurement_columns, N_COLUMNS, &r->measurements, err);
    if (status == ADM_OK) status = adm_alloc(runs, json_array_size(list), sizeof **runs, "runs", err);
    for (size_t i = 0; status == ADM_OK && i < json_array_size(list); i++)
        status = read_run(r, json_array_get(list, i), i, &(*runs)[i], err);
    *n_runs = status == ADM_OK ? json_array_size(list) : 0;
    return status;
}

adm_status adm_recorded_import(adm_store *store, const char *path, adm_recorded_run **runs, size_t *n_runs, adm_error *err) {
    reader r = {.store = store, .trace_ids = json_object(), .metric_ids = json_object()};
    *runs = NULL;
    adm_status status = adm_recorded_load(&r.file, path, err);
    if (status == ADM_OK) status = read_document(&r, runs, n_runs, err);
    adm_insert_close(&r.measurements);
    if (status == ADM_OK) status = adm_store_flush(store, err);
    else adm_store_rollback(store);
    json_decref(r.trace_ids);
    json_decref(r.metric_ids);
    json_decref(r.file.document);
    if (status != ADM_OK) adm_free(runs);
    return status;
}
