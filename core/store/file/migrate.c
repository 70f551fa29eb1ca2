/* migrate.c: which schema a file has, and bringing it up to date. */
#include "core/store/file/migrate.h"

#include "core/base/embedded.h"
#include "core/store/file/database_internal.h"

int adm_schema_steps(const char *steps[ADM_MAX_SCHEMA_VERSION]) {
    const adm_embedded_file *file;
    int n = 0;
    for (; n < ADM_MAX_SCHEMA_VERSION && (file = adm_embedded_in("core/store/schema/", (size_t)n)) != NULL; n++)
        steps[n] = file->data;
    return n;
}

adm_status adm_store_identify(adm_store *store, int newest, int64_t *version, adm_error *err) {
    int64_t application, n_objects;
    int rc = adm_store_scalar(store, "PRAGMA application_id", 0, &application);
    if (rc == SQLITE_OK) rc = adm_store_scalar(store, "PRAGMA user_version", 0, version);
    if (rc == SQLITE_OK) rc = adm_store_scalar(store, "SELECT count(*) FROM sqlite_schema", 0, &n_objects);
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "reading its header", err);
    if (application == 0 && *version == 0 && n_objects == 0) return ADM_OK;
    if (application != ADM_APPLICATION_ID)
        return adm_fail(err, ADM_EINPUT,
                        "%s is another application's database (application_id %lld, %lld tables, views "
                        "and indexes): name another file",
                        store->path, (long long)application, (long long)n_objects);
    if (*version > newest)
        return adm_fail(err, ADM_EINPUT,
                        "%s has schema version %lld, and this program knows versions up to %d: use a "
                        "newer adamas, or name another file",
                        store->path, (long long)*version, newest);
    if (*version < 1)
        return adm_fail(err, ADM_EINPUT, "%s is damaged: its schema version is %lld", store->path, (long long)*version);
    return ADM_OK;
}

/* --- Migrating ---------------------------------------------------------------------------------------------------- */

static adm_status run_steps(adm_store *store, const char *const *steps, int n_steps, adm_error *err) {
    int64_t version, n_violations;
    adm_status status = adm_store_identify(store, n_steps, &version, err); /* again, now that nobody else can change it */
    if (status != ADM_OK) return status;
    char doing[80];
    for (; version < n_steps; version++) {
        sqlite3_snprintf(sizeof doing, doing, "migrating it from version %lld to %lld", version, version + 1);
        int rc = adm_store_execute(store, steps[version]);
        if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, doing, err);
    }
    int rc = adm_store_scalar(store, "SELECT count(*) FROM pragma_foreign_key_check", 0, &n_violations);
    char header[80];
    sqlite3_snprintf(sizeof header, header, "PRAGMA application_id = %d; PRAGMA user_version = %d", ADM_APPLICATION_ID,
                     n_steps);
    if (rc == SQLITE_OK) rc = adm_store_execute(store, header);
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "migrating it", err);
    if (n_violations > 0)
        return adm_fail(err, ADM_EINTERNAL, "%s: migrating it to version %d would leave %lld rows that refer to nothing",
                        store->path, n_steps, (long long)n_violations);
    return ADM_OK;
}

adm_status adm_store_migrate(adm_store *store, const char *const *steps, int n_steps, adm_error *err) {
    int64_t version;
    adm_status status = adm_store_identify(store, n_steps, &version, err);
    if (status != ADM_OK || version == n_steps) return status;
    int rc = adm_store_execute(store, "PRAGMA foreign_keys = OFF; BEGIN IMMEDIATE");
    if (rc != SQLITE_OK) return adm_store_sqlite_error(store, rc, "preparing its schema", err);
    store->in_batch = true;
    status = run_steps(store, steps, n_steps, err);
    if (status == ADM_OK) status = adm_store_flush(store, err);
    adm_store_rollback(store);
    adm_store_execute(store, "PRAGMA foreign_keys = ON");
    return status;
}
