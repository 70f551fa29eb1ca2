/* schema_check.h: whether a file's schema is the one that its version number says. Inside of the store. */
#ifndef ADM_CORE_STORE_FILE_SCHEMA_CHECK_H
#define ADM_CORE_STORE_FILE_SCHEMA_CHECK_H

#include "core/store/file/database_internal.h"

/* Compares sqlite_schema of `database` ("main", or the name it is attached by; `path` for messages) with what the steps of
 * version 0 up to `version` make: every table, index and view must be there with the same text, but for white space. More
 * tables, views and indexes are the user's own and no command reads them; a trigger would run in ours, so it is refused.
 * ADM_EINPUT names the first object that differs. */
adm_status adm_schema_check(adm_store *store, const char *database, const char *path, const char *const *steps, int64_t version,
                            adm_error *err);

/* A database in memory with the schema of a version and no rows. Returns SQLite's result code; *db is to be closed in any case.
 * */
int adm_schema_reference(const char *const *steps, int64_t version, sqlite3 **db);

#endif
