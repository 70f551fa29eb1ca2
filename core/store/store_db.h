/* store_db.h: the inside of the store, shared by store.c, store_row.c, store_write.c, query.c and their tests; nobody
 * else includes it. */
#ifndef ADM_CORE_STORE_STORE_DB_H
#define ADM_CORE_STORE_STORE_DB_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"
#include "core/store/store_values.h"

/* PRAGMA application_id: tells our database from another application's. "ADML" in ASCII. */
enum { ADM_APPLICATION_ID = 0x41444d4c };

/* Statements that are prepared at their first use and kept; their text is in store_write.c. */
typedef enum adm_statement {
    ADM_SQL_ADD_RUN,
    ADM_SQL_END_RUN,
    ADM_SQL_RESUME_RUN,
    ADM_SQL_FIND_TRACE,
    ADM_SQL_ADD_TRACE,
    ADM_SQL_FIND_CONFIG,
    ADM_SQL_ADD_CONFIG,
    ADM_SQL_FIND_METRIC,
    ADM_SQL_ADD_METRIC,
    ADM_SQL_ADD_MEASUREMENT,
    ADM_SQL_ADD_SAMPLE,
    ADM_SQL_ADD_CALIBRATION,
    ADM_SQL_ADD_EVENT,
    ADM_SQL_ADD_ACTIVITY,
    ADM_SQL_ADD_CHECK_RUN,
    ADM_SQL_ADD_MARGIN,
    ADM_SQL_ADD_ACKNOWLEDGEMENT,
    ADM_N_STATEMENTS
} adm_statement;

/* A statement's text, or the table (columns.h) whose columns give it. */
typedef struct adm_statement_text {
    const char *sql;
    const struct adm_table *insert_into, *find_in;
} adm_statement_text;

extern const adm_statement_text adm_store_sql[ADM_N_STATEMENTS];

struct adm_store {
    sqlite3 *db;
    char *path; /* as the user gave it, for messages */
    adm_store_mode mode;
    int busy_timeout_ms;
    bool in_batch; /* a transaction is open */
    int64_t run_id; /* the run begun last through this store, 0 before */
    uint64_t run_started_ns;
    sqlite3_stmt *statement[ADM_N_STATEMENTS];
};

/* adm_store_open() with another patience for locks. */
adm_status adm_store_open_waiting(const char *path, adm_store_mode mode, int busy_timeout_ms, adm_store **out, adm_error *err);

/* Brings the file to version n_steps in one transaction, or leaves it as it was. steps[v] is SQL that takes version v
 * to v + 1; step 0 creates. The step that fails is named. Foreign keys are off in between, so that a step may rebuild
 * a table, and checked before the commit. */
adm_status adm_store_migrate(adm_store *store, const char *const *steps, int n_steps, adm_error *err);

/* Turns an SQLite result code into our status and a sentence with file and cure. `doing` completes "while ...". */
adm_status adm_store_sqlite_error(adm_store *store, int rc, const char *doing, adm_error *err);

/* "file:..." for SQLite, so that a name such as ":memory:" or "file:x?mode=ro" is a file like any other; `parameters` such
 * as "?mode=ro". Release with sqlite3_free(); NULL when out of memory. */
char *adm_store_uri(const char *path, const char *parameters);

/* Binds the values to ?1, ?2, ... and returns SQLite's result code. */
int adm_store_bind_values(sqlite3_stmt *statement, const adm_value *values, size_t n_values);

/* Opens the batch if none is open. */
adm_status adm_store_begin_batch(adm_store *store, adm_error *err);

/* Takes back the batch in flight, if there is one. */
void adm_store_rollback(adm_store *store);

#endif
