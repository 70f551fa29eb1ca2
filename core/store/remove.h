/* remove.h: taking back rows of a run: before a shard's last configuration is measured again, and when a shard is replaced. */
#ifndef ADM_CORE_STORE_REMOVE_H
#define ADM_CORE_STORE_REMOVE_H

#include <stdint.h>

#include "core/store/write.h"

/* Removes every run of this shard but `kept`, with all that belongs to it, and flushes. */
adm_status adm_store_remove_shard(adm_store *store, const char *sweep_id, int64_t shard, int64_t n_shards, int64_t kept,
                                  adm_error *err);

/* Removes a run's measurements, events and activities, and flushes: those in configurations with this length, number of KV
 * heads, batch, page size and type, whatever else they are; `like` NULL: all of them. */
adm_status adm_store_remove_rows(adm_store *store, int64_t run_id, const adm_config *like, adm_error *err);

/* Removes a run's candidates, with what was measured of them, and flushes: before they are judged again. */
adm_status adm_store_remove_candidates(adm_store *store, int64_t run_id, adm_error *err);

#endif
