/* bounds.c: how large the values of imported and merged rows may be. */
#include "core/store/file/bounds.h"

#include <math.h>
#include <string.h>

#include "core/base/printable.h"

static const struct {
    const char *column;
    int64_t low, high;
} numbers[] = {
    {"head", 0, ADM_STORE_MAX_HEAD},
    {"layer", 0, ADM_STORE_MAX_LAYER},
    {"n_layers", 0, ADM_STORE_MAX_LAYER + 1},
    {"n_q_heads", 0, ADM_STORE_MAX_HEAD + 1},
    {"n_kv_heads", 0, ADM_STORE_MAX_HEAD + 1},
    {"head_dim", 0, 65536},
    {"seq_len", 0, (int64_t)1 << 40},
    {"budget", 0, (int64_t)1 << 40},
    {"batch", 0, 1 << 24},
    {"n_tokens", 0, (int64_t)1 << 40},
    {"n_steps", 0, (int64_t)1 << 40},
    {"page_size", 0, 1 << 30},
};

static const int64_t LARGEST = (int64_t)1 << 53; /* what JSON and a double hold exactly */

static bool is_free(const char *column) { return strcmp(column, "seed") == 0; } /* any 64 bits */

adm_bounds adm_bounds_of(const char *column) {
    adm_bounds bounds = {column, is_free(column) ? INT64_MIN : -LARGEST, is_free(column) ? INT64_MAX : LARGEST};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(numbers[i].column, column) != 0) continue;
        bounds.low = numbers[i].low;
        bounds.high = numbers[i].high;
    }
    return bounds;
}

adm_status adm_bounds_check(const adm_bounds *bounds, const adm_value *value, adm_error *err) {
    const char *column = bounds->column;
    switch (value->type) {
    case 'i':
        if (value->i >= bounds->low && value->i <= bounds->high) return ADM_OK;
        return adm_fail(err, ADM_EINPUT, "%s is %lld, outside %lld to %lld", column, (long long)value->i,
                        (long long)bounds->low, (long long)bounds->high);
    case 'd': return isfinite(value->d) ? ADM_OK : adm_fail(err, ADM_EINPUT, "%s is not a finite number", column);
    case 's':
        if (value->s == NULL) return ADM_OK;
        if (strlen(value->s) > ADM_STORE_MAX_TEXT_BYTES)
            return adm_fail(err, ADM_EINPUT, "%s has %zu bytes, and at most %d are taken", column, strlen(value->s),
                            ADM_STORE_MAX_TEXT_BYTES);
        return adm_is_utf8(value->s) ? ADM_OK : adm_fail(err, ADM_EINPUT, "%s is not UTF-8", column);
    default: return ADM_OK;
    }
}

enum { MAX_COLUMNS = 64 };

/* The value in a column of the present row, for the check above; a text with a NUL in it is none. */
static adm_status check_column(sqlite3_stmt *row, int column, const adm_bounds *l, adm_error *err) {
    adm_value value = {.type = 'n'};
    switch (sqlite3_column_type(row, column)) {
    case SQLITE_INTEGER:
        value = (adm_value){.type = 'i', .i = sqlite3_column_int64(row, column)};
        if (value.i >= l->low && value.i <= l->high) return ADM_OK;
        break;
    case SQLITE_FLOAT:
        value = (adm_value){.type = 'd', .d = sqlite3_column_double(row, column)};
        if (isfinite(value.d)) return ADM_OK;
        break;
    case SQLITE_TEXT:
        value = (adm_value){.type = 's', .s = (const char *)sqlite3_column_text(row, column)};
        if (value.s == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while checking values");
        if (strlen(value.s) != (size_t)sqlite3_column_bytes(row, column))
            return adm_fail(err, ADM_EINPUT, "%s holds a zero byte", sqlite3_column_name(row, column));
        break;
    case SQLITE_BLOB: return adm_fail(err, ADM_EINPUT, "%s is no text and no number", sqlite3_column_name(row, column));
    default: return ADM_OK;
    }
    return adm_bounds_check(l, &value, err);
}

adm_status adm_bounds_check_table(adm_store *store, const char *database, const char *table, const char *path, adm_error *err) {
    sqlite3_stmt *row = NULL;
    adm_bounds limit[MAX_COLUMNS];
    adm_error why;
    adm_status status = ADM_OK;
    int64_t n = 0;
    char *sql = sqlite3_mprintf("SELECT * FROM \"%w\".\"%w\"", database, table);
    int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(store->db, sql, -1, &row, NULL);
    const int n_columns = rc == SQLITE_OK ? sqlite3_column_count(row) : 0;
    if (n_columns > MAX_COLUMNS) rc = SQLITE_TOOBIG;
    for (int i = 0; rc == SQLITE_OK && i < n_columns; i++) limit[i] = adm_bounds_of(sqlite3_column_name(row, i));
    while (rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        n++;
        for (int i = 0; i < n_columns && status == ADM_OK; i++) status = check_column(row, i, &limit[i], &why);
        if (status == ADM_EINPUT)
            adm_fail(err, status, "%s: row %lld of the table %s: %s", path, (long long)n, table, why.text);
        else if (status != ADM_OK) adm_fail(err, status, "%s: %s", path, why.text);
        if (status != ADM_OK) break;
        rc = SQLITE_OK;
    }
    if (status == ADM_OK && rc != SQLITE_DONE) status = adm_store_sqlite_error(store, rc, "checking values", err);
    sqlite3_finalize(row);
    sqlite3_free(sql);
    return status;
}
