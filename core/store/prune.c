/* prune.c: removes older runs, or only their raw samples, and what nothing refers to then. */
#include "core/store/prune.h"

#include "core/store/file/database_internal.h"

/* The rank of each finished run among those it may be compared with, the newest first. The runners of a pool are one machine.
 * A check adds many processes for a few times, which must not push whole runs out. */
static const char rank_sql[] =
    "CREATE TEMP TABLE ranked AS SELECT run_id, row_number() OVER (PARTITION BY command, label, machine,"
    " CASE WHEN machine IS NULL THEN host_name END, CASE WHEN machine IS NULL THEN gpu_uuid ELSE gpu_name END,"
    " only_times IS NULL ORDER BY started_utc DESC, run_id DESC) AS rank FROM main.run"
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
        const char *child = adm_store_text(children, 0, &rc), *column = adm_store_text(children, 1, &rc);
        if (rc != SQLITE_ROW) break;
        sqlite3_str_appendf(text, " UNION SELECT \"%w\" FROM main.\"%w\" WHERE \"%w\" IS NOT NULL", column, child, column);
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

/* temp.gone_run: runs to remove; temp.gone_sample: measurements whose samples go, with the runs or alone. */
static adm_status mark(adm_store *store, const adm_prune_options *o, adm_error *err) {
    adm_status status = step(store, rank_sql, o->keep_label, -1, "ranking runs", err);
    if (status == ADM_OK)
        status = step(store, "CREATE TEMP TABLE gone_run (run_id INTEGER PRIMARY KEY)", NULL, -1, "ranking runs", err);
    if (status == ADM_OK && o->n_keep >= 0)
        status = step(store, "INSERT INTO temp.gone_run SELECT run_id FROM temp.ranked WHERE rank > ?", NULL, o->n_keep,
                      "ranking runs", err);
    if (status == ADM_OK)
        status = step(store, "CREATE TEMP TABLE gone_sample (measurement_id INTEGER PRIMARY KEY)", NULL, -1, "ranking runs",
                      err);
    if (status == ADM_OK)
        status =
            step(store,
                 "INSERT INTO temp.gone_sample SELECT measurement_id FROM main.measurement WHERE run_id IN temp.gone_run OR"
                 " run_id IN (SELECT run_id FROM temp.ranked WHERE rank > ?) ORDER BY 1",
                 NULL, o->n_keep_samples >= 0 ? o->n_keep_samples : INT64_MAX, "looking for old samples", err);
    return status;
}

static void unmark(adm_store *store) {
    adm_store_execute(store, "DROP TABLE IF EXISTS temp.ranked; DROP TABLE IF EXISTS temp.gone_run; DROP TABLE IF EXISTS "
                             "temp.gone_sample; DROP TABLE IF EXISTS temp.kept_sample");
}

/* Where most samples go, the rest is copied and the table emptied at once: a delete row by row is six times as slow. */
static adm_status remove_samples(adm_store *store, int64_t *n, adm_error *err) {
    static const char *const by_copy[] = {
        "CREATE TEMP TABLE kept_sample AS SELECT s.* FROM main.measurement m JOIN main.sample s USING (measurement_id) WHERE"
        " m.measurement_id NOT IN temp.gone_sample",
        "DELETE FROM main.sample", "INSERT INTO main.sample SELECT * FROM temp.kept_sample ORDER BY measurement_id, i"};
    int64_t n_gone = 0, n_kept = 0, n_copied = 0;
    adm_status status = scalar(
        store, "SELECT CAST(total(n) AS INTEGER) FROM main.measurement WHERE measurement_id IN temp.gone_sample", &n_gone, err);
    if (status == ADM_OK)
        status = scalar(store,
                        "SELECT CAST(total(n) AS INTEGER) FROM main.measurement WHERE measurement_id NOT IN temp.gone_sample",
                        &n_kept, err);
    if (status == ADM_OK && n_gone <= n_kept) {
        status = step(store, "DELETE FROM main.sample WHERE measurement_id IN temp.gone_sample", NULL, -1,
                      "removing old samples", err);
        *n = sqlite3_changes64(store->db);
        return status;
    }
    for (size_t i = 0; status == ADM_OK && i < sizeof by_copy / sizeof by_copy[0]; i++) {
        status = step(store, by_copy[i], NULL, -1, "removing old samples", err);
        if (i == 1) *n = sqlite3_changes64(store->db);
        if (i == 2) n_copied = sqlite3_changes64(store->db);
    }
    *n -= n_copied;
    return status;
}

/* Removes the rows that hang on a row of a run that is gone, such as a simulation's metrics; read from the schema. Samples are
 * gone already. */
static adm_status remove_grandchildren(adm_store *store, adm_error *err) {
    sqlite3_stmt *tables = NULL;
    adm_status status = ADM_OK;
    int rc = sqlite3_prepare_v2(store->db,
                                "SELECT s.name, f.\"from\", f.\"table\", f.\"to\" FROM sqlite_schema s, "
                                "pragma_foreign_key_list(s.name) f WHERE s.type = 'table' AND f.on_delete = 'CASCADE' AND "
                                "f.\"table\" NOT IN ('run', 'measurement') AND EXISTS (SELECT 1 FROM "
                                "pragma_foreign_key_list(f.\"table\") p WHERE p.\"table\" = 'run')",
                                -1, &tables, NULL);
    while (status == ADM_OK && rc == SQLITE_OK && (rc = sqlite3_step(tables)) == SQLITE_ROW) {
        const char *text[4];
        for (int i = 0; i < 4; i++) text[i] = adm_store_text(tables, i, &rc);
        if (rc != SQLITE_ROW) break;
        char *sql = sqlite3_mprintf("DELETE FROM main.\"%w\" WHERE \"%w\" NOT IN (SELECT \"%w\" FROM main.\"%w\")", text[0],
                                    text[1], text[3], text[2]);
        status = sql != NULL ? step(store, sql, NULL, -1, "removing old runs", err)
                             : adm_store_sqlite_error(store, SQLITE_NOMEM, "removing old runs", err);
        sqlite3_free(sql);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(tables);
    if (status == ADM_OK && rc != SQLITE_DONE) status = adm_store_sqlite_error(store, rc, "reading the schema", err);
    return status;
}

/* Removes the rows of every table that refers to a run; read from the schema. Samples are gone already. */
static adm_status remove_runs(adm_store *store, int64_t *n, adm_error *err) {
    sqlite3_stmt *children = NULL;
    adm_status status = ADM_OK;
    int rc = sqlite3_prepare_v2(store->db,
                                "SELECT s.name, f.\"from\" FROM sqlite_schema s, pragma_foreign_key_list(s.name) f "
                                "WHERE s.type = 'table' AND f.\"table\" = 'run'",
                                -1, &children, NULL);
    while (status == ADM_OK && rc == SQLITE_OK && (rc = sqlite3_step(children)) == SQLITE_ROW) {
        const char *child = adm_store_text(children, 0, &rc), *column = adm_store_text(children, 1, &rc);
        if (rc != SQLITE_ROW) break;
        char *sql = sqlite3_mprintf("DELETE FROM main.\"%w\" WHERE \"%w\" IN temp.gone_run", child, column);
        status = sql != NULL ? step(store, sql, NULL, -1, "removing old runs", err)
                             : adm_store_sqlite_error(store, SQLITE_NOMEM, "removing old runs", err);
        sqlite3_free(sql);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(children);
    if (status == ADM_OK && rc != SQLITE_DONE) status = adm_store_sqlite_error(store, rc, "reading the schema", err);
    if (status == ADM_OK) status = remove_grandchildren(store, err);
    if (status == ADM_OK)
        status = step(store, "DELETE FROM main.run WHERE run_id IN temp.gone_run", NULL, -1, "removing old runs", err);
    if (status == ADM_OK) *n = sqlite3_changes64(store->db);
    /* A check is known as long as one of its runs is. */
    if (status == ADM_OK)
        status = step(store,
                      "DELETE FROM main.check_row WHERE check_result_id IN (SELECT check_result_id FROM main.check_result WHERE"
                      " check_uuid NOT IN (SELECT check_uuid FROM main.check_run))",
                      NULL, -1, "removing old checks", err);
    if (status == ADM_OK)
        status = step(store, "DELETE FROM main.check_result WHERE check_uuid NOT IN (SELECT check_uuid FROM main.check_run)",
                      NULL, -1, "removing old checks", err);
    return status;
}

/* What would go, without removing anything but runs, whose configurations are then counted. */
static adm_status count_old(adm_store *store, adm_prune_counts *counts, adm_error *err) {
    adm_status status = scalar(store, "SELECT count(*) FROM main.sample WHERE measurement_id IN temp.gone_sample",
                               &counts->n_samples, err);
    if (status == ADM_OK) status = remove_runs(store, &counts->n_runs, err);
    return status == ADM_OK ? orphans(store, "config", "config_id", false, &counts->n_configs, err) : status;
}

static adm_status remove_all(adm_store *store, adm_prune_counts *counts, adm_error *err) {
    adm_status status = remove_samples(store, &counts->n_samples, err);
    if (status == ADM_OK) status = remove_runs(store, &counts->n_runs, err);
    if (status == ADM_OK) status = orphans(store, "config", "config_id", true, &counts->n_configs, err);
    if (status == ADM_OK) status = orphans(store, "trace", "trace_id", true, &counts->n_traces, err);
    return status == ADM_OK ? adm_store_flush(store, err) : status;
}

/* With references unchecked, since a check would search whole tables for each row; every delete names all that hangs on it. */
adm_status adm_store_prune(adm_store *store, const adm_prune_options *o, bool dry_run, adm_prune_counts *counts,
                           adm_error *err) {
    *counts = (adm_prune_counts){0};
    adm_error why = {0};
    adm_status status = file_bytes(store, &counts->bytes_before, err);
    counts->bytes_after = counts->bytes_before;
    if (status != ADM_OK) return status;
    adm_store_execute(store, "PRAGMA foreign_keys = OFF");
    status = adm_store_begin_batch(store, err);
    if (status == ADM_OK) status = mark(store, o, err);
    if (status == ADM_OK) status = dry_run ? count_old(store, counts, err) : remove_all(store, counts, err);
    adm_store_rollback(store);
    unmark(store);
    adm_store_execute(store, "PRAGMA foreign_keys = ON");
    if (status != ADM_OK || dry_run) return status;
    status = step(store, "VACUUM", NULL, -1, "shrinking it", &why);
    if (status == ADM_OK) return file_bytes(store, &counts->bytes_after, err);
    return adm_fail(
        err, status,
        "%.600s. It is as long as before, but removed are %lld runs, %lld samples and %lld configurations; the next "
        "`adamas db gc` shrinks it",
        why.text, (long long)counts->n_runs, (long long)counts->n_samples, (long long)counts->n_configs);
}

adm_status adm_store_prune_count(adm_store *store, const adm_prune_options *o, int64_t *n_left, adm_error *err) {
    adm_status status = adm_store_begin_batch(store, err);
    if (status == ADM_OK) status = mark(store, o, err);
    if (status == ADM_OK)
        status = scalar(store, "SELECT (SELECT count(*) FROM main.run) - (SELECT count(*) FROM temp.gone_run)", n_left, err);
    adm_store_rollback(store);
    unmark(store);
    return status;
}
