/* guard.c: what a connection refuses, whatever the file says. */
#include "core/store/file/guard.h"

#include "core/system/clock.h"
#include "core/system/interrupt.h"
#include "core/store/file/open.h"

/* Instructions of SQLite's machine between two looks: a few milliseconds. Between two statements that follow each other less
 * passes than IDLE_NS. */
enum { STEPS_PER_LOOK = 200000, IDLE_NS = 500000000 };
static const uint64_t TELL_NS = 10000000000;

static void (*on_slow)(const char *path, double seconds);

void adm_store_on_slow(void (*slow)(const char *path, double seconds)) { on_slow = slow; }

void adm_store_on_look(adm_store *store, void (*on_look)(void *user), void *user) {
    store->on_look = on_look;
    store->look_user = user;
}

static int look(void *user) {
    adm_store *store = user;
    uint64_t now = adm_clock_ns();
    if (adm_interrupt_is_urgent()) return 1;
    if (now - store->looked_ns > IDLE_NS) store->busy_since_ns = store->told_ns = now;
    store->looked_ns = now;
    if (store->on_look != NULL) store->on_look(store->look_user);
    if (on_slow != NULL && now - store->told_ns >= TELL_NS) {
        store->told_ns = now;
        on_slow(store->path, (double)(now - store->busy_since_ns) * 1e-9);
    }
    return 0;
}

void adm_store_guard(adm_store *store) {
    static const struct {
        int what, max;
    } limits[] = {
        {SQLITE_LIMIT_LENGTH, ADM_STORE_MAX_VALUE_BYTES},
        {SQLITE_LIMIT_SQL_LENGTH, 1 << 20},
        {SQLITE_LIMIT_COLUMN, 256},
        {SQLITE_LIMIT_EXPR_DEPTH, 200},
        {SQLITE_LIMIT_COMPOUND_SELECT, 50},
        {SQLITE_LIMIT_ATTACHED, 2},
        {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1000},
        {SQLITE_LIMIT_TRIGGER_DEPTH, 50},
        {SQLITE_LIMIT_WORKER_THREADS, 0},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) sqlite3_limit(store->db, limits[i].what, limits[i].max);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0, NULL);
    sqlite3_exec(store->db, "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0", NULL, NULL, NULL);
    sqlite3_progress_handler(store->db, STEPS_PER_LOOK, look, store);
}
