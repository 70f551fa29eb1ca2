/* fuzz_database.h: a database changed byte by byte, or by SQL that may write its schema; then read as a report, as a history,
 * or merged into another.
 *
 *     first byte         what follows, and what is done with it
 *     bit 0 = 0          changes of pages: offset (3 bytes), how many bytes (1), the bytes
 *     bit 0 = 1          SQL, run with writable_schema on a copy
 *     bits 1 and 2       0: report   1: series of a history   2: merged   3: a report's data
 *     bit 3              what follows the changes up to a byte 0xee is the journal beside it (pages only) */
#ifndef ADM_TESTS_FUZZ_FUZZ_DATABASE_H
#define ADM_TESTS_FUZZ_FUZZ_DATABASE_H

#include <sqlite3.h>

#include "analysis/db/recorded_import.h"
#include "analysis/regress/series.h"
#include "analysis/report/data.h"
#include "analysis/report/html.h"
#include "core/base/mem.h"
#include "core/store/file/open.h"
#include "core/store/merge/merge.h"
#include "tests/fuzz/fuzz_store.h"

enum { FUZZ_MAX_DATABASE = 1 << 20 };

typedef struct fuzz_base {
    uint8_t data[FUZZ_MAX_DATABASE], copy[FUZZ_MAX_DATABASE];
    size_t size;
} fuzz_base;

static inline void fuzz_read_base(const char *path, fuzz_base *base) {
    FILE *file = fopen(path, "rb");
    base->size = file != NULL ? fread(base->data, 1, sizeof base->data, file) : 0;
    if (file == NULL || base->size == 0 || base->size == sizeof base->data) abort();
    fclose(file);
    fuzz_store_remove(path);
}

/* The database that is changed: the recorded run of the other fuzzer's corpus. */
static inline fuzz_base *fuzz_base_database(void) {
    static fuzz_base base;
    adm_error err = {0};
    adm_store *store = NULL;
    adm_recorded_run *runs = NULL;
    size_t n = 0;
    if (base.size > 0) return &base;
    const char *path = fuzz_store_path("base");
    static const char *const files[] = {"tests/fuzz/corpus/recorded/gpu-small.json",
                                        "tests/fuzz/corpus/recorded/host-small.json"};
    adm_status status = adm_store_open(path, ADM_STORE_WRITE, &store, &err);
    for (size_t i = 0; status == ADM_OK && i < 2; i++) {
        status = adm_recorded_import(store, files[i], &runs, &n, &err);
        adm_free(&runs);
    }
    if (status != ADM_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort(); /* run from the top level */
    }
    adm_store_close(&store);
    fuzz_read_base(path, &base);
    return &base;
}

/* A database without runs, into which others are merged; made once, since its schema takes longer than a merge. */
static inline const fuzz_base *fuzz_empty_database(void) {
    static fuzz_base base;
    adm_error err = {0};
    adm_store *store = NULL;
    if (base.size == 0) {
        const char *path = fuzz_store_path("empty");
        if (adm_store_open(path, ADM_STORE_WRITE, &store, &err) != ADM_OK) abort();
        adm_store_close(&store);
        fuzz_read_base(path, &base);
    }
    return &base;
}

/* Applies the changes; returns how many bytes of the input they took. */
static inline size_t fuzz_change_pages(fuzz_base *base, const uint8_t *data, size_t size) {
    size_t at = 0;
    while (at + 5 <= size && data[at] != 0xee) {
        size_t offset = ((size_t)data[at] << 16 | (size_t)data[at + 1] << 8 | data[at + 2]) % base->size;
        size_t n = 1 + data[at + 3] % 64;
        for (size_t i = 0; i < n && at + 4 + i < size && offset + i < base->size; i++)
            base->copy[offset + i] = data[at + 4 + i];
        at += 4 + n;
    }
    return at < size ? at : size;
}

static inline int fuzz_stop_sql(void *user) { return ++*(int *)user > 100; }

static inline void fuzz_change_schema(const char *path, const uint8_t *data, size_t size) {
    sqlite3 *db = NULL;
    int n_looks = 0;
    char *sql = fuzz_text(data, size);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK) {
        sqlite3_limit(db, SQLITE_LIMIT_LENGTH, 100000);
        sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
        sqlite3_progress_handler(db, 1000, fuzz_stop_sql, &n_looks);
        sqlite3_exec(db, "PRAGMA writable_schema = ON; PRAGMA synchronous = OFF", NULL, NULL, NULL);
        sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    sqlite3_close(db);
    free(sql);
}

static inline adm_status fuzz_report(adm_store *store, bool as_page, adm_error *err) {
    json_t *document = NULL;
    adm_text page = {0};
    adm_status status = adm_report_data(store, "x.db", NULL, 0, NULL, &(adm_progress){0}, &document, err);
    if (status == ADM_OK && as_page) status = adm_report_html(document, &page, err);
    json_decref(document);
    adm_text_free(&page);
    return status;
}

static inline adm_status fuzz_series(adm_store *store, adm_error *err) {
    const int64_t runs[] = {1, 2};
    adm_series_set set = {0};
    adm_status status = adm_series_load(store, runs, 2, NULL, &set, err);
    adm_series_free(&set);
    return status;
}

/* A database that files are merged into until one has added runs, or so many were tried: opening it takes as long as ten that
 * are refused. */
typedef struct fuzz_target {
    adm_store *store;
    adm_merge *merge;
    int n_left;
} fuzz_target;

static inline fuzz_target *fuzz_the_target(void) {
    static fuzz_target target;
    return &target;
}

static inline void fuzz_close_target(void) {
    fuzz_target *target = fuzz_the_target();
    adm_merge_close(&target->merge);
    adm_store_close(&target->store);
    fuzz_store_remove(fuzz_store_path("into"));
}

static inline adm_status fuzz_merge(const char *path, adm_error *err) {
    enum { N_TIMES = 200 };
    const char *into = fuzz_store_path("into");
    const fuzz_base *empty = fuzz_empty_database();
    fuzz_target *target = fuzz_the_target();
    adm_merge_counts counts = {0};
    adm_status status = ADM_OK;
    if (target->merge == NULL) {
        fuzz_store_put(into, "", empty->data, empty->size);
        status = adm_store_open(into, ADM_STORE_WRITE, &target->store, err);
        if (status == ADM_OK) status = adm_merge_open(target->store, false, &target->merge, err);
        fuzz_expect(status == ADM_OK, "a sound database can be merged into");
        target->n_left = N_TIMES;
    }
    status = adm_merge_file(target->merge, path, NULL, 0, &counts, err);
    if (status == ADM_OK || --target->n_left == 0) fuzz_close_target();
    return status;
}

/* What may be said of a damaged file: more than of a text, since SQLite tells a full disk from a torn page by guessing. */
static inline void fuzz_expect_told(adm_status status, const adm_error *err) {
    if (status != ADM_OK) fuzz_expect_sentence(err);
}

static inline void fuzz_know_schema(adm_schema **known) {
    adm_error err;
    adm_store *store = NULL;
    const fuzz_base *base = fuzz_base_database();
    const char *path = fuzz_store_path("changed");
    fuzz_store_put(path, "", base->data, base->size);
    if (adm_store_open_known(path, ADM_STORE_READ, known, &store, &err) != ADM_OK) abort();
    adm_store_close(&store);
    fuzz_store_remove(path);
}

static inline int fuzz_database(const uint8_t *data, size_t size) {
    static int64_t n_used_bytes = -1; /* by SQLite, between two inputs */
    static adm_schema *known; /* ours: making it takes as long as most inputs */
    fuzz_base *base = fuzz_base_database();
    adm_error err = {0};
    adm_store *store = NULL;
    if (n_used_bytes < 0 && fuzz_empty_database() != NULL) {
        fuzz_know_schema(&known);
        n_used_bytes = fuzz_the_pool()->n_used_bytes;
    }
    if (size == 0) return 0;
    const char *path = fuzz_store_path("changed");
    memcpy(base->copy, base->data, base->size);
    size_t used = data[0] & 1 ? 0 : fuzz_change_pages(base, data + 1, size - 1);
    fuzz_store_put(path, "", base->copy, base->size);
    if (data[0] & 1) fuzz_change_schema(path, data + 1, size - 1);
    else if (data[0] & 8 && used + 2 < size) fuzz_store_put(path, "-journal", data + used + 2, size - used - 2);
    if ((data[0] >> 1 & 3) == 2) {
        fuzz_expect_told(fuzz_merge(path, &err), &err);
    } else {
        adm_status status = adm_store_open_known(path, ADM_STORE_READ, &known, &store, &err);
        const int how = data[0] >> 1 & 3;
        if (status == ADM_OK) status = how == 1 ? fuzz_series(store, &err) : fuzz_report(store, how == 0, &err);
        fuzz_expect_told(status, &err);
        adm_store_close(&store);
    }
    fuzz_store_remove(path);
    fuzz_expect(fuzz_the_target()->merge != NULL || fuzz_the_pool()->n_used_bytes <= n_used_bytes,
                "all of SQLite's memory is given back");
    return 0;
}

#endif
