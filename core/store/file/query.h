/* query.h: reading the database, row by row. Part of store.h.
 *
 * A forward cursor over one SELECT. `bind` is a printf-like list of parameter types, one letter each: 'i' int64_t,
 * 'd' double, 's' const char * (NULL binds NULL); "" for none. */
#ifndef ADM_CORE_STORE_FILE_QUERY_H
#define ADM_CORE_STORE_FILE_QUERY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

typedef struct adm_store adm_store;
typedef struct adm_query adm_query;

adm_status adm_query_open(adm_store *store, const char *sql, adm_query **out, adm_error *err, const char *bind, ...);

/* *row is true while there is a row to read. */
adm_status adm_query_next(adm_query *query, bool *row, adm_error *err);

bool adm_query_is_null(const adm_query *query, int column);
int64_t adm_query_int(const adm_query *query, int column);
double adm_query_double(const adm_query *query, int column);

/* The columns of the SELECT, for queries such as SELECT *: how many, their names, and the type of the present row's value: 'i',
 * 'd', 's' or 'n' (NULL). */
int adm_query_n_columns(const adm_query *query);
const char *adm_query_name(const adm_query *query, int column);
char adm_query_type(const adm_query *query, int column);

/* Valid until the next adm_query_next(); "" for NULL. A number as text needs memory, for lack of which it is "" too, and the
 * next adm_query_next() fails: write one by its type where no row follows. */
const char *adm_query_text(const adm_query *query, int column);

void adm_query_close(adm_query **query);

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

#endif
