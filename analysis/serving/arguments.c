/* arguments.c: the options of `adamas simulate`, and what is made of them. */
#include "analysis/serving/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/base/suggest.h"
#include "core/system/threads.h"

enum {
    KEY_REQUESTS = 0x5a00,
    KEY_GENERATE,
    KEY_MODEL,
    KEY_CALIBRATION,
    KEY_DENSE,
    KEY_LAYERS,
    KEY_VARIANT,
    KEY_MEMORY,
    KEY_GPU,
    KEY_QUALITY,
    KEY_RATE,
    KEY_LIMIT,
    KEY_BATCH,
    KEY_TOKENS,
    KEY_CHUNK,
    KEY_PAGE,
    KEY_TTFT,
    KEY_TPOT,
    KEY_COMPUTE,
    KEY_SHARE,
    KEY_OVERHEAD,
    KEY_SEED,
    KEY_THREADS,
    KEY_LABEL,
    KEY_NO_PREFIX,
    KEY_OPEN,
    KEY_VALIDATE,
    KEY_AGAINST
};

static const struct argp_option options[] = {
    {"requests", KEY_REQUESTS, "FILE", 0, "Request trace, plain or .gz (`adamas trace import --help` lists the formats)", 1},
    {"generate", KEY_GENERATE, "WORDS", 0,
     "Or generated, by words with commas between: rate=2 pattern=gamma cv=2 duration=600 input_tokens=4000 output_tokens=300 "
     "(docs/serving.md has all)",
     1},
    {"rate", KEY_RATE, "X", 0, "Arrivals X times as fast (default 1)", 1},
    {"limit", KEY_LIMIT, "N", 0, "Only the first N requests", 1},
    {"open-loop", KEY_OPEN, NULL, 0, "Requests that follow another come when they came in the trace", 1},
    {"model", KEY_MODEL, "NAME|FILE", 0, "A known shape, or a model's config.json", 2},
    {"budgets", 'b', "LIST", 0, "Tokens to attend to, each beside dense attention (default 256,1024)", 2},
    {"dense-layers", KEY_DENSE, "N", 0, "First layers that attend densely (default 2)", 2},
    {"layer-budgets", KEY_LAYERS, "LIST", 0, "Also a budget per layer: 0-1:dense,2-15:1024,16-31:256; may be repeated", 2},
    {"variant", KEY_VARIANT, "NAME", 0, "Variant of the step: fused, six, grouped (default: the fastest)", 2},
    {"calibration", KEY_CALIBRATION, "RUN", 0,
     "Profile whose timings are the anchors: a run's number, label or last (default " ADM_DEFAULT_CALIBRATION
     ", which ships with the "
     "program)",
     3},
    {"gpu", KEY_GPU, "WORDS", 0,
     "Another GPU, by words with commas between: name=X bandwidth=GB/s memory=GB flops=TFLOP/s copy=GB/s; what is left out "
     "stays as it is",
     3},
    {"compute-share", KEY_COMPUTE, "X", 0, "Share of the peak that matrix products reach, an assumption (default 0.6)", 3},
    {"overhead", KEY_OVERHEAD, "US", 0, "Microseconds of each step outside the GPU's work (default 0)", 3},
    {"max-batch", KEY_BATCH, "N", 0, "Sequences that run at once (default 256)", 4},
    {"max-tokens", KEY_TOKENS, "N", 0, "Tokens of one step (default 8192)", 4},
    {"chunk", KEY_CHUNK, "N", 0, "Tokens of one prompt in a step (default: --max-tokens)", 4},
    {"memory", KEY_MEMORY, "HOW", 0, "paged, contiguous or both (default paged)", 4},
    {"page-size", KEY_PAGE, "N", 0, "Tokens of a page (default 16)", 4},
    {"memory-share", KEY_SHARE, "X", 0, "Share of the GPU's memory that the engine uses (default 0.9)", 4},
    {"no-prefix-cache", KEY_NO_PREFIX, NULL, 0, "Share no prefixes, even where the trace knows them", 4},
    {"ttft", KEY_TTFT, "MS", 0, "Target for goodput: time to the first token (default 2000)", 5},
    {"tpot", KEY_TPOT, "MS", 0, "Target for goodput: time per token after it (default 50)", 5},
    {"quality", KEY_QUALITY, "RUN", 0, "Replay whose output error goes with the budgets (default: the latest)", 5},
    {"validate", KEY_VALIDATE, NULL, 0, "Instead: predict timings of the calibration that are held out, and show the errors",
     6},
    {"against", KEY_AGAINST, "RUN", 0, "With --validate: also predict another GPU's profile from its read limit", 6},
    {"label", KEY_LABEL, "TEXT", 0, "Label of the run", 6},
    {"seed", KEY_SEED, "N", 0, "Seed of what is generated or sampled (default 1)", 6},
    {"threads", KEY_THREADS, "N", 0, "Threads; the figures do not depend on it (default: all processors)", 6},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    adm_simulate_command *c = state->input;
    const struct {
        int key;
        const char **text;
    } texts[] = {{KEY_REQUESTS, &c->requests_path},
                 {KEY_GENERATE, &c->generate},
                 {KEY_MODEL, &c->model_name},
                 {KEY_CALIBRATION, &c->calibration},
                 {'b', &c->budgets},
                 {KEY_DENSE, &c->dense_layers},
                 {KEY_VARIANT, &c->variant},
                 {KEY_MEMORY, &c->memory},
                 {KEY_GPU, &c->gpu},
                 {KEY_QUALITY, &c->quality},
                 {KEY_RATE, &c->rate},
                 {KEY_LIMIT, &c->limit},
                 {KEY_BATCH, &c->max_batch},
                 {KEY_TOKENS, &c->max_tokens},
                 {KEY_CHUNK, &c->chunk},
                 {KEY_PAGE, &c->page},
                 {KEY_TTFT, &c->ttft},
                 {KEY_TPOT, &c->tpot},
                 {KEY_COMPUTE, &c->compute_share},
                 {KEY_SHARE, &c->memory_share},
                 {KEY_OVERHEAD, &c->overhead},
                 {KEY_SEED, &c->seed},
                 {KEY_THREADS, &c->threads},
                 {KEY_LABEL, &c->label},
                 {KEY_AGAINST, &c->against}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].key == key) {
            *texts[i].text = arg;
            return 0;
        }
    switch (key) {
    case ARGP_KEY_INIT: return adm_give_inputs(state, 3, (void *[]){&c->fleet, &c->common, &c->common});
    case KEY_NO_PREFIX: c->no_prefix = true; return 0;
    case KEY_OPEN: c->open_loop = true; return 0;
    case KEY_VALIDATE: c->validate = true; return 0;
    case KEY_LAYERS:
        if (c->n_layer_plans == ADM_SIMULATE_MAX_LAYER_PLANS)
            argp_error(state, "--layer-budgets: at most %d of them", ADM_SIMULATE_MAX_LAYER_PLANS);
        else c->layer_plans[c->n_layer_plans++] = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "simulate takes no argument, and '%s' was given; the trace goes with --requests", arg);
        return 0;
    case ARGP_KEY_END:
        if (c->against != NULL && !c->validate) argp_error(state, "--against goes with --validate");
        if (c->validate) return 0;
        if ((c->requests_path == NULL) == (c->generate == NULL)) argp_error(state, "give --requests FILE or --generate WORDS");
        if (c->model_name == NULL) argp_error(state, "give --model NAME");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {
    {&adm_argp_shard_and_dry_run, 0, NULL, 0}, {&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
const struct argp adm_simulate_argp = {
    .options = options,
    .parser = parse,
    .children = children,
    .doc = "Replays request traffic through a simulated serving engine: latency, throughput, goodput and memory of dense "
           "attention and of each budget, on times from a profile's measurements.\v"
           "Each time is a measurement, lies between measurements, or holds the share of the read limit that the nearest ones "
           "reached; the output and the table `prediction` say which. Matrix products come from their bytes and arithmetic "
           "until `adamas decode` has measured them."};

/* --- Values -------------------------------------------------------------------------------------------------------- */

adm_status adm_simulate_parse_engine(adm_simulate_command *c, adm_error *err) {
    adm_engine *e = &c->setup.engine;
    double ttft, tpot, overhead;
    adm_status status = adm_option_u32("--max-batch", c->max_batch, 1, 2048, 256, &e->max_batch, err);
    if (status == ADM_OK) status = adm_option_u32("--max-tokens", c->max_tokens, 1, 1 << 24, 8192, &e->max_tokens, err);
    if (status == ADM_OK) status = adm_option_u32("--chunk", c->chunk, 1, 1 << 24, e->max_tokens, &e->chunk_tokens, err);
    if (status == ADM_OK) status = adm_option_u32("--page-size", c->page, 1, 1024, 16, &e->page_tokens, err);
    if (status == ADM_OK) status = adm_option_real("--rate", c->rate, "a number", 1e-6, 1e6, 1, &e->arrival_scale, err);
    if (status == ADM_OK) status = adm_option_real("--ttft", c->ttft, "a number", 0, 1e9, 2000, &ttft, err);
    if (status == ADM_OK) status = adm_option_real("--tpot", c->tpot, "a number", 0, 1e9, 50, &tpot, err);
    if (status == ADM_OK)
        status = adm_option_real("--compute-share", c->compute_share, "a number", 0.01, 1, 0.6, &c->setup.compute_share, err);
    if (status == ADM_OK)
        status = adm_option_real("--memory-share", c->memory_share, "a number", 0.01, 1, 0.9, &c->setup.memory_share, err);
    if (status == ADM_OK) status = adm_option_real("--overhead", c->overhead, "a number", 0, 1e9, 0, &overhead, err);
    if (status == ADM_OK && c->seed != NULL) status = adm_parse_u64("--seed", c->seed, 0, INT64_MAX, &c->seed_number, err);
    uint32_t n_threads = (uint32_t)adm_threads_available();
    if (status == ADM_OK) status = adm_option_u32("--threads", c->threads, 1, ADM_MAX_THREADS, n_threads, &n_threads, err);
    const adm_idle_option idle = {c->no_prefix && c->memory != NULL && strcmp(c->memory, "contiguous") == 0,
                                  "--no-prefix-cache", "with --memory contiguous, which shares no prefixes"};
    if (status == ADM_OK) status = adm_refuse_idle(&idle, 1, err);
    if (status != ADM_OK) return status;
    e->share_prefixes = !c->no_prefix;
    e->open_loop = c->open_loop;
    c->n_threads = n_threads;
    c->setup.variant = c->variant;
    c->setup.target = (adm_target_latency){(uint64_t)(ttft * 1e6), (uint64_t)(tpot * 1e6)};
    c->setup.overhead_ns = (uint64_t)(overhead * 1e3);
    return ADM_OK;
}

adm_status adm_simulate_parse_gpu(adm_simulate_command *c, adm_error *err) {
    adm_cost_device *d = &c->cost.device;
    const struct {
        const char *name;
        double unit, *value;
    } words[] = {{"bandwidth", 1e9, &d->read_bytes_per_s},
                 {"memory", 1e9, &d->memory_bytes},
                 {"flops", 1e12, &d->flops_per_s},
                 {"copy", 1e9, &d->copy_bytes_per_s}};
    static const char *const names[] = {"name", "bandwidth", "memory", "flops", "copy"};
    char word[96], meant[ADM_DID_YOU_MEAN_BYTES];
    for (const char *text = c->gpu; text != NULL && *text != '\0';) {
        const size_t n = strcspn(text, ",");
        snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), text);
        text += n + (text[n] == ',');
        char *equals = strchr(word, '=');
        size_t i = 0;
        if (equals != NULL) *equals++ = '\0';
        if (equals != NULL && strcmp(word, "name") == 0) {
            adm_printable(equals, d->name, sizeof d->name);
            continue;
        }
        while (equals != NULL && i < 4 && strcmp(word, words[i].name) != 0) i++;
        if (equals == NULL || i == 4)
            return adm_fail(err, ADM_EINPUT, "--gpu: '%s' is none of name=X, bandwidth=X, memory=X, flops=X, copy=X%s", word,
                            adm_did_you_mean(word, names, sizeof names / sizeof *names, meant));
        double value;
        adm_status status = adm_option_real("--gpu", equals, "a number", 1e-3, 1e9, 0, &value, err);
        if (status != ADM_OK) return status;
        *words[i].value = value * words[i].unit;
        if (strstr(d->name, "what-if") == NULL && strcmp(d->name, c->cost.measured.name) == 0)
            snprintf(d->name, sizeof d->name, "what-if of %.80s", c->cost.measured.name);
    }
    return ADM_OK;
}

/* --- Cases ---------------------------------------------------------------------------------------------------------- */

static adm_status add_case(adm_simulate_command *c, const adm_plan *plan, adm_error *err) {
    static const char *const names[] = {"paged", "contiguous", "both"};
    size_t how = 0;
    const adm_status status = adm_parse_word("--memory", c->memory, names, 3, &how, err);
    if (status != ADM_OK) return status;
    for (int contiguous = 0; contiguous < 2; contiguous++) {
        if (how != 2 && contiguous != (int)how) continue;
        if (c->n_cases == ADM_SIMULATE_MAX_CASES)
            return adm_fail(err, ADM_EINPUT, "--budgets: more than %d cases", ADM_SIMULATE_MAX_CASES);
        c->cases[c->n_cases++] = (adm_case){.plan = *plan, .contiguous = contiguous};
    }
    return ADM_OK;
}

adm_status adm_simulate_make_cases(adm_simulate_command *c, adm_error *err) {
    uint32_t *budgets = NULL, n_dense;
    size_t n = 0;
    adm_plan plan;
    adm_status status = adm_parse_u32_list("--budgets", c->budgets != NULL ? c->budgets : "256,1024", 1, 1 << 24, &budgets, &n,
                                           err);
    if (status == ADM_OK) status = adm_option_u32("--dense-layers", c->dense_layers, 0, 65535, ADM_DENSE_LAYERS, &n_dense, err);
    if (status == ADM_OK) {
        adm_plan_uniform(&c->model, 0, 0, &plan);
        status = add_case(c, &plan, err);
    }
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        adm_plan_uniform(&c->model, budgets[i], n_dense, &plan);
        status = add_case(c, &plan, err);
    }
    for (size_t i = 0; i < c->n_layer_plans && status == ADM_OK; i++) {
        status = adm_plan_parse(&c->model, c->layer_plans[i], &plan, err);
        if (status == ADM_OK) status = add_case(c, &plan, err);
    }
    adm_free(&budgets);
    return status;
}
