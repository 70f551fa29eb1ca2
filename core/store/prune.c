/* prune.c: removes older runs, or only their raw samples, and what nothing refers to then. */
#include "core/store/prune.h"

#include "core/store/database_internal.h"

/* The rank of each finished run among those it may be compared with, the newest first. */
static const char rank_sql[] =
    "CREATE TEMP TABLE ranked AS SELECT run_id, row_number() OVER (PARTITION BY command, label, host_name, ifnull(gpu_uuid, '')"
    " ORDER BY started_utc DESC, run_id DESC) AS rank FROM main.run"
    " WHERE status <> 'running' AND label NOT LIKE 'recorded:%' AND label IS NOT ?1";

static adm_status step(adm_store *store, const char *sql, const char *text, int64_t number, const char *doing, adm_error *err) {
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK && sqlite3_bind_parameter_count(statement) > 0)
        rc = text != NULL || number < 0 ? sqlite3_bind_text(statement, 1, text, -1, SQLITE_TRANSIENT)
                                        : sqlite3_bind_int64(statement, 1, number);
    if (rc == SQLITE_OK) rc = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? ADM_OK : adm_store_sqlite_error(store, rc, doing, err);
}

static adm_status scalar(adm_store *store, const char *sql, int64_t *value, adm_error *err) {
    int rc = adm_store_scalar(store, sql, 0, value);
    return rc == SQLITE_OK ? ADM_OK : adm_store_sqlite_error(store, rc, "counting", err);
}

/* Bytes of the file if it were closed now. */
static adm_status file_bytes(adm_store *store, int64_t *bytes, adm_error *err) {
    return scalar(store, "SELECT p.page_count * s.page_size FROM pragma_page_count() p, pragma_page_size() s", bytes, err);
}

/* "config_id NOT IN (SELECT ... UNION ...)" over every table that refers to `table`; read from the schema, so that a
 * table that a later version adds is not forgotten. */
static char *unreferenced(adm_store *store, const char *table, const char *id) {
    sqlite3_stmt *children = NULL;
    sqlite3_str *text = sqlite3_str_new(store->db);
    sqlite3_str_appendf(text, "%s NOT IN (SELECT NULL WHERE 0", id);
    int rc = sqlite3_prepare_v2(store->db,
                                "SELECT s.name, f.\"from\" FROM sqlite_schema s, pragma_foreign_key_list(s.name) f "
                                "WHERE s.type = 'table' AND f.\"table\" = ?",
                                -1, &children, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_bind_text(children, 1, table, -1, SQLITE_STATIC);
    while (rc == SQLITE_OK && (rc = sqlite3_step(children)) == SQLITE_ROW) {
        sqlite3_str_appendf(text, " UNION SELECT \"%w\" FROM main.\"%w\" WHERE \"%w\" IS NOT NULL",
                            sqlite3_column_text(children, 1), sqlite3_column_text(children, 0),
                            sqlite3_column_text(children, 1));
        rc = SQLITE_OK;
    }
    sqlite3_finalize(children);
    sqlite3_str_appendchar(text, 1, ')');
    char *sql = sqlite3_str_finish(text);
    if (rc == SQLITE_DONE) return sql;
    sqlite3_free(sql);
    return NULL;
}

/* Counts or removes the rows of a shared table that nothing refers to. */
static adm_status orphans(adm_store *store, const char *table, const char *id, bool remove, int64_t *n, adm_error *err) {
    char *condition = unreferenced(store, table, id);
    char *sql = condition == NULL
                    ? NULL
                    : sqlite3_mprintf("%s FROM main.\"%w\" WHERE %s", remove ? "DELETE" : "SELECT count(*)", table, condition);
    sqlite3_free(condition);
    if (sql == NULL) return adm_store_sqlite_error(store, SQLITE_NOMEM, "looking for unused rows", err);
    adm_status status = remove ? step(store, sql, NULL, -1, "removing unused rows", err) : scalar(store, sql, n, err);
    if (remove && status == ADM_OK) *n = sqlite3_changes64(store->db);
    sqlite3_free(sql);
    return status;
}

/* Runs and samples, in the batch. */
static adm_status remove_old(adm_store *store, const adm_prune_options *o, adm_prune_counts *counts, adm_error *err) {
    int64_t before = 0, after = 0;
    adm_status status = scalar(store, "SELECT count(*) FROM main.sample", &before, err);
    if (status == ADM_OK && o->n_keep >= 0) {
        status = step(store, "DELETE FROM main.run WHERE run_id IN (SELECT run_id FROM temp.ranked WHERE rank > ?)", NULL,
                      o->n_keep, "removing old runs", err);
        if (status == ADM_OK) counts->n_runs = sqlite3_changes64(store->db);
    }
    if (status == ADM_OK && o->n_keep_samples >= 0)
        status = step(store,
                      "DELETE FROM main.sample WHERE measurement_id IN (SELECT measurement_id FROM main.measurement WHERE "
                      "run_id IN (SELECT run_id FROM temp.ranked WHERE rank > ?))",
                      NULL, o->n_keep_samples, "removing old samples", err);
    if (status == ADM_OK) status = scalar(store, "SELECT count(*) FROM main.sample", &after, err);
    if (status == ADM_OK) counts->n_samples = before - after;
    return status;
}

/* With references unchecked, since a check would search whole tables for each row; the conditions are the check. */
static adm_status remove_orphans(adm_store *store, adm_prune_counts *counts, adm_error *err) {
    sqlite3_exec(store->db, "PRAGMA foreign_keys = OFF", NULL, NULL, NULL);
    adm_status status = adm_store_begin_batch(store, err);
    if (status == ADM_OK) status = orphans(store, "config", "config_id", true, &counts->n_configs, err);
    if (status == ADM_OK) status = orphans(store, "trace", "trace_id", true, &counts->n_traces, err);
    if (status == ADM_OK) status = adm_store_flush(store, err);
    adm_store_rollback(store);
    sqlite3_exec(store->db, "PRAGMA foreign_keys = ON", NULL, NULL, NULL);
    return status;
}

adm_status adm_store_prune(adm_store *store, const adm_prune_options *o, bool dry_run, adm_prune_counts *counts,
                           adm_error *err) {
    *counts = (adm_prune_counts){0};
    adm_status status = file_bytes(store, &counts->bytes_before, err);
    counts->bytes_after = counts->bytes_before;
    if (status == ADM_OK) status = adm_store_begin_batch(store, err);
    if (status != ADM_OK) return status;
    status = step(store, rank_sql, o->keep_label, -1, "ranking runs", err);
    if (status == ADM_OK) status = remove_old(store, o, counts, err);
    if (status == ADM_OK && dry_run) {
        status = orphans(store, "config", "config_id", false, &counts->n_configs, err);
        adm_store_rollback(store);
        return status;
    }
    if (status == ADM_OK) status = step(store, "DROP TABLE temp.ranked", NULL, -1, "ranking runs", err);
    if (status == ADM_OK) status = adm_store_flush(store, err);
    adm_store_rollback(store);
    if (status == ADM_OK) status = remove_orphans(store, counts, err);
    if (status == ADM_OK) status = step(store, "VACUUM", NULL, -1, "shrinking it", err);
    return status == ADM_OK ? file_bytes(store, &counts->bytes_after, err) : status;
}
