/* store_merge.h: copying runs from one database into another, and pruning: what keeps a team's baselines small files
 * that can be put together.
 *
 * Runs are told apart by run_uuid, traces by hash, configurations and metrics by what they describe, so merging the same
 * file twice changes nothing. Which tables there are and how they refer to one another is read from the schema. */
#ifndef ADM_CORE_STORE_STORE_MERGE_H
#define ADM_CORE_STORE_STORE_MERGE_H

#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

typedef struct adm_merge_counts {
    int64_t n_runs;      /* copied */
    int64_t n_present;   /* were there already, and left as they are */
    int64_t n_unfinished; /* 'running' in the other file, left there */
} adm_merge_counts;

/* Copies every finished run of the database at `path`, with all that belongs to it, in one transaction. `store` is open
 * for writing, with nothing in its batch. ADM_EINPUT: the file is not ours, has another schema version, is the store's own
 * file, or has a metric under another unit or direction. */
adm_status adm_store_merge(adm_store *store, const char *path, adm_merge_counts *counts, adm_error *err);

typedef struct adm_prune_options {
    int64_t n_keep;          /* newest finished runs to keep of each (command, label, host, GPU); -1: all */
    int64_t n_keep_samples;  /* of the newest so many of each, keep the raw samples; -1: of all */
    const char *keep_label;  /* runs with this label are never touched; NULL: none */
} adm_prune_options;

typedef struct adm_prune_counts {
    int64_t n_runs, n_samples, n_configs, n_traces;
    int64_t bytes_before, bytes_after;
} adm_prune_counts;

/* Removes older runs, or only their samples, then configurations and traces that nothing refers to, and gives the room
 * back to the file system. Runs labelled 'recorded:...' and runs still 'running' stay. With `dry_run` all of it is rolled
 * back after counting, and bytes_after is bytes_before. */
adm_status adm_store_prune(adm_store *store, const adm_prune_options *options, bool dry_run, adm_prune_counts *counts,
                           adm_error *err);

#endif
