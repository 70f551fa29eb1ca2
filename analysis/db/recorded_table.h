/* recorded_table.h: runs of a database as a text file that a repository can hold, and back: "adamas-runs/1".
 *
 *   {"format": "adamas-runs/1",
 *    "config_columns": ["trace", "policy", ...], "calibration_columns": [...],
 *    "event_columns": ["config", ...], "activity_columns": ["config", ...],
 *    "traces":  [{...}, ...],                     rows of the table, one a line
 *    "metrics": [{...}, ...],
 *    "runs": [{"run": {...},                      one column per line
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
 * One row per line, in the order in which the rows were stored, so that two recordings compare line by line. Raw samples stay
 * behind. Measured figures have five significant digits unless they are whole; all else is exact. A row names its trace by
 * hash, an event or activity its configuration by position; their times count from the run's first. Nulls at the end of a
 * row are left out. Ids belong to a database and are not written, nor are folders in a run's command line.
 *
 * The columns of run, trace, config, calibration, event and activity are those that the schema has, so a file carries what
 * a later schema adds. A program reads the files of its own and of earlier schemas; a later one's column is refused.
 *
 * Here: which columns of which tables a file carries. For recorded_*.c alone. */
#ifndef ADM_ANALYSIS_DB_RECORDED_TABLE_H
#define ADM_ANALYSIS_DB_RECORDED_TABLE_H

#include <jansson.h>

#include "core/store/insert.h"

enum { ADM_RECORDED_MAX_COLUMNS = 64 };

#define ADM_RECORDED_FORMAT "adamas-runs/1"

typedef struct adm_recorded_column {
    char name[48];
    char type;        /* 'i', 'd' or 's', as in adm_value */
    bool is_required; /* NOT NULL without a default */
} adm_recorded_column;

/* The columns that a file carries: those of the schema without ids, which mean something in one database only. */
typedef struct adm_recorded_table {
    const char *name;
    adm_recorded_column column[ADM_RECORDED_MAX_COLUMNS];
    size_t n_columns;
} adm_recorded_table;

/* Reads the columns from the schema. ADM_EINTERNAL: more than fit. */
adm_status adm_recorded_table_read(adm_store *store, const char *name, adm_recorded_table *table, adm_error *err);

/* "\"a\", \"b\"", each name after `prefix`; to be released with adm_free(). NULL when out of memory. */
char *adm_recorded_column_list(const adm_recorded_table *table, const char *prefix);

/* The figures of a measurement, in the file's order. */
enum { ADM_RECORDED_N_FIGURES = 10 };
extern const char *const adm_recorded_figures[ADM_RECORDED_N_FIGURES];

/* A number, whole ones as such. NULL when out of memory. */
json_t *adm_recorded_number(double value);

/* A measured figure as it is written: five digits, a hundred times finer than any of them repeats. What is written is
 * rounded here and not by the writer, so that figures which become the same are seen, and what is read and exported again is
 * the same text. NULL when out of memory. */
enum { ADM_RECORDED_DIGITS = 5 };
double adm_recorded_rounded(double value);
json_t *adm_recorded_figure(double value);

/* A value of the query's present row as JSON: NULL when out of memory. */
json_t *adm_recorded_json(const adm_query *query, int column, char type);

/* JSON as a value for a column; text is borrowed from it. False if it does not fit the column's type. */
bool adm_recorded_value(const json_t *json, char type, adm_value *value);

#endif
