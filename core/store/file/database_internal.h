/* database_internal.h: the inside of the store, for the files of this folder and their tests. */
#ifndef ADM_CORE_STORE_FILE_DATABASE_INTERNAL_H
#define ADM_CORE_STORE_FILE_DATABASE_INTERNAL_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/file/database.h"
#include "core/store/file/open.h"
#include "core/store/file/query.h"

/* PRAGMA application_id: tells our database from another application's. "ADML" in ASCII. */
enum { ADM_APPLICATION_ID = 0x41444d4c };

/* Statements that are prepared at their first use and kept; row.c has their text. */
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
    ADM_SQL_ADD_CHECK_RESULT,
    ADM_SQL_ADD_CHECK_ROW,
    ADM_SQL_ADD_MARGIN,
    ADM_SQL_ADD_ACKNOWLEDGEMENT,
    ADM_N_STATEMENTS
} adm_statement;

struct adm_store {
    sqlite3 *db;
    char *path; /* as the user gave it, for messages */
    adm_store_mode mode;
    int busy_timeout_ms;
    bool in_batch; /* a transaction is open */
    bool is_claimed; /* on a network file system, for this process alone (network.h) */
    int64_t run_id; /* the run begun last through this store, 0 before */
    uint64_t run_started_ns;
    uint64_t looked_ns, busy_since_ns, told_ns; /* of the progress handler, guard.c */
    void (*on_look)(void *user);                /* or NULL */
    void *look_user;
    sqlite3_stmt *statement[ADM_N_STATEMENTS];
};

/* What is looked at before SQLite opens a file to read: that it is one, and what stands where its journals would. */
adm_status adm_store_check_file(const char *path, adm_error *err);

/* Turns an SQLite result code into our status and a sentence with file and cure. `doing` completes "while ...". */
adm_status adm_store_sqlite_error(adm_store *store, int rc, const char *doing, adm_error *err);

/* "file:..." for SQLite, so that a name such as ":memory:" or "file:x?mode=ro" is a file like any other; `parameters` such
 * as "?mode=ro". Release with sqlite3_free(); NULL when out of memory. */
char *adm_store_uri(const char *path, const char *parameters);

/* Binds the values to ?1, ?2, ... and returns SQLite's result code. */
int adm_store_bind_values(sqlite3_stmt *statement, const adm_value *values, size_t n_values);

/* Runs one statement that gives no row, with the values bound to its parameters. An SQLite result, SQLITE_OK for done. */
int adm_store_change(adm_store *store, const char *sql, const adm_value *values, size_t n_values);

/* Opens the batch if none is open. */
adm_status adm_store_begin_batch(adm_store *store, adm_error *err);

/* A text of the present row, "" for NULL. SQLite also answers NULL where memory did not suffice to convert a text or to end it:
 * *rc is then SQLITE_NOMEM, and the text "". */
const char *adm_store_text(sqlite3_stmt *row, int column, int *rc);

/* Runs statements without parameters or results, and reads the first column of the first row, `fallback` if there is no row.
 * Both return SQLite's result code. */
int adm_store_execute(adm_store *store, const char *sql);
int adm_store_scalar(adm_store *store, const char *sql, int64_t fallback, int64_t *value);

/* Lets go of the database that is attached as `other`; tried twice where memory is short, as it would be in the next one's
 * way. Returns SQLite's result code. */
int adm_store_detach(adm_store *store);

#endif
