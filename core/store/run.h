/* run.h: the row of a run: beginning, resuming and ending it. Part of store.h. */
#ifndef ADM_CORE_STORE_RUN_H
#define ADM_CORE_STORE_RUN_H

#include <stdint.h>

#include "core/system/hostinfo.h"
#include "core/base/error.h"

typedef struct adm_store adm_store;

/* A random UUID (RFC 9562, version 4) and its NUL. ADM_EENVIRONMENT: no random bytes. */
adm_status adm_new_uuid(char out[37], adm_error *err);

/* Provenance of one run. Strings are borrowed for the call; see core/store/schema/1.sql for meanings. NULL text where the
 * schema allows it. adm_run_info_host() fills in the machine's part. */
typedef struct adm_run_info {
    const char *label, *command, *argv_json;
    int64_t seed;
    const char *host_name, *os, *cpu_model, *compiler;
    int64_t n_cpus, memory_bytes;
    const char *gpu_name, *gpu_uuid, *gpu_reason, *driver_version, *cuda_version;
    int64_t sm_clock_hz, memory_clock_hz; /* 0: NULL */
    /* NULL: this build's. git_dirty (0, 1, -1 unknown) goes with git_commit. */
    const char *tool_version, *git_commit, *commit_utc;
    int64_t git_dirty;
    /* The pool that the machine belongs to, and how its CPU is set ("on" or "off"); NULL where the machine does not say. */
    const char *machine, *cpu_governor, *cpu_turbo, *cpu_smt;
    /* Of a part of a sweep, filled in by core/fleet; NULL and 0: no sweep. */
    const char *sweep_id, *sweep_grid, *sweep_parts, *sweep_inputs, *sweep_build;
    int64_t shard, n_shards;
    /* Of one of several GPUs that a call profiles; NULL and 0: it profiles one. */
    const char *together_uuid;
    int64_t n_together;
    const char *only_times; /* the few times that it takes alone; NULL: all of its command */
    /* Set by adm_store_begin_run(). */
    const char *run_uuid, *status, *started_utc;
} adm_run_info;

/* Fills in the machine's and the build's part of info with pointers into *host, which must outlive it. */
void adm_run_info_host(adm_run_info *info, const adm_host_info *host);

/* Inserts a run with status 'running', a fresh UUID, the start time and this build's version, and flushes, so that an
 * interrupted run is visible as such. */
adm_status adm_store_begin_run(adm_store *store, const adm_run_info *info, int64_t *run_id, adm_error *err);

/* Opens a run again that ended otherwise than complete, or crashed and is still 'running', and flushes: what is written
 * from now on joins it, and its elapsed time goes on. ADM_EINPUT unless there is such a run and its command, command line,
 * build and processor are those of `info`. The caller makes sure that nobody else is writing it. */
adm_status adm_store_resume_run(adm_store *store, int64_t run_id, const adm_run_info *info, adm_error *err);

/* The same for a run of which the caller knows that it is the one to go on with. */
adm_status adm_store_reopen_run(adm_store *store, int64_t run_id, adm_error *err);

/* Sets the final status ("complete", "interrupted", "failed"), reason (may be NULL) and elapsed time (NULL unless this
 * run is the last that this store began), and flushes. Unless the status is "complete" the batch in flight is rolled
 * back first, so that no half of one is kept. */
adm_status adm_store_end_run(adm_store *store, int64_t run_id, const char *status, const char *reason, adm_error *err);

#endif
