/* runs_find.c: which runs a user means by a few words. */
#include "core/store/runs_find.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"

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

/* Refuses a run that is not there or, unless any is taken, not complete. */
static adm_status check_number(adm_store *store, int64_t id, adm_runs_taken taken, const char *database, adm_error *err) {
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
    else if (status == ADM_OK && taken == ADM_RUNS_COMPLETE && strcmp(adm_query_text(q, 0), "complete") != 0)
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

/* The newest first, without those that a check added for a few times: nobody thinks of these as the last run. */
#define NEWEST(whose)                                                                                                \
    "SELECT run_id, started_utc FROM run WHERE " whose " AND NOT (only_times IS NOT NULL AND EXISTS (SELECT 1 FROM " \
    "check_run k WHERE k.run_id = run.run_id)) ORDER BY started_utc DESC, run_id DESC LIMIT ?1 OFFSET ?2"

static const char *const newest_sql[] = {[ADM_RUNS_COMPLETE] = NEWEST("status = 'complete'"),
                                         [ADM_RUNS_ANY] = NEWEST("1"),
                                         [ADM_RUNS_UNFINISHED] = NEWEST("status <> 'complete'")};

static const char *const kind_of[] = {
    [ADM_RUNS_COMPLETE] = "complete ", [ADM_RUNS_ANY] = "", [ADM_RUNS_UNFINISHED] = "unfinished "};

/* The number of the run that is `back` before the newest. */
static adm_status number_of_last(adm_store *store, int64_t back, adm_runs_taken taken, const char *database, int64_t *id,
                                 adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, newest_sql[taken], &q, err, "ii", (int64_t)1, back);
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK && row) *id = adm_query_int(q, 0);
    else if (status == ADM_OK && back == 0) status = adm_fail(err, ADM_EINPUT, "%s holds no %srun", database, kind_of[taken]);
    else if (status == ADM_OK)
        status = adm_fail(err, ADM_EINPUT, "%s has no run last~%" PRId64 ": it holds fewer %sruns", database, back,
                          kind_of[taken]);
    adm_query_close(&q);
    return status;
}

static bool is_last(const char *end) { return end[0] == 'l'; }

/* N of "last~N"; 0 of "last". */
static int64_t how_far_back(const char *end) { return end[4] == '~' ? strtoll(end + 5, NULL, 10) : 0; }

/* One end of a range; *at moves behind it. */
static adm_status read_end(adm_store *store, const char **at, adm_runs_taken taken, const char *database, int64_t *id,
                           adm_error *err) {
    const char *from = *at;
    *at = skip_end(from);
    if (is_last(from)) return number_of_last(store, how_far_back(from), taken, database, id, err);
    *id = strtoll(from, NULL, 10);
    return ADM_OK;
}

/* One run, or a range such as 3-9, 3-last and last~9-last, and moves *at behind it. A run named by itself must be there and
 * complete; of a range, those that are. Between two places there are only runs that have one, whatever their numbers: a merged
 * file's runs have higher ones than ours. */
static adm_status find_range(adm_store *store, const char *text, const char **at, adm_runs_taken taken, const char *database,
                             int64_t **ids, size_t *n, adm_error *err) {
    int64_t first, last;
    const char *from = *at;
    adm_query *q = NULL;
    adm_status status = read_end(store, at, taken, database, &first, err);
    last = first;
    const bool range = **at == '-';
    const char *to = range ? ++*at : from;
    const bool by_place = range && is_last(from) && is_last(to);
    if (range && status == ADM_OK) status = read_end(store, at, taken, database, &last, err);
    if (status == ADM_OK && (by_place ? how_far_back(from) < how_far_back(to) : last < first))
        status = adm_fail(err, ADM_EINPUT, "'%s' is no list of runs such as 3-9,12: a range ends before it begins", text);
    if (status == ADM_OK && !range) status = check_number(store, first, taken, database, err);
    if (status == ADM_OK && by_place) {
        char sql[512];
        snprintf(sql, sizeof sql, "SELECT run_id FROM (%s) ORDER BY started_utc, run_id", newest_sql[taken]);
        status = adm_query_open(store, sql, &q, err, "ii", how_far_back(from) - how_far_back(to) + 1, how_far_back(to));
    } else if (status == ADM_OK) {
        status = adm_query_open(store,
                                "SELECT run_id FROM run WHERE run_id BETWEEN ?1 AND ?2 AND (?3 OR status = 'complete') "
                                "ORDER BY started_utc, run_id",
                                &q, err, "iii", first, last, (int64_t)(taken == ADM_RUNS_ANY));
    }
    return status == ADM_OK ? collect(&q, ids, n, err) : status;
}

static adm_status find_list(adm_store *store, const char *text, adm_runs_taken taken, const char *database, int64_t **ids,
                            size_t *n, adm_error *err) {
    adm_status status = ADM_OK;
    for (const char *at = text; status == ADM_OK && *at != '\0';) {
        status = find_range(store, text, &at, taken, database, ids, n, err);
        if (*at == ',') at++;
    }
    return status;
}

/* --- Words -------------------------------------------------------------------------------------------------------- */

static adm_status find_words(adm_store *store, const char *named, adm_runs_taken taken, int64_t **ids, size_t *n,
                             adm_error *err) {
    const char *sql = "SELECT run_id FROM run WHERE label = ?1 AND (?2 OR status = 'complete') ORDER BY started_utc, run_id";
    const char *value = strncmp(named, "label:", 6) == 0 ? named + 6 : named;
    adm_query *q = NULL;
    if (strcmp(named, "all") == 0 || named[0] == '\0') {
        sql = "SELECT run_id FROM run WHERE ?1 IS NOT NULL AND (?2 OR status = 'complete') ORDER BY started_utc, run_id";
    } else if (strncmp(named, "commit:", 7) == 0 && named[7] != '\0') {
        value = named + 7;
        sql = "SELECT run_id FROM run WHERE substr(git_commit, 1, length(?1)) = ?1 AND (?2 OR status = 'complete') "
              "ORDER BY started_utc, run_id";
    } else if (strncmp(named, "check:", 6) == 0 && strrchr(named + 6, ':') != NULL) {
        value = named + 6;
        sql = "SELECT r.run_id FROM run r JOIN check_run k USING (run_id) WHERE k.check_uuid || ':' || k.side = ?1 AND "
              "(?2 OR r.status = 'complete') ORDER BY k.position";
    }
    adm_status status = adm_query_open(store, sql, &q, err, "si", value, (int64_t)(taken == ADM_RUNS_ANY));
    return status == ADM_OK ? collect(&q, ids, n, err) : status;
}

const char *adm_runs_meant(adm_store *store, const char *typed, char text[ADM_DID_YOU_MEAN_BYTES]) {
    enum { MAX_LABELS = 64 };
    char label[MAX_LABELS][64];
    const char *known[MAX_LABELS];
    adm_query *q = NULL;
    adm_error unused;
    bool row = false;
    size_t n = 0;
    const char *sql = "SELECT label FROM run WHERE label <> '' GROUP BY label ORDER BY max(started_utc) DESC LIMIT ?1";
    adm_status status = adm_query_open(store, sql, &q, &unused, "i", (int64_t)MAX_LABELS);
    while (status == ADM_OK && n < MAX_LABELS && (status = adm_query_next(q, &row, &unused)) == ADM_OK && row) {
        adm_printable(adm_query_text(q, 0), label[n], sizeof label[n]);
        known[n] = label[n];
        n++;
    }
    adm_query_close(&q);
    return adm_did_you_mean(typed, known, n, text);
}

adm_status adm_runs_find(adm_store *store, const char *named, adm_runs_taken taken, const char *database, int64_t **ids,
                         size_t *n, adm_error *err) {
    char meant[ADM_DID_YOU_MEAN_BYTES];
    *ids = NULL;
    *n = 0;
    if (named[0] >= '0' && named[0] <= '9' && strspn(named, "0123456789,-") == strlen(named) && !is_list(named))
        return adm_fail(err, ADM_EINPUT, "'%s' is no list of runs such as 3-9,12", named);
    adm_status status = is_list(named) ? find_list(store, named, taken, database, ids, n, err)
                                       : find_words(store, named, taken, ids, n, err);
    if (status == ADM_OK && *n == 0)
        status = adm_fail(err, ADM_EINPUT,
                          "%s holds no %srun that is '%s': name runs by number (3-9,12), last, last~1, label, "
                          "commit:PREFIX or all%s",
                          database, kind_of[taken], named, adm_runs_meant(store, named, meant));
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
        return status == ADM_OK && taken != ADM_RUNS_UNFINISHED ? check_number(store, *id, taken, database, err) : status;
    }
    const adm_runs_taken words = taken == ADM_RUNS_COMPLETE ? ADM_RUNS_COMPLETE : ADM_RUNS_ANY;
    adm_status status = adm_runs_find(store, named, words, database, &ids, &n, err);
    if (status == ADM_OK && n > 1)
        status = adm_fail(err, ADM_EINPUT, "'%s' names %zu runs of %s, and one is asked for: %" PRId64 " is the newest", named,
                          n, database, ids[n - 1]);
    if (status == ADM_OK) *id = ids[0];
    adm_free(&ids);
    return status;
}
