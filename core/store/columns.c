/* columns.c: the lists of columns, and what follows from them. */
#include "core/store/columns.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

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
    {"commit_utc", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, commit_utc)},
    {"machine", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, machine)},
    {"cpu_governor", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, cpu_governor)},
    {"cpu_turbo", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, cpu_turbo)},
    {"cpu_smt", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, cpu_smt)},
    {"sweep_id", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, sweep_id)},
    {"sweep_grid", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, sweep_grid)},
    {"sweep_parts", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, sweep_parts)},
    {"sweep_inputs", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, sweep_inputs)},
    {"sweep_build", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, sweep_build)},
    {"shard", ADM_FIELD_I64, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, shard)},
    {"n_shards", ADM_FIELD_I64, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, n_shards)},
    {"together_uuid", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, together_uuid)},
    {"n_together", ADM_FIELD_I64, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, n_together)},
    {"only_times", ADM_FIELD_TEXT, ADM_NULL_IF_ABSENT, FIELD(adm_run_info, only_times)},
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
