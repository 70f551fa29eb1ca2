/* host_case.c: the calls of a check and of a timing, and how one is run; host_fill.c has their contents. */
#include "kernels/tune/host/host_case.h"

#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/registry.h"
#include "kernels/tune/host/host_fill.h"
#include "kernels/tune/host/trace_source.h"

enum { MAX_CALLS = 2048, TIMED_ALIGN = 64 };

/* The thresholds of a normal distribution's quartiles: every code occurs. */
static const float thresholds[3] = {-0.674f, 0, 0.674f};

static const adm_dtype every_dtype[] = {ADM_F32, ADM_F16, ADM_BF16};
static const uint32_t every_head_dim[] = {64, 128, 256};

/* --- Buffers -------------------------------------------------------------------------------------------------------- */

typedef struct builder {
    adm_host_case *c;
    adm_status status;
    adm_error *err;
    size_t expected_bytes;
} builder;

static int32_t add(builder *b, adm_arena *arena, size_t bytes, size_t align) {
    if (b->status == ADM_OK) b->status = adm_arena_add(arena, bytes, b->c->is_timed ? TIMED_ALIGN : align, b->err);
    return (int32_t)arena->n - 1;
}

static int32_t add_in(builder *b, size_t bytes, size_t align) { return add(b, &b->c->in, bytes, align); }
static int32_t add_out(builder *b, size_t bytes, size_t align) { return add(b, &b->c->out, bytes, align); }

static size_t selected(const adm_host_call *call) { return adm_min(call->rule.budget, call->n); }

/* The buffers of a call; those of keys and values that it shares with another are given already. */
static void add_buffers(builder *b, adm_host_call *call) {
    const size_t d = call->head_dim, element = adm_dtype_bytes(call->dtype);
    switch (call->stage) {
    case ADM_STAGE_HADAMARD:
        call->in[0] = add_in(b, call->n * d * element, 1);
        call->out[0] = add_out(b, call->n * d * sizeof(float), sizeof(float));
        break;
    case ADM_STAGE_BUCKET:
        call->in[0] = add_in(b, call->n * sizeof(float), sizeof(float));
        call->out[0] = add_out(b, call->n, 1);
        break;
    case ADM_STAGE_PACK:
        call->in[0] = add_in(b, call->n * d, 1);
        call->out[0] = add_out(b, call->n * d / 4, 1);
        break;
    case ADM_STAGE_DISTANCE:
        call->in[0] = add_in(b, d / 4, 1);
        if (call->in[1] == ADM_NO_BUFFER) call->in[1] = add_in(b, call->n * d / 4, 1);
        call->out[0] = add_out(b, call->n * sizeof(uint16_t), sizeof(uint16_t));
        break;
    case ADM_STAGE_TOPK:
        call->in[0] = add_in(b, call->n * sizeof(uint16_t), sizeof(uint16_t));
        call->out[0] = add_out(b, selected(call) * sizeof(uint32_t), sizeof(uint32_t));
        call->out[1] = add_out(b, sizeof(uint32_t), sizeof(uint32_t));
        if (call->pattern % 3 != 2) call->out[2] = add_out(b, sizeof(adm_select_info), sizeof(uint32_t));
        call->out[3] = add_out(b, (3 * d + 1) * sizeof(uint32_t), sizeof(uint32_t));
        break;
    default: /* attention, dense */
        call->in[0] = add_in(b, d * element, 1);
        if (call->in[1] == ADM_NO_BUFFER) call->in[1] = add_in(b, call->n_rows * d * element, 1);
        if (call->in[2] == ADM_NO_BUFFER) call->in[2] = add_in(b, call->n_rows * d * element, 1);
        if (call->stage == ADM_STAGE_ATTENTION) call->in[3] = add_in(b, call->n * sizeof(uint32_t), sizeof(uint32_t));
        call->out[0] = add_out(b, d * sizeof(float), sizeof(float));
        call->out[1] = add_out(b, call->n * sizeof(double), sizeof(double));
        break;
    }
}

static adm_host_call *add_call(builder *b, const adm_host_call *like) {
    adm_host_case *c = b->c;
    if (b->status == ADM_OK && c->n_calls == MAX_CALLS)
        b->status = adm_fail(b->err, ADM_EINTERNAL, "a check has too many calls");
    if (b->status != ADM_OK) return &c->call[0];
    adm_host_call *call = &c->call[c->n_calls++];
    *call = *like;
    for (int i = 0; i < ADM_CALL_OUTPUTS; i++) call->out[i] = ADM_NO_BUFFER;
    add_buffers(b, call);
    call->expected = b->expected_bytes;
    b->expected_bytes += (adm_host_answer_bytes(call) + 63) / 64 * 64;
    return call;
}

static adm_host_call blank(const adm_host_config *config, uint32_t head_dim, adm_dtype dtype) {
    adm_host_call call = {.stage = config->stage, .dtype = dtype, .head_dim = head_dim};
    for (int i = 0; i < ADM_CALL_INPUTS; i++) call.in[i] = ADM_NO_BUFFER;
    memcpy(call.threshold, thresholds, sizeof thresholds);
    call.scale = head_dim == 64 ? 0.125 : head_dim == 256 ? 0.0625 : 0.08838834764831845;
    return call;
}

/* --- The check ------------------------------------------------------------------------------------------------------ */

static void check_topk(builder *b, const adm_host_config *config, uint32_t d) {
    static const uint32_t lengths[] = {0, 1, 2, 3, 7, 31, 32, 33, 63, 64, 65, 127, 255, 256, 257, 511, 1000, 1023, 4097};
    static const uint32_t forced[][2] = {{0, 0}, {0, 1}, {4, 1}, {1, 64}, {4, 16}};
    uint32_t turn = 0;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        const uint32_t n = lengths[i], budgets[] = {1, 2, 7, n / 2, n > 0 ? n - 1 : 0, n, n + 1, config->rule.budget, 64 + 17};
        for (size_t k = 0; k < sizeof budgets / sizeof *budgets; k++, turn++) {
            adm_host_call call = blank(config, d, ADM_F32);
            const uint32_t *force = forced[turn % 5];
            call.n = n;
            call.pattern = turn;
            call.rule = (adm_select_rule){budgets[k], force[0], force[1]};
            if (adm_select_rule_check(&call.rule, NULL) != ADM_OK) call.rule.n_sinks = call.rule.n_recent = 0;
            if (call.rule.budget > 0) add_call(b, &call);
        }
    }
}

static void check_attention(builder *b, const adm_host_config *config, uint32_t d, adm_dtype dtype) {
    static const uint32_t lengths[] = {0, 1, 2, 3, 7, 8, 9, 15, 17, 33, 64, 100, 257};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (uint32_t pattern = 0; pattern < 4; pattern++) {
            adm_host_call call = blank(config, d, dtype);
            call.n = lengths[i];
            call.n_rows = config->stage == ADM_STAGE_DENSE ? call.n : 300;
            call.pattern = pattern;
            add_call(b, &call);
        }
}

static void check_distance(builder *b, const adm_host_config *config, uint32_t d) {
    static const uint32_t lengths[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 65, 257, 1001};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (uint32_t pattern = 0; pattern < 4; pattern++) {
            adm_host_call call = blank(config, d, ADM_F32);
            call.n = lengths[i];
            call.pattern = pattern;
            add_call(b, &call);
        }
}

/* Hadamard, bucketing, packing: rows, or elements. */
static void check_rows(builder *b, const adm_host_config *config, uint32_t d, adm_dtype dtype) {
    static const uint32_t rows[] = {0, 1, 2, 3, 5, 17, 33};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (uint32_t pattern = 0; pattern < 4; pattern++) {
            adm_host_call call = blank(config, d, dtype);
            call.n = config->stage == ADM_STAGE_BUCKET ? rows[i] * 61 + pattern : rows[i];
            call.pattern = pattern;
            add_call(b, &call);
        }
}

static void add_check(builder *b, const adm_host_config *config) {
    const bool has_dtype = config->stage == ADM_STAGE_HADAMARD || config->stage == ADM_STAGE_ATTENTION ||
                           config->stage == ADM_STAGE_DENSE;
    for (size_t i = 0; i < 3; i++) {
        const uint32_t d = every_head_dim[i];
        if (!(config->head_dims & d)) continue;
        for (size_t t = 0; t < (has_dtype ? 3 : 1); t++) {
            if (has_dtype && !(config->dtypes >> every_dtype[t] & 1)) continue;
            if (config->stage == ADM_STAGE_TOPK) check_topk(b, config, d);
            else if (config->stage == ADM_STAGE_DISTANCE) check_distance(b, config, d);
            else if (config->stage == ADM_STAGE_ATTENTION || config->stage == ADM_STAGE_DENSE)
                check_attention(b, config, d, every_dtype[t]);
            else check_rows(b, config, d, every_dtype[t]);
        }
    }
}

/* --- The timing ----------------------------------------------------------------------------------------------------- */

/* A step per set: the encoding stages in one call, the others a call per query head, whose KV head's buffers are shared by its
 * group and by every set. */
static void add_step(builder *b, const adm_host_config *config, uint32_t set) {
    const adm_shape *shape = &config->shape;
    adm_host_call call = blank(config, shape->head_dim, config->dtype);
    if (config->source != NULL) memcpy(call.threshold, adm_trace_source_thresholds(config->source), sizeof call.threshold);
    if (config->scale > 0) call.scale = config->scale;
    const bool is_encoding = config->stage <= ADM_STAGE_PACK;
    call.rule = config->rule;
    call.n = is_encoding ? shape->n_q_heads + shape->n_kv_heads : config->n_tokens;
    if (config->stage == ADM_STAGE_BUCKET) call.n *= shape->head_dim;
    if (config->stage == ADM_STAGE_ATTENTION) call.n = adm_min(config->rule.budget, config->n_tokens);
    call.n_rows = config->n_tokens;
    const uint32_t group = shape->n_q_heads / shape->n_kv_heads;
    for (uint32_t h = 0; h < (is_encoding ? 1 : shape->n_q_heads); h++) {
        const uint32_t first_of_head = h / group * group; /* in set 0 that call made the KV head's buffers */
        const bool shares = !is_encoding && (set > 0 || h % group > 0);
        for (int i = 1; i < 3; i++) call.in[i] = shares ? b->c->call[first_of_head].in[i] : ADM_NO_BUFFER;
        add_call(b, &call);
    }
}

static const uint32_t encoding_sets = 16; /* of some microseconds each: a sample is then well above a clock's tick */

adm_status adm_host_case_create(const adm_host_config *config, bool timed, adm_host_case *out, adm_error *err) {
    *out = (adm_host_case){.config = *config, .is_timed = timed, .in.fd = -1, .out.fd = -1};
    builder b = {.c = out, .err = err};
    adm_host_pipeline pipeline;
    adm_host_pipeline_default(&pipeline);
    out->timed_attention = pipeline.attention->fn.attention;
    if (config->stage == ADM_STAGE_APPEND || config->stage == ADM_STAGE_STEP)
        return adm_fail(err, ADM_EUNSUPPORTED, "the stage %s has no function of its own on the host",
                        adm_stage_name(config->stage));
    b.status = adm_alloc(&out->call, MAX_CALLS, sizeof *out->call, "calls of a check", err);
    if (b.status != ADM_OK) return b.status;
    out->n_sets = timed && config->stage <= ADM_STAGE_PACK ? encoding_sets : 1;
    if (!timed) add_check(&b, config);
    for (uint32_t s = 0; timed && s < out->n_sets; s++) add_step(&b, config, s);
    if (b.status == ADM_OK) b.status = adm_alloc(&out->expected, b.expected_bytes, 1, "answers of a check", err);
    if (b.status == ADM_OK)
        b.status = adm_alloc(&out->score, config->n_tokens + 4096, sizeof *out->score, "scratch of a check", err);
    if (b.status == ADM_OK)
        b.status = adm_alloc(&out->histogram, 3 * ADM_MAX_HEAD_DIM + 1, sizeof *out->histogram, "scratch of a check", err);
    if (b.status == ADM_OK) b.status = adm_arena_open(&out->in, err);
    if (b.status == ADM_OK) b.status = adm_arena_open(&out->out, err);
    return b.status;
}

void adm_host_case_close(adm_host_case *c) {
    adm_arena_close(&c->in);
    adm_arena_close(&c->out);
    adm_free(&c->call);
    adm_free(&c->expected);
    adm_free(&c->score);
    adm_free(&c->histogram);
}

/* --- A call --------------------------------------------------------------------------------------------------------- */

void adm_host_call_run(const adm_host_case *c, const adm_arena *out, size_t i, adm_any_fn fn) {
    const adm_host_call *call = &c->call[i];
    void *in[ADM_CALL_INPUTS], *to[ADM_CALL_OUTPUTS];
    for (int k = 0; k < ADM_CALL_INPUTS; k++) in[k] = call->in[k] >= 0 ? adm_arena_at(&c->in, (size_t)call->in[k]) : NULL;
    for (int k = 0; k < ADM_CALL_OUTPUTS; k++) to[k] = call->out[k] >= 0 ? adm_arena_at(out, (size_t)call->out[k]) : NULL;
    switch (call->stage) {
    case ADM_STAGE_HADAMARD: ((adm_hadamard_fn *)fn)(call->dtype, in[0], call->n, call->head_dim, to[0]); break;
    case ADM_STAGE_BUCKET: ((adm_bucket_fn *)fn)(in[0], call->n, call->threshold, to[0]); break;
    case ADM_STAGE_PACK: ((adm_pack_fn *)fn)(in[0], call->n, call->head_dim, to[0]); break;
    case ADM_STAGE_DISTANCE: ((adm_distance_fn *)fn)(in[0], in[1], call->n, call->head_dim, to[0]); break;
    case ADM_STAGE_TOPK:
        *(uint32_t *)to[1] = ((adm_topk_fn *)fn)(in[0], call->n, 3 * call->head_dim, &call->rule, to[3], to[0], to[2]);
        break;
    default:
        ((adm_attention_fn *)fn)(call->dtype, in[0], in[1], in[2], in[3], call->n, call->head_dim, call->scale, to[1], to[0]);
        break;
    }
}

void adm_host_call_words(const adm_host_case *c, size_t i, char *out, size_t bytes) {
    const adm_host_call *call = &c->call[i];
    const char *const unit = call->stage == ADM_STAGE_BUCKET ? "elements" : call->stage <= ADM_STAGE_PACK ? "rows" : "tokens";
    int n = snprintf(out, bytes, "%zu %s", call->n, unit);
    if (call->stage == ADM_STAGE_HADAMARD || call->stage >= ADM_STAGE_ATTENTION)
        n += snprintf(out + n, bytes - (size_t)n, ", %s", adm_dtype_name(call->dtype));
    if (call->stage != ADM_STAGE_BUCKET && call->stage != ADM_STAGE_TOPK)
        n += snprintf(out + n, bytes - (size_t)n, ", d = %u", call->head_dim);
    if (call->stage != ADM_STAGE_TOPK) return;
    n += snprintf(out + n, bytes - (size_t)n, ", budget %u", call->rule.budget);
    if (call->rule.n_sinks > 0) n += snprintf(out + n, bytes - (size_t)n, ", %u sinks", call->rule.n_sinks);
    if (call->rule.n_recent > 1) snprintf(out + n, bytes - (size_t)n, ", %u recent", call->rule.n_recent);
}

const char *adm_host_buffer_name(const adm_host_case *c, bool is_output, size_t buffer) {
    static const char *const in_names[ADM_N_STAGES][ADM_CALL_INPUTS] = {
        [ADM_STAGE_HADAMARD] = {"x"},        [ADM_STAGE_BUCKET] = {"y"},      [ADM_STAGE_PACK] = {"codes"},
        [ADM_STAGE_DISTANCE] = {"q", "k"},   [ADM_STAGE_TOPK] = {"distance"}, [ADM_STAGE_ATTENTION] = {"q", "k", "v", "index"},
        [ADM_STAGE_DENSE] = {"q", "k", "v"},
    };
    static const char *const out_names[ADM_N_STAGES][ADM_CALL_OUTPUTS] = {
        [ADM_STAGE_HADAMARD] = {"y"},
        [ADM_STAGE_BUCKET] = {"codes"},
        [ADM_STAGE_PACK] = {"packed"},
        [ADM_STAGE_DISTANCE] = {"distance"},
        [ADM_STAGE_TOPK] = {"index", "the result", "info", "histogram"},
        [ADM_STAGE_ATTENTION] = {"out", "score"},
        [ADM_STAGE_DENSE] = {"out", "score"},
    };
    for (size_t i = 0; i < c->n_calls; i++)
        for (int k = 0; k < ADM_CALL_INPUTS; k++)
            if ((is_output ? c->call[i].out[k] : c->call[i].in[k]) == (int32_t)buffer)
                return is_output ? out_names[c->config.stage][k] : in_names[c->config.stage][k];
    return "a buffer";
}
