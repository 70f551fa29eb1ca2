/* collect.h: the runs of shards that several databases hold, and which of them make up which sweep. */
#ifndef ADM_CORE_FLEET_COLLECT_H
#define ADM_CORE_FLEET_COLLECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/file/open.h"
#include "core/store/merge/merge.h"

/* What becomes of a run of a shard. */
typedef enum adm_shard_fate {
    ADM_SHARD_TAKEN,
    ADM_SHARD_PRESENT,    /* it is part of the joined run already */
    ADM_SHARD_OLDER,      /* the same shard ran later, and that one counts */
    ADM_SHARD_UNFINISHED  /* killed, interrupted or failed: to be repeated */
} adm_shard_fate;

typedef struct adm_shard_run {
    size_t file;          /* index of the path */
    int64_t run_id, shard, n_shards;
    char uuid[40], command[24], sweep_id[40], grid[40], parts[40], inputs[40], build[160];
    char host[80], cpu[128], gpu[128], started_utc[32], status[16];
    size_t sweep;         /* index in adm_collection.sweep */
    adm_shard_fate fate;
} adm_shard_run;

/* One sweep: what belongs to one grid in these files. */
typedef struct adm_sweep_found {
    size_t first;         /* a run of it */
    int64_t n_shards, joined_id;
    size_t n_taken, n_present, n_older, n_unfinished;
    bool is_across;       /* of several builds or kinds of machine */
} adm_sweep_found;

typedef struct adm_collection {
    adm_shard_run *run;
    size_t n_runs, capacity;
    adm_sweep_found *sweep;
    size_t n_sweeps;
    adm_schema *known; /* of the files read */
} adm_collection;

/* Adds the runs of shards in the database at `path`, whose index is `file`. ADM_EINPUT: it is no database of ours. */
adm_status adm_collection_add(adm_collection *c, size_t file, const char *path, adm_error *err);

/* Puts together what belongs together, and decides about every run. ADM_EINPUT: runs of one grid that differ in build (unless
 * across_builds), in processor or GPU (unless across_machines), in inputs or in how the grid is divided; both files are named.
 * Begins the joined runs that are not there. */
adm_status adm_collection_plan(adm_collection *c, char *const *paths, adm_store *store, bool across_builds,
                               bool across_machines, adm_error *err);

/* What a file adds: parts[n], at most as many as there are runs. */
size_t adm_collection_parts(const adm_collection *c, size_t file, adm_merge_part *parts);

/* Ends a joined run after its parts were merged. */
adm_status adm_collection_finish(const adm_collection *c, adm_store *store, adm_error *err);

void adm_collection_free(adm_collection *c);

#endif
