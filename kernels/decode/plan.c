/* plan.c: memory and bytes of a decode step; see plan.h. */
#include "kernels/decode/plan.h"

#include <math.h>

#include "core/base/minmax.h"
#include "kernels/gpu/plan.h"

static size_t round_up(size_t bytes) { return (bytes + 255) / 256 * 256; }

static size_t reserve(size_t *at, size_t bytes) {
    const size_t here = *at;
    *at += round_up(bytes);
    return here;
}

bool adm_decode_own(const adm_decode_setup *s) {
    return s->linear == ADM_LINEAR_OWN || (s->linear == ADM_LINEAR_AUTO && s->batch <= ADM_GPU_PRODUCT_BATCH);
}

size_t adm_decode_matrix_bytes(const adm_decode_plan *p, uint32_t rows, uint32_t columns) {
    return (size_t)adm_decode_rows(p->sizes.tiled, rows) * columns * 2;
}

static adm_status check(const adm_decode_setup *s, const adm_decode_plan *p, adm_error *err) {
    const adm_model *m = &s->model;
    if (m->weight_bytes != 2 || m->cache_bytes != 2)
        return adm_fail(err, ADM_EUNSUPPORTED, "model %s: weights and cache of 2 bytes per element are what is decoded",
                        m->name);
    if (m->intermediate % m->n_ranks != 0 || m->vocab % m->n_ranks != 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "model %s: %u ranks do not divide an intermediate size of %u and %u words",
                        m->name, m->n_ranks, m->intermediate, m->vocab);
    if (m->hidden % 32 != 0 || p->sizes.inner % 32 != 0 || m->hidden > 1u << 15)
        return adm_fail(
            err, ADM_EUNSUPPORTED,
            "model %s: hidden and intermediate size of a rank must be multiples of 32, and the first at most 32768; "
            "they are %u and %u",
            m->name, m->hidden, p->sizes.inner);
    if (s->batch < 1 || s->batch > 64)
        return adm_fail(err, ADM_EINPUT, "a batch of %u: 1 to 64 sequences are decoded at once", s->batch);
    return ADM_OK;
}

static void lay_out_weights(const adm_decode_setup *s, adm_decode_plan *p) {
    const adm_model *m = &s->model;
    const uint32_t q = m->shape.n_q_heads * m->shape.head_dim;
    const uint32_t rows[] = {adm_decode_qkv_rows(&m->shape), m->hidden, 2 * p->sizes.inner, m->hidden, p->sizes.vocab};
    const uint32_t columns[] = {m->hidden, q, m->hidden, p->sizes.inner, m->hidden};
    size_t at = 0;
    for (int i = 0; i < ADM_N_MATRICES; i++) {
        p->rows[i] = rows[i];
        p->columns[i] = columns[i];
    }
    p->embedding = reserve(&at, adm_decode_matrix_bytes(p, p->sizes.vocab, m->hidden));
    p->matrix[ADM_MATRIX_HEAD] = m->tied ? p->embedding : reserve(&at, adm_decode_matrix_bytes(p, p->sizes.vocab, m->hidden));
    const size_t first = at;
    for (int i = 0; i < ADM_MATRIX_HEAD; i++) p->matrix[i] = reserve(&at, adm_decode_matrix_bytes(p, rows[i], columns[i]));
    p->layer_bytes = at - first;
    p->weight_bytes = first + m->n_layers * p->layer_bytes;
    for (int i = 0; i < ADM_MATRIX_HEAD; i++) p->linear_bytes += 2.0 * m->n_layers * rows[i] * columns[i];
    p->linear_bytes += 2.0 * rows[ADM_MATRIX_HEAD] * columns[ADM_MATRIX_HEAD];
    p->gain_bytes = (2 * (size_t)m->n_layers + 1) * round_up(m->hidden * sizeof(float)) +
                    m->n_layers * round_up(rows[ADM_MATRIX_QKV] * sizeof(float)) +
                    round_up(m->shape.head_dim / 2 * sizeof(float));
}

adm_gpu_shape adm_decode_shape(const adm_decode_setup *s, uint32_t budget) {
    const uint32_t capacity = (s->capacity + 31) / 32 * 32;
    return (adm_gpu_shape){.heads = s->model.shape,
                           .dtype = ADM_F16,
                           .batch = s->batch,
                           .capacity = capacity,
                           .page_size = s->page_size,
                           .max_pages = s->page_size > 0 ? (capacity + s->page_size - 1) / s->page_size : 0,
                           .rule = {.budget = budget > 0 ? budget : 1},
                           /* Random keys have unit variance, and so have their transforms: quartiles of a normal. */
                           .threshold = {-0.674f, 0, 0.674f},
                           .scale = (float)(1 / sqrt((double)s->model.shape.head_dim)),
                           .selection = ADM_SELECT_HEAD};
}

static void lay_out_cache(const adm_decode_setup *s, adm_decode_plan *p) {
    const adm_gpu_shape shape = adm_decode_shape(s, s->max_budget);
    const size_t kv_rows = (size_t)s->batch * shape.heads.n_kv_heads, d = shape.heads.head_dim;
    const size_t tokens = s->page_size > 0 ? (size_t)shape.max_pages * s->page_size : shape.capacity;
    p->kv_bytes = round_up(kv_rows * tokens * d * 2);
    p->n_sparse = s->max_budget > 0 && s->model.n_layers > s->dense_layers ? s->model.n_layers - s->dense_layers : 0;
    p->planes_bytes = round_up(kv_rows * shape.capacity * d / 4);
    p->cache_bytes = s->model.n_layers * 2 * p->kv_bytes + p->n_sparse * p->planes_bytes;
    p->page_table_bytes = round_up((size_t)s->batch * shape.max_pages * sizeof(int32_t));
    p->workspace_bytes = round_up(adm_gpu_plan_workspace(&shape, NULL));
}

/* The sum of what adm_decode_open() carves up (model.c). */
static void lay_out_activations(const adm_decode_setup *s, adm_decode_plan *p) {
    const adm_shape *h = &s->model.shape;
    const size_t b = s->batch, q = b * h->n_q_heads, kv = b * h->n_kv_heads, d = h->head_dim;
    const uint32_t capacity = adm_decode_shape(s, 0).capacity;
    const size_t sizes[] = {b * s->model.hidden * 4, b * s->model.hidden * 2, b * s->model.hidden * 2,
                            b * p->rows[ADM_MATRIX_QKV] * 2, q * d * 2, kv * d * 2, kv * d * 2, q * d * 2,
                            b * p->rows[ADM_MATRIX_GATE_UP] * 2, b * p->sizes.inner * 2, b * p->sizes.vocab * 4,
                            b * sizeof(int32_t), b * sizeof(uint32_t),
                            /* of a step in several launches */
                            (q + kv) * d * sizeof(float), (q + kv) * d, (q + kv) * d / 4,
                            q * (s->max_budget > 0 ? s->max_budget : 1) * sizeof(uint32_t), q * sizeof(uint32_t),
                            s->max_budget > 0 ? q * capacity * sizeof(uint16_t) : 0};
    size_t at = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) reserve(&at, sizes[i]);
    p->activation_bytes = at;
}

adm_status adm_decode_plan_make(const adm_decode_setup *s, adm_decode_plan *p, adm_error *err) {
    const adm_model *m = &s->model;
    adm_status status = adm_model_check(m, err);
    *p = (adm_decode_plan){0};
    if (status != ADM_OK) return status;
    p->sizes = (adm_decode_sizes){s->batch, m->hidden,        m->intermediate / m->n_ranks, m->vocab / m->n_ranks,
                                  m->shape, adm_decode_own(s)};
    status = check(s, p, err);
    const adm_gpu_shape shape = adm_decode_shape(s, s->max_budget);
    if (status == ADM_OK) status = adm_gpu_shape_check(&shape, err);
    if (status != ADM_OK) return status;
    lay_out_weights(s, p);
    lay_out_cache(s, p);
    lay_out_activations(s, p);
    p->bytes = p->weight_bytes + p->gain_bytes + p->cache_bytes + p->activation_bytes + p->workspace_bytes +
               p->page_table_bytes;
    return ADM_OK;
}

double adm_decode_attention_bytes(const adm_decode_setup *s, uint32_t length, uint32_t budget) {
    const double row = s->model.shape.head_dim, kv = (double)s->batch * s->model.shape.n_kv_heads;
    const uint32_t n_dense = budget > 0 ? (uint32_t)adm_min(s->dense_layers, s->model.n_layers) : s->model.n_layers;
    const double dense = kv * length * 2 * row * 2;
    const double chosen = kv * (double)adm_min(budget, length) * 2 * row * 2 + kv * length * row / 4;
    return n_dense * dense + (s->model.n_layers - n_dense) * chosen;
}
