/* merge.h: copying runs from other databases into this one.
 *
 * Runs are told apart by run_uuid, traces by hash, configurations and metrics by what they describe, so merging the same
 * file twice changes nothing. Which tables there are and how they refer to one another is read from the schema.
 *
 * Runs of shards are not copied: they become parts of one joined run (core/store/merge/joined.h), where the caller says so. */
#ifndef ADM_CORE_STORE_MERGE_MERGE_H
#define ADM_CORE_STORE_MERGE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/file/database.h"

typedef struct adm_merge_counts {
    int64_t n_runs;      /* copied */
    int64_t n_present;   /* were there already, and left as they are */
    int64_t n_unfinished; /* 'running' in the other file, left there */
    int64_t n_parts;     /* runs of shards that became parts */
} adm_merge_counts;

/* A complete run of a shard, and the joined run that it becomes part of. */
typedef struct adm_merge_part {
    int64_t run_id;      /* in the other file */
    int64_t joined_id;   /* in ours */
} adm_merge_part;

/* Several files into one database, one transaction each. While it is open, the store's journal may lag behind: a crash then
 * loses the last files, never the database. */
typedef struct adm_merge adm_merge;

/* `large`: the files hold much, so that writing them once counts more than many small commits. */
adm_status adm_merge_open(adm_store *store, bool large, adm_merge **out, adm_error *err);
void adm_merge_close(adm_merge **merge);

/* Copies every finished run of the database at `path` that is no shard's, with all that belongs to it, and the parts, in one
 * transaction. ADM_EINPUT: the file is not ours, has another schema version, is the store's own file, or has a metric under
 * another unit or direction. */
adm_status adm_merge_file(adm_merge *merge, const char *path, const adm_merge_part *parts, size_t n_parts,
                          adm_merge_counts *counts, adm_error *err);

/* One file without parts. `store` is open for writing, with nothing in its batch. */
adm_status adm_store_merge(adm_store *store, const char *path, adm_merge_counts *counts, adm_error *err);

#endif
