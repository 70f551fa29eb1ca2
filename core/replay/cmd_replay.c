/* cmd_replay.c: `adamas replay`: wires trace reader, host stages, probes and store to the replay engine. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/system/clock.h"
#include "core/cli/command.h"
#include "core/store/runs_find.h"
#include "core/calibrate/calibration_file.h"
#include "core/store/hostinfo.h"
#include "core/fleet/fleet.h"
#include "core/replay/shard_plan.h"
#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/replay/replay.h"
#include "core/replay/summary.h"
#include "core/policy/adamas.h"
#include "core/policy/sweep.h"
#include "core/system/threads.h"
#include "kernels/attention/quality.h"
#include "kernels/registry.h"
#include "kernels/tune/pipeline.h"
#include "kernels/tune/replay_candidates.h"
#include "probes/clock_probe.h"
#include "probes/nvtx_probe.h"
#include "probes/perf_probe.h"
#include "traces/format/trace_file.h"

enum { MAX_THRESHOLDS = 8, MAX_TARGETS = 8, MAX_BUDGET = 1 << 24, MAX_IMPLEMENTATIONS = 8 };

typedef struct replay_command {
    adm_common common;
    adm_fleet fleet;         /* --shard */
    adm_replay_shards shards; /* which lengths are whose */
    const char *budgets, *seq_lens, *layers, *policies, *select, *label, *sinks, *recent, *dense_layers, *eps, *seed;
    const char *implementation[MAX_IMPLEMENTATIONS];
    size_t n_implementations;
    adm_bring bring;
    const char *counters, *threads, *timed_steps, *only_times, *resume, *metric, *calibration_path;
    const char *thresholds[MAX_THRESHOLDS], *targets[MAX_TARGETS];
    size_t n_thresholds, n_targets;
    bool timeline, counting;
    uint64_t resumed;    /* the number of the run, with --resume */
    char uncounted[256]; /* why --counters has no values, for the summary */
    char **paths;
    size_t n_paths;

    adm_replay_options options;
    uint32_t *budget_list, *seq_len_list, *layer_list;
    adm_only *only_list;
    uint64_t seed_number;
    adm_sweep sweep;
    adm_calibration calibration;
    adm_target target_list[MAX_TARGETS];
    adm_host_pipeline pipeline;
    adm_host_pipeline other[MAX_IMPLEMENTATIONS]; /* timed beside it: of a repeated --implementation */
    adm_replay_candidates candidates;
    adm_pipeline_fault fault[ADM_PIPELINE_STAGES]; /* [n_faults] rows that were wrong and are not used */
    size_t n_faults;
    adm_progress progress;
    char
        *argv_json; /* of the command line as it was typed: argp sorts argv; without --resume, which does not tell runs apart */
} replay_command;

/* --- Command line ------------------------------------------------------------------------------------------------- */

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
    replay_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &c->fleet;
        state->child_inputs[1] = state->child_inputs[2] = &c->common;
        state->child_inputs[3] = &c->bring;
        return 0;
    case 'b': c->budgets = arg; return 0;
    case 'p': c->policies = arg; return 0;
    case 'l': c->layers = arg; return 0;
    case 't':
        if (c->n_thresholds == MAX_THRESHOLDS) argp_error(state, "--thresholds: given more than %d times", MAX_THRESHOLDS);
        c->thresholds[c->n_thresholds++] = arg;
        return 0;
    case KEY_TARGET:
        if (c->n_targets == MAX_TARGETS) argp_error(state, "--target: given more than %d times", MAX_TARGETS);
        c->targets[c->n_targets++] = arg;
        return 0;
    case KEY_RESUME: c->resume = arg; return 0;
    case KEY_IMPLEMENTATION:
        if (c->n_implementations == MAX_IMPLEMENTATIONS)
            argp_error(state, "--implementation: given more than %d times", MAX_IMPLEMENTATIONS);
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

static const struct argp_child children[] = {{&adm_argp_shard_and_dry_run, 0, NULL, 0},
                                             {&adm_argp_db, 0, NULL, 0},
                                             {&adm_argp_output, 0, NULL, 0},
                                             {&adm_argp_bring, 0, NULL, 0},
                                             {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "TRACE...",
    .children = children,
    .help_filter = filter_help,
    .doc = "Replays decode sessions on the host: selection quality against dense attention, and the time of every stage.\v"
           "A sequence length stands for the steps with that many cached tokens, up to an eighth more (at least 64)."};

/* A run that is resumed is in a database that is there; to look for it must not make one. */
static adm_status parse_resume(replay_command *c, adm_error *err) {
    char path[256];
    if (c->resume == NULL) return ADM_OK;
    const bool is_number = strncmp(c->resume, "last", 4) != 0 && strncmp(c->resume, "label:", 6) != 0;
    adm_status status = is_number ? adm_parse_u64("--resume", c->resume, 1, INT64_MAX, &c->resumed, err) : ADM_OK;
    if (status == ADM_OK && access(c->common.db_path, F_OK) != 0)
        status = adm_fail(err, ADM_EINPUT, "--resume %s: the database %s is not there", c->resume,
                          adm_printable(c->common.db_path, path, sizeof path));
    return status;
}

static adm_status parse_small(const char *option, const char *text, uint32_t max, uint32_t *value, adm_error *err) {
    uint64_t number = *value;
    adm_status status = text != NULL ? adm_parse_u64(option, text, 0, max, &number, err) : ADM_OK;
    *value = (uint32_t)number;
    return status;
}

static adm_status parse_eps(const char *text, double *eps, adm_error *err) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(value) || value < 0)
        return adm_fail(err, ADM_EINPUT, "--eps: '%s' is not a number of at least 0", text);
    *eps = value;
    return ADM_OK;
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
static adm_status add_calibration(replay_command *c, const adm_sweep_default *defaults, size_t n_defaults, adm_error *err) {
    adm_sweep ways = {0};
    if (c->calibration_path == NULL) return ADM_OK;
    adm_status status = adm_calibration_read(c->calibration_path, &c->calibration, err);
    if (status == ADM_OK) status = adm_sweep_parse("adamas:metric=l1,thresholds=calibrated", defaults, n_defaults, &ways, err);
    for (size_t i = 0; status == ADM_OK && i < ways.n_variants; i++) {
        adm_adamas_calibrate(&ways.variant[i], &c->calibration);
        status = adm_sweep_add(&c->sweep, &ways.variant[i], err);
    }
    adm_sweep_clear(&ways);
    return status;
}

static adm_status parse_sweep(replay_command *c, adm_error *err) {
    setting_numbers sinks = {0}, recent = {0};
    char *metric = NULL;
    adm_status status = parse_numbers("--sinks", c->sinks, &sinks, err);
    if (status == ADM_OK) status = parse_numbers("--recent", c->recent, &recent, err);
    if (status == ADM_OK) status = read_metrics(c->metric, &metric, err);
    const char *const metrics = metric;
    const adm_sweep_default defaults[] = {
        {"select", "--select", &c->select, c->select != NULL}, {"sinks", "--sinks", sinks.value, sinks.n},
        {"recent", "--recent", recent.value, recent.n},        {"thresholds", "--thresholds", c->thresholds, c->n_thresholds},
        {"metric", "--metric", &metrics, metrics != NULL},     {"seed", "--seed", &c->seed, c->seed != NULL},
    };
    if (status == ADM_OK)
        status = adm_sweep_parse(c->policies != NULL ? c->policies : "dense,oracle,adamas", defaults,
                                 sizeof defaults / sizeof *defaults, &c->sweep, err);
    if (status == ADM_OK) status = add_calibration(c, defaults, 3, err);
    adm_free(&metric);
    free_numbers(&sinks);
    free_numbers(&recent);
    c->options.variants = c->sweep.variant;
    c->options.n_variants = c->sweep.n_variants;
    return status;
}

static adm_status parse_targets(replay_command *c, adm_error *err) {
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

static adm_status parse_threads(replay_command *c, adm_error *err) {
    uint64_t n_threads = adm_threads_available();
    adm_status status = ADM_OK;
    if (c->threads != NULL) status = adm_parse_u64("--threads", c->threads, 1, ADM_MAX_THREADS, &n_threads, err);
    c->options.n_threads = (size_t)n_threads;
    return status;
}

static adm_status parse_only(replay_command *c, adm_error *err) {
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

static adm_status parse_values(replay_command *c, adm_error *err) {
    adm_replay_options *o = &c->options;
    o->n_dense_layers = ADM_DENSE_LAYERS;
    o->n_timed_steps = 64;
    c->seed_number = 1;
    o->eps = 0.05;
    const char *budgets = c->budgets != NULL ? c->budgets : "64,128,256,512,1024";
    adm_status status = adm_parse_u32_list("--budgets", budgets, 1, MAX_BUDGET, &c->budget_list, &o->n_budgets, err);
    if (status == ADM_OK && c->seq_lens != NULL)
        status = adm_parse_u32_list("--seq-lens", c->seq_lens, 1, MAX_BUDGET, &c->seq_len_list, &o->n_seq_lens, err);
    if (status == ADM_OK && c->layers != NULL)
        status = adm_parse_u32_list("--layers", c->layers, 0, 65535, &c->layer_list, &o->n_layers, err);
    if (status == ADM_OK && c->seed != NULL) status = adm_parse_u64("--seed", c->seed, 0, INT64_MAX, &c->seed_number, err);
    if (status == ADM_OK) status = parse_sweep(c, err);
    if (status == ADM_OK) status = parse_targets(c, err);
    if (status == ADM_OK) status = parse_threads(c, err);
    if (status == ADM_OK) status = parse_resume(c, err);
    if (status == ADM_OK) status = parse_small("--timed-steps", c->timed_steps, MAX_BUDGET, &o->n_timed_steps, err);
    if (status == ADM_OK) status = parse_small("--dense-layers", c->dense_layers, 65535, &o->n_dense_layers, err);
    if (status == ADM_OK) status = parse_only(c, err);
    if (status == ADM_OK && c->eps != NULL) status = parse_eps(c->eps, &o->eps, err);
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

/* --- The run ------------------------------------------------------------------------------------------------------ */

static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    adm_progress *progress = user;
    progress->n_total = n_total;
    adm_progress_step(progress, n_done);
}

/* Whether traces are to be told apart before the first is replayed. Where not, the engine waits for the hash (identify_input)
 * when it has done all that it can without. */
static bool needs_hashes(const replay_command *c) { return c->n_paths > 1 || c->resume != NULL || c->fleet.shard.count > 0; }

/* Opens and checks every trace before anything is written, so that bad input leaves no rows. */
static adm_status open_traces(const replay_command *c, const adm_trace **traces, adm_error *err) {
    for (size_t i = 0; i < c->n_paths; i++) {
        adm_status status = adm_trace_open_early(c->paths[i], c->options.n_threads > 1, &traces[i], err);
        if (status == ADM_OK && c->calibration_path != NULL)
            status = adm_calibration_check(&c->calibration, c->calibration_path, c->paths[i], &traces[i]->shape, err);
        if (status == ADM_OK) status = adm_replay_check(traces[i], &c->options, err);
        if (status == ADM_OK) status = adm_trace_check_finite(traces[i], err);
        if (status == ADM_OK && needs_hashes(c)) status = adm_trace_wait_for_hash(traces[i], err);
        for (size_t j = 0; status == ADM_OK && j < i; j++)
            if (strcmp(traces[i]->xxh128, traces[j]->xxh128) == 0)
                status = adm_fail(err, ADM_EINPUT, "%s: is given twice (the same trace as %s)", c->paths[i], c->paths[j]);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

static adm_status replay_trace(replay_command *c, size_t i, const adm_trace *trace, adm_store *store, int64_t run_id,
                               adm_error *err) {
    adm_replay *replay = NULL;
    adm_nvtx_probe nvtx;
    adm_clock_probe clock;
    adm_probes probes = {0};
    if (!adm_replay_shards_has(&c->shards, i)) return ADM_OK;
    c->options.is_elsewhere = adm_replay_shards_elsewhere(&c->shards, i);
    adm_progress_start(&c->progress, trace->name, 0, c->common.quiet);
    adm_status status = adm_replay_open(trace, &c->options, store, run_id, &replay, err);
    if (status == ADM_OK) {
        adm_nvtx_probe_init(&nvtx);
        adm_clock_probe_init(&clock, adm_replay_range_sink, replay);
        status = adm_probes_attach(&probes, &nvtx.probe, err);
    }
    if (status == ADM_OK) status = adm_probes_attach(&probes, &clock.probe, err);
    if (status == ADM_OK) status = adm_replay_run(replay, &probes, err);
    adm_progress_end(&c->progress);
    adm_replay_close(&replay);
    return status;
}

/* The same work once more, counted: what counts would be in the times, and what times in the counts. */
static adm_status count_trace(replay_command *c, size_t t, const adm_trace *trace, adm_store *store, int64_t run_id,
                              adm_error *err) {
    adm_replay *replay = NULL;
    adm_nvtx_probe nvtx;
    adm_perf_probe perf;
    adm_probes probes = {0};
    if (!adm_replay_shards_has(&c->shards, t)) return ADM_OK;
    adm_replay_options counted = c->options;
    counted.is_elsewhere = adm_replay_shards_elsewhere(&c->shards, t);
    adm_perf_probe_open(&perf, NULL, 0, NULL);
    counted.counters = perf.counter;
    counted.n_counters = perf.n_counters;
    for (size_t i = 0; i < perf.n_counters; i++)
        if (perf.counter[i].reason != NULL && c->uncounted[0] == '\0')
            snprintf(c->uncounted, sizeof c->uncounted, "%s", perf.counter[i].reason);
    adm_progress_start(&c->progress, "counters", 0, c->common.quiet);
    adm_status status = adm_replay_open(trace, &counted, store, run_id, &replay, err);
    adm_nvtx_probe_init(&nvtx);
    adm_perf_probe_deliver_to(&perf, adm_replay_counter_sink, replay);
    if (status == ADM_OK) status = adm_probes_attach(&probes, &nvtx.probe, err);
    if (status == ADM_OK) status = adm_probes_attach(&probes, &perf.probe, err);
    if (status == ADM_OK) status = adm_replay_run(replay, &probes, err);
    adm_progress_end(&c->progress);
    adm_replay_close(&replay);
    adm_perf_probe_close(&perf);
    return status;
}

static adm_status begin_run(replay_command *c, adm_store *store, adm_fleet_run *run, adm_error *err) {
    adm_host_info host;
    adm_host_info_read(&host);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = "replay",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)c->seed_number,
                         .gpu_reason = "a replay runs on the host"};
    adm_run_info_host(&info, &host);
    if (c->resume == NULL) return adm_fleet_begin(&c->fleet, store, &info, run, err);
    run->is_resumed = true;
    adm_status status = adm_run_find(store, c->resume, ADM_RUNS_UNFINISHED, c->common.db_path, &run->run_id, err);
    if (status != ADM_OK) return status;
    return adm_store_resume_run(store, run->run_id, &info, err);
}

/* A run is of one set of files: those that it has values of must be among those given. */
static adm_status check_traces(const replay_command *c, const adm_trace *const *traces, adm_store *store, int64_t run_id,
                               adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store,
                                       "SELECT DISTINCT t.xxh128, t.name FROM measurement m JOIN config c USING "
                                       "(config_id) JOIN trace t USING (trace_id) WHERE m.run_id = ?",
                                       &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        size_t i = 0;
        while (i < c->n_paths && strcmp(traces[i]->xxh128, adm_query_text(query, 0)) != 0) i++;
        if (i == c->n_paths)
            status = adm_fail(err, ADM_EINPUT, "run %" PRId64 " cannot be resumed: %s is not the file that it has values of",
                              run_id, adm_query_text(query, 1));
    }
    adm_query_close(&query);
    return status;
}

/* The rows against the reference, on the types and sizes of these traces, before any is timed. */
static adm_status check_rows(replay_command *c, const adm_trace *const *traces, adm_error *err) {
    uint32_t head_dims = 0, dtypes = 1u << ADM_F32;
    for (size_t i = 0; i < c->n_paths; i++) {
        head_dims |= traces[i]->shape.head_dim;
        for (size_t l = 0; l < traces[i]->n_layers; l++)
            dtypes |= 1u << traces[i]->layers[l].k_dtype | 1u << traces[i]->layers[l].q_dtype;
    }
    return adm_pipeline_check(&c->pipeline, head_dims, dtypes, c->seed_number, c->fault, &c->n_faults, err);
}

/* A row that is wrong is a failed time, with the reason; the reference ran in its place. */
static adm_status put_faults(const replay_command *c, const adm_trace *trace, adm_store *store, int64_t run_id,
                             adm_error *err) {
    static const adm_metric time_metric = {"time_ns", "ns", "lower",
                                           "Duration of a stage for one layer of one decode step, all heads"};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < c->n_faults && status == ADM_OK; i++) {
        const adm_config config = {.policy = "adamas",
                                   .variant = c->fault[i].row->name,
                                   .shape = trace->shape,
                                   .dtype = trace->layers[0].k_dtype,
                                   .seq_len = (uint32_t)trace->n_tokens,
                                   .batch = 1,
                                   .n_sinks = -1,
                                   .n_recent = -1,
                                   .launch = "host"};
        adm_measurement m = {.run_id = run_id,
                             .source = "host",
                             .stage = adm_stage_name(c->fault[i].row->stage),
                             .layer = -1,
                             .head = -1,
                             .metric = &time_metric,
                             .status = "failed",
                             .reason = c->fault[i].reason};
        status = adm_store_config(store, &config, &m.config_id, err);
        if (status == ADM_OK) status = adm_store_measurement(store, &m, err);
    }
    return status;
}

/* The pipelines that were asked for, and what is timed beside the first. */
static adm_status choose_rows(replay_command *c, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < c->n_implementations && status == ADM_OK; i++) {
        adm_host_pipeline *p = i == 0 ? &c->pipeline : &c->other[i - 1];
        adm_host_pipeline_default(p);
        status = adm_pipeline_choose(c->implementation[i], p, err);
    }
    const size_t n_others = c->n_implementations > 1 ? c->n_implementations - 1 : 0;
    if (status == ADM_OK)
        status = adm_replay_candidates_open(&c->bring, &c->pipeline, c->other, n_others, c->common.quiet || c->common.json,
                                            &c->candidates, err);
    if (status == ADM_OK && c->candidates.n_sessions > 0 && c->fleet.shard_text != NULL)
        status = adm_fail(err, ADM_EINPUT,
                          "--shard: candidates are judged at every length; leave out --candidate and further "
                          "--implementation");
    if (status == ADM_OK && c->candidates.n_sessions > 0 && c->resume != NULL)
        status = adm_fail(err, ADM_EINPUT,
                          "--resume: candidates are judged anew in a run of their own; leave out --candidate and "
                          "further --implementation");
    return status;
}

/* Replays every trace as one run; the run's row says how it ended, whatever happened. */
static adm_status run_all(replay_command *c, const adm_trace *const *traces, adm_store *store, int64_t *run_id,
                          adm_error *err) {
    adm_fleet_run run;
    adm_status status = begin_run(c, store, &run, err);
    if (status != ADM_OK) return status;
    *run_id = run.run_id;
    if (c->resume != NULL) status = check_traces(c, traces, store, *run_id, err);
    if (status == ADM_OK && !run.is_resumed) status = put_faults(c, traces[0], store, *run_id, err);
    for (size_t i = 0; status == ADM_OK && i < c->n_paths; i++) status = replay_trace(c, i, traces[i], store, *run_id, err);
    for (size_t i = 0; status == ADM_OK && i < c->n_paths; i++)
        status = adm_replay_candidates_run(&c->candidates, traces[i], &c->options, store, *run_id, err);
    for (size_t i = 0; status == ADM_OK && c->counting && i < c->n_paths; i++)
        status = count_trace(c, i, traces[i], store, *run_id, err);
    const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
    adm_status ended = adm_fleet_end(&c->fleet, store, &run, outcome, status == ADM_OK ? NULL : err->text,
                                     status == ADM_OK ? err : NULL);
    return status != ADM_OK ? status : ended;
}

/* Divides the lengths of all traces, and makes them part of what the sweep is. */
static adm_status plan_shards(replay_command *c, const adm_trace *const *traces, adm_error *err) {
    adm_fleet *s = &c->fleet;
    adm_status status = adm_replay_shards_make(traces, c->n_paths, &c->options, s->shard, &c->shards, err);
    for (size_t i = 0; status == ADM_OK && s->shard.count > 0 && i < c->n_paths; i++) {
        adm_fleet_add_name(s, c->paths[i]);
        adm_fleet_add_input(s, traces[i]->xxh128);
    }
    if (status == ADM_OK && s->shard.count > 0) adm_fleet_add_parts(s, c->shards.part, c->shards.n_items);
    if (status == ADM_OK) status = adm_fleet_add_file(s, c->calibration_path, err);
    return status;
}

/* --- The program -------------------------------------------------------------------------------------------------- */

/* The command line as JSON, but for --resume RUN; NULL when out of memory. */
static char *json_without_resume(int argc, char **argv) {
    char **kept = NULL, *json = NULL;
    int n = 0;
    if (adm_alloc(&kept, (size_t)argc + 1, sizeof *kept, "the command line", NULL) != ADM_OK) return NULL;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--resume") == 0) i++;
        else if (strncmp(argv[i], "--resume=", 9) != 0) kept[n++] = argv[i];
    }
    json = adm_argv_json(n, kept);
    adm_free(&kept);
    return json;
}

static int run(int argc, char **argv) {
    replay_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    const adm_trace **traces = NULL;
    adm_store *store = NULL;
    int64_t run_id = 0;
    uint64_t start_ns = adm_clock_ns();
    adm_interrupt_ask();
    c.argv_json = json_without_resume(argc, argv);
    adm_argp_parse(&argp, argc, argv, &c);
    adm_host_pipeline_default(&c.pipeline);
    c.options.pipeline = &c.pipeline;
    c.options.on_progress = on_progress;
    c.options.quality = adm_quality_fastest();
    c.options.should_stop = adm_interrupted;
    c.options.check_input = adm_trace_check_unchanged;
    c.options.identify_input = adm_trace_wait_for_hash;
    c.options.user = &c.progress;

    adm_status status = parse_values(&c, &err);
    if (status == ADM_OK && c.argv_json == NULL) status = adm_fail(&err, ADM_EENVIRONMENT, "out of memory");
    static const char *const apart[] = {"resume", NULL};
    if (status == ADM_OK && c.resume != NULL && c.fleet.shard_text != NULL)
        status = adm_fail(&err, ADM_EINPUT, "--resume: a shard goes on by itself when its command is repeated");
    if (status == ADM_OK) status = adm_fleet_read(&c.fleet, "replay", &argp, apart, argc, argv, &err);
    if (status == ADM_OK) status = adm_alloc(&traces, c.n_paths, sizeof *traces, "traces", &err);
    if (status == ADM_OK) status = choose_rows(&c, &err);
    if (status == ADM_OK) status = open_traces(&c, traces, &err);
    if (status == ADM_OK) status = plan_shards(&c, traces, &err);
    if (status == ADM_OK && c.fleet.dry_run) status = adm_replay_shards_print(&c.shards, traces, c.common.json, &err);
    const bool runs = status == ADM_OK && !c.fleet.dry_run;
    if (runs) status = check_rows(&c, traces, &err);
    if (runs && status == ADM_OK) status = adm_store_open(c.common.db_path, ADM_STORE_WRITE, &store, &err);
    if (runs && status == ADM_OK) status = run_all(&c, traces, store, &run_id, &err);
    if (runs && status == ADM_OK && (!c.common.quiet || c.common.json))
        status = adm_replay_print_summary(store, run_id, &c.common, (double)(adm_clock_ns() - start_ns) * 1e-9, c.uncounted,
                                          &err);
    if (status == ADM_OK && c.candidates.n_wrong > 0)
        status = adm_fail(&err, ADM_EINTERNAL, "%zu candidates failed their check; the database says why",
                          c.candidates.n_wrong);
    adm_replay_candidates_close(&c.candidates);
    adm_store_close(&store);
    adm_replay_shards_free(&c.shards);
    for (size_t i = 0; traces != NULL && i < c.n_paths; i++) adm_trace_close(&traces[i]);
    adm_free(&traces);
    adm_sweep_clear(&c.sweep);
    adm_calibration_clear(&c.calibration);
    adm_free(&c.budget_list);
    adm_free(&c.seq_len_list);
    adm_free(&c.layer_list);
    adm_free(&c.only_list);
    adm_free(&c.argv_json);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_replay = {"replay", "replay decode sessions on the host: quality and stage times", run};
