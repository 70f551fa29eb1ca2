/* merge.c: copies runs from one database file into another.
 *
 *   shared tables (trace, metric, config, ...)   a row is found by what it says, or added
 *   run                                          added unless its UUID is there
 *   tables that hang on a run (measurement, ...) rows of the added runs are added, their ids moved past ours
 *
 * Each table with an id leaves temp.map_TABLE(old, new) behind, through which later tables translate their references. */
#include "core/store/merge.h"

#include <string.h>
#include <sys/stat.h>

#include "core/store/file/bounds.h"
#include "core/store/file/database_internal.h"
#include "core/store/file/migrate.h"
#include "core/store/file/schema_check.h"

/* --- What the schema says of a table ------------------------------------------------------------------------------ */

enum { MAX_COLUMNS = 48 };

typedef struct column {
    char name[64];
    char parent[64]; /* the table it refers to, or "" */
    bool key;        /* part of the primary key */
} column;

typedef struct table {
    char name[64];
    column column[MAX_COLUMNS];
    int n_columns;
    int id;    /* the column that is an integer id of its own, or -1 */
    int owner; /* the column through which a row hangs on a run, or -1: shared by runs */
} table;

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

static bool owned(const table *tables, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(tables[i].name, name) == 0) return tables[i].owner >= 0 || strcmp(name, "run") == 0;
    return false;
}

/* Columns with the tables they refer to. `before`: the tables described so far, parents among them. */
static int describe(adm_store *store, table *t, const table *before, int n_before) {
    sqlite3_str *text = sqlite3_str_new(store->db);
    sqlite3_str_appendf(text,
                        "SELECT c.name, c.pk, ifnull(f.\"table\", ''), upper(c.type) = 'INTEGER' "
                        "FROM pragma_table_info(%Q) c LEFT JOIN pragma_foreign_key_list(%Q) f ON f.\"from\" = c.name "
                        "ORDER BY c.cid",
                        t->name, t->name);
    sqlite3_stmt *statement = NULL;
    int rc = prepare(store, text, &statement), n_keys = 0;
    t->id = t->owner = -1;
    t->n_columns = 0;
    while (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        if (t->n_columns == MAX_COLUMNS) rc = SQLITE_TOOBIG;
        if (rc == SQLITE_TOOBIG) break;
        column *c = &t->column[t->n_columns];
        sqlite3_snprintf(sizeof c->name, c->name, "%s", sqlite3_column_text(statement, 0));
        sqlite3_snprintf(sizeof c->parent, c->parent, "%s", sqlite3_column_text(statement, 2));
        c->key = sqlite3_column_int(statement, 1) > 0;
        n_keys += c->key;
        if (c->key && c->parent[0] == '\0' && sqlite3_column_int(statement, 3)) t->id = t->n_columns;
        if (t->owner < 0 && c->parent[0] != '\0' && owned(before, n_before, c->parent)) t->owner = t->n_columns;
        t->n_columns++;
        rc = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    if (n_keys != 1) t->id = -1;
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* --- Copying ------------------------------------------------------------------------------------------------------ */

static void add_names(sqlite3_str *text, const table *t, bool with_id) {
    for (int i = 0, n = 0; i < t->n_columns; i++)
        if (with_id || i != t->id) sqlite3_str_appendf(text, "%s\"%w\"", n++ > 0 ? ", " : "", t->column[i].name);
}

/* The value of a column in our file, from the row `o` of the other. */
static void add_value(sqlite3_str *text, const column *c) {
    if (c->parent[0] == '\0') sqlite3_str_appendf(text, "o.\"%w\"", c->name);
    else sqlite3_str_appendf(text, "(SELECT new FROM temp.\"map_%w\" WHERE old = o.\"%w\")", c->parent, c->name);
}

/* Which row of ours, `n`, says the same as theirs, `o`. */
static void add_same(sqlite3_str *text, const table *t) {
    static const char *const natural[][2] = {
        {"run", "run_uuid"}, {"trace", "xxh128"}, {"metric", "name"}, {"check_result", "check_uuid"}};
    for (size_t i = 0; i < sizeof natural / sizeof natural[0]; i++)
        if (strcmp(t->name, natural[i][0]) == 0) {
            sqlite3_str_appendf(text, "n.%s = o.%s", natural[i][1], natural[i][1]);
            return;
        }
    for (int i = 0, n = 0; i < t->n_columns; i++) {
        if (i == t->id) continue;
        sqlite3_str_appendf(text, "%sn.\"%w\" IS ", n++ > 0 ? " AND " : "", t->column[i].name);
        add_value(text, &t->column[i]);
    }
}

static int add_map(adm_store *store, const table *t) {
    sqlite3_str *text = sqlite3_str_new(store->db);
    sqlite3_str_appendf(text, "CREATE TEMP TABLE \"map_%w\" (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)", t->name);
    return run_sql(store, text);
}

/* Adds rows that we lack, then maps all of theirs to ours; of runs only those that were added. */
static int copy_shared(adm_store *store, const table *t, bool is_run) {
    sqlite3_str *text = sqlite3_str_new(store->db);
    int64_t newest = 0;
    char *largest = sqlite3_mprintf("SELECT ifnull(max(\"%w\"), 0) FROM main.\"%w\"", t->column[t->id].name, t->name);
    int rc = largest == NULL ? SQLITE_NOMEM : adm_store_scalar(store, largest, 0, &newest);
    sqlite3_free(largest);
    sqlite3_str_appendf(text, "INSERT INTO main.\"%w\" (", t->name);
    add_names(text, t, false);
    sqlite3_str_appendall(text, ") SELECT ");
    for (int i = 0, n = 0; i < t->n_columns; i++) {
        if (i == t->id) continue;
        if (n++ > 0) sqlite3_str_appendall(text, ", ");
        add_value(text, &t->column[i]);
    }
    sqlite3_str_appendf(text, " FROM other.\"%w\" o WHERE %s NOT EXISTS (SELECT 1 FROM main.\"%w\" n WHERE ", t->name,
                        is_run ? "o.status <> 'running' AND" : "", t->name);
    add_same(text, t);
    sqlite3_str_appendf(text, ") ORDER BY o.\"%w\"", t->column[t->id].name);
    if (rc == SQLITE_OK) rc = run_sql(store, text);
    else sqlite3_free(sqlite3_str_finish(text));
    if (rc == SQLITE_OK) rc = add_map(store, t);
    if (rc != SQLITE_OK) return rc;
    text = sqlite3_str_new(store->db);
    sqlite3_str_appendf(text,
                        "INSERT INTO temp.\"map_%w\" SELECT o.\"%w\", n.\"%w\" FROM other.\"%w\" o JOIN main.\"%w\" n ON ",
                        t->name, t->column[t->id].name, t->column[t->id].name, t->name, t->name);
    add_same(text, t);
    if (is_run) sqlite3_str_appendf(text, " WHERE n.run_id > %lld", newest);
    return run_sql(store, text);
}

/* Adds what hangs on the added runs. Ids move by a constant, so that their order stays. */
static int copy_owned(adm_store *store, const table *t) {
    int64_t offset = 0;
    int rc = SQLITE_OK;
    if (t->id >= 0) {
        char *largest = sqlite3_mprintf("SELECT ifnull(max(\"%w\"), 0) FROM main.\"%w\"", t->column[t->id].name, t->name);
        rc = largest == NULL ? SQLITE_NOMEM : adm_store_scalar(store, largest, 0, &offset);
        sqlite3_free(largest);
        if (rc == SQLITE_OK) rc = add_map(store, t);
    }
    if (rc != SQLITE_OK) return rc;
    const char *hangs_on = t->column[t->owner].parent, *by = t->column[t->owner].name;
    if (t->id >= 0) {
        sqlite3_str *map = sqlite3_str_new(store->db);
        const char *id = t->column[t->id].name;
        sqlite3_str_appendf(map,
                            "INSERT INTO temp.\"map_%w\" SELECT \"%w\", \"%w\" + %lld FROM other.\"%w\" "
                            "WHERE \"%w\" IN (SELECT old FROM temp.\"map_%w\")",
                            t->name, id, id, offset, t->name, by, hangs_on);
        rc = run_sql(store, map);
        if (rc != SQLITE_OK) return rc;
    }
    sqlite3_str *text = sqlite3_str_new(store->db);
    sqlite3_str_appendf(text, "INSERT INTO main.\"%w\" (", t->name);
    add_names(text, t, true);
    sqlite3_str_appendall(text, ") SELECT ");
    for (int i = 0; i < t->n_columns; i++) {
        if (i > 0) sqlite3_str_appendall(text, ", ");
        if (i == t->id) sqlite3_str_appendf(text, "o.\"%w\" + %lld", t->column[i].name, offset);
        else add_value(text, &t->column[i]);
    }
    sqlite3_str_appendf(text, " FROM other.\"%w\" o WHERE o.\"%w\" IN (SELECT old FROM temp.\"map_%w\")", t->name, by,
                        hangs_on);
    return run_sql(store, text);
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
    if (rc == SQLITE_ROW)
        status = adm_fail(err, ADM_EINPUT,
                          "%s has the metric '%s' in %s (better: %s), and %s in %s (better: %s): they "
                          "cannot be merged",
                          path, sqlite3_column_text(statement, 0), sqlite3_column_text(statement, 1),
                          sqlite3_column_text(statement, 2), store->path, sqlite3_column_text(statement, 3),
                          sqlite3_column_text(statement, 4));
    else if (rc != SQLITE_DONE) status = adm_store_sqlite_error(store, rc, "comparing metrics", err);
    sqlite3_finalize(statement);
    return status;
}

static adm_status copy_tables(adm_store *store, const char *path, adm_error *err) {
    char doing[128] = "merging its tables";
    adm_status status = ADM_OK;
    enum { MAX_TABLES = 64 };
    table *tables = sqlite3_malloc64(MAX_TABLES * sizeof *tables);
    sqlite3_stmt *names = NULL;
    sqlite3 *reference = NULL; /* its tables, and not those that a user added */
    const char *steps[ADM_MAX_SCHEMA_VERSION];
    int n = 0, rc = tables == NULL ? SQLITE_NOMEM : SQLITE_OK;
    if (rc == SQLITE_OK) rc = adm_schema_reference(steps, adm_schema_steps(steps), &reference);
    /* In the order of their creation, so that what is referred to comes first. */
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(reference,
                                "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE "
                                "'sqlite_%' ORDER BY rowid",
                                -1, &names, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(names)) == SQLITE_ROW) {
        if (n == MAX_TABLES) rc = SQLITE_TOOBIG;
        if (rc == SQLITE_TOOBIG) break;
        sqlite3_snprintf(sizeof tables[n].name, tables[n].name, "%s", sqlite3_column_text(names, 0));
        n++;
        rc = SQLITE_OK;
    }
    sqlite3_finalize(names);
    sqlite3_close(reference);
    if (rc == SQLITE_DONE) rc = SQLITE_OK;
    for (int i = 0; rc == SQLITE_OK && i < n; i++) {
        sqlite3_snprintf(sizeof doing, doing, "merging the table %s", tables[i].name);
        status = adm_bounds_check_table(store, "other", tables[i].name, path, err);
        if (status != ADM_OK) break;
        rc = describe(store, &tables[i], tables, i);
        if (rc != SQLITE_OK) break;
        if (tables[i].owner >= 0) rc = copy_owned(store, &tables[i]);
        else if (tables[i].id >= 0) rc = copy_shared(store, &tables[i], strcmp(tables[i].name, "run") == 0);
        else rc = SQLITE_SCHEMA; /* a table of which one cannot say whose rows they are */
    }
    sqlite3_free(tables);
    return rc == SQLITE_OK || status != ADM_OK ? status : adm_store_sqlite_error(store, rc, doing, err);
}

static int drop_maps(adm_store *store) {
    sqlite3_stmt *names = NULL;
    int rc = sqlite3_prepare_v2(store->db,
                                "SELECT group_concat('DROP TABLE temp.\"' || name || '\"', ';') FROM "
                                "temp.sqlite_schema WHERE name LIKE 'map\\_%' ESCAPE '\\'",
                                -1, &names, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(names);
    char *sql = rc == SQLITE_ROW ? sqlite3_mprintf("%s", sqlite3_column_text(names, 0)) : NULL;
    sqlite3_finalize(names);
    rc = sql != NULL ? adm_store_execute(store, sql) : SQLITE_OK;
    sqlite3_free(sql);
    return rc;
}

static adm_status merge_attached(adm_store *store, const char *path, adm_merge_counts *counts, adm_error *err) {
    char doing[128] = "counting runs";
    int64_t n_finished = 0;
    adm_status status = check_metrics(store, path, err);
    if (status == ADM_OK) status = adm_store_begin_batch(store, err);
    if (status != ADM_OK) return status;
    int rc = adm_store_scalar(store, "SELECT count(*) FROM other.run WHERE status <> 'running'", 0, &n_finished);
    if (rc == SQLITE_OK)
        rc = adm_store_scalar(store, "SELECT count(*) FROM other.run WHERE status = 'running'", 0, &counts->n_unfinished);
    if (rc == SQLITE_OK) status = copy_tables(store, path, err);
    if (status != ADM_OK) {
        adm_store_rollback(store);
        return status;
    }
    if (rc == SQLITE_OK) rc = adm_store_scalar(store, "SELECT count(*) FROM temp.map_run", 0, &counts->n_runs);
    counts->n_present = n_finished - counts->n_runs;
    if (rc == SQLITE_OK) rc = drop_maps(store);
    if (rc != SQLITE_OK) {
        status = adm_store_sqlite_error(store, rc, doing, err);
        adm_store_rollback(store);
        return status;
    }
    return adm_store_flush(store, err);
}

adm_status adm_store_merge(adm_store *store, const char *path, adm_merge_counts *counts, adm_error *err) {
    *counts = (adm_merge_counts){0};
    adm_store *other = NULL;
    struct stat ours, theirs;
    /* A reader of our own looks at the file first: it knows what can be wrong with it, and says so. */
    adm_status status = adm_store_open(path, ADM_STORE_READ, &other, err);
    adm_store_close(&other);
    if (status != ADM_OK) return status;
    if (stat(store->path, &ours) == 0 && stat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
        ours.st_ino == theirs.st_ino)
        return adm_fail(err, ADM_EINPUT, "%s cannot be merged into itself", path);
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
    /* Again, now that nobody puts another file in its place. */
    const char *steps[ADM_MAX_SCHEMA_VERSION];
    int n_steps = adm_schema_steps(steps);
    status = adm_schema_check(store, "other", path, steps, n_steps, err);
    if (status == ADM_OK) status = merge_attached(store, path, counts, err);
    adm_store_execute(store, "DETACH other");
    return status;
}
