/* run.c: the row of a run: beginning and ending it, and going on with one that was interrupted, failed or crashed. */
#include "core/store/run.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "core/base/version.h"
#include "core/store/row.h"
#include "core/store/file/database_internal.h"

void adm_run_info_host(adm_run_info *info, const adm_host_info *host) {
    info->host_name = host->host_name;
    info->os = host->os;
    info->cpu_model = host->cpu_model;
    info->n_cpus = host->n_cpus;
    info->memory_bytes = host->memory_bytes;
    info->compiler = adm_compiler();
    info->machine = host->machine[0] != '\0' ? host->machine : NULL;
    info->cpu_governor = host->cpu_governor[0] != '\0' ? host->cpu_governor : NULL;
    info->cpu_turbo = host->cpu_turbo[0] != '\0' ? host->cpu_turbo : NULL;
    info->cpu_smt = host->cpu_smt[0] != '\0' ? host->cpu_smt : NULL;
}

adm_status adm_new_uuid(char out[37], adm_error *err) {
    uint8_t b[16];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return adm_fail(err, ADM_EENVIRONMENT, "no random bytes for a UUID: %s", strerror(errno));
    b[6] = (uint8_t)(0x40 | (b[6] & 0x0f));
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4],
             b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return ADM_OK;
}

adm_status adm_store_begin_run(adm_store *store, const adm_run_info *info, int64_t *run_id, adm_error *err) {
    char uuid[37], now[25];
    adm_run_info run = *info;
    adm_row row;
    adm_status status = adm_new_uuid(uuid, err);
    if (status == ADM_OK) status = adm_row_start(&row, store, ADM_SQL_ADD_RUN, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    run.run_uuid = uuid;
    run.started_utc = now;
    run.status = "running";
    if (run.label == NULL) run.label = "";
    if (run.tool_version == NULL) run.tool_version = adm_version();
    if (run.git_commit == NULL) {
        run.git_commit = adm_git_commit();
        run.git_dirty = adm_git_dirty();
        run.commit_utc = adm_git_commit_utc();
    }
    adm_row_struct(&row, &adm_run_table, &run);
    status = adm_row_finish(&row, "recording a run", err);
    if (status != ADM_OK) return status;
    *run_id = store->run_id = adm_row_new_id(store);
    store->run_started_ns = adm_clock_ns();
    return adm_store_flush(store, err);
}

adm_status adm_store_end_run(adm_store *store, int64_t run_id, const char *run_status, const char *reason, adm_error *err) {
    char now[25];
    adm_row row;
    if (strcmp(run_status, "complete") != 0) adm_store_rollback(store);
    adm_status status = adm_row_start(&row, store, ADM_SQL_END_RUN, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    adm_row_text(&row, run_status);
    adm_row_text(&row, reason);
    adm_row_text(&row, now);
    if (run_id == store->run_id) adm_row_int(&row, (int64_t)(adm_clock_ns() - store->run_started_ns));
    else adm_row_null(&row);
    adm_row_int(&row, run_id);
    status = adm_row_finish(&row, "recording the end of a run", err);
    if (status != ADM_OK) return status;
    if (sqlite3_changes(store->db) != 1) {
        adm_store_rollback(store);
        return adm_fail(err, ADM_EINTERNAL, "%s: there is no run %lld to end", store->path, (long long)run_id);
    }
    return adm_store_flush(store, err);
}

/* --- Resuming -------------------------------------------------------------------------------------------------------- */

/* A run's column beside what it must be; the first that differs refuses. */
static adm_status check_same(const adm_query *q, int column, const char *what, const char *now, int64_t run_id,
                             adm_error *err) {
    if (strcmp(adm_query_text(q, column), now) == 0) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "run %" PRId64 " cannot be resumed: its %s was %s and is now %s; start a new run", run_id,
                    what, adm_query_text(q, column), now);
}

/* Takes -q and --quiet out of a command line as JSON: they change what is printed, not what is computed. */
static void leave_out_quiet(char *argv_json) {
    static const char *const quiet[] = {",\"-q\"", ",\"--quiet\""};
    for (size_t i = 0; i < sizeof quiet / sizeof *quiet; i++) {
        const size_t n = strlen(quiet[i]);
        for (char *at; (at = strstr(argv_json, quiet[i])) != NULL;) memmove(at, at + n, strlen(at + n) + 1);
    }
}

static adm_status without_quiet(const char *argv_json, char **out, adm_error *err) {
    const size_t bytes = strlen(argv_json) + 1;
    const adm_status status = adm_alloc(out, bytes, 1, "a command line", err);
    if (status != ADM_OK) return status;
    memcpy(*out, argv_json, bytes);
    leave_out_quiet(*out);
    return ADM_OK;
}

static adm_status check_command_line(const adm_query *q, const adm_run_info *info, int64_t run_id, adm_error *err) {
    char *was = NULL, *now = NULL;
    adm_status status = without_quiet(adm_query_text(q, 2), &was, err);
    if (status == ADM_OK) status = without_quiet(info->argv_json, &now, err);
    if (status == ADM_OK && strcmp(was, now) != 0) status = check_same(q, 2, "command line", info->argv_json, run_id, err);
    adm_free(&was);
    adm_free(&now);
    return status;
}

static adm_status check_run(const adm_query *q, const adm_run_info *info, int64_t run_id, adm_error *err) {
    if (strcmp(adm_query_text(q, 0), "complete") == 0)
        return adm_fail(err, ADM_EINPUT, "run %" PRId64 " is complete: there is nothing to resume", run_id);
    adm_status status = check_same(q, 1, "command", info->command, run_id, err);
    if (status == ADM_OK) status = check_command_line(q, info, run_id, err);
    if (status == ADM_OK) status = check_same(q, 3, "build", adm_git_commit(), run_id, err);
    if (status == ADM_OK) status = check_same(q, 4, "processor", info->cpu_model, run_id, err);
    return status;
}

adm_status adm_store_resume_run(adm_store *store, int64_t run_id, const adm_run_info *info, adm_error *err) {
    adm_query *query = NULL;
    bool found = false;
    adm_status status = adm_query_open(store, "SELECT status, command, argv, git_commit, cpu_model FROM run WHERE run_id = ?",
                                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &found, err);
    if (status == ADM_OK && !found)
        status = adm_fail(err, ADM_EINPUT, "%s has no run %" PRId64 " to resume", store->path, run_id);
    if (status == ADM_OK) status = check_run(query, info, run_id, err);
    adm_query_close(&query);
    return status == ADM_OK ? adm_store_reopen_run(store, run_id, err) : status;
}

adm_status adm_store_reopen_run(adm_store *store, int64_t run_id, adm_error *err) {
    adm_row row;
    adm_query *query = NULL;
    bool found = false;
    adm_status status = adm_query_open(store, "SELECT ifnull(elapsed_ns, 0) FROM run WHERE run_id = ?", &query, err, "i",
                                       run_id);
    if (status == ADM_OK) status = adm_query_next(query, &found, err);
    const uint64_t elapsed_ns = status == ADM_OK && found ? (uint64_t)adm_query_int(query, 0) : 0;
    adm_query_close(&query);
    if (status == ADM_OK) status = adm_row_start(&row, store, ADM_SQL_RESUME_RUN, err);
    if (status != ADM_OK) return status;
    adm_row_int(&row, run_id);
    status = adm_row_finish(&row, "resuming a run", err);
    if (status != ADM_OK) return status;
    store->run_id = run_id;
    store->run_started_ns = adm_clock_ns() - elapsed_ns;
    return adm_store_flush(store, err);
}
