/* runs_find.c: which runs a user means by a few words. */
#include "analysis/regress/runs_find.h"

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
        if (*n == capacity) {
            int64_t *larger;
            capacity = capacity < 64 ? 64 : 2 * capacity;
            status = adm_alloc(&larger, capacity, sizeof *larger, "runs", err);
            if (status != ADM_OK) break;
            adm_copy(larger, *ids, *n * sizeof *larger);
            adm_free(ids);
            *ids = larger;
        }
        (*ids)[(*n)++] = adm_query_int(*q, 0);
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

/* "3-9,12"; false if the text is something else. Every run named by itself must be there and complete; of a range, those
 * that are. */
static bool is_numbers(const char *text) {
    return text[0] != '\0' && strspn(text, "0123456789,-") == strlen(text) && text[0] >= '0' && text[0] <= '9';
}

static adm_status find_numbers(adm_store *store, const char *text, const char *database, int64_t **ids, size_t *n,
                               adm_error *err) {
    adm_status status = ADM_OK;
    for (const char *at = text; status == ADM_OK && *at != '\0';) {
        char *end;
        int64_t first = strtoll(at, &end, 10), last = first;
        bool range = *end == '-';
        if (end == at) return adm_fail(err, ADM_EINPUT, "'%s' is no list of runs such as 3-9,12", text);
        if (range) {
            at = end + 1;
            last = strtoll(at, &end, 10);
        }
        if ((range && end == at) || last < first || (*end != '\0' && *end != ',') || (*end == ',' && end[1] == '\0'))
            return adm_fail(err, ADM_EINPUT, "'%s' is no list of runs such as 3-9,12", text);
        if (!range) status = check_number(store, first, database, err);
        adm_query *q = NULL;
        if (status == ADM_OK)
            status = adm_query_open(store,
                                    "SELECT run_id FROM run WHERE run_id BETWEEN ? AND ? AND status = 'complete' "
                                    "ORDER BY started_utc, run_id",
                                    &q, err, "ii", first, last);
        if (status == ADM_OK) status = collect(&q, ids, n, err);
        at = *end == ',' ? end + 1 : end;
    }
    return status;
}

adm_status adm_runs_find(adm_store *store, const char *named, const char *database, int64_t **ids, size_t *n, adm_error *err) {
    adm_query *q = NULL;
    *ids = NULL;
    *n = 0;
    adm_status status;
    if (is_numbers(named)) {
        status = find_numbers(store, named, database, ids, n, err);
    } else {
        const char *sql = "SELECT run_id FROM run WHERE label = ? AND status = 'complete' ORDER BY started_utc, run_id";
        const char *value = strncmp(named, "label:", 6) == 0 ? named + 6 : named;
        char uuid[64];
        if (strcmp(named, "all") == 0 || named[0] == '\0') {
            sql = "SELECT run_id FROM run WHERE ? IS NOT NULL AND status = 'complete' ORDER BY started_utc, run_id";
        } else if (strncmp(named, "commit:", 7) == 0 && named[7] != '\0') {
            value = named + 7;
            sql = "SELECT run_id FROM run WHERE substr(git_commit, 1, length(?1)) = ?1 AND status = 'complete' "
                  "ORDER BY started_utc, run_id";
        } else if (strncmp(named, "check:", 6) == 0 && strrchr(named + 6, ':') != NULL) {
            snprintf(uuid, sizeof uuid, "%s", named + 6);
            value = uuid;
            sql = "SELECT r.run_id FROM run r JOIN check_run k USING (run_id) WHERE k.check_uuid || ':' || k.side = ? AND "
                  "r.status = 'complete' ORDER BY k.position";
        }
        status = adm_query_open(store, sql, &q, err, "s", value);
        if (status == ADM_OK) status = collect(&q, ids, n, err);
    }
    if (status == ADM_OK && *n == 0)
        status = adm_fail(err, ADM_EINPUT,
                          "%s holds no complete run that is '%s': name runs by number (3-9,12), label, "
                          "commit:PREFIX or all",
                          database, named);
    if (status != ADM_OK) adm_free(ids);
    return status;
}
