/* db_import.c: `adamas db import`: recorded runs from text files into a database. */
#include "analysis/db/db_import.h"

#include <jansson.h>
#include <stdio.h>

#include "analysis/db/recorded_import.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"

typedef struct import_command {
    adm_common common;
    char **paths; /* borrowed from argv */
    size_t n_paths;
} import_command;

static error_t parse(int key, char *arg, struct argp_state *state) {
    import_command *c = state->input;
    (void)arg;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case ARGP_KEY_ARGS:
        c->paths = state->argv + state->next;
        c->n_paths = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "name a file that `adamas db export --run` wrote"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static void print_run(const char *path, const adm_recorded_run *run) {
    char shown_path[512], label[132];
    adm_print("%s: run %lld '%s'", adm_printable(path, shown_path, sizeof shown_path), (long long)run->run_id,
              adm_printable(run->label, label, sizeof label));
    if (run->is_new)
        adm_print(": %zu configurations, %zu measurements, %zu events\n", run->n_configs, run->n_measurements, run->n_events);
    else adm_print(" was there already\n");
}

static adm_status append_run(json_t *document, const adm_recorded_run *run, adm_error *err) {
    json_t *row = json_pack("{s:I, s:s, s:b, s:I, s:I, s:I}", "run_id", (json_int_t)run->run_id, "label", run->label, "new",
                            run->is_new, "n_configs", (json_int_t)run->n_configs, "n_measurements",
                            (json_int_t)run->n_measurements, "n_events", (json_int_t)run->n_events);
    if (json_array_append_new(document, row) == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "out of memory");
}

static adm_status import_one(const import_command *c, adm_store *store, const char *path, json_t *document, adm_error *err) {
    adm_recorded_run *runs = NULL;
    size_t n_runs = 0;
    adm_status status = adm_recorded_import(store, path, &runs, &n_runs, err);
    for (size_t i = 0; i < n_runs && status == ADM_OK; i++) {
        if (c->common.json) status = append_run(document, &runs[i], err);
        else if (!c->common.quiet) print_run(path, &runs[i]);
    }
    adm_free(&runs);
    return status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = NULL,
        .parser = parse,
        .children = children,
        .args_doc = "FILE...",
        .doc = "Adds the runs of files that `adamas db export --run` wrote: each file whole or not at all. A run that the "
               "database already holds is left as it is."};
    import_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    adm_store *store = NULL;
    adm_argp_parse(&argp, argc, argv, &c);
    json_t *document = json_array();
    adm_status status = adm_store_open(c.common.db_path, ADM_STORE_WRITE, &store, &err);
    for (size_t i = 0; i < c.n_paths && status == ADM_OK; i++) status = import_one(&c, store, c.paths[i], document, &err);
    if (status == ADM_OK && c.common.json) status = adm_print_json(json_incref(document), &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    adm_store_close(&store);
    json_decref(document);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_db_import = {"import", "recorded runs from a text file", run};
