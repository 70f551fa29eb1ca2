/* cmd_decode.c: `adamas decode`: decode steps of a whole transformer on a GPU. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/serving/model_file.h"
#include "core/base/mem.h"
#include "core/cli/command.h"
#include "core/system/hostinfo.h"
#include "core/system/interrupt.h"
#include "kernels/decode/print.h"
#include "kernels/decode/watch.h"
#include "kernels/decode/weights.h"
#include "kernels/profile/observe/probes.h"

typedef struct decode_command {
    adm_common common;
    const char *model, *seq_lens, *budgets, *batches, *page_size, *dense_layers, *variant, *linear, *weights_path, *seed,
        *label, *device, *cap_ms;
    bool dry_run, check_only, timeline;
    adm_decode_job job;
    adm_weights *weights;
    uint32_t *lists[3], device_number;
    adm_progress progress;
    char *argv_json;
} decode_command;

enum {
    KEY_MODEL = 0x6c00,
    KEY_SEQ_LENS,
    KEY_BATCH,
    KEY_PAGE_SIZE,
    KEY_DENSE,
    KEY_VARIANT,
    KEY_LINEAR,
    KEY_WEIGHTS,
    KEY_SEED,
    KEY_LABEL,
    KEY_DEVICE,
    KEY_CAP,
    KEY_TIMELINE,
    KEY_CHECK_ONLY,
    KEY_DRY_RUN
};

static const struct argp_option options[] = {
    {"model", KEY_MODEL, "NAME|FILE", 0, "A known shape, or a model's config.json", 1},
    {"seq-lens", KEY_SEQ_LENS, "LIST", 0, "Tokens in the cache (default 32768)", 1},
    {"budgets", 'b', "LIST", 0, "Tokens to attend to, each beside dense attention; 0: dense alone (default 256)", 1},
    {"batch", KEY_BATCH, "LIST", 0, "Sequences at once, 1 to 64 (default 1)", 1},
    {"page-size", KEY_PAGE_SIZE, "N", 0, "Tokens per page of K and V, 1 to 64; 0: contiguous (default 0)", 1},
    {"dense-layers", KEY_DENSE, "N", 0, "First layers that attend densely (default 2)", 2},
    {"variant", KEY_VARIANT, "NAME", 0, "Variant of the step: fused or grouped (default: the faster that takes the shape)", 2},
    {"linear", KEY_LINEAR, "WHO", 0,
     "Who multiplies matrices: own, cublas or auto, which is own up to a batch of 8 (default auto)", 2},
    {"weights", KEY_WEIGHTS, "FILE", 0,
     "Weights that traces/model/export_weights.py wrote, instead of random ones; its tokens are followed first", 2},
    {"cap-ms", KEY_CAP, "N", 0, "Time limit for the samples of one timing, 1 to 60000 (default 300)", 3},
    {"check-only", KEY_CHECK_ONLY, NULL, 0, "Compare with the host's reference; time nothing", 3},
    {"timeline", KEY_TIMELINE, NULL, 0, "Also trace one step: every kernel, by layer and part", 3},
    {"seed", KEY_SEED, "N", 0, "Seed of random weights and keys (default 1)", 3},
    {"device", KEY_DEVICE, "N", 0, "CUDA device (default 0)", 3},
    {"label", KEY_LABEL, "TEXT", 0, "A name for this run", 3},
    {"dry-run", KEY_DRY_RUN, NULL, 0, "Print memory and bytes; needs no GPU", 3},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    decode_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case KEY_MODEL: c->model = arg; return 0;
    case KEY_SEQ_LENS: c->seq_lens = arg; return 0;
    case 'b': c->budgets = arg; return 0;
    case KEY_BATCH: c->batches = arg; return 0;
    case KEY_PAGE_SIZE: c->page_size = arg; return 0;
    case KEY_DENSE: c->dense_layers = arg; return 0;
    case KEY_VARIANT: c->variant = arg; return 0;
    case KEY_LINEAR: c->linear = arg; return 0;
    case KEY_WEIGHTS: c->weights_path = arg; return 0;
    case KEY_SEED: c->seed = arg; return 0;
    case KEY_LABEL: c->label = arg; return 0;
    case KEY_DEVICE: c->device = arg; return 0;
    case KEY_CAP: c->cap_ms = arg; return 0;
    case KEY_TIMELINE: c->timeline = true; return 0;
    case KEY_CHECK_ONLY: c->check_only = true; return 0;
    case KEY_DRY_RUN: c->dry_run = true; return 0;
    case ARGP_KEY_ARG: argp_error(state, "decode takes no argument, and '%s' was given", arg); return 0;
    case ARGP_KEY_END:
        if (c->model == NULL) argp_error(state, "give --model NAME");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* --- Options -------------------------------------------------------------------------------------------------------- */

static adm_status parse_lists(decode_command *c, adm_error *err) {
    adm_decode_job *job = &c->job;
    adm_status status = adm_parse_u32_list("--seq-lens", c->seq_lens != NULL ? c->seq_lens : "32768", 1, 1 << 20, &c->lists[0],
                                           &job->n_seq_lens, err);
    if (status == ADM_OK)
        status = adm_parse_u32_list("--budgets", c->budgets != NULL ? c->budgets : "256", 0, 1 << 20, &c->lists[1],
                                    &job->n_budgets, err);
    if (status == ADM_OK)
        status = adm_parse_u32_list("--batch", c->batches != NULL ? c->batches : "1", 1, 64, &c->lists[2], &job->n_batches,
                                    err);
    if (status != ADM_OK) return status;
    job->seq_lens = c->lists[0];
    job->budgets = c->lists[1];
    job->batches = c->lists[2];
    if (job->budgets[0] > 0) return ADM_OK;
    job->budgets++; /* the dense step is there anyway */
    job->n_budgets--;
    return ADM_OK;
}

static adm_status parse_linear(decode_command *c, adm_error *err) {
    static const char *const names[] = {"auto", "cublas", "own"}; /* by adm_decode_linear */
    size_t i = 0;
    const adm_status status = adm_parse_word("--linear", c->linear, names, 3, &i, err);
    c->job.setup.linear = (adm_decode_linear)i;
    return status;
}

static adm_status parse_variant(const decode_command *c, adm_error *err) {
    static const char *const names[] = {"fused", "grouped"};
    size_t unused = 0;
    return adm_parse_word("--variant", c->variant, names, 2, &unused, err);
}

/* Says what was given and changes nothing. */
static void note_idle(const decode_command *c) {
    const bool dense = c->job.n_budgets == 0;
    const adm_idle_option idle[] = {
        {c->check_only && c->cap_ms != NULL, "--cap-ms", "with --check-only"},
        {c->check_only && c->timeline, "--timeline", "with --check-only"},
        {dense && c->variant != NULL, "--variant", "with --budgets 0, where every layer is dense"},
        {dense && c->dense_layers != NULL, "--dense-layers", "with --budgets 0, where every layer is dense"},
    };
    adm_note_idle(idle, sizeof idle / sizeof *idle, c->common.quiet);
}

static adm_status parse_values(decode_command *c, adm_error *err) {
    adm_decode_setup *s = &c->job.setup;
    uint64_t page = 0, dense = 0, device = 0, cap_ms = 0;
    s->eps = 1e-5f;
    s->rope_base = 10000;
    s->variant = c->variant;
    c->job.target = 0.005;
    c->job.check_only = c->check_only;
    adm_status status = adm_model_read(c->model, &s->model, err);
    if (status == ADM_OK) status = parse_lists(c, err);
    if (status == ADM_OK) status = parse_linear(c, err);
    if (status == ADM_OK) status = parse_variant(c, err);
    if (status == ADM_OK) status = adm_option_u64("--page-size", c->page_size, 0, 64, 0, &page, err);
    if (status == ADM_OK) status = adm_option_u64("--dense-layers", c->dense_layers, 0, 4096, ADM_DENSE_LAYERS, &dense, err);
    if (status == ADM_OK) status = adm_option_u64("--device", c->device, 0, 15, 0, &device, err);
    if (status == ADM_OK) status = adm_option_u64("--cap-ms", c->cap_ms, 1, 60000, 300, &cap_ms, err);
    if (status == ADM_OK) status = adm_option_u64("--seed", c->seed, 0, INT64_MAX, 1, &s->seed, err);
    s->page_size = (uint32_t)page;
    s->dense_layers = (uint32_t)dense;
    c->device_number = (uint32_t)device;
    c->job.cap_ns = cap_ms * 1000000;
    if (status == ADM_OK) note_idle(c);
    if (status == ADM_OK && c->weights_path != NULL) {
        status = adm_weights_open(c->weights_path, s, &c->weights, err);
        if (status == ADM_OK) c->job.source = adm_weights_source(c->weights);
        if (status == ADM_OK) c->job.n_tokens = adm_weights_tokens(c->weights, &c->job.token, &c->job.expected);
    }
    return status;
}

/* --- The run -------------------------------------------------------------------------------------------------------- */

static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    adm_progress *progress = user;
    progress->n_total = n_total;
    adm_progress_step(progress, n_done);
}

static adm_status begin_run(const decode_command *c, const adm_device_info *device, adm_store *store, int64_t *run_id,
                            adm_error *err) {
    char driver[16], runtime[16];
    adm_host_info host;
    adm_host_info_read(&host);
    snprintf(driver, sizeof driver, "%d.%d", device->driver_version / 1000, device->driver_version % 1000 / 10);
    snprintf(runtime, sizeof runtime, "%d.%d", device->runtime_version / 1000, device->runtime_version % 1000 / 10);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = "decode",
                         .argv_json = c->argv_json,
                         .seed = (int64_t)c->job.setup.seed,
                         .gpu_name = device->name,
                         .gpu_uuid = device->uuid,
                         .driver_version = driver,
                         .cuda_version = runtime};
    adm_profile_probes_clocks(device->uuid, &info);
    adm_run_info_host(&info, &host);
    return adm_store_begin_run(store, &info, run_id, err);
}

/* A step that did not fit is a row with the reason. Where none did, nothing was measured. */
static adm_status check_measured(const adm_decode_result *result, adm_error *err) {
    size_t i = 0;
    while (i < result->n && result->row[i].reason[0] != '\0') i++;
    if (i < result->n || result->n == 0) return ADM_OK;
    return adm_fail(err, ADM_EENVIRONMENT, "no step was measured: %s", result->row[0].reason);
}

static adm_status run_and_show(decode_command *c, adm_gpu *gpu, adm_store *store, int64_t run_id, adm_error *err) {
    adm_decode_result result = {0};
    adm_decode_probes *probes = NULL;
    adm_progress_start(&c->progress, adm_gpu_device(gpu)->name, 0, c->common.quiet);
    adm_status status = adm_decode_probes_open(c->timeline, store, run_id, &probes, err);
    if (status == ADM_OK) {
        c->job.tracing = adm_decode_probes_of(probes);
        status = adm_decode_run(&c->job, gpu, store, run_id, &result, err);
    }
    const adm_status stored = adm_decode_probes_close(&probes, status == ADM_OK ? err : NULL);
    if (status == ADM_OK) status = stored;
    adm_progress_end(&c->progress);
    const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
    const adm_status ended = adm_store_end_run(store, run_id, outcome, status == ADM_OK ? NULL : err->text,
                                               status == ADM_OK ? err : NULL);
    if (status == ADM_OK) status = ended;
    if (status == ADM_OK && c->common.json) status = adm_print_json(adm_decode_json(&c->job, &result, run_id), err);
    else if (status == ADM_OK && !c->common.quiet) adm_decode_print(&c->job, &result);
    if (status == ADM_OK) status = check_measured(&result, err);
    adm_decode_result_free(&result);
    return status;
}

static adm_status decode(decode_command *c, adm_error *err) {
    adm_gpu *gpu = NULL;
    adm_store *store = NULL;
    int64_t run_id;
    adm_status status = adm_gpu_open((int)c->device_number, &gpu, err);
    if (status == ADM_OK) status = adm_store_open(c->common.db_path, ADM_STORE_WRITE, &store, err);
    if (status == ADM_OK) status = begin_run(c, adm_gpu_device(gpu), store, &run_id, err);
    if (status == ADM_OK) status = run_and_show(c, gpu, store, run_id, err);
    adm_store_close(&store);
    adm_gpu_close(&gpu);
    return status;
}

static adm_status print_plan(const decode_command *c, adm_error *err) {
    adm_device_info list[16];
    adm_error none;
    int n = 0;
    const bool found = adm_device_list(list, 16, &n, &none) == ADM_OK && (int)c->device_number < (n < 16 ? n : 16);
    return adm_decode_print_plan(&c->job, found ? &list[c->device_number] : NULL, c->common.json, err);
}

static int run(int argc, char **argv) {
    static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse,
        .children = children,
        .doc =
            "Runs decode steps of a whole transformer on a GPU, each as one CUDA graph, with random weights and keys: time per "
            "token with dense attention and at each budget, split into attention, matrix products and the rest.\v"
            "A small model with the same heads is checked against the host first. `adamas simulate` takes the times of matrix "
            "products from here; `adamas simulate --validate` compares the steps with its predictions."};
    static decode_command c;
    c = (decode_command){.common = ADM_COMMON_DEFAULTS};
    adm_error err = {0};
    c.argv_json = adm_argv_json(argc, argv);
    adm_interrupt_ask();
    adm_argp_parse(&argp, argc, argv, &c);
    c.job.on_progress = on_progress;
    c.job.should_stop = adm_interrupted;
    c.job.user = &c.progress;
    adm_status status = parse_values(&c, &err);
    if (status == ADM_OK && c.argv_json == NULL) status = adm_fail(&err, ADM_EENVIRONMENT, "out of memory");
    if (status == ADM_OK) status = c.dry_run ? print_plan(&c, &err) : decode(&c, &err);
    if (status == ADM_OK) status = adm_finish_output(&err);
    adm_weights_close(&c.weights);
    for (size_t i = 0; i < sizeof c.lists / sizeof c.lists[0]; i++) adm_free(&c.lists[i]);
    adm_free(&c.argv_json);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_decode = {"decode", "time decode steps of a whole transformer on a GPU", run};
