/* db_merge.c: `adamas db merge`: the runs of other databases into this one. */
#include "analysis/db/db_merge.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/store/merge.h"
#include "core/store/store.h"

typedef struct merge_command {
    adm_common common;
    char **paths; /* borrowed from argv */
    size_t n_paths;
} merge_command;

static error_t parse(int key, char *arg, struct argp_state *state) {
    merge_command *c = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case ARGP_KEY_ARGS:
        c->paths = state->argv + state->next;
        c->n_paths = (size_t)(state->argc - state->next);
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static adm_status merge_one(const merge_command *c, adm_store *store, const char *path, json_t *document, adm_error *err) {
    adm_merge_counts n;
    char shown[512];
    adm_status status = adm_store_merge(store, path, &n, err);
    if (status != ADM_OK) return status;
    if (c->common.json &&
        json_array_append_new(document, json_pack("{s:s, s:I, s:I, s:I}", "file", adm_printable(path, shown, sizeof shown),
                                                  "n_runs", (json_int_t)n.n_runs, "n_present", (json_int_t)n.n_present,
                                                  "n_unfinished", (json_int_t)n.n_unfinished)) != 0)
        return adm_fail(err, ADM_EENVIRONMENT, "out of memory");
    if (!c->common.json && !c->common.quiet) {
        adm_print("%s: %" PRId64 " runs added, %" PRId64 " were there", adm_printable(path, shown, sizeof shown), n.n_runs,
                  n.n_present);
        if (n.n_unfinished > 0) adm_print(", %" PRId64 " unfinished left out", n.n_unfinished);
        adm_print("\n");
    }
    return ADM_OK;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .parser = parse,
        .children = children,
        .args_doc = "[FILE...]",
        .doc = "Adds the finished runs of other databases with everything that belongs to them, each file whole or not at all. "
               "Runs are told apart by UUID, so merging a file again is safe. Without FILE it brings the database itself up to "
               "this program's schema."};
    merge_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    adm_store *store = NULL;
    adm_argp_parse(&argp, argc, argv, &c);
    json_t *document = json_array();
    adm_status status = adm_store_open(c.common.db_path, ADM_STORE_WRITE, &store, &err);
    for (size_t i = 0; i < c.n_paths && status == ADM_OK; i++) status = merge_one(&c, store, c.paths[i], document, &err);
    if (status == ADM_OK && c.common.json) status = adm_print_json(json_incref(document), &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    adm_store_close(&store);
    json_decref(document);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_db_merge = {"merge", "the runs of other databases into this one", run};
