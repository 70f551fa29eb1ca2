/* cmd_profile.c: `adamas profile`: checks, times and stores the GPU stages over a grid. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/base/print.h"
#include "core/calibrate/calibration_file.h"
#include "core/cli/command.h"
#include "core/fleet/fleet.h"
#include "core/store/hostinfo.h"
#include "core/base/mem.h"
#include "kernels/profile/gpus/gpus.h"
#include "kernels/profile/grid/metrics.h"
#include "kernels/profile/grid/plan_print.h"
#include "kernels/profile/print.h"
#include "kernels/profile/observe/probes.h"
#include "kernels/profile/gpus/ranks.h"
#include "kernels/profile/grid/resume.h"
#include "kernels/profile/run.h"
#include "kernels/profile/grid/shards.h"
#include "kernels/profile/grid/trace.h"
#include "kernels/sass/static.h"
#include "kernels/tune/profile_candidates.h"
#include "probes/cupti/cupti_features.h"
#include "traces/format/trace_file.h"

enum { MAX_ONLY = 32 };

typedef struct profile_command {
    adm_common common;
    adm_fleet fleet; /* --shard, --dry-run */
    adm_profile_shards shards;
    const char *seq_lens, *budgets, *heads, *kv_heads, *head_dim, *batches, *dtype, *page_size, *sinks, *recent;
    const char *launch, *cache, *stages, *cap_ms, *seed, *device, *label, *select, *batch_lens;
    const char *trace_path, *layers, *thresholds, *calibration_path, *counters, *metrics, *ranks;
    const char *gpus, *together; /* NULL or "": one GPU */
    bool alone, split;
    char together_uuid[37];
    int64_t n_together;
    uint32_t *rank_list; /* [n_ranks] */
    size_t n_ranks;
    bool is_static, timeline, software_timestamps, tuned;
    adm_bring bring;
    const char *only[MAX_ONLY];
    char only_text[MAX_ONLY][64];
    adm_cupti_features features;

    adm_profile_options options;
    uint32_t *lists[5], *batch_len_list, *layer_list;
    adm_dtype dtype_list[2];
    adm_code_metric metric_list[ADM_PROFILE_METRICS];
    char *batch_lens_text;
    const adm_trace *trace;             /* NULL: random inputs */
    adm_profile_trace *profile_trace;
    adm_profile_trace_options trace_options;
    adm_calibration calibration;
    char calibrated_shape[3][12]; /* heads, KV heads and dimensions of the calibration, as options have them */
    uint32_t device_number;
    adm_progress progress;
    char *argv_json; /* of the command line as it was typed: argp sorts argv */
} profile_command;

enum {
    KEY_SEQ_LENS = 0x3000,
    KEY_HEADS,
    KEY_KV_HEADS,
    KEY_HEAD_DIM,
    KEY_BATCH,
    KEY_DTYPE,
    KEY_PAGE_SIZE,
    KEY_SINKS,
    KEY_RECENT,
    KEY_LAUNCH,
    KEY_CACHE,
    KEY_STAGES,
    KEY_CAP,
    KEY_SEED,
    KEY_DEVICE,
    KEY_LABEL,
    KEY_CHECK_ONLY,
    KEY_STATIC,
    KEY_SELECT,
    KEY_BATCH_LENS,
    KEY_TRACE,
    KEY_COUNTERS,
    KEY_TIMELINE,
    KEY_TIMESTAMPS,
    KEY_CALIBRATION,
    KEY_METRIC,
    KEY_PHASES,
    KEY_IMPLEMENTATION,
    KEY_TUNED,
    KEY_RANKS,
    KEY_GPUS,
    KEY_ALONE,
    KEY_SPLIT,
    KEY_TOGETHER
};

static const struct argp_option options[] = {
    {"seq-lens", KEY_SEQ_LENS, "LIST", 0, "Tokens in the cache (default 8192,32768)", 1},
    {"budgets", 'b', "LIST", 0, "Tokens to attend to (default 256,1024)", 1},
    {"heads", KEY_HEADS, "N", 0, "Query heads (default 32)", 1},
    {"kv-heads", KEY_KV_HEADS, "LIST", 0, "KV heads (default 32)", 1},
    {"head-dim", KEY_HEAD_DIM, "N", 0, "64, 128 or 256 (default 128)", 1},
    {"batch", KEY_BATCH, "LIST", 0, "Sequences at once (default 1)", 1},
    {"batch-lens", KEY_BATCH_LENS, "LIST", 0,
     "One batch of these lengths, 0 for an empty sequence, instead of --seq-lens and "
     "--batch",
     1},
    {"dtype", KEY_DTYPE, "TYPE", 0, "f16, bf16 or f16,bf16 (default f16)", 1},
    {"page-size", KEY_PAGE_SIZE, "LIST", 0, "Tokens per page of K and V, 1 to 64; 0: contiguous (default 0)", 1},
    {"sinks", KEY_SINKS, "N", 0, "First tokens always selected (default 0)", 2},
    {"recent", KEY_RECENT, "N", 0, "Last tokens always selected (default 1, the newest)", 2},
    {"select", KEY_SELECT, "WHO", 0,
     "head: each query head selects its own tokens; group: the query heads of a KV head share them (default head)", 2},
    {"metric", KEY_METRIC, "LIST", 0, "How codes are compared: l1, xor, dot, asym4 (default l1, or as calibrated)", 2},
    {"stages", KEY_STAGES, "LIST", 0, "Only these: hadamard, bucket, pack, append, distance, topk, attention, step, dense", 2},
    {"implementation", KEY_IMPLEMENTATION, "NAMES", 0,
     "Only these rows: NAME, or STAGE=NAME for one stage alone; several, by commas or repeated, run beside each other "
     "(default: all)",
     2},
    {"tuned", KEY_TUNED, NULL, 0,
     "Also time what `adamas tune` chose for this device and each shape, by the database; says where it has chosen nothing", 2},
    {"trace", KEY_TRACE, "FILE", 0,
     "Queries, keys and values of this trace's steps instead of random ones; --seq-lens chooses "
     "the steps as in a replay (default all)",
     3},
    {"layers", 'l', "LIST", 0, "Layers of the trace, used in rotation (default: all but the model's first 2)", 3},
    {"thresholds", 't', "SPEC", 0,
     "Thresholds of the trace's codes: calibrated, fixed:a,b,c or quantile:p,q,r (default calibrated)", 3},
    {"calibration", KEY_CALIBRATION, "FILE", 0,
     "The model that `adamas calibrate` wrote this of: its heads, and of a trace each layer's thresholds", 3},
    {"launch", KEY_LAUNCH, "LIST", 0, "graph, stream or graph,stream (default graph)", 4},
    {"cache", KEY_CACHE, "STATE", 0, "cold or warm L2 for K, V and codes (default cold)", 4},
    {"cap-ms", KEY_CAP, "N", 0, "Time limit for the samples of one unit, 1 to 60000 (default 300)", 4},
    {"check-only", KEY_CHECK_ONLY, NULL, 0, "Compare with the host reference; time nothing", 4},
    {"seed", KEY_SEED, "N", 0, "Seed of the random inputs (default 1)", 4},
    {"device", KEY_DEVICE, "N", 0, "CUDA device (default 0)", 4},
    {"label", KEY_LABEL, "TEXT", 0, "A name for this run", 4},
    {"counters", KEY_COUNTERS, "SET", 0, "Also collect GPU counters: a set that `adamas counters list` names, or a file", 4},
    {"timeline", KEY_TIMELINE, NULL, 0, "Also trace every unit a few times: kernels, copies and the gaps between them", 4},
    {"timestamps", KEY_TIMESTAMPS, "KIND", 0,
     "Of a timeline's kernels: auto, by the hardware where it can (Blackwell and later), or software (default auto)", 4},
    {"phases", KEY_PHASES, NULL, 0, "Also time the phases inside a step of one launch, by an instrumented instance of it", 4},
    {"gpus", KEY_GPUS, "WHICH", 0,
     "all, or numbers such as 0,2: one process per GPU, each on its NUMA node, all at once; figures of each GPU, and how far "
     "they differ",
     4},
    {"alone", KEY_ALONE, NULL, 0, "With --gpus: first each GPU by itself, so that one sees what running together costs", 4},
    {"split", KEY_SPLIT, NULL, 0, "With --gpus: share the grid among the GPUs instead, as one run", 4},
    {"together", KEY_TOGETHER, "UUID:N", OPTION_HIDDEN, NULL, 4},
    {"ranks", KEY_RANKS, "LIST", 0,
     "Instead: whole steps and dense attention shared by so many GPUs by KV heads, with the all-reduce of the output through NCCL",
     4},
    {"static", KEY_STATIC, NULL, 0, "Store each kernel's registers, shared memory and spills by architecture; needs no GPU", 4},
    {0},
};

/* "a,topk=b", and more of them where the option is repeated. */
static error_t add_only(profile_command *c, const char *list, struct argp_state *state) {
    for (const char *at = list;; at++) {
        const size_t length = strcspn(at, ",");
        if (c->options.n_only == MAX_ONLY) argp_error(state, "--implementation: more than %d names", MAX_ONLY);
        if (length == 0 || length >= sizeof c->only_text[0])
            argp_error(state, "--implementation: '%.60s' is no list of names", list);
        snprintf(c->only_text[c->options.n_only], sizeof c->only_text[0], "%.*s", (int)length, at);
        c->only[c->options.n_only] = c->only_text[c->options.n_only];
        c->options.n_only++;
        at += length;
        if (*at == '\0') return 0;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state) {
    profile_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &c->fleet;
        state->child_inputs[1] = state->child_inputs[2] = &c->common;
        state->child_inputs[3] = &c->bring;
        return 0;
    case 'b': c->budgets = arg; return 0;
    case 'l': c->layers = arg; return 0;
    case 't': c->thresholds = arg; return 0;
    case KEY_CALIBRATION: c->calibration_path = arg; return 0;
    case KEY_METRIC: c->metrics = arg; return 0;
    case KEY_SELECT: c->select = arg; return 0;
    case KEY_BATCH_LENS: c->batch_lens = arg; return 0;
    case KEY_TRACE: c->trace_path = arg; return 0;
    case KEY_SEQ_LENS: c->seq_lens = arg; return 0;
    case KEY_HEADS: c->heads = arg; return 0;
    case KEY_KV_HEADS: c->kv_heads = arg; return 0;
    case KEY_HEAD_DIM: c->head_dim = arg; return 0;
    case KEY_BATCH: c->batches = arg; return 0;
    case KEY_DTYPE: c->dtype = arg; return 0;
    case KEY_PAGE_SIZE: c->page_size = arg; return 0;
    case KEY_SINKS: c->sinks = arg; return 0;
    case KEY_RECENT: c->recent = arg; return 0;
    case KEY_LAUNCH: c->launch = arg; return 0;
    case KEY_CACHE: c->cache = arg; return 0;
    case KEY_STAGES: c->stages = arg; return 0;
    case KEY_CAP: c->cap_ms = arg; return 0;
    case KEY_SEED: c->seed = arg; return 0;
    case KEY_DEVICE: c->device = arg; return 0;
    case KEY_LABEL: c->label = arg; return 0;
    case KEY_CHECK_ONLY: c->options.check_only = true; return 0;
    case KEY_COUNTERS: c->counters = arg; return 0;
    case KEY_TIMELINE: c->timeline = true; return 0;
    case KEY_PHASES: c->options.phases = true; return 0;
    case KEY_TIMESTAMPS:
        c->software_timestamps = strcmp(arg, "software") == 0;
        if (!c->software_timestamps && strcmp(arg, "auto") != 0)
            argp_error(state, "--timestamps is auto or software, not '%.60s'", arg);
        return 0;
    case KEY_RANKS: c->ranks = arg; return 0;
    case KEY_GPUS: c->gpus = arg; return 0;
    case KEY_ALONE: c->alone = true; return 0;
    case KEY_SPLIT: c->split = true; return 0;
    case KEY_TOGETHER: c->together = arg; return 0;
    case KEY_IMPLEMENTATION: return add_only(c, arg, state);
    case KEY_TUNED: c->tuned = true; return 0;
    case KEY_STATIC: c->is_static = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "profile takes no argument, and '%s' was given", arg); return 0;
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
    .children = children,
    .doc = "Runs the GPU stages over a grid of configurations: checks each against the host reference, then times it. A "
           "wrong result is recorded as failed and never timed.\v"
           "Random inputs have outlier channels, sinks and ties, and are the same for the same seed on every machine. The exit "
           "code is 77 without a GPU, and 4 if a check failed."};

/* --- Values ------------------------------------------------------------------------------------------------------- */

static adm_status number(const char *option, const char *text, uint64_t min, uint64_t max, uint64_t fallback, uint64_t *value,
                         adm_error *err) {
    *value = fallback;
    return text != NULL ? adm_parse_u64(option, text, min, max, value, err) : ADM_OK;
}

static adm_status number32(const char *option, const char *text, uint32_t min, uint32_t max, uint32_t fallback, uint32_t *value,
                           adm_error *err) {
    uint64_t wide;
    adm_status status = number(option, text, min, max, fallback, &wide, err);
    *value = (uint32_t)wide;
    return status;
}

static adm_status parse_lists(profile_command *c, adm_error *err) {
    adm_profile_options *o = &c->options;
    const struct {
        const char *option, *text, *fallback;
        uint32_t min, max;
        const uint32_t **list;
        size_t *n;
    } lists[] = {
        {"--seq-lens", c->seq_lens, c->trace_path != NULL ? NULL : "8192,32768", 1, 1 << 20, &o->seq_lens, &o->n_seq_lens},
        {"--budgets", c->budgets, "256,1024", 1, 1 << 20, &o->budgets, &o->n_budgets},
        {"--kv-heads", c->kv_heads, "32", 1, 4096, &o->kv_heads, &o->n_kv_heads},
        {"--batch", c->batches, "1", 1, 64, &o->batches, &o->n_batches},
        {"--page-size", c->page_size, "0", 0, 64, &o->page_sizes, &o->n_page_sizes},
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        const char *text = lists[i].text != NULL ? lists[i].text : lists[i].fallback;
        if (text == NULL) continue;
        adm_status status = adm_parse_u32_list(lists[i].option, text, lists[i].min, lists[i].max, &c->lists[i], lists[i].n,
                                               err);
        if (status != ADM_OK) return status;
        *lists[i].list = c->lists[i];
    }
    return ADM_OK;
}

/* --batch-lens keeps its order, repetitions and zeros; the database has it without leading zeros. */
static adm_status parse_batch_lens(profile_command *c, adm_error *err) {
    adm_profile_options *o = &c->options;
    if (c->batch_lens == NULL) return ADM_OK;
    if (c->seq_lens != NULL || c->batches != NULL || c->trace_path != NULL)
        return adm_fail(err, ADM_EINPUT,
                        "--batch-lens gives one batch of random inputs: leave out --seq-lens, --batch and "
                        "--trace");
    size_t n = 1, used = 0;
    for (const char *at = c->batch_lens; *at; at++) n += *at == ',';
    if (n > 64) return adm_fail(err, ADM_EINPUT, "--batch-lens: %zu sequences; the GPU kernels take at most 64", n);
    adm_status status = adm_alloc(&c->batch_len_list, n, sizeof *c->batch_len_list, "--batch-lens", err);
    if (status == ADM_OK) status = adm_alloc(&c->batch_lens_text, 8 * n + 1, 1, "--batch-lens", err);
    const char *item = c->batch_lens;
    for (size_t i = 0; status == ADM_OK && i < n; i++, item += strcspn(item, ",") + 1) {
        char text[24];
        uint64_t value = 0;
        snprintf(text, sizeof text, "%.*s", (int)(strcspn(item, ",") < 20 ? strcspn(item, ",") : 20), item);
        status = adm_parse_u64("--batch-lens", text, 0, 1 << 20, &value, err);
        c->batch_len_list[i] = (uint32_t)value;
        used += (size_t)snprintf(c->batch_lens_text + used, 8 * n + 1 - used, "%s%u", i > 0 ? "," : "", (uint32_t)value);
    }
    o->batch_lens = c->batch_len_list;
    o->n_batch_lens = n;
    o->batch_lens_text = c->batch_lens_text;
    return status;
}

static adm_status parse_choices(profile_command *c, adm_error *err) {
    static const char *const dtypes[] = {"f16", "bf16"}, *const launches[] = {"graph", "stream"},
                             *const caches[] = {"cold", "warm"};
    static const char *const selections[] = {"head", "group"};
    const char *stages[ADM_N_STAGES];
    bool dtype[2] = {false}, cache[2] = {false}, select[2] = {false};
    for (int s = 0; s < ADM_N_STAGES; s++) stages[s] = adm_stage_name((adm_stage)s);
    adm_status status = adm_parse_words("--dtype", c->dtype != NULL ? c->dtype : "f16", dtypes, 2, dtype, err);
    if (status == ADM_OK)
        status = adm_parse_words("--launch", c->launch != NULL ? c->launch : "graph", launches, 2, c->options.launch, err);
    if (status == ADM_OK) status = adm_parse_words("--cache", c->cache != NULL ? c->cache : "cold", caches, 2, cache, err);
    if (status == ADM_OK && c->stages != NULL)
        status = adm_parse_words("--stages", c->stages, stages, ADM_N_STAGES, c->options.stage, err);
    for (int s = 0; s < ADM_N_STAGES && c->stages == NULL; s++) c->options.stage[s] = true;
    if (status == ADM_OK && dtype[0] && dtype[1] && c->trace_path != NULL)
        status = adm_fail(err, ADM_EINPUT, "--dtype: one type of a trace per run");
    if (status == ADM_OK && cache[0] && cache[1]) status = adm_fail(err, ADM_EINPUT, "--cache: one state per run");
    if (status == ADM_OK)
        status = adm_parse_words("--select", c->select != NULL ? c->select : "head", selections, 2, select, err);
    if (status == ADM_OK && select[0] && select[1]) status = adm_fail(err, ADM_EINPUT, "--select: one kind per run");
    c->options.selection = select[1] ? ADM_SELECT_GROUP : ADM_SELECT_HEAD;
    if (dtype[0]) c->dtype_list[c->options.n_dtypes++] = ADM_F16;
    if (dtype[1]) c->dtype_list[c->options.n_dtypes++] = ADM_BF16;
    c->options.dtypes = c->dtype_list;
    c->options.cold = cache[0];
    return status;
}

static adm_status parse_trace_options(profile_command *c, adm_error *err) {
    adm_profile_options *o = &c->options;
    if (c->heads != NULL || c->kv_heads != NULL || c->head_dim != NULL)
        return adm_fail(err, ADM_EINPUT, "--trace brings its own heads: leave out --heads, --kv-heads and --head-dim");
    adm_status status = adm_threshold_parse(c->thresholds != NULL ? c->thresholds : "calibrated", &c->trace_options.thresholds,
                                            err);
    status = adm_fail_of(err, status, "--thresholds");
    if (status == ADM_OK && c->layers != NULL)
        status = adm_parse_u32_list("--layers", c->layers, 0, 65535, &c->layer_list, &c->trace_options.n_layers, err);
    c->trace_options.layers = c->layer_list;
    for (size_t i = 0; i < o->n_metrics; i++) c->trace_options.by_channel |= o->metrics[i] == ADM_METRIC_ASYM4;
    if (status == ADM_OK) status = adm_select_rule_check(&(adm_select_rule){o->budgets[0], o->n_sinks, o->n_recent}, err);
    return status;
}

/* The file's heads stand in for the options that say them. */
static adm_status parse_calibration(profile_command *c, adm_error *err) {
    const adm_calibration *calibration = &c->calibration;
    if (c->calibration_path == NULL) return ADM_OK;
    if (c->heads != NULL || c->kv_heads != NULL || c->head_dim != NULL || c->thresholds != NULL)
        return adm_fail(err, ADM_EINPUT,
                        "--calibration brings its own heads and thresholds: leave out --heads, --kv-heads, --head-dim and "
                        "--thresholds");
    adm_status status = adm_calibration_read(c->calibration_path, &c->calibration, err);
    if (status != ADM_OK || c->trace_path != NULL) return status;
    const uint32_t shape[3] = {calibration->shape.n_q_heads, calibration->shape.n_kv_heads, calibration->shape.head_dim};
    for (int i = 0; i < 3; i++) snprintf(c->calibrated_shape[i], sizeof c->calibrated_shape[i], "%u", shape[i]);
    c->heads = c->calibrated_shape[0];
    c->kv_heads = c->calibrated_shape[1];
    c->head_dim = c->calibrated_shape[2];
    return ADM_OK;
}

static adm_status parse_values(profile_command *c, adm_error *err) {
    adm_profile_options *o = &c->options;
    uint64_t cap_ms = 0;
    /* The inputs have unit variance, and so have their transforms: thresholds at the quartiles of a normal. */
    o->threshold[0] = -0.674f;
    o->threshold[2] = 0.674f;
    o->target = 0.01;
    o->only = c->only;
    adm_status status = parse_calibration(c, err);
    if (status == ADM_OK) status = parse_lists(c, err);
    if (status == ADM_OK) status = parse_batch_lens(c, err);
    if (status == ADM_OK) status = parse_choices(c, err);
    if (status == ADM_OK)
        status = adm_profile_metrics(c->metrics, c->calibration_path != NULL ? &c->calibration : NULL, c->calibration_path,
                                     c->metric_list, &o->n_metrics, err);
    o->metrics = c->metric_list;
    if (status == ADM_OK) status = number32("--heads", c->heads, 1, 4096, 32, &o->n_q_heads, err);
    if (status == ADM_OK) status = number32("--head-dim", c->head_dim, 1, 256, 128, &o->head_dim, err);
    if (status == ADM_OK) status = number32("--sinks", c->sinks, 0, 1 << 20, 0, &o->n_sinks, err);
    if (status == ADM_OK) status = number32("--recent", c->recent, 0, 1 << 20, 0, &o->n_recent, err);
    if (status == ADM_OK) status = number32("--device", c->device, 0, 15, 0, &c->device_number, err);
    if (status == ADM_OK) status = number("--cap-ms", c->cap_ms, 1, 60000, 300, &cap_ms, err);
    if (status == ADM_OK) status = number("--seed", c->seed, 0, INT64_MAX, 1, &o->seed, err);
    o->cap_ns = cap_ms * 1000000;
    if (status == ADM_OK && c->trace_path != NULL) return parse_trace_options(c, err);
    if (status == ADM_OK && (c->layers != NULL || c->thresholds != NULL))
        return adm_fail(err, ADM_EINPUT, "%s is about a trace: give one with --trace",
                        c->layers != NULL ? "--layers" : "--thresholds");
    for (size_t h = 0; status == ADM_OK && h < o->n_kv_heads; h++)
        status = adm_shape_check(&(adm_shape){o->n_q_heads, o->kv_heads[h], o->head_dim}, err);
    if (status == ADM_OK) status = adm_select_rule_check(&(adm_select_rule){o->budgets[0], o->n_sinks, o->n_recent}, err);
    return status;
}

/* --- Trace -------------------------------------------------------------------------------------------------------- */

/* Without --layers: all but the model's first two, or all if there are no others. */
static adm_status choose_layers(profile_command *c, adm_error *err) {
    adm_profile_trace_options *o = &c->trace_options;
    if (c->layers != NULL || c->layer_list != NULL) return ADM_OK;
    adm_status status = adm_alloc(&c->layer_list, c->trace->n_layers, sizeof *c->layer_list, "layers of a trace", err);
    for (size_t i = 0; status == ADM_OK && i < c->trace->n_layers; i++)
        if (c->trace->layers[i].index >= ADM_DENSE_LAYERS) c->layer_list[o->n_layers++] = c->trace->layers[i].index;
    o->layers = c->layer_list;
    return status;
}

/* Opens the trace and takes the shape of the profile from it. */
static adm_status open_trace(profile_command *c, adm_error *err) {
    adm_profile_options *o = &c->options;
    if (c->trace_path == NULL) return ADM_OK;
    adm_status status = adm_trace_open(c->trace_path, &c->trace, err);
    if (status == ADM_OK) status = adm_trace_check_finite(c->trace, err);
    if (status == ADM_OK && c->calibration_path != NULL) {
        status = adm_calibration_check(&c->calibration, c->calibration_path, c->trace_path, &c->trace->shape, err);
        c->trace_options.calibration = &c->calibration;
    }
    if (status == ADM_OK) status = choose_layers(c, err);
    if (status != ADM_OK) return status;
    o->n_q_heads = c->trace->shape.n_q_heads;
    o->head_dim = c->trace->shape.head_dim;
    c->lists[2][0] = c->trace->shape.n_kv_heads;
    o->scale = (float)c->trace->softmax_scale;
    if (c->dtype == NULL && c->trace->layers[0].k_dtype == ADM_BF16) c->dtype_list[0] = ADM_BF16;
    c->trace_options.dtype = c->dtype_list[0];
    c->trace_options.seq_lens = o->seq_lens;
    c->trace_options.n_seq_lens = o->n_seq_lens;
    status = adm_shape_check(&c->trace->shape, err);
    if (status == ADM_OK) status = adm_profile_trace_open(c->trace, &c->trace_options, &c->profile_trace, err);
    if (status == ADM_OK) o->sessions = adm_profile_trace_sessions(c->profile_trace, &o->n_sessions);
    return status;
}

/* --- The run ------------------------------------------------------------------------------------------------------ */

static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    adm_progress *progress = user;
    progress->n_total = n_total;
    adm_progress_step(progress, n_done);
}

/* device: NULL where no GPU is used. */
static adm_status begin_run(profile_command *c, const adm_device_info *device, adm_store *store, adm_fleet_run *run,
                            adm_error *err) {
    char driver[16], runtime[16];
    adm_host_info host;
    adm_host_info_read(&host);
    if (device == NULL) {
        adm_run_info info = {.label = c->label != NULL ? c->label : "",
                             .command = "profile",
                             .argv_json = c->argv_json,
                             .gpu_reason = "static figures of the build, no GPU used"};
        adm_run_info_host(&info, &host);
        return adm_fleet_begin(&c->fleet, store, &info, run, err);
    }
    snprintf(driver, sizeof driver, "%d.%d", device->driver_version / 1000, device->driver_version % 1000 / 10);
    snprintf(runtime, sizeof runtime, "%d.%d", device->runtime_version / 1000, device->runtime_version % 1000 / 10);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = c->ranks != NULL ? "ranks" : "profile",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)c->options.seed,
                         .gpu_name = device->name,
                         .gpu_uuid = device->uuid,
                         .driver_version = driver,
                         .cuda_version = runtime};
    info.together_uuid = c->together != NULL ? c->together_uuid : NULL;
    info.n_together = c->n_together;
    adm_profile_probes_clocks(device->uuid, &info);
    adm_run_info_host(&info, &host);
    return adm_fleet_begin(&c->fleet, store, &info, run, err);
}

static adm_status profile(profile_command *c, adm_profile_tally *tally, adm_error *err) {
    adm_gpu *gpu = NULL;
    adm_store *store = NULL;
    adm_profile_probes *probes = NULL;
    adm_fleet_run run;
    adm_profile_start start;
    bool has_start = false;
    adm_profile_candidates *candidates = NULL;
    const bool is_observed = c->counters != NULL || c->timeline;
    const adm_profile_candidates_ask ask = {.bring = &c->bring,
                                            .tuned_db = c->tuned ? c->common.db_path : NULL,
                                            .device = (int)c->device_number,
                                            .seed = c->seed != NULL ? c->options.seed : 0,
                                            .quiet = c->common.quiet || c->common.json};
    /* In processes of their own, which cannot come from one that has the device open. */
    if (c->fleet.shard_text != NULL && (c->bring.n_files > 0 || c->tuned))
        return adm_fail(err, ADM_EINPUT,
                        "--shard: candidates are judged over the whole grid; leave out --candidate and --tuned");
    adm_status status = adm_profile_candidates_judge(&ask, &c->options, &candidates, err);
    if (status == ADM_OK && is_observed)
        adm_cupti_features_prepare(c->timeline && !c->software_timestamps, &c->features); /* before a context */
    if (status == ADM_OK) status = adm_gpu_open((int)c->device_number, &gpu, err);
    if (status == ADM_OK && is_observed) {
        adm_cupti_features_read(&c->features);
        c->options.fact = c->features.fact;
        c->options.fact_value = c->features.value;
        c->options.n_facts = ADM_CUPTI_N_FACTS;
    }
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, adm_gpu_device(gpu), store, &run, err);
    if (status == ADM_OK) {
        const int64_t run_id = run.run_id;
        if (run.is_resumed) status = adm_profile_resume(&c->options, store, run_id, &start, &has_start, err);
        if (has_start) c->options.start = &start;
        if (status == ADM_OK && c->profile_trace != NULL)
            status = adm_profile_trace_record(c->profile_trace, store, run_id, &c->options.trace_id, err);
        adm_progress_start(&c->progress, adm_gpu_device(gpu)->name, 0, c->common.quiet);
        if (status == ADM_OK)
            status = adm_profile_probes_open(&c->options, c->counters, c->timeline, (int)c->device_number, gpu, store, run_id,
                                             &probes, err);
        if (status == ADM_OK) status = adm_profile_run(&c->options, gpu, store, run_id, tally, err);
        if (status == ADM_OK) status = adm_profile_candidates_record(candidates, store, run_id, tally, err);
        adm_progress_end(&c->progress);
        const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
        adm_status ended = adm_fleet_end(&c->fleet, store, &run, outcome, status == ADM_OK ? NULL : err->text,
                                         status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
        if (status == ADM_OK && (!c->common.quiet || c->common.json))
            status = adm_profile_print_run(&c->common, &c->options, c->trace, store, run_id, tally, err);
        if (status == ADM_OK && !c->common.quiet && !c->common.json) adm_profile_probes_print(probes);
    }
    adm_profile_candidates_free(&candidates);
    adm_profile_probes_close(&probes);
    adm_store_close(&store);
    adm_gpu_close(&gpu);
    return status;
}

/* Without a GPU the plan is that of a typical one. */
static adm_status print_plan(const profile_command *c, adm_error *err) {
    adm_device_info list[16];
    adm_error none;
    int n = 0;
    const bool found = adm_device_list(list, 16, &n, &none) == ADM_OK && (int)c->device_number < (n < 16 ? n : 16);
    json_t *document = c->common.json ? json_object() : NULL;
    adm_status status = adm_profile_print_plan(&c->options, c->trace, &c->shards, found ? &list[c->device_number] : NULL,
                                               document, err);
    if (status == ADM_OK) status = adm_profile_probes_plan(c->counters, c->timeline, document, err);
    if (status == ADM_OK && document != NULL) return adm_print_json(document, err);
    json_decref(document);
    return status;
}

/* Divides the grid, and makes what it is of part of the sweep. */
static adm_status plan_shards(profile_command *c, adm_error *err) {
    adm_fleet *f = &c->fleet;
    if (f->shard.count > 0 && c->is_static)
        return adm_fail(err, ADM_EINPUT, "--static is about the build and has no grid: leave out --shard");
    adm_status status = adm_profile_shards_make(&c->options, f->shard, &c->shards, err);
    if (status != ADM_OK || f->shard.count == 0) return status;
    c->options.is_ours = c->shards.is_ours;
    c->options.first_of_case = c->shards.first;
    adm_fleet_add_parts(f, c->shards.part, c->shards.n_items);
    if (c->trace != NULL) adm_fleet_add_input(f, c->trace->xxh128);
    status = adm_fleet_add_file(f, c->calibration_path, err);
    return status == ADM_OK && c->counters != NULL && strchr(c->counters, '/') != NULL ? adm_fleet_add_file(f, c->counters, err)
                                                                                       : status;
}

/* --ranks: what several GPUs do together is no measurement of one of them, and a run of its own kind. */
static adm_status profile_ranks(profile_command *c, adm_profile_tally *tally, adm_error *err) {
    adm_gpu *gpu = NULL;
    adm_store *store = NULL;
    adm_fleet_run run;
    adm_status status = adm_gpu_open(0, &gpu, err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, adm_gpu_device(gpu), store, &run, err);
    if (status == ADM_OK) {
        status = adm_profile_ranks_run(&c->options, c->rank_list, c->n_ranks, store, run.run_id, tally, err);
        const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
        adm_status ended = adm_store_end_run(store, run.run_id, outcome, status == ADM_OK ? NULL : err->text,
                                             status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
    }
    if (status == ADM_OK && (!c->common.quiet || c->common.json))
        status = adm_profile_ranks_print(&c->common, store, run.run_id, err);
    adm_store_close(&store);
    adm_gpu_close(&gpu);
    return status;
}

/* --gpus: the same command once per GPU. argv as it was typed: argp sorted it, and left the words alone. */
static adm_status profile_gpus(profile_command *c, int argc, char **argv, adm_error *err) {
    adm_gpus *g = NULL;
    adm_status status = adm_alloc(&g, 1, sizeof *g, "GPUs", err);
    if (status != ADM_OK) return status;
    *g = (adm_gpus){.common = &c->common, .argv = argv, .argc = argc, .alone = c->alone, .split = c->split};
    if (c->split && (c->alone || c->fleet.shard_text != NULL))
        status = adm_fail(err, ADM_EINPUT, "--split shares the grid among GPUs: leave out --alone and --shard");
    if (status == ADM_OK && (c->ranks != NULL || c->is_static || c->device != NULL))
        status = adm_fail(err, ADM_EINPUT, "--gpus profiles each GPU by itself: leave out --ranks, --static and --device");
    if (status == ADM_OK) status = adm_gpus_choose(g, c->gpus, err);
    if (status == ADM_OK) status = adm_gpus_run(g, err);
    adm_free(&g);
    return status;
}

/* What a process of --gpus is told: the call's UUID, and how many run at once. */
static adm_status parse_together(profile_command *c, adm_error *err) {
    uint64_t n = 0;
    const char *colon = c->together != NULL ? strchr(c->together, ':') : NULL;
    if (c->together == NULL) return ADM_OK;
    if (colon == NULL || colon - c->together != 36)
        return adm_fail(err, ADM_EINPUT, "--together is for `profile --gpus` itself");
    snprintf(c->together_uuid, sizeof c->together_uuid, "%.36s", c->together);
    adm_status status = adm_parse_u64("--together", colon + 1, 1, ADM_MAX_GPUS, &n, err);
    c->n_together = (int64_t)n;
    return status;
}

/* Options that make no sense with --ranks, and the list itself. */
static adm_status parse_ranks(profile_command *c, adm_error *err) {
    if (c->ranks == NULL) return ADM_OK;
    if (c->trace_path != NULL || c->batch_lens != NULL || c->counters != NULL || c->timeline || c->options.phases ||
        c->is_static || c->fleet.shard_text != NULL || c->options.check_only)
        return adm_fail(
            err, ADM_EINPUT,
            "--ranks times random inputs, and nothing else: leave out --trace, --batch-lens, --counters, --timeline, "
            "--phases, --static, --shard and --check-only");
    return adm_parse_u32_list("--ranks", c->ranks, 1, ADM_MAX_RANKS, &c->rank_list, &c->n_ranks, err);
}

static const char static_sql[] =
    "SELECT stage, variant, max(CASE metric WHEN 'registers' THEN median END),"
    " max(CASE metric WHEN 'static_shared_bytes' THEN median END), max(CASE metric WHEN 'stack_bytes' THEN median END),"
    " max(CASE metric WHEN 'spill_store_bytes' THEN median END) + max(CASE metric WHEN 'spill_load_bytes' THEN median END)"
    " FROM stage_summary WHERE run_id = ? GROUP BY stage, variant ORDER BY stage, variant";

static json_t *static_as_json(const adm_query *q) {
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:f}", "stage", adm_query_text(q, 0), "kernel", adm_query_text(q, 1),
                     "registers", adm_query_double(q, 2), "static_shared_bytes", adm_query_double(q, 3), "stack_bytes",
                     adm_query_double(q, 4), "spill_bytes", adm_query_double(q, 5));
}

static adm_status print_static(adm_store *store, int64_t run_id, bool as_json, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    json_t *kernels = json_array();
    adm_status status = adm_query_open(store, static_sql, &query, err, "i", run_id);
    if (!as_json) adm_print("%-10s %9s %7s %6s %7s  kernel\n", "stage", "registers", "shared", "stack", "spilled");
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (as_json) json_array_append_new(kernels, static_as_json(query));
        else
            adm_print("%-10s %9.0f %7.0f %6.0f %7.0f  %s\n", adm_query_text(query, 0), adm_query_double(query, 2),
                      adm_query_double(query, 3), adm_query_double(query, 4), adm_query_double(query, 5),
                      adm_query_text(query, 1));
    }
    adm_query_close(&query);
    if (status == ADM_OK && as_json)
        return adm_print_json(json_pack("{s:I, s:o}", "run_id", (json_int_t)run_id, "kernels", kernels), err);
    json_decref(kernels);
    return status;
}

/* --static: the build's own figures, as a run of their own. */
static adm_status profile_static(profile_command *c, adm_error *err) {
    adm_store *store = NULL;
    adm_fleet_run run = {0};
    size_t n_kernels = 0;
    if (adm_gpu_registry_count() == 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "--static: this build has no CUDA kernels; configure it with a CUDA toolkit");
    adm_status status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, NULL, store, &run, err);
    const int64_t run_id = run.run_id;
    if (status == ADM_OK) {
        status = adm_profile_static(store, run_id, &n_kernels, err);
        adm_status ended = adm_store_end_run(store, run_id, status == ADM_OK ? "complete" : "failed",
                                             status == ADM_OK ? NULL : err->text, status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
    }
    if (status == ADM_OK && (!c->common.quiet || c->common.json)) status = print_static(store, run_id, c->common.json, err);
    adm_store_close(&store);
    return status;
}

static int run(int argc, char **argv) {
    profile_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    adm_profile_tally tally = {0};
    c.argv_json = adm_argv_json(argc, argv);
    adm_interrupt_ask();
    adm_argp_parse(&argp, argc, argv, &c);
    c.options.on_progress = on_progress;
    c.options.should_stop = adm_interrupted;
    c.options.user = &c.progress;
    static const char *const apart[] = {"device", "gpus", "alone", "split", "together", NULL};
    adm_status status = parse_values(&c, &err);
    const bool has_gpus = c.gpus != NULL && c.gpus[0] != '\0';
    if (status == ADM_OK && !has_gpus && c.gpus == NULL && (c.alone || c.split))
        status = adm_fail(&err, ADM_EINPUT, "%s goes with --gpus", c.alone ? "--alone" : "--split");
    if (status == ADM_OK) status = parse_together(&c, &err);
    if (status == ADM_OK) status = parse_ranks(&c, &err);
    if (status == ADM_OK) status = adm_fleet_read(&c.fleet, "profile", &argp, apart, argc, argv, &err);
    if (status == ADM_OK && c.argv_json == NULL) status = adm_fail(&err, ADM_EENVIRONMENT, "out of memory");
    if (status == ADM_OK) status = adm_profile_check_only(&c.options, &err); /* before a run begins */
    if (status == ADM_OK) status = adm_profile_probes_check(c.counters, &err);
    if (status == ADM_OK && !c.is_static) status = open_trace(&c, &err);
    if (status == ADM_OK && !c.is_static) status = plan_shards(&c, &err);
    if (status == ADM_OK)
        status = c.fleet.dry_run   ? print_plan(&c, &err)
                 : c.is_static     ? profile_static(&c, &err)
                 : has_gpus        ? profile_gpus(&c, argc, argv, &err)
                 : c.ranks != NULL ? profile_ranks(&c, &tally, &err)
                                   : profile(&c, &tally, &err);
    if (status == ADM_OK && tally.n_failed > 0)
        status = adm_fail(&err, ADM_EINTERNAL, "%zu units failed their check or could not run; the database says why",
                          tally.n_failed);
    if (status == ADM_OK) status = adm_finish_output(&err);
    adm_profile_shards_free(&c.shards);
    adm_profile_trace_close(&c.profile_trace);
    adm_trace_close(&c.trace);
    for (size_t i = 0; i < sizeof c.lists / sizeof c.lists[0]; i++) adm_free(&c.lists[i]);
    adm_free(&c.batch_len_list);
    adm_free(&c.rank_list);
    adm_free(&c.layer_list);
    adm_calibration_clear(&c.calibration);
    adm_free(&c.batch_lens_text);
    adm_free(&c.argv_json);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_profile = {"profile", "check and time the GPU stages over a grid", run};
