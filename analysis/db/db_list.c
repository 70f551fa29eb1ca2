/* db_list.c: `adamas db list`: the runs of a database, a line each, the newest first. */
#include "analysis/db/db_list.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/store/runs_find.h"

typedef struct list_command {
    adm_common common;
    const char *runs, *limit;
    uint64_t n_most;
} list_command;

enum { KEY_LIMIT = 0x5600 };

static const struct argp_option options[] = {
    {"limit", KEY_LIMIT, "N", 0, "At most the newest N (default 50, 0: all)", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    list_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_LIMIT: c->limit = arg; return 0;
    case ARGP_KEY_ARG:
        if (c->runs != NULL) argp_error(state, "list takes one set of runs, and '%s' is a second", arg);
        c->runs = arg;
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* Every row that a run owns, but its samples, which belong to a measurement, and what says what the run is: its place in a
 * check or a sweep. */
#define OWN(table) " + (SELECT count(*) FROM " table " o WHERE o.run_id = r.run_id)"
#define OWN_OF_SIMULATION(table) \
    " + (SELECT count(*) FROM simulation s JOIN " table " o USING (simulation_id) WHERE s.run_id = r.run_id)"
#define N_ROWS                                                                                                             \
    "0" OWN("measurement") OWN("calibration") OWN("event") OWN("activity") OWN("candidate") OWN("tuned") OWN("simulation") \
        OWN_OF_SIMULATION("simulation_metric") OWN_OF_SIMULATION("prediction") OWN("validation") OWN("whole_validation")

/* ?1: a JSON list of runs, or NULL for all; ?2: how many. */
static const char list_sql[] =
    "SELECT r.run_id, r.label, r.command, ifnull((SELECT group_concat(name, ', ') FROM (SELECT DISTINCT t.name"
    " FROM measurement m JOIN config c USING (config_id) JOIN trace t USING (trace_id) WHERE m.run_id = r.run_id LIMIT 3)),"
    " coalesce(r.gpu_name, (SELECT s.trace FROM simulation s WHERE s.run_id = r.run_id LIMIT 1), '')),"
    " r.git_commit, ifnull(r.git_dirty, 0), r.host_name, r.started_utc, r.status,"
    " " N_ROWS ","
    " ifnull((SELECT k.side FROM check_run k WHERE k.run_id = r.run_id), ''), r.only_times IS NOT NULL FROM run r"
    " WHERE ?1 IS NULL OR r.run_id IN (SELECT value FROM json_each(?1)) ORDER BY r.started_utc DESC, r.run_id DESC LIMIT ?2";

static json_t *row_json(const adm_query *q) {
    return json_pack("{s:I, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:I, s:o, s:b}", "run_id", (json_int_t)adm_query_int(q, 0),
                     "label", adm_rows_string(adm_query_text(q, 1)), "command", adm_rows_string(adm_query_text(q, 2)), "of",
                     adm_rows_string(adm_query_text(q, 3)), "commit", adm_rows_string(adm_query_text(q, 4)), "dirty",
                     adm_query_int(q, 5) != 0, "host", adm_rows_string(adm_query_text(q, 6)), "started_utc",
                     adm_rows_string(adm_query_text(q, 7)), "status", adm_rows_string(adm_query_text(q, 8)), "n_rows",
                     (json_int_t)adm_query_int(q, 9), "side",
                     adm_query_text(q, 10)[0] != '\0' ? adm_rows_string(adm_query_text(q, 10)) : json_null(), "only_times",
                     adm_query_int(q, 11) != 0);
}

static void print_row(const adm_query *q) {
    char commit[16];
    const char *side = adm_query_text(q, 10);
    snprintf(commit, sizeof commit, "%.10s%s", adm_query_text(q, 4), adm_query_int(q, 5) != 0 ? "+" : "");
    adm_print("%6" PRId64 "  %-19.19s  %-8s  %-11s  %-11s  %6" PRId64 " rows  %-16s  %s%s%s%s%s%s\n", adm_query_int(q, 0),
              adm_query_text(q, 7), adm_query_text(q, 2), adm_query_text(q, 8), commit, adm_query_int(q, 9),
              adm_query_text(q, 6), adm_query_text(q, 3), adm_query_text(q, 1)[0] != '\0' ? "  " : "", adm_query_text(q, 1),
              side[0] != '\0' ? "  check: " : "", side, adm_query_int(q, 11) != 0 ? ", a few times" : "");
}

/* The runs that were asked for as JSON; NULL: all. */
static adm_status find_wanted(const list_command *c, adm_store *store, char **json, adm_error *err) {
    int64_t *ids = NULL;
    size_t n = 0;
    *json = NULL;
    if (c->runs == NULL || strcmp(c->runs, "all") == 0) return ADM_OK;
    adm_status status = adm_runs_find(store, c->runs, ADM_RUNS_ANY, c->common.db_path, &ids, &n, err);
    if (status == ADM_OK) status = adm_alloc(json, n * 21 + 3, 1, "list of runs", err);
    if (status == ADM_OK) {
        char *at = *json;
        for (size_t i = 0; i < n; i++) at += sprintf(at, "%c%" PRId64, i > 0 ? ',' : '[', ids[i]);
        strcpy(at, "]");
    }
    adm_free(&ids);
    return status;
}

static adm_status list(const list_command *c, adm_store *store, adm_error *err) {
    char *wanted = NULL;
    adm_query *q = NULL;
    bool row = false;
    uint64_t n = 0;
    json_t *rows = json_array();
    adm_status status = find_wanted(c, store, &wanted, err);
    /* One more than is shown tells that there are more. */
    const int64_t limit = c->n_most > 0 ? (int64_t)c->n_most + 1 : -1;
    if (status == ADM_OK) status = adm_query_open(store, list_sql, &q, err, "si", wanted, limit);
    if (status == ADM_OK && !c->common.json)
        adm_print("%6s  %-19s  %-8s  %-11s  %-11s  %11s  %-16s  %s\n", "run", "started (UTC)", "command", "status", "commit",
                  "", "host", "trace or GPU, label");
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row) {
        if (c->n_most > 0 && n++ == c->n_most) break;
        if (c->common.json) status = adm_rows_append(rows, row_json(q), err);
        else print_row(q);
    }
    if (status == ADM_OK && !c->common.json && c->n_most > 0 && n > c->n_most)
        adm_print("only the newest %" PRIu64 " are shown; --limit 0 shows all\n", c->n_most);
    adm_query_close(&q);
    adm_free(&wanted);
    if (status == ADM_OK && c->common.json) status = adm_print_json(json_incref(rows), err);
    json_decref(rows);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .args_doc = "[RUNS]",
        .doc =
            "Lists runs, the newest first: number, start, command, status, commit (+: of modified sources), rows of all that "
            "it stored but samples, host, trace or GPU, label, and the side of a check.\v" ADM_RUNS_HELP};
    list_command c = {.common = ADM_COMMON_DEFAULTS, .n_most = 50};
    adm_error err;
    adm_store *store = NULL;
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = c.limit != NULL ? adm_parse_u64("--limit", c.limit, 0, INT32_MAX, &c.n_most, &err) : ADM_OK;
    if (status == ADM_OK) status = adm_store_open(c.common.db_path, ADM_STORE_READ, &store, &err);
    if (status == ADM_OK) status = list(&c, store, &err);
    adm_store_close(&store);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_db_list = {"list", "runs, a line each", run};
