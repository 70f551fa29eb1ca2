/* store_api.h: writing a run from another program, such as Python through ctypes; part of libadamas's public interface.
 *
 *     adm_db_open -> adm_db_begin_run -> { adm_db_add_trace, adm_db_add_config, adm_db_add_measurement ...
 *                                          adm_db_flush } ... -> adm_db_end_run -> adm_db_close
 *
 * A row comes as fields: the name of a column (core/store/schema/now.sql) and its value as text, "32" or "adamas". A value
 * NULL, and a column that is not named, is NULL in the row, or the store's own value where this file says so. Figures of a
 * measurement come as numbers. The functions that add a row of a shared table (trace, config) find it if it is already there.
 *
 * Rows go into one transaction, the batch, which adm_db_flush() commits: an open batch locks other writers out, so add rows
 * when they are ready and flush then. After a failure the batch is rolled back; what was flushed stays.
 *
 * Every function returns 0, or 1 (wrong input), 3 (disk, lock, memory) or 5 (a broken promise, such as a second measurement
 * with the same identity), and writes a sentence without a full stop into error[error_bytes], which may be NULL; on success it
 * is empty. NULL pointers are refused, never followed. Everything passed in is borrowed for the call. A store belongs to one
 * thread at a time.
 *
 * The library has an SQLite of its own. Do not open the same file through another SQLite in the same process, such as Python's
 * sqlite3, while the store is open: when that one closes the file, the system drops this one's locks too
 * (https://sqlite.org/howtocorrupt.html, "Multiple copies of SQLite linked into the same application"). */
#ifndef ADM_CORE_STORE_STORE_API_H
#define ADM_CORE_STORE_STORE_API_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/api.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_store adm_store;

typedef struct adm_field {
    const char *name;  /* the column's */
    const char *value; /* NULL: NULL */
} adm_field;

/* Opens the database, created or brought up to date as needed. On failure *store is NULL. */
ADM_API int adm_db_open(const char *path, adm_store **store, char *error, size_t error_bytes);

/* Rolls back what was not flushed. NULL and a pointer to NULL are fine; nulls the caller's pointer. */
ADM_API void adm_db_close(adm_store **store);

/* Adds a run with status 'running' and commits it, so that it is visible while it goes on. Columns of `run`; `command` and
 * `argv` (a JSON array of strings) must be given, and gpu_name or gpu_reason. The store fills in run_uuid and started_utc, and
 * unless they are given the seed 0, this library's tool_version, git_commit and compiler, and this machine's host_name, os,
 * cpu_model, n_cpus and memory_bytes. git_dirty goes with git_commit. */
ADM_API int adm_db_begin_run(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *run_id, char *error,
                             size_t error_bytes);

/* Finds the trace by its xxh128 (XXH3-128 of the file, 32 hexadecimal digits), or adds it. Columns of `trace`, all of them;
 * metadata is a JSON object. */
ADM_API int adm_db_add_trace(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *trace_id, char *error,
                             size_t error_bytes);

/* Finds the configuration by all its columns, or adds it. */
ADM_API int adm_db_add_config(adm_store *store, const adm_field *fields, size_t n_fields, int64_t *config_id, char *error,
                              size_t error_bytes);

/* Adds one measurement of the run and configuration. Fields: source, stage, layer, head and reason, columns of `measurement`,
 * and the metric's: metric (its name), unit, better ("lower", "higher", "none") and description. The status follows: 'ok' with
 * the distribution of n_values values; without values 'skipped', or what the field status says, and a reason is due. The values
 * are also kept, in order, as rows of `sample` if keep_samples is not 0. Values are finite. */
ADM_API int adm_db_add_measurement(adm_store *store, int64_t run_id, int64_t config_id, const adm_field *fields,
                                   size_t n_fields, const double *values, size_t n_values, int keep_samples, char *error,
                                   size_t error_bytes);

/* Commits the batch. */
ADM_API int adm_db_flush(adm_store *store, char *error, size_t error_bytes);

/* Ends the run and commits: status is "complete", "interrupted" or "failed", reason may be NULL. Unless the status is
 * "complete" the batch is rolled back first. */
ADM_API int adm_db_end_run(adm_store *store, int64_t run_id, const char *status, const char *reason, char *error,
                           size_t error_bytes);

#ifdef __cplusplus
}
#endif

#endif
