/* store_values.h: rows whose columns are known only at run time: for programs that copy rows from one database, or file,
 * into another. Whoever knows its columns uses store.h. */
#ifndef ADM_CORE_STORE_STORE_VALUES_H
#define ADM_CORE_STORE_STORE_VALUES_H

#include "core/store/store.h"

/* One value of a row. Text is borrowed; it must be UTF-8. */
typedef struct adm_value {
    char type; /* 'i', 'd', 's', or 'n': NULL */
    union {
        int64_t i;
        double d;
        const char *s;
    };
} adm_value;

/* adm_query_open() with its parameters as an array. */
adm_status adm_query_open_values(adm_store *store, const char *sql, const adm_value *values, size_t n_values, adm_query **out,
                                 adm_error *err);

/* A prepared INSERT into one table, in the store's batch. Close it before the store. */
typedef struct adm_insert adm_insert;

/* table and columns are names of the schema: words of our own, never text from outside. */
adm_status adm_insert_open(adm_store *store, const char *table, const char *const *columns, size_t n_columns, adm_insert **out,
                           adm_error *err);

/* Inserts one row of n_columns values; *row_id (may be NULL) is its rowid. ADM_EINPUT: the row breaks a rule of the
 * schema. Any failure rolls the batch back. */
adm_status adm_insert_row(adm_insert *insert, const adm_value *values, int64_t *row_id, adm_error *err);

void adm_insert_close(adm_insert **insert);

/* Takes back the batch in flight: for rows that turn out not to be wanted after they were written. */
void adm_store_discard(adm_store *store);

#endif
