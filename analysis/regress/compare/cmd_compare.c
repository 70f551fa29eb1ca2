/* cmd_compare.c: `adamas compare`: two sets of stored runs. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/store/runs_find.h"
#include "analysis/regress/compare/args.h"
#include "analysis/regress/compare/kernels.h"
#include "core/cli/command.h"
#include "core/base/mem.h"

typedef struct compare_command {
    adm_common common;
    adm_compare_args args;
    const char *side[2];
    int n_sides;
    const char *kernel;
} compare_command;

enum { KEY_CANDIDATE = 0x5300 };

static const struct argp_option own_options[] = {
    {"candidate", KEY_CANDIDATE, "FILE", 0,
     "Compare this kernel of the candidate's runs, which were made with the same option, with the registry's row in the "
     "baseline's: both sides may be the same runs",
     1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    compare_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return adm_give_inputs(state, 3, (void *[]){&c->common, &c->common, &c->args});
    case KEY_CANDIDATE: c->kernel = arg; return 0;
    case ARGP_KEY_ARG:
        if (c->n_sides == 2) argp_error(state, "compare takes two sets of runs, and '%s' is a third", arg);
        c->side[c->n_sides++] = arg;
        return 0;
    case ARGP_KEY_END:
        if (c->n_sides < 2) argp_error(state, "compare needs a baseline and a candidate: two sets of runs");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* One side: its database, and its runs in memory. */
typedef struct side {
    char path[4096];
    const char *runs;
    adm_store *store;
    adm_series_set set;
} side;

static bool is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* "RUNS", "FILE" or "FILE:RUNS". */
static void split(const char *named, const char *database, side *s) {
    const char *colon = strrchr(named, ':');
    snprintf(s->path, sizeof s->path, "%s", database);
    s->runs = named;
    if (is_file(named)) {
        snprintf(s->path, sizeof s->path, "%s", named);
        s->runs = "all";
        return;
    }
    for (; colon != NULL; colon = colon > named ? memrchr(named, ':', (size_t)(colon - named)) : NULL) {
        char path[4096];
        snprintf(path, sizeof path, "%.*s", (int)(colon - named), named);
        if (!is_file(path)) continue;
        snprintf(s->path, sizeof s->path, "%s", path);
        s->runs = colon + 1;
        return;
    }
}

static adm_status load(side *s, adm_error *err) {
    int64_t *ids = NULL;
    size_t n = 0;
    adm_status status = adm_store_open(s->path, ADM_STORE_READ, &s->store, err);
    if (status == ADM_OK) status = adm_runs_find(s->store, s->runs, ADM_RUNS_COMPLETE, s->path, &ids, &n, err);
    if (status == ADM_OK) status = adm_series_load(s->store, ids, n, NULL, &s->set, err);
    adm_free(&ids);
    return status;
}

static adm_status compare(const compare_command *c, int *exit_code, adm_error *err) {
    static side base, cand; /* two paths would be much for the stack */
    adm_compare_options options;
    adm_comparison comparison = {0};
    adm_status status = adm_compare_args_parse(&c->args, &options, err);
    split(c->side[0], c->common.db_path, &base);
    split(c->side[1], c->common.db_path, &cand);
    if (status == ADM_OK) status = load(&base, err);
    if (status == ADM_OK) status = load(&cand, err);
    options.shares_runs = c->kernel != NULL;
    if (status == ADM_OK && c->kernel != NULL)
        status = adm_compare_keep_kernel(&base.set, &cand.set, c->kernel, c->args.against, err);
    if (status == ADM_OK && c->kernel == NULL && c->args.against != NULL)
        status = adm_fail(err, ADM_EINPUT, "--against is about a kernel: give it with --candidate");
    if (status == ADM_OK) status = adm_compare(&base.set, &cand.set, &options, &comparison, err);
    for (int i = 0; i < 2; i++) snprintf(comparison.subject[i], sizeof comparison.subject[i], "%s", c->side[i]);
    if (status == ADM_OK) status = adm_compare_args_write(&c->args, &comparison, err);
    if (status == ADM_OK) status = adm_compare_print(&comparison, c->common.json, c->common.quiet, c->args.all, err);
    *exit_code = adm_comparison_exit_code(&comparison);
    adm_comparison_free(&comparison);
    adm_series_free(&base.set);
    adm_series_free(&cand.set);
    adm_store_close(&base.store);
    adm_store_close(&cand.store);
    return status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {
        {&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {&adm_argp_compare, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = own_options,
        .parser = parse,
        .children = children,
        .args_doc = "BASELINE CANDIDATE",
        .doc =
            "Compares two sets of stored runs, series by series: times by the shift between processes with its 99% interval, "
            "counts and quality exactly or within a stated tolerance.\v"
            "Each side is RUNS, FILE or FILE:RUNS. " ADM_RUNS_HELP "\n\n"
            "A run is one process; times need at least five per side, and ten are better. `adamas check` runs both sides, "
            "interleaved.\n\n"
            "The exit code is 1 if something regressed, else 3 if something is inconclusive, else 0."};
    compare_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    int exit_code = 0;
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = compare(&c, &exit_code, &err);
    return status == ADM_OK ? exit_code : adm_report_error(&err);
}

const adm_command adm_cmd_compare = {"compare", "compare two sets of runs: regressed, improved or equivalent", run};
