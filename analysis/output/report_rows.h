/* report_rows.h: rows of a query as JSON. Shared by the files that gather the report's document; nothing else. */
#ifndef ADM_ANALYSIS_OUTPUT_REPORT_ROWS_H
#define ADM_ANALYSIS_OUTPUT_REPORT_ROWS_H

#include <jansson.h>
#include <stddef.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* The name of a line in a chart, as an expression over config c: a policy and all that tells two of its configurations
 * apart, where its variant's name does not say it (that of a replay does, since forced tokens can be swept). */
#define ADM_REPORT_SERIES                                                                                         \
    "trim(c.policy || ' ' || c.variant) || CASE WHEN c.selection = 'group' AND c.variant NOT LIKE '%per group%' " \
    "THEN ', per group' ELSE '' END || "                                                                          \
    "CASE WHEN c.n_sinks > 0 AND c.variant NOT LIKE '%, ' || c.n_sinks || ' sink%' "                              \
    "THEN ', ' || c.n_sinks || ' sinks' ELSE '' END || "                                                          \
    "CASE WHEN c.n_recent > 1 AND c.variant NOT LIKE '%, ' || c.n_recent || ' recent%' "                          \
    "THEN ', ' || c.n_recent || ' recent' ELSE '' END"

/* A column of a SELECT: 'i' whole number, 'd' floating point, 's' text, 'j' text that is itself JSON (kept as text if
 * it does not parse). A NULL becomes null. */
typedef struct adm_report_column {
    const char *name;
    char type;
} adm_report_column;

/* Text as a JSON string; bytes that are not UTF-8 become '?'. NULL when out of memory. */
json_t *adm_report_string(const char *text);

/* The present row as an object. NULL when out of memory. */
json_t *adm_report_row(const adm_query *query, const adm_report_column *columns, size_t n_columns);

/* Adds `value` (taken, also on failure) to an array or under a key of an object. ADM_EENVIRONMENT when out of memory,
 * which a value of NULL is taken for. */
adm_status adm_report_append(json_t *array, json_t *value, adm_error *err);
adm_status adm_report_set(json_t *object, const char *key, json_t *value, adm_error *err);

/* Reads every row of the query into `array` and closes it. `session` >= 0 is put first into every row. */
adm_status adm_report_read(adm_query **query, const adm_report_column *columns, size_t n_columns, int session, json_t *array,
                           adm_error *err);

/* Fills document["sessions"], and which runs they are of into document["runs"]: see adm_report_data(). */
adm_status adm_report_select(adm_store *store, const char *database, const uint32_t *run_ids, size_t n_run_ids,
                             json_t *document, adm_error *err);

#endif
