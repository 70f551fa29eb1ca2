/* check.c: a decode step against the host's references; see check.h. */
#include "kernels/decode/check.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/attention/attention.h"
#include "kernels/distance/distance.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/gpu/observe.h"
#include "kernels/topk/topk.h"

/* q, k, v and out are F16: each rounding is 2^-11 at most, and the device sums in another order. Beyond that a kernel is wrong.
 * The logits have gone through four layers of such roundings. */
static const double rows_tolerance = 0x1p-8, attention_tolerance = ADM_GPU_ATTENTION_TOLERANCE, logits_tolerance = 0x1p-6;

enum { SMALL_BATCH = 3, SMALL_HIDDEN = 256, SMALL_INNER = 512, SMALL_VOCAB = 1000, SMALL_SPARSE = 2 };

adm_decode_setup adm_decode_small(const adm_decode_setup *s) {
    adm_decode_setup small = *s;
    small.model.n_layers = (s->max_budget > 0 ? s->dense_layers : 0) + SMALL_SPARSE;
    small.model.hidden = SMALL_HIDDEN;
    small.model.intermediate = SMALL_INNER;
    small.model.vocab = SMALL_VOCAB;
    small.model.n_ranks = 1;
    small.batch = (uint32_t)adm_min(s->batch, SMALL_BATCH);
    if (small.linear == ADM_LINEAR_AUTO && s->batch > ADM_GPU_PRODUCT_BATCH) small.linear = ADM_LINEAR_CUBLAS;
    return small;
}

typedef struct checking {
    adm_decode *m;
    adm_decode_errors *errors;
    /* The host's. */
    float *residual, *logits;
    uint16_t *x, *qkv, *q, *k, *v, *out, *y, *gate_up, *inner;
    /* The device's. */
    uint16_t *cache_k, *cache_v, *row, *device_q, *device_out;
    uint32_t *index;
    void *matrix;
} checking;

/* --- Comparing ------------------------------------------------------------------------------------------------------ */

static double relative(const float *got, const float *wanted, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - wanted[i]) * ((double)got[i] - wanted[i]);
        size += (double)wanted[i] * wanted[i];
    }
    return difference == 0 ? 0 : sqrt(difference / size); /* NaN and infinity are above every tolerance */
}

static double relative_f16(const uint16_t *got, const uint16_t *wanted, size_t n) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        const double g = adm_f16_to_f32(got[i]), w = adm_f16_to_f32(wanted[i]);
        difference += (g - w) * (g - w);
        size += w * w;
    }
    return difference == 0 ? 0 : sqrt(difference / size);
}

static adm_status judge(double error, double tolerance, double *largest, const char *what, uint32_t layer, adm_error *err) {
    if (!(error <= *largest)) *largest = error;
    if (error <= tolerance) return ADM_OK;
    return adm_fail(err, ADM_EINTERNAL, "the decode step is wrong: %s of layer %u have a relative error of %.3g, above %.3g",
                    what, layer, error, tolerance);
}

/* --- Attention, from the device's own q, K and V -------------------------------------------------------------------- */

static const uint16_t *cached(const checking *c, const uint16_t *cache, uint32_t b, uint32_t h, uint32_t t) {
    const adm_gpu_shape s = adm_decode_shape(&c->m->setup, 0);
    const size_t d = s.heads.head_dim;
    if (s.page_size == 0) return cache + (((size_t)b * s.heads.n_kv_heads + h) * s.capacity + t) * d;
    const size_t page = (size_t)c->m->page[(size_t)b * s.max_pages + t / s.page_size];
    return cache + ((page * s.heads.n_kv_heads + h) * s.page_size + t % s.page_size) * d;
}

static void codes_of(const adm_gpu_shape *s, const uint16_t *row, uint8_t *packed) {
    float y[ADM_MAX_HEAD_DIM];
    uint8_t code[ADM_MAX_HEAD_DIM];
    adm_hadamard_reference(ADM_F16, row, 1, s->heads.head_dim, y);
    adm_bucket_reference(y, s->heads.head_dim, s->threshold, code);
    adm_pack_reference(code, 1, s->heads.head_dim, packed);
}

typedef struct head_scratch {
    uint16_t *k, *v, *distance;
    uint8_t *codes;
    uint32_t *index, *histogram;
    double *score;
} head_scratch;

/* One query head: which tokens, and the result, against the device's. */
static adm_status check_head(checking *c, const head_scratch *w, uint32_t b, uint32_t h, bool selects, uint16_t *wanted,
                             adm_error *err) {
    adm_decode *m = c->m;
    const adm_gpu_shape s = adm_decode_shape(&m->setup, selects ? m->budget : 0);
    const uint32_t d = s.heads.head_dim, n = m->length;
    const size_t row = (size_t)b * s.heads.n_q_heads + h;
    const uint16_t *q = c->device_q + row * d;
    float out[ADM_MAX_HEAD_DIM];
    uint32_t n_selected = n;
    if (selects) {
        uint8_t query[ADM_MAX_HEAD_DIM / 4];
        codes_of(&s, q, query);
        adm_distance_l1(query, w->codes, n, d, w->distance);
        n_selected = adm_topk_reference(w->distance, n, 3 * d, &s.rule, w->histogram, w->index, NULL);
        c->errors->n_selections++;
        if (memcmp(w->index, c->index + row * m->budget, n_selected * sizeof *w->index) != 0)
            return adm_fail(
                err, ADM_EINTERNAL,
                "the decode step is wrong: sequence %u, query head %u of a layer selects other tokens than the host", b, h);
    }
    adm_attention_reference(ADM_F16, q, w->k, w->v, selects ? w->index : NULL, n_selected, d, s.scale, w->score, out);
    adm_from_f32(ADM_F16, out, d, wanted + row * d);
    return ADM_OK;
}

static adm_status check_kv_head(checking *c, const head_scratch *w, uint32_t b, uint32_t kv, bool selects, uint16_t *wanted,
                                adm_error *err) {
    const adm_gpu_shape s = adm_decode_shape(&c->m->setup, selects ? c->m->budget : 0);
    const uint32_t d = s.heads.head_dim, group = s.heads.n_q_heads / s.heads.n_kv_heads;
    adm_status status = ADM_OK;
    for (uint32_t t = 0; t < c->m->length; t++) {
        memcpy(w->k + (size_t)t * d, cached(c, c->cache_k, b, kv, t), d * 2);
        memcpy(w->v + (size_t)t * d, cached(c, c->cache_v, b, kv, t), d * 2);
        if (selects) codes_of(&s, w->k + (size_t)t * d, w->codes + (size_t)t * d / 4);
    }
    for (uint32_t g = 0; g < group && status == ADM_OK; g++) status = check_head(c, w, b, kv * group + g, selects, wanted, err);
    return status;
}

static adm_status check_attention(checking *c, uint32_t layer, adm_error *err) {
    adm_decode *m = c->m;
    const adm_shape *heads = &m->setup.model.shape;
    const size_t d = heads->head_dim, n = m->length, n_out = (size_t)m->setup.batch * heads->n_q_heads * d;
    const bool selects = m->budget > 0 && m->layer[layer].has_codes;
    head_scratch w = {0};
    adm_status status = adm_alloc(&w.k, n * d, 2, "keys of a head", err);
    if (status == ADM_OK) status = adm_alloc(&w.v, n * d, 2, "values of a head", err);
    if (status == ADM_OK) status = adm_alloc(&w.distance, n, sizeof *w.distance, "distances", err);
    if (status == ADM_OK) status = adm_alloc(&w.codes, n * d / 4, 1, "codes of a head", err);
    if (status == ADM_OK) status = adm_alloc(&w.index, n, sizeof *w.index, "selected tokens", err);
    if (status == ADM_OK) status = adm_alloc(&w.histogram, 3 * d + 1, sizeof *w.histogram, "a histogram", err);
    if (status == ADM_OK) status = adm_alloc(&w.score, n, sizeof *w.score, "scores", err);
    for (uint32_t b = 0; b < m->setup.batch && status == ADM_OK; b++)
        for (uint32_t kv = 0; kv < heads->n_kv_heads && status == ADM_OK; kv++)
            status = check_kv_head(c, &w, b, kv, selects, c->out, err);
    if (status == ADM_OK)
        status = judge(relative_f16(c->device_out, c->out, n_out), attention_tolerance, &c->errors->attention,
                       "the attention's results", layer, err);
    adm_free(&w.k);
    adm_free(&w.v);
    adm_free(&w.distance);
    adm_free(&w.codes);
    adm_free(&w.index);
    adm_free(&w.histogram);
    adm_free(&w.score);
    return status;
}

/* --- The layers ----------------------------------------------------------------------------------------------------- */

static adm_status product(checking *c, adm_decode_matrix which, const void *matrix, const uint16_t *x, void *y,
                          adm_error *err) {
    const adm_decode_plan *p = &c->m->plan;
    const adm_decode_product it = {.n = p->rows[which],
                                   .k = p->columns[which],
                                   .batch = c->m->setup.batch,
                                   .wide = which == ADM_MATRIX_HEAD,
                                   .tiled = p->sizes.tiled,
                                   .matrix = c->matrix,
                                   .x = x,
                                   .y = y};
    adm_status status = adm_gpu_read(c->m->gpu, matrix, adm_decode_matrix_bytes(p, it.n, it.k), c->matrix, err);
    if (status == ADM_OK) adm_decode_product_reference(&it);
    return status;
}

static adm_status read_gain(checking *c, const float *gain, float *to, adm_error *err) {
    return adm_gpu_read(c->m->gpu, gain, c->m->setup.model.hidden * sizeof *gain, to, err);
}

/* q, k and v of the host's own residual against the device's. */
static adm_status check_rows(checking *c, uint32_t l, adm_error *err) {
    adm_decode *m = c->m;
    const adm_shape *h = &m->setup.model.shape;
    const size_t d = h->head_dim, n_q = (size_t)h->n_q_heads * d, n_kv = (size_t)h->n_kv_heads * d;
    float gain[SMALL_HIDDEN], frequency[ADM_MAX_HEAD_DIM / 2], *bias = NULL;
    adm_status status = read_gain(c, m->layer[l].gain[0], gain, err);
    if (status == ADM_OK) status = adm_gpu_read(m->gpu, m->frequency, d / 2 * sizeof *frequency, frequency, err);
    if (status != ADM_OK) return status;
    adm_decode_norm(&m->plan.sizes, c->residual, l > 0 ? c->y : NULL, gain, m->setup.eps, c->x);
    status = product(c, ADM_MATRIX_QKV, m->layer[l].matrix[ADM_MATRIX_QKV], c->x, c->qkv, err);
    for (uint32_t b = 0; b < m->setup.batch && status == ADM_OK; b++)
        adm_decode_rope(h, c->qkv + b * (size_t)m->plan.rows[ADM_MATRIX_QKV], bias, frequency, m->length - 1, c->q + b * n_q,
                        c->k + b * n_kv, c->v + b * n_kv);
    if (status == ADM_OK)
        status = judge(relative_f16(c->device_q, c->q, m->setup.batch * n_q), rows_tolerance, &c->errors->rows, "the queries",
                       l, err);
    for (uint32_t b = 0; b < m->setup.batch; b++) /* the newest row of K and V, where the step has put it */
        for (uint32_t kv = 0; kv < h->n_kv_heads && status == ADM_OK; kv++) {
            const size_t at = b * n_kv + kv * d;
            const uint16_t *k = cached(c, c->cache_k, b, kv, m->length - 1), *v = cached(c, c->cache_v, b, kv, m->length - 1);
            status = judge(relative_f16(k, c->k + at, d), rows_tolerance, &c->errors->rows, "the new keys", l, err);
            if (status == ADM_OK)
                status = judge(relative_f16(v, c->v + at, d), rows_tolerance, &c->errors->rows, "the new values", l, err);
        }
    return status;
}

/* From the device's attention to the end of the layer. */
static adm_status go_on(checking *c, uint32_t l, adm_error *err) {
    adm_decode *m = c->m;
    const void *const *matrix = m->layer[l].matrix;
    float gain[SMALL_HIDDEN];
    adm_status status = product(c, ADM_MATRIX_OUTPUT, matrix[ADM_MATRIX_OUTPUT], c->device_out, c->y, err);
    if (status == ADM_OK) status = read_gain(c, m->layer[l].gain[1], gain, err);
    if (status == ADM_OK) adm_decode_norm(&m->plan.sizes, c->residual, c->y, gain, m->setup.eps, c->x);
    if (status == ADM_OK) status = product(c, ADM_MATRIX_GATE_UP, matrix[ADM_MATRIX_GATE_UP], c->x, c->gate_up, err);
    if (status == ADM_OK) adm_decode_gate(&m->plan.sizes, c->gate_up, c->inner);
    return status == ADM_OK ? product(c, ADM_MATRIX_DOWN, matrix[ADM_MATRIX_DOWN], c->inner, c->y, err) : status;
}

static adm_status after_attention(void *user, uint32_t l, adm_error *err) {
    checking *c = user;
    adm_decode *m = c->m;
    const adm_gpu_buffers *b = &m->layer[l].buffers;
    const size_t n_q = (size_t)m->setup.batch * m->setup.model.shape.n_q_heads, d = m->setup.model.shape.head_dim;
    adm_status status = adm_gpu_wait(m->gpu, err);
    if (status == ADM_OK) status = adm_gpu_read(m->gpu, b->k, m->plan.kv_bytes, c->cache_k, err);
    if (status == ADM_OK) status = adm_gpu_read(m->gpu, b->v, m->plan.kv_bytes, c->cache_v, err);
    if (status == ADM_OK) status = adm_gpu_read(m->gpu, b->q, n_q * d * 2, c->device_q, err);
    if (status == ADM_OK) status = adm_gpu_read(m->gpu, b->out, n_q * d * 2, c->device_out, err);
    if (status == ADM_OK && m->budget > 0 && m->layer[l].has_codes)
        status = adm_gpu_read(m->gpu, b->index, n_q * m->budget * sizeof *c->index, c->index, err);
    if (status == ADM_OK) status = check_rows(c, l, err);
    if (status == ADM_OK) status = check_attention(c, l, err);
    return status == ADM_OK ? go_on(c, l, err) : status;
}

static adm_status check_logits(checking *c, adm_error *err) {
    adm_decode *m = c->m;
    const size_t n = (size_t)m->setup.batch * m->plan.sizes.vocab;
    float gain[SMALL_HIDDEN], *got = NULL;
    int32_t sampled[64], wanted[64];
    adm_status status = read_gain(c, m->last_gain, gain, err);
    if (status == ADM_OK) status = adm_alloc(&got, n, sizeof *got, "logits", err);
    if (status == ADM_OK) adm_decode_norm(&m->plan.sizes, c->residual, c->y, gain, m->setup.eps, c->x);
    if (status == ADM_OK) status = product(c, ADM_MATRIX_HEAD, m->head, c->x, c->logits, err);
    if (status == ADM_OK) status = adm_gpu_read(m->gpu, m->logits, n * sizeof *got, got, err);
    if (status == ADM_OK)
        status = judge(relative(got, c->logits, n), logits_tolerance, &c->errors->logits, "the logits after",
                       m->setup.model.n_layers, err);
    if (status == ADM_OK) status = adm_gpu_read(m->gpu, m->token, m->setup.batch * sizeof *sampled, sampled, err);
    if (status == ADM_OK) adm_decode_argmax(&m->plan.sizes, got, wanted); /* of the device's own logits */
    for (uint32_t b = 0; b < m->setup.batch && status == ADM_OK; b++)
        if (sampled[b] != wanted[b])
            status = adm_fail(err, ADM_EINTERNAL,
                              "the decode step is wrong: it samples token %d, and the largest logit is %d's", sampled[b],
                              wanted[b]);
    adm_free(&got);
    return status;
}

/* --- All ------------------------------------------------------------------------------------------------------------ */

static adm_status allocate(checking *c, adm_error *err) {
    const adm_decode *m = c->m;
    const adm_decode_plan *p = &m->plan;
    const size_t b = m->setup.batch, d = m->setup.model.shape.head_dim, q = b * m->setup.model.shape.n_q_heads,
                 kv = b * m->setup.model.shape.n_kv_heads;
    size_t largest = 0;
    for (int i = 0; i < ADM_N_MATRICES; i++) {
        const size_t bytes = adm_decode_matrix_bytes(p, p->rows[i], p->columns[i]);
        if (bytes > largest) largest = bytes;
    }
    const struct {
        void *at;
        size_t bytes;
    } arrays[] = {{&c->residual, b * p->sizes.hidden * 4},
                  {&c->logits, b * p->sizes.vocab * 4},
                  {&c->x, b * p->sizes.hidden * 2},
                  {&c->y, b * p->sizes.hidden * 2},
                  {&c->qkv, b * p->rows[ADM_MATRIX_QKV] * 2},
                  {&c->q, q * d * 2},
                  {&c->k, kv * d * 2},
                  {&c->v, kv * d * 2},
                  {&c->out, q * d * 2},
                  {&c->gate_up, b * p->rows[ADM_MATRIX_GATE_UP] * 2},
                  {&c->inner, b * p->sizes.inner * 2},
                  {&c->cache_k, p->kv_bytes},
                  {&c->cache_v, p->kv_bytes},
                  {&c->device_q, q * d * 2},
                  {&c->device_out, q * d * 2},
                  {&c->index, q * (m->setup.max_budget + 1) * 4},
                  {&c->matrix, largest}};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0] && status == ADM_OK; i++)
        status = adm_alloc(arrays[i].at, arrays[i].bytes, 1, "a check of a decode step", err);
    return status;
}

static void release(checking *c) {
    void *const arrays[] = {&c->residual, &c->logits,   &c->x,          &c->y,       &c->qkv,   &c->q,
                            &c->k,        &c->v,        &c->out,        &c->gate_up, &c->inner, &c->cache_k,
                            &c->cache_v,  &c->device_q, &c->device_out, &c->index,   &c->matrix};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) adm_free(arrays[i]);
}

adm_status adm_decode_check(adm_decode *m, uint32_t length, uint32_t budget, adm_decode_errors *errors, adm_error *err) {
    checking c = {.m = m, .errors = errors};
    const adm_decode_watch watch = {.step = -1, .hook = after_attention, .user = &c};
    int32_t token[64];
    *errors = (adm_decode_errors){0};
    for (uint32_t b = 0; b < m->setup.batch; b++) token[b] = (int32_t)((7 + 131 * b) % m->plan.sizes.vocab);
    if (m->setup.model.hidden > SMALL_HIDDEN)
        return adm_fail(err, ADM_EINTERNAL, "a model of %u hidden elements is too large for a check", m->setup.model.hidden);
    adm_status status = allocate(&c, err);
    if (status == ADM_OK) status = adm_decode_set(m, length, budget, err);
    if (status == ADM_OK) status = adm_decode_set_tokens(m, token, err);
    if (status == ADM_OK)
        status = adm_gpu_read(m->gpu, m->embedding,
                              adm_decode_matrix_bytes(&m->plan, m->plan.sizes.vocab, m->plan.sizes.hidden), c.matrix, err);
    if (status == ADM_OK) {
        adm_decode_embed(&m->plan.sizes, token, c.matrix, c.residual);
        status = adm_decode_enqueue(m, ADM_DECODE_ALL, &watch, err);
    }
    if (status == ADM_OK) status = adm_gpu_wait(m->gpu, err);
    if (status == ADM_OK) status = check_logits(&c, err);
    release(&c);
    return status;
}

adm_status adm_decode_follow(adm_decode *m, const int32_t *token, const int32_t *expected, uint32_t n, uint32_t budget,
                             adm_decode_followed *followed, adm_error *err) {
    adm_gpu_graph *graph = NULL;
    *followed = (adm_decode_followed){.first_wrong = n};
    if (m->setup.batch != 1) return adm_fail(err, ADM_EINPUT, "tokens are followed at batch 1, not %u", m->setup.batch);
    adm_status status = adm_decode_set(m, 1, budget, err);
    if (status == ADM_OK) status = adm_decode_capture(m, ADM_DECODE_ALL, &graph, err);
    for (uint32_t i = 0; i < n && status == ADM_OK; i++) {
        int32_t sampled;
        status = adm_decode_set(m, i + 1, budget, err);
        if (status == ADM_OK) status = adm_decode_set_tokens(m, &token[i], err);
        if (status == ADM_OK) status = adm_gpu_graph_launch(graph, err);
        if (status == ADM_OK) status = adm_gpu_wait(m->gpu, err);
        if (status == ADM_OK) status = adm_gpu_read(m->gpu, m->token, sizeof sampled, &sampled, err);
        if (status != ADM_OK) break;
        followed->n++;
        followed->n_same += sampled == expected[i];
        if (sampled != expected[i] && followed->first_wrong == n) followed->first_wrong = i;
    }
    adm_gpu_graph_free(&graph);
    return status;
}
