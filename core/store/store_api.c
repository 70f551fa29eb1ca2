/* store_api.c: the store for other programs: checks what they pass, and turns text into the structs of store.h. */
#include "core/store/store_api.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/store/columns.h"
#include "core/store/fields.h"
#include "core/system/hostinfo.h"
#include "core/store/store.h"

/* --- Text to structs ---------------------------------------------------------------------------------------------- */

static void set_number(const adm_column *column, void *field, int64_t value) {
    switch (column->type) {
    case ADM_FIELD_I64: *(int64_t *)field = value; break;
    case ADM_FIELD_I32: *(int32_t *)field = (int32_t)value; break;
    case ADM_FIELD_U64: *(uint64_t *)field = (uint64_t)value; break;
    default: *(uint32_t *)field = (uint32_t)value; break;
    }
}

static bool read_number(const adm_column *column, void *field, const char *text) {
    const int64_t min = column->type == ADM_FIELD_I64 ? INT64_MIN : column->type == ADM_FIELD_I32 ? INT32_MIN : 0;
    const int64_t max = column->type == ADM_FIELD_I32 ? INT32_MAX : column->type == ADM_FIELD_U32 ? UINT32_MAX : INT64_MAX;
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max) return false;
    set_number(column, field, value);
    return true;
}

static bool read_real(void *field, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value)) return false;
    *(double *)field = value;
    return true;
}

static bool read_dtype(void *field, const char *text) {
    static const adm_dtype dtypes[] = {ADM_F32, ADM_F16, ADM_BF16};
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(text, adm_dtype_name(dtypes[i])) == 0) {
            *(adm_dtype *)field = dtypes[i];
            return true;
        }
    return false;
}

/* The only fixed-size text is a hash, 32 characters. */
static bool read_chars(void *field, const char *text) {
    if (strlen(text) != 32) return false;
    memcpy(field, text, 33);
    return true;
}

static bool read_text(const adm_column *column, void *field, const char *text) {
    switch (column->type) {
    case ADM_FIELD_TEXT: *(const char **)field = text; return true;
    case ADM_FIELD_CHARS: return read_chars(field, text);
    case ADM_FIELD_DTYPE: return read_dtype(field, text);
    case ADM_FIELD_REAL: return read_real(field, text);
    default: return read_number(column, field, text);
    }
}

static void set_null(const adm_column *column, void *field) {
    if (column->type == ADM_FIELD_TEXT) *(const char **)field = NULL;
    else if (column->null == ADM_NULL_IF_NAN) *(double *)field = NAN;
    else set_number(column, field, column->null == ADM_NULL_IF_MINUS_1 ? -1 : 0);
}

/* The position of the column of this name; n_columns if there is none. */
static size_t position_of(const adm_table *table, const char *name) {
    size_t i = 0;
    while (i < table->n_columns && strcmp(table->column[i].name, name) != 0) i++;
    return i;
}

/* Sets fields of the struct from text. Fields not named keep their values, but those that may be NULL become so. ADM_EINPUT:
 * the table has no such column, the text is no number of the field's type, a column that is never NULL is not given. Text is
 * borrowed. */
static adm_status read_fields(const adm_table *table, const adm_field *fields, size_t n_fields, void *values, adm_error *err) {
    bool given[ADM_MAX_COLUMNS] = {false};
    for (size_t i = 0; i < table->n_columns; i++) {
        const adm_column *c = &table->column[i];
        if (c->null >= ADM_NULL_IF_ABSENT) set_null(c, (char *)values + c->offset);
    }
    for (size_t f = 0; f < n_fields; f++) {
        const char *name = fields[f].name != NULL ? fields[f].name : "(null)";
        size_t i = position_of(table, name);
        if (i == table->n_columns) return adm_fail(err, ADM_EINPUT, "table %s has no column '%s'", table->name, name);
        if (fields[f].value == NULL) continue;
        const adm_column *c = &table->column[i];
        if (!read_text(c, (char *)values + c->offset, fields[f].value))
            return adm_fail(err, ADM_EINPUT, "'%s' is no value for %s.%s", fields[f].value, table->name, name);
        given[i] = true;
    }
    for (size_t i = 0; i < table->n_columns; i++)
        if (table->column[i].null == ADM_NEVER_NULL && !given[i])
            return adm_fail(err, ADM_EINPUT, "%s.%s is not given, and it is never NULL", table->name, table->column[i].name);
    return ADM_OK;
}

/* --- Runs, traces and configurations ------------------------------------------------------------------------------------ */

int adm_answer(adm_status status, const adm_error *err, char *error, size_t error_bytes) {
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
    return adm_answer(status, &err, error, error_bytes);
}

void adm_db_close(adm_store **store) {
    if (store != NULL) adm_store_close(store);
}

adm_status adm_run_of_fields(adm_store *store, const adm_field *fields, size_t n_fields, const void *out, adm_host_info *host,
                             adm_run_info *run, adm_error *err) {
    *run = (adm_run_info){0};
    adm_status status = check_call(store, fields, n_fields, out, err);
    adm_host_info_read(host);
    adm_run_info_host(run, host);
    if (status == ADM_OK) status = read_fields(&adm_run_table, fields, n_fields, run, err);
    if (status == ADM_OK && run->gpu_name == NULL && run->gpu_reason == NULL)
        status = adm_fail(err, ADM_EINPUT, "neither gpu_name nor gpu_reason is given: a run without a GPU says why");
    run->run_uuid = run->started_utc = NULL; /* the store's own */
    run->status = NULL;
    return rolled_back(store, status);
}

int adm_db_begin_run(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *run_id, char *error,
                     size_t error_bytes) {
    adm_error err;
    adm_host_info host;
    adm_run_info run;
    adm_status status = adm_run_of_fields(store, fields, n_fields, run_id, &host, &run, &err);
    if (status == ADM_OK) status = adm_store_begin_run(store, &run, run_id, &err);
    return adm_answer(status, &err, error, error_bytes);
}

int adm_db_add_trace(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *trace_id, char *error,
                     size_t error_bytes) {
    adm_error err;
    adm_trace_row row = {0};
    adm_status status = check_call(store, fields, n_fields, trace_id, &err);
    if (status == ADM_OK) status = read_fields(&adm_trace_table, fields, n_fields, &row, &err);
    status = rolled_back(store, status);
    if (status == ADM_OK) status = adm_store_trace_row(store, &row, trace_id, &err);
    return adm_answer(status, &err, error, error_bytes);
}

int adm_db_add_config(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *config_id, char *error,
                      size_t error_bytes) {
    adm_error err;
    adm_config config = {0};
    adm_status status = check_call(store, fields, n_fields, config_id, &err);
    if (status == ADM_OK) status = read_fields(&adm_config_table, fields, n_fields, &config, &err);
    status = rolled_back(store, status);
    if (status == ADM_OK) status = adm_store_config(store, &config, config_id, &err);
    return adm_answer(status, &err, error, error_bytes);
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
    adm_copy(sorted, values, n_values * sizeof *sorted);
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
    if (status == ADM_OK) status = read_fields(&measured_table, fields, n_fields, &row, &err);
    if (status == ADM_OK) status = check_values(&row, values, n_values, &err);
    status = rolled_back(store, status);
    if (status == ADM_OK) status = add_measurement(store, &row, values, n_values, keep_samples, &err);
    return adm_answer(status, &err, error, error_bytes);
}

/* --- Batches ------------------------------------------------------------------------------------------------------ */

int adm_db_flush(adm_store *store, char *error, size_t error_bytes) {
    adm_error err;
    adm_status status = store != NULL ? adm_store_flush(store, &err) : adm_fail(&err, ADM_EINPUT, "the database is not open");
    return adm_answer(status, &err, error, error_bytes);
}

int adm_db_end_run(adm_store *store, int64_t run_id, const char *run_status, const char *reason, char *error,
                   size_t error_bytes) {
    adm_error err;
    adm_status status = ADM_OK;
    if (store == NULL) status = adm_fail(&err, ADM_EINPUT, "the database is not open");
    else if (run_status == NULL) status = adm_fail(&err, ADM_EINPUT, "a run ends as complete, interrupted or failed");
    if (status == ADM_OK) status = adm_store_end_run(store, run_id, run_status, reason, &err);
    return adm_answer(status, &err, error, error_bytes);
}
