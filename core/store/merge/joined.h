/* joined.h: the joined run of a sweep: one run whose rows come from the runs of its shards.
 *
 * Each measurement names its shard (of_shard), whose machine the table `shard` has. Figures of the device, which every shard
 * measures, are one row: a distribution with a sample per shard (sample.i is the shard), so that none stands for all. */
#ifndef ADM_CORE_STORE_MERGE_JOINED_H
#define ADM_CORE_STORE_MERGE_JOINED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/file/database.h"
#include "core/store/merge/merge.h"

/* Finds the joined run of a sweep; *run_id is 0 where there is none. */
adm_status adm_joined_find(adm_store *store, const char *sweep_id, int64_t n_shards, int64_t *run_id, adm_error *err);

/* Begins one, with the columns of a shard's run in the database at `path`; it is 'running' until adm_joined_finish(). */
adm_status adm_joined_begin(adm_store *store, const char *path, int64_t shard_run_id, int64_t *run_id, adm_error *err);

/* Sets what follows from the parts: status and reason ("shards 3, 7-9 of 16 are missing"), time, hosts, GPUs, builds, and the
 * device's figures. */
adm_status adm_joined_finish(adm_store *store, int64_t run_id, adm_error *err);

/* Inside of a merge, with the other database attached as `other`. take: replaces what is there of these shards, and notes
 * them in temp.part(old, new, shard); map: adds them to temp.map_run; devices: adds the device's figures. */
adm_status adm_joined_take(adm_store *store, const adm_merge_part *parts, size_t n, adm_error *err);
int adm_joined_map(adm_store *store);
adm_status adm_joined_devices(adm_store *store, adm_error *err);

#endif
