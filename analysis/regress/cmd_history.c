/* cmd_history.c: `adamas history`: change points of all series, and `adamas history ack` to say what one was. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/checks.h"
#include "analysis/regress/commit_order.h"
#include "analysis/regress/compare/compare.h"
#include "analysis/regress/history.h"
#include "analysis/regress/history_write.h"
#include "core/store/runs_find.h"
#include "analysis/output/text.h"
#include "core/base/print.h"
#include "core/cli/command.h"
#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/base/suggest.h"
#include "core/store/track.h"

typedef struct history_command {
    adm_common common;
    const char *runs, *min_change, *seed, *series, *id, *who, *why;
    adm_history_options options;
    bool gate, all, ack, ignore;
    adm_store *store;
    adm_sides sides;
    adm_checks checks;
    adm_series_set set;
    adm_commit_order order;
    adm_history history;
} history_command;

enum {
    KEY_RUNS = 0x5300,
    KEY_METRIC,
    KEY_STAGE,
    KEY_MIN,
    KEY_SEED,
    KEY_SERIES,
    KEY_MACHINE,
    KEY_GATE,
    KEY_ALL,
    KEY_WHO,
    KEY_WHY,
    KEY_IGNORE
};

static const struct argp_option options[] = {
    {"runs", KEY_RUNS, "RUNS", 0,
     "Only these: numbers (3-99), last~99-last, a label, commit:PREFIX (default: all complete ones)", 1},
    {"metric", KEY_METRIC, "NAME", 0, "Only this metric (default: times, counts and quality)", 1},
    {"stage", KEY_STAGE, "NAME", 0, "Only this stage", 1},
    {"min-change", KEY_MIN, "PERCENT", 0, "Ignore smaller changes of a time (default 2)", 1},
    {"series", KEY_SERIES, "SIDES", 0,
     "Which runs of checks count: passed (the candidates of checks that did not fail, the default), candidates, baselines or "
     "none. Runs of no check always do",
     1},
    {"same-machine", KEY_MACHINE, "REGEX", 0,
     "Hosts whose names match are one machine, such as the runners of a pool; CPU and GPU models still tell them apart", 1},
    {"seed", KEY_SEED, "N", 0, "Seed of the permutation test (default 1)", 1},
    {"gate", KEY_GATE, NULL, 0, "Exit with 1 if a regression is unacknowledged, with 3 if nothing could be judged", 2},
    {"all", KEY_ALL, NULL, 0, "Show ignored changes too", 2},
    {"who", KEY_WHO, "NAME", 0, "With ack: who acknowledges it (default: $USER)", 3},
    {"why", KEY_WHY, "TEXT", 0, "With ack: the reason", 3},
    {"ignore", KEY_IGNORE, NULL, 0, "With ack: hide it from now on", 3},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    history_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_RUNS: c->runs = arg; return 0;
    case KEY_METRIC: c->options.metric = arg; return 0;
    case KEY_STAGE: c->options.stage = arg; return 0;
    case KEY_MIN: c->min_change = arg; return 0;
    case KEY_SEED: c->seed = arg; return 0;
    case KEY_SERIES: c->series = arg; return 0;
    case KEY_MACHINE: c->options.same_machine = arg; return 0;
    case KEY_GATE: c->gate = true; return 0;
    case KEY_ALL: c->all = true; return 0;
    case KEY_WHO: c->who = arg; return 0;
    case KEY_WHY: c->why = arg; return 0;
    case KEY_IGNORE: c->ignore = true; return 0;
    case ARGP_KEY_ARG:
        if (state->arg_num == 0 && strcmp(arg, "ack") == 0) c->ack = true;
        else if (state->arg_num == 1 && c->ack) c->id = arg;
        else argp_error(state, "history takes no argument but ack ID, and '%s' was given", arg);
        return 0;
    case ARGP_KEY_END:
        if (c->ack && c->id == NULL) argp_error(state, "ack needs the ID of a change point, as `adamas history` shows it");
        if (!c->ack && (c->who != NULL || c->why != NULL || c->ignore))
            argp_error(state, "--who, --why and --ignore go with ack ID");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* --- Acknowledging ------------------------------------------------------------------------------------------------ */

static adm_status acknowledge(history_command *c, adm_error *err) {
    const adm_history_change *found = NULL;
    const size_t length = strlen(c->id), n_changes = c->history.n_changes + c->checks.n_changes;
    size_t n = 0;
    for (size_t i = 0; length > 0 && i < n_changes; i++) {
        const adm_history_change *change = i < c->history.n_changes ? &c->history.change[i]
                                                                    : &c->checks.change[i - c->history.n_changes];
        if (strncmp(change->id, c->id, length) != 0) continue;
        found = change;
        n++;
    }
    if (n != 1)
        return adm_fail(err, ADM_EINPUT,
                        "history: %zu of %zu change points have an ID that begins with '%s'; `adamas history` with the "
                        "same options shows them",
                        n, n_changes, c->id);
    const char *who = c->who != NULL ? c->who : getenv("USER");
    if (who == NULL || who[0] == '\0') return adm_fail(err, ADM_EINPUT, "history: who acknowledges it? Give --who NAME");
    if (c->why == NULL || c->why[0] == '\0') return adm_fail(err, ADM_EINPUT, "history: why? Give --why TEXT");
    const adm_series_id series = {found->series->config->id, found->series->metric->id, found->series->source,
                                  found->series->stage};
    adm_status status = adm_store_acknowledge(c->store, &series, found->named_run->uuid, c->ignore ? "ignored" : "acknowledged",
                                              who, c->why, err);
    if (status == ADM_OK) status = adm_store_flush(c->store, err);
    if (status == ADM_OK && !c->common.quiet) adm_print("%s %s\n", found->id, c->ignore ? "ignored" : "acknowledged");
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* --- The command -------------------------------------------------------------------------------------------------- */

static adm_status parse_values(history_command *c, adm_error *err) {
    if (c->min_change != NULL) {
        double percent;
        adm_status status = adm_option_real("--min-change", c->min_change, "a percentage", 0, 1000, 0, &percent, err);
        if (status != ADM_OK) return status;
        c->options.min_ratio = percent / 100;
    }
    if (c->series != NULL) {
        adm_status status = adm_sides_parse(c->series, &c->sides, err);
        if (status != ADM_OK) return status;
    }
    return c->seed != NULL ? adm_parse_u64("--seed", c->seed, 0, INT64_MAX, &c->options.seed, err) : ADM_OK;
}

/* What regressed in a check whose verdicts an older program did not store. */
static adm_status judge(const adm_series_set *base, const adm_series_set *cand, adm_check_regression **regressed, size_t *n,
                        adm_error *err) {
    adm_compare_options defaults = ADM_COMPARE_DEFAULTS;
    adm_comparison comparison = {0};
    adm_error refused;
    adm_status status = adm_compare(base, cand, &defaults, &comparison, &refused);
    if (status == ADM_EINPUT) comparison.n_rows = 0; /* sides that cannot be compared have no verdict */
    else if (status != ADM_OK) *err = refused;
    if (status == ADM_EINPUT) status = ADM_OK;
    if (status == ADM_OK) status = adm_alloc(regressed, comparison.n_rows, sizeof **regressed, "regressions", err);
    for (size_t i = 0; status == ADM_OK && i < comparison.n_rows; i++) {
        const adm_compare_row *r = &comparison.row[i];
        if (r->verdict == ADM_VERDICT_REGRESSED && r->cand != NULL)
            (*regressed)[(*n)++] = (adm_check_regression){r->cand, r->base_value, r->cand_value, expm1(r->shift.shift),
                                                          r->p_adjusted};
    }
    adm_comparison_free(&comparison);
    return status;
}

/* Prints what was found; *exit_code is what a gate says of it. */
static adm_status show(const history_command *c, int *exit_code, adm_error *err) {
    char missing[400];
    adm_status status = ADM_OK;
    adm_history_missing(&c->history, &c->checks, c->set.n_runs, missing, sizeof missing);
    const adm_history_document document = {&c->set, &c->history, &c->checks, &c->order, missing, c->all};
    if (c->common.json) status = adm_print_json(adm_history_json(&document), err);
    else if (!c->common.quiet) adm_history_print(&document);
    *exit_code = missing[0] != '\0' ? 3 : 0;
    for (size_t i = 0; i < c->history.n_changes; i++)
        if (c->history.change[i].is_worse && c->history.change[i].verdict[0] == '\0') *exit_code = 1;
    for (size_t i = 0; i < c->checks.n_changes; i++)
        if (c->checks.change[i].verdict[0] == '\0') *exit_code = 1;
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* Refuses a name that the database does not have, rather than find nothing to say of it. */
static adm_status check_name(const history_command *c, const char *option, const char *typed, const char *const *known,
                             size_t n, adm_error *err) {
    char path[256], shown[80], meant[ADM_DID_YOU_MEAN_BYTES];
    for (size_t i = 0; i < n; i++)
        if (strcmp(known[i], typed) == 0) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "%s: %s has no figures of '%s'%s", option,
                    adm_printable(c->common.db_path, path, sizeof path), adm_printable(typed, shown, sizeof shown),
                    adm_did_you_mean(typed, known, n, meant));
}

static adm_status check_names(const history_command *c, adm_error *err) {
    const adm_series_set *set = &c->set;
    const size_t max_names = set->n_metrics > set->n_series ? set->n_metrics : set->n_series;
    const char **known = NULL;
    adm_status status = adm_alloc(&known, max_names, sizeof *known, "names of series", err);
    for (size_t i = 0; status == ADM_OK && i < set->n_metrics; i++) known[i] = set->metric[i].name;
    if (status == ADM_OK && c->options.metric != NULL && set->n_metrics > 0)
        status = check_name(c, "--metric", c->options.metric, known, set->n_metrics, err);
    for (size_t i = 0; status == ADM_OK && i < set->n_series; i++) known[i] = set->series[i].stage;
    if (status == ADM_OK && c->options.stage != NULL && set->n_series > 0)
        status = check_name(c, "--stage", c->options.stage, known, set->n_series, err);
    adm_free(&known);
    return status;
}

static adm_status load(history_command *c, adm_error *err) {
    int64_t *ids = NULL;
    size_t n = 0;
    /* A reader first: an ack must not make a database that is not there. */
    adm_status status = adm_store_open(c->common.db_path, ADM_STORE_READ, &c->store, err);
    if (status == ADM_OK && c->ack) {
        adm_store_close(&c->store);
        status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &c->store, err);
    }
    const char *named = c->runs != NULL ? c->runs : "all";
    if (status == ADM_OK) status = adm_runs_find(c->store, named, ADM_RUNS_COMPLETE, c->common.db_path, &ids, &n, err);
    if (status == ADM_OK) status = adm_checks_find(c->store, ids, n, &c->options, judge, &c->checks, err);
    if (status == ADM_OK) status = adm_checks_select(c->store, &c->checks, c->sides, ids, &n, err);
    if (status == ADM_OK) status = adm_series_load(c->store, ids, n, c->options.metric, &c->set, err);
    if (status == ADM_OK) status = check_names(c, err);
    if (status == ADM_OK) status = adm_series_order_by_commit(&c->set, &c->order, err);
    adm_free(&ids);
    return status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .args_doc = "\nack ID",
        .doc =
            "Finds where the level of a series changed over the runs of a database: E-divisive means with a permutation test, "
            "at least three runs on either side. Runs are ordered by commit: as git has them where this folder's repository "
            "knows the commits, else by the commit's date. Times begin a new series with another host, GPU, driver, CUDA or "
            "power limit; quality, counts and compiled figures go on. What a failed check found regressed is listed by "
            "itself.\v`adamas history ack ID --why TEXT` stores that somebody knows of a change; with --ignore it is hidden."};
    history_command c = {.common = ADM_COMMON_DEFAULTS, .options = ADM_HISTORY_DEFAULTS};
    adm_error err = {0};
    int exit_code = 0;
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = parse_values(&c, &err);
    if (status == ADM_OK) status = load(&c, &err);
    if (status == ADM_OK) status = adm_history_find(&c.set, &c.options, &c.history, &err);
    if (status == ADM_OK) status = c.ack ? acknowledge(&c, &err) : show(&c, &exit_code, &err);
    adm_history_free(&c.history);
    adm_series_free(&c.set);
    adm_checks_free(&c.checks);
    adm_store_close(&c.store);
    if (status != ADM_OK) return adm_report_error(&err);
    return c.gate && !c.ack ? exit_code : 0;
}

const adm_command adm_cmd_history = {"history", "change points over all runs, and who acknowledged them", run};
