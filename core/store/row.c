/* row.c: one statement and the values on their way into it. */
#include "core/store/row.h"

#include "core/base/printable.h"
#include "core/store/columns.h"

static int prepare(adm_store *store, adm_statement which) {
    const adm_statement_text *text = &adm_store_sql[which];
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
