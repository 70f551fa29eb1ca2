/* db_gc.c: `adamas db gc`: prunes a database of runs. */
#include "analysis/db/db_gc.h"

#include <inttypes.h>
#include <stdio.h>

#include "core/base/print.h"
#include "core/store/prune.h"
#include "core/store/store.h"

typedef struct gc_command {
    adm_common common;
    const char *keep, *keep_samples, *keep_label;
    bool dry_run, yes;
} gc_command;

enum { KEY_KEEP = 0x5100, KEY_SAMPLES, KEY_LABEL, KEY_DRY_RUN, KEY_YES };

static const struct argp_option options[] = {
    {"keep", KEY_KEEP, "N", 0,
     "Keep the newest N runs of each command, label, GPU and host, or pool of hosts (ADAMAS_MACHINE); processes that a check "
     "added are counted by themselves",
     1},
    {"keep-samples", KEY_SAMPLES, "N", 0, "Keep raw samples of the newest N of each only; medians and quantiles stay", 1},
    {"keep-label", KEY_LABEL, "TEXT", 0, "Leave runs with this label alone", 1},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "Only count what would be removed", 1},
    {"yes", KEY_YES, NULL, 0, "Remove even if no run would be left", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    gc_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_KEEP: c->keep = arg; return 0;
    case KEY_SAMPLES: c->keep_samples = arg; return 0;
    case KEY_LABEL: c->keep_label = arg; return 0;
    case KEY_DRY_RUN: c->dry_run = true; return 0;
    case KEY_YES: c->yes = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "gc takes no argument, and '%s' was given; use --db FILE", arg); return 0;
    case ARGP_KEY_END:
        if (c->keep == NULL && c->keep_samples == NULL)
            argp_error(state, "say what to keep: --keep N, --keep-samples N or both");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static adm_status parse_count(const char *option, const char *text, int64_t *value, adm_error *err) {
    uint64_t number;
    *value = -1;
    if (text == NULL) return ADM_OK;
    adm_status status = adm_parse_u64(option, text, 0, INT32_MAX, &number, err);
    if (status == ADM_OK) *value = (int64_t)number;
    return status;
}

static void print_counts(const gc_command *c, const adm_prune_counts *n) {
    if (c->common.json)
        adm_print("{\"n_runs\": %" PRId64 ", \"n_samples\": %" PRId64 ", \"n_configs\": %" PRId64 ", \"n_traces\": %" PRId64
                  ", \"bytes_before\": %" PRId64 ", \"bytes_after\": %" PRId64 "}\n",
                  n->n_runs, n->n_samples, n->n_configs, n->n_traces, n->bytes_before, n->bytes_after);
    else if (!c->common.quiet && c->dry_run)
        adm_print("would remove %" PRId64 " runs, %" PRId64 " samples, %" PRId64 " configurations\n", n->n_runs, n->n_samples,
                  n->n_configs);
    else if (!c->common.quiet)
        adm_print("removed %" PRId64 " runs, %" PRId64 " samples, %" PRId64 " configurations: %" PRId64
                  " bytes are now %" PRId64 "\n",
                  n->n_runs, n->n_samples, n->n_configs, n->bytes_before, n->bytes_after);
}

/* What empties a database was asked for by mistake, unless --yes says otherwise. */
static adm_status check_rest(const gc_command *c, adm_store *store, const adm_prune_options *o, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    int64_t n_runs = 0, n_left = 0;
    adm_status status = adm_store_prune_count(store, o, &n_left, err);
    if (status == ADM_OK) status = adm_query_open(store, "SELECT count(*) FROM run", &q, err, "");
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK) n_runs = adm_query_int(q, 0);
    adm_query_close(&q);
    if (status != ADM_OK || n_runs == 0 || n_left > 0) return status;
    return adm_fail(err, ADM_EINPUT, "db gc would remove all %" PRId64 " runs of %s: --yes does that, --keep N leaves some",
                    n_runs, c->common.db_path);
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .doc = "Removes older runs, or only their raw samples, then every row that nothing refers to, and shrinks the file. "
               "Recorded runs ('recorded:...') and unfinished ones stay, and so do margins and acknowledged change points."};
    gc_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    adm_store *store = NULL;
    adm_prune_options o = {.n_keep = -1};
    adm_prune_counts counts = {0};
    adm_argp_parse(&argp, argc, argv, &c);
    o.keep_label = c.keep_label;
    adm_status status = parse_count("--keep", c.keep, &o.n_keep, &err);
    if (status == ADM_OK) status = parse_count("--keep-samples", c.keep_samples, &o.n_keep_samples, &err);
    if (status == ADM_OK) {
        /* A reader says that a file is missing; a writer would make it. */
        status = adm_store_open(c.common.db_path, ADM_STORE_READ, &store, &err);
        adm_store_close(&store);
    }
    if (status == ADM_OK) status = adm_store_open(c.common.db_path, ADM_STORE_WRITE, &store, &err);
    if (status == ADM_OK && !c.yes && !c.dry_run) status = check_rest(&c, store, &o, &err);
    if (status == ADM_OK) status = adm_store_prune(store, &o, c.dry_run, &counts, &err);
    adm_store_close(&store);
    if (status == ADM_OK) print_counts(&c, &counts);
    if (status == ADM_OK) status = adm_finish_output(&err);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_db_gc = {"gc", "remove older runs, or only their samples", run};
