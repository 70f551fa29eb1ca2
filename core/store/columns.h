/* columns.h: which column of a table which field of a struct goes to. INSERT statements, the search for a row that is already
 * there, and rows that come as text (store_api.h) follow from these lists: a new column is one line here, a field of the
 * struct, and a migration. Inside of the store, like database_internal.h. */
#ifndef ADM_CORE_STORE_COLUMNS_H
#define ADM_CORE_STORE_COLUMNS_H

#include <stddef.h>

#include "core/stats/stats.h"
#include "core/store/run.h"
#include "core/store/write.h"

/* The type of the struct's field. */
typedef enum adm_field_type {
    ADM_FIELD_TEXT,  /* const char * */
    ADM_FIELD_CHARS, /* char[] with a NUL */
    ADM_FIELD_I64,
    ADM_FIELD_I32,
    ADM_FIELD_U64,
    ADM_FIELD_U32,
    ADM_FIELD_REAL,  /* double */
    ADM_FIELD_DTYPE  /* adm_dtype, stored by its name */
} adm_field_type;

/* Which value of the field is stored as NULL. */
typedef enum adm_null_rule {
    ADM_NEVER_NULL,
    ADM_FILLED_IN,      /* never NULL, and the store knows a value where the caller gives none */
    ADM_NULL_IF_ABSENT, /* 0 of a number, a NULL pointer */
    ADM_NULL_IF_MINUS_1,
    ADM_NULL_IF_NAN
} adm_null_rule;

typedef struct adm_column {
    const char *name;
    adm_field_type type;
    adm_null_rule null;
    size_t offset; /* of the field in the struct */
} adm_column;

enum { ADM_MAX_COLUMNS = 40 };

typedef struct adm_table {
    const char *name;
    const adm_column *column;
    size_t n_columns;
} adm_table;

extern const adm_table adm_run_table;    /* from adm_run_info */
extern const adm_table adm_config_table; /* from adm_config; in the order of the index config_identity */

extern const adm_table adm_trace_table;  /* from adm_trace_row */

/* measurement: identity and figures. A figure that was not measured is NaN. */
typedef struct adm_measurement_row {
    adm_measurement m;
    int64_t metric_id;
    adm_distribution d;
} adm_measurement_row;

extern const adm_table adm_measurement_table;

/* INSERT INTO the table, every column a parameter; SELECT of the id of the row that has the same values in all columns, in
 * the expressions of the index TABLE_identity so that it is used. To be released with sqlite3_free(); NULL: out of memory. */
char *adm_table_insert_sql(const adm_table *table);
char *adm_table_find_sql(const adm_table *table);

#endif
