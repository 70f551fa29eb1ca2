/* bounds.h: how large the values of imported and merged rows may be. A file is from outside: a head number of 4,000,000,000 in
 * it would have a report write as many cells. Inside of the store. */
#ifndef ADM_CORE_STORE_FILE_BOUNDS_H
#define ADM_CORE_STORE_FILE_BOUNDS_H

#include "core/store/file/database_internal.h"

/* Of the whole numbers in a column. */
typedef struct adm_bounds {
    const char *column; /* borrowed */
    int64_t low, high;
} adm_bounds;

/* By the column's name: ADM_STORE_MAX_HEAD, _LAYER, ...; 2^53 otherwise. */
adm_bounds adm_bounds_of(const char *column);

/* Refuses (ADM_EINPUT) a whole number outside the bounds, a real number that is not finite, a text of more than
 * ADM_STORE_MAX_TEXT_BYTES or that is not UTF-8. */
adm_status adm_bounds_check(const adm_bounds *bounds, const adm_value *value, adm_error *err);

/* The same for every row of a table of an attached database, before it is merged; `path` names it. */
adm_status adm_bounds_check_table(adm_store *store, const char *database, const char *table, const char *path, adm_error *err);

#endif
