/* database.h: an open database, and batches. Part of store.h.
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
#ifndef ADM_CORE_STORE_FILE_DATABASE_H
#define ADM_CORE_STORE_FILE_DATABASE_H

#include "core/base/error.h"

typedef struct adm_store adm_store;

/* Commits the batch; takes it back: for rows that turn out not to be wanted. Both do nothing without a batch. */
adm_status adm_store_flush(adm_store *store, adm_error *err);
void adm_store_rollback(adm_store *store);

#endif
