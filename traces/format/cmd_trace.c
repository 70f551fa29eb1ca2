/* cmd_trace.c: `adamas trace`: info and verify; gen and import are in files of their own. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/print.h"
#include "core/cli/group.h"
#include "traces/format/trace_file.h"
#include "traces/format/trace_text.h"
#include "traces/format/trace_verbs.h"

/* --- info --------------------------------------------------------------------------------------------------------- */

/* The last step of the run of consecutive positions that begins at `step`. */
static size_t run_end(const adm_trace *trace, size_t step) {
    while (step + 1 < trace->n_steps && trace->positions[step + 1] == trace->positions[step] + 1) step++;
    return step;
}

/* The dtypes in use, as "F16" or "F16, F32". */
static const char *dtypes_of(const adm_trace *trace, char out[24]) {
    static const adm_dtype all[] = {ADM_F16, ADM_BF16, ADM_F32};
    unsigned used = 0;
    for (size_t i = 0; i < trace->n_layers; i++) {
        const adm_trace_layer *l = &trace->layers[i];
        used |= 1u << l->k_dtype | 1u << l->v_dtype | 1u << l->q_dtype;
        if (l->o != NULL) used |= 1u << l->o_dtype;
    }
    out[0] = '\0';
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (!(used & 1u << all[i])) continue;
        if (out[0] != '\0') strcat(out, ", ");
        strcat(out, adm_dtype_name(all[i]));
    }
    return out;
}

static size_t layers_with_output(const adm_trace *trace) {
    size_t n = 0;
    for (size_t i = 0; i < trace->n_layers; i++) n += trace->layers[i].o != NULL;
    return n;
}

static void print_info(const adm_trace *trace) {
    char dtypes[24];
    adm_trace_print_text(trace->path);
    adm_print("\n  model      ");
    adm_trace_print_text(trace->model[0] != '\0' ? trace->model : "(not named)");
    adm_print("\n  kind       %s\n", trace->kind);
    adm_print("  heads      %u query, %u KV, dimension %u\n", trace->shape.n_q_heads, trace->shape.n_kv_heads,
              trace->shape.head_dim);
    adm_print("  tokens     %zu\n  steps      %zu at positions ", trace->n_tokens, trace->n_steps);
    for (size_t i = 0, end; i < trace->n_steps; i = end + 1) {
        end = run_end(trace, i);
        adm_print(end > i ? "%s%" PRId64 "-%" PRId64 : "%s%" PRId64, i > 0 ? ", " : "", trace->positions[i],
                  trace->positions[end]);
    }
    adm_print("\n  layers     %zu: ", trace->n_layers);
    for (size_t i = 0; i < trace->n_layers; i++) adm_print("%s%u", i > 0 ? ", " : "", trace->layers[i].index);
    adm_print("\n  outputs    of %zu of %zu layers\n", layers_with_output(trace), trace->n_layers);
    adm_print("  dtype      %s\n  scale      %.9g\n", dtypes_of(trace, dtypes), trace->softmax_scale);
    adm_print("  bytes      %" PRIu64 "\n  xxh128     %s\n", trace->file_bytes, trace->xxh128);
    for (size_t i = 0; i < trace->n_meta; i++) {
        adm_print(i == 0 ? "  metadata\n    " : "    ");
        adm_trace_print_text(trace->meta[i].key);
        adm_print(": ");
        adm_trace_print_text(trace->meta[i].value);
        adm_print("\n");
    }
}

/* Borrows nothing from the trace. NULL without memory. */
static json_t *info_json(const adm_trace *trace) {
    char dtypes[24];
    json_t *runs = json_array(), *layers = json_array(), *metadata = json_object();
    int failed = 0;
    for (size_t i = 0, end; i < trace->n_steps; i = end + 1) {
        end = run_end(trace, i);
        failed |= json_array_append_new(
            runs, json_pack("[I, I]", (json_int_t)trace->positions[i], (json_int_t)trace->positions[end]));
    }
    for (size_t i = 0; i < trace->n_layers; i++)
        failed |= json_array_append_new(
            layers, json_pack("{s:i, s:b}", "index", (int)trace->layers[i].index, "has_output", trace->layers[i].o != NULL));
    for (size_t i = 0; i < trace->n_meta; i++)
        failed |= json_object_set_new(metadata, trace->meta[i].key, json_string(trace->meta[i].value));
    json_t *info = json_pack("{s:o, s:o, s:s, s:i, s:i, s:i, s:I, s:I, s:o, s:o, s:s, s:f, s:I, s:s, s:o}", "path",
                             adm_trace_json_text(trace->path), "model", adm_trace_json_text(trace->model), "kind", trace->kind,
                             "n_q_heads", (int)trace->shape.n_q_heads, "n_kv_heads", (int)trace->shape.n_kv_heads, "head_dim",
                             (int)trace->shape.head_dim, "n_tokens", (json_int_t)trace->n_tokens, "n_steps",
                             (json_int_t)trace->n_steps, "position_runs", runs, "layers", layers, "dtypes",
                             dtypes_of(trace, dtypes), "softmax_scale", trace->softmax_scale, "file_bytes",
                             (json_int_t)trace->file_bytes, "xxh128", trace->xxh128, "metadata", metadata);
    if (failed && info != NULL) {
        json_decref(info);
        return NULL;
    }
    return info;
}

static adm_status info_one(const char *path, const adm_trace_options *options, json_t *document, adm_error *err) {
    const adm_trace *trace;
    adm_status status = adm_trace_open(path, &trace, err);
    if (status != ADM_OK) return status;
    if (!options->common.json) print_info(trace);
    else if (json_array_append_new(document, info_json(trace)) != 0)
        status = adm_fail(err, ADM_EENVIRONMENT, "out of memory while describing %s", adm_trace_label(trace));
    adm_trace_close(&trace);
    return status;
}

/* --- verify ------------------------------------------------------------------------------------------------------- */

static void print_report(const adm_trace *trace, const adm_trace_report *report) {
    adm_trace_print_text(trace->path);
    adm_print(": header and shapes valid, values finite");
    if (report->n_checked == 0) {
        adm_print("; outputs not checked, since the file has no layers.{i}.o\n");
        return;
    }
    adm_print("; %zu outputs recomputed, the worst off by %.2g in relative L2, %.2f of its limit (layer %u, position %" PRId64
              ", query head %u)\n",
              report->n_checked, report->worst_rel_l2, report->worst_of_limit, report->worst_layer,
              trace->positions[report->worst_step], report->worst_head);
}

/* JSON knows no infinity; where there is no finite number it says null. */
static json_t *json_number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

/* n_checked 0 has no worst. NULL without memory. */
static json_t *report_json(const adm_trace *trace, const adm_trace_report *report) {
    json_t *worst = report->n_checked == 0
                        ? json_null()
                        : json_pack("{s:o, s:o, s:i, s:I, s:i}", "rel_l2", json_number(report->worst_rel_l2), "of_limit",
                                    json_number(report->worst_of_limit), "layer", (int)report->worst_layer, "position",
                                    (json_int_t)trace->positions[report->worst_step], "q_head", (int)report->worst_head);
    return json_pack("{s:o, s:b, s:I, s:I, s:o}", "path", adm_trace_json_text(trace->path), "ok", report->n_outside == 0,
                     "n_checked", (json_int_t)report->n_checked, "n_outside", (json_int_t)report->n_outside, "worst", worst);
}

static adm_status verify_one(const char *path, const adm_trace_options *options, json_t *document, adm_error *err) {
    const adm_trace *trace;
    adm_status status = adm_trace_open(path, &trace, err);
    if (status != ADM_OK) return status;
    adm_trace_report report;
    status = adm_trace_check_finite(trace, err);
    if (status != ADM_OK) goto done;
    status = adm_trace_verify(trace, options->max_steps, &report, err);
    if (status != ADM_OK && report.n_outside == 0) goto done;
    if (options->common.json && json_array_append_new(document, report_json(trace, &report)) != 0)
        status = adm_fail(err, ADM_EENVIRONMENT, "out of memory while describing %s", adm_trace_label(trace));
    if (!options->common.json && !options->common.quiet && status == ADM_OK) print_report(trace, &report);
done:
    adm_trace_close(&trace);
    return status;
}

/* --- The command line --------------------------------------------------------------------------------------------- */

enum { KEY_STEPS = 0x2000 };

typedef struct trace_verb {
    const struct argp *argp;
    adm_status (*one)(const char *path, const adm_trace_options *options, json_t *document, adm_error *err);
} trace_verb;

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    adm_trace_options *options = state->input;
    adm_error err;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &options->common; return 0;
    case KEY_STEPS:
        if (adm_parse_u64("--steps", arg, 1, UINT32_MAX, &options->max_steps, &err) != ADM_OK)
            argp_failure(state, adm_exit_code(err.status), 0, "%s", err.text);
        return 0;
    case ARGP_KEY_ARGS:
        options->paths = state->argv + state->next;
        options->n_paths = (size_t)(state->argc - state->next);
        return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "name at least one file"); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&adm_argp_output, 0, NULL, 0}, {0}};

static const struct argp info_argp = {
    .parser = parse_option,
    .args_doc = "FILE...",
    .doc = "Shows what attention traces hold: model, shape, layers, steps, hash and all metadata.",
    .children = children,
};

static const struct argp_option verify_options[] = {
    {"steps", KEY_STEPS, "N", 0, "Recompute only N evenly spread steps per layer (default: all)", 1},
    {0},
};

static const struct argp verify_argp = {
    .options = verify_options,
    .parser = parse_option,
    .args_doc = "FILE...",
    .doc = "Checks attention traces: the header, that every value is finite, and that the attention recomputed from Q, "
           "K and V is the captured output.\vExit status: 0 if all files pass, 2 if one does not.",
    .children = children,
};

static const struct argp import_argp = {
    .parser = parse_option,
    .args_doc = "FILE...",
    .doc = "Reads request traces (when requests came, and how many tokens each had) and shows what they hold: Azure and "
           "BurstGPT CSV, Mooncake JSON lines, told apart by their first line.",
    .children = children,
};

/* A file that fails does not keep the others from their turn; the first failure gives the exit code. */
static int run_verb(const trace_verb *verb, int argc, char **argv) {
    adm_trace_options options = {.common = ADM_COMMON_DEFAULTS};
    adm_interrupt_ask();
    adm_argp_parse(verb->argp, argc, argv, &options);
    adm_error err;
    int exit_code = 0;
    json_t *document = options.common.json ? json_array() : NULL;
    for (size_t i = 0; i < options.n_paths && !adm_interrupted(); i++) {
        size_t n_described = json_array_size(document);
        if (verb->one(options.paths[i], &options, document, &err) == ADM_OK) continue;
        int code = adm_report_error(&err);
        if (exit_code == 0) exit_code = code;
        if (document != NULL && json_array_size(document) == n_described)
            json_array_append_new(document, json_pack("{s:o, s:o}", "path", adm_trace_json_text(options.paths[i]), "error",
                                                      adm_trace_json_text(err.text)));
    }
    adm_status status = options.common.json ? adm_print_json(document, &err) : ADM_OK;
    if (status == ADM_OK) status = adm_finish_output(&err);
    if (status != ADM_OK) exit_code = adm_report_error(&err);
    return adm_interrupted() ? adm_exit_code(ADM_EINTERRUPTED) : exit_code;
}

static int run_info(int argc, char **argv) { return run_verb(&(trace_verb){&info_argp, info_one}, argc, argv); }

static int run_verify(int argc, char **argv) { return run_verb(&(trace_verb){&verify_argp, verify_one}, argc, argv); }

static int run_import(int argc, char **argv) { return run_verb(&(trace_verb){&import_argp, adm_trace_import_one}, argc, argv); }

static const adm_command info = {"info", "show what a trace holds", run_info},
                         verify = {"verify", "check a trace: header, values, recomputed outputs", run_verify},
                         import = {"import", "read a request trace and show what it holds", run_import},
                         gen = {"gen", "make a synthetic attention trace", adm_trace_gen};

static const adm_command *const verbs[] = {&info, &verify, &import, &gen};

static const adm_group group = {
    .name = "adamas trace",
    .about = "Inspects, verifies and makes attention traces; reads request traces.",
    .commands = verbs,
    .n_commands = sizeof verbs / sizeof verbs[0],
};

static int run(int argc, char **argv) { return adm_group_run(&group, argc, argv); }

const adm_command adm_cmd_trace = {"trace", "inspect, verify and make attention traces; read request traces", run};
