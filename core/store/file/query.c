/* query.c: reading the database, row by row. */
#include "core/store/file/query.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/store/file/database_internal.h"

struct adm_query {
    adm_store *store;
    sqlite3_stmt *statement;
};

/* Binds the list to ?1, ?2, ...; the letters must be as many as the parameters. */
static adm_status bind_all(adm_query *query, const char *letters, va_list values, adm_error *err) {
    int n = sqlite3_bind_parameter_count(query->statement);
    if ((size_t)n != strlen(letters))
        return adm_fail(err, ADM_EINTERNAL, "a query has %d parameters and its list of types is \"%s\": %s", n, letters,
                        sqlite3_sql(query->statement));
    int rc = SQLITE_OK;
    for (int i = 1; i <= n && rc == SQLITE_OK; i++) {
        switch (letters[i - 1]) {
        case 'i': rc = sqlite3_bind_int64(query->statement, i, va_arg(values, int64_t)); break;
        case 'd': rc = sqlite3_bind_double(query->statement, i, va_arg(values, double)); break;
        case 's': rc = sqlite3_bind_text(query->statement, i, va_arg(values, const char *), -1, SQLITE_TRANSIENT); break;
        default: return adm_fail(err, ADM_EINTERNAL, "a query's list of types is \"%s\": each must be i, d or s", letters);
        }
    }
    return rc == SQLITE_OK ? ADM_OK : adm_store_sqlite_error(query->store, rc, "preparing a query", err);
}

/* A query that is not bound yet. */
static adm_status prepare(adm_store *store, const char *sql, adm_query **out, adm_error *err) {
    *out = NULL;
    adm_query *query = NULL;
    adm_status status = adm_alloc(&query, 1, sizeof *query, "a query", err);
    if (status != ADM_OK) return status;
    query->store = store;
    const char *rest = "";
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &query->statement, &rest);
    if (rc != SQLITE_OK) status = adm_store_sqlite_error(store, rc, "preparing a query", err);
    else if (query->statement == NULL || rest[strspn(rest, " \t\r\n;")] != '\0' || !sqlite3_stmt_readonly(query->statement))
        status = adm_fail(err, ADM_EINTERNAL, "a query must be one SELECT: %s", sql);
    if (status == ADM_OK) *out = query;
    else adm_query_close(&query);
    return status;
}

adm_status adm_query_open(adm_store *store, const char *sql, adm_query **out, adm_error *err, const char *bind, ...) {
    adm_status status = prepare(store, sql, out, err);
    if (status != ADM_OK) return status;
    va_list values;
    va_start(values, bind);
    status = bind_all(*out, bind, values, err);
    va_end(values);
    if (status != ADM_OK) adm_query_close(out);
    return status;
}

adm_status adm_query_open_values(adm_store *store, const char *sql, const adm_value *values, size_t n_values, adm_query **out,
                                 adm_error *err) {
    adm_status status = prepare(store, sql, out, err);
    if (status != ADM_OK) return status;
    int rc = adm_store_bind_values((*out)->statement, values, n_values);
    if (rc != SQLITE_OK) status = adm_store_sqlite_error(store, rc, "preparing a query", err);
    if (status != ADM_OK) adm_query_close(out);
    return status;
}

adm_status adm_query_next(adm_query *query, bool *row, adm_error *err) {
    int rc = sqlite3_step(query->statement);
    /* Texts are converted here, where it can be told that memory does not suffice. */
    for (int i = 0, n = rc == SQLITE_ROW ? sqlite3_column_count(query->statement) : 0; i < n; i++)
        if (sqlite3_column_type(query->statement, i) == SQLITE_TEXT) adm_store_text(query->statement, i, &rc);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW || rc == SQLITE_DONE) return ADM_OK;
    return adm_store_sqlite_error(query->store, rc, "reading", err);
}

bool adm_query_is_null(const adm_query *query, int column) {
    return sqlite3_column_type(query->statement, column) == SQLITE_NULL;
}

int64_t adm_query_int(const adm_query *query, int column) { return sqlite3_column_int64(query->statement, column); }

double adm_query_double(const adm_query *query, int column) { return sqlite3_column_double(query->statement, column); }

const char *adm_query_text(const adm_query *query, int column) {
    int rc = SQLITE_OK; /* of a number as text; SQLite keeps it, and the next step returns it */
    return adm_store_text(query->statement, column, &rc);
}

int adm_query_n_columns(const adm_query *query) { return sqlite3_column_count(query->statement); }

const char *adm_query_name(const adm_query *query, int column) { return sqlite3_column_name(query->statement, column); }

char adm_query_type(const adm_query *query, int column) {
    switch (sqlite3_column_type(query->statement, column)) {
    case SQLITE_INTEGER: return 'i';
    case SQLITE_FLOAT: return 'd';
    case SQLITE_NULL: return 'n';
    default: return 's';
    }
}

void adm_query_close(adm_query **address) {
    adm_query *query = *address;
    if (query == NULL) return;
    sqlite3_finalize(query->statement);
    adm_free(address);
}
