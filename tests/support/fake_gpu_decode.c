/* fake_gpu_decode.c: kernels/decode/ops.h for the fake GPU of fake_gpu.c, by the host's references. Each launch adds a made-up
 * duration to the graph that is being captured. `wrong=NAME` with embed, norm, rope, gate, argmax or product in ADAMAS_FAKE_GPU
 * spoils an element of what it writes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/decode/ops.h"
#include "kernels/gpu/input.h"
#include "tests/support/fake_gpu.h"

static bool wrong(const char *name) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    const char *at = asked != NULL ? strstr(asked, "wrong=") : NULL;
    return at != NULL && strncmp(at + strlen("wrong="), name, strlen(name)) == 0;
}

/* A launch, whatever its kind: what does not apply is 0. */
typedef struct call {
    enum { EMBED, NORM, ROPE, GATE, ARGMAX, PRODUCT } kind;
    adm_decode_sizes sizes;
    adm_gpu_shape shape;
    adm_gpu_buffers buffers;
    adm_decode_product product;
    const void *in;
    const float *gain, *frequency; /* of RoPE the bias, and its frequencies */
    float *residual, eps;
    void *out;
    int32_t *token;
    bool appends;
} call;

static void rope(const call *c) {
    const adm_gpu_shape *s = &c->shape;
    const adm_gpu_buffers *p = &c->buffers;
    const size_t d = s->heads.head_dim, n_q = s->heads.n_q_heads * d, n_kv = s->heads.n_kv_heads * d;
    for (uint32_t b = 0; b < s->batch; b++) {
        uint16_t *q = (uint16_t *)p->q + b * n_q, *k = (uint16_t *)p->k_new + b * n_kv, *v = (uint16_t *)p->v_new + b * n_kv;
        adm_decode_rope(&s->heads, (const uint16_t *)c->in + b * (n_q + 2 * n_kv), c->gain, c->frequency, p->length[b] - 1, q,
                        k, v);
        if (wrong("rope")) q[0] = adm_f32_to_f16(1000);
        for (uint32_t h = 0; h < s->heads.n_kv_heads && c->appends; h++) {
            const size_t at = adm_fake_gpu_kv_at(s, p, b, h, p->length[b] - 1);
            memcpy((char *)p->k + at, k + h * d, d * 2);
            memcpy((char *)p->v + at, v + h * d, d * 2);
        }
    }
}

static adm_status run_call(const void *arguments, adm_error *err) {
    const call *c = arguments;
    (void)err;
    switch (c->kind) {
    case EMBED:
        adm_decode_embed(&c->sizes, c->token, c->in, c->residual);
        if (wrong("embed")) c->residual[1] += 100;
        return ADM_OK;
    case NORM:
        adm_decode_norm(&c->sizes, c->residual, c->in, c->gain, c->eps, c->out);
        if (wrong("norm")) ((uint16_t *)c->out)[0] = adm_f32_to_f16(1000);
        return ADM_OK;
    case ROPE: rope(c); return ADM_OK;
    case GATE: adm_decode_gate(&c->sizes, c->in, c->out); return ADM_OK;
    case ARGMAX:
        adm_decode_argmax(&c->sizes, c->in, c->token);
        if (wrong("argmax")) c->token[0] ^= 1;
        return ADM_OK;
    case PRODUCT:
        adm_decode_product_reference(&c->product);
        if (wrong("product")) ((uint16_t *)c->product.y)[0] = adm_f32_to_f16(1000);
        return ADM_OK;
    }
    return ADM_OK;
}

/* Small kernels take a microsecond. */
static adm_status launch(const call *c, double ns, adm_error *err) {
    adm_fake_gpu_spend(ns);
    return adm_fake_gpu_do(run_call, c, sizeof *c, err);
}

adm_status adm_gpu_decode_embed(const adm_decode_sizes *s, const int32_t *token, const void *table, float *residual,
                                adm_gpu_stream stream, adm_error *err) {
    (void)stream;
    return launch(&(call){.kind = EMBED, .sizes = *s, .token = (int32_t *)token, .in = table, .residual = residual}, 1000, err);
}

adm_status adm_gpu_decode_norm(const adm_decode_sizes *s, float *residual, const void *y, const float *gain, float eps, void *x,
                               adm_gpu_stream stream, adm_error *err) {
    (void)stream;
    return launch(&(call){.kind = NORM, .sizes = *s, .residual = residual, .in = y, .gain = gain, .eps = eps, .out = x}, 1000,
                  err);
}

adm_status adm_gpu_decode_rope(const adm_gpu_shape *s, const adm_gpu_buffers *p, const void *qkv, const float *bias,
                               const float *frequency, bool appends, adm_gpu_stream stream, adm_error *err) {
    (void)stream;
    return launch(
        &(call){.kind = ROPE, .shape = *s, .buffers = *p, .in = qkv, .gain = bias, .frequency = frequency, .appends = appends},
        1000, err);
}

adm_status adm_gpu_decode_gate(const adm_decode_sizes *s, const void *gate_up, void *inner, adm_gpu_stream stream,
                               adm_error *err) {
    (void)stream;
    return launch(&(call){.kind = GATE, .sizes = *s, .in = gate_up, .out = inner}, 1000, err);
}

adm_status adm_gpu_decode_argmax(const adm_decode_sizes *s, const float *logits, int32_t *token, adm_gpu_stream stream,
                                 adm_error *err) {
    (void)stream;
    return launch(&(call){.kind = ARGMAX, .sizes = *s, .in = logits, .token = token}, 1000, err);
}

/* Its weights at 1 TB/s. */
adm_status adm_gpu_decode_product(const adm_decode_product *p, adm_gpu_stream stream, adm_error *err) {
    (void)stream;
    if (p->batch > ADM_GPU_PRODUCT_BATCH) return adm_fail(err, ADM_EUNSUPPORTED, "a batch of %u", p->batch);
    return launch(&(call){.kind = PRODUCT, .product = *p}, 2.0 * p->n * p->k / 1e12 * 1e9, err);
}

adm_status adm_gpu_decode_fill(void *matrix, size_t n, uint64_t seed, float scale, adm_gpu_stream stream, adm_error *err) {
    (void)stream, (void)err;
    for (size_t i = 0; i < n; i++) {
        const uint64_t bits = adm_input_mix(seed + 0x9e3779b97f4a7c15u * (1 + (uint64_t)i));
        ((uint16_t *)matrix)[i] = adm_f32_to_f16(((float)(bits >> 40) / 0x1p23f - 1) * 1.7320508f * scale);
    }
    return ADM_OK;
}

adm_status adm_gpu_decode_fill_cache(const adm_gpu_shape *s, const adm_gpu_buffers *p, uint64_t seed, adm_gpu_stream stream,
                                     adm_error *err) {
    const uint32_t d = s->heads.head_dim;
    (void)stream, (void)err;
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < s->heads.n_kv_heads; h++)
            for (uint32_t t = 0; t < p->length[b]; t++) {
                const size_t at = adm_fake_gpu_kv_at(s, p, b, h, t);
                for (uint32_t i = 0; i < d; i++) {
                    ((uint16_t *)((char *)p->k + at))[i] = adm_f32_to_f16(adm_input_value(seed, ADM_INPUT_K, b, h, h, t, i, d));
                    ((uint16_t *)((char *)p->v + at))[i] = adm_f32_to_f16(adm_input_value(seed, ADM_INPUT_V, b, h, h, t, i, d));
                }
            }
    return ADM_OK;
}
