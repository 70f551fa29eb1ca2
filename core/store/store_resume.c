/* store_resume.c: going on with a run that was interrupted, failed or crashed. */
#include <inttypes.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/store/store.h"
#include "core/store/store_db.h"
#include "core/store/store_row.h"
#include "core/base/version.h"

/* A run's column beside what it must be; the first that differs refuses. */
static adm_status check_same(const adm_query *q, int column, const char *what, const char *now, int64_t run_id,
                             adm_error *err) {
    if (strcmp(adm_query_text(q, column), now) == 0) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "run %" PRId64 " cannot be resumed: its %s was %s and is now %s; start a new run", run_id,
                    what, adm_query_text(q, column), now);
}

static adm_status check_run(const adm_query *q, const adm_run_info *info, int64_t run_id, adm_error *err) {
    if (strcmp(adm_query_text(q, 0), "complete") == 0)
        return adm_fail(err, ADM_EINPUT, "run %" PRId64 " is complete: there is nothing to resume", run_id);
    adm_status status = check_same(q, 1, "command", info->command, run_id, err);
    if (status == ADM_OK) status = check_same(q, 2, "command line", info->argv_json, run_id, err);
    if (status == ADM_OK) status = check_same(q, 3, "build", adm_git_commit(), run_id, err);
    if (status == ADM_OK) status = check_same(q, 4, "processor", info->cpu_model, run_id, err);
    return status;
}

adm_status adm_store_resume_run(adm_store *store, int64_t run_id, const adm_run_info *info, adm_error *err) {
    adm_query *query = NULL;
    adm_row row;
    bool found = false;
    uint64_t elapsed_ns = 0;
    adm_status status = adm_query_open(store,
                                       "SELECT status, command, argv, git_commit, cpu_model, ifnull(elapsed_ns, 0) "
                                       "FROM run WHERE run_id = ?",
                                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &found, err);
    if (status == ADM_OK && !found)
        status = adm_fail(err, ADM_EINPUT, "%s has no run %" PRId64 " to resume", store->path, run_id);
    if (status == ADM_OK) status = check_run(query, info, run_id, err);
    if (status == ADM_OK) elapsed_ns = (uint64_t)adm_query_int(query, 5);
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
