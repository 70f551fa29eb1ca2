/* cmd_history.c: `adamas history`: change points of all series, and `adamas history ack` to say what one was. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/runs_find.h"
#include "analysis/regress/history.h"
#include "analysis/output/rows.h"
#include "analysis/output/text.h"
#include "core/base/print.h"
#include "core/cli/command.h"
#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/store/track.h"

typedef struct history_command {
    adm_common common;
    const char *runs, *min_change, *seed, *id, *who, *why;
    adm_history_options options;
    bool gate, all, ack, ignore;
    adm_store *store;
    adm_series_set set;
    adm_history history;
} history_command;

enum { KEY_RUNS = 0x5300, KEY_METRIC, KEY_STAGE, KEY_MIN, KEY_SEED, KEY_GATE, KEY_ALL, KEY_WHO, KEY_WHY, KEY_IGNORE };

static const struct argp_option options[] = {
    {"runs", KEY_RUNS, "RUNS", 0, "Only these: numbers (3-99), a label, commit:PREFIX (default all complete ones)", 1},
    {"metric", KEY_METRIC, "NAME", 0, "Only this metric (default: times, counts and quality)", 1},
    {"stage", KEY_STAGE, "NAME", 0, "Only this stage", 1},
    {"min-change", KEY_MIN, "PERCENT", 0, "Ignore smaller changes of a time (default 2)", 1},
    {"seed", KEY_SEED, "N", 0, "Seed of the permutation test (default 1)", 1},
    {"gate", KEY_GATE, NULL, 0, "Exit with 1 if a regression is unacknowledged", 2},
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

/* --- Showing ------------------------------------------------------------------------------------------------------ */

static double change_ratio(const adm_history_change *c) { return c->before != 0 ? c->after / c->before - 1 : INFINITY; }

/* "12ab34cd56ef..99aa88bb77cc", or one commit if both sides are of it. */
static void commits(const adm_history_change *c, char out[128]) {
    const char *a = c->before_run->commit, *b = c->after_run->commit;
    if (strcmp(a, b) == 0) snprintf(out, 128, "%.12s%s", a, c->after_run->dirty ? " (modified)" : "");
    else snprintf(out, 128, "%.12s..%.12s", a, b);
}

static void print_change(const adm_history_change *c) {
    char title[256], range[128], who[128], why[300];
    commits(c, range);
    adm_print("%s  %s  %s %s %s: %s\n", c->id, c->is_worse ? "worse " : "better", c->series->source,
              c->series->stage[0] != '\0' ? c->series->stage : c->series->config->policy, c->series->metric->name,
              adm_printable(c->series->config->title, title, sizeof title));
    adm_print("              %.6g to %.6g %s (%+.2f%%), p %.2g, %zu runs before and %zu after\n", c->before, c->after,
              c->series->metric->unit, 100 * change_ratio(c), c->p, c->n_before, c->n_after);
    adm_print("              %s, %s, on %s\n", range, c->after_run->started_utc,
              c->after_run->gpu_name[0] != '\0' ? c->after_run->gpu_name : c->after_run->cpu_model);
    if (c->verdict[0] != '\0')
        adm_print("              %s by %s: %s\n", c->verdict, adm_printable(c->who, who, sizeof who),
                  adm_printable(c->why, why, sizeof why));
}

static json_t *change_json(const adm_history_change *c) {
    const bool said = c->verdict[0] != '\0';
    return json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:f, s:f, s:f, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "id", c->id, "worse", c->is_worse, "source", adm_rows_string(c->series->source), "stage",
                     c->series->stage[0] != '\0' ? adm_rows_string(c->series->stage) : json_null(), "policy",
                     adm_rows_string(c->series->config->policy), "metric", adm_rows_string(c->series->metric->name), "unit",
                     adm_rows_string(c->series->metric->unit), "configuration", adm_rows_string(c->series->config->title),
                     "before", c->before, "after", c->after, "p", c->p, "n_before", (json_int_t)c->n_before, "n_after",
                     (json_int_t)c->n_after, "last_commit_before", adm_rows_string(c->before_run->commit), "first_commit_after",
                     adm_rows_string(c->after_run->commit), "first_run_after", adm_rows_string(c->after_run->uuid),
                     "started_utc", adm_rows_string(c->after_run->started_utc), "verdict",
                     said ? adm_rows_string(c->verdict) : json_null(), "who", said ? adm_rows_string(c->who) : json_null(),
                     "why", said ? adm_rows_string(c->why) : json_null());
}

static bool shown(const history_command *c, const adm_history_change *change) {
    return c->all || strcmp(change->verdict, "ignored") != 0;
}

static adm_status print_history(const history_command *c, adm_error *err) {
    const adm_history *h = &c->history;
    size_t n_shown = 0;
    adm_status status = ADM_OK;
    json_t *rows = json_array();
    for (size_t i = 0; status == ADM_OK && i < h->n_changes; i++) {
        if (!shown(c, &h->change[i])) continue;
        n_shown++;
        if (c->common.json) status = adm_rows_append(rows, change_json(&h->change[i]), err);
        else if (!c->common.quiet) print_change(&h->change[i]);
    }
    if (status == ADM_OK && c->common.json) {
        json_t *document = json_pack("{s:I, s:I, s:I, s:I, s:O}", "n_runs", (json_int_t)c->set.n_runs, "n_series",
                                     (json_int_t)h->n_series, "n_parts", (json_int_t)h->n_parts, "n_too_short",
                                     (json_int_t)h->n_short, "changes", rows);
        status = adm_print_json(document, err);
    } else if (status == ADM_OK && !c->common.quiet) {
        adm_print("%zu changes in %zu series over %zu runs", n_shown, h->n_series, c->set.n_runs);
        if (h->n_parts != h->n_series) adm_print(", %zu by machine", h->n_parts);
        if (h->n_short > 0) adm_print("; %zu have fewer than 6 runs, too few to tell", h->n_short);
        adm_print("\n");
    }
    json_decref(rows);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* --- Acknowledging ------------------------------------------------------------------------------------------------ */

static adm_status acknowledge(history_command *c, adm_error *err) {
    const adm_history_change *found = NULL;
    size_t length = strlen(c->id), n = 0;
    for (size_t i = 0; length > 0 && i < c->history.n_changes; i++)
        if (strncmp(c->history.change[i].id, c->id, length) == 0) {
            found = &c->history.change[i];
            n++;
        }
    if (n != 1)
        return adm_fail(err, ADM_EINPUT,
                        "history: %zu of %zu change points have an ID that begins with '%s'; `adamas history` with the "
                        "same options shows them",
                        n, c->history.n_changes, c->id);
    const char *who = c->who != NULL ? c->who : getenv("USER");
    if (who == NULL || who[0] == '\0') return adm_fail(err, ADM_EINPUT, "history: who acknowledges it? Give --who NAME");
    if (c->why == NULL || c->why[0] == '\0') return adm_fail(err, ADM_EINPUT, "history: why? Give --why TEXT");
    const adm_series_id series = {found->series->config->id, found->series->metric->id, found->series->source,
                                  found->series->stage};
    adm_status status = adm_store_acknowledge(c->store, &series, found->after_run->uuid, c->ignore ? "ignored" : "acknowledged",
                                              who, c->why, err);
    if (status == ADM_OK) status = adm_store_flush(c->store, err);
    if (status == ADM_OK && !c->common.quiet) adm_print("%s %s\n", found->id, c->ignore ? "ignored" : "acknowledged");
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* --- The command -------------------------------------------------------------------------------------------------- */

static adm_status parse_values(history_command *c, adm_error *err) {
    if (c->min_change != NULL) {
        char *end;
        double percent = strtod(c->min_change, &end);
        if (end == c->min_change || *end != '\0' || !isfinite(percent) || percent < 0 || percent > 1000)
            return adm_fail(err, ADM_EINPUT, "--min-change: '%s' is not a percentage from 0 to 1000", c->min_change);
        c->options.min_ratio = percent / 100;
    }
    return c->seed != NULL ? adm_parse_u64("--seed", c->seed, 0, INT64_MAX, &c->options.seed, err) : ADM_OK;
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
    if (status == ADM_OK) status = adm_runs_find(c->store, c->runs != NULL ? c->runs : "all", c->common.db_path, &ids, &n, err);
    if (status == ADM_OK) status = adm_series_load(c->store, ids, n, c->options.metric, &c->set, err);
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
            "at least three runs on either side. Another host, GPU, driver, CUDA or power limit begins a new series.\v"
            "`adamas history ack ID --why TEXT` stores that somebody knows of a change; with --ignore it is hidden."};
    history_command c = {.common = ADM_COMMON_DEFAULTS, .options = ADM_HISTORY_DEFAULTS};
    adm_error err = {0};
    bool bad = false;
    adm_argp_parse(&argp, argc, argv, &c);
    adm_status status = parse_values(&c, &err);
    if (status == ADM_OK) status = load(&c, &err);
    if (status == ADM_OK) status = adm_history_find(&c.set, &c.options, &c.history, &err);
    if (status == ADM_OK) status = c.ack ? acknowledge(&c, &err) : print_history(&c, &err);
    for (size_t i = 0; i < c.history.n_changes; i++)
        bad |= c.history.change[i].is_worse && c.history.change[i].verdict[0] == '\0';
    adm_history_free(&c.history);
    adm_series_free(&c.set);
    adm_store_close(&c.store);
    if (status != ADM_OK) return adm_report_error(&err);
    return c.gate && bad && !c.ack ? 1 : 0;
}

const adm_command adm_cmd_history = {"history", "change points over all runs, and who acknowledged them", run};
