/* runs_find.c: which runs a user means by a few words. */
#include "core/store/runs_find.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

/* Appends the first column of every row. */
static adm_status collect(adm_query **q, int64_t **ids, size_t *n, adm_error *err) {
    bool row = false;
    adm_status status = ADM_OK;
    size_t capacity = *n;
    while (status == ADM_OK && (status = adm_query_next(*q, &row, err)) == ADM_OK && row) {
        status = adm_grow(ids, *n, &capacity, sizeof **ids, "runs", err);
        if (status == ADM_OK) (*ids)[(*n)++] = adm_query_int(*q, 0);
    }
    adm_query_close(q);
    return status;
}

static adm_status check_number(adm_store *store, int64_t id, const char *database, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(store,
                                       "SELECT status, ifnull(reason, ''), (SELECT max(run_id) FROM run) FROM run WHERE "
                                       "run_id = ? UNION ALL SELECT '', '', max(run_id) FROM run",
                                       &q, err, "i", id);
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK && adm_query_text(q, 0)[0] == '\0')
        status = adm_query_is_null(q, 2) ? adm_fail(err, ADM_EINPUT, "%s holds no run", database)
                                         : adm_fail(err, ADM_EINPUT, "%s holds no run %" PRId64 "; its newest is run %" PRId64,
                                                    database, id, adm_query_int(q, 2));
    else if (status == ADM_OK && strcmp(adm_query_text(q, 0), "complete") != 0)
        status = adm_fail(err, ADM_EINPUT, "run %" PRId64 " of %s is %s, not complete%s%s", id, database, adm_query_text(q, 0),
                          adm_query_text(q, 1)[0] != '\0' ? ": " : "", adm_query_text(q, 1));
    adm_query_close(&q);
    return status;
}

/* --- Numbers ------------------------------------------------------------------------------------------------------ */

/* The text of one end of a range: digits, or "last" with or without "~N". Returns its end; NULL if it is neither. */
static const char *skip_end(const char *at) {
    size_t digits = strspn(at, "0123456789");
    if (digits > 0) return at + digits;
    if (strncmp(at, "last", 4) != 0) return NULL;
    if (at[4] != '~') return at + 4;
    digits = strspn(at + 5, "0123456789");
    return digits > 0 ? at + 5 + digits : NULL;
}

/* Whether the whole text is a list of runs by number or place, such as "3-9,last~1". */
static bool is_list(const char *text) {
    for (const char *at = text;; at++) {
        at = skip_end(at);
        if (at != NULL && *at == '-') at = skip_end(at + 1);
        if (at == NULL || (*at != '\0' && *at != ',')) return false;
        if (*at == '\0') return true;
    }
}

/* A process that a check added for a few times is nobody's last run. */
static const char *const status_sql[] = {
    [ADM_RUNS_COMPLETE] = "status = 'complete' AND NOT (argv LIKE '%\"--only-times\"%' AND EXISTS (SELECT 1 FROM check_run k "
                          "WHERE k.run_id = run.run_id))",
    [ADM_RUNS_ANY] = "1",
    [ADM_RUNS_UNFINISHED] = "status <> 'complete'"};

/* The number of the run that is `back` before the newest. */
static adm_status number_of_last(adm_store *store, int64_t back, adm_runs_taken taken, const char *database, int64_t *id,
                                 adm_error *err) {
    char sql[384];
    adm_query *q = NULL;
    bool row = false;
    snprintf(sql, sizeof sql, "SELECT run_id FROM run WHERE %s ORDER BY started_utc DESC, run_id DESC LIMIT 1 OFFSET ?",
             status_sql[taken]);
    adm_status status = adm_query_open(store, sql, &q, err, "i", back);
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK && row) *id = adm_query_int(q, 0);
    else if (status == ADM_OK && back == 0)
        status = adm_fail(err, ADM_EINPUT, "%s holds no %s run", database,
                          taken == ADM_RUNS_UNFINISHED ? "unfinished" : "complete");
    else if (status == ADM_OK)
        status = adm_fail(err, ADM_EINPUT, "%s has no run last~%" PRId64 ": it holds fewer %s runs", database, back,
                          taken == ADM_RUNS_UNFINISHED ? "unfinished" : "complete");
    adm_query_close(&q);
    return status;
}

/* One end of a range; *at moves behind it. */
static adm_status read_end(adm_store *store, const char **at, adm_runs_taken taken, const char *database, int64_t *id,
                           adm_error *err) {
    const char *from = *at;
    *at = skip_end(from);
    if (from[0] == 'l')
        return number_of_last(store, from[4] == '~' ? strtoll(from + 5, NULL, 10) : 0, taken, database, id, err);
    *id = strtoll(from, NULL, 10);
    return ADM_OK;
}

/* Every run named by itself must be there and complete; of a range, those that are. */
static adm_status find_list(adm_store *store, const char *text, const char *database, int64_t **ids, size_t *n,
                            adm_error *err) {
    adm_status status = ADM_OK;
    for (const char *at = text; status == ADM_OK && *at != '\0';) {
        int64_t first, last;
        status = read_end(store, &at, ADM_RUNS_COMPLETE, database, &first, err);
        last = first;
        const bool range = *at == '-';
        if (range) at++;
        if (range && status == ADM_OK) status = read_end(store, &at, ADM_RUNS_COMPLETE, database, &last, err);
        if (status == ADM_OK && last < first)
            status = adm_fail(err, ADM_EINPUT, "'%s' is no list of runs such as 3-9,12: a range ends before it begins", text);
        if (status == ADM_OK && !range) status = check_number(store, first, database, err);
        adm_query *q = NULL;
        if (status == ADM_OK)
            status = adm_query_open(store,
                                    "SELECT run_id FROM run WHERE run_id BETWEEN ? AND ? AND status = 'complete' "
                                    "ORDER BY started_utc, run_id",
                                    &q, err, "ii", first, last);
        if (status == ADM_OK) status = collect(&q, ids, n, err);
        if (*at == ',') at++;
    }
    return status;
}

/* --- Words -------------------------------------------------------------------------------------------------------- */

static adm_status find_words(adm_store *store, const char *named, int64_t **ids, size_t *n, adm_error *err) {
    const char *sql = "SELECT run_id FROM run WHERE label = ? AND status = 'complete' ORDER BY started_utc, run_id";
    const char *value = strncmp(named, "label:", 6) == 0 ? named + 6 : named;
    adm_query *q = NULL;
    if (strcmp(named, "all") == 0 || named[0] == '\0') {
        sql = "SELECT run_id FROM run WHERE ? IS NOT NULL AND status = 'complete' ORDER BY started_utc, run_id";
    } else if (strncmp(named, "commit:", 7) == 0 && named[7] != '\0') {
        value = named + 7;
        sql = "SELECT run_id FROM run WHERE substr(git_commit, 1, length(?1)) = ?1 AND status = 'complete' "
              "ORDER BY started_utc, run_id";
    } else if (strncmp(named, "check:", 6) == 0 && strrchr(named + 6, ':') != NULL) {
        value = named + 6;
        sql = "SELECT r.run_id FROM run r JOIN check_run k USING (run_id) WHERE k.check_uuid || ':' || k.side = ? AND "
              "r.status = 'complete' ORDER BY k.position";
    }
    adm_status status = adm_query_open(store, sql, &q, err, "s", value);
    return status == ADM_OK ? collect(&q, ids, n, err) : status;
}

adm_status adm_runs_find(adm_store *store, const char *named, const char *database, int64_t **ids, size_t *n, adm_error *err) {
    *ids = NULL;
    *n = 0;
    if (named[0] >= '0' && named[0] <= '9' && strspn(named, "0123456789,-") == strlen(named) && !is_list(named))
        return adm_fail(err, ADM_EINPUT, "'%s' is no list of runs such as 3-9,12", named);
    adm_status status = is_list(named) ? find_list(store, named, database, ids, n, err) : find_words(store, named, ids, n, err);
    if (status == ADM_OK && *n == 0)
        status = adm_fail(err, ADM_EINPUT,
                          "%s holds no complete run that is '%s': name runs by number (3-9,12), last, last~1, label, "
                          "commit:PREFIX or all",
                          database, named);
    if (status != ADM_OK) adm_free(ids);
    return status;
}

adm_status adm_run_find(adm_store *store, const char *named, adm_runs_taken taken, const char *database, int64_t *id,
                        adm_error *err) {
    const char *at = named;
    int64_t *ids = NULL;
    size_t n = 0;
    const char *end = skip_end(named);
    if (end != NULL && *end == '\0') {
        adm_status status = read_end(store, &at, taken, database, id, err);
        return status == ADM_OK && taken == ADM_RUNS_COMPLETE ? check_number(store, *id, database, err) : status;
    }
    adm_status status = adm_runs_find(store, named, database, &ids, &n, err);
    if (status == ADM_OK && n > 1)
        status = adm_fail(err, ADM_EINPUT, "'%s' names %zu runs of %s, and one is asked for: %" PRId64 " is the newest", named,
                          n, database, ids[n - 1]);
    if (status == ADM_OK) *id = ids[0];
    adm_free(&ids);
    return status;
}
