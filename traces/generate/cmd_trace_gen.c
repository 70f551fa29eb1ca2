/* cmd_trace_gen.c: `adamas trace gen`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "traces/format/trace_text.h"
#include "traces/format/trace_verbs.h"
#include "traces/generate/generate.h"
#include "traces/format/trace_file.h"

enum {
    KEY_SEED = 0x2100,
    KEY_TOKENS,
    KEY_STEPS,
    KEY_STEPS_AT,
    KEY_N_STEPS,
    KEY_LAYERS,
    KEY_HEADS,
    KEY_KV_HEADS,
    KEY_HEAD_DIM,
    KEY_DTYPE,
    KEY_NEEDLE,
    KEY_NEEDLE_HEAD,
    KEY_SINKS,
    KEY_ROPE_BASE
};

typedef struct gen_command {
    adm_common common;
    adm_generate_spec spec;
    adm_progress progress;
    const char *path;
    uint32_t *starts, *layers, *needles; /* owned */
} gen_command;

static const struct argp_option options[] = {
    {NULL, 'o', "FILE", 0, "Write the trace here (required); replaced only when the new one is whole", 1},
    {"seed", KEY_SEED, "N", 0, "Same seed and options, same bytes, on every machine (default 1)", 1},
    {"tokens", KEY_TOKENS, "N", 0, "Cached tokens, 256 to 16777216 (default 8192)", 2},
    {"steps", KEY_STEPS, "N", 0, "Decode the last N tokens (default 64)", 2},
    {"steps-at", KEY_STEPS_AT, "LIST", 0, "Instead: a run of steps from each of these positions", 2},
    {"n-steps", KEY_N_STEPS, "N", 0, "With --steps-at: steps per run (default 64)", 2},
    {"layers", KEY_LAYERS, "LIST", 0, "The layers' numbers, 0 to 999 (default 2)", 2},
    {"heads", KEY_HEADS, "N", 0, "Query heads (default 8)", 3},
    {"kv-heads", KEY_KV_HEADS, "N", 0, "KV heads; must divide the query heads (default 2)", 3},
    {"head-dim", KEY_HEAD_DIM, "N", 0, "Head dimension: 64, 128 or 256 (default 64)", 3},
    {"dtype", KEY_DTYPE, "f16|bf16|f32", 0, "Type of K, V and Q (default f16)", 3},
    {"rope-base", KEY_ROPE_BASE, "N", 0, "RoPE base (default 100000; beyond 4096 tokens, larger with the length)", 4},
    {"sinks", KEY_SINKS, "N", 0, "Sink tokens at the start, 0 to 16 (default 1)", 4},
    {"needle", KEY_NEEDLE, "LIST", 0, "Plant a needle at these tokens, up to 64", 4},
    {"needle-head", KEY_NEEDLE_HEAD, "N", 0, "The query head that finds it (default 0)", 4},
    {0},
};

static adm_status parse_dtype(const char *text, adm_dtype *dtype, adm_error *err) {
    static const char *const names[] = {"f32", "f16", "bf16"}; /* by adm_dtype */
    size_t i = 0;
    const adm_status status = adm_parse_word("--dtype", text, names, 3, &i, err);
    if (status == ADM_OK) *dtype = (adm_dtype)i;
    return status;
}

/* An option given twice counts as its last. */
static adm_status parse_list(const char *option, const char *text, uint32_t max, uint32_t **owned, const uint32_t **values,
                             size_t *n, adm_error *err) {
    adm_free(owned);
    adm_status status = adm_parse_u32_list(option, text, 0, max, owned, n, err);
    *values = *owned;
    return status;
}

static adm_status take_option(gen_command *c, int key, const char *arg, adm_error *err) {
    adm_generate_spec *s = &c->spec;
    const uint32_t most_token = ADM_GENERATE_MAX_TOKENS - 1;
    uint64_t base = 0;
    adm_status status;
    switch (key) {
    case KEY_SEED: return adm_parse_u64("--seed", arg, 0, UINT64_MAX, &s->seed, err);
    case KEY_TOKENS: return adm_parse_u64("--tokens", arg, 256, ADM_GENERATE_MAX_TOKENS, &s->n_tokens, err);
    case KEY_STEPS: return adm_parse_u64("--steps", arg, 1, ADM_GENERATE_MAX_TOKENS, &s->n_steps, err);
    case KEY_N_STEPS: return adm_parse_u64("--n-steps", arg, 1, ADM_GENERATE_MAX_TOKENS, &s->n_steps, err);
    case KEY_STEPS_AT: return parse_list("--steps-at", arg, most_token, &c->starts, &s->starts, &s->n_starts, err);
    case KEY_LAYERS: return parse_list("--layers", arg, ADM_GENERATE_MAX_LAYER, &c->layers, &s->layers, &s->n_layers, err);
    case KEY_NEEDLE: return parse_list("--needle", arg, most_token, &c->needles, &s->needles, &s->n_needles, err);
    case KEY_HEADS: return adm_option_u32("--heads", arg, 1, 4096, 0, &s->shape.n_q_heads, err);
    case KEY_KV_HEADS: return adm_option_u32("--kv-heads", arg, 1, 4096, 0, &s->shape.n_kv_heads, err);
    case KEY_HEAD_DIM: return adm_option_u32("--head-dim", arg, 64, ADM_MAX_HEAD_DIM, 0, &s->shape.head_dim, err);
    case KEY_NEEDLE_HEAD: return adm_option_u32("--needle-head", arg, 0, 4095, 0, &s->needle_head, err);
    case KEY_SINKS: return adm_option_u32("--sinks", arg, 0, ADM_GENERATE_MAX_SINKS, 0, &s->n_sinks, err);
    case KEY_DTYPE: return parse_dtype(arg, &s->dtype, err);
    default:
        status = adm_parse_u64("--rope-base", arg, 1000, 1000000000000, &base, err);
        s->rope_base = (double)base;
        return status;
    }
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    gen_command *c = state->input;
    adm_error err;
    switch (key) {
    case ARGP_KEY_INIT: state->child_inputs[0] = &c->common; return 0;
    case 'o': c->path = arg; return 0;
    case ARGP_KEY_ARG: argp_error(state, "'%s' is not an option; the output is -o FILE", arg); return 0;
    case ARGP_KEY_END:
        if (c->path == NULL || c->path[0] == '\0') argp_error(state, "-o FILE is missing: where to write the trace");
        return 0;
    default:
        if (key < KEY_SEED || key > KEY_ROPE_BASE) return ARGP_ERR_UNKNOWN;
        if (take_option(c, key, arg, &err) != ADM_OK) argp_failure(state, adm_exit_code(err.status), 0, "%s", err.text);
        return 0;
    }
}

static const struct argp_child children[] = {{&adm_argp_output, 0, NULL, 0}, {0}};

static const struct argp argp = {
    .options = options,
    .parser = parse_option,
    .doc = "Makes a seeded decode session whose keys have what real ones have: RoPE, outlier channels, attention sinks, "
           "recency, heavy-tailed mass, and if asked a needle. Marked kind=synthetic, so that nothing measured on it "
           "mixes with what is measured on a real one.\vLISTs are whole numbers separated by commas.",
    .children = children,
};

static void on_progress(void *user, uint64_t n_done, uint64_t n_total) {
    (void)n_total;
    adm_progress_step(user, n_done);
}

/* What was written, as its reader sees it: the hash comes from the file. */
static adm_status describe(const gen_command *c, adm_error *err) {
    const adm_trace *trace;
    adm_status status = adm_trace_open(c->path, &trace, err);
    if (status != ADM_OK) return status;
    if (c->common.json) {
        /* The seed as text: a JSON number would lose its low bits in most readers. */
        status = adm_print_json(json_pack("{s:o, s:s, s:o, s:I, s:I, s:I, s:s}", "path", adm_trace_json_text(c->path), "kind",
                                          trace->kind, "seed", json_sprintf("%" PRIu64, c->spec.seed), "n_tokens",
                                          (json_int_t)trace->n_tokens, "n_steps", (json_int_t)trace->n_steps, "file_bytes",
                                          (json_int_t)trace->file_bytes, "xxh128", trace->xxh128),
                                err);
    } else {
        adm_trace_print_text(c->path);
        adm_print(": synthetic, seed %" PRIu64 ", %zu tokens, %zu steps, %zu layers, %" PRIu64 " bytes, xxh128 %s\n",
                  c->spec.seed, trace->n_tokens, trace->n_steps, trace->n_layers, trace->file_bytes, trace->xxh128);
    }
    adm_trace_close(&trace);
    return status == ADM_OK ? adm_finish_output(err) : status;
}

int adm_trace_gen(int argc, char **argv) {
    gen_command c = {.common = ADM_COMMON_DEFAULTS};
    adm_error err;
    adm_generate_defaults(&c.spec);
    c.spec.should_stop = adm_interrupted;
    c.spec.on_progress = on_progress;
    c.spec.user = &c.progress;
    adm_interrupt_ask();
    adm_argp_parse(&argp, argc, argv, &c);
    adm_progress_start(&c.progress, "generating", adm_generate_bytes(&c.spec), c.common.quiet);
    adm_status status = adm_generate(&c.spec, c.path, &err);
    adm_progress_end(&c.progress);
    const bool can_be_read = strcmp(c.path, "-") != 0;
    if (status == ADM_OK && can_be_read && (!c.common.quiet || c.common.json)) status = describe(&c, &err);
    adm_free(&c.starts);
    adm_free(&c.layers);
    adm_free(&c.needles);
    return status == ADM_OK ? 0 : adm_report_error(&err);
}
