/* open.c: opening and closing the database file. migrate.c brings its schema up to date.
 *
 *     while a program writes        adm.db  adm.db-wal  adm.db-shm     (journal_mode WAL)
 *     after adm_store_close()       adm.db                             (journal_mode DELETE, one file to copy)
 *     after a kill                  adm.db  adm.db-wal  adm.db-shm     (the next opening reads all flushed batches)
 */
#include "core/store/file/open.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/store/file/database_internal.h"
#include "core/store/file/guard.h"
#include "core/store/file/migrate.h"
#include "core/store/file/network.h"
#include "core/store/file/schema_check.h"

enum { BUSY_TIMEOUT_MS = 5000 };
/* Of memory for a file that is read as a copy. */
#define MAX_COPY_BYTES (INT64_C(512) << 20)

/* Looks at the path before SQLite does, whose only word for all of this is "unable to open database file". */
static adm_status check_path(const char *path, adm_store_mode mode, adm_error *err) {
    if (path[0] == '\0') return adm_fail(err, ADM_EINPUT, "the database's file name is empty");
    const char *slash = strrchr(path, '/');
    int folder_length = slash == NULL ? 1 : slash == path ? 1 : (int)(slash - path);
    const char *folder = slash == NULL ? "." : path;
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return adm_fail(err, ADM_EINPUT, "%s is a folder, not a database", path);
        if (!S_ISREG(info.st_mode)) return adm_fail(err, ADM_EINPUT, "%s is not a regular file", path);
        if (access(path, R_OK) != 0) return adm_fail(err, ADM_EINPUT, "%s cannot be read: %s", path, strerror(errno));
        if (mode == ADM_STORE_WRITE && access(path, W_OK) != 0)
            return adm_fail(err, ADM_EINPUT, "%s is read-only (%s): make it writable, or name another file", path,
                            strerror(errno));
    } else if (errno != ENOENT) {
        return adm_fail(err, ADM_EINPUT, "%s cannot be opened: %s", path, strerror(errno));
    } else if (mode == ADM_STORE_READ) {
        return adm_fail(err, ADM_EINPUT, "%s does not exist: `adamas replay` and `adamas profile` write a database", path);
    }
    if (mode == ADM_STORE_READ) return ADM_OK;

    char parent[4096];
    if (folder_length >= (int)sizeof parent)
        return adm_fail(err, ADM_EINPUT, "%s cannot be opened: %s", path, strerror(ENAMETOOLONG));
    memcpy(parent, folder, (size_t)folder_length);
    parent[folder_length] = '\0';
    if (access(parent, W_OK | X_OK) == 0) return ADM_OK;
    if (errno == ENOENT) return adm_fail(err, ADM_EINPUT, "%s cannot be created: there is no folder %s", path, parent);
    return adm_fail(err, ADM_EINPUT,
                    "%s cannot be written: SQLite keeps a journal beside it, and the folder %s is not "
                    "writable (%s)",
                    path, parent, strerror(errno));
}

/* --- Opening ------------------------------------------------------------------------------------------------------ */

/* Connects and reads the header; SQLite touches the file only at the second. */
static int connect_file(adm_store *store, const char *parameters) {
    sqlite3_close(store->db);
    store->db = NULL;
    char *uri = adm_store_uri(store->path, parameters);
    if (uri == NULL) return SQLITE_NOMEM;
    int access_flags = store->mode == ADM_STORE_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    access_flags |= SQLITE_OPEN_NOMUTEX; /* a store belongs to one thread at a time */
    int rc = sqlite3_open_v2(uri, &store->db, access_flags | SQLITE_OPEN_URI | SQLITE_OPEN_EXRESCODE, NULL);
    sqlite3_free(uri);
    if (rc != SQLITE_OK) return rc;
    sqlite3_busy_timeout(store->db, store->busy_timeout_ms);
    adm_store_guard(store);
    int64_t n_objects;
    return adm_store_scalar(store, "SELECT count(*) FROM sqlite_schema", 0, &n_objects);
}

static bool exists_beside(const char *path, const char *suffix, bool even_if_empty) {
    char *name = sqlite3_mprintf("%s%s", path, suffix);
    struct stat info;
    bool exists = name == NULL || (stat(name, &info) == 0 && (even_if_empty || info.st_size > 0));
    sqlite3_free(name);
    return exists;
}

/* A reader needs no writable folder, but SQLite does for a file in WAL mode, unless told that nobody writes: safe to
 * say when there is no journal that may hold newer rows. */
static adm_status connect(adm_store *store, adm_error *err) {
    int rc = connect_file(store, "");
    if (rc == SQLITE_OK) return ADM_OK;
    bool in_the_way = (rc & 0xff) == SQLITE_CANTOPEN || (rc & 0xff) == SQLITE_READONLY;
    if (store->mode == ADM_STORE_READ && in_the_way) {
        if (exists_beside(store->path, "-wal", false) || exists_beside(store->path, "-journal", false))
            return adm_fail(err, ADM_EINPUT,
                            "%s was left with an unmerged journal (-wal or -journal) that cannot be "
                            "merged here (%s): copy all its files to a folder you may write in, and read it there",
                            store->path, sqlite3_errmsg(store->db));
        rc = connect_file(store, "?immutable=1");
        if (rc == SQLITE_OK) return ADM_OK;
    }
    return adm_store_sqlite_error(store, rc, "opening it", err);
}

int adm_schema_version(void) {
    const char *steps[ADM_MAX_SCHEMA_VERSION];
    return adm_schema_steps(steps);
}

/* What a hostile file could do before anything in it is compared: SQLite opens its journals. */
static adm_status check_journals(const char *path, adm_error *err) {
    static const char *const suffixes[] = {"-journal", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0]; i++) {
        char *name = sqlite3_mprintf("%s%s", path, suffixes[i]);
        struct stat info;
        bool is_odd = name != NULL && stat(name, &info) == 0 && !S_ISREG(info.st_mode);
        sqlite3_free(name);
        if (name == NULL) return adm_fail(err, ADM_EENVIRONMENT, "%s: out of memory while opening it", path);
        if (is_odd)
            return adm_fail(err, ADM_EINPUT,
                            "%s%s is no regular file, and SQLite would take it for the journal of %s: remove it", path,
                            suffixes[i], path);
    }
    return ADM_OK;
}

/* Whether the file's schema is that of its version. */
static adm_status check_schema(adm_store *store, const char *const *steps, int64_t version, adm_schema **known,
                               adm_error *err) {
    const int rc = adm_schema_make(steps, version, known);
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "comparing its schema", err);
    return adm_schema_check(store, "main", store->path, *known, err);
}

adm_status adm_store_check_file(const char *path, adm_error *err) {
    adm_status status = check_path(path, ADM_STORE_READ, err);
    return status == ADM_OK ? check_journals(path, err) : status;
}

static adm_status prepare_writing(adm_store *store, adm_schema **known, adm_error *err) {
    const char *steps[ADM_MAX_SCHEMA_VERSION];
    int n_steps = adm_schema_steps(steps);
    int64_t version;
    if (sqlite3_db_readonly(store->db, "main") != 0)
        return adm_fail(err, ADM_EINPUT, "%s is read-only: make it writable, or name another file", store->path);
    adm_status status = adm_store_identify(store, n_steps, &version, err);
    if (status == ADM_OK) status = check_schema(store, steps, version, known, err);
    if (status != ADM_OK) return status;
    /* A file system without shared memory stays in rollback mode, which keeps the same promises more slowly; so does one of the
     * network. FULL: a flushed batch outlives a loss of power; the price is one fsync per batch. */
    int rc = store->is_claimed ? SQLITE_OK : adm_store_execute(store, "PRAGMA journal_mode = WAL");
    if (rc == SQLITE_OK) rc = adm_store_execute(store, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON");
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "preparing to write", err);
    return adm_store_migrate(store, steps, n_steps, err);
}

/* Puts a copy in memory in the place of the file: its pages, with the journal's. */
static adm_status copy_to_memory(adm_store *store, adm_error *err) {
    sqlite3 *copy = NULL;
    /* A reader waits for a writer, as a backup would not. */
    int rc = adm_store_execute(store, "BEGIN; SELECT count(*) FROM sqlite_schema");
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "copying it into memory", err);
    rc = sqlite3_open_v2(":memory:", &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    sqlite3_backup *backup = rc == SQLITE_OK ? sqlite3_backup_init(copy, "main", store->db, "main") : NULL;
    if (rc == SQLITE_OK && backup == NULL) rc = sqlite3_extended_errcode(copy);
    if (backup != NULL) rc = sqlite3_backup_step(backup, -1);
    if (backup != NULL && (rc == SQLITE_DONE || rc == SQLITE_OK)) rc = SQLITE_OK;
    sqlite3_backup_finish(backup);
    if (rc != SQLITE_OK) {
        const adm_status status = adm_store_sqlite_error(store, rc, "copying it into memory", err);
        sqlite3_close_v2(copy);
        return status;
    }
    sqlite3_close_v2(store->db);
    store->db = copy;
    adm_store_guard(store);
    return ADM_OK;
}

/* A file of an older version is read as a copy in memory that is migrated; the file stays as it is. */
static adm_status read_older(adm_store *store, const char *const *steps, int64_t version, adm_schema **known, adm_error *err) {
    const int newest = adm_schema_version();
    int64_t n_bytes = 0;
    adm_status status = check_schema(store, steps, version, known, err);
    adm_schema_free(known);
    if (status != ADM_OK) return status;
    const int rc = adm_store_scalar(store, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", 0,
                                    &n_bytes);
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "reading its size", err);
    if (n_bytes > MAX_COPY_BYTES)
        return adm_fail(
            err, ADM_EINPUT,
            "%s has schema version %lld, and with more than %lld MiB it is too large to be read as a copy of version "
            "%d: `adamas db create --db %s` migrates it, and changes no run",
            store->path, (long long)version, (long long)MAX_COPY_BYTES >> 20, newest, store->path);
    status = copy_to_memory(store, err);
    if (status == ADM_OK) status = adm_store_migrate(store, steps, newest, err);
    if (status == ADM_OK && adm_store_execute(store, "PRAGMA query_only = ON") != SQLITE_OK)
        status = adm_fail(err, ADM_EENVIRONMENT, "%s: the copy in memory cannot be kept from changes", store->path);
    return status == ADM_OK ? check_schema(store, steps, newest, known, err) : status;
}

/* may_copy: a copy in memory will do; else the caller goes back to the file by its name. */
static adm_status check_readable(adm_store *store, bool may_copy, adm_schema **known, adm_error *err) {
    const char *steps[ADM_MAX_SCHEMA_VERSION];
    const int newest = adm_schema_steps(steps);
    int64_t version;
    adm_status status = adm_store_identify(store, newest, &version, err);
    if (status != ADM_OK) return status;
    if (version == 0) return adm_fail(err, ADM_EINPUT, "%s is empty: no run was written to it", store->path);
    if (version < newest && may_copy) return read_older(store, steps, version, known, err);
    if (version < newest)
        return adm_fail(
            err, ADM_EINPUT,
            "%s has schema version %lld, and version %d is needed here: `adamas db create --db %s` migrates it, and "
            "changes no run",
            store->path, (long long)version, newest, store->path);
    return check_schema(store, steps, version, known, err);
}

static adm_status open_file(const char *path, adm_store_mode mode, int busy_timeout_ms, bool may_copy, adm_schema **known,
                            adm_store **out, adm_error *err) {
    *out = NULL;
    adm_store *store = NULL;
    adm_status status = check_path(path, mode, err);
    if (status == ADM_OK) status = check_journals(path, err);
    if (status == ADM_OK) status = adm_alloc(&store, 1, sizeof *store, "a database handle", err);
    if (status != ADM_OK) return status;
    store->mode = mode;
    store->busy_timeout_ms = busy_timeout_ms;
    status = adm_alloc(&store->path, strlen(path) + 1, 1, "a database's name", err);
    if (status != ADM_OK) goto done;
    strcpy(store->path, path);
    if (mode == ADM_STORE_WRITE) status = adm_network_claim(path, &store->is_claimed, err);
    if (status == ADM_OK) status = connect(store, err);
    if (status != ADM_OK) goto done;
    status = mode == ADM_STORE_READ ? check_readable(store, may_copy, known, err) : prepare_writing(store, known, err);
done:
    if (status == ADM_OK) *out = store;
    else adm_store_close(&store);
    return status;
}

bool adm_store_is_blank(const char *path) {
    adm_store store = {.path = NULL, .mode = ADM_STORE_READ};
    adm_error unused;
    int64_t n_objects = -1;
    if (adm_store_check_file(path, &unused) != ADM_OK ||
        adm_alloc(&store.path, strlen(path) + 1, 1, "a name", &unused) != ADM_OK)
        return false;
    strcpy(store.path, path);
    if (connect_file(&store, "") == SQLITE_OK) adm_store_scalar(&store, "SELECT count(*) FROM sqlite_schema", -1, &n_objects);
    sqlite3_close(store.db);
    adm_free(&store.path);
    return n_objects == 0;
}

adm_status adm_store_open_scratch(adm_store **out, adm_error *err) {
    static const char name[] = "a database in memory";
    const char *steps[ADM_MAX_SCHEMA_VERSION];
    adm_store *store = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&store, 1, sizeof *store, "a database handle", err);
    if (status != ADM_OK) return status;
    store->mode = ADM_STORE_WRITE;
    status = adm_alloc(&store->path, sizeof name, 1, "a database's name", err);
    if (status == ADM_OK) {
        memcpy(store->path, name, sizeof name);
        int rc = sqlite3_open_v2(":memory:", &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXRESCODE,
                                 NULL);
        if (rc == SQLITE_OK) {
            adm_store_guard(store);
            rc = adm_store_execute(store, "PRAGMA foreign_keys = ON");
        }
        if (rc != SQLITE_OK) status = adm_store_sqlite_error(store, rc, "opening it", err);
    }
    if (status == ADM_OK) status = adm_store_migrate(store, steps, adm_schema_steps(steps), err);
    if (status == ADM_OK) *out = store;
    else adm_store_close(&store);
    return status;
}

adm_status adm_store_open_known(const char *path, adm_store_mode mode, adm_schema **known, adm_store **out, adm_error *err) {
    return open_file(path, mode, BUSY_TIMEOUT_MS, false, known, out, err);
}

adm_status adm_store_open_waiting(const char *path, adm_store_mode mode, int busy_timeout_ms, adm_store **out, adm_error *err) {
    adm_schema *known = NULL;
    adm_status status = open_file(path, mode, busy_timeout_ms, true, &known, out, err);
    adm_schema_free(&known);
    return status;
}

adm_status adm_store_open(const char *path, adm_store_mode mode, adm_store **out, adm_error *err) {
    return adm_store_open_waiting(path, mode, BUSY_TIMEOUT_MS, out, err);
}

void adm_store_close(adm_store **address) {
    adm_store *store = *address;
    if (store == NULL) return;
    adm_store_rollback(store);
    for (int i = 0; i < ADM_N_STATEMENTS; i++) sqlite3_finalize(store->statement[i]);
    if (store->mode == ADM_STORE_WRITE && store->db != NULL) {
        /* Fails while somebody else has the file open; then the last to close it merges the journal. */
        sqlite3_busy_timeout(store->db, 0);
        adm_store_execute(store, "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE");
    }
    sqlite3_close_v2(store->db);
    if (store->is_claimed) adm_network_release(store->path);
    adm_free(&store->path);
    adm_free(address);
}
