/* schema_check.h: whether a file's schema is the one that its version number says. Inside of the store. */
#ifndef ADM_CORE_STORE_FILE_SCHEMA_CHECK_H
#define ADM_CORE_STORE_FILE_SCHEMA_CHECK_H

#include "core/store/file/database_internal.h"
#include "core/store/file/open.h"

/* What the migrations make: a database in memory, without rows. Making it takes longer than comparing a file with it. */
struct adm_schema {
    int64_t version;
    sqlite3 *db;
    sqlite3_stmt *objects; /* type, name, table, SQL of each table, index and view */
};

/* The schema of version steps[0] up to `version`. Unless *schema is that one already, it is made; release it with
 * adm_schema_free(). Returns SQLite's result code, and leaves NULL after a failure. */
int adm_schema_make(const char *const *steps, int64_t version, adm_schema **schema);

/* Compares sqlite_schema of `database` ("main", or the name it is attached by; `path` for messages) with that schema: every
 * table, index and view must be there with the same text, but for white space. More tables, views and indexes are the user's
 * own and no command reads them; a trigger would run in ours, so it is refused. ADM_EINPUT names the first object that differs.
 * */
adm_status adm_schema_check(adm_store *store, const char *database, const char *path, const adm_schema *schema, adm_error *err);

#endif
