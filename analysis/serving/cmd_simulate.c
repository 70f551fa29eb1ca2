/* cmd_simulate.c: `adamas simulate`: wires request traces, the cost model, the simulator and the store. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "analysis/cost/load.h"
#include "analysis/db/recorded_import.h"
#include "analysis/output/rows.h"
#include "analysis/serving/model_file.h"
#include "analysis/serving/print.h"
#include "analysis/serving/record.h"
#include "analysis/serving/validate_show.h"
#include "analysis/serving/whole.h"
#include "core/base/embedded.h"
#include "core/base/json_text.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/system/threads.h"
#include "core/cli/command.h"
#include "core/fleet/fleet.h"
#include "core/store/hostinfo.h"
#include "traces/requests/requests.h"

#define DEFAULT_CALIBRATION "recorded:h200"
#define EMBEDDED_CALIBRATION "analysis/recorded/h200.json"
#define DEFAULT_WHOLE "recorded:h200-decode"
#define EMBEDDED_WHOLE "analysis/recorded/h200-decode.json"

enum { MAX_CASES = 64, MAX_LAYER_PLANS = 8 };

typedef struct simulate_command {
    adm_common common;
    adm_fleet fleet; /* --shard, --dry-run */
    uint32_t part[MAX_CASES]; /* the shard of each case before the others are left out */
    const char *requests_path, *generate, *model_name, *calibration, *budgets, *dense_layers, *variant, *memory, *gpu, *quality;
    const char *rate, *limit, *max_batch, *max_tokens, *chunk, *page, *ttft, *tpot, *compute_share, *memory_share, *overhead,
        *seed;
    const char *threads, *label;
    const char *layer_plans[MAX_LAYER_PLANS];
    size_t n_layer_plans;
    const char *against;
    bool no_prefix, open_loop, validate;
    char *argv_json;

    adm_store *store;
    adm_cost cost;
    adm_model model;
    adm_requests *requests;
    adm_requests_source source;
    adm_setup setup;
    adm_case cases[MAX_CASES];
    adm_progress progress;
    adm_case_quality case_quality[MAX_CASES];
    size_t n_cases;
    adm_quality_source quality_source;
    uint64_t seed_number;
    size_t n_threads;
} simulate_command;

/* --- Command line --------------------------------------------------------------------------------------------------- */

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
     "Profile whose timings are the anchors: a run's number or label (default " DEFAULT_CALIBRATION ", which ships with the "
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
    simulate_command *c = state->input;
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
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &c->fleet;
        state->child_inputs[1] = state->child_inputs[2] = &c->common;
        return 0;
    case KEY_NO_PREFIX: c->no_prefix = true; return 0;
    case KEY_OPEN: c->open_loop = true; return 0;
    case KEY_VALIDATE: c->validate = true; return 0;
    case KEY_LAYERS:
        if (c->n_layer_plans == MAX_LAYER_PLANS) argp_error(state, "--layer-budgets: at most %d of them", MAX_LAYER_PLANS);
        else c->layer_plans[c->n_layer_plans++] = arg;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "simulate takes no argument, and '%s' was given; the trace goes with --requests", arg);
        return 0;
    case ARGP_KEY_END:
        if (c->against != NULL && !c->validate) argp_error(state, "--against goes with --validate");
        if (c->validate && (c->fleet.shard_text != NULL || c->fleet.dry_run))
            argp_error(state, "--validate has no cases to share: leave out --shard and --dry-run");
        if (c->validate) return 0;
        if ((c->requests_path == NULL) == (c->generate == NULL)) argp_error(state, "give --requests FILE or --generate WORDS");
        if (c->model_name == NULL) argp_error(state, "give --model NAME");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static adm_status real_option(const char *name, const char *text, double otherwise, double min, double max, double *value,
                              adm_error *err) {
    char *end, shown[64];
    *value = otherwise;
    if (text == NULL) return ADM_OK;
    *value = strtod(text, &end);
    if (end != text && *end == '\0' && *value >= min && *value <= max) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "%s: '%s' is not a number from %g to %g", name, adm_printable(text, shown, sizeof shown),
                    min, max);
}

static adm_status u32_option(const char *name, const char *text, uint32_t otherwise, uint32_t min, uint32_t max,
                             uint32_t *value, adm_error *err) {
    uint64_t number = otherwise;
    adm_status status = text != NULL ? adm_parse_u64(name, text, min, max, &number, err) : ADM_OK;
    *value = (uint32_t)number;
    return status;
}

static adm_status parse_engine(simulate_command *c, adm_error *err) {
    adm_engine *e = &c->setup.engine;
    double ttft, tpot, overhead;
    adm_status status = u32_option("--max-batch", c->max_batch, 256, 1, 2048, &e->max_batch, err);
    if (status == ADM_OK) status = u32_option("--max-tokens", c->max_tokens, 8192, 1, 1 << 24, &e->max_tokens, err);
    if (status == ADM_OK) status = u32_option("--chunk", c->chunk, e->max_tokens, 1, 1 << 24, &e->chunk_tokens, err);
    if (status == ADM_OK) status = u32_option("--page-size", c->page, 16, 1, 1024, &e->page_tokens, err);
    if (status == ADM_OK) status = real_option("--rate", c->rate, 1, 1e-6, 1e6, &e->arrival_scale, err);
    if (status == ADM_OK) status = real_option("--ttft", c->ttft, 2000, 0, 1e9, &ttft, err);
    if (status == ADM_OK) status = real_option("--tpot", c->tpot, 50, 0, 1e9, &tpot, err);
    if (status == ADM_OK) status = real_option("--compute-share", c->compute_share, 0.6, 0.01, 1, &c->setup.compute_share, err);
    if (status == ADM_OK) status = real_option("--memory-share", c->memory_share, 0.9, 0.01, 1, &c->setup.memory_share, err);
    if (status == ADM_OK) status = real_option("--overhead", c->overhead, 0, 0, 1e9, &overhead, err);
    if (status == ADM_OK && c->seed != NULL) status = adm_parse_u64("--seed", c->seed, 0, INT64_MAX, &c->seed_number, err);
    uint32_t n_threads = (uint32_t)adm_threads_available();
    if (status == ADM_OK) status = u32_option("--threads", c->threads, n_threads, 1, ADM_MAX_THREADS, &n_threads, err);
    if (status != ADM_OK) return status;
    e->share_prefixes = !c->no_prefix;
    e->open_loop = c->open_loop;
    c->n_threads = n_threads;
    c->setup.variant = c->variant;
    c->setup.target = (adm_target_latency){(uint64_t)(ttft * 1e6), (uint64_t)(tpot * 1e6)};
    c->setup.overhead_ns = (uint64_t)(overhead * 1e3);
    return ADM_OK;
}

static adm_status parse_gpu(simulate_command *c, adm_error *err) {
    adm_cost_device *d = &c->cost.device;
    const struct {
        const char *name;
        double unit, *value;
    } words[] = {{"bandwidth", 1e9, &d->read_bytes_per_s},
                 {"memory", 1e9, &d->memory_bytes},
                 {"flops", 1e12, &d->flops_per_s},
                 {"copy", 1e9, &d->copy_bytes_per_s}};
    char word[96];
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
            return adm_fail(err, ADM_EINPUT, "--gpu: '%s' is none of name=, bandwidth=, memory=, flops=, copy=", word);
        double value;
        adm_status status = real_option("--gpu", equals, 0, 1e-3, 1e9, &value, err);
        if (status != ADM_OK) return status;
        *words[i].value = value * words[i].unit;
        if (strstr(d->name, "what-if") == NULL && strcmp(d->name, c->cost.measured.name) == 0)
            snprintf(d->name, sizeof d->name, "what-if of %.80s", c->cost.measured.name);
    }
    return ADM_OK;
}

/* --- Cases ---------------------------------------------------------------------------------------------------------- */

static adm_status add_case(simulate_command *c, const adm_plan *plan, adm_error *err) {
    static const char *const names[] = {"paged", "contiguous", "both"};
    size_t how = 0;
    while (c->memory != NULL && how < 3 && strcmp(c->memory, names[how]) != 0) how++;
    if (how == 3) return adm_fail(err, ADM_EINPUT, "--memory: '%s' is none of paged, contiguous, both", c->memory);
    for (int contiguous = 0; contiguous < 2; contiguous++) {
        if (how != 2 && contiguous != (int)how) continue;
        if (c->n_cases == MAX_CASES) return adm_fail(err, ADM_EINPUT, "--budgets: more than %d cases", MAX_CASES);
        c->cases[c->n_cases++] = (adm_case){.plan = *plan, .contiguous = contiguous};
    }
    return ADM_OK;
}

static adm_status make_cases(simulate_command *c, adm_error *err) {
    uint32_t *budgets = NULL, n_dense;
    size_t n = 0;
    adm_plan plan;
    adm_status status = adm_parse_u32_list("--budgets", c->budgets != NULL ? c->budgets : "256,1024", 1, 1 << 24, &budgets, &n,
                                           err);
    if (status == ADM_OK) status = u32_option("--dense-layers", c->dense_layers, ADM_DENSE_LAYERS, 0, 65535, &n_dense, err);
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

/* --- Shards --------------------------------------------------------------------------------------------------------- */

/* Every case serves the same requests, so that they take about the same: a step costs what it costs to look its time up. */
static adm_status divide(simulate_command *c, adm_error *err) {
    adm_shard_item item[MAX_CASES];
    const adm_shard shard = c->fleet.shard;
    for (size_t i = 0; i < c->n_cases; i++) item[i] = (adm_shard_item){1, i};
    adm_status status = adm_shard_split(item, c->n_cases, NULL, shard.count > 0 ? shard.count : 1, c->part, NULL, err);
    if (status == ADM_OK && shard.count > 0) adm_fleet_add_parts(&c->fleet, c->part, c->n_cases);
    return status;
}

static void print_cases(const simulate_command *c) {
    const adm_shard shard = c->fleet.shard;
    char name[32];
    for (size_t i = 0; i < c->n_cases; i++) {
        if (shard.count > 0) adm_print("%c%5u  ", c->part[i] == shard.index ? '*' : ' ', c->part[i]);
        adm_print("%-9s %s\n", adm_case_name(&c->cases[i], name), c->cases[i].contiguous ? "contiguous" : "paged");
    }
    if (shard.count > 0) adm_print("shard %u of %u has the cases with *\n", shard.index, shard.count);
}

/* Leaves the cases of this shard. */
static void keep_ours(simulate_command *c) {
    size_t n = 0;
    for (size_t i = 0; c->fleet.shard.count > 0 && i < c->n_cases; i++)
        if (c->part[i] == c->fleet.shard.index) c->cases[n++] = c->cases[i];
    if (c->fleet.shard.count > 0) c->n_cases = n;
}

/* What the figures come from, as part of what the sweep is. */
static adm_status add_inputs(simulate_command *c, adm_error *err) {
    adm_fleet_add_input(&c->fleet, c->cost.run_uuid);
    adm_fleet_add_input(&c->fleet, c->quality_source.run_uuid);
    adm_status status = adm_fleet_add_file(&c->fleet, c->requests_path, err);
    return status == ADM_OK && access(c->model_name, R_OK) == 0 ? adm_fleet_add_file(&c->fleet, c->model_name, err) : status;
}

/* --- What goes in --------------------------------------------------------------------------------------------------- */

/* A run by number, or the latest complete one with a label. 0: none has it. */
static adm_status find_run(simulate_command *c, const char *option, const char *named, int64_t *run_id, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    *run_id = 0;
    if (named[0] >= '0' && named[0] <= '9') {
        uint64_t number = 0;
        adm_status parsed = adm_parse_u64(option, named, 1, INT64_MAX, &number, err);
        *run_id = (int64_t)number;
        return parsed;
    }
    adm_status status =
        adm_query_open(c->store,
                       "SELECT run_id FROM run WHERE label = ? AND status = 'complete' ORDER BY started_utc DESC, "
                       "run_id DESC LIMIT 1",
                       &query, err, "s", named);
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    if (status == ADM_OK && there) *run_id = adm_query_int(query, 0);
    adm_query_close(&query);
    return status;
}

/* Puts a file that ships with the program into the database: the runs of it that are not there. */
static adm_status import_embedded(simulate_command *c, const char *name, adm_error *err) {
    const adm_embedded_file *file = adm_embedded(name);
    adm_recorded_run *runs = NULL;
    size_t n = 0;
    char path[40];
    const int fd = memfd_create("calibration", MFD_CLOEXEC);
    if (fd < 0 || write(fd, file->data, file->n_bytes) != (ssize_t)file->n_bytes) {
        if (fd >= 0) close(fd);
        return adm_fail(err, ADM_EENVIRONMENT, "the recorded calibration of %zu bytes cannot be unpacked into memory",
                        file->n_bytes);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    adm_status status = adm_recorded_import(c->store, path, &runs, &n, err);
    if (status == ADM_OK) status = adm_store_flush(c->store, err);
    adm_free(&runs);
    close(fd);
    return status;
}

/* The profile, and decode steps of whole models on the same GPU, as far as the database lacks them. */
static adm_status import_default(simulate_command *c, adm_error *err) {
    static const char *const shipped[][2] = {{DEFAULT_CALIBRATION, EMBEDDED_CALIBRATION}, {DEFAULT_WHOLE, EMBEDDED_WHOLE}};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < sizeof shipped / sizeof shipped[0] && status == ADM_OK; i++) {
        int64_t run_id;
        status = find_run(c, "--calibration", shipped[i][0], &run_id, err);
        if (status == ADM_OK && run_id == 0) status = import_embedded(c, shipped[i][1], err);
    }
    return status;
}

static adm_status load_calibration(simulate_command *c, adm_error *err) {
    const char *named = c->calibration != NULL ? c->calibration : DEFAULT_CALIBRATION;
    int64_t run_id;
    char shown[96];
    adm_status status = strcmp(named, DEFAULT_CALIBRATION) == 0 ? import_default(c, err) : ADM_OK;
    if (status == ADM_OK) status = find_run(c, "--calibration", named, &run_id, err);
    if (status == ADM_OK && run_id == 0)
        return adm_fail(err, ADM_EINPUT,
                        "--calibration: no complete run has the label '%s'; `adamas db list` shows what there is",
                        adm_printable(named, shown, sizeof shown));
    return status == ADM_OK ? adm_cost_load(c->store, run_id, &c->cost, err) : status;
}

static adm_status load_requests(simulate_command *c, adm_error *err) {
    uint64_t limit = 0;
    adm_status status = c->limit != NULL ? adm_parse_u64("--limit", c->limit, 1, ADM_REQUESTS_MAX, &limit, err) : ADM_OK;
    if (status == ADM_OK && c->requests_path != NULL)
        status = adm_requests_read(c->requests_path, c->seed_number, &c->requests, &c->source, err);
    else if (status == ADM_OK) status = adm_requests_generate(c->generate, c->seed_number, &c->requests, err);
    if (status != ADM_OK || limit == 0 || limit >= c->requests->n) return status;
    c->requests->n = limit; /* a parent that comes later is none then */
    for (size_t i = 0; i < limit; i++)
        if (c->requests->request[i].parent >= (int64_t)limit) c->requests->request[i].parent = -1;
    return ADM_OK;
}

static adm_status load_quality(simulate_command *c, adm_error *err) {
    int64_t run_id = 0;
    adm_status status = c->quality != NULL ? find_run(c, "--quality", c->quality, &run_id, err) : ADM_OK;
    if (status == ADM_OK && c->quality != NULL && run_id == 0)
        status = adm_fail(err, ADM_EINPUT, "--quality: no complete run has that label; `adamas db list` shows what there is");
    return status == ADM_OK ? adm_quality_source_find(c->store, run_id, &c->quality_source, err) : status;
}

/* --- What comes out ------------------------------------------------------------------------------------------------- */

static adm_status settings_json(const simulate_command *c, char **text, adm_error *err) {
    const adm_engine *e = &c->setup.engine;
    json_t *settings = json_pack(
        "{s:i, s:i, s:i, s:i, s:b, s:b, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "max_batch", (int)e->max_batch,
        "max_tokens", (int)e->max_tokens, "chunk_tokens", (int)e->chunk_tokens, "page_tokens", (int)e->page_tokens,
        "share_prefixes", e->share_prefixes, "open_loop", e->open_loop, "arrival_scale", e->arrival_scale, "compute_share",
        c->setup.compute_share, "memory_share", c->setup.memory_share, "overhead_ns", (json_int_t)c->setup.overhead_ns,
        "target_ttft_ns", (json_int_t)c->setup.target.ttft_ns, "target_tpot_ns", (json_int_t)c->setup.target.tpot_ns,
        "read_bytes_per_s", c->cost.device.read_bytes_per_s, "flops_per_s", c->cost.device.flops_per_s, "memory_bytes",
        c->cost.device.memory_bytes, "copy_bytes_per_s", c->cost.device.copy_bytes_per_s);
    adm_status status = adm_json_text(settings, JSON_COMPACT, "a simulation's settings", text, err);
    json_decref(settings);
    return status;
}

static const char *trace_name(const simulate_command *c, char out[128]) {
    const char *path = c->requests_path != NULL ? c->requests_path : c->generate, *slash = strrchr(path, '/');
    return adm_printable(c->requests_path != NULL && slash != NULL ? slash + 1 : path, out, 128);
}

static adm_status record_cases(simulate_command *c, int64_t run_id, adm_error *err) {
    char name[128], *settings = NULL;
    adm_status status = settings_json(c, &settings, err);
    for (size_t i = 0; i < c->n_cases && status == ADM_OK; i++) {
        const adm_case *k = &c->cases[i];
        const adm_simulation_row row = {.run_id = run_id,
                                        .calibration_uuid = c->cost.run_uuid,
                                        .model = c->model.name,
                                        .gpu = c->cost.device.name,
                                        .trace = trace_name(c, name),
                                        .trace_xxh128 = c->source.xxh128,
                                        .n_requests = c->requests->n,
                                        .plan = &k->plan,
                                        .variant = adm_step_time_variants(k->time),
                                        .memory = k->contiguous ? "contiguous" : "paged",
                                        .settings = settings,
                                        .quality = &c->quality_source};
        status = adm_simulation_record(c->store, &row, &k->outcome, k->time, err);
    }
    adm_free(&settings);
    return status;
}

static adm_status begin_run(simulate_command *c, adm_fleet_run *run, adm_error *err) {
    adm_host_info host;
    adm_host_info_read(&host);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = "simulate",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)c->seed_number,
                         .gpu_reason = "a simulation runs on the host"};
    adm_run_info_host(&info, &host);
    return adm_fleet_begin(&c->fleet, c->store, &info, run, err);
}

static adm_status end_run(simulate_command *c, const adm_fleet_run *run, adm_status status, adm_error *err) {
    adm_status ended = adm_fleet_end(&c->fleet, c->store, run, status == ADM_OK ? "complete" : "failed",
                                     status == ADM_OK ? NULL : err->text, status == ADM_OK ? err : NULL);
    return status != ADM_OK ? status : ended;
}

/* The run's row is written once all figures are there: an interrupted simulation leaves none. */
static adm_status record(simulate_command *c, adm_error *err) {
    adm_fleet_run run;
    adm_status status = begin_run(c, &run, err);
    return status == ADM_OK ? end_run(c, &run, record_cases(c, run.run_id, err), err) : status;
}

static adm_status show(simulate_command *c, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; i < c->n_cases && status == ADM_OK; i++)
        status = adm_quality_source_value(c->store, &c->quality_source, c->cases[i].plan.budget, "output_rel_l2",
                                          &c->case_quality[i].found, &c->case_quality[i].output_rel_l2, err);
    if (status != ADM_OK) return status;
    if (c->common.json)
        status = adm_print_json(adm_cases_json(&c->setup, c->cases, c->n_cases, &c->quality_source, c->case_quality), err);
    else if (!c->common.quiet) adm_cases_print(&c->setup, c->cases, c->n_cases, &c->quality_source, c->case_quality);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

static void on_case(void *user) {
    static pthread_mutex_t drawing = PTHREAD_MUTEX_INITIALIZER;
    simulate_command *c = user;
    pthread_mutex_lock(&drawing);
    adm_progress_step(&c->progress, c->progress.n_done + 1);
    pthread_mutex_unlock(&drawing);
}

static adm_status simulate(simulate_command *c, adm_error *err) {
    adm_status status = parse_engine(c, err);
    if (status == ADM_OK) status = adm_model_read(c->model_name, &c->model, err);
    if (status == ADM_OK) status = make_cases(c, err);
    if (status == ADM_OK) status = divide(c, err);
    if (status == ADM_OK && c->fleet.dry_run) {
        print_cases(c);
        return adm_finish_output(err);
    }
    keep_ours(c);
    if (status == ADM_OK) status = load_requests(c, err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &c->store, err);
    if (status == ADM_OK) status = load_calibration(c, err);
    if (status == ADM_OK) status = parse_gpu(c, err);
    if (status == ADM_OK) status = load_quality(c, err);
    if (status == ADM_OK) status = add_inputs(c, err);
    c->setup.cost = &c->cost;
    c->setup.model = &c->model;
    c->setup.requests = c->requests;
    /* Activations of a step's tokens: a few vectors of each layer's widest matrix are alive at once. */
    c->setup.workspace_bytes = (double)c->setup.engine.max_tokens * (4.0 * c->model.hidden + 2.0 * c->model.intermediate) * 2;
    c->setup.on_case = on_case;
    c->setup.user = c;
    adm_progress_start(&c->progress, "simulate", c->n_cases, c->common.quiet);
    if (status == ADM_OK) status = adm_cases_run(&c->setup, c->cases, c->n_cases, c->n_threads, adm_interrupted, err);
    adm_progress_end(&c->progress);
    if (status == ADM_OK) status = record(c, err);
    return status == ADM_OK ? show(c, err) : status;
}

/* --- Validation ----------------------------------------------------------------------------------------------------- */

static adm_status load_other(simulate_command *c, adm_cost *other, adm_error *err) {
    int64_t run_id;
    adm_status status = find_run(c, "--against", c->against, &run_id, err);
    if (status == ADM_OK && run_id == 0)
        return adm_fail(err, ADM_EINPUT, "--against: no complete run has that label; `adamas db list` shows what there is");
    return status == ADM_OK ? adm_cost_load(c->store, run_id, other, err) : status;
}

static adm_status validate(simulate_command *c, adm_error *err) {
    adm_validation v = {0};
    adm_cost other = {0};
    adm_whole_row *whole = NULL;
    size_t n_whole = 0;
    adm_fleet_run run;
    adm_status status = parse_engine(c, err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &c->store, err);
    if (status == ADM_OK) status = load_calibration(c, err);
    if (status == ADM_OK && c->against != NULL) status = load_other(c, &other, err);
    const adm_cost *against = c->against != NULL ? &other : NULL;
    if (status == ADM_OK) status = adm_validate(&c->cost, against, c->seed_number, &v, err);
    if (status == ADM_OK) status = adm_whole_compare(&c->cost, c->setup.compute_share, &whole, &n_whole, err);
    if (status == ADM_OK) status = begin_run(c, &run, err);
    if (status == ADM_OK) {
        adm_status recorded = adm_validation_record(c->store, run.run_id, &c->cost, &v, err);
        if (recorded == ADM_OK) recorded = adm_whole_record(c->store, run.run_id, &c->cost, whole, n_whole, err);
        status = end_run(c, &run, recorded, err);
    }
    if (status == ADM_OK && c->common.json) {
        json_t *document = adm_validation_json(&c->cost, against, &v);
        if (document != NULL) json_object_set_new(document, "whole_models", adm_whole_json(whole, n_whole));
        status = adm_print_json(document, err);
    } else if (status == ADM_OK && !c->common.quiet) {
        adm_validation_print(&c->cost, against, &v);
        adm_whole_print(whole, n_whole);
    }
    if (status == ADM_OK) status = adm_finish_output(err);
    adm_validation_free(&v);
    adm_free(&whole);
    adm_cost_free(&other);
    return status;
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {
        {&adm_argp_shard_and_dry_run, 0, NULL, 0}, {&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .doc =
            "Replays request traffic through a simulated serving engine: latency, throughput, goodput and memory of dense "
            "attention and of each budget, on times from a profile's measurements.\v"
            "Each time is a measurement, lies between measurements, or holds the share of the read limit that the nearest ones "
            "reached; the output and the table `prediction` say which. Matrix products come from their bytes and arithmetic "
            "until `adamas decode` has measured them."};
    static simulate_command c;
    c = (simulate_command){.common = ADM_COMMON_DEFAULTS, .seed_number = ADM_REQUESTS_SEED};
    adm_error err = {0};
    c.argv_json = adm_argv_json(argc, argv);
    adm_interrupt_ask();
    adm_argp_parse(&argp, argc, argv, &c);
    static const char *const apart[] = {NULL};
    adm_status status = c.argv_json == NULL ? adm_fail(&err, ADM_EENVIRONMENT, "out of memory") : ADM_OK;
    if (status == ADM_OK) status = adm_fleet_read(&c.fleet, "simulate", &argp, apart, argc, argv, &err);
    if (status == ADM_OK) status = c.validate ? validate(&c, &err) : simulate(&c, &err);
    adm_cases_free(c.cases, c.n_cases);
    adm_requests_free(&c.requests);
    adm_cost_free(&c.cost);
    adm_store_close(&c.store);
    adm_free(&c.argv_json);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_simulate = {"simulate", "serve request traffic on the cost model, per budget", run};
