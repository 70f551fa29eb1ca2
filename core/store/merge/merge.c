/* merge.c: copies runs from one database file into another.
 *
 *   shared tables (trace, metric, config, ...)   a row is found by what it says, or added
 *   run                                          added unless its UUID is there; a shard's becomes part of a joined run
 *   tables that hang on a run (measurement, ...) rows of those runs are added, their ids moved past ours
 *
 * Each shared table, and the runs, leave temp.map_TABLE(old, new) behind, through which later tables translate their
 * references. Of a table that hangs on a run all rows are copied where all runs are, which needs no look at a map; otherwise
 * its own temp.map_TABLE holds those that are. Rows are checked against bounds.h, those that hang on a run
 * while they are copied (merge_sound.h), the others before. */
#include "core/store/merge/merge.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/mem.h"
#include "core/store/file/bounds.h"
#include "core/store/file/database_internal.h"
#include "core/store/file/migrate.h"
#include "core/store/file/schema_check.h"
#include "core/store/columns.h"
#include "core/store/merge/joined.h"
#include "core/store/merge/merge_check.h"
#include "core/store/merge/merge_sound.h"
#include "core/store/merge/merge_tables.h"

struct adm_merge {
    adm_store *store;
    adm_merge_table *table;
    int n_tables;
    adm_schema *schema;
    bool takes_all;   /* of the file at hand: every run is copied, and none is a part */
    bool has_parts;
    bool is_vouched;  /* a second reader looks at the rows, and what is copied is taken back if one is not sound */
    int64_t n_copied; /* by the last insert_owned() */
};

enum { LARGE_BYTES = 16 << 20 };

static int prepare(adm_store *store, sqlite3_str *text, sqlite3_stmt **statement) {
    char *sql = sqlite3_str_finish(text);
    int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(store->db, sql, -1, statement, NULL);
    sqlite3_free(sql);
    return rc;
}

static int run_sql(adm_store *store, sqlite3_str *text) {
    sqlite3_stmt *statement = NULL;
    int rc = prepare(store, text, &statement);
    if (rc == SQLITE_OK) rc = sqlite3_step(statement);
    sqlite3_finalize(statement);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* --- Copying ------------------------------------------------------------------------------------------------------ */

static void add_names(sqlite3_str *text, const adm_merge_table *t, bool with_id) {
    for (int i = 0, n = 0; i < t->n_columns; i++)
        if (with_id || i != t->id) sqlite3_str_appendf(text, "%s\"%w\"", n++ > 0 ? ", " : "", t->column[i].name);
}

/* The value of a column in our file, from the row `o` of the other; `joined`: what it refers to is in a row of FROM. */
static void add_value(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t, int i, bool joined) {
    const adm_merge_column *c = &t->column[i];
    const adm_merge_table *parent = c->parent >= 0 ? &m->table[c->parent] : NULL;
    if (i == t->id) sqlite3_str_appendf(text, "o.\"%w\" + %lld", c->name, t->offset);
    else if (m->has_parts && strcmp(c->name, "of_shard") == 0)
        sqlite3_str_appendf(text, "ifnull((SELECT shard FROM temp.part WHERE old = o.run_id), o.of_shard)");
    else if (parent == NULL) sqlite3_str_appendf(text, "o.\"%w\"", c->name);
    else if (parent->owner >= 0) sqlite3_str_appendf(text, "o.\"%w\" + %lld", c->name, parent->offset);
    else if (joined) sqlite3_str_appendf(text, "map_%d.new", i);
    else sqlite3_str_appendf(text, "(SELECT new FROM temp.\"map_%w\" WHERE old = o.\"%w\")", parent->name, c->name);
}

/* FROM the other's table, in the order of its ids, with a row of the map for each reference to a shared table. */
static void add_joins(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t) {
    sqlite3_str_appendf(text, " FROM other.\"%w\" o NOT INDEXED", t->name);
    for (int i = 0; i < t->n_columns; i++) {
        const adm_merge_column *c = &t->column[i];
        if (i == t->id || c->parent < 0 || m->table[c->parent].owner >= 0) continue;
        sqlite3_str_appendf(text, " LEFT JOIN temp.\"map_%w\" map_%d ON map_%d.old = o.\"%w\"", m->table[c->parent].name, i, i,
                            c->name);
    }
}

static void add_values(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t, bool with_id, bool joined) {
    for (int i = 0, n = 0; i < t->n_columns; i++) {
        if (i == t->id && !with_id) continue;
        if (n++ > 0) sqlite3_str_appendall(text, ", ");
        add_value(m, text, t, i, joined);
    }
}

/* The same configuration, in the words of the index config_identity: a sweep has a million of them. */
static void add_same_config(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t) {
    for (size_t k = 0; k < adm_config_table.n_columns; k++) {
        const adm_column *c = &adm_config_table.column[k];
        const char *instead = c->null == ADM_NULL_IF_MINUS_1 ? "-1" : c->type == ADM_FIELD_TEXT ? "''" : "0";
        const bool is_nullable = c->null != ADM_NEVER_NULL && c->null != ADM_FILLED_IN;
        int i = 0;
        while (i < t->n_columns && strcmp(t->column[i].name, c->name) != 0) i++;
        if (i == t->n_columns) continue;
        sqlite3_str_appendf(text, "%s%s", k > 0 ? " AND " : "", is_nullable ? "ifnull(" : "");
        sqlite3_str_appendf(text, is_nullable ? "n.%s, %s) = ifnull(" : "n.%s = ", c->name, instead);
        add_value(m, text, t, i, false);
        if (is_nullable) sqlite3_str_appendf(text, ", %s)", instead);
    }
}

/* Which row of ours, `n`, says the same as theirs, `o`. */
static void add_same(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t) {
    static const char *const natural[][2] = {
        {"run", "run_uuid"}, {"trace", "xxh128"}, {"metric", "name"}, {"check_result", "check_uuid"}};
    for (size_t i = 0; i < sizeof natural / sizeof natural[0]; i++)
        if (strcmp(t->name, natural[i][0]) == 0) {
            sqlite3_str_appendf(text, "n.%s = o.%s", natural[i][1], natural[i][1]);
            return;
        }
    if (strcmp(t->name, "config") == 0) {
        add_same_config(m, text, t);
        return;
    }
    for (int i = 0, n = 0; i < t->n_columns; i++) {
        if (i == t->id) continue;
        sqlite3_str_appendf(text, "%sn.\"%w\" IS ", n++ > 0 ? " AND " : "", t->column[i].name);
        add_value(m, text, t, i, false);
    }
}

static int add_map(adm_store *store, const adm_merge_table *t) {
    sqlite3_str *text = sqlite3_str_new(store->db);
    sqlite3_str_appendf(text, "CREATE TEMP TABLE \"map_%w\" (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)", t->name);
    return run_sql(store, text);
}

static int largest_id(adm_store *store, const adm_merge_table *t, int64_t *id) {
    char *sql = sqlite3_mprintf("SELECT ifnull(max(\"%w\"), 0) FROM main.\"%w\"", t->column[t->id].name, t->name);
    int rc = sql == NULL ? SQLITE_NOMEM : adm_store_scalar(store, sql, 0, id);
    sqlite3_free(sql);
    return rc;
}

static int look_into(adm_store *store, const adm_merge_table *t, bool *is_empty) {
    char sql[128];
    int64_t n = 0;
    sqlite3_snprintf(sizeof sql, sql, "SELECT EXISTS (SELECT 1 FROM other.\"%w\")", t->name);
    const int rc = adm_store_scalar(store, sql, 0, &n);
    *is_empty = n == 0;
    return rc;
}

/* Adds rows that we lack, then maps all of theirs to ours; of runs only those that were added. */
static int copy_shared(adm_merge *m, adm_merge_table *t) {
    adm_store *store = m->store;
    const bool is_run = strcmp(t->name, "run") == 0;
    bool is_empty = true;
    int64_t newest = 0;
    int rc = look_into(store, t, &is_empty);
    if (rc != SQLITE_OK || is_empty) return rc == SQLITE_OK ? add_map(store, t) : rc;
    sqlite3_str *text = sqlite3_str_new(store->db);
    rc = largest_id(store, t, &newest);
    sqlite3_str_appendf(text, "INSERT INTO main.\"%w\" (", t->name);
    add_names(text, t, false);
    sqlite3_str_appendall(text, ") SELECT ");
    add_values(m, text, t, false, false);
    sqlite3_str_appendf(text, " FROM other.\"%w\" o WHERE %s NOT EXISTS (SELECT 1 FROM main.\"%w\" n WHERE ", t->name,
                        is_run ? "o.status <> 'running' AND o.shard IS NULL AND" : "", t->name);
    add_same(m, text, t);
    sqlite3_str_appendf(text, ") ORDER BY o.\"%w\"", t->column[t->id].name);
    if (rc == SQLITE_OK) rc = run_sql(store, text);
    else sqlite3_free(sqlite3_str_finish(text));
    if (rc == SQLITE_OK) rc = add_map(store, t);
    if (rc != SQLITE_OK) return rc;
    text = sqlite3_str_new(store->db);
    sqlite3_str_appendf(
        text, "INSERT INTO temp.\"map_%w\" SELECT o.\"%w\", n.\"%w\" FROM other.\"%w\" o CROSS JOIN main.\"%w\" n ON ", t->name,
        t->column[t->id].name, t->column[t->id].name, t->name, t->name);
    add_same(m, text, t);
    if (is_run) sqlite3_str_appendf(text, " WHERE n.run_id > %lld", newest);
    return run_sql(store, text);
}

/* Measurements of one part that another measured too, such as a row that was wrong: the first stays. Figures of the device are
 * joined_devices()'s. */
static const char not_doubled[] =
    " AND NOT EXISTS (SELECT 1 FROM temp.part p JOIN other.config k ON k.config_id = o.config_id WHERE p.old = o.run_id AND "
    "k.policy = 'device') AND NOT EXISTS (SELECT 1 FROM temp.part p JOIN main.measurement n ON n.run_id = p.new WHERE p.old = "
    "o.run_id AND n.config_id = (SELECT new FROM temp.map_config WHERE old = o.config_id) AND n.source = o.source AND "
    "ifnull(n.stage, '') = ifnull(o.stage, '') AND n.metric_id = (SELECT new FROM temp.map_metric WHERE old = o.metric_id) AND "
    "ifnull(n.layer, -1) = ifnull(o.layer, -1) AND ifnull(n.head, -1) = ifnull(o.head, -1))";

/* The rows of a table that go with the runs we take, so that those that hang on them are found. */
static int map_owned(adm_merge *m, const adm_merge_table *t) {
    sqlite3_str *text = sqlite3_str_new(m->store->db);
    const char *id = t->column[t->id].name, *by = t->column[t->owner].name;
    int rc = add_map(m->store, t);
    sqlite3_str_appendf(text,
                        "INSERT INTO temp.\"map_%w\" SELECT o.\"%w\", o.\"%w\" + %lld FROM other.\"%w\" o "
                        "WHERE o.\"%w\" IN (SELECT old FROM temp.\"map_%w\")",
                        t->name, id, id, t->offset, t->name, by, m->table[t->column[t->owner].parent].name);
    if (m->has_parts && strcmp(t->name, "measurement") == 0) sqlite3_str_appendall(text, not_doubled);
    if (rc == SQLITE_OK) return run_sql(m->store, text);
    sqlite3_free(sqlite3_str_finish(text));
    return rc;
}

/* Which rows of a table go with the runs we take. */
static void add_ours(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t) {
    const adm_merge_table *parent = &m->table[t->column[t->owner].parent];
    const char *by = t->column[t->owner].name;
    if (m->takes_all) /* what hangs on nothing is left behind */
        sqlite3_str_appendf(text, "o.\"%w\" IN (SELECT \"%w\" FROM other.\"%w\")", by, parent->column[parent->id].name,
                            parent->name);
    else if (t->id >= 0)
        sqlite3_str_appendf(text, "o.\"%w\" IN (SELECT old FROM temp.\"map_%w\")", t->column[t->id].name, t->name);
    else sqlite3_str_appendf(text, "o.\"%w\" IN (SELECT old FROM temp.\"map_%w\")", by, parent->name);
}

/* Where no id moves, SQLite copies whole records of a table that is empty here: this statement alone lets it. */
static bool add_as_it_is(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t) {
    bool moves = !m->is_vouched || !adm_merge_is_plain(m->table, t);
    for (int i = 0; !moves && i < t->n_columns; i++)
        moves = t->column[i].parent >= 0 && m->table[t->column[i].parent].offset != 0;
    if (!moves) sqlite3_str_appendf(text, "INSERT INTO main.\"%w\" SELECT * FROM other.\"%w\"", t->name, t->name);
    return !moves;
}

static void add_copying(const adm_merge *m, sqlite3_str *text, const adm_merge_table *t) {
    if (add_as_it_is(m, text, t)) return;
    /* Parts agree on what has no id of its own, such as the thresholds of a trace. */
    sqlite3_str_appendf(text, "INSERT %sINTO main.\"%w\" (", m->has_parts && t->id < 0 ? "OR IGNORE " : "", t->name);
    add_names(text, t, true);
    sqlite3_str_appendall(text, ") SELECT ");
    add_values(m, text, t, true, true);
    add_joins(m, text, t);
    if (m->is_vouched) return;
    sqlite3_str_appendall(text, " WHERE ");
    add_ours(m, text, t);
    sqlite3_str_appendall(text, " AND ");
    adm_merge_sound_sql(text, t);
}

/* Adds what hangs on the added runs and is sound. Ids move by a constant, so that their order stays. */
static int insert_owned(adm_merge *m, const adm_merge_table *t) {
    sqlite3_str *text = sqlite3_str_new(m->store->db);
    add_copying(m, text, t);
    /* The CHECKs are in the WHERE, or the second reader's. */
    int rc = adm_store_execute(m->store, "PRAGMA ignore_check_constraints = ON");
    if (rc == SQLITE_OK) rc = run_sql(m->store, text);
    else sqlite3_free(sqlite3_str_finish(text));
    m->n_copied = sqlite3_changes64(m->store->db);
    adm_store_execute(m->store, "PRAGMA ignore_check_constraints = OFF");
    return rc;
}

static int count_rows(adm_merge *m, const adm_merge_table *t, const char *what, int64_t *n) {
    sqlite3_str *text = sqlite3_str_new(m->store->db);
    sqlite3_str_appendf(text, "SELECT count(*) FROM other.\"%w\" o", t->name);
    if (!m->takes_all || what[0] != '\0') {
        sqlite3_str_appendall(text, " WHERE ");
        add_ours(m, text, t);
        sqlite3_str_appendall(text, what);
    }
    char *sql = sqlite3_str_finish(text);
    const int rc = sql == NULL ? SQLITE_NOMEM : adm_store_scalar(m->store, sql, 0, n);
    sqlite3_free(sql);
    return rc;
}

/* Rows that are missing without another reason. Of what has no id of its own, parts may agree, and one row is left. */
static adm_status check_types(adm_merge *m, const adm_merge_table *t, const char *path, adm_error *err) {
    int64_t n = 0;
    if (m->has_parts && t->id < 0) return ADM_OK;
    const int rc = count_rows(m, t, " AND true", &n); /* without those that hang on nothing */
    if (rc != SQLITE_OK) return adm_store_sqlite_error(m->store, rc, "counting rows", err);
    if (n == m->n_copied) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "%s is damaged: %lld rows of the table %s hold values of another type than their columns",
                    path, (long long)(n - m->n_copied), t->name);
}

/* Where rows are missing, says which is not sound. */
static adm_status check_copied(adm_merge *m, const adm_merge_table *t, const char *path, adm_error *err) {
    int64_t n = 0;
    char *broken = NULL;
    int rc = count_rows(m, t, "", &n);
    if (rc == SQLITE_OK && n == m->n_copied) return ADM_OK;
    adm_status status = rc == SQLITE_OK ? adm_bounds_check_table(m->store, "other", t->name, path, err) : ADM_OK;
    if (rc != SQLITE_OK || status != ADM_OK) goto done;
    n = 0;
    broken = t->checks[0] != '\0' ? sqlite3_mprintf(" AND NOT (%s)", t->checks) : NULL;
    if (t->checks[0] != '\0') rc = broken == NULL ? SQLITE_NOMEM : count_rows(m, t, broken, &n);
    if (rc == SQLITE_OK && n > 0)
        status = adm_fail(err, ADM_EINPUT, "%s is damaged: %lld rows of the table %s hold what its CHECKs forbid", path,
                          (long long)n, t->name);
    else if (rc == SQLITE_OK) status = check_types(m, t, path, err);
done:
    sqlite3_free(broken);
    return rc == SQLITE_OK ? status : adm_store_sqlite_error(m->store, rc, "counting rows", err);
}

static adm_status copy_owned(adm_merge *m, adm_merge_table *t, const char *path, adm_error *err) {
    char doing[128];
    bool is_empty = true;
    t->offset = 0;
    int rc = look_into(m->store, t, &is_empty);
    if (rc == SQLITE_OK && t->id >= 0 && !is_empty) rc = largest_id(m->store, t, &t->offset);
    if (rc == SQLITE_OK && t->id >= 0 && !m->takes_all) rc = is_empty ? add_map(m->store, t) : map_owned(m, t);
    if (rc == SQLITE_OK && !is_empty) rc = insert_owned(m, t);
    if (rc == SQLITE_OK) return is_empty || m->is_vouched ? ADM_OK : check_copied(m, t, path, err);
    if (rc == SQLITE_CONSTRAINT_DATATYPE || rc == SQLITE_CONSTRAINT_NOTNULL)
        return adm_fail(err, ADM_EINPUT, "%s is damaged: a row of the table %s holds a value of another type than its column",
                        path, t->name);
    snprintf(doing, sizeof doing, "merging the table %s", t->name);
    return adm_store_sqlite_error(m->store, rc, doing, err);
}

/* --- The merge ---------------------------------------------------------------------------------------------------- */

static adm_status check_metrics(adm_store *store, const char *path, adm_error *err) {
    sqlite3_stmt *statement = NULL;
    adm_status status = ADM_OK;
    int rc = sqlite3_prepare_v2(store->db,
                                "SELECT o.name, o.unit, o.better, n.unit, n.better FROM other.metric o "
                                "JOIN main.metric n USING (name) WHERE o.unit <> n.unit OR o.better <> n.better",
                                -1, &statement, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(statement);
    const char *text[5] = {NULL};
    for (int i = 0, n = rc == SQLITE_ROW ? 5 : 0; i < n; i++) text[i] = adm_store_text(statement, i, &rc);
    if (rc == SQLITE_ROW)
        status = adm_fail(err, ADM_EINPUT,
                          "%s has the metric '%s' in %s (better: %s), and %s in %s (better: %s): they "
                          "cannot be merged",
                          path, text[0], text[1], text[2], store->path, text[3], text[4]);
    else if (rc != SQLITE_DONE) status = adm_store_sqlite_error(store, rc, "comparing metrics", err);
    sqlite3_finalize(statement);
    return status;
}

static adm_status copy_tables(adm_merge *m, const char *path, adm_error *err) {
    char doing[128];
    for (int i = 0; i < m->n_tables; i++) {
        adm_merge_table *t = &m->table[i];
        adm_status status = t->owner >= 0 ? copy_owned(m, t, path, err)
                                          : adm_bounds_check_table(m->store, "other", t->name, path, err);
        if (status != ADM_OK) return status;
        if (t->owner >= 0) continue;
        int rc = copy_shared(m, t);
        if (rc == SQLITE_OK && strcmp(t->name, "run") == 0 && m->has_parts) rc = adm_joined_map(m->store);
        if (rc == SQLITE_OK) continue;
        snprintf(doing, sizeof doing, "merging the table %s", t->name);
        return adm_store_sqlite_error(m->store, rc, doing, err);
    }
    return ADM_OK;
}

static int drop_maps(adm_store *store) {
    sqlite3_stmt *names = NULL;
    int rc = sqlite3_prepare_v2(store->db,
                                "SELECT group_concat('DROP TABLE temp.\"' || name || '\"', ';') FROM "
                                "temp.sqlite_schema WHERE name LIKE 'map\\_%' ESCAPE '\\' OR name = 'part'",
                                -1, &names, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(names);
    char *sql = rc == SQLITE_ROW ? sqlite3_mprintf("%s", adm_store_text(names, 0, &rc)) : NULL;
    sqlite3_finalize(names);
    if (rc == SQLITE_ROW) rc = sql != NULL ? adm_store_execute(store, sql) : SQLITE_NOMEM;
    sqlite3_free(sql);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Whether every run of the file is copied as it is, and how many there are of each kind. */
static int look_at_runs(adm_merge *m, size_t n_parts, int64_t *n_finished, adm_merge_counts *counts) {
    int64_t n_others = 0;
    adm_store *store = m->store;
    int rc = adm_store_scalar(store, "SELECT count(*) FROM other.run WHERE status <> 'running' AND shard IS NULL", 0,
                              n_finished);
    if (rc == SQLITE_OK)
        rc = adm_store_scalar(store, "SELECT count(*) FROM other.run WHERE status = 'running'", 0, &counts->n_unfinished);
    if (rc == SQLITE_OK)
        rc = adm_store_scalar(store,
                              "SELECT count(*) FROM other.run o WHERE status = 'running' OR shard IS NOT NULL OR EXISTS "
                              "(SELECT 1 FROM main.run n WHERE n.run_uuid = o.run_uuid)",
                              0, &n_others);
    m->takes_all = n_others == 0;
    m->has_parts = n_parts > 0;
    return rc;
}

/* A second reader is worth its start where there is much to look at. */
static adm_status start_check(adm_merge *m, const char *path, adm_merge_check **check, adm_error *err) {
    struct stat file;
    *check = NULL;
    m->is_vouched = false;
    if (!m->takes_all || stat(path, &file) != 0 || file.st_size < LARGE_BYTES) return ADM_OK;
    const adm_status status = adm_merge_check_start(path, &m->schema, m->table, m->n_tables, check, err);
    m->is_vouched = *check != NULL;
    return status;
}

/* In a transaction that the caller ends. *is_doubtful: the second reader met a row that is not sound, or was not able to look:
 * what was copied is to be taken back, and copied row by row. */
static adm_status merge_rows(adm_merge *m, const char *path, const adm_merge_part *parts, size_t n_parts, bool *is_doubtful,
                             adm_merge_counts *counts, adm_error *err) {
    adm_store *store = m->store;
    adm_merge_check *check = NULL;
    int64_t n_finished = 0, n_mapped = 0;
    const bool may_vouch = !*is_doubtful;
    adm_status status = ADM_OK;
    int rc = look_at_runs(m, n_parts, &n_finished, counts);
    m->is_vouched = false;
    if (rc == SQLITE_OK && may_vouch) status = start_check(m, path, &check, err);
    if (rc == SQLITE_OK && status == ADM_OK && n_parts > 0) status = adm_joined_take(store, parts, n_parts, err);
    if (rc == SQLITE_OK && status == ADM_OK) status = copy_tables(m, path, err);
    *is_doubtful = check != NULL && !adm_merge_check_finish(&check, false);
    if (rc == SQLITE_OK && status == ADM_OK && n_parts > 0) status = adm_joined_devices(store, err);
    if (rc == SQLITE_OK && status == ADM_OK) rc = adm_store_scalar(store, "SELECT count(*) FROM temp.map_run", 0, &n_mapped);
    counts->n_parts = (int64_t)n_parts;
    counts->n_runs = n_mapped - counts->n_parts;
    counts->n_present = n_finished - counts->n_runs;
    if (rc == SQLITE_OK && status == ADM_OK) rc = drop_maps(store);
    return rc == SQLITE_OK ? status : adm_store_sqlite_error(store, rc, "counting runs", err);
}

static adm_status merge_attached(adm_merge *m, const char *path, const adm_merge_part *parts, size_t n_parts,
                                 adm_merge_counts *counts, adm_error *err) {
    adm_store *store = m->store;
    bool is_doubtful = false;
    adm_status status = check_metrics(store, path, err);
    for (int i = 0; i < 2; i++) {
        if (status == ADM_OK) status = adm_store_begin_batch(store, err);
        if (status != ADM_OK) return status;
        status = merge_rows(m, path, parts, n_parts, &is_doubtful, counts, err);
        if (status == ADM_OK && !is_doubtful) return adm_store_flush(store, err);
        adm_store_rollback(store);
        drop_maps(store);
        if (!is_doubtful) return status;
        status = ADM_OK;
    }
    return adm_fail(err, ADM_EINTERNAL, "%s was merged twice to no end", path);
}

static bool is_own_file(const adm_store *store, const char *path) {
    struct stat ours, theirs;
    return stat(store->path, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
           ours.st_ino == theirs.st_ino;
}

/* Attaches the file as `other`, and makes sure that it is a database of ours. On failure it may be attached. */
static adm_status attach_file(adm_merge *m, const char *path, adm_error *err) {
    adm_store *store = m->store;
    int64_t application = 0, version = 0;
    adm_status status = adm_store_check_file(path, err);
    if (status != ADM_OK) return status;
    char *uri = adm_store_uri(path, "?mode=ro");
    char *attach = uri == NULL ? NULL : sqlite3_mprintf("ATTACH %Q AS other", uri);
    int rc = attach == NULL ? SQLITE_NOMEM : adm_store_execute(store, attach);
    sqlite3_free(uri);
    sqlite3_free(attach);
    if (rc != SQLITE_OK) {
        const bool no_memory = (rc & 0xff) == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM;
        return adm_fail(err, no_memory ? ADM_EENVIRONMENT : ADM_EINPUT, "%s cannot be read: %s", path,
                        sqlite3_errmsg(store->db));
    }
    rc = adm_store_scalar(store, "PRAGMA other.application_id", 0, &application);
    if (rc == SQLITE_OK) rc = adm_store_scalar(store, "PRAGMA other.user_version", 0, &version);
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "reading the header of another database", err);
    if (application != ADM_APPLICATION_ID || version != m->schema->version)
        return adm_fail(err, ADM_EINPUT, "%s is no database of this schema version", path);
    return adm_schema_check(store, "other", path, m->schema, err);
}

/* Why a file cannot be merged: a reader of our own knows what can be wrong with it, and says so. */
static adm_status explain_file(adm_merge *m, const char *path, adm_status status, adm_error *err) {
    adm_store *other = NULL;
    adm_error said;
    const adm_status seen = adm_store_open_known(path, ADM_STORE_READ, &m->schema, &other, &said);
    adm_store_close(&other);
    if (seen == ADM_OK) return status;
    *err = said;
    return seen;
}

adm_status adm_merge_file(adm_merge *m, const char *path, const adm_merge_part *parts, size_t n_parts, adm_merge_counts *counts,
                          adm_error *err) {
    *counts = (adm_merge_counts){0};
    adm_status status = is_own_file(m->store, path) ? adm_fail(err, ADM_EINPUT, "%s cannot be merged into itself", path)
                                                    : attach_file(m, path, err);
    const bool is_attached = status == ADM_OK;
    if (status == ADM_OK) status = merge_attached(m, path, parts, n_parts, counts, err);
    const int rc = adm_store_detach(m->store);
    if (status == ADM_OK && rc != SQLITE_OK) return adm_store_sqlite_error(m->store, rc, "closing another database", err);
    return is_attached ? status : explain_file(m, path, status, err);
}

/* --- Several files ------------------------------------------------------------------------------------------------ */

adm_status adm_merge_open(adm_store *store, bool large, adm_merge **out, adm_error *err) {
    adm_merge *m = NULL;
    *out = NULL;
    const char *steps[ADM_MAX_SCHEMA_VERSION];
    const int n_steps = adm_schema_steps(steps);
    adm_status status = adm_alloc(&m, 1, sizeof *m, "a merge", err);
    if (status != ADM_OK) return status;
    m->store = store;
    const int made = adm_schema_make(steps, n_steps, &m->schema);
    if (made != SQLITE_OK) status = adm_store_sqlite_error(store, made, "reading the schema of a merge", err);
    if (status == ADM_OK) status = adm_merge_tables_read(store, m->schema, &m->table, &m->n_tables, err);
    /* References are translated one by one, and what refers to nothing is not copied: no key needs a look at every row. A
     * journal of what was there writes new pages once, a log of what is new writes them twice and waits less. */
    if (status == ADM_OK) {
        int rc = adm_store_execute(store, "PRAGMA foreign_keys = OFF; PRAGMA synchronous = NORMAL; PRAGMA temp_store = MEMORY");
        if (rc == SQLITE_OK) rc = adm_merge_sound_functions(store->db);
        if (rc == SQLITE_OK && large) adm_store_execute(store, "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL");
        if (rc != SQLITE_OK) status = adm_store_sqlite_error(store, rc, "preparing a merge", err);
    }
    if (status == ADM_OK) *out = m;
    else adm_merge_close(&m);
    return status;
}

void adm_merge_close(adm_merge **address) {
    adm_merge *m = *address;
    if (m == NULL) return;
    if (m->store != NULL)
        adm_store_execute(m->store, m->store->is_claimed
                                        ? "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON"
                                        : "PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON");
    adm_free(&m->table);
    adm_schema_free(&m->schema);
    adm_free(address);
}

adm_status adm_store_merge(adm_store *store, const char *path, adm_merge_counts *counts, adm_error *err) {
    adm_merge *m = NULL;
    struct stat file;
    adm_status status = adm_merge_open(store, stat(path, &file) == 0 && file.st_size > LARGE_BYTES, &m, err);
    if (status == ADM_OK) status = adm_merge_file(m, path, NULL, 0, counts, err);
    adm_merge_close(&m);
    return status;
}
