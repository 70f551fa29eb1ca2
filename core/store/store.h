/* store.h: the database (core/store/schema/now.sql): opening, migrating, and writing runs in batches. Brings in the functions
 * that write and read rows: run.h, write.h and query.h.
 *
 * Writes go into one open transaction, the batch; adm_store_flush() commits it. A crash at any moment loses at most the
 * batch in flight and never the file: WAL while writing, folded back into the one file on close. Every function may
 * fail with ADM_EINPUT (the file is not ours to write: not SQLite, another application's, newer than this program,
 * read-only) or ADM_EENVIRONMENT (locked, disk full, I/O); the sentence names the file. After a failed write the batch
 * is rolled back; what was flushed before stays.
 *
 * An open batch locks other writers out, and they give up after 5 s: write rows when they are ready, then flush; do not
 * measure with a batch open. A store belongs to one thread at a time. Text that is not UTF-8 is stored with U+FFFD for
 * each stray byte. */
#ifndef ADM_CORE_STORE_STORE_H
#define ADM_CORE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/query.h"
#include "core/store/run.h"
#include "core/store/write.h"

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

/* Commits the batch; takes it back: for rows that turn out not to be wanted. Both do nothing without a batch. */
adm_status adm_store_flush(adm_store *store, adm_error *err);
void adm_store_rollback(adm_store *store);

#endif
