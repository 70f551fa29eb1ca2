/* merge_tables.c: what the schema says of its tables. */
#include "core/store/merge/merge_tables.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/store/file/database_internal.h"
#include "core/store/file/migrate.h"
#include "core/store/file/schema_check.h"
#include "core/store/merge/merge_sound.h"

static int find(const adm_merge_table *tables, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(tables[i].name, name) == 0) return i;
    return -1;
}

/* Whether rows of this table belong to runs, of which it may be the one. */
static bool is_owned(const adm_merge_table *tables, int parent) {
    return parent >= 0 && (tables[parent].owner >= 0 || strcmp(tables[parent].name, "run") == 0);
}

/* Whether a CHECK begins with "(NAME IN ('". */
static bool is_listed(const adm_merge_table *t, const char *name) {
    char start[80];
    sqlite3_snprintf(sizeof start, start, "(%s IN ('", name);
    return strstr(t->checks, start) != NULL;
}

/* Columns with the tables they refer to, which are among the first `i`. */
static int describe(sqlite3 *schema, adm_merge_table *tables, int i) {
    adm_merge_table *t = &tables[i];
    sqlite3_stmt *row = NULL;
    int n_keys = 0;
    int rc = sqlite3_prepare_v2(schema,
                                "SELECT c.name, c.pk, ifnull(f.\"table\", ''), upper(c.type), c.\"notnull\" FROM "
                                "pragma_table_info(?1) c "
                                "LEFT JOIN pragma_foreign_key_list(?1) f ON f.\"from\" = c.name ORDER BY c.cid",
                                -1, &row, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_bind_text(row, 1, t->name, -1, SQLITE_STATIC);
    t->id = t->owner = -1;
    while (rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        if (t->n_columns == ADM_MERGE_MAX_COLUMNS) break;
        adm_merge_column *c = &t->column[t->n_columns];
        const char *name = adm_store_text(row, 0, &rc), *parent = adm_store_text(row, 2, &rc),
                   *type = adm_store_text(row, 3, &rc);
        if (rc != SQLITE_ROW) break;
        sqlite3_snprintf(sizeof c->name, c->name, "%s", name);
        c->parent = find(tables, i, parent);
        c->is_key = sqlite3_column_int(row, 1) > 0;
        c->is_text = strcmp(type, "TEXT") == 0;
        c->is_real = strcmp(type, "REAL") == 0;
        c->is_never_null = sqlite3_column_int(row, 4) != 0 || c->is_key;
        c->is_listed = c->is_text && is_listed(t, c->name);
        n_keys += c->is_key;
        if (c->is_key && c->parent < 0 && strcmp(type, "INTEGER") == 0) t->id = t->n_columns;
        if (t->owner < 0 && is_owned(tables, c->parent)) t->owner = t->n_columns;
        t->n_columns++;
        rc = SQLITE_OK;
    }
    sqlite3_finalize(row);
    if (n_keys != 1) t->id = -1;
    return rc == SQLITE_DONE ? SQLITE_OK : rc == SQLITE_ROW ? SQLITE_TOOBIG : rc;
}

adm_status adm_merge_tables_read(adm_store *store, const adm_schema *schema, adm_merge_table **tables, int *n, adm_error *err) {
    sqlite3_stmt *names = NULL;
    *n = 0;
    adm_status status = adm_alloc(tables, ADM_MERGE_MAX_TABLES, sizeof **tables, "the tables of a merge", err);
    if (status != ADM_OK) return status;
    int rc = sqlite3_prepare_v2(schema->db,
                                "SELECT name, sql FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
                                "ORDER BY rowid",
                                -1, &names, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(names)) == SQLITE_ROW) {
        if (*n == ADM_MERGE_MAX_TABLES) break;
        adm_merge_table *t = &(*tables)[*n];
        const char *name = adm_store_text(names, 0, &rc), *sql = adm_store_text(names, 1, &rc);
        if (rc != SQLITE_ROW || !adm_merge_read_checks(sql, t->checks, ADM_MERGE_CHECKS_BYTES)) break;
        sqlite3_snprintf(sizeof t->name, t->name, "%s", name);
        rc = describe(schema->db, *tables, *n);
        ++*n;
    }
    sqlite3_finalize(names);
    for (int i = 0; rc == SQLITE_DONE && i < *n; i++) /* of one that is neither one cannot say whose rows it has */
        if ((*tables)[i].owner < 0 && (*tables)[i].id < 0) rc = SQLITE_SCHEMA;
    if (rc == SQLITE_DONE) return ADM_OK;
    adm_free(tables);
    return adm_store_sqlite_error(store, rc == SQLITE_ROW ? SQLITE_TOOBIG : rc, "reading the schema of a merge", err);
}

bool adm_merge_is_plain(const adm_merge_table *tables, const adm_merge_table *t) {
    bool is_plain = t->owner >= 0 && t->id < 0;
    for (int i = 0; i < t->n_columns; i++) is_plain &= t->column[i].parent < 0 || tables[t->column[i].parent].owner >= 0;
    return is_plain;
}
