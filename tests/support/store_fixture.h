/* store_fixture.h: what the tests of the store share: a scratch folder, one run's worth of rows, a second way to look
 * into the file (SQLite itself, not our reader), and children to be killed. */
#ifndef ADM_TESTS_SUPPORT_STORE_FIXTURE_H
#define ADM_TESTS_SUPPORT_STORE_FIXTURE_H

/* cmocka.h needs these four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/store/store.h"
#include "core/store/file/database_internal.h"

/* ---- one folder per test, with one database in it -------------------------------------------------------------------- */

typedef struct fixture {
    char folder[200], db[256];
    adm_error err;
} fixture;

static inline int make_fixture(void **state) {
    fixture *f = calloc(1, sizeof *f);
    const char *parent = getenv("TMPDIR");
    snprintf(f->folder, sizeof f->folder, "%s/adamas-store-XXXXXX", parent != NULL ? parent : "/tmp");
    if (mkdtemp(f->folder) == NULL) {
        perror(f->folder);
        return -1;
    }
    snprintf(f->db, sizeof f->db, "%s/a.db", f->folder);
    *state = f;
    return 0;
}

static inline int remove_entry(const char *path, const struct stat *info, int type, struct FTW *where) {
    (void)info, (void)type, (void)where;
    return remove(path);
}

static inline int drop_fixture(void **state) {
    fixture *f = *state;
    chmod(f->folder, 0700);
    nftw(f->folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

#define STORE_TEST(function) cmocka_unit_test_setup_teardown(function, make_fixture, drop_fixture)

/* ---- expectations ------------------------------------------------------------------------------------------------ */

static inline void check_ok(adm_status status, const adm_error *err, int line) {
    if (status != ADM_OK) print_error("line %d: status %d: %s\n", line, (int)status, err->text);
    assert_int_equal(status, ADM_OK);
}
#define OK(call) check_ok((call), &f->err, __LINE__)

/* The status, and a sentence that holds each of the fragments. */
static inline void check_fails(adm_status got, adm_status want, const adm_error *err, const char *const *fragment, int line) {
    bool right = got == want && err->status == want;
    for (; right && *fragment != NULL; fragment++) right = strstr(err->text, *fragment) != NULL;
    if (!right)
        print_error("line %d: status %d (want %d), sentence '%s' lacks '%s'\n", line, (int)got, (int)want, err->text,
                    *fragment != NULL ? *fragment : "");
    assert_true(right);
}
#define FAILS(want, call, ...) \
    check_fails((call), (want), &f->err, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL}, __LINE__)

/* ---- SQLite's own view of a file --------------------------------------------------------------------------------- */

static inline sqlite3 *raw_open(const char *path) {
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL), SQLITE_OK);
    return db;
}

static inline void raw_exec(const char *path, const char *sql) {
    sqlite3 *db = raw_open(path);
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK) fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

/* The first value as text, "NULL" or "(no row)"; valid until the next call. */
static inline const char *raw_text(const char *path, const char *sql) {
    static char text[4096];
    sqlite3 *db = raw_open(path);
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    int rc = sqlite3_step(statement);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    const char *value = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : "(no row)";
    snprintf(text, sizeof text, "%s", value != NULL ? value : "NULL");
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return text;
}
#define RAW(sql) raw_text(f->db, (sql))

/* ---- rows -------------------------------------------------------------------------------------------------------- */

static inline adm_run_info some_run(void) {
    return (adm_run_info){.label = "a run",
                          .command = "replay",
                          .argv_json = "[\"adamas\", \"replay\"]",
                          .seed = 7,
                          .host_name = "host",
                          .os = "os",
                          .cpu_model = "cpu",
                          .compiler = "cc",
                          .n_cpus = 2,
                          .memory_bytes = 1024,
                          .gpu_reason = "the run used no GPU"};
}

static inline adm_config some_config(int64_t trace_id) {
    return (adm_config){.trace_id = trace_id,
                        .policy = "adamas",
                        .variant = "l1",
                        .shape = {9, 3, 64},
                        .dtype = ADM_F16,
                        .seq_len = 4096,
                        .budget = 64,
                        .batch = 1,
                        .n_sinks = -1,
                        .n_recent = -1,
                        .launch = "host"};
}

static inline adm_trace some_trace(void) {
    return (adm_trace){.path = "x/t.safetensors",
                       .name = "t.safetensors",
                       .kind = "synthetic",
                       .model = "m",
                       .xxh128 = "0123456789abcdef0123456789abcdef",
                       .file_bytes = 1000,
                       .shape = {9, 3, 64},
                       .softmax_scale = 0.125,
                       .n_tokens = 4096,
                       .n_steps = 64,
                       .n_layers = 2};
}

static const adm_metric recall_metric = {"recall", "ratio", "higher", "Share of the exact top-k that was selected"};
static const adm_metric time_metric = {"time_ns", "ns", "lower", "Duration"};

/* Ten different figures, so that a column in the wrong place shows. */
static const adm_distribution some_distribution = {.n = 12,
                                                   .mean = 0.5,
                                                   .min = 0.01,
                                                   .p01 = 0.02,
                                                   .p05 = 0.05,
                                                   .p10 = 0.1,
                                                   .median = 0.51,
                                                   .p90 = 0.9,
                                                   .p95 = 0.95,
                                                   .p99 = 0.98,
                                                   .max = 0.99};

static inline adm_measurement some_measurement(int64_t run_id, int64_t config_id) {
    return (adm_measurement){.run_id = run_id,
                             .config_id = config_id,
                             .source = "host",
                             .stage = "topk",
                             .layer = -1,
                             .head = -1,
                             .metric = &time_metric,
                             .distribution = &some_distribution,
                             .status = "ok"};
}

/* A store with a begun run and a configuration on a trace, flushed. */
typedef struct session {
    adm_store *store;
    int64_t run_id, trace_id, config_id;
} session;

static inline adm_status begin_session(const char *path, session *s, adm_error *err) {
    adm_run_info run = some_run();
    adm_trace trace = some_trace();
    adm_status status = adm_store_open(path, ADM_STORE_WRITE, &s->store, err);
    if (status == ADM_OK) status = adm_store_begin_run(s->store, &run, &s->run_id, err);
    if (status == ADM_OK) status = adm_store_trace(s->store, &trace, &s->trace_id, err);
    adm_config config = some_config(s->trace_id);
    if (status == ADM_OK) status = adm_store_config(s->store, &config, &s->config_id, err);
    return status == ADM_OK ? adm_store_flush(s->store, err) : status;
}

/* Writes measurements of layers first .. first+n-1, each with three samples, into the batch. */
static inline adm_status write_layers(const session *s, int first, int n, adm_error *err) {
    const double samples[3] = {3, 1, 2};
    adm_measurement m = some_measurement(s->run_id, s->config_id);
    m.samples = samples;
    m.n_samples = 3;
    for (m.layer = first; m.layer < first + n; m.layer++) {
        adm_status status = adm_store_measurement(s->store, &m, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

/* ---- children ---------------------------------------------------------------------------------------------------- */

/* Runs body in a child; the parent goes on. The child's result is its exit status; it leaves cmocka alone. */
static inline pid_t start_child(int (*body)(fixture *f, int argument), fixture *f, int argument) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) _exit(body(f, argument));
    assert_true(child > 0);
    return child;
}

/* The exit status, or minus the signal that ended the child. */
static inline int wait_for(pid_t child) {
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

#endif
