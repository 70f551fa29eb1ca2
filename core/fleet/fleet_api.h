/* fleet_api.h: sweeps for other programs, beside core/store/store_api.h, whose rules hold here too; part of libadamas's public
 * interface.
 *
 *     adm_shards_split -> adm_db_begin_shard -> rows, where adm_db_values finds none -> adm_db_end_shard */
#ifndef ADM_CORE_FLEET_FLEET_API_H
#define ADM_CORE_FLEET_FLEET_API_H

#include "core/store/store_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Divides n items among shards as adm_shard_split() does (core/fleet/shard.h): part[i] is 1 .. n_shards. cost[n] >= 0,
 * group[n] ascending, group_cost[n_groups]; load[n_shards] is what each shard takes. */
ADM_API int adm_shards_split(const double *cost, const uint64_t *group, size_t n, const double *group_cost, size_t n_groups,
                             uint32_t n_shards, uint32_t *part, double *load, char *error, size_t error_bytes);

/* What makes runs on several machines one sweep (core/fleet/fleet.h). */
typedef struct adm_shard_of {
    const char *shard;     /* "3/16" */
    const char *grid;      /* every option that decides what is measured, as one text */
    const char *inputs;    /* the content of every file that is read, as a hash or a list of them */
    const char *program;   /* a hash of the calling program, which counts if this library is of a changed checkout */
    const uint32_t *part;  /* [n_parts] of adm_shards_split() */
    size_t n_parts;
} adm_shard_of;

/* Begins the run of a shard as adm_db_begin_run() does, or goes on with an unfinished one of this shard and this machine:
 * *is_resumed is 1 then, and its rows are there. */
ADM_API int adm_db_begin_shard(adm_store *store, const adm_shard_of *of, const adm_field *fields, size_t n_fields,
                               int64_t *run_id, int *is_resumed, char *error, size_t error_bytes);

/* The samples of a measurement without stage, layer and head, in order: *n of them, 0 where the run has no such measurement or
 * it was stored without samples. At most `capacity` are written. */
ADM_API int adm_db_values(adm_store *store, int64_t run_id, int64_t config_id, const char *source, const char *metric,
                          double *values, size_t capacity, size_t *n, char *error, size_t error_bytes);

/* Ends a run as adm_db_end_run() does; a complete one of a shard replaces every other of that shard in the database. */
ADM_API int adm_db_end_shard(adm_store *store, const adm_shard_of *of, int64_t run_id, const char *status, const char *reason,
                             char *error, size_t error_bytes);

#ifdef __cplusplus
}
#endif

#endif
