/* trace_source.c: see trace_source.h. */
#include "kernels/tune/host/trace_source.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/policy/thresholds.h"
#include "kernels/registry.h"

enum { LEARNT_ROWS = 4096, CHUNK_ROWS = 256 };

struct adm_trace_source {
    const adm_trace *trace;
    adm_trace_place place;
    adm_host_pipeline rows; /* the registry's fastest */
    float threshold[3];
    uint8_t *packed; /* [n_kv_heads][n_tokens][d/4] */
    float *y; /* [max(n_q_heads + n_kv_heads, CHUNK_ROWS)][d] */
    uint8_t *codes; /* the same */
    void *x; /* queries and the new keys of a step, in the keys' type: [n_q_heads + n_kv_heads][d] */
    float *wide; /* [d] */
    uint8_t *query; /* [n_q_heads + n_kv_heads][d/4] */
    uint16_t *distance; /* [n_tokens] */
    uint32_t *histogram;
};

const float *adm_trace_source_thresholds(const adm_trace_source *s) { return s->threshold; }

void adm_trace_source_close(adm_trace_source **source) {
    adm_trace_source *s = *source;
    if (s == NULL) return;
    void *const owned[] = {&s->packed, &s->y, &s->codes, &s->x, &s->wide, &s->query, &s->distance, &s->histogram};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) adm_free(owned[i]);
    adm_free(source);
}

static size_t n_rows(const adm_trace_source *s) { return s->trace->shape.n_q_heads + s->trace->shape.n_kv_heads; }
static size_t row_bytes(const adm_trace_source *s) {
    return s->trace->shape.head_dim * adm_dtype_bytes(s->place.layer->k_dtype);
}

/* K or V of a token on. Both have one element size in a case: that of the keys. */
static const char *tokens_of(const adm_trace_source *s, const void *tensor, size_t kv_head, size_t token) {
    return (const char *)tensor + (kv_head * s->trace->n_tokens + token) * row_bytes(s);
}

/* --- Opening -------------------------------------------------------------------------------------------------------- */

static adm_status allocate(adm_trace_source *s, adm_error *err) {
    const adm_shape *shape = &s->trace->shape;
    const size_t d = shape->head_dim, rows = n_rows(s) > CHUNK_ROWS ? n_rows(s) : CHUNK_ROWS;
    const struct {
        void *pointer;
        size_t count, size;
    } buffers[] = {
        {&s->packed, shape->n_kv_heads * (size_t)s->place.n_tokens, d / 4},
        {&s->y, rows * d, sizeof *s->y},
        {&s->codes, rows * d, 1},
        {&s->x, n_rows(s), row_bytes(s)},
        {&s->wide, d, sizeof *s->wide},
        {&s->query, n_rows(s), d / 4},
        {&s->distance, s->place.n_tokens, sizeof *s->distance},
        {&s->histogram, 3 * d + 1, sizeof *s->histogram},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof buffers / sizeof *buffers; i++)
        status = adm_alloc(buffers[i].pointer, buffers[i].count, buffers[i].size, "inputs from a trace", err);
    return status;
}

/* As a replay's `calibrated`: quantiles of the layer's keys, of a long prompt's 4,096 tokens at equal distances. */
static adm_status learn(adm_trace_source *s, adm_error *err) {
    const adm_shape *shape = &s->trace->shape;
    const size_t d = shape->head_dim, n = adm_min(s->place.n_tokens, LEARNT_ROWS);
    adm_threshold_spec spec;
    float *y = NULL;
    adm_status status = adm_threshold_parse("calibrated", &spec, err);
    if (status == ADM_OK) status = adm_alloc(&y, shape->n_kv_heads * n * d, sizeof *y, "keys of a layer", err);
    for (size_t h = 0; status == ADM_OK && h < shape->n_kv_heads; h++)
        for (size_t i = 0; i < n; i++)
            s->rows.hadamard->fn.hadamard(s->place.layer->k_dtype,
                                          tokens_of(s, s->place.layer->k, h, i * s->place.n_tokens / n), 1, (uint32_t)d,
                                          y + (h * n + i) * d);
    if (status == ADM_OK) status = adm_threshold_resolve(&spec, y, shape->n_kv_heads * n * d, s->threshold, err);
    adm_free(&y);
    return status;
}

static void encode_keys(adm_trace_source *s) {
    const uint32_t d = s->trace->shape.head_dim;
    for (size_t h = 0; h < s->trace->shape.n_kv_heads; h++)
        for (size_t t = 0; t < s->place.n_tokens; t += CHUNK_ROWS) {
            const size_t n = adm_min(CHUNK_ROWS, s->place.n_tokens - t);
            s->rows.hadamard->fn.hadamard(s->place.layer->k_dtype, tokens_of(s, s->place.layer->k, h, t), n, d, s->y);
            s->rows.bucket->fn.bucket(s->y, n * d, s->threshold, s->codes);
            s->rows.pack->fn.pack(s->codes, n, d, s->packed + (h * s->place.n_tokens + t) * (d / 4));
        }
}

adm_status adm_trace_source_open(const adm_trace *trace, const adm_trace_place *place, adm_trace_source **out, adm_error *err) {
    adm_status status = adm_alloc(out, 1, sizeof **out, "inputs from a trace", err);
    if (status != ADM_OK) return status;
    adm_trace_source *s = *out;
    s->trace = trace;
    s->place = *place;
    adm_host_pipeline_default(&s->rows);
    if (place->layer->v_dtype != place->layer->k_dtype)
        return adm_fail(err, ADM_EUNSUPPORTED, "layer %u of %s has keys in %s and values in %s: a candidate gets one type",
                        place->layer->index, trace->name, adm_dtype_name(place->layer->k_dtype),
                        adm_dtype_name(place->layer->v_dtype));
    status = allocate(s, err);
    if (status == ADM_OK) status = learn(s, err);
    if (status == ADM_OK) encode_keys(s);
    return status;
}

/* --- Filling -------------------------------------------------------------------------------------------------------- */

/* The step's queries and the newest keys, in the keys' type; then their codes. */
static void draw_step(adm_trace_source *s, adm_rng *rng) {
    const adm_shape *shape = &s->trace->shape;
    const adm_trace_layer *l = s->place.layer;
    const uint32_t d = shape->head_dim;
    const size_t step = s->place.first_step + adm_rng_below(rng, s->place.n_steps);
    const size_t newest = (size_t)s->trace->positions[step], token = adm_min(newest, s->trace->n_tokens - 1);
    const char *q = (const char *)l->q + step * shape->n_q_heads * d * adm_dtype_bytes(l->q_dtype);
    for (size_t h = 0; h < shape->n_q_heads; h++) {
        adm_to_f32(l->q_dtype, q + h * d * adm_dtype_bytes(l->q_dtype), d, s->wide);
        adm_from_f32(l->k_dtype, s->wide, d, (char *)s->x + h * row_bytes(s));
    }
    for (size_t h = 0; h < shape->n_kv_heads; h++)
        memcpy((char *)s->x + (shape->n_q_heads + h) * row_bytes(s), tokens_of(s, l->k, h, token), row_bytes(s));
    s->rows.hadamard->fn.hadamard(l->k_dtype, s->x, n_rows(s), d, s->y);
    s->rows.bucket->fn.bucket(s->y, n_rows(s) * d, s->threshold, s->codes);
    s->rows.pack->fn.pack(s->codes, n_rows(s), d, s->query);
}

static const uint8_t *codes_of(const adm_trace_source *s, uint32_t kv_head) {
    return s->packed + (size_t)kv_head * s->place.n_tokens * (s->trace->shape.head_dim / 4);
}

static void find_distances(adm_trace_source *s, uint32_t head, uint16_t *out) {
    const uint32_t d = s->trace->shape.head_dim;
    s->rows.distance->fn.distance(s->query + head * (d / 4), codes_of(s, adm_kv_head(&s->trace->shape, head)),
                                  s->place.n_tokens, d, out);
}

static void fill_head(adm_trace_source *s, const adm_host_case *c, const adm_host_call *call, uint32_t head, bool with_keys) {
    const uint32_t d = s->trace->shape.head_dim, kv_head = adm_kv_head(&s->trace->shape, head);
    const adm_trace_layer *l = s->place.layer;
    void *in[ADM_CALL_INPUTS];
    adm_select_info info;
    for (int i = 0; i < ADM_CALL_INPUTS; i++) in[i] = call->in[i] >= 0 ? adm_arena_at(&c->in, (size_t)call->in[i]) : NULL;
    switch (call->stage) {
    case ADM_STAGE_DISTANCE:
        memcpy(in[0], s->query + head * (d / 4), d / 4);
        if (with_keys) memcpy(in[1], codes_of(s, kv_head), call->n * (d / 4));
        return;
    case ADM_STAGE_TOPK: find_distances(s, head, in[0]); return;
    default:
        memcpy(in[0], (char *)s->x + head * row_bytes(s), row_bytes(s));
        if (with_keys) memcpy(in[1], tokens_of(s, l->k, kv_head, 0), call->n_rows * row_bytes(s));
        if (with_keys) memcpy(in[2], tokens_of(s, l->v, kv_head, 0), call->n_rows * row_bytes(s));
        if (in[3] == NULL) return;
        find_distances(s, head, s->distance);
        s->rows.topk->fn.topk(s->distance, s->place.n_tokens, 3 * d, &call->rule, s->histogram, in[3], &info);
    }
}

void adm_trace_source_fill(adm_trace_source *s, adm_host_case *c, adm_rng *rng, bool refill) {
    const uint32_t n_heads = s->trace->shape.n_q_heads, d = s->trace->shape.head_dim;
    for (size_t i = 0; i < c->n_calls; i++) {
        const adm_host_call *call = &c->call[i];
        void *in = adm_arena_at(&c->in, (size_t)call->in[0]);
        const bool is_encoding = call->stage <= ADM_STAGE_PACK;
        if (is_encoding || i % n_heads == 0) draw_step(s, rng);
        if (call->stage == ADM_STAGE_HADAMARD) memcpy(in, s->x, n_rows(s) * row_bytes(s));
        else if (call->stage == ADM_STAGE_BUCKET) memcpy(in, s->y, n_rows(s) * d * sizeof *s->y);
        else if (call->stage == ADM_STAGE_PACK) memcpy(in, s->codes, n_rows(s) * d);
        else fill_head(s, c, call, (uint32_t)(i % n_heads), !refill && i < n_heads);
    }
}
