/* merge_tables.h: what the schema says of its tables, as merge.c needs it. Inside the store. */
#ifndef ADM_CORE_STORE_MERGE_MERGE_TABLES_H
#define ADM_CORE_STORE_MERGE_MERGE_TABLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/file/database.h"
#include "core/store/file/open.h"

enum { ADM_MERGE_MAX_COLUMNS = 64, ADM_MERGE_MAX_TABLES = 64, ADM_MERGE_CHECKS_BYTES = 2048 };

typedef struct adm_merge_column {
    char name[64];
    int parent;      /* the table it refers to, or -1 */
    bool is_key;     /* part of the primary key */
    bool is_text, is_real, is_never_null;
    bool is_listed;  /* a CHECK says which texts it may be */
} adm_merge_column;

typedef struct adm_merge_table {
    char name[64];
    adm_merge_column column[ADM_MERGE_MAX_COLUMNS];
    int n_columns;
    int id;          /* the column that is an integer id of its own, or -1 */
    int owner;       /* the column through which a row hangs on a run, or -1: shared by runs */
    char checks[ADM_MERGE_CHECKS_BYTES]; /* all that its CHECKs say; empty: it has none */
    int64_t offset;  /* of the file at hand: what ids move by */
} adm_merge_table;

/* The tables of our schema in the order of their creation, so that what is referred to comes first; tables that a user added
 * are none of them. Release with adm_free(). */
adm_status adm_merge_tables_read(adm_store *store, const adm_schema *schema, adm_merge_table **tables, int *n, adm_error *err);

/* Whether rows have no id, and refer to rows that hang on a run alone: where ids do not move they are copied as they are. */
bool adm_merge_is_plain(const adm_merge_table *tables, const adm_merge_table *table);

#endif
