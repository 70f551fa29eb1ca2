/* merge_check.c: a second reader of a file that is merged. */
#include "core/store/merge/merge_check.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>

#include "core/base/mem.h"
#include "core/store/file/database_internal.h"
#include "core/store/merge/merge_sound.h"
#include "core/system/interrupt.h"

struct adm_merge_check {
    adm_store *other;
    const adm_merge_table *table;
    int n_tables;
    pthread_t thread;
    bool is_sound; /* after the thread has ended */
};

enum { STEPS_PER_LOOK = 200000 };

static int look(void *unused) {
    (void)unused;
    return adm_interrupt_is_urgent();
}

/* Whether a table has a row that is not to be copied as it is. */
static bool is_table_sound(const adm_merge_check *c, const adm_merge_table *t) {
    const adm_merge_table *parent = &c->table[t->column[t->owner].parent];
    sqlite3_str *text = sqlite3_str_new(c->other->db);
    int64_t broken = 1;
    sqlite3_str_appendf(text, "SELECT EXISTS (SELECT 1 FROM main.\"%w\" o NOT INDEXED WHERE (", t->name);
    adm_merge_sound_sql(text, t);
    if (adm_merge_is_plain(c->table, t)) adm_merge_exact_sql(text, t);
    sqlite3_str_appendf(text, " AND o.\"%w\" IN (SELECT \"%w\" FROM main.\"%w\")) IS NOT TRUE)", t->column[t->owner].name,
                        parent->column[parent->id].name, parent->name);
    char *sql = sqlite3_str_finish(text);
    const bool is_read = sql != NULL && adm_store_scalar(c->other, sql, 1, &broken) == SQLITE_OK;
    sqlite3_free(sql);
    return is_read && broken == 0;
}

static void *run(void *user) {
    adm_merge_check *c = user;
    c->is_sound = true;
    for (int i = 0; i < c->n_tables && c->is_sound; i++)
        if (c->table[i].owner >= 0) c->is_sound = is_table_sound(c, &c->table[i]);
    return NULL;
}

/* Whether the header says that the file has a rollback journal: who reads it keeps others from writing. */
static bool has_rollback_journal(const char *path) {
    enum { WRITES = 18, READS = 19, ROLLBACK = 1 };
    unsigned char header[20] = {0};
    FILE *file = fopen(path, "re");
    const bool is_read = file != NULL && fread(header, sizeof header, 1, file) == 1;
    if (file != NULL) fclose(file);
    return is_read && header[WRITES] == ROLLBACK && header[READS] == ROLLBACK;
}

/* The thread takes no signal: those are for whoever waits for it. */
static bool start_thread(adm_merge_check *c) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const bool is_started = pthread_create(&c->thread, NULL, run, c) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return is_started;
}

adm_status adm_merge_check_start(const char *path, adm_schema **known, const adm_merge_table *tables, int n_tables,
                                 adm_merge_check **out, adm_error *err) {
    adm_merge_check *c = NULL;
    int64_t n = 0;
    *out = NULL;
    adm_status status = adm_alloc(&c, 1, sizeof *c, "a second reader", err);
    if (status != ADM_OK) return status;
    c->table = tables;
    c->n_tables = n_tables;
    status = adm_store_open_known(path, ADM_STORE_READ, known, &c->other, err);
    int rc = status == ADM_OK ? adm_merge_sound_functions(c->other->db) : SQLITE_ERROR;
    if (rc == SQLITE_OK) rc = adm_store_execute(c->other, "BEGIN");
    if (rc == SQLITE_OK) rc = adm_store_scalar(c->other, "SELECT count(*) FROM sqlite_schema", 0, &n); /* takes the lock */
    if (rc == SQLITE_OK) sqlite3_progress_handler(c->other->db, STEPS_PER_LOOK, look, NULL);
    if (rc == SQLITE_OK && has_rollback_journal(path) && start_thread(c)) {
        *out = c;
        return ADM_OK;
    }
    adm_store_close(&c->other);
    adm_free(&c);
    return status;
}

bool adm_merge_check_finish(adm_merge_check **check, bool stop) {
    adm_merge_check *c = *check;
    if (c == NULL) return false;
    if (stop) sqlite3_interrupt(c->other->db);
    pthread_join(c->thread, NULL);
    const bool is_sound = c->is_sound && !stop;
    adm_store_execute(c->other, "ROLLBACK");
    adm_store_close(&c->other);
    adm_free(check);
    return is_sound;
}
