/* db_export.c: `adamas db export`: a run's timeline for Perfetto, or whole runs as a text file. */
#include "analysis/db/db_export.h"

#include <inttypes.h>
#include <stdio.h>

#include "analysis/db/recorded_export.h"
#include "analysis/db/timeline_export.h"
#include "core/base/json_text.h"
#include "core/base/mem.h"
#include "core/system/output_file.h"
#include "core/store/runs_find.h"
#include "core/base/print.h"

typedef struct export_command {
    adm_common common;
    const char *timeline, *runs, *label, *output;
    bool with_samples;
    int64_t timeline_run;
    uint64_t n_written; /* its events, or the runs */
} export_command;

enum { KEY_TIMELINE = 0x2000, KEY_LABEL, KEY_SAMPLES };

static const struct argp_option options[] = {
    {"run", 'r', "RUNS", 0,
     "These runs (3-9,12, last, a label) as a text file for `adamas db import`, without their raw samples", 1},
    {"samples", KEY_SAMPLES, 0, 0, "With --run: keep the raw samples of GPU times", 1},
    {"label", KEY_LABEL, "TEXT", 0, "With --run: call them 'recorded:TEXT' (default: their own label, or their GPU)", 1},
    {"timeline", KEY_TIMELINE, "RUN", 0, "The events of this run as Chrome trace-event JSON", 2},
    {"output", 'o', "FILE", 0, "The file (default: standard output)", 3},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    export_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case 'r': c->runs = arg; return 0;
    case KEY_LABEL: c->label = arg; return 0;
    case KEY_SAMPLES: c->with_samples = true; return 0;
    case KEY_TIMELINE: c->timeline = arg; return 0;
    case 'o': c->output = arg; return 0;
    case ARGP_KEY_ARG: argp_error(state, "db export takes no argument, and '%s' was given", arg); return 0;
    case ARGP_KEY_END:
        if (c->timeline != NULL && c->runs != NULL) argp_error(state, "--run and --timeline are two files: give one of them");
        else if (c->timeline == NULL && c->runs == NULL) argp_error(state, "say what to export: --run RUNS or --timeline RUN");
        else if (c->label != NULL && c->runs == NULL) argp_error(state, "--label goes with --run");
        else if (c->with_samples && c->runs == NULL) argp_error(state, "--samples goes with --run");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static adm_status write_timeline(export_command *c, adm_store *store, FILE *to, adm_error *err) {
    adm_status status = adm_run_find(store, c->timeline, ADM_RUNS_ANY, c->common.db_path, &c->timeline_run, err);
    return status == ADM_OK ? adm_timeline_export(store, c->timeline_run, to, &c->n_written, err) : status;
}

static adm_status write_runs(export_command *c, adm_store *store, FILE *to, adm_error *err) {
    int64_t *ids = NULL;
    uint32_t *runs = NULL;
    size_t n_runs = 0;
    adm_status status = adm_runs_find(store, c->runs, ADM_RUNS_COMPLETE, c->common.db_path, &ids, &n_runs, err);
    if (status == ADM_OK) status = adm_alloc(&runs, n_runs, sizeof *runs, "runs", err);
    for (size_t i = 0; status == ADM_OK && i < n_runs; i++) runs[i] = (uint32_t)ids[i];
    adm_free(&ids);
    if (status == ADM_OK) status = adm_recorded_export(store, runs, n_runs, c->label, c->with_samples, to, err);
    c->n_written = n_runs;
    adm_free(&runs);
    return status;
}

static void print_summary(const export_command *c) {
    if (c->common.json && c->timeline != NULL)
        adm_print("{\"run_id\": %" PRId64 ", \"n_events\": %" PRIu64 "}\n", c->timeline_run, c->n_written);
    else if (c->common.json) adm_print("{\"n_runs\": %" PRIu64 "}\n", c->n_written);
    else if (c->common.quiet) return;
    else if (c->timeline != NULL) adm_print("%s: %" PRIu64 " events; open it at ui.perfetto.dev\n", c->output, c->n_written);
    else adm_print("%s: %" PRIu64 " run%s for `adamas db import`\n", c->output, c->n_written, c->n_written == 1 ? "" : "s");
}

static adm_status export(export_command *c, adm_store *store, adm_error *err) {
    adm_output output = {0};
    adm_status status = c->output != NULL ? adm_output_open(&output, "--output", c->output, err) : ADM_OK;
    FILE *to = c->output != NULL ? output.file : stdout;
    if (status == ADM_OK) status = c->timeline != NULL ? write_timeline(c, store, to, err) : write_runs(c, store, to, err);
    if (status == ADM_OK && c->output != NULL) status = adm_json_check_memory(c->output, err);
    if (status == ADM_OK && c->output != NULL) status = adm_output_commit(&output, err);
    adm_output_discard(&output);
    if (status == ADM_OK && c->output != NULL) print_summary(c);
    return status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .doc = "Writes a part of the database in another format: whole runs as a text file that a repository can hold, or a "
               "run's timeline for Perfetto (ui.perfetto.dev); only runs with --timeline have one."};
    export_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    adm_store *store = NULL;
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = adm_store_open(c.common.db_path, ADM_STORE_READ, &store, &err);
    if (status == ADM_OK) status = export(&c, store, &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    adm_store_close(&store);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_db_export = {"export", "runs as a text file, or a run's timeline for Perfetto", run};
