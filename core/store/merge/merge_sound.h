/* merge_sound.h: whether a row of another file may be copied, as SQL over the row `o`. Inside the store.
 *
 * A row is sound if its values are within bounds.h and keep the CHECKs of its table. SQLite itself tests a CHECK per row, and
 * builds the list of each `x IN ('a', 'b', 'c')` anew for it, which takes longer than all else; in a WHERE it is built once. */
#ifndef ADM_CORE_STORE_MERGE_MERGE_SOUND_H
#define ADM_CORE_STORE_MERGE_MERGE_SOUND_H

#include "core/store/file/database_internal.h"
#include "core/store/merge/merge_tables.h"

/* Makes adm_is_sound_text(x) known to the connection. Returns SQLite's result code. */
int adm_merge_sound_functions(sqlite3 *db);

/* Appends conditions joined by AND, at least one. */
void adm_merge_sound_sql(sqlite3_str *text, const adm_merge_table *table);

/* Appends AND and more conditions: that each value is of its column's type, which for a row that is not copied as it is the
 * INSERT tests. */
void adm_merge_exact_sql(sqlite3_str *text, const adm_merge_table *table);

/* Copies what CHECK( ) clauses of a CREATE TABLE say, joined by AND; empty if there is none. False: it does not fit. */
bool adm_merge_read_checks(const char *create_sql, char *out, size_t out_bytes);

#endif
