/* insert.c: inserting rows whose columns are known only at run time. */
#include "core/store/insert.h"

#include "core/base/mem.h"
#include "core/store/file/bounds.h"
#include "core/store/file/database_internal.h"

struct adm_insert {
    adm_store *store;
    sqlite3_stmt *statement;
    size_t n_columns;
    adm_bounds *bounds; /* [n_columns]; NULL: the rows are ours */
};

static char *insert_sql(const char *table, const char *const *columns, size_t n_columns) {
    sqlite3_str *sql = sqlite3_str_new(NULL);
    sqlite3_str_appendf(sql, "INSERT INTO \"%w\" (", table);
    for (size_t i = 0; i < n_columns; i++) sqlite3_str_appendf(sql, "%s\"%w\"", i > 0 ? ", " : "", columns[i]);
    sqlite3_str_appendall(sql, ") VALUES (");
    for (size_t i = 0; i < n_columns; i++) sqlite3_str_appendall(sql, i > 0 ? ", ?" : "?");
    sqlite3_str_appendall(sql, ")");
    return sqlite3_str_finish(sql);
}

adm_status adm_insert_open(adm_store *store, const char *table, const char *const *columns, size_t n_columns, adm_insert **out,
                           adm_error *err) {
    *out = NULL;
    adm_insert *insert = NULL;
    adm_status status = adm_alloc(&insert, 1, sizeof *insert, "a statement", err);
    if (status != ADM_OK) return status;
    *insert = (adm_insert){.store = store, .n_columns = n_columns};
    char *sql = insert_sql(table, columns, n_columns);
    int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(store->db, sql, -1, &insert->statement, NULL);
    sqlite3_free(sql);
    if (rc != SQLITE_OK) status = adm_store_sqlite_error(store, rc, "preparing to insert rows", err);
    if (status == ADM_OK) *out = insert;
    else adm_insert_close(&insert);
    return status;
}

adm_status adm_insert_open_foreign(adm_store *store, const char *table, const char *const *columns, size_t n_columns,
                                   adm_insert **out, adm_error *err) {
    adm_status status = adm_insert_open(store, table, columns, n_columns, out, err);
    if (status == ADM_OK) status = adm_alloc(&(*out)->bounds, n_columns, sizeof *(*out)->bounds, "bounds of columns", err);
    for (size_t i = 0; status == ADM_OK && i < n_columns; i++) (*out)->bounds[i] = adm_bounds_of(columns[i]);
    if (status != ADM_OK) adm_insert_close(out);
    return status;
}

/* A constraint as SQLite words it is a piece of the schema, line breaks and all: on one line, in place. */
static void join_lines(char *text) {
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        char c = *from == '\n' ? ' ' : *from;
        if (c != ' ' || (to > text && to[-1] != ' ')) *to++ = c;
    }
    *to = '\0';
}

static int step_row(adm_insert *insert, const adm_value *values) {
    int rc = adm_store_bind_values(insert->statement, values, insert->n_columns);
    if (rc == SQLITE_OK) rc = sqlite3_step(insert->statement);
    return rc;
}

adm_status adm_insert_row(adm_insert *insert, const adm_value *values, int64_t *row_id, adm_error *err) {
    adm_store *store = insert->store;
    adm_status status = adm_store_begin_batch(store, err);
    for (size_t i = 0; status == ADM_OK && insert->bounds != NULL && i < insert->n_columns; i++)
        status = adm_bounds_check(&insert->bounds[i], &values[i], err);
    if (status != ADM_OK) {
        adm_store_rollback(store);
        return status;
    }
    int rc = step_row(insert, values);
    if (rc == SQLITE_DONE) {
        if (row_id != NULL) *row_id = sqlite3_last_insert_rowid(store->db);
    } else if ((rc & 0xff) == SQLITE_CONSTRAINT) {
        char said[300];
        sqlite3_snprintf(sizeof said, said, "%s", sqlite3_errmsg(store->db));
        join_lines(said);
        status = adm_fail(err, ADM_EINPUT, "%s does not take the row: %s", store->path, said);
    } else {
        status = adm_store_sqlite_error(store, rc, "inserting a row", err);
    }
    sqlite3_reset(insert->statement);
    if (status != ADM_OK) adm_store_rollback(store);
    return status;
}

void adm_insert_close(adm_insert **address) {
    adm_insert *insert = *address;
    if (insert == NULL) return;
    sqlite3_finalize(insert->statement);
    adm_free(&insert->bounds);
    adm_free(address);
}
