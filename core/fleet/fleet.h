/* fleet.h: what makes runs on several machines one sweep (identity.h), and the run of one shard of it.
 *
 *     --shard i/n      adm_argp_shard parses it
 *     grid             every option that decides what is measured
 *     parts            how the grid is divided
 *     inputs           the content of every file that is read
 *     build            version and commit; the program's own hash where the commit does not say all
 *     id               a hash of the four: runs with one id and another shard belong together
 *
 * Runs without --shard are no part of a sweep, and cost nothing here. */
#ifndef ADM_CORE_FLEET_FLEET_H
#define ADM_CORE_FLEET_FLEET_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/run.h"
#include "core/fleet/identity.h"

/* A run that was begun or resumed. */
typedef struct adm_fleet_run {
    int64_t run_id;
    bool is_resumed;
} adm_fleet_run;

/* Begins a run, after grid and inputs are complete. Of a sweep: an unfinished run of the same shard on the same host, processor
 * and GPU goes on; its rows stay, and the caller leaves out what they cover. */
adm_status adm_fleet_begin(adm_fleet *sweep, adm_store *store, adm_run_info *info, adm_fleet_run *run, adm_error *err);

/* Ends a run as adm_store_end_run() does. A complete run of a shard replaces every other of the same shard in this database. */
adm_status adm_fleet_end(const adm_fleet *sweep, adm_store *store, const adm_fleet_run *run, const char *status,
                         const char *reason, adm_error *err);

#endif
