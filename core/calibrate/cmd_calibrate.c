/* cmd_calibrate.c: `adamas calibrate`: wires trace reader, host stages and store to the search for the best sketch. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/base/json_text.h"
#include "core/base/mem.h"
#include "core/system/output_file.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/system/threads.h"
#include "core/base/version.h"
#include "core/calibrate/calibrate.h"
#include "core/calibrate/calibration_file.h"
#include "core/calibrate/steps.h"
#include "core/cli/command.h"
#include "core/policy/coding_name.h"
#include "core/system/hostinfo.h"
#include "kernels/attention/quality.h"
#include "kernels/registry.h"
#include "traces/format/trace_file.h"

typedef struct calibrate_command {
    adm_common common;
    const char *output, *budgets, *layers, *metrics, *dense_layers, *threads, *label, *path;
    uint32_t *budget_list, *layer_list;
    adm_calibrate_options options;
    adm_host_pipeline pipeline;
    adm_progress progress;
    char *argv_json;
} calibrate_command;

/* --- Command line ------------------------------------------------------------------------------------------------- */

enum { KEY_METRICS = 0x2000, KEY_DENSE_LAYERS, KEY_THREADS, KEY_LABEL };

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "Where to write the calibration (default calibration.json)", 1},
    {"budgets", 'b', "LIST", 0, "Tokens to attend to; the mean of the mass kept decides (default 64,128,256)", 1},
    {"metrics", KEY_METRICS, "LIST", 0,
     "Metrics to try: l1, dot, asym4, which the GPU kernels have, and asymmetric (default the first three)", 1},
    {"layers", 'l', "LIST", 0, "The model's layer numbers (default: all in the trace)", 1},
    {"dense-layers", KEY_DENSE_LAYERS, "N", 0, "The model's first layers that stay dense (default 2)", 2},
    {"threads", KEY_THREADS, "N", 0, "Threads (default: one per processor); no value depends on it", 2},
    {"label", KEY_LABEL, "TEXT", 0, "A name for this run", 2},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    calibrate_command *c = state->input;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = state->child_inputs[1] = &c->common; return 0;
    case 'o': c->output = arg; return 0;
    case 'b': c->budgets = arg; return 0;
    case 'l': c->layers = arg; return 0;
    case KEY_METRICS: c->metrics = arg; return 0;
    case KEY_DENSE_LAYERS: c->dense_layers = arg; return 0;
    case KEY_THREADS: c->threads = arg; return 0;
    case KEY_LABEL: c->label = arg; return 0;
    case ARGP_KEY_ARG:
        if (c->path != NULL) argp_error(state, "more than one trace given: a calibration is of one model");
        c->path = arg;
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "no trace given"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_db, 0, NULL, 0}, {&adm_argp_output, 0, NULL, 0}, {0}};
static const struct argp argp = {
    .options = options,
    .parser = parse,
    .args_doc = "TRACE",
    .children = children,
    .doc =
        "Finds the best sketch of a model's keys: metric and thresholds of each layer, fitted to half of a trace's steps and "
        "measured on the others.\vThe file is for `adamas replay --calibration FILE`, `adamas profile --calibration FILE` and "
        "traces/model/evaluate.py --calibration FILE."};

static adm_status parse_values(calibrate_command *c, adm_error *err) {
    adm_replay_options *o = &c->options.replay;
    uint64_t n_threads = 1;
    adm_status status = adm_parse_u32_list("--budgets", c->budgets != NULL ? c->budgets : "64,128,256", 1, 1 << 24,
                                           &c->budget_list, &o->n_budgets, err);
    if (status == ADM_OK && c->layers != NULL)
        status = adm_parse_u32_list("--layers", c->layers, 0, 65535, &c->layer_list, &o->n_layers, err);
    if (status == ADM_OK)
        status = adm_parse_words("--metrics", c->metrics != NULL ? c->metrics : "l1,dot,asym4", adm_calibrate_metrics,
                                 ADM_CALIBRATE_N_METRICS, c->options.metric, err);
    if (status == ADM_OK)
        status = adm_option_u32("--dense-layers", c->dense_layers, 0, 65535, ADM_DENSE_LAYERS, &o->n_dense_layers, err);
    if (status == ADM_OK)
        status = adm_option_u64("--threads", c->threads, 1, ADM_MAX_THREADS, adm_threads_available(), &n_threads, err);
    o->budgets = c->budget_list;
    o->layers = c->layer_list;
    o->n_threads = (size_t)n_threads;
    o->eps = 0.05;
    return status;
}

/* --- What was found ------------------------------------------------------------------------------------------------ */

static json_t *mass_as_json(const adm_calibrate_layer *l) {
    return json_pack("{s:f, s:f, s:f, s:f}", "fitted_mass", l->fitted, "held_out_mass", l->held_out, "held_out_exact_mass",
                     l->exact, "held_out_l1_mass", l->base);
}

/* The file's document. NULL when out of memory. */
static json_t *document_of(const calibrate_command *c, const adm_trace *trace, const adm_calibrate_result *r) {
    json_t *budgets = json_array(), *document;
    char name[256];
    for (size_t i = 0; i < c->options.replay.n_budgets; i++)
        json_array_append_new(budgets, json_integer((json_int_t)c->options.replay.budgets[i]));
    document = json_pack("{s:s, s:{s:s, s:s}, s:o, s:I, s:I, s:I, s:o, s:f}", "created_by", adm_version(), "trace", "name",
                         adm_printable(trace->name, name, sizeof name), "xxh128", trace->xxh128, "budgets", budgets,
                         "n_candidates", (json_int_t)r->n_candidates, "n_fit_steps", (json_int_t)r->n_fit_steps,
                         "n_held_out_steps", (json_int_t)r->n_held_out_steps, "all_layers", mass_as_json(&r->all),
                         "held_out_uniform_mass", r->uniform);
    if (document == NULL || adm_calibration_to_json(&r->calibration, document, NULL) != ADM_OK) {
        json_decref(document);
        return NULL;
    }
    for (size_t i = 0; i < r->n_layers; i++) {
        json_t *mass = mass_as_json(&r->layer[i]);
        json_object_update(json_array_get(json_object_get(document, "layers"), i), mass);
        json_decref(mass);
    }
    return document;
}

static adm_status write_file(const char *path, const json_t *document, adm_error *err) {
    adm_output output;
    adm_status status = adm_output_open(&output, "--output", path, err);
    if (status != ADM_OK) return status;
    if (json_dumpf(document, output.file, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6)) != 0 ||
        fputc('\n', output.file) == EOF)
        status = adm_fail(err, ADM_EENVIRONMENT, "%s: cannot be written", path);
    if (status == ADM_OK) status = adm_json_check_memory(path, err);
    if (status == ADM_OK) status = adm_output_commit(&output, err);
    adm_output_discard(&output);
    return status;
}

static void print_layer(const char *layer, const char *sketch, const adm_calibrate_layer *l) {
    adm_print("%6s  %-24s %8.3f %9.3f  %9.3f %14.3f\n", layer, sketch, l->fitted, l->held_out, l->exact, l->base);
}

static void print_result(const calibrate_command *c, const adm_trace *trace, const adm_calibrate_result *r, int64_t run_id) {
    char path[256], name[256], number[16], sketch[ADM_CODING_NAME_BYTES];
    adm_print("run %" PRId64 " in %s; %s: %zu sketches tried on %zu steps, measured on %zu others\n", run_id,
              adm_printable(c->common.db_path, path, sizeof path), adm_printable(trace->name, name, sizeof name),
              r->n_candidates, r->n_fit_steps, r->n_held_out_steps);
    adm_print("\nmean softmax mass kept\n%6s  %-24s %8s %9s  %9s %14s\n", "layer", "best sketch", "fitted", "held out",
              "exact top-k", "l1 calibrated");
    for (size_t i = 0; i < r->n_layers; i++) {
        snprintf(number, sizeof number, "%d", r->layer[i].layer);
        adm_coding_name(&r->calibration.layer[i].coding, sketch);
        print_layer(number, sketch, &r->layer[i]);
    }
    adm_coding_name(&r->calibration.other, sketch);
    print_layer("all", "each layer its own", &r->all);
    adm_print("%6s  %-24s %8s %9.3f\n", "other", sketch, "", r->uniform);
    adm_print("\nwritten to %s\n", adm_printable(c->output, path, sizeof path));
}

static adm_status publish(const calibrate_command *c, const adm_trace *trace, const adm_calibrate_result *r, int64_t run_id,
                          adm_error *err) {
    json_t *document = document_of(c, trace, r);
    if (document == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while writing a calibration");
    adm_status status = write_file(c->output, document, err);
    if (status == ADM_OK && c->common.json) {
        json_object_set_new(document, "run_id", json_integer((json_int_t)run_id));
        status = adm_print_json(json_incref(document), err);
    } else if (status == ADM_OK && !c->common.quiet) {
        print_result(c, trace, r, run_id);
    }
    json_decref(document);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

/* --- The run ------------------------------------------------------------------------------------------------------ */

static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    adm_progress *progress = user;
    progress->n_total = n_total;
    adm_progress_step(progress, n_done);
}

static adm_status begin_run(const calibrate_command *c, adm_store *store, int64_t *run_id, adm_error *err) {
    adm_host_info host;
    adm_host_info_read(&host);
    adm_run_info info = {.label = c->label != NULL ? c->label : "",
                         .command = "calibrate",
                         .argv_json = c->argv_json,
                         .gpu_reason = "a calibration runs on the host"};
    adm_run_info_host(&info, &host);
    return adm_store_begin_run(store, &info, run_id, err);
}

static adm_status calibrate(calibrate_command *c, const adm_trace *trace, adm_store *store, adm_error *err) {
    adm_calibrate_result result = {.n_layers = 0};
    int64_t run_id = 0;
    adm_status status = begin_run(c, store, &run_id, err);
    if (status != ADM_OK) return status;
    adm_progress_start(&c->progress, trace->name, 0, c->common.quiet);
    status = adm_calibrate(trace, &c->options, store, run_id, &result, err);
    adm_progress_end(&c->progress);
    if (status == ADM_OK) status = adm_trace_check_unchanged(trace, err);
    if (status == ADM_OK) status = publish(c, trace, &result, run_id, err);
    const char *outcome = status == ADM_OK ? "complete" : status == ADM_EINTERRUPTED ? "interrupted" : "failed";
    adm_status ended = adm_store_end_run(store, run_id, outcome, status == ADM_OK ? NULL : err->text,
                                         status == ADM_OK ? err : NULL);
    adm_calibrate_clear(&result);
    return status != ADM_OK ? status : ended;
}

static adm_status open_trace(calibrate_command *c, const adm_trace **trace, adm_error *err) {
    adm_some_steps fit, held_out;
    adm_status status = adm_trace_open(c->path, trace, err);
    if (status == ADM_OK) status = adm_trace_check_finite(*trace, err);
    if (status != ADM_OK) return status;
    status = adm_steps_split(*trace, &fit, &held_out, err); /* before anything is written */
    adm_steps_free(&fit);
    adm_steps_free(&held_out);
    return status;
}

static int run(int argc, char **argv) {
    calibrate_command c = {.common = ADM_COMMON_DEFAULTS, .output = "calibration.json"};
    adm_error err = {0};
    const adm_trace *trace = NULL;
    adm_store *store = NULL;
    c.argv_json = adm_argv_json(argc, argv);
    adm_interrupt_ask();
    adm_argp_parse(&argp, argc, argv, &c);
    adm_host_pipeline_default(&c.pipeline);
    c.options.replay = (adm_replay_options){.pipeline = &c.pipeline,
                                            .quality = adm_quality_fastest(),
                                            .on_progress = on_progress,
                                            .should_stop = adm_interrupted,
                                            .user = &c.progress};
    adm_status status = parse_values(&c, &err);
    if (status == ADM_OK && c.argv_json == NULL) status = adm_fail(&err, ADM_EENVIRONMENT, "out of memory");
    if (status == ADM_OK) status = open_trace(&c, &trace, &err);
    if (status == ADM_OK) status = adm_store_open(c.common.db_path, ADM_STORE_WRITE, &store, &err);
    if (status == ADM_OK) status = calibrate(&c, trace, store, &err);
    adm_store_close(&store);
    adm_trace_close(&trace);
    adm_free(&c.budget_list);
    adm_free(&c.layer_list);
    adm_free(&c.argv_json);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}

const adm_command adm_cmd_calibrate = {"calibrate", "find the best sketch of a model's keys", run};
