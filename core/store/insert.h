/* insert.h: inserting rows whose columns are known only at run time: for programs that copy rows from one database, or file,
 * into another. Code that knows its columns uses write.h. */
#ifndef ADM_CORE_STORE_INSERT_H
#define ADM_CORE_STORE_INSERT_H

#include "core/store/file/query.h"

/* A prepared INSERT into one table, in the store's batch. Close it before the store. */
typedef struct adm_insert adm_insert;

/* table and columns are names of the schema: words of our own, never text from outside. */
adm_status adm_insert_open(adm_store *store, const char *table, const char *const *columns, size_t n_columns, adm_insert **out,
                           adm_error *err);

/* The same for rows from outside: each value is held to the bounds of its column (file/bounds.h), and one that is not is
 * ADM_EINPUT. The names are borrowed until it is closed. */
adm_status adm_insert_open_foreign(adm_store *store, const char *table, const char *const *columns, size_t n_columns,
                                   adm_insert **out, adm_error *err);

/* Inserts one row of n_columns values; *row_id (may be NULL) is its rowid. ADM_EINPUT: the row breaks a rule of the
 * schema. Any failure rolls the batch back. */
adm_status adm_insert_row(adm_insert *insert, const adm_value *values, int64_t *row_id, adm_error *err);

void adm_insert_close(adm_insert **insert);

#endif
