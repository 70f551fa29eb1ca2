/* store_api.c: the store for other programs: checks what they pass, and turns text into the structs of store.h. */
#include "core/store/store_api.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/store/columns.h"
#include "core/store/hostinfo.h"
#include "core/store/store.h"

/* The status as a number, with the sentence in the caller's buffer. */
static int answer(adm_status status, const adm_error *err, char *error, size_t error_bytes) {
    if (error != NULL && error_bytes > 0) snprintf(error, error_bytes, "%s", status == ADM_OK ? "" : err->text);
    return (int)status;
}

/* Refuses pointers that must not be NULL. A failure leaves no batch, as everywhere in the store. */
static adm_status check_call(adm_store *store, const adm_field *fields, size_t n_fields, const void *out, adm_error *err) {
    if (store == NULL) return adm_fail(err, ADM_EINPUT, "the database is not open");
    if (fields == NULL && n_fields > 0)
        return adm_fail(err, ADM_EINPUT, "%zu fields are announced and none is given", n_fields);
    if (out == NULL) return adm_fail(err, ADM_EINPUT, "the pointer for the result is NULL");
    return ADM_OK;
}

static adm_status rolled_back(adm_store *store, adm_status status) {
    if (status != ADM_OK && store != NULL) adm_store_rollback(store);
    return status;
}

int adm_db_open(const char *path, adm_store **store, char *error, size_t error_bytes) {
    adm_error err;
    adm_status status = ADM_OK;
    if (store != NULL) *store = NULL;
    if (path == NULL || store == NULL)
        status = adm_fail(&err, ADM_EINPUT, "the file name or the pointer for the database is NULL");
    if (status == ADM_OK) status = adm_store_open(path, ADM_STORE_WRITE, store, &err);
    return answer(status, &err, error, error_bytes);
}

void adm_db_close(adm_store **store) {
    if (store != NULL) adm_store_close(store);
}

int adm_db_begin_run(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *run_id, char *error,
                     size_t error_bytes) {
    adm_error err;
    adm_host_info host;
    adm_run_info run = {0};
    adm_status status = check_call(store, fields, n_fields, run_id, &err);
    adm_host_info_read(&host);
    adm_run_info_host(&run, &host);
    if (status == ADM_OK) status = adm_table_read_fields(&adm_run_table, fields, n_fields, &run, &err);
    if (status == ADM_OK && run.gpu_name == NULL && run.gpu_reason == NULL)
        status = adm_fail(&err, ADM_EINPUT, "neither gpu_name nor gpu_reason is given: a run without a GPU says why");
    status = rolled_back(store, status);
    run.run_uuid = run.started_utc = NULL; /* the store's own */
    run.status = NULL;
    if (status == ADM_OK) status = adm_store_begin_run(store, &run, run_id, &err);
    return answer(status, &err, error, error_bytes);
}

int adm_db_add_trace(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *trace_id, char *error,
                     size_t error_bytes) {
    adm_error err;
    adm_trace_row row = {0};
    adm_status status = check_call(store, fields, n_fields, trace_id, &err);
    if (status == ADM_OK) status = adm_table_read_fields(&adm_trace_table, fields, n_fields, &row, &err);
    status = rolled_back(store, status);
    if (status == ADM_OK) status = adm_store_trace_row(store, &row, trace_id, &err);
    return answer(status, &err, error, error_bytes);
}

int adm_db_add_config(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *config_id, char *error,
                      size_t error_bytes) {
    adm_error err;
    adm_config config = {0};
    adm_status status = check_call(store, fields, n_fields, config_id, &err);
    if (status == ADM_OK) status = adm_table_read_fields(&adm_config_table, fields, n_fields, &config, &err);
    status = rolled_back(store, status);
    if (status == ADM_OK) status = adm_store_config(store, &config, config_id, &err);
    return answer(status, &err, error, error_bytes);
}

/* --- Measurements ------------------------------------------------------------------------------------------------- */

/* A measurement's fields and its metric's: the columns that a caller may name. */
typedef struct measured {
    adm_measurement m;
    adm_metric metric;
} measured;

static const adm_column measured_columns[] = {
    {"source", ADM_FIELD_TEXT, ADM_NEVER_NULL, offsetof(measured, m.source)},
    {"stage", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, offsetof(measured, m.stage)},
    {"layer", ADM_FIELD_I32, ADM_NULL_IF_MINUS_1, offsetof(measured, m.layer)},
    {"head", ADM_FIELD_I32, ADM_NULL_IF_MINUS_1, offsetof(measured, m.head)},
    {"status", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, offsetof(measured, m.status)},
    {"reason", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, offsetof(measured, m.reason)},
    {"metric", ADM_FIELD_TEXT, ADM_NEVER_NULL, offsetof(measured, metric.name)},
    {"unit", ADM_FIELD_TEXT, ADM_NEVER_NULL, offsetof(measured, metric.unit)},
    {"better", ADM_FIELD_TEXT, ADM_NEVER_NULL, offsetof(measured, metric.better)},
    {"description", ADM_FIELD_TEXT, ADM_NEVER_NULL, offsetof(measured, metric.description)},
};
static const adm_table measured_table = {"measurement", measured_columns, sizeof measured_columns / sizeof measured_columns[0]};

/* The store checks values too, but sorting comes first and takes no NaN. */
static adm_status check_values(const measured *row, const double *values, size_t n_values, adm_error *err) {
    const char *status = row->m.status;
    if (values == NULL && n_values > 0)
        return adm_fail(err, ADM_EINPUT, "%zu values are announced and none is given", n_values);
    for (size_t i = 0; i < n_values; i++)
        if (!isfinite(values[i]))
            return adm_fail(err, ADM_EINPUT, "metric '%s': value %zu of %zu is %f", row->metric.name, i, n_values, values[i]);
    if (status != NULL && (n_values > 0) != (strcmp(status, "ok") == 0))
        return adm_fail(err, ADM_EINPUT, "metric '%s': status '%s' does not go with %zu values", row->metric.name, status,
                        n_values);
    if (n_values == 0 && row->m.reason == NULL)
        return adm_fail(err, ADM_EINPUT, "metric '%s': neither values nor a reason is given", row->metric.name);
    return ADM_OK;
}

static adm_status add_measurement(adm_store *store, measured *row, const double *values, size_t n_values, int keep_samples,
                                  adm_error *err) {
    adm_distribution distribution;
    double *sorted = NULL;
    adm_status status = adm_alloc(&sorted, n_values, sizeof *sorted, "values of a measurement", err);
    if (status != ADM_OK) return rolled_back(store, status);
    if (n_values > 0) memcpy(sorted, values, n_values * sizeof *sorted);
    distribution = adm_distribution_of(sorted, n_values);
    adm_free(&sorted);
    if (row->m.status == NULL) row->m.status = n_values > 0 ? "ok" : "skipped";
    row->m.metric = &row->metric;
    row->m.distribution = n_values > 0 ? &distribution : NULL;
    if (keep_samples) {
        row->m.samples = values;
        row->m.n_samples = n_values;
    }
    return adm_store_measurement(store, &row->m, err);
}

int adm_db_add_measurement(adm_store *store, int64_t run_id, int64_t config_id, const adm_field *fields, size_t n_fields,
                           const double *values, size_t n_values, int keep_samples, char *error, size_t error_bytes) {
    adm_error err;
    measured row = {.m = {.run_id = run_id, .config_id = config_id}};
    adm_status status = check_call(store, fields, n_fields, &row, &err);
    if (status == ADM_OK) status = adm_table_read_fields(&measured_table, fields, n_fields, &row, &err);
    if (status == ADM_OK) status = check_values(&row, values, n_values, &err);
    status = rolled_back(store, status);
    if (status == ADM_OK) status = add_measurement(store, &row, values, n_values, keep_samples, &err);
    return answer(status, &err, error, error_bytes);
}

/* --- Batches ------------------------------------------------------------------------------------------------------ */

int adm_db_flush(adm_store *store, char *error, size_t error_bytes) {
    adm_error err;
    adm_status status = store != NULL ? adm_store_flush(store, &err) : adm_fail(&err, ADM_EINPUT, "the database is not open");
    return answer(status, &err, error, error_bytes);
}

int adm_db_end_run(adm_store *store, int64_t run_id, const char *run_status, const char *reason, char *error,
                   size_t error_bytes) {
    adm_error err;
    adm_status status = ADM_OK;
    if (store == NULL) status = adm_fail(&err, ADM_EINPUT, "the database is not open");
    else if (run_status == NULL) status = adm_fail(&err, ADM_EINPUT, "a run ends as complete, interrupted or failed");
    if (status == ADM_OK) status = adm_store_end_run(store, run_id, run_status, reason, &err);
    return answer(status, &err, error, error_bytes);
}
