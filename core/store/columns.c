/* columns.c: the lists of columns, and what follows from them. */
#include "core/store/columns.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- The lists ---------------------------------------------------------------------------------------------------- */

#define FIELD(type, member) offsetof(type, member)

static const adm_column run_columns[] = {
    {"run_uuid", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, run_uuid)},
    {"label", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, label)},
    {"command", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_run_info, command)},
    {"status", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, status)},
    {"started_utc", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, started_utc)},
    {"tool_version", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, tool_version)},
    {"git_commit", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, git_commit)},
    {"git_dirty", ADM_FIELD_I64, ADM_NULL_IF_MINUS_1, FIELD(adm_run_info, git_dirty)},
    {"argv", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_run_info, argv_json)},
    {"seed", ADM_FIELD_I64, ADM_FILLED_IN, FIELD(adm_run_info, seed)},
    {"host_name", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, host_name)},
    {"os", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, os)},
    {"cpu_model", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, cpu_model)},
    {"n_cpus", ADM_FIELD_I64, ADM_FILLED_IN, FIELD(adm_run_info, n_cpus)},
    {"memory_bytes", ADM_FIELD_I64, ADM_FILLED_IN, FIELD(adm_run_info, memory_bytes)},
    {"compiler", ADM_FIELD_TEXT, ADM_FILLED_IN, FIELD(adm_run_info, compiler)},
    {"gpu_name", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, gpu_name)},
    {"gpu_uuid", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, gpu_uuid)},
    {"gpu_reason", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, gpu_reason)},
    {"driver_version", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, driver_version)},
    {"cuda_version", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, cuda_version)},
    {"sm_clock_hz", ADM_FIELD_I64, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, sm_clock_hz)},
    {"memory_clock_hz", ADM_FIELD_I64, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, memory_clock_hz)},
};

static const adm_column trace_columns[] = {
    {"xxh128", ADM_FIELD_CHARS, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.xxh128)},
    {"name", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.name)},
    {"kind", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.kind)},
    {"model", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.model)},
    {"file_bytes", ADM_FIELD_U64, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.file_bytes)},
    {"n_tokens", ADM_FIELD_U64, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.n_tokens)},
    {"n_steps", ADM_FIELD_U64, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.n_steps)},
    {"n_layers", ADM_FIELD_U64, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.n_layers)},
    {"n_q_heads", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.shape.n_q_heads)},
    {"n_kv_heads", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.shape.n_kv_heads)},
    {"head_dim", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.shape.head_dim)},
    {"softmax_scale", ADM_FIELD_REAL, ADM_NEVER_NULL, FIELD(adm_trace_row, trace.softmax_scale)},
    {"metadata", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_trace_row, metadata_json)},
};

static const adm_column config_columns[] = {
    {"trace_id", ADM_FIELD_I64, ADM_NULL_IF_ABSENT, FIELD(adm_config, trace_id)},
    {"policy", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_config, policy)},
    {"variant", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_config, variant)},
    {"n_q_heads", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_config, shape.n_q_heads)},
    {"n_kv_heads", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_config, shape.n_kv_heads)},
    {"head_dim", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_config, shape.head_dim)},
    {"dtype", ADM_FIELD_DTYPE, ADM_NEVER_NULL, FIELD(adm_config, dtype)},
    {"seq_len", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_config, seq_len)},
    {"budget", ADM_FIELD_U32, ADM_NULL_IF_ABSENT, FIELD(adm_config, budget)},
    {"batch", ADM_FIELD_U32, ADM_NEVER_NULL, FIELD(adm_config, batch)},
    {"n_sinks", ADM_FIELD_I32, ADM_NULL_IF_MINUS_1, FIELD(adm_config, n_sinks)},
    {"n_recent", ADM_FIELD_I32, ADM_NULL_IF_MINUS_1, FIELD(adm_config, n_recent)},
    {"selection", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_config, selection)},
    {"cache", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_config, cache)},
    {"launch", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_config, launch)},
    {"page_size", ADM_FIELD_U32, ADM_NULL_IF_ABSENT, FIELD(adm_config, page_size)},
    {"batch_lens", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_config, batch_lens)},
};

static const adm_column measurement_columns[] = {
    {"run_id", ADM_FIELD_I64, ADM_NEVER_NULL, FIELD(adm_measurement_row, m.run_id)},
    {"config_id", ADM_FIELD_I64, ADM_NEVER_NULL, FIELD(adm_measurement_row, m.config_id)},
    {"source", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_measurement_row, m.source)},
    {"stage", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_measurement_row, m.stage)},
    {"layer", ADM_FIELD_I32, ADM_NULL_IF_MINUS_1, FIELD(adm_measurement_row, m.layer)},
    {"head", ADM_FIELD_I32, ADM_NULL_IF_MINUS_1, FIELD(adm_measurement_row, m.head)},
    {"metric_id", ADM_FIELD_I64, ADM_FILLED_IN, FIELD(adm_measurement_row, metric_id)},
    {"status", ADM_FIELD_TEXT, ADM_NEVER_NULL, FIELD(adm_measurement_row, m.status)},
    {"reason", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_measurement_row, m.reason)},
    {"n", ADM_FIELD_U64, ADM_FILLED_IN, FIELD(adm_measurement_row, d.n)},
    {"mean", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.mean)},
    {"min", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.min)},
    {"p01", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.p01)},
    {"p05", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.p05)},
    {"p10", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.p10)},
    {"median", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.median)},
    {"p90", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.p90)},
    {"p95", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.p95)},
    {"p99", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.p99)},
    {"max", ADM_FIELD_REAL, ADM_NULL_IF_NAN, FIELD(adm_measurement_row, d.max)},
};

_Static_assert(sizeof(size_t) == sizeof(uint64_t), "counts are read as 64-bit numbers");

const adm_table adm_run_table = {"run", run_columns, sizeof run_columns / sizeof run_columns[0]};
const adm_table adm_trace_table = {"trace", trace_columns, sizeof trace_columns / sizeof trace_columns[0]};
const adm_table adm_config_table = {"config", config_columns, sizeof config_columns / sizeof config_columns[0]};
const adm_table adm_measurement_table = {"measurement", measurement_columns,
                                         sizeof measurement_columns / sizeof measurement_columns[0]};

/* --- Statements --------------------------------------------------------------------------------------------------- */

char *adm_table_insert_sql(const adm_table *table) {
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendf(sql, "INSERT INTO \"%w\" (", table->name);
    for (size_t i = 0; i < table->n_columns; i++)
        sqlite3_str_appendf(sql, "%s\"%w\"", i > 0 ? ", " : "", table->column[i].name);
    sqlite3_str_appendall(sql, ") VALUES (");
    for (size_t i = 0; i < table->n_columns; i++) sqlite3_str_appendall(sql, i > 0 ? ", ?" : "?");
    sqlite3_str_appendall(sql, ")");
    return sqlite3_str_finish(sql);
}

char *adm_table_find_sql(const adm_table *table) {
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendf(sql, "SELECT %s_id FROM \"%w\" WHERE ", table->name, table->name);
    for (size_t i = 0; i < table->n_columns; i++) {
        const adm_column *c = &table->column[i];
        const char *instead = c->null == ADM_NULL_IF_MINUS_1 ? "-1" : c->type == ADM_FIELD_TEXT ? "''" : "0";
        bool is_nullable = c->null != ADM_NEVER_NULL && c->null != ADM_FILLED_IN;
        if (i > 0) sqlite3_str_appendall(sql, " AND ");
        if (is_nullable) sqlite3_str_appendf(sql, "ifnull(%s, %s) = ifnull(?, %s)", c->name, instead, instead);
        else sqlite3_str_appendf(sql, "%s = ?", c->name);
    }
    return sqlite3_str_finish(sql);
}

/* --- Structs to rows ---------------------------------------------------------------------------------------------- */

static int64_t whole_number(const adm_column *column, const void *field) {
    switch (column->type) {
    case ADM_FIELD_I64: return *(const int64_t *)field;
    case ADM_FIELD_I32: return *(const int32_t *)field;
    case ADM_FIELD_U64: return (int64_t) * (const uint64_t *)field;
    default: return *(const uint32_t *)field;
    }
}

static void put_number(adm_row *row, const adm_column *column, int64_t value) {
    if (column->null == ADM_NULL_IF_ABSENT) adm_row_int_unless(row, value, 0);
    else if (column->null == ADM_NULL_IF_MINUS_1) adm_row_int_unless(row, value, -1);
    else adm_row_int(row, value);
}

void adm_row_struct(adm_row *row, const adm_table *table, const void *values) {
    for (size_t i = 0; i < table->n_columns; i++) {
        const adm_column *c = &table->column[i];
        const void *field = (const char *)values + c->offset;
        if (c->type == ADM_FIELD_TEXT) adm_row_text(row, *(const char *const *)field);
        else if (c->type == ADM_FIELD_CHARS) adm_row_text(row, field);
        else if (c->type == ADM_FIELD_DTYPE) adm_row_text(row, adm_dtype_name(*(const adm_dtype *)field));
        else if (c->type != ADM_FIELD_REAL) put_number(row, c, whole_number(c, field));
        else if (c->null == ADM_NULL_IF_NAN && isnan(*(const double *)field)) adm_row_null(row);
        else adm_row_real(row, *(const double *)field);
    }
}

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

adm_status adm_table_read_fields(const adm_table *table, const adm_field *fields, size_t n_fields, void *values,
                                 adm_error *err) {
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
