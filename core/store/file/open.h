/* open.h: opening a database. Part of store.h. */
#ifndef ADM_CORE_STORE_FILE_OPEN_H
#define ADM_CORE_STORE_FILE_OPEN_H

#include <stdbool.h>

#include "core/base/error.h"

typedef struct adm_store adm_store;

/* The schema that this program writes and reads: the number of its migrations (configure.py, SCHEMA). */
int adm_schema_version(void);

/* What a report of a database is prepared for, whoever wrote it; import and merge refuse more. */
enum { ADM_STORE_MAX_HEAD = 4095, ADM_STORE_MAX_LAYER = 4095, ADM_STORE_MAX_TEXT_BYTES = 1 << 20 };

typedef enum adm_store_mode {
    ADM_STORE_READ, /* must exist; with an older schema, a copy in memory is migrated and read, and the file stays as it is */
    ADM_STORE_WRITE /* created or migrated as needed */
} adm_store_mode;

/* Opens a database. Waits up to 5 s for another writer. On failure *out is NULL. */
adm_status adm_store_open(const char *path, adm_store_mode mode, adm_store **out, adm_error *err);

/* The same, for whoever opens many: *known, NULL before the first, keeps the schema that files are compared with. Release it
 * with adm_schema_free(), which takes a pointer to NULL too and nulls it. */
typedef struct adm_schema adm_schema;
adm_status adm_store_open_known(const char *path, adm_store_mode mode, adm_schema **known, adm_store **out, adm_error *err);
void adm_schema_free(adm_schema **known);

/* Whether nothing was written to the file yet: a program that opened it was ended before its first commit. */
bool adm_store_is_blank(const char *path);

/* A database of this program's own that is in memory and ends with its closing. */
adm_status adm_store_open_scratch(adm_store **out, adm_error *err);

/* Commits nothing: an unflushed batch is rolled back. Close its queries first. NULL is fine; nulls the caller's
 * pointer. */
void adm_store_close(adm_store **store);

/* What is called every 10 s while a connection reads or writes without a pause, with the seconds so far and the file's name.
 * NULL: nobody. */
void adm_store_on_slow(void (*slow)(const char *path, double seconds));

/* What is called every few milliseconds while a statement of this connection runs, on its thread. It may not use the store.
 * NULL: nothing. */
void adm_store_on_look(adm_store *store, void (*on_look)(void *user), void *user);

/* adm_store_open() with another patience for locks, for tests. */
adm_status adm_store_open_waiting(const char *path, adm_store_mode mode, int busy_timeout_ms, adm_store **out, adm_error *err);

#endif
