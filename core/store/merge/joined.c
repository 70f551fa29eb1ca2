/* joined.c: the joined run of a sweep. */
#include "core/store/merge/joined.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/stats/stats.h"
#include "core/store/file/database_internal.h"
#include "core/store/run.h"

static adm_value number(int64_t value) { return (adm_value){.type = 'i', .i = value}; }

/* --- The run ------------------------------------------------------------------------------------------------------ */

adm_status adm_joined_find(adm_store *store, const char *sweep_id, int64_t n_shards, int64_t *run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *run_id = 0;
    adm_status status = adm_query_open(
        store, "SELECT run_id FROM run WHERE sweep_id = ? AND shard IS NULL AND n_shards = ? ORDER BY run_id DESC LIMIT 1",
        &query, err, "si", sweep_id, n_shards);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) *run_id = adm_query_int(query, 0);
    adm_query_close(&query);
    return status;
}

/* The command line as it would be in one piece. */
#define WITHOUT_SHARD                                                                                             \
    "(SELECT json_group_array(e.value) FROM json_each(o.argv) e WHERE e.value <> '--shard' AND e.value NOT LIKE " \
    "'--shard=%' AND NOT EXISTS (SELECT 1 FROM json_each(o.argv) p WHERE p.key = e.key - 1 AND p.value = '--shard'))"

static int insert_run(adm_store *store, const char *uuid, int64_t shard_run_id) {
    sqlite3_str *sql = sqlite3_str_new(store->db), *values = sqlite3_str_new(store->db);
    sqlite3_stmt *names = NULL;
    int rc = sqlite3_prepare_v2(store->db, "SELECT name FROM pragma_table_info('run')", -1, &names, NULL), n = 0;
    sqlite3_str_appendall(sql, "INSERT INTO main.run (");
    while (rc == SQLITE_OK && (rc = sqlite3_step(names)) == SQLITE_ROW) {
        const char *name = adm_store_text(names, 0, &rc);
        if (rc != SQLITE_ROW) break;
        rc = SQLITE_OK;
        if (strcmp(name, "run_id") == 0 || strcmp(name, "shard") == 0) continue;
        sqlite3_str_appendf(sql, "%s\"%w\"", n > 0 ? ", " : "", name);
        if (n++ > 0) sqlite3_str_appendall(values, ", ");
        if (strcmp(name, "run_uuid") == 0) sqlite3_str_appendall(values, "?1");
        else if (strcmp(name, "status") == 0) sqlite3_str_appendall(values, "'running'");
        else if (strcmp(name, "argv") == 0) sqlite3_str_appendall(values, WITHOUT_SHARD);
        else sqlite3_str_appendf(values, "o.\"%w\"", name);
    }
    sqlite3_finalize(names);
    char *list = sqlite3_str_finish(values);
    sqlite3_str_appendf(sql, ") SELECT %s FROM other.run o WHERE o.run_id = ?2", list);
    sqlite3_free(list);
    char *text = sqlite3_str_finish(sql);
    const adm_value bound[] = {{.type = 's', .s = uuid}, number(shard_run_id)};
    if (rc == SQLITE_DONE) rc = text != NULL ? adm_store_change(store, text, bound, 2) : SQLITE_NOMEM;
    sqlite3_free(text);
    return rc;
}

adm_status adm_joined_begin(adm_store *store, const char *path, int64_t shard_run_id, int64_t *run_id, adm_error *err) {
    char uuid[37];
    adm_status status = adm_new_uuid(uuid, err);
    if (status != ADM_OK) return status;
    char *uri = adm_store_uri(path, "?mode=ro"), *attach = uri != NULL ? sqlite3_mprintf("ATTACH %Q AS other", uri) : NULL;
    int rc = attach != NULL ? adm_store_execute(store, attach) : SQLITE_NOMEM;
    sqlite3_free(uri);
    sqlite3_free(attach);
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "reading a shard's database", err);
    status = adm_store_begin_batch(store, err);
    if (status == ADM_OK && (rc = insert_run(store, uuid, shard_run_id)) != SQLITE_OK)
        status = adm_store_sqlite_error(store, rc, "beginning a joined run", err);
    *run_id = sqlite3_last_insert_rowid(store->db);
    if (status == ADM_OK) status = adm_store_flush(store, err);
    else adm_store_rollback(store);
    rc = adm_store_detach(store);
    return status == ADM_OK && rc != SQLITE_OK ? adm_store_sqlite_error(store, rc, "closing a shard's database", err) : status;
}

/* --- Parts, inside of a merge ------------------------------------------------------------------------------------- */

/* What the shards in temp.part left in their joined runs. Foreign keys are off: nothing goes by itself. */
static const char remove_sql[] =
    "CREATE TEMP TABLE map_gone AS SELECT p.new AS run_id, p.shard FROM temp.part p JOIN main.shard s ON s.run_id = p.new AND "
    "s.shard = p.shard;"
    "DELETE FROM main.candidate WHERE (run_id, config_id, stage) IN (SELECT m.run_id, m.config_id, m.stage FROM "
    "main.measurement m JOIN temp.map_gone g ON g.run_id = m.run_id AND g.shard = m.of_shard);"
    "DELETE FROM main.sample WHERE measurement_id IN (SELECT m.measurement_id FROM main.measurement m JOIN temp.map_gone g ON "
    "g.run_id = m.run_id AND g.shard = m.of_shard);"
    "DELETE FROM main.measurement WHERE (run_id, of_shard) IN (SELECT run_id, shard FROM temp.map_gone);"
    "DELETE FROM main.sample WHERE EXISTS (SELECT 1 FROM temp.map_gone) AND (measurement_id, i) IN (SELECT m.measurement_id, "
    "g.shard FROM temp.map_gone g JOIN main.measurement m ON m.run_id = g.run_id AND m.of_shard IS NULL);"
    "DELETE FROM main.simulation_metric WHERE simulation_id IN (SELECT s.simulation_id FROM main.simulation s JOIN "
    "temp.map_gone g ON g.run_id = s.run_id AND g.shard = s.of_shard);"
    "DELETE FROM main.prediction WHERE simulation_id IN (SELECT s.simulation_id FROM main.simulation s JOIN temp.map_gone g ON "
    "g.run_id = s.run_id AND g.shard = s.of_shard);"
    "DELETE FROM main.simulation WHERE (run_id, of_shard) IN (SELECT run_id, shard FROM temp.map_gone);"
    "DELETE FROM main.event WHERE (run_id, of_shard) IN (SELECT run_id, shard FROM temp.map_gone);"
    "DELETE FROM main.activity WHERE (run_id, of_shard) IN (SELECT run_id, shard FROM temp.map_gone);"
    "DELETE FROM main.shard WHERE (run_id, shard) IN (SELECT run_id, shard FROM temp.map_gone);"
    "DROP TABLE temp.map_gone";

static const char add_shard_sql[] =
    "INSERT INTO main.shard (run_id, shard, run_uuid, sweep_id, sweep_build, git_commit, started_utc, "
    "finished_utc, elapsed_ns, "
    "host_name, cpu_model, gpu_name, gpu_uuid, driver_version, n_rows) SELECT p.new, p.shard, o.run_uuid, o.sweep_id, "
    "o.sweep_build, o.git_commit, o.started_utc, o.finished_utc, o.elapsed_ns, o.host_name, o.cpu_model, o.gpu_name, "
    "o.gpu_uuid, o.driver_version, (SELECT count(*) FROM other.measurement m WHERE m.run_id = o.run_id) FROM temp.part p JOIN "
    "other.run o ON o.run_id = p.old";

adm_status adm_joined_take(adm_store *store, const adm_merge_part *parts, size_t n, adm_error *err) {
    int64_t n_gone = 0;
    int rc = adm_store_execute(store, "CREATE TEMP TABLE part (old INTEGER PRIMARY KEY, new INTEGER NOT NULL, shard INTEGER "
                                      "NOT NULL)");
    for (size_t i = 0; rc == SQLITE_OK && i < n; i++) {
        const adm_value values[] = {number(parts[i].run_id), number(parts[i].joined_id)};
        rc = adm_store_change(store, "INSERT INTO temp.part SELECT run_id, ?2, shard FROM other.run WHERE run_id = ?1", values,
                              2);
    }
    if (rc == SQLITE_OK)
        rc = adm_store_scalar(
            store, "SELECT count(*) FROM temp.part p JOIN main.shard s ON s.run_id = p.new AND s.shard = p.shard", 0, &n_gone);
    if (rc == SQLITE_OK && n_gone > 0) rc = adm_store_execute(store, remove_sql);
    if (rc == SQLITE_OK) rc = adm_store_execute(store, add_shard_sql);
    return rc == SQLITE_OK ? ADM_OK : adm_store_sqlite_error(store, rc, "taking the parts of a sweep", err);
}

int adm_joined_map(adm_store *store) {
    return adm_store_execute(store, "INSERT INTO temp.map_run SELECT old, new FROM temp.part");
}

/* A row per figure, by the first shard that has it; then each shard's value as a sample of it. */
static const char devices_sql[] =
    "INSERT OR IGNORE INTO main.measurement (run_id, config_id, source, stage, layer, head, metric_id, n, mean, min, p01, p05, "
    "p10, median, p90, p95, p99, max, status, reason) SELECT p.new, c.new, o.source, o.stage, o.layer, o.head, k.new, o.n, "
    "o.mean, o.min, o.p01, o.p05, o.p10, o.median, o.p90, o.p95, o.p99, o.max, o.status, o.reason FROM temp.part p JOIN "
    "other.measurement o ON o.run_id = p.old JOIN other.config x ON x.config_id = o.config_id AND x.policy = 'device' JOIN "
    "temp.map_config c ON c.old = o.config_id JOIN temp.map_metric k ON k.old = o.metric_id;"
    "INSERT OR REPLACE INTO main.sample (measurement_id, i, value) SELECT n.measurement_id, p.shard, o.median FROM temp.part p "
    "JOIN other.measurement o ON o.run_id = p.old AND o.status = 'ok' JOIN other.config x ON x.config_id = o.config_id AND "
    "x.policy = 'device' JOIN temp.map_config c ON c.old = o.config_id JOIN temp.map_metric k ON k.old = o.metric_id JOIN "
    "main.measurement n ON n.run_id = p.new AND n.config_id = c.new AND n.source = o.source AND ifnull(n.stage, '') = "
    "ifnull(o.stage, '') AND n.metric_id = k.new AND ifnull(n.layer, -1) = ifnull(o.layer, -1) AND ifnull(n.head, -1) = "
    "ifnull(o.head, -1)";

adm_status adm_joined_devices(adm_store *store, adm_error *err) {
    const int rc = adm_store_execute(store, devices_sql);
    return rc == SQLITE_OK ? ADM_OK : adm_store_sqlite_error(store, rc, "adding a shard's device", err);
}

/* --- What follows from the parts ---------------------------------------------------------------------------------- */

/* One figure of the device: the distribution over the shards that have it. */
static adm_status summarise(adm_store *store, int64_t measurement_id, adm_error *err) {
    sqlite3_stmt *row = NULL;
    double *values = NULL;
    size_t n = 0;
    int64_t n_samples = 0;
    char sql[128];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM sample WHERE measurement_id = %" PRId64, measurement_id);
    int rc = adm_store_scalar(store, sql, 0, &n_samples);
    adm_status status = adm_alloc(&values, (size_t)n_samples, sizeof *values, "figures of shards", err);
    snprintf(sql, sizeof sql, "SELECT value FROM sample WHERE measurement_id = %" PRId64 " ORDER BY i", measurement_id);
    if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(store->db, sql, -1, &row, NULL);
    while (status == ADM_OK && rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW && n < (size_t)n_samples) {
        values[n++] = sqlite3_column_double(row, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(row);
    if (rc == SQLITE_DONE) rc = SQLITE_OK;
    if (status == ADM_OK && rc == SQLITE_OK && n > 0) {
        const adm_distribution d = adm_distribution_of(values, n);
        const double figures[] = {d.mean, d.min, d.p01, d.p05, d.p10, d.median, d.p90, d.p95, d.p99, d.max};
        adm_value bound[12] = {number((int64_t)n)};
        for (int i = 0; i < 10; i++) bound[i + 1] = (adm_value){.type = 'd', .d = figures[i]};
        bound[11] = number(measurement_id);
        rc = adm_store_change(
            store,
            "UPDATE measurement SET n = ?, mean = ?, min = ?, p01 = ?, p05 = ?, p10 = ?, median = ?, p90 = ?, p95 = ?, "
            "p99 = ?, max = ?, status = 'ok', reason = NULL WHERE measurement_id = ?",
            bound, 12);
    }
    adm_free(&values);
    if (status == ADM_OK && rc != SQLITE_OK) status = adm_store_sqlite_error(store, rc, "summarising a sweep's devices", err);
    return status;
}

static adm_status summarise_devices(adm_store *store, int64_t run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status =
        adm_query_open(store,
                       "SELECT m.measurement_id FROM measurement m WHERE m.run_id = ? AND m.config_id IN (SELECT "
                       "config_id FROM config WHERE policy = 'device')",
                       &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        status = summarise(store, adm_query_int(query, 0), err);
    adm_query_close(&query);
    return status;
}

/* "3, 7-9" of those that are not there. Returns how many there are. */
static adm_status list_missing(adm_store *store, int64_t run_id, int64_t n_shards, char *text, size_t text_bytes, int64_t *n,
                               adm_error *err) {
    adm_query *query = NULL;
    bool row = true;
    int64_t next = 1;
    size_t used = 0;
    *n = 0;
    text[0] = '\0';
    adm_status status = adm_query_open(store, "SELECT shard FROM shard WHERE run_id = ? ORDER BY shard", &query, err, "i",
                                       run_id);
    while (status == ADM_OK && row) {
        status = adm_query_next(query, &row, err);
        const int64_t there = status == ADM_OK && row ? adm_query_int(query, 0) : n_shards + 1;
        if (there > next && used + 64 < text_bytes) {
            used += (size_t)snprintf(text + used, text_bytes - used, "%s%" PRId64, used > 0 ? ", " : "", next);
            if (there > next + 1) used += (size_t)snprintf(text + used, text_bytes - used, "-%" PRId64, there - 1);
            if (used + 64 >= text_bytes) used += (size_t)snprintf(text + used, text_bytes - used, ", ...");
        }
        *n += there - next;
        next = there + 1;
    }
    adm_query_close(&query);
    return status;
}

/* The different values of a column of the parts: one as it is, several in a row. */
#define DIFFERENT(column, joint) \
    "(SELECT group_concat(v, '" joint "') FROM (SELECT DISTINCT " column " AS v FROM shard WHERE run_id = ?1 ORDER BY v))"
#define N_DIFFERENT(column) "(SELECT count(DISTINCT " column ") FROM shard WHERE run_id = ?1)"

/* clang-format would indent the text behind a macro. */
/* clang-format off */
static const char finish_sql[] =
    "UPDATE run SET status = ?2, reason = ?3,"
    " started_utc = (SELECT min(started_utc) FROM shard WHERE run_id = ?1),"
    " finished_utc = (SELECT max(finished_utc) FROM shard WHERE run_id = ?1),"
    " elapsed_ns = (SELECT sum(elapsed_ns) FROM shard WHERE run_id = ?1),"
    " host_name = CASE WHEN " N_DIFFERENT("host_name") " = 1 THEN " DIFFERENT("host_name", "")
    "   ELSE " N_DIFFERENT("host_name") " || ' hosts: ' || substr(" DIFFERENT("host_name", ", ") ", 1, 200) END,"
    " cpu_model = " DIFFERENT("cpu_model", " + ") ","
    " gpu_name = " DIFFERENT("gpu_name", " + ") ","
    " gpu_uuid = CASE WHEN " N_DIFFERENT("gpu_uuid") " = 1 THEN " DIFFERENT("gpu_uuid", "") " END,"
    " driver_version = " DIFFERENT("driver_version", " + ") ","
    " git_commit = CASE WHEN " N_DIFFERENT("git_commit") " = 1 THEN git_commit"
    "   ELSE " N_DIFFERENT("git_commit") " || ' builds: ' || " DIFFERENT("git_commit", " + ") " END,"
    " sweep_build = " DIFFERENT("sweep_build", "; ")
    " WHERE run_id = ?1";
/* clang-format on */

adm_status adm_joined_finish(adm_store *store, int64_t run_id, adm_error *err) {
    char missing[400], reason[512];
    int64_t n_missing = 0, n_shards = 0;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, "SELECT n_shards FROM run WHERE run_id = ?", &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) n_shards = adm_query_int(query, 0);
    adm_query_close(&query);
    if (status == ADM_OK) status = list_missing(store, run_id, n_shards, missing, sizeof missing, &n_missing, err);
    if (status == ADM_OK) status = adm_store_begin_batch(store, err);
    if (status != ADM_OK) return status;
    snprintf(reason, sizeof reason, "shard%s %s of %" PRId64 " %s missing", n_missing > 1 ? "s" : "", missing, n_shards,
             n_missing > 1 ? "are" : "is");
    const adm_value values[] = {number(run_id),
                                {.type = 's', .s = n_missing > 0 ? "interrupted" : "complete"},
                                {.type = n_missing > 0 ? 's' : 'n', .s = reason}};
    const int rc = adm_store_change(store, finish_sql, values, 3);
    if (rc != SQLITE_OK) status = adm_store_sqlite_error(store, rc, "finishing a joined run", err);
    if (status == ADM_OK) status = summarise_devices(store, run_id, err);
    if (status == ADM_OK) return adm_store_flush(store, err);
    adm_store_rollback(store);
    return status;
}
