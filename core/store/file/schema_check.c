/* schema_check.c: whether a file's schema is the one that its version number says. A file is from outside: in place of a table
 * it may hold a view without an end, and a trigger that runs when we write. */
#include "core/store/file/schema_check.h"

#include <stdbool.h>
#include <string.h>

#include "core/base/mem.h"

static const char objects_sql[] =
    "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";

int adm_schema_make(const char *const *steps, int64_t version, adm_schema **schema) {
    adm_error unused;
    if (*schema != NULL && (*schema)->version == version) return SQLITE_OK;
    adm_schema_free(schema);
    if (adm_alloc(schema, 1, sizeof **schema, "a schema", &unused) != ADM_OK) return SQLITE_NOMEM;
    adm_schema *s = *schema;
    s->version = version;
    int rc = sqlite3_open_v2(":memory:", &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    for (int64_t v = 0; v < version && rc == SQLITE_OK; v++) rc = sqlite3_exec(s->db, steps[v], NULL, NULL, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_prepare_v2(s->db, objects_sql, -1, &s->objects, NULL);
    if (rc != SQLITE_OK) adm_schema_free(schema);
    return rc;
}

void adm_schema_free(adm_schema **address) {
    adm_schema *s = *address;
    if (s == NULL) return;
    sqlite3_finalize(s->objects);
    sqlite3_close(s->db);
    adm_free(address);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* The same text but for how much white space is where there is some: what an editor or a dump changes. */
static bool same_text(const char *a, const char *b) {
    while (*a != '\0' || *b != '\0') {
        if (is_space(*a) && is_space(*b)) {
            while (is_space(*a)) a++;
            while (is_space(*b)) b++;
        } else if (*a++ != *b++) {
            return false;
        }
    }
    return true;
}

typedef struct comparison {
    adm_store *store;
    const char *path;
    sqlite3_stmt *ours, *theirs; /* type, name, table, SQL */
} comparison;

static int read_texts(sqlite3_stmt *object, const char *texts[4]) {
    int rc = SQLITE_OK;
    for (int i = 0; i < 4; i++) texts[i] = adm_store_text(object, i, &rc);
    return rc;
}

/* Compares the present row of ours with the object of the same name in the file. */
static adm_status compare_object(const comparison *c, adm_error *err) {
    const char *ours[4], *theirs[4];
    int rc = read_texts(c->ours, ours);
    const char *type = ours[0], *name = ours[1];
    sqlite3_reset(c->theirs);
    if (rc == SQLITE_OK) rc = sqlite3_bind_text(c->theirs, 1, name, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK) rc = sqlite3_step(c->theirs);
    if (rc == SQLITE_DONE) return adm_fail(err, ADM_EINPUT, "%s is damaged: it has no %s '%s'", c->path, type, name);
    if (rc == SQLITE_ROW) rc = read_texts(c->theirs, theirs);
    if (rc != SQLITE_OK) return adm_store_sqlite_error(c->store, rc, "comparing its schema", err);
    if (strcmp(theirs[0], type) != 0)
        return adm_fail(err, ADM_EINPUT, "%s is damaged: '%s' is a %s there, and should be a %s", c->path, name, theirs[0],
                        type);
    if (strcmp(theirs[2], ours[2]) != 0 || !same_text(theirs[3], ours[3]))
        return adm_fail(err, ADM_EINPUT, "%s is damaged: its %s '%s' is not the one of this schema version", c->path, type,
                        name);
    return ADM_OK;
}

static adm_status refuse_triggers(adm_store *store, const char *database, const char *path, adm_error *err) {
    sqlite3_stmt *statement = NULL;
    adm_status status = ADM_OK;
    char *sql = sqlite3_mprintf("SELECT name, tbl_name FROM \"%w\".sqlite_schema WHERE type NOT IN ('table', 'index', 'view')"
                                " OR (type = 'table' AND rootpage = 0) LIMIT 1",
                                database);
    int rc = sql == NULL ? SQLITE_NOMEM : sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    if (rc == SQLITE_OK) rc = sqlite3_step(statement);
    const char *name = rc == SQLITE_ROW ? adm_store_text(statement, 0, &rc) : "";
    const char *on = rc == SQLITE_ROW ? adm_store_text(statement, 1, &rc) : "";
    if (rc == SQLITE_ROW)
        status = adm_fail(err, ADM_EINPUT,
                          "%s has a trigger or a virtual table, '%s' on '%s', and none is ours: drop it with `sqlite3`", path,
                          name, on);
    else if (rc != SQLITE_DONE) status = adm_store_sqlite_error(store, rc, "comparing its schema", err);
    sqlite3_finalize(statement);
    sqlite3_free(sql);
    return status;
}

adm_status adm_schema_check(adm_store *store, const char *database, const char *path, const adm_schema *schema,
                            adm_error *err) {
    comparison c = {.store = store, .path = path, .ours = schema->objects};
    adm_status status = refuse_triggers(store, database, path, err);
    char *found = sqlite3_mprintf("SELECT type, name, tbl_name, sql FROM \"%w\".sqlite_schema WHERE name = ?1 COLLATE NOCASE",
                                  database);
    int rc = found == NULL ? SQLITE_NOMEM : SQLITE_OK;
    if (status == ADM_OK && rc == SQLITE_OK) rc = sqlite3_prepare_v2(store->db, found, -1, &c.theirs, NULL);
    while (status == ADM_OK && rc == SQLITE_OK && (rc = sqlite3_step(c.ours)) == SQLITE_ROW) {
        status = compare_object(&c, err);
        rc = SQLITE_OK;
    }
    if (status == ADM_OK && rc != SQLITE_DONE) status = adm_store_sqlite_error(store, rc, "comparing its schema", err);
    sqlite3_reset(c.ours);
    sqlite3_finalize(c.theirs);
    sqlite3_free(found);
    return status;
}
