/* row.h: one statement and the values on their way into it, so that a function that writes a row reads as the
 * list of its columns. Inside of the store, like database_internal.h.
 *
 * The first failure sticks in rc and turns what follows into no-ops, until adm_row_finish() or adm_row_find() reports
 * it, rolls the batch back and leaves the statement ready for its next use. */
#ifndef ADM_CORE_STORE_ROW_H
#define ADM_CORE_STORE_ROW_H

#include "core/store/columns.h"
#include "core/store/file/database_internal.h"

typedef struct adm_row {
    adm_store *store;
    sqlite3_stmt *statement; /* the store's; prepared once and reset after each use */
    int column;              /* bound so far */
    int rc;
} adm_row;

/* Opens a batch if there is none. */
adm_status adm_row_start(adm_row *row, adm_store *store, adm_statement which, adm_error *err);

/* The next column, or parameter, in order. */
void adm_row_int(adm_row *row, int64_t value);
void adm_row_int_unless(adm_row *row, int64_t value, int64_t null_value); /* NULL if equal to null_value */
void adm_row_real(adm_row *row, double value);
void adm_row_null(adm_row *row);

/* NULL binds NULL. File names and arguments are bytes, but text that is not UTF-8 stops many of a database's readers:
 * each byte that is no part of a character is stored as U+FFFD. */
void adm_row_text(adm_row *row, const char *text);

/* The columns of a table from the fields of a struct. */
void adm_row_struct(adm_row *row, const adm_table *table, const void *values);

/* Runs an INSERT or UPDATE. `doing` completes "while ..." in the message. */
adm_status adm_row_finish(adm_row *row, const char *doing, adm_error *err);

/* Runs a SELECT of an id; *id is 0 if there is no such row. */
adm_status adm_row_find(adm_row *row, int64_t *id, const char *doing, adm_error *err);

/* The id of the row inserted last. */
int64_t adm_row_new_id(const adm_store *store);

/* For a SELECT of more than an id: the statement is ready again; and the same after a failure in rc, with the batch
 * rolled back and the message written. */
void adm_row_release(adm_row *row);
adm_status adm_row_abandon(adm_row *row, const char *doing, adm_error *err);

#endif
