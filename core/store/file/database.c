/* database.c: what SQLite's errors mean to a user, statements, and batches. */
#include "core/store/file/database.h"

#include <string.h>

#include "core/store/file/database_internal.h"
#include "core/store/file/guard.h"

/* --- Errors ------------------------------------------------------------------------------------------------------- */

adm_status adm_store_sqlite_error(adm_store *store, int rc, const char *doing, adm_error *err) {
    const char *path = store->path, *said = store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc);
    int cause = store->db ? sqlite3_system_errno(store->db) : 0;
    switch (rc & 0xff) {
    case SQLITE_INTERRUPT: return adm_fail(err, ADM_EINTERRUPTED, "interrupted while %s: %s", doing, path);
    case SQLITE_TOOBIG:
        return adm_fail(err, ADM_EINPUT, "%s is damaged: a value in it is longer than %d MiB (while %s)", path,
                        ADM_STORE_MAX_VALUE_BYTES >> 20, doing);
    case SQLITE_NOTADB:
        return adm_fail(err, ADM_EINPUT, "%s is not an SQLite database: move it away, or name another file", path);
    case SQLITE_CORRUPT:
        return adm_fail(err, ADM_EINPUT, "%s is damaged (%s while %s): go back to a copy, or try `sqlite3 FILE .recover`", path,
                        said, doing);
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return adm_fail(err, ADM_EINPUT,
                        "%s cannot be written (%s while %s): make it and its folder writable, or name "
                        "another file",
                        path, said, doing);
    case SQLITE_CANTOPEN:
        return adm_fail(err, ADM_EINPUT, "%s, or a journal beside it, cannot be opened while %s: %s", path, doing,
                        cause ? strerror(cause) : said);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return adm_fail(err, ADM_EENVIRONMENT,
                        "%s is locked by another program, after waiting %.1f s while %s: let that "
                        "program finish, then try again",
                        path, store->busy_timeout_ms / 1000.0, doing);
    case SQLITE_FULL:
        return adm_fail(err, ADM_EENVIRONMENT,
                        "%s cannot grow while %s: the disk is full; free some disk space, then try again", path, doing);
    case SQLITE_IOERR:
        return adm_fail(err, ADM_EENVIRONMENT, "%s: %s while %s (%s): check the disk and its free space", path, said, doing,
                        cause ? strerror(cause) : sqlite3_errstr(rc));
    case SQLITE_NOMEM: return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while %s", path, doing);
    default: return adm_fail(err, ADM_EINTERNAL, "%s: %s while %s", path, said, doing);
    }
}

/* --- Statements --------------------------------------------------------------------------------------------------- */

int adm_store_execute(adm_store *store, const char *sql) { return sqlite3_exec(store->db, sql, NULL, NULL, NULL); }

int adm_store_detach(adm_store *store) {
    int rc = adm_store_execute(store, "DETACH other");
    if ((rc & 0xff) == SQLITE_NOMEM) rc = adm_store_execute(store, "DETACH other");
    return rc;
}

int adm_store_scalar(adm_store *store, const char *sql, int64_t fallback, int64_t *value) {
    *value = fallback;
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (rc != SQLITE_OK) return rc;
    rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) *value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

const char *adm_store_text(sqlite3_stmt *row, int column, int *rc) {
    const char *text = (const char *)sqlite3_column_text(row, column);
    if (text == NULL && sqlite3_column_type(row, column) != SQLITE_NULL) *rc = SQLITE_NOMEM;
    return text != NULL ? text : "";
}

int adm_store_bind_values(sqlite3_stmt *statement, const adm_value *values, size_t n_values) {
    int rc = SQLITE_OK;
    for (int i = 0; i < (int)n_values && rc == SQLITE_OK; i++) {
        switch (values[i].type) {
        case 'i': rc = sqlite3_bind_int64(statement, i + 1, values[i].i); break;
        case 'd': rc = sqlite3_bind_double(statement, i + 1, values[i].d); break;
        case 's': rc = sqlite3_bind_text(statement, i + 1, values[i].s, -1, SQLITE_TRANSIENT); break;
        case 'n': rc = sqlite3_bind_null(statement, i + 1); break;
        default: rc = SQLITE_MISUSE;
        }
    }
    return rc;
}

int adm_store_change(adm_store *store, const char *sql, const adm_value *values, size_t n_values) {
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK) rc = adm_store_bind_values(statement, values, n_values);
    if (rc == SQLITE_OK) rc = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

char *adm_store_uri(const char *path, const char *parameters) {
    sqlite3_str *uri = sqlite3_str_new(NULL);
    sqlite3_str_appendall(uri, path[0] == '/' ? "file:" : "file:./");
    for (const unsigned char *c = (const unsigned char *)path; *c; c++)
        if (*c <= ' ' || strchr("%?#", *c) != NULL) sqlite3_str_appendf(uri, "%%%02x", *c);
        else sqlite3_str_appendchar(uri, 1, (char)*c);
    sqlite3_str_appendall(uri, parameters);
    return sqlite3_str_finish(uri);
}

/* --- Batches ------------------------------------------------------------------------------------------------------ */

adm_status adm_store_begin_batch(adm_store *store, adm_error *err) {
    if (store->in_batch) return ADM_OK;
    if (store->mode != ADM_STORE_WRITE) return adm_fail(err, ADM_EINTERNAL, "%s was opened for reading only", store->path);
    int rc = adm_store_execute(store, "BEGIN IMMEDIATE");
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "starting a batch", err);
    store->in_batch = true;
    return ADM_OK;
}

void adm_store_rollback(adm_store *store) {
    if (!store->in_batch) return;
    store->in_batch = false;
    if (!sqlite3_get_autocommit(store->db)) adm_store_execute(store, "ROLLBACK"); /* a full disk already rolls back by itself */
}

adm_status adm_store_flush(adm_store *store, adm_error *err) {
    if (!store->in_batch) return ADM_OK;
    int rc = adm_store_execute(store, "COMMIT");
    if (rc != SQLITE_OK) {
        adm_status status = adm_store_sqlite_error(store, rc, "committing a batch", err);
        adm_store_rollback(store);
        return status;
    }
    store->in_batch = false;
    return ADM_OK;
}
