/* cmd_db.c: `adamas db`: what is done with a database as such; so far `adamas db export`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "analysis/timeline_export.h"
#include "core/command.h"
#include "core/output_file.h"

typedef struct export_command {
    adm_common common;
    const char *timeline, *output;
} export_command;

enum { KEY_TIMELINE = 0x2000 };

static const struct argp_option export_options[] = {
    {"timeline", KEY_TIMELINE, "RUN", 0, "The events of this run as Chrome trace-event JSON", 1},
    {"output", 'o', "FILE", 0, "The file (default: standard output)", 1},
    {0},
};

static error_t parse_export(int key, char *arg, struct argp_state *state) {
    export_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_TIMELINE: c->timeline = arg; return 0;
    case 'o': c->output = arg; return 0;
    case ARGP_KEY_ARG: argp_error(state, "db export takes no argument, and '%s' was given", arg); return 0;
    case ARGP_KEY_END:
        if (c->timeline == NULL) argp_error(state, "say what to export: --timeline RUN");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static adm_status export_timeline(const export_command *c, adm_store *store, adm_error *err) {
    uint64_t run_id, n_events;
    adm_output output = {0};
    adm_status status = adm_parse_u64("--timeline", c->timeline, 1, INT32_MAX, &run_id, err);
    if (status == ADM_OK && c->output != NULL) status = adm_output_open(&output, "--output", c->output, err);
    if (status == ADM_OK)
        status = adm_timeline_export(store, (int64_t)run_id, c->output != NULL ? output.file : stdout, &n_events, err);
    if (status == ADM_OK && c->output != NULL) status = adm_output_commit(&output, err);
    adm_output_discard(&output);
    if (status != ADM_OK || c->output == NULL) return status;
    if (c->common.json) printf("{\"run_id\": %" PRIu64 ", \"n_events\": %" PRIu64 "}\n", run_id, n_events);
    else if (!c->common.quiet) printf("%s: %" PRIu64 " events; open it at ui.perfetto.dev\n", c->output, n_events);
    return status;
}

static int run_export(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = export_options, .parser = parse_export, .children = children,
                                     .doc = "Writes a part of the database in another program's format. A timeline opens in "
                                            "Perfetto (ui.perfetto.dev); only runs with --timeline have one."};
    export_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    adm_store *store = NULL;
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = adm_store_open(c.common.db_path, ADM_STORE_READ, &store, &err);
    if (status == ADM_OK) status = export_timeline(&c, store, &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    adm_store_close(&store);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

static const adm_command verbs[] = {
    {"export", "a run's timeline for Perfetto", run_export},
};

enum { N_VERBS = sizeof verbs / sizeof verbs[0] };

static void print_help(FILE *to) {
    fputs("Usage: adamas db COMMAND [OPTION...]\n\nWorks on a database of runs.\n\nCommands:\n", to);
    for (size_t i = 0; i < N_VERBS; i++) fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\n`adamas db COMMAND --help` explains a command.\n", to);
}

static int run(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-?") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("%s\n", argp_program_version);
        return 0;
    }
    for (size_t i = 0; i < N_VERBS; i++) {
        if (strcmp(argv[1], verbs[i].name) != 0) continue;
        char full_name[32];
        snprintf(full_name, sizeof full_name, "adamas db %s", verbs[i].name);
        argv[1] = full_name;
        return verbs[i].run(argc - 1, argv + 1);
    }
    adm_error err;
    adm_fail(&err, ADM_EINPUT, "'db %s' is not a command; `adamas db --help` lists them", argv[1]);
    return adm_report_error(&err);
}

const adm_command adm_cmd_db = {"db", "export from a database", run};
