/* open.h: opening a database. Part of store.h. */
#ifndef ADM_CORE_STORE_OPEN_H
#define ADM_CORE_STORE_OPEN_H

#include "core/base/error.h"

typedef struct adm_store adm_store;

/* The schema that this program writes and reads: the number of its migrations (configure.py, SCHEMA). */
int adm_schema_version(void);

typedef enum adm_store_mode {
    ADM_STORE_READ,  /* must exist; an older schema is ADM_EINPUT with the command that migrates it */
    ADM_STORE_WRITE  /* created or migrated as needed */
} adm_store_mode;

/* Opens a database. Waits up to 5 s for another writer. On failure *out is NULL. */
adm_status adm_store_open(const char *path, adm_store_mode mode, adm_store **out, adm_error *err);

/* Commits nothing: an unflushed batch is rolled back. Close its queries first. NULL is fine; nulls the caller's
 * pointer. */
void adm_store_close(adm_store **store);

/* adm_store_open() with another patience for locks, for tests. */
adm_status adm_store_open_waiting(const char *path, adm_store_mode mode, int busy_timeout_ms, adm_store **out, adm_error *err);

#endif
