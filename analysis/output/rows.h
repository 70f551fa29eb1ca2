/* rows.h: rows of a query as JSON. */
#ifndef ADM_ANALYSIS_OUTPUT_ROWS_H
#define ADM_ANALYSIS_OUTPUT_ROWS_H

#include <jansson.h>
#include <stddef.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* A column of a SELECT: 'i' whole number, 'd' floating point, 's' text, 'j' text that is itself JSON (kept as text if
 * it does not parse). A NULL becomes null. */
typedef struct adm_rows_column {
    const char *name;
    char type;
} adm_rows_column;

/* Text as a JSON string; bytes that are not UTF-8 become '?'. NULL when out of memory. */
json_t *adm_rows_string(const char *text);

/* A number of the present row; null where it is NULL or infinite, which JSON has not. */
json_t *adm_rows_number(const adm_query *query, int column);

/* The present row as an object. NULL when out of memory. */
json_t *adm_rows_object(const adm_query *query, const adm_rows_column *columns, size_t n_columns);

/* The present row of a SELECT *, every column by its own name and type; the text of `json_column` is itself JSON. NULL when out
 * of memory. */
json_t *adm_rows_whole(const adm_query *query, const char *json_column);

/* Adds `value` (taken, also on failure) to an array or under a key of an object. ADM_EENVIRONMENT when out of memory,
 * which a value of NULL is taken for. */
adm_status adm_rows_append(json_t *array, json_t *value, adm_error *err);
adm_status adm_rows_set(json_t *object, const char *key, json_t *value, adm_error *err);

/* Reads every row of the query into `array` and closes it. `session` >= 0 is put first into every row. */
adm_status adm_rows_read(adm_query **query, const adm_rows_column *columns, size_t n_columns, int session, json_t *array,
                         adm_error *err);

#endif
