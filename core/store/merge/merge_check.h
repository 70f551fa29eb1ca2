/* merge_check.h: looks at every row of a file on a thread of its own, while the merge copies them. Inside the store.
 *
 * Both read one state of the file: the thread's connection keeps it from changing from the start to the end, which a file in
 * WAL mode does not allow. Tables shared by runs, which are small, are not looked at here. */
#ifndef ADM_CORE_STORE_MERGE_MERGE_CHECK_H
#define ADM_CORE_STORE_MERGE_MERGE_CHECK_H

#include "core/base/error.h"
#include "core/store/file/open.h"
#include "core/store/merge/merge_tables.h"

typedef struct adm_merge_check adm_merge_check;

/* Begins to look through tables [n_tables] of the database at `path`; they are borrowed until it is finished. *out is NULL
 * where the file could change meanwhile. */
adm_status adm_merge_check_start(const char *path, adm_schema **known, const adm_merge_table *tables, int n_tables,
                                 adm_merge_check **out, adm_error *err);

/* Waits, and tells whether every row that hangs on a run is sound (merge_sound.h) and every one hangs on a run; `stop`: does
 * not wait for the answer, which is false then. NULL is fine, and false; nulls the caller's pointer. */
bool adm_merge_check_finish(adm_merge_check **check, bool stop);

#endif
