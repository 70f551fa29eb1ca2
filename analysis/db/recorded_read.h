/* recorded_read.h: checking a recorded file's values for their position and type. Inside of recorded_*.c. */
#ifndef ADM_ANALYSIS_DB_RECORDED_READ_H
#define ADM_ANALYSIS_DB_RECORDED_READ_H

#include "analysis/db/recorded_table.h"

typedef struct adm_recorded_file {
    const char *path;  /* borrowed */
    json_t *document;
    char position[160];   /* what is being read, for messages; "" for the whole */
} adm_recorded_file;

/* The order of a table's columns in the file's rows. */
typedef struct adm_recorded_order {
    size_t at[ADM_RECORDED_MAX_COLUMNS]; /* the table's column of each of the file's */
    size_t n;
} adm_recorded_order;

/* Loads a document of our format; release with json_decref(). ADM_EINPUT: not readable, too large, not JSON, not ours. */
adm_status adm_recorded_load(adm_recorded_file *file, const char *path, adm_error *err);

/* ADM_EINPUT with the file and the position before the sentence. */
adm_status adm_recorded_refuse(const adm_recorded_file *file, adm_error *err, const char *format, ...) ADM_PRINTF(3, 4);

/* The list under this key. */
adm_status adm_recorded_list(const adm_recorded_file *file, const json_t *object, const char *key, const json_t **list,
                             adm_error *err);

/* One value for a column; text is borrowed from the document, as below. */
adm_status adm_recorded_field(const adm_recorded_file *file, const json_t *json, const adm_recorded_column *column,
                              adm_value *value, adm_error *err);

/* An object as a row of its table: values[i] is that of column i. */
adm_status adm_recorded_object(const adm_recorded_file *file, const json_t *object, const adm_recorded_table *table,
                               adm_value *values, adm_error *err);

/* Reads NAME_columns, which must begin with `first` and hold what the table requires; or be missing altogether, and then
 * the file has no such rows. */
adm_status adm_recorded_order_read(const adm_recorded_file *file, const adm_recorded_table *table, const char *first,
                                   adm_recorded_order *order, adm_error *err);

/* An array as a row of its table: *first (borrowed) is what stands before the columns; what is missing at its end is
 * null. */
adm_status adm_recorded_array(const adm_recorded_file *file, const json_t *row, const adm_recorded_table *table,
                              const adm_recorded_order *order, const json_t **first, adm_value *values, adm_error *err);

#endif
