/* db_create.c: `adamas db create`: an empty database, for programs that write their own rows into it. */
#include "analysis/db/db_create.h"

#include <stdio.h>

#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/store/store.h"

static error_t parse(int key, char *arg, struct argp_state *state) {
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = state->input; return 0;
    case ARGP_KEY_ARG: argp_error(state, "create takes no argument, and '%s' was given; use --db FILE", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = NULL,
        .parser = parse,
        .children = children,
        .doc = "Makes an empty database, or brings one to this program's schema; no run is added or changed."};
    adm_common common = ADM_COMMON_DEFAULTS;
    adm_store *store = NULL;
    adm_error err;
    char shown[512];
    adm_argp_parse(&argp, argc, argv, &common);
    adm_status status = adm_store_open(common.db_path, ADM_STORE_WRITE, &store, &err);
    adm_store_close(&store);
    const char *path = adm_printable(common.db_path, shown, sizeof shown);
    if (status == ADM_OK && common.json) adm_print("{\"schema_version\": %d}\n", adm_schema_version());
    else if (status == ADM_OK && !common.quiet) adm_print("%s: schema version %d\n", path, adm_schema_version());
    if (status == ADM_OK) status = adm_finish_output(&err);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_db_create = {"create", "make an empty database, or bring one to this program's schema", run};
