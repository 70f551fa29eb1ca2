/* arguments.c: the options of `adamas replay`, and what is made of them. */
#include "core/replay/arguments.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/policy/adamas.h"
#include "core/system/threads.h"

enum { MAX_BUDGET = 1 << 24 };

enum {
    KEY_SEQ_LENS = 0x2000,
    KEY_SINKS,
    KEY_RECENT,
    KEY_DENSE_LAYERS,
    KEY_EPS,
    KEY_SEED,
    KEY_TIMELINE,
    KEY_COUNTERS,
    KEY_LABEL,
    KEY_SELECT,
    KEY_TARGET,
    KEY_THREADS,
    KEY_TIMED_STEPS,
    KEY_ONLY_TIMES,
    KEY_RESUME,
    KEY_METRIC,
    KEY_CALIBRATION,
    KEY_IMPLEMENTATION
};

static const struct argp_option options[] = {
    {"budgets", 'b', "LIST", 0, "Tokens to attend to (default 64,128,256,512,1024); at or above the context: all of them", 1},
    {"seq-lens", KEY_SEQ_LENS, "LIST", 0, "Cached tokens: replay the steps at these (default: every step)", 1},
    {"policies", 'p', "LIST", 0, NULL, 1}, /* help_of_policies() */
    {"select", KEY_SELECT, "WHO", 0,
     "Who shares a selection: head, group (the query heads of a KV head) or head+group "
     "(default head)",
     1},
    {"target", KEY_TARGET, "METRIC=X", 0,
     "Also find the smallest budget with which each head and step reaches mass=X or "
     "output_rel_l2=X; may be repeated",
     1},
    {"layers", 'l', "LIST", 0, "The model's layer numbers (default: all in the trace)", 1},
    {"thresholds", 't', "SPEC", 0,
     "Bucketing thresholds of adamas: calibrated, fixed:a,b,c, quantile:p,q,r, centred or "
     "channel, learnt from up to 4096 tokens of the prompt; repeat to compare (default calibrated and the paper's "
     "fixed:-10,0,10). Stages are timed with the first",
     2},
    {"metric", KEY_METRIC, "LIST", 0,
     "How adamas compares a query with keys: l1, xor, l2, sign, dot, asymmetric, asym4 (default l1); several are compared", 2},
    {"calibration", KEY_CALIBRATION, "FILE", 0,
     "Also compare adamas with metric and thresholds of each layer as `adamas calibrate` found them", 2},
    {"sinks", KEY_SINKS, "LIST", 0, "First tokens that adamas always selects (default 0); several are compared", 2},
    {"recent", KEY_RECENT, "LIST", 0, "Last tokens that adamas always selects (default 1, the newest); several are compared",
     2},
    {"dense-layers", KEY_DENSE_LAYERS, "N", 0, "The model's first layers that stay dense (default 2)", 2},
    {"eps", KEY_EPS, "X", 0, "Relative output error counted by the metric eps_exceed (default 0.05)", 2},
    {"seed", KEY_SEED, "N", 0, "Seed of the policy random (default 1)", 2},
    {"threads", KEY_THREADS, "N", 0, "Threads that measure quality (default: one per processor); no value depends on it", 3},
    {"timed-steps", KEY_TIMED_STEPS, "N", 0, "Steps per length whose stages are timed, in one thread (default 64)", 3},
    {"only-times", KEY_ONLY_TIMES, "LIST", 0,
     "Take these times alone, and no quality: STAGE, STAGE@LENGTH, STAGE@LENGTH/BUDGET, or for the encoding of the prompt "
     "STAGE:bulk@LENGTH; `adamas check` does that for times that are not decided yet",
     3},
    {"implementation", KEY_IMPLEMENTATION, "NAMES", 0,
     "Host rows to run and time: a name (reference, avx2, ...) for every stage that has it, or topk=avx2,distance=l1 "
     "(default: the fastest of each); repeated, the further ones are timed beside the first",
     3},
    {"timeline", KEY_TIMELINE, NULL, 0, "Keep every stage's start and end in the table event", 3},
    {"counters", KEY_COUNTERS, "SET", 0,
     "With host: replay once more and count each stage's CPU cycles, instructions and "
     "cache misses",
     3},
    {"resume", KEY_RESUME, "RUN", 0,
     "Continue an incomplete run: give the same command line and this; lengths already stored "
     "are skipped",
     3},
    {"label", KEY_LABEL, "TEXT", 0, "A name for this run", 3},
    {0},
};

/* What stands in for the text of --policies: made from the policies' rows. */
static char *help_of_policies(void) {
    char names[256], *text = NULL;
    adm_sweep_policies(names, sizeof names);
    if (asprintf(&text,
                 "Policies to compare: %s (default the first three); settings follow a colon: "
                 "adamas:metric=l1+dot,bits=2+3,hadamard=on+off,thresholds=channel,select=group; also sinks=4,recent=1+64",
                 names) < 0)
        return NULL;
    return text;
}

static char *filter_help(int key, const char *text, void *input) {
    (void)input;
    return key == 'p' ? help_of_policies() : (char *)text;
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    adm_replay_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return adm_give_grid_inputs(state, &c->fleet, &c->common, &c->bring);
    case 'b': c->budgets = arg; return 0;
    case 'p': c->policies = arg; return 0;
    case 'l': c->layers = arg; return 0;
    case 't':
        if (c->n_thresholds == ADM_REPLAY_MAX_THRESHOLDS)
            argp_error(state, "--thresholds: given more than %d times", ADM_REPLAY_MAX_THRESHOLDS);
        c->thresholds[c->n_thresholds++] = arg;
        return 0;
    case KEY_TARGET:
        if (c->n_targets == ADM_REPLAY_MAX_TARGETS)
            argp_error(state, "--target: given more than %d times", ADM_REPLAY_MAX_TARGETS);
        c->targets[c->n_targets++] = arg;
        return 0;
    case KEY_RESUME: c->resume = arg; return 0;
    case KEY_IMPLEMENTATION:
        if (c->n_implementations == ADM_REPLAY_MAX_IMPLEMENTATIONS)
            argp_error(state, "--implementation: given more than %d times", ADM_REPLAY_MAX_IMPLEMENTATIONS);
        c->implementation[c->n_implementations++] = arg;
        return 0;
    case KEY_METRIC: c->metric = arg; return 0;
    case KEY_CALIBRATION: c->calibration_path = arg; return 0;
    case KEY_SELECT: c->select = arg; return 0;
    case KEY_THREADS: c->threads = arg; return 0;
    case KEY_TIMED_STEPS: c->timed_steps = arg; return 0;
    case KEY_ONLY_TIMES: c->only_times = arg; return 0;
    case KEY_SEQ_LENS: c->seq_lens = arg; return 0;
    case KEY_SINKS: c->sinks = arg; return 0;
    case KEY_RECENT: c->recent = arg; return 0;
    case KEY_DENSE_LAYERS: c->dense_layers = arg; return 0;
    case KEY_EPS: c->eps = arg; return 0;
    case KEY_SEED: c->seed = arg; return 0;
    case KEY_TIMELINE: c->timeline = true; return 0;
    case KEY_COUNTERS: c->counters = arg; return 0;
    case KEY_LABEL: c->label = arg; return 0;
    case ARGP_KEY_ARGS:
        c->paths = state->argv + state->next;
        c->n_paths = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "no trace given"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp adm_replay_argp = {
    .options = options,
    .parser = parse,
    .args_doc = "TRACE...",
    .children = adm_argp_grid,
    .help_filter = filter_help,
    .doc = "Replays decode sessions on the host: selection quality against dense attention, and the time of every stage.\v"
           "A sequence length stands for the steps with that many cached tokens, up to an eighth more (at least 64)."};

/* A run that is resumed is in a database that is there; to look for it must not make one. */
static adm_status parse_resume(adm_replay_command *c, adm_error *err) {
    char path[256];
    if (c->resume == NULL) return ADM_OK;
    const bool is_number = strncmp(c->resume, "last", 4) != 0 && strncmp(c->resume, "label:", 6) != 0;
    adm_status status = is_number ? adm_parse_u64("--resume", c->resume, 1, INT64_MAX, &c->resumed, err) : ADM_OK;
    if (status == ADM_OK && access(c->common.db_path, F_OK) != 0)
        status = adm_fail(err, ADM_EINPUT, "--resume %s: the database %s is not there", c->resume,
                          adm_printable(c->common.db_path, path, sizeof path));
    return status;
}

/* Numbers of an option as values of a setting. */
typedef struct setting_numbers {
    uint32_t *number;
    char (*text)[12];
    const char **value;
    size_t n;
} setting_numbers;

static adm_status parse_numbers(const char *option, const char *given, setting_numbers *numbers, adm_error *err) {
    if (given == NULL) return ADM_OK;
    adm_status status = adm_parse_u32_list(option, given, 0, MAX_BUDGET, &numbers->number, &numbers->n, err);
    if (status == ADM_OK) status = adm_alloc(&numbers->text, numbers->n, sizeof *numbers->text, option, err);
    if (status == ADM_OK) status = adm_alloc(&numbers->value, numbers->n, sizeof *numbers->value, option, err);
    for (size_t i = 0; status == ADM_OK && i < numbers->n; i++) {
        snprintf(numbers->text[i], sizeof *numbers->text, "%u", numbers->number[i]);
        numbers->value[i] = numbers->text[i];
    }
    return status;
}

static void free_numbers(setting_numbers *numbers) {
    adm_free(&numbers->number);
    adm_free(&numbers->text);
    adm_free(&numbers->value);
}

/* "l1,dot" is "l1+dot" as the value of a setting; the copy is the caller's. */
static adm_status read_metrics(const char *given, char **value, adm_error *err) {
    *value = NULL;
    if (given == NULL) return ADM_OK;
    adm_status status = adm_alloc(value, strlen(given) + 1, 1, "--metric", err);
    for (size_t i = 0; status == ADM_OK && given[i] != '\0'; i++) (*value)[i] = given[i] == ',' ? '+' : given[i];
    return status;
}

/* For each way to select, of the options --select, --sinks and --recent, a variant with the file's metric and thresholds. */
static adm_status add_calibration(adm_replay_command *c, const adm_sweep_default *defaults, size_t n_defaults, adm_error *err) {
    adm_sweep ways = {0};
    if (c->calibration_path == NULL) return ADM_OK;
    adm_status status = adm_calibration_read(c->calibration_path, &c->calibration, err);
    if (status == ADM_OK) status = adm_sweep_parse("adamas:metric=l1,thresholds=calibrated", defaults, n_defaults, &ways, err);
    for (size_t i = 0; status == ADM_OK && i < ways.n_variants; i++) {
        adm_adamas_calibrate(&ways.variant[i], &c->calibration);
        status = adm_sweep_add(&c->sweep, &ways.variant[i], err);
    }
    c->sweep.taken |= ways.taken;
    adm_sweep_clear(&ways);
    return status;
}

static adm_status parse_sweep(adm_replay_command *c, adm_error *err) {
    setting_numbers sinks = {0}, recent = {0};
    char *metric = NULL;
    adm_status status = parse_numbers("--sinks", c->sinks, &sinks, err);
    if (status == ADM_OK) status = parse_numbers("--recent", c->recent, &recent, err);
    if (status == ADM_OK) status = read_metrics(c->metric, &metric, err);
    const char *const metrics = metric;
    enum { N_DEFAULTS = 6 };
    const adm_sweep_default defaults[N_DEFAULTS] = {
        {"select", "--select", &c->select, c->select != NULL},
        {"sinks", "--sinks", sinks.value, sinks.n},
        {"recent", "--recent", recent.value, recent.n},
        {"thresholds", "--thresholds", c->thresholds, c->n_thresholds},
        {"metric", "--metric", &metrics, metrics != NULL},
        {"seed", "--seed", &c->seed, c->seed != NULL}, /* the last: also of the checks of rows and candidates */
    };
    if (status == ADM_OK)
        status = adm_sweep_parse(c->policies != NULL ? c->policies : "dense,oracle,adamas", defaults, N_DEFAULTS, &c->sweep,
                                 err);
    if (status == ADM_OK) status = add_calibration(c, defaults, 3, err);
    adm_idle_option idle[N_DEFAULTS];
    for (size_t i = 0; i < N_DEFAULTS; i++)
        idle[i] = (adm_idle_option){defaults[i].n > 0 && (c->sweep.taken >> i & 1) == 0, defaults[i].option,
                                    "here, since every policy of --policies lacks this setting or has its own"};
    if (status == ADM_OK) status = adm_refuse_idle(idle, N_DEFAULTS - 1, err);
    adm_free(&metric);
    free_numbers(&sinks);
    free_numbers(&recent);
    c->options.variants = c->sweep.variant;
    c->options.n_variants = c->sweep.n_variants;
    return status;
}

static adm_status parse_targets(adm_replay_command *c, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < c->n_targets; i++) {
        char name[ADM_TARGET_NAME_BYTES], other[ADM_TARGET_NAME_BYTES];
        status = adm_target_parse(c->targets[i], &c->target_list[i], err);
        if (status != ADM_OK) return status;
        adm_target_name(&c->target_list[i], name);
        for (size_t j = 0; j < i; j++) {
            adm_target_name(&c->target_list[j], other);
            if (strcmp(name, other) == 0) return adm_fail(err, ADM_EINPUT, "--target: '%s' is given twice", c->targets[i]);
        }
    }
    c->options.targets = c->target_list;
    c->options.n_targets = c->n_targets;
    return status;
}

static adm_status parse_threads(adm_replay_command *c, adm_error *err) {
    uint64_t n_threads;
    adm_status status = adm_option_u64("--threads", c->threads, 1, ADM_MAX_THREADS, adm_threads_available(), &n_threads, err);
    c->options.n_threads = (size_t)n_threads;
    return status;
}

static adm_status parse_only(adm_replay_command *c, adm_error *err) {
    if (c->only_times == NULL) return ADM_OK;
    const char *with = c->timeline                ? "--timeline"
                       : c->counters != NULL      ? "--counters"
                       : c->resume != NULL        ? "--resume"
                       : c->bring.n_files > 0     ? "--candidate"
                       : c->n_implementations > 1 ? "a second --implementation"
                                                  : NULL;
    if (with != NULL) return adm_fail(err, ADM_EINPUT, "--only-times: a few times alone cannot be joined with %s", with);
    return adm_only_parse(c->only_times, &c->only_list, &c->options.n_only, err);
}

/* What is about times, where none are taken. */
static adm_status refuse_untimed(const adm_replay_command *c, adm_error *err) {
    const bool untimed = c->options.n_timed_steps == 0;
    const adm_idle_option idle[] = {
        {untimed && c->timeline, "--timeline", "with --timed-steps 0"},
        {untimed && c->counters != NULL, "--counters", "with --timed-steps 0"},
        {untimed && c->n_implementations > 1, "a second --implementation", "with --timed-steps 0"},
        {untimed && c->only_times != NULL, "--only-times", "with --timed-steps 0"},
    };
    return adm_refuse_idle(idle, sizeof idle / sizeof *idle, err);
}

adm_status adm_replay_parse_values(adm_replay_command *c, adm_error *err) {
    adm_replay_options *o = &c->options;
    const char *budgets = c->budgets != NULL ? c->budgets : "64,128,256,512,1024";
    adm_status status = adm_parse_u32_list("--budgets", budgets, 1, MAX_BUDGET, &c->budget_list, &o->n_budgets, err);
    if (status == ADM_OK && c->seq_lens != NULL)
        status = adm_parse_u32_list("--seq-lens", c->seq_lens, 1, MAX_BUDGET, &c->seq_len_list, &o->n_seq_lens, err);
    if (status == ADM_OK && c->layers != NULL)
        status = adm_parse_u32_list("--layers", c->layers, 0, 65535, &c->layer_list, &o->n_layers, err);
    if (status == ADM_OK) status = adm_option_u64("--seed", c->seed, 0, INT64_MAX, 1, &c->seed_number, err);
    if (status == ADM_OK) status = parse_sweep(c, err);
    if (status == ADM_OK) status = parse_targets(c, err);
    if (status == ADM_OK) status = parse_threads(c, err);
    if (status == ADM_OK) status = parse_resume(c, err);
    if (status == ADM_OK) status = adm_option_u32("--timed-steps", c->timed_steps, 0, MAX_BUDGET, 64, &o->n_timed_steps, err);
    if (status == ADM_OK)
        status = adm_option_u32("--dense-layers", c->dense_layers, 0, 65535, ADM_DENSE_LAYERS, &o->n_dense_layers, err);
    if (status == ADM_OK) status = parse_only(c, err);
    if (status == ADM_OK) status = refuse_untimed(c, err);
    if (status == ADM_OK) status = adm_option_real("--eps", c->eps, "a number", 0, INFINITY, 0.05, &o->eps, err);
    static const char *const counter_sets[] = {"host"};
    if (status == ADM_OK && c->counters != NULL)
        status = adm_parse_words("--counters", c->counters, counter_sets, 1, &c->counting, err);
    o->budgets = c->budget_list;
    o->seq_lens = c->seq_len_list;
    o->layers = c->layer_list;
    o->only = c->only_list;
    o->timeline = c->timeline;
    return status;
}
