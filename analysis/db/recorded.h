/* recorded.h: runs of a database as a text file that a repository can hold, and back: "adamas-runs/1".
 *
 *   {"format": "adamas-runs/1",
 *    "config_columns": ["trace", "policy", ...], "calibration_columns": [...],
 *    "event_columns": ["config", ...], "activity_columns": ["config", ...],
 *    "traces":  [{...}, ...],                     rows of the table, one a line
 *    "metrics": [{...}, ...],
 *    "runs": [{"run": {...},                      one column a line
 *              "calibrations": [[...], ...],      rows by calibration_columns
 *              "configs": [{"config": [...],      by config_columns
 *                           "measurements": [["gpu", "topk", {"time_ns": [n, mean, min, p01, p05, p10, median, p90, p95,
 *                                                                         p99, max],
 *                                                             "power_w": [n, value],         n equal values
 *                                                             "limit_ratio": value,          one
 *                                                             "x": ["skipped", reason]}],    none
 *                                            ["host", null, layer, head, {...}]]}, ...],
 *              "events": [[...], ...],            by event_columns
 *              "activities": [[...], ...]}]}      by activity_columns
 *
 * A line a row, in the order in which the rows were stored, so that two recordings compare line by line. Raw samples stay
 * behind. Measured figures have five significant digits unless they are whole; all else is exact. A row names its trace by
 * hash, an event or activity its configuration by position; their times count from the run's first. Nulls at the end of a
 * row are left out. Ids belong to a database and are not written, nor are folders in a run's command line.
 *
 * The columns of run, trace, config, calibration, event and activity are those that the schema has, so a file carries what
 * a later schema adds. A program reads the files of its own and of earlier schemas; a later one's column is refused. */
#ifndef ADM_ANALYSIS_DB_RECORDED_H
#define ADM_ANALYSIS_DB_RECORDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Writes the runs to `out`; each is labelled "recorded:" and then `label`, or if that is NULL what the run itself is
 * called: its label, its GPU, or its CPU. ADM_EINPUT, before anything is written: the database lacks such a run, or it did
 * not complete. ADM_EENVIRONMENT: out of memory, or `out` does not take it; what is still buffered is the caller's. */
adm_status adm_recorded_export(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, const char *label, FILE *out,
                               adm_error *err);

/* What became of one run of a file. */
typedef struct adm_recorded_run {
    int64_t run_id;
    bool is_new;     /* false: the database already held it, and it was left alone */
    char label[128];
    size_t n_configs, n_measurements, n_events; /* in the file; activities among the events */
} adm_recorded_run;

/* Reads a file and adds those of its runs that the database does not hold yet, by UUID: all of them or, on failure,
 * none. *runs, in the file's order, is released with adm_free(); NULL on failure. ADM_EINPUT: the file cannot be read, is
 * no such file, or a row breaks the schema; the sentence names file, place and value. */
adm_status adm_recorded_import(adm_store *store, const char *path, adm_recorded_run **runs, size_t *n_runs, adm_error *err);

#endif
