/* store.h: the database (core/store/schema/1.sql, schema_2.sql): opening, migrating, and writing runs in batches.
 *
 * Writes go into one open transaction, the batch; adm_store_flush() commits it. A crash at any moment loses at most the
 * batch in flight and never the file: WAL while writing, folded back into the one file on close. Every function may
 * fail with ADM_EINPUT (the file is not ours to write: not SQLite, another application's, newer than this program,
 * read-only) or ADM_EENVIRONMENT (locked, disk full, I/O); the sentence names the file. After a failed write the batch
 * is rolled back; what was flushed before stays.
 *
 * An open batch locks other writers out, and they give up after 5 s: write rows when they are ready, then flush; do not
 * measure with a batch open. A store belongs to one thread at a time. Text that is not UTF-8 is stored with U+FFFD for
 * each stray byte. */
#ifndef ADM_CORE_STORE_STORE_H
#define ADM_CORE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/probe.h"
#include "core/base/stats.h"
#include "core/contract/trace.h"

enum { ADM_SCHEMA_VERSION = 5 };

typedef struct adm_store adm_store;

typedef enum adm_store_mode {
    ADM_STORE_READ,  /* must exist; an older schema is ADM_EINPUT with the command that migrates it */
    ADM_STORE_WRITE  /* created or migrated as needed */
} adm_store_mode;

/* Opens a database. Waits up to 5 s for another writer. On failure *out is NULL. */
adm_status adm_store_open(const char *path, adm_store_mode mode, adm_store **out, adm_error *err);

/* Commits nothing: an unflushed batch is rolled back. Close its queries first. NULL is fine; nulls the caller's
 * pointer. */
void adm_store_close(adm_store **store);

/* Provenance of one run. Strings are borrowed for the call; see core/store/schema/1.sql for meanings. NULL text where the
 * schema allows it. adm_run_info_host() (core/store/hostinfo.h) fills in the machine's part. */
typedef struct adm_run_info {
    const char *label, *command, *argv_json;
    int64_t seed;
    const char *host_name, *os, *cpu_model, *compiler;
    int64_t n_cpus, memory_bytes;
    const char *gpu_name, *gpu_uuid, *gpu_reason, *driver_version, *cuda_version;
    int64_t sm_clock_hz, memory_clock_hz; /* 0: NULL */
    /* NULL: this build's. git_dirty (0, 1, -1 unknown) goes with git_commit. */
    const char *tool_version, *git_commit;
    int64_t git_dirty;
    /* Set by adm_store_begin_run(). */
    const char *run_uuid, *status, *started_utc;
} adm_run_info;

/* Inserts a run with status 'running', a fresh UUID, the start time and this build's version, and flushes, so that an
 * interrupted run is visible as such. */
adm_status adm_store_begin_run(adm_store *store, const adm_run_info *info, int64_t *run_id, adm_error *err);

/* Opens a run again that ended otherwise than complete, or crashed and is still 'running', and flushes: what is written
 * from now on joins it, and its elapsed time goes on. ADM_EINPUT unless there is such a run and its command, command line,
 * build and processor are those of `info`. That nobody else is writing it is for the caller to know. */
adm_status adm_store_resume_run(adm_store *store, int64_t run_id, const adm_run_info *info, adm_error *err);

/* Sets the final status ("complete", "interrupted", "failed"), reason (may be NULL) and elapsed time (NULL unless this
 * run is the last that this store began), and flushes. Unless the status is "complete" the batch in flight is rolled
 * back first, so that no half of one is kept. */
adm_status adm_store_end_run(adm_store *store, int64_t run_id, const char *status, const char *reason, adm_error *err);

/* Finds or inserts the trace's row by its hash. */
adm_status adm_store_trace(adm_store *store, const adm_trace *trace, int64_t *trace_id, adm_error *err);

/* One configuration. 0 or NULL where the schema's column is nullable means NULL, except n_sinks and n_recent (-1). */
typedef struct adm_config {
    int64_t trace_id;
    const char *policy, *variant;
    adm_shape shape;
    adm_dtype dtype;
    uint32_t seq_len, budget, batch;
    int32_t n_sinks, n_recent;
    const char *selection, *cache, *launch;
    uint32_t page_size;
    const char *batch_lens;
} adm_config;

/* Finds or inserts the configuration. */
adm_status adm_store_config(adm_store *store, const adm_config *config, int64_t *config_id, adm_error *err);

/* A metric's row: name, unit, "lower" | "higher" | "none", one sentence. Finds by name or inserts; a known name with
 * another unit or direction is ADM_EINTERNAL. */
typedef struct adm_metric {
    const char *name, *unit, *better, *description;
} adm_metric;

typedef struct adm_measurement {
    int64_t run_id, config_id;
    const char *source;         /* "host", "gpu", "model" */
    const char *stage;          /* NULL: quality */
    int32_t layer, head;        /* -1: over all */
    const adm_metric *metric;
    const adm_distribution *distribution; /* NULL when not measured: then status and reason say so */
    const char *status;         /* "ok", "skipped", "failed" */
    const char *reason;         /* NULL when ok */
    const double *samples;      /* raw values to keep in order, or NULL */
    size_t n_samples;
    const int32_t *throttle;    /* [n_samples] NVML's clock event reasons at each, -1 not watched; NULL: none was */
} adm_measurement;

/* Appends to the batch. ADM_EINTERNAL: a second measurement with the same identity in one run, a figure or sample that
 * is not finite, a distribution of no values, a status that does not go with what is given. */
adm_status adm_store_measurement(adm_store *store, const adm_measurement *measurement, adm_error *err);

/* Finite thresholds used for one layer of a trace. */
adm_status adm_store_calibration(adm_store *store, int64_t run_id, int64_t trace_id, const char *variant, int32_t layer,
                                 const float thresholds[3], adm_error *err);

/* A finished range. clock is "host" or "gpu". */
adm_status adm_store_event(adm_store *store, int64_t run_id, const adm_range *range, const char *clock, uint64_t start_ns,
                           uint64_t end_ns, adm_error *err);

/* What ran on the GPU inside a range, which gives configuration, stage and step; range NULL: in none that is known. */
adm_status adm_store_activity(adm_store *store, int64_t run_id, const adm_range *range, const adm_activity *activity,
                              adm_error *err);

/* Commits the batch. */
adm_status adm_store_flush(adm_store *store, adm_error *err);

/* --- Reading ------------------------------------------------------------------------------------------------------
 * A forward cursor over one SELECT. `bind` is a printf-like list of parameter types, one letter each: 'i' int64_t,
 * 'd' double, 's' const char * (NULL binds NULL); "" for none. */
typedef struct adm_query adm_query;

adm_status adm_query_open(adm_store *store, const char *sql, adm_query **out, adm_error *err, const char *bind, ...);

/* *row is true while there is a row to read. */
adm_status adm_query_next(adm_query *query, bool *row, adm_error *err);

bool adm_query_is_null(const adm_query *query, int column);
int64_t adm_query_int(const adm_query *query, int column);
double adm_query_double(const adm_query *query, int column);

/* Valid until the next adm_query_next(); "" for NULL. */
const char *adm_query_text(const adm_query *query, int column);

void adm_query_close(adm_query **query);

#endif
