/* row.c: one statement and the values on their way into it. */
#include "core/store/row.h"

#include <math.h>

#include "core/base/printable.h"

/* A statement's text, or the table whose columns give it. */
typedef struct statement_text {
    const char *sql;
    const adm_table *insert_into, *find_in;
} statement_text;

static const statement_text texts[ADM_N_STATEMENTS] = {
    [ADM_SQL_ADD_RUN] = {.insert_into = &adm_run_table},
    [ADM_SQL_ADD_TRACE] = {.insert_into = &adm_trace_table},
    [ADM_SQL_FIND_CONFIG] = {.find_in = &adm_config_table},
    [ADM_SQL_ADD_CONFIG] = {.insert_into = &adm_config_table},
    [ADM_SQL_ADD_MEASUREMENT] = {.insert_into = &adm_measurement_table},
    [ADM_SQL_END_RUN] = {.sql = "UPDATE run SET status = ?, reason = ?, finished_utc = ?, elapsed_ns = ? WHERE run_id = ?"},
    [ADM_SQL_RESUME_RUN] = {.sql = "UPDATE run SET status = 'running', reason = NULL, finished_utc = NULL WHERE run_id = ?"},
    [ADM_SQL_FIND_TRACE] = {.sql = "SELECT trace_id FROM trace WHERE xxh128 = ?"},
    [ADM_SQL_FIND_METRIC] = {.sql = "SELECT metric_id, unit, better FROM metric WHERE name = ?"},
    [ADM_SQL_ADD_METRIC] = {.sql = "INSERT INTO metric (name, unit, better, description) VALUES (?, ?, ?, ?)"},
    [ADM_SQL_ADD_SAMPLE] = {.sql = "INSERT INTO sample (measurement_id, i, value, throttle) VALUES (?, ?, ?, ?)"},
    [ADM_SQL_ADD_CALIBRATION] =
        {.sql =
             "INSERT INTO calibration (run_id, trace_id, variant, layer, t0, t1, t2, xxh128) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_EVENT] =
        {.sql = "INSERT INTO event (run_id, config_id, kind, name, variant, step, layer, clock, start_ns, end_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_ACTIVITY] =
        {.sql = "INSERT INTO activity (run_id, config_id, stage, step, kind, name, stream, start_ns, end_ns, bytes, registers,"
                " static_shared_bytes, dynamic_shared_bytes, grid_x, grid_y, grid_z, block_x, block_y, block_z)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_CHECK_RUN] = {.sql = "INSERT INTO check_run (run_id, check_uuid, side, position, subject)"
                                      " SELECT run_id, ?2, ?3, ?4, ?5 FROM run WHERE run_uuid = ?1"},
    [ADM_SQL_ADD_CHECK_RESULT] =
        {.sql = "INSERT INTO check_result (check_uuid, made_utc, baseline, candidate, baseline_commit, candidate_commit, "
                "exit_code, failure, n_rows, n_regressed, n_inconclusive, n_improved, n_equivalent)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_CHECK_ROW] =
        {.sql = "INSERT INTO check_row (check_result_id, config_id, source, stage, metric_id, verdict, baseline, candidate, "
                "shift_ratio, low_ratio, high_ratio, p_adjusted, margin_ratio, n_baseline, n_candidate, why)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_MARGIN] =
        {.sql = "INSERT INTO margin (config_id, source, stage, metric_id, host_name, cpu_model, gpu_name, margin_ratio, "
                "n_processes, measured_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_ACKNOWLEDGEMENT] =
        {.sql = "INSERT INTO acknowledgement (config_id, source, stage, metric_id, run_uuid, verdict, who, why, made_utc)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"},
};

static int prepare(adm_store *store, adm_statement which) {
    const statement_text *text = &texts[which];
    char *made = text->insert_into != NULL ? adm_table_insert_sql(text->insert_into)
                 : text->find_in != NULL   ? adm_table_find_sql(text->find_in)
                                           : NULL;
    const char *sql = text->sql != NULL ? text->sql : made;
    int rc = sql == NULL ? SQLITE_NOMEM
                         : sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &store->statement[which], NULL);
    sqlite3_free(made);
    return rc;
}

adm_status adm_row_start(adm_row *row, adm_store *store, adm_statement which, adm_error *err) {
    *row = (adm_row){.store = store};
    adm_status status = adm_store_begin_batch(store, err);
    if (status != ADM_OK) return status;
    if (store->statement[which] == NULL) row->rc = prepare(store, which);
    row->statement = store->statement[which];
    return ADM_OK;
}

void adm_row_int(adm_row *row, int64_t value) {
    row->column++;
    if (row->rc == SQLITE_OK) row->rc = sqlite3_bind_int64(row->statement, row->column, value);
}

void adm_row_int_unless(adm_row *row, int64_t value, int64_t null_value) {
    if (value != null_value) adm_row_int(row, value);
    else adm_row_null(row);
}

void adm_row_real(adm_row *row, double value) {
    row->column++;
    if (row->rc == SQLITE_OK) row->rc = sqlite3_bind_double(row->statement, row->column, value);
}

void adm_row_null(adm_row *row) { row->column++; } /* what is not bound is NULL: adm_row_release() clears the rest */

void adm_row_text(adm_row *row, const char *text) {
    row->column++;
    if (row->rc != SQLITE_OK || text == NULL) return;
    if (adm_is_utf8(text)) {
        row->rc = sqlite3_bind_text(row->statement, row->column, text, -1, SQLITE_TRANSIENT);
        return;
    }
    sqlite3_str *repaired = sqlite3_str_new(row->store->db);
    while (*text != '\0') {
        size_t n = adm_utf8_length(text);
        if (n > 0) sqlite3_str_append(repaired, text, (int)n);
        else sqlite3_str_appendall(repaired, "\xef\xbf\xbd");
        text += n > 0 ? n : 1;
    }
    row->rc = sqlite3_str_errcode(repaired);
    char *copy = sqlite3_str_finish(repaired);
    if (row->rc == SQLITE_OK) row->rc = sqlite3_bind_text(row->statement, row->column, copy, -1, SQLITE_TRANSIENT);
    sqlite3_free(copy);
}

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

void adm_row_release(adm_row *row) {
    sqlite3_reset(row->statement);
    sqlite3_clear_bindings(row->statement);
}

adm_status adm_row_abandon(adm_row *row, const char *doing, adm_error *err) {
    adm_status status = adm_store_sqlite_error(row->store, row->rc, doing, err);
    if (row->statement != NULL) adm_row_release(row);
    adm_store_rollback(row->store);
    return status;
}

adm_status adm_row_finish(adm_row *row, const char *doing, adm_error *err) {
    if (row->rc == SQLITE_OK) row->rc = sqlite3_step(row->statement);
    if (row->rc != SQLITE_DONE) return adm_row_abandon(row, doing, err);
    adm_row_release(row);
    return ADM_OK;
}

adm_status adm_row_find(adm_row *row, int64_t *id, const char *doing, adm_error *err) {
    *id = 0;
    if (row->rc == SQLITE_OK) row->rc = sqlite3_step(row->statement);
    if (row->rc == SQLITE_ROW) *id = sqlite3_column_int64(row->statement, 0);
    else if (row->rc != SQLITE_DONE) return adm_row_abandon(row, doing, err);
    adm_row_release(row);
    return ADM_OK;
}

int64_t adm_row_new_id(const adm_store *store) { return sqlite3_last_insert_rowid(store->db); }
