/* fleet.c: the run of one shard: a new one, or an unfinished one that goes on. */
#include "core/fleet/fleet.h"

#include <inttypes.h>
#include <string.h>

#include "core/store/file/query.h"
#include "core/store/remove.h"
#include "core/store/store.h"

/* The same host, processor and GPU as that run's; a run is of one machine. */
static const char unfinished_sql[] =
    "SELECT run_id FROM run WHERE sweep_id = ? AND shard = ? AND n_shards = ? AND status <> 'complete' AND host_name = ? AND "
    "cpu_model = ? AND ifnull(gpu_uuid, '') = ifnull(?, '') ORDER BY run_id DESC LIMIT 1";

static adm_status find_unfinished(const adm_fleet *s, adm_store *store, const adm_run_info *info, int64_t *run_id,
                                  adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *run_id = 0;
    adm_status status = adm_query_open(store, unfinished_sql, &query, err, "siisss", s->id, (int64_t)s->shard.index,
                                       (int64_t)s->shard.count, info->host_name, info->cpu_model, info->gpu_uuid);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) *run_id = adm_query_int(query, 0);
    adm_query_close(&query);
    return status;
}

adm_status adm_fleet_begin(adm_fleet *s, adm_store *store, adm_run_info *info, adm_fleet_run *run, adm_error *err) {
    *run = (adm_fleet_run){0};
    if (s->shard.count == 0) return adm_store_begin_run(store, info, &run->run_id, err);
    adm_fleet_identify(s);
    info->sweep_id = s->id;
    info->sweep_grid = s->grid;
    info->sweep_parts = s->parts;
    info->sweep_inputs = s->inputs;
    info->sweep_build = s->build;
    info->shard = s->shard.index;
    info->n_shards = s->shard.count;
    adm_status status = find_unfinished(s, store, info, &run->run_id, err);
    run->is_resumed = run->run_id != 0;
    if (status != ADM_OK) return status;
    return run->is_resumed ? adm_store_reopen_run(store, run->run_id, err)
                           : adm_store_begin_run(store, info, &run->run_id, err);
}

adm_status adm_fleet_end(const adm_fleet *s, adm_store *store, const adm_fleet_run *run, const char *run_status,
                         const char *reason, adm_error *err) {
    adm_status status = adm_store_end_run(store, run->run_id, run_status, reason, err);
    if (status != ADM_OK || s->shard.count == 0 || strcmp(run_status, "complete") != 0) return status;
    return adm_store_remove_shard(store, s->id, s->shard.index, s->shard.count, run->run_id, err);
}
