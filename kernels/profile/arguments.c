/* arguments.c: the options of `adamas profile`, and what is made of them. */
#include "kernels/profile/arguments.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "kernels/profile/gpus/gpus.h"
#include "kernels/profile/gpus/ranks.h"

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
    KEY_TOGETHER,
    KEY_SECONDS
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
    {"seconds", KEY_SECONDS, "FILE", 0,
     "Also write what each configuration and unit took by the wall clock, and the estimate by which --shard divides", 4},
    {"ranks", KEY_RANKS, "LIST", 0,
     "Instead: whole steps and dense attention shared by so many GPUs by KV heads, with the all-reduce of the output "
     "through NCCL",
     4},
    {"static", KEY_STATIC, NULL, 0, "Store each kernel's registers, shared memory and spills by architecture; needs no GPU", 4},
    {0},
};

/* "a,topk=b", and more of them where the option is repeated. */
static error_t add_only(adm_profile_command *c, const char *list, struct argp_state *state) {
    for (const char *at = list;; at++) {
        const size_t length = strcspn(at, ",");
        if (c->options.n_only == ADM_PROFILE_MAX_ONLY)
            argp_error(state, "--implementation: more than %d names", ADM_PROFILE_MAX_ONLY);
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
    adm_profile_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: return adm_give_grid_inputs(state, &c->fleet, &c->common, &c->bring);
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
    case KEY_TIMESTAMPS: c->timestamps = arg; return 0;
    case KEY_RANKS: c->ranks = arg; return 0;
    case KEY_GPUS: c->gpus = arg; return 0;
    case KEY_ALONE: c->alone = true; return 0;
    case KEY_SPLIT: c->split = true; return 0;
    case KEY_TOGETHER: c->together = arg; return 0;
    case KEY_SECONDS: c->seconds_path = arg; return 0;
    case KEY_IMPLEMENTATION: return add_only(c, arg, state);
    case KEY_TUNED: c->tuned = true; return 0;
    case KEY_STATIC: c->is_static = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "profile takes no argument, and '%s' was given", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

const struct argp adm_profile_argp = {
    .options = options,
    .parser = parse,
    .children = adm_argp_grid,
    .doc = "Runs the GPU stages over a grid of configurations: checks each against the host reference, then times it. A "
           "wrong result is recorded as failed and never timed.\v"
           "Random inputs have outlier channels, sinks and ties, and are the same for the same seed on every machine. The exit "
           "code is 77 without a GPU, 4 if a check failed, and 2 if a candidate cannot be loaded."};

/* --- Values ------------------------------------------------------------------------------------------------------- */

static adm_status parse_lists(adm_profile_command *c, adm_error *err) {
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
static adm_status parse_batch_lens(adm_profile_command *c, adm_error *err) {
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

static adm_status parse_choices(adm_profile_command *c, adm_error *err) {
    static const char *const dtypes[] = {"f16", "bf16"}, *const launches[] = {"graph", "stream"},
                             *const caches[] = {"cold", "warm"}, *const timestamps[] = {"auto", "software"};
    static const char *const selections[] = {"head", "group"};
    const char *stages[ADM_N_STAGES];
    size_t clock = 0;
    bool dtype[2] = {false}, cache[2] = {false}, select[2] = {false};
    adm_stage_names(stages);
    adm_status status = adm_parse_words("--dtype", c->dtype != NULL ? c->dtype : "f16", dtypes, 2, dtype, err);
    if (status == ADM_OK)
        status = adm_parse_words("--launch", c->launch != NULL ? c->launch : "graph", launches, 2, c->options.launch, err);
    if (status == ADM_OK) status = adm_parse_words("--cache", c->cache != NULL ? c->cache : "cold", caches, 2, cache, err);
    if (status == ADM_OK && c->stages != NULL)
        status = adm_parse_words("--stages", c->stages, stages, ADM_N_STAGES, c->options.stage, err);
    for (int s = 0; s < ADM_N_STAGES && c->stages == NULL; s++) c->options.stage[s] = true;
    if (status == ADM_OK && dtype[0] && dtype[1] && c->trace_path != NULL)
        status = adm_fail(err, ADM_EINPUT, "--dtype: one type of a trace per run");
    if (status == ADM_OK) status = adm_parse_word("--timestamps", c->timestamps, timestamps, 2, &clock, err);
    c->software_timestamps = clock == 1;
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

static adm_status parse_trace_options(adm_profile_command *c, adm_error *err) {
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
static adm_status parse_calibration(adm_profile_command *c, adm_error *err) {
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

static adm_status parse_values(adm_profile_command *c, adm_error *err) {
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
    if (status == ADM_OK) status = adm_option_u32("--heads", c->heads, 1, 4096, 32, &o->n_q_heads, err);
    if (status == ADM_OK) status = adm_option_u32("--head-dim", c->head_dim, 1, 256, 128, &o->head_dim, err);
    if (status == ADM_OK) status = adm_option_u32("--sinks", c->sinks, 0, 1 << 20, 0, &o->n_sinks, err);
    if (status == ADM_OK) status = adm_option_u32("--recent", c->recent, 0, 1 << 20, 0, &o->n_recent, err);
    if (status == ADM_OK) status = adm_option_u32("--device", c->device, 0, 15, 0, &c->device_number, err);
    if (status == ADM_OK) status = adm_option_u64("--cap-ms", c->cap_ms, 1, 60000, 300, &cap_ms, err);
    if (status == ADM_OK) status = adm_option_u64("--seed", c->seed, 0, INT64_MAX, 1, &o->seed, err);
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

/* What a process of --gpus is told: the call's UUID, and how many run at once. */
static adm_status parse_together(adm_profile_command *c, adm_error *err) {
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
static adm_status parse_ranks(adm_profile_command *c, adm_error *err) {
    if (c->ranks == NULL) return ADM_OK;
    if (c->trace_path != NULL || c->batch_lens != NULL || c->counters != NULL || c->timeline || c->options.phases ||
        c->is_static || c->fleet.shard_text != NULL || c->options.check_only)
        return adm_fail(
            err, ADM_EINPUT,
            "--ranks times random inputs, and nothing else: leave out --trace, --batch-lens, --counters, --timeline, "
            "--phases, --static, --shard and --check-only");
    return adm_parse_u32_list("--ranks", c->ranks, 1, ADM_MAX_RANKS, &c->rank_list, &c->n_ranks, err);
}

static bool runs_any(const adm_profile_command *c, bool (*is_such)(adm_stage)) {
    for (int s = 0; s < ADM_N_STAGES; s++)
        if (c->options.stage[s] && is_such((adm_stage)s)) return true;
    return c->bring.n_files > 0; /* of whichever stage */
}

static bool has_codes(adm_stage s) { return s != ADM_STAGE_HADAMARD && s != ADM_STAGE_ATTENTION && s != ADM_STAGE_DENSE; }
static bool selects(adm_stage s) { return s == ADM_STAGE_DISTANCE || adm_profile_by_budget(s); }
static bool is_step(adm_stage s) { return s == ADM_STAGE_STEP; }

/* What was given and would change nothing: what needs another option is refused, the rest is said. */
static adm_status look_for_idle(const adm_profile_command *c, adm_error *err) {
    const bool unchecked = c->options.check_only, budgets = runs_any(c, adm_profile_by_budget);
    static const char *const none = "with these --stages, none of which depends on it";
    const adm_idle_option refused[] = {
        {c->gpus == NULL && c->alone, "--alone", "without --gpus"},
        {c->gpus == NULL && c->split, "--split", "without --gpus"},
        {c->software_timestamps && !c->timeline, "--timestamps", "without --timeline"},
        {c->options.phases && !runs_any(c, is_step), "--phases", "without the stage step"},
    };
    const adm_idle_option said[] = {
        {unchecked && c->cap_ms != NULL, "--cap-ms", "with --check-only"},
        {unchecked && c->launch != NULL, "--launch", "with --check-only"},
        {unchecked && c->options.phases, "--phases", "with --check-only"},
        {c->trace_path != NULL && c->seed != NULL, "--seed", "with --trace, whose inputs are not random"},
        {c->budgets != NULL && !budgets, "--budgets", none},
        {c->sinks != NULL && !budgets, "--sinks", none},
        {c->recent != NULL && !budgets, "--recent", none},
        {c->select != NULL && !runs_any(c, selects), "--select", none},
        {c->metrics != NULL && !runs_any(c, has_codes), "--metric", none},
    };
    const adm_status status = adm_refuse_idle(refused, sizeof refused / sizeof *refused, err);
    if (status == ADM_OK) adm_note_idle(said, sizeof said / sizeof *said, c->common.quiet);
    return status;
}

/* --- All of it ---------------------------------------------------------------------------------------------------- */

bool adm_profile_has_gpus(const adm_profile_command *c) { return c->gpus != NULL && c->gpus[0] != '\0'; }

adm_status adm_profile_arguments_read(adm_profile_command *c, adm_error *err) {
    adm_status status = parse_values(c, err);
    if (status == ADM_OK) status = look_for_idle(c, err);
    if (status == ADM_OK && c->seconds_path != NULL && (adm_profile_has_gpus(c) || c->ranks != NULL || c->is_static))
        status = adm_fail(err, ADM_EINPUT, "--seconds is of a grid on one GPU: leave out --gpus, --ranks and --static");
    if (status == ADM_OK) status = parse_together(c, err);
    if (status == ADM_OK) status = parse_ranks(c, err);
    return status;
}

void adm_profile_arguments_clear(adm_profile_command *c) {
    for (size_t i = 0; i < sizeof c->lists / sizeof c->lists[0]; i++) adm_free(&c->lists[i]);
    adm_free(&c->batch_len_list);
    adm_free(&c->rank_list);
    adm_free(&c->layer_list);
    adm_calibration_clear(&c->calibration);
    adm_free(&c->batch_lens_text);
    adm_free(&c->argv_json);
}
