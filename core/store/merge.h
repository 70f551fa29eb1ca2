/* merge.h: copying runs from one database into another.
 *
 * Runs are told apart by run_uuid, traces by hash, configurations and metrics by what they describe, so merging the same
 * file twice changes nothing. Which tables there are and how they refer to one another is read from the schema. */
#ifndef ADM_CORE_STORE_MERGE_H
#define ADM_CORE_STORE_MERGE_H

#include <stdint.h>

#include "core/base/error.h"
#include "core/store/file/database.h"

typedef struct adm_merge_counts {
    int64_t n_runs;      /* copied */
    int64_t n_present;   /* were there already, and left as they are */
    int64_t n_unfinished; /* 'running' in the other file, left there */
} adm_merge_counts;

/* Copies every finished run of the database at `path`, with all that belongs to it, in one transaction. `store` is open
 * for writing, with nothing in its batch. ADM_EINPUT: the file is not ours, has another schema version, is the store's own
 * file, or has a metric under another unit or direction. */
adm_status adm_store_merge(adm_store *store, const char *path, adm_merge_counts *counts, adm_error *err);

#endif
