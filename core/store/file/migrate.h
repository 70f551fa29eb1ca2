/* migrate.h: which schema a file has, and bringing it up to date. Inside of the store.
 *
 * The program carries core/store/schema/1.sql, 2.sql, ... (configure.py lists them); V.sql takes a file from version V - 1 to
 * V, and the last is the version that this program reads and writes. */
#ifndef ADM_CORE_STORE_FILE_MIGRATE_H
#define ADM_CORE_STORE_FILE_MIGRATE_H

#include "core/store/file/database_internal.h"

enum { ADM_MAX_SCHEMA_VERSION = 64 };

/* Sets steps[v] to the SQL that takes version v to v + 1, and returns how many there are: the newest version. */
int adm_schema_steps(const char *steps[ADM_MAX_SCHEMA_VERSION]);

/* Whose database it is, before anything in it is changed. *version is 0 for an empty file. */
adm_status adm_store_identify(adm_store *store, int newest, int64_t *version, adm_error *err);

/* Brings the file to version n_steps in one transaction, or leaves it as it was. steps[v] is SQL that takes version v
 * to v + 1; step 0 creates. The step that fails is named. Foreign keys are off in between, so that a step may rebuild
 * a table, and checked before the commit. */
adm_status adm_store_migrate(adm_store *store, const char *const *steps, int n_steps, adm_error *err);

#endif
