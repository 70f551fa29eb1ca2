/* cmd_report.c: `adamas report`: one self-contained HTML page, or its data as JSON. */
#include <jansson.h>
#include <stdio.h>

#include "analysis/report/data.h"
#include "analysis/report/html.h"
#include "core/base/json_text.h"
#include "core/base/print.h"
#include "core/cli/command.h"
#include "core/base/mem.h"
#include "core/store/runs_find.h"
#include "core/system/output_file.h"

typedef struct report_command {
    adm_common common;
    const char *output, *runs, *baseline;
} report_command;

enum { KEY_BASELINE = 0x6500 };

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "The page (default report.html)", 1},
    {"run", 'r', "RUNS", 0,
     "Show these runs: numbers (3-9,12), last, a label (default: for each trace the latest complete replay)", 1},
    {"baseline", KEY_BASELINE, "RUNS", 0, "Compare these runs with those of --run, or with all later ones", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    report_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case 'o': c->output = arg; return 0;
    case 'r': c->runs = arg; return 0;
    case KEY_BASELINE: c->baseline = arg; return 0;
    case ARGP_KEY_ARG: argp_error(state, "report takes no argument, and '%s' was given; use --db FILE", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* The runs of --run; any that is not complete, too, as long as it is asked for. */
static adm_status find_runs(const report_command *c, adm_store *store, uint32_t **runs, size_t *n, adm_error *err) {
    int64_t *ids = NULL;
    if (c->runs == NULL) return ADM_OK;
    adm_status status = adm_runs_find(store, c->runs, ADM_RUNS_ANY, c->common.db_path, &ids, n, err);
    if (status == ADM_OK) status = adm_alloc(runs, *n, sizeof **runs, "runs", err);
    for (size_t i = 0; status == ADM_OK && i < *n; i++) (*runs)[i] = (uint32_t)ids[i];
    adm_free(&ids);
    return status;
}

static adm_status write_page(const report_command *c, const adm_text *page, adm_error *err) {
    adm_output output;
    adm_status status = adm_json_check_memory(c->output, err);
    if (status == ADM_OK) status = adm_output_open(&output, "--output", c->output, err);
    if (status != ADM_OK) return status;
    fwrite(page->data, 1, page->length, output.file); /* committing tells whether all of it arrived */
    status = adm_output_commit(&output, err);
    if (status == ADM_OK && !c->common.quiet) adm_print("%s: %zu bytes\n", c->output, page->length);
    return status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {.options = options,
                                     .parser = parse,
                                     .children = children,
                                     .doc =
                                         "Writes one HTML page that opens from disk without a network. With --json it prints "
                                         "the page's data on standard output instead."};
    report_command c = {.common = ADM_COMMON_DEFAULTS, .output = "report.html"};
    adm_error err = {0};
    adm_store *store = NULL;
    json_t *document = NULL;
    adm_progress progress;
    uint32_t *runs = NULL;
    size_t n_runs = 0;
    adm_argp_parse(&argp, argc, argv, &c);

    adm_status status = adm_store_open(c.common.db_path, ADM_STORE_READ, &store, &err);
    if (status == ADM_OK) status = find_runs(&c, store, &runs, &n_runs, &err);
    adm_progress_start(&progress, "report", 0, c.common.quiet);
    if (status == ADM_OK)
        status = adm_report_data(store, c.common.db_path, runs, n_runs, c.baseline, &progress, &document, &err);
    adm_text page = {0};
    if (status == ADM_OK && !c.common.json) status = adm_report_html(document, &page, &err);
    adm_progress_end(&progress);
    if (status == ADM_OK) status = c.common.json ? adm_print_json(json_incref(document), &err) : write_page(&c, &page, &err);
    adm_text_free(&page);
    if (status == ADM_OK) status = adm_finish_output(&err);
    json_decref(document);
    adm_store_close(&store);
    adm_free(&runs);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_report = {"report", "write one self-contained HTML report", run};
