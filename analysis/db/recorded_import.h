/* recorded_import.h: reading a recorded file (format: recorded_table.h) into a database. */
#ifndef ADM_ANALYSIS_DB_RECORDED_IMPORT_H
#define ADM_ANALYSIS_DB_RECORDED_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/error.h"
#include "core/store/store.h"

/* What became of one run of a file. */
typedef struct adm_recorded_run {
    int64_t run_id;
    bool is_new;     /* false: the database already held it, and it was left alone */
    char label[128];
    size_t n_configs, n_measurements, n_events; /* in the file; activities among the events */
} adm_recorded_run;

/* Reads a file and adds those of its runs that the database does not hold yet, by UUID: all of them or, on failure,
 * none. *runs, in the file's order, is released with adm_free(); NULL on failure. ADM_EINPUT: the file cannot be read, is
 * no such file, or a row breaks the schema; the sentence names file, position and value. */
adm_status adm_recorded_import(adm_store *store, const char *path, adm_recorded_run **runs, size_t *n_runs, adm_error *err);

#endif
