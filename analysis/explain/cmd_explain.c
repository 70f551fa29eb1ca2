/* cmd_explain.c: `adamas explain`: what limits a stage, in sentences with figures. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/explain/figures.h"
#include "core/base/embedded.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/cli/command.h"
#include "core/contract/stage.h"
#include "core/store/runs_find.h"

typedef struct explain_command {
    adm_common common;
    const char *stage, *run, *seq_len, *kv_heads, *batch, *budget;
    adm_explain_subject subject;
    adm_explained explained;
    adm_rules rules;
    adm_finding finding[ADM_MAX_RULES];
    size_t n_findings;
} explain_command;

enum { KEY_STAGE = 0x6400, KEY_RUN, KEY_ONLY, KEY_SEQ_LEN, KEY_KV_HEADS, KEY_BATCH };

static const struct argp_option options[] = {
    {"stage", KEY_STAGE, "STAGE", 0, "hadamard, bucket, pack, append, distance, topk, attention, step or dense", 1},
    {"run", KEY_RUN, "RUN", 0, "The run: a number, last, a label (default: the newest that has the stage on a GPU)", 1},
    {"implementation", KEY_ONLY, "NAME", 0, "The implementation (default: the fastest)", 1},
    {"seq-len", KEY_SEQ_LEN, "N", 0, "The configuration's tokens (default: one with counters, then the longest)", 2},
    {"kv-heads", KEY_KV_HEADS, "N", 0, "Its KV heads", 2},
    {"batch", KEY_BATCH, "N", 0, "Its batch", 2},
    {"budget", 'b', "N", 0, "Its budget", 2},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    explain_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_STAGE: c->stage = arg; return 0;
    case KEY_RUN: c->run = arg; return 0;
    case KEY_ONLY: c->subject.variant = arg; return 0;
    case KEY_SEQ_LEN: c->seq_len = arg; return 0;
    case KEY_KV_HEADS: c->kv_heads = arg; return 0;
    case KEY_BATCH: c->batch = arg; return 0;
    case 'b': c->budget = arg; return 0;
    case ARGP_KEY_ARG: argp_error(state, "explain takes no argument, and '%s' was given", arg); return 0;
    case ARGP_KEY_END:
        if (c->stage == NULL) argp_error(state, "--stage is needed: which stage is to be explained?");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .children = children,
    .doc = "Says what limits a GPU stage: bytes against the model, stalls, occupancy, launches; and what removing each limit "
           "would save at most, in the stage and in the whole step.\v"
           "The figures are those of a run of `adamas profile`, best with --counters full --timeline. The rules are data: "
           "analysis/explain/limits.rules.",
};

static adm_status parse_values(explain_command *c, adm_error *err) {
    const char *names[ADM_N_STAGES];
    bool found[ADM_N_STAGES] = {false};
    adm_stage_names(names);
    adm_status status = adm_parse_words("--stage", c->stage, names, ADM_N_STAGES, found, err);
    if (status == ADM_OK && strchr(c->stage, ',') != NULL) status = adm_fail(err, ADM_EINPUT, "--stage: one stage at a time");
    if (status == ADM_OK) status = adm_option_u32("--seq-len", c->seq_len, 1, 1 << 20, 0, &c->subject.seq_len, err);
    if (status == ADM_OK) status = adm_option_u32("--kv-heads", c->kv_heads, 1, 1 << 20, 0, &c->subject.kv_heads, err);
    if (status == ADM_OK) status = adm_option_u32("--batch", c->batch, 1, 1 << 20, 0, &c->subject.batch, err);
    if (status == ADM_OK) status = adm_option_u32("--budget", c->budget, 1, 1 << 20, 0, &c->subject.budget, err);
    c->subject.stage = c->stage;
    return status;
}

/* --- Text ----------------------------------------------------------------------------------------------------------- */

static double figure(const explain_command *c, const char *name) {
    double value;
    return adm_figures_find(&c->explained.figures, name, &value) ? value : NAN;
}

static void print_head(const explain_command *c) {
    const adm_explained *e = &c->explained;
    adm_print("%s '%s' on %s, run %" PRId64 "%s%s: %" PRId64 " query heads, %" PRId64 " KV heads, d = %" PRId64 ", %" PRId64
              " tokens, batch %" PRId64,
              c->stage, e->variant, e->gpu[0] != '\0' ? e->gpu : "a GPU", e->run_id, e->label[0] != '\0' ? " " : "", e->label,
              e->q_heads, e->kv_heads, e->head_dim, e->seq_len, e->batch);
    if (e->budget > 0) adm_print(", budget %" PRId64, e->budget);
    adm_print("\n%.2f us", figure(c, "time_ns") * 1e-3);
    if (isfinite(figure(c, "floor_ns"))) adm_print("; the floor of its bytes is %.2f us", figure(c, "floor_ns") * 1e-3);
    if (isfinite(figure(c, "six_ns")) && strcmp(c->stage, "step") != 0 && strcmp(c->stage, "dense") != 0)
        adm_print("; %.0f%% of the six stages' %.2f us", figure(c, "time_ns") / figure(c, "six_ns") * 100,
                  figure(c, "six_ns") * 1e-3);
    if (e->lender_id != 0) adm_print("; counters of run %" PRId64 ", of the same build on the same GPU", e->lender_id);
    if (e->stalls_kv_heads != 0) adm_print("; stalls counted with %" PRId64 " KV heads", e->stalls_kv_heads);
    adm_print("\n\n");
}

/* The time of the step that the stage is part of; NAN: the run has none, or the stage is a step itself. */
static double whole_ns(const explain_command *c) {
    return strcmp(c->stage, "step") != 0 && strcmp(c->stage, "dense") != 0 ? figure(c, "six_ns") : NAN;
}

/* What removing the limit saves at most: of the stage, and by Amdahl of the step. */
static void print_saving(const explain_command *c, const adm_finding *f) {
    const double time_ns = figure(c, "time_ns"), six_ns = whole_ns(c);
    if (!isfinite(f->saves_ns) || f->saves_ns <= 0) return;
    adm_print("   At most %.2f us to gain: %.0f%% of the stage", f->saves_ns * 1e-3, f->saves_ns / time_ns * 100);
    if (isfinite(six_ns) && f->saves_ns < six_ns)
        adm_print(", %.1f%% of the six stages, which would be %.2f times as fast", f->saves_ns / six_ns * 100,
                  six_ns / (six_ns - f->saves_ns));
    adm_print(".\n");
}

/* What the run lacks for more rules, and the command that takes it. */
static void print_cure(const explain_command *c) {
    const adm_explained *e = &c->explained;
    const bool needs_phases = strcmp(c->stage, "step") == 0 && !e->has_phases;
    if (e->has_counters && e->has_timeline && !needs_phases) return;
    adm_print("\nThe run has");
    if (!e->has_counters) adm_print(" no counters (stalls, occupancy, sectors)");
    if (!e->has_timeline) adm_print("%s no timeline (launches, grids, registers)", e->has_counters ? "" : ",");
    if (needs_phases) adm_print("%s no phases of the step", e->has_counters && e->has_timeline ? "" : ",");
    adm_print(". To take %s on the GPU:\n  adamas profile --stages %s%s --seq-lens %" PRId64 " --kv-heads %" PRId64
              " --heads %" PRId64 " --batch %" PRId64,
              e->has_counters && e->has_timeline ? "them" : "all of them", c->stage,
              strcmp(c->stage, "step") != 0 ? ",step" : "", e->seq_len, e->kv_heads, e->q_heads, e->batch);
    if (e->budget > 0) adm_print(" --budgets %" PRId64, e->budget);
    adm_print(" --counters full --timeline%s\n", strcmp(c->stage, "step") == 0 ? " --phases" : "");
}

static adm_status print_text(const explain_command *c, adm_error *err) {
    print_head(c);
    for (size_t i = 0; i < c->n_findings; i++) {
        const adm_finding *f = &c->finding[i];
        adm_print("%zu. %s.\n", i + 1, f->say);
        print_saving(c, f);
        if (f->rule->advice[0] != '\0') adm_print("   %s.\n", f->rule->advice);
        adm_print("   [%s: %s]\n", f->rule->name, f->rule->source);
    }
    if (c->n_findings == 0) adm_print("No rule applies.\n");
    print_cure(c);
    return adm_finish_output(err);
}

static json_t *finding_as_json(const explain_command *c, const adm_finding *f) {
    const double time_ns = figure(c, "time_ns"), six_ns = figure(c, "six_ns");
    const bool known = isfinite(f->saves_ns);
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "rule", f->rule->name, "says", f->say, "advice", f->rule->advice,
                     "source", f->rule->source, "saves_ns", known ? json_real(f->saves_ns) : json_null(), "saves_stage_ratio",
                     known ? json_real(f->saves_ns / time_ns) : json_null(), "saves_step_ratio",
                     known && isfinite(six_ns) ? json_real(f->saves_ns / six_ns) : json_null());
}

static adm_status print_json(const explain_command *c, adm_error *err) {
    const adm_explained *e = &c->explained;
    json_t *figures = json_object(), *findings = json_array();
    for (size_t i = 0; i < e->figures.n; i++)
        json_object_set_new(figures, e->figures.figure[i].name, json_real(e->figures.figure[i].value));
    for (size_t i = 0; i < c->n_findings; i++) json_array_append_new(findings, finding_as_json(c, &c->finding[i]));
    json_t *counters_of = !e->has_counters ? json_null() : json_integer(e->lender_id != 0 ? e->lender_id : e->run_id);
    return adm_print_json(json_pack("{s:I, s:o, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:o, s:o}", "run_id",
                                    (json_int_t)e->run_id, "counters_run_id", counters_of, "stalls_kv_heads",
                                    (json_int_t)(e->stalls_kv_heads != 0 ? e->stalls_kv_heads : e->kv_heads), "stage", c->stage,
                                    "variant", e->variant, "gpu", e->gpu, "seq_len", (json_int_t)e->seq_len, "kv_heads",
                                    (json_int_t)e->kv_heads, "batch", (json_int_t)e->batch, "budget", (json_int_t)e->budget,
                                    "has_counters", (int)e->has_counters, "findings", findings, "figures", figures),
                          err);
}

static int run(int argc, char **argv) {
    explain_command *c = NULL;
    adm_error err = {0};
    adm_store *store = NULL;
    adm_status status = adm_alloc(&c, 1, sizeof *c, "an explanation", &err);
    if (status != ADM_OK) return adm_report_error(&err);
    c->common = (adm_common)ADM_COMMON_DEFAULTS;
    adm_argp_parse(&argp, argc, argv, c);
    status = parse_values(c, &err);
    if (status == ADM_OK) status = adm_rules_read(adm_embedded("analysis/explain/limits.rules")->data, &c->rules, &err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_READ, &store, &err);
    if (status == ADM_OK && c->run != NULL)
        status = adm_run_find(store, c->run, ADM_RUNS_ANY, c->common.db_path, &c->subject.run_id, &err);
    if (status == ADM_OK) status = adm_explain_read(store, &c->subject, &c->explained, &err);
    if (status == ADM_OK) {
        c->n_findings = adm_rules_apply(&c->rules, &c->explained.figures, c->finding);
        status = c->common.json ? print_json(c, &err) : print_text(c, &err);
    }
    adm_store_close(&store);
    adm_free(&c);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_explain = {"explain", "what limits a GPU stage, in sentences", run};
