/* cmd_check.c: `adamas check`: runs two programs in turn on this machine and compares them; with --calibrate one program
 * with itself, for the margins below which differences are the machine's own. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/compare/side.h"
#include "core/store/runs_find.h"
#include "analysis/regress/compare/narrow.h"
#include "analysis/regress/check_run.h"
#include "analysis/regress/compare/args.h"
#include "analysis/regress/compare/kernels.h"
#include "analysis/regress/compare/record.h"
#include "analysis/output/rows.h"
#include "core/base/print.h"
#include "core/cli/command.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/base/printable.h"
#include "core/system/hostinfo.h"
#include "core/store/track.h"

typedef struct check_command {
    adm_common common;
    adm_compare_args args;
    const char *baseline, *candidate, *runs, *max_runs;
    bool calibrate;
    uint64_t n_runs, n_max_runs;
    uint64_t n_max_narrow; /* where added processes take open times alone, which costs little */
    const char *kernel; /* the candidate, where it is one */
    char **with_kernel; /* the arguments, and --candidate FILE */
    adm_check_program program[2];
    adm_check check;
    adm_store *store;
    adm_series_set set[2]; /* rows of a comparison point into these */
    adm_progress progress;
} check_command;

enum { KEY_BASELINE = 0x5200, KEY_CANDIDATE, KEY_RUNS, KEY_MAX_RUNS, KEY_CALIBRATE };

static const struct argp_option options[] = {
    {"baseline", KEY_BASELINE, "WHAT", 0,
     "A program, a git ref (built in a work tree under build/check), or label:NAME for runs "
     "that the database holds",
     1},
    {"candidate", KEY_CANDIDATE, "WHAT", 0,
     "A program or a git ref (default: this program); or [STAGE=]FILE, a kernel of your own, which COMMAND times beside the "
     "registry's rows and which is compared with them (--baseline is then this program unless given)",
     1},
    {"runs", KEY_RUNS, "N", 0, "Processes per side, 2 to 500 (default 10)", 1},
    {"max-runs", KEY_MAX_RUNS, "N", 0,
     "Add processes while a time is open, twice as many at each look, up to this many per side (default 40, or 80 where the "
     "added ones can take the open times alone); all looks together keep the level of 1%",
     1},
    {"calibrate", KEY_CALIBRATE, NULL, 0, "Run the candidate against itself and store this machine's margin for each time", 1},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    check_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return adm_give_inputs(state, 3, (void *[]){&c->common, &c->common, &c->args});
    case KEY_BASELINE: c->baseline = arg; return 0;
    case KEY_CANDIDATE: c->candidate = arg; return 0;
    case KEY_RUNS: c->runs = arg; return 0;
    case KEY_MAX_RUNS: c->max_runs = arg; return 0;
    case KEY_CALIBRATE: c->calibrate = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' comes before --: the command to measure goes after it", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* --- What is asked for -------------------------------------------------------------------------------------------- */

static adm_status check_arguments(const check_command *c, adm_error *err) {
    char *const *a = c->check.arguments;
    if (c->check.n_arguments == 0)
        return adm_fail(err, ADM_EINPUT, "check: give the command to measure after --, such as -- replay TRACE");
    static const char *const measured[] = {"replay", "profile"};
    char meant[ADM_DID_YOU_MEAN_BYTES];
    if (strcmp(a[0], measured[0]) != 0 && strcmp(a[0], measured[1]) != 0)
        return adm_fail(err, ADM_EINPUT, "check measures replay or profile, not '%s'%s", a[0],
                        adm_did_you_mean(a[0], measured, 2, meant));
    for (int i = 1; i < c->check.n_arguments; i++)
        if (strcmp(a[i], "--db") == 0 || strncmp(a[i], "--db=", 5) == 0 || strcmp(a[i], "--json") == 0)
            return adm_fail(err, ADM_EINPUT, "check: %s belongs before --", a[i]);
    if (c->calibrate && c->baseline != NULL)
        return adm_fail(err, ADM_EINPUT, "check: --calibrate runs the candidate against itself and takes no --baseline");
    if (!c->calibrate && c->baseline == NULL && c->kernel == NULL)
        return adm_fail(err, ADM_EINPUT, "check: --baseline is missing: a program, a git ref or label:NAME");
    return ADM_OK;
}

static void on_build(const char *subject, const char *folder) {
    char shown[2][512];
    adm_print_to(stderr, "building %s in %s\n", adm_printable(subject, shown[0], sizeof shown[0]),
                 adm_printable(folder, shown[1], sizeof shown[1]));
}

static bool is_stored(const check_command *c) { return c->baseline != NULL && strncmp(c->baseline, "label:", 6) == 0; }

/* Both sides run the command with the kernel, so that its times and the registry's are taken in the same way. */
static adm_status add_kernel(check_command *c, adm_error *err) {
    const int n = c->check.n_arguments;
    if (c->calibrate) return adm_fail(err, ADM_EINPUT, "check: --calibrate takes a program, not the kernel %s", c->kernel);
    if (is_stored(c)) return adm_fail(err, ADM_EINPUT, "check: a kernel is compared in new runs: leave out %s", c->baseline);
    adm_status status = adm_alloc(&c->with_kernel, (size_t)n + 2, sizeof *c->with_kernel, "a command line", err);
    if (status != ADM_OK) return status;
    for (int i = 0; i < n; i++) c->with_kernel[i] = c->check.arguments[i];
    c->with_kernel[n] = "--candidate";
    c->with_kernel[n + 1] = (char *)c->kernel;
    c->check.arguments = c->with_kernel;
    c->check.n_arguments = n + 2;
    return ADM_OK;
}

static adm_status parse_values(check_command *c, adm_error *err) {
    void (*said)(const char *, const char *) = c->common.quiet ? NULL : on_build;
    c->n_runs = 10;
    if (c->candidate != NULL && adm_compare_is_kernel(c->candidate)) c->kernel = c->candidate;
    adm_status status = check_arguments(c, err);
    if (status == ADM_OK && c->kernel != NULL) status = add_kernel(c, err);
    if (status == ADM_OK && c->kernel == NULL && c->args.against != NULL)
        status = adm_fail(err, ADM_EINPUT, "check: --against is about a kernel: give it with --candidate");
    if (status == ADM_OK && c->runs != NULL) status = adm_parse_u64("--runs", c->runs, 2, 500, &c->n_runs, err);
    c->n_max_runs = c->n_runs > 40 ? c->n_runs : 40;
    c->n_max_narrow = c->n_runs > 80 ? c->n_runs : 80;
    if (status == ADM_OK && c->max_runs != NULL)
        status = adm_parse_u64("--max-runs", c->max_runs, c->n_runs, 500, &c->n_max_runs, err);
    if (c->max_runs != NULL) c->n_max_narrow = c->n_max_runs;
    if (status == ADM_OK && !c->calibrate && !is_stored(c)) {
        status = adm_check_resolve(c->baseline != NULL ? c->baseline : "/proc/self/exe", said, &c->program[0], err);
        c->check.program[0] = &c->program[0];
    }
    if (status == ADM_OK)
        status = adm_check_resolve(c->candidate != NULL && c->kernel == NULL ? c->candidate : "/proc/self/exe", said,
                                   &c->program[1], err);
    if (c->baseline == NULL && c->kernel != NULL)
        snprintf(c->program[0].subject, sizeof c->program[0].subject, "%s",
                 c->args.against != NULL ? c->args.against : "the registry's fastest");
    if (c->candidate == NULL) snprintf(c->program[1].subject, sizeof c->program[1].subject, "this program");
    if (c->kernel != NULL) snprintf(c->program[1].subject, sizeof c->program[1].subject, "%s", c->kernel);
    c->check.program[1] = &c->program[1];
    return status;
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

/* Runs the first process alone: how many times it takes is known before the others run. */
static adm_status run_one(check_command *c, adm_error *err) {
    adm_status status = adm_check_next(&c->check, err);
    return status == ADM_OK ? adm_check_merge(&c->check, c->store, err) : status;
}

/* Runs processes until each side has n; then their runs are in the store. What ran before a failure is kept too. */
static adm_status run_until(check_command *c, size_t n, adm_error *err) {
    const bool both = c->check.program[0] != NULL;
    adm_error ignored;
    adm_status status = ADM_OK;
    adm_progress_start(&c->progress, "check", both ? 2 * n : n, c->common.quiet);
    while (status == ADM_OK && c->check.n_run[1] + c->check.n_run[0] < (both ? 2 * n : n)) {
        status = adm_check_next(&c->check, err);
        adm_progress_step(&c->progress, c->check.position);
    }
    adm_progress_end(&c->progress);
    adm_status merged = adm_check_merge(&c->check, c->store, status == ADM_OK ? err : &ignored);
    return status != ADM_OK ? status : merged;
}

static adm_status load(check_command *c, const char *named, adm_series_set *set, adm_error *err) {
    int64_t *ids = NULL;
    size_t n = 0;
    adm_status status = adm_runs_find(c->store, named, ADM_RUNS_COMPLETE, c->common.db_path, &ids, &n, err);
    if (status == ADM_OK) status = adm_series_load(c->store, ids, n, NULL, set, err);
    adm_free(&ids);
    return status;
}

static adm_status compare(check_command *c, const adm_compare_options *o, adm_comparison *out, adm_error *err) {
    char named[2][80];
    adm_comparison_free(out);
    adm_series_free(&c->set[0]);
    adm_series_free(&c->set[1]);
    *out = (adm_comparison){0};
    snprintf(named[0], sizeof named[0], "check:%s:baseline", c->check.uuid);
    snprintf(named[1], sizeof named[1], "check:%s:candidate", c->check.uuid);
    adm_status status = load(c, is_stored(c) ? c->baseline : named[0], &c->set[0], err);
    if (status == ADM_OK) status = load(c, named[1], &c->set[1], err);
    if (status == ADM_OK && c->kernel != NULL)
        status = adm_compare_keep_kernel(&c->set[0], &c->set[1], c->kernel, c->args.against, err);
    return status == ADM_OK ? adm_compare(&c->set[0], &c->set[1], o, out, err) : status;
}

/* Processes per side at the look after that with n, of at most `most`. Both sides get as many: whatever is particular to the
 * processes of one look is on both. */
static uint64_t next_look(uint64_t n, uint64_t most) { return 2 * n < most ? 2 * n : most; }

/* How often times are tested: looks with too few processes for that take nothing of the level. */
static size_t n_looks(const check_command *c) {
    size_t n_looks = c->n_max_narrow >= ADM_MIN_PROCESSES;
    for (uint64_t n = c->n_runs; n < c->n_max_narrow; n = next_look(n, c->n_max_narrow)) n_looks += n >= ADM_MIN_PROCESSES;
    return n_looks > 0 ? n_looks : 1;
}

/* Says it early: these processes cannot show that one time among n_times has changed. */
static void warn_if_too_few(const check_command *c, size_t n_times, double alpha) {
    const size_t n = (size_t)c->n_max_runs, needed = adm_processes_needed(n_times, alpha);
    if (c->common.quiet || n_times == 0 || n >= needed) return;
    adm_print_to(stderr, "adamas: %zu processes per side cannot reach %.2g%% for one of %zu times: %zu can (--max-runs)\n", n,
                 100 * alpha, n_times, needed);
}

/* Times of which a verdict is due, from the first process. */
static adm_status count_times(check_command *c, size_t *n_times, adm_error *err) {
    char named[80];
    *n_times = 0;
    snprintf(named, sizeof named, "check:%s:%s", c->check.uuid, c->check.n_run[0] > 0 ? "baseline" : "candidate");
    adm_status status = load(c, named, &c->set[0], err);
    for (size_t i = 0; status == ADM_OK && i < c->set[0].n_series; i++) {
        const adm_series *s = &c->set[0].series[i];
        double tolerance;
        if (c->kernel != NULL && !adm_compare_is_of_kernel(s, c->kernel)) continue;
        *n_times += adm_figure_of(s->metric->name, s->metric->unit, s->metric->better, s->stage, &tolerance) == ADM_FIGURE_TIME;
    }
    adm_series_free(&c->set[0]);
    return status;
}

/* Has the next processes take the open rows alone. Not beside a stored baseline: then whatever a shorter process does to a time
 * would be on one side only. */
static adm_status look_closer(check_command *c, const adm_comparison *seen, uint64_t n, uint64_t *next, adm_error *err) {
    bool narrowed = false;
    adm_status status = ADM_OK;
    if (!is_stored(c) && n < c->n_max_narrow) status = adm_compare_narrow(&c->check, seen, &narrowed, err);
    *next = next_look(n, narrowed ? c->n_max_narrow : c->n_max_runs);
    if (status == ADM_OK && *next > n && !c->common.quiet)
        adm_print_to(stderr, "adamas: %zu time%s open after %" PRIu64 " processes per side: %" PRIu64 " more take %s\n",
                     seen->n_open, seen->n_open == 1 ? " is" : "s are", n, *next - n,
                     !narrowed           ? "all times"
                     : seen->n_open == 1 ? "it alone"
                                         : "those alone");
    return status;
}

/* The looks share alpha, so that testing again does not raise false alarms. */
static adm_status check_programs(check_command *c, adm_compare_options *o, adm_comparison *out, adm_error *err) {
    size_t n_times = 0;
    o->alpha /= (double)n_looks(c);
    if (!o->margin_is_forced) o->most_own_margin = 0.03; /* what ten processes per side find (analysis/README.md) */
    warn_if_too_few(c, 2, o->alpha);
    adm_status status = run_one(c, err);
    if (status == ADM_OK) status = count_times(c, &n_times, err);
    if (status == ADM_OK && c->n_max_runs >= adm_processes_needed(2, o->alpha)) warn_if_too_few(c, n_times, o->alpha);
    for (uint64_t n = 0, next = c->n_runs; status == ADM_OK && next > n;) {
        n = next;
        status = run_until(c, n, err);
        if (status == ADM_OK) status = compare(c, o, out, err);
        if (status == ADM_OK && out->n_open > 0) status = look_closer(c, out, n, &next, err);
    }
    return status;
}

/* A check writes its files even when a side crashed, so that their readers learn about it. */
static adm_status check(check_command *c, int *exit_code, adm_error *err) {
    adm_compare_options o;
    adm_comparison out = {0};
    adm_error why = {0};
    adm_status status = adm_compare_args_parse(&c->args, &o, err);
    if (status != ADM_OK) return status;
    adm_status ran = check_programs(c, &o, &out, &why);
    snprintf(out.subject[0], sizeof out.subject[0], "%s", is_stored(c) ? c->baseline : c->program[0].subject);
    snprintf(out.subject[1], sizeof out.subject[1], "%s", c->program[1].subject);
    snprintf(out.check_uuid, sizeof out.check_uuid, "%s", c->check.uuid);
    if (ran != ADM_OK) {
        adm_comparison_free(&out);
        memset(out.n_verdicts, 0, sizeof out.n_verdicts);
        out.n_open = out.n_missing = out.n_times = out.n_throttled = out.n_samples_out = 0;
        snprintf(out.failure, sizeof out.failure, "%.500s", why.text);
    }
    /* A machine that lacks something, wrong input and an interrupt are no verdict. */
    if (ran == ADM_OK || ran == ADM_EENVIRONMENT) status = adm_comparison_record(&out, &c->set[0], &c->set[1], c->store, err);
    if (status == ADM_OK && ran != ADM_EINTERRUPTED) status = adm_compare_args_write(&c->args, &out, err);
    if (status == ADM_OK && ran == ADM_OK) status = adm_compare_print(&out, c->common.json, c->common.quiet, c->args.all, err);
    *exit_code = adm_comparison_exit_code(&out);
    adm_comparison_free(&out);
    if (status == ADM_OK && ran != ADM_OK) *err = why;
    return status == ADM_OK ? ran : status;
}

/* --- Calibration -------------------------------------------------------------------------------------------------- */

static adm_status calibrate_series(check_command *c, const adm_series *s, uint64_t seed, json_t *rows, adm_error *err) {
    adm_compare_side side = {0};
    double margin = 0;
    const adm_series_run *machine = &c->set[1].run[0];
    adm_status status = adm_compare_read_side(&c->set[1], s, NULL, &side, err);
    if (status != ADM_OK) return status;
    if (side.n >= 2 * ADM_MIN_PROCESSES && !side.has_zero) {
        status = adm_margin_from_itself(side.process, side.n, 0.01, seed, &margin, err);
        const adm_series_id id = {s->config->id, s->metric->id, s->source, s->stage};
        const adm_machine_id where = {machine->host_name, machine->cpu_model, machine->gpu_name};
        if (status == ADM_OK) status = adm_store_margin(c->store, &id, &where, margin, (int64_t)side.n, err);
        if (status == ADM_OK)
            status = adm_rows_append(rows,
                                     json_pack("{s:o, s:o, s:o, s:o, s:f, s:I}", "source", adm_rows_string(s->source), "stage",
                                               adm_rows_string(s->stage), "metric", adm_rows_string(s->metric->name),
                                               "configuration", adm_rows_string(s->config->title), "margin_ratio", margin,
                                               "n_processes", (json_int_t)side.n),
                                     err);
    }
    adm_compare_free_side(&side);
    return status;
}

static void print_margins(const json_t *rows) {
    size_t i;
    json_t *row;
    adm_print("margin  what\n");
    json_array_foreach(rows, i, row) {
        char title[256];
        adm_print("%5.1f%%  %s %s %s: %s\n", 100 * json_real_value(json_object_get(row, "margin_ratio")),
                  json_string_value(json_object_get(row, "source")), json_string_value(json_object_get(row, "stage")),
                  json_string_value(json_object_get(row, "metric")),
                  adm_printable(json_string_value(json_object_get(row, "configuration")), title, sizeof title));
    }
}

/* Twice the processes of one side, since a check needs two. */
static adm_status calibrate(check_command *c, adm_error *err) {
    char named[80];
    adm_compare_options o;
    json_t *rows = json_array();
    adm_status status = adm_compare_args_parse(&c->args, &o, err);
    if (status == ADM_OK) status = run_until(c, 2 * c->n_runs, err);
    snprintf(named, sizeof named, "check:%s:candidate", c->check.uuid);
    if (status == ADM_OK) status = load(c, named, &c->set[1], err);
    for (size_t i = 0; status == ADM_OK && i < c->set[1].n_series; i++) {
        const adm_series *s = &c->set[1].series[i];
        double tolerance;
        if (adm_figure_of(s->metric->name, s->metric->unit, s->metric->better, s->stage, &tolerance) == ADM_FIGURE_TIME)
            status = calibrate_series(c, s, o.seed, rows, err);
    }
    if (status == ADM_OK) status = adm_store_flush(c->store, err);
    if (status == ADM_OK && json_array_size(rows) == 0)
        status = adm_fail(err, ADM_EINPUT, "check: nothing to calibrate: a margin needs a time from at least %d processes",
                          2 * ADM_MIN_PROCESSES);
    if (status == ADM_OK && c->common.json) {
        status = adm_print_json(json_incref(rows), err);
    } else if (status == ADM_OK && !c->common.quiet) {
        print_margins(rows);
    }
    json_decref(rows);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* --- The command -------------------------------------------------------------------------------------------------- */

/* Arguments after "--" belong to the measured command. */
static int find_dashes(int argc, char **argv) {
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--") == 0) return i;
    return argc;
}

static void warn_about_cpu(const check_command *c) {
    adm_host_info host;
    char warning[256];
    adm_host_info_read(&host);
    if (!c->common.quiet && adm_host_warning(&host, warning, sizeof warning)) adm_print_to(stderr, "adamas: %s\n", warning);
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {
        {&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {&adm_argp_compare, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .args_doc = "-- COMMAND [ARGUMENT...]",
        .doc =
            "Runs two programs alternately on this machine, in fresh processes in the order ABBA, and compares them as `adamas "
            "compare` does. COMMAND is replay or profile.\v"
            "The exit code is 1 if something regressed, else 3 if something is inconclusive, else 0; 4 if a side crashed, 77 "
            "if this machine lacks what COMMAND needs. The files of --markdown, --junit and --benchmark-json are written in "
            "each of these cases. All runs stay in the database."};
    static check_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    int exit_code = 0, dashes = find_dashes(argc, argv);
    c.check.arguments = argv + (dashes < argc ? dashes + 1 : argc);
    c.check.n_arguments = dashes < argc ? argc - dashes - 1 : 0;
    char *rest = argv[dashes];
    argv[dashes] = NULL;
    adm_interrupt_ask();
    adm_argp_parse(&argp, dashes, argv, &c);
    argv[dashes] = rest;
    adm_status status = parse_values(&c, &err);
    if (status == ADM_OK) status = adm_store_open(c.common.db_path, ADM_STORE_WRITE, &c.store, &err);
    if (status == ADM_OK) status = adm_check_start(&c.check, &err);
    if (status == ADM_OK) warn_about_cpu(&c);
    if (status == ADM_OK) status = c.calibrate ? calibrate(&c, &err) : check(&c, &exit_code, &err);
    adm_check_end(&c.check);
    adm_free(&c.with_kernel);
    adm_series_free(&c.set[0]);
    adm_series_free(&c.set[1]);
    adm_store_close(&c.store);
    return status == ADM_OK ? exit_code : adm_report_error(&err);
}

const adm_command adm_cmd_check = {"check", "measure two programs alternately and compare them", run};
