/* decode.c: allocates a model, fills it, and enqueues its steps; see decode.h. */
#include "kernels/decode/decode.h"

#include <math.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/gpu/memory.h"
#include "kernels/gpu/observe.h"
#include "kernels/gpu/plan.h"
#include "kernels/gpu/registry.h"

/* --- Memory --------------------------------------------------------------------------------------------------------- */

static adm_status allocate(adm_decode *m, adm_error *err) {
    const adm_decode_plan *p = &m->plan;
    const struct {
        char **at;
        size_t bytes;
    } regions[] = {{&m->weights, p->weight_bytes},      {&m->gains, p->gain_bytes},
                   {&m->cache, p->cache_bytes},         {&m->activations, p->activation_bytes},
                   {&m->workspace, p->workspace_bytes}, {&m->pages, p->page_table_bytes}};
    adm_error why = {0};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < sizeof regions / sizeof regions[0] && status == ADM_OK; i++)
        if (regions[i].bytes > 0) status = adm_gpu_allocate(regions[i].bytes, 0, (void **)regions[i].at, &why);
    if (status == ADM_OK) return ADM_OK;
    return adm_fail(
        err, ADM_EENVIRONMENT,
        "model %s, batch %u, %u tokens: %.2f GiB of device memory are needed (weights %.2f, K, V and codes %.2f): %s",
        m->setup.model.name, m->setup.batch, m->setup.capacity, (double)p->bytes / 0x1p30, (double)p->weight_bytes / 0x1p30,
        (double)p->cache_bytes / 0x1p30, why.text);
}

static void *take(char **at, size_t bytes) {
    void *here = *at;
    *at += (bytes + 255) / 256 * 256;
    return here;
}

/* In the order of lay_out_activations() (plan.c); what attention needs goes into *b. */
static void carve_activations(adm_decode *m, adm_gpu_buffers *b) {
    const adm_decode_setup *s = &m->setup;
    const adm_decode_plan *p = &m->plan;
    const size_t batch = s->batch, q = batch * s->model.shape.n_q_heads, kv = batch * s->model.shape.n_kv_heads,
                 d = s->model.shape.head_dim;
    const uint32_t capacity = adm_decode_shape(s, 0).capacity;
    char *at = m->activations;
    m->residual = take(&at, batch * s->model.hidden * 4);
    m->x = take(&at, batch * s->model.hidden * 2);
    m->y = take(&at, batch * s->model.hidden * 2);
    m->qkv = take(&at, batch * p->rows[ADM_MATRIX_QKV] * 2);
    b->q = take(&at, q * d * 2);
    b->k_new = take(&at, kv * d * 2);
    b->v_new = take(&at, kv * d * 2);
    b->out = take(&at, q * d * 2);
    m->gate_up = take(&at, batch * p->rows[ADM_MATRIX_GATE_UP] * 2);
    m->inner = take(&at, batch * p->sizes.inner * 2);
    m->logits = take(&at, batch * p->sizes.vocab * 4);
    m->token = take(&at, batch * sizeof(int32_t));
    b->length = m->lengths = take(&at, batch * sizeof(uint32_t));
    b->y = take(&at, (q + kv) * d * sizeof(float));
    b->code = take(&at, (q + kv) * d);
    b->packed = take(&at, (q + kv) * d / 4);
    b->index = take(&at, q * (s->max_budget > 0 ? s->max_budget : 1) * sizeof(uint32_t));
    b->n_selected = take(&at, q * sizeof(uint32_t));
    b->distance = take(&at, s->max_budget > 0 ? q * capacity * sizeof(uint16_t) : 0);
    b->workspace = m->workspace;
    b->page_table = (const int32_t *)m->pages;
}

static void carve(adm_decode *m) {
    const adm_decode_plan *p = &m->plan;
    const uint32_t hidden = m->setup.model.hidden, n_layers = m->setup.model.n_layers;
    adm_gpu_buffers common = {0};
    char *gain = m->gains, *cache = m->cache;
    carve_activations(m, &common);
    m->embedding = m->weights + p->embedding;
    m->head = m->weights + p->matrix[ADM_MATRIX_HEAD];
    m->last_gain = take(&gain, hidden * sizeof(float));
    m->frequency = take(&gain, m->setup.model.shape.head_dim / 2 * sizeof(float));
    for (uint32_t l = 0; l < n_layers; l++) {
        adm_decode_layer *layer = &m->layer[l];
        for (int i = 0; i < ADM_MATRIX_HEAD; i++) layer->matrix[i] = m->weights + p->matrix[i] + l * p->layer_bytes;
        layer->gain[0] = take(&gain, hidden * sizeof(float));
        layer->gain[1] = take(&gain, hidden * sizeof(float));
        layer->bias = take(&gain, p->rows[ADM_MATRIX_QKV] * sizeof(float));
        layer->buffers = common;
        layer->buffers.k = take(&cache, p->kv_bytes);
        layer->buffers.v = take(&cache, p->kv_bytes);
        layer->has_codes = m->setup.max_budget > 0 && l >= m->setup.dense_layers;
        if (layer->has_codes) layer->buffers.planes = take(&cache, p->planes_bytes);
    }
}

/* --- Contents ------------------------------------------------------------------------------------------------------- */

static adm_status fill_matrix(adm_decode *m, const void *to, uint32_t rows, uint32_t columns, uint64_t which, adm_error *err) {
    return adm_gpu_decode_fill((void *)to, adm_decode_matrix_bytes(&m->plan, rows, columns) / 2,
                               m->setup.seed * 0x10001 + which, 1.0f / sqrtf((float)columns), adm_gpu_stream_of(m->gpu), err);
}

static adm_status fill_random(adm_decode *m, adm_error *err) {
    const adm_decode_plan *p = &m->plan;
    const adm_model *model = &m->setup.model;
    float *ones = NULL;
    adm_status status = adm_alloc(&ones, model->hidden, sizeof *ones, "gains of ones", err);
    for (uint32_t i = 0; i < model->hidden && status == ADM_OK; i++) ones[i] = 1;
    if (status == ADM_OK) status = fill_matrix(m, m->embedding, p->sizes.vocab, model->hidden, 1, err);
    if (status == ADM_OK && !model->tied) status = fill_matrix(m, m->head, p->sizes.vocab, model->hidden, 2, err);
    if (status == ADM_OK) status = adm_gpu_write((void *)m->last_gain, ones, model->hidden * sizeof *ones, err);
    for (uint32_t l = 0; l < model->n_layers && status == ADM_OK; l++) {
        adm_decode_layer *layer = &m->layer[l];
        for (int i = 0; i < ADM_MATRIX_HEAD && status == ADM_OK; i++)
            status = fill_matrix(m, layer->matrix[i], p->rows[i], p->columns[i], 16 + 8 * (uint64_t)l + (uint64_t)i, err);
        for (int i = 0; i < 2 && status == ADM_OK; i++)
            status = adm_gpu_write((void *)layer->gain[i], ones, model->hidden * sizeof *ones, err);
        layer->bias = NULL;
    }
    adm_free(&ones);
    return status;
}

/* A row-major matrix of the source, in tiles if ours are. */
static adm_status write_matrix(adm_decode *m, const void *to, const void *from, uint32_t rows, uint32_t columns,
                               adm_error *err) {
    const size_t bytes = adm_decode_matrix_bytes(&m->plan, rows, columns);
    uint16_t *tiles = NULL;
    if (!m->plan.sizes.tiled) return adm_gpu_write((void *)to, from, bytes, err);
    adm_status status = adm_alloc(&tiles, bytes, 1, "a matrix in tiles", err);
    if (status == ADM_OK) {
        adm_decode_tile(from, rows, columns, tiles);
        status = adm_gpu_write((void *)to, tiles, bytes, err);
    }
    adm_free(&tiles);
    return status;
}

static adm_status fill_from(adm_decode *m, const adm_decode_source *source, adm_error *err) {
    const adm_decode_plan *p = &m->plan;
    const adm_model *model = &m->setup.model;
    const size_t gain_bytes = model->hidden * sizeof(float);
    const void *data;
    adm_status status = source->embedding(source->user, &data, err);
    if (status == ADM_OK) status = write_matrix(m, m->embedding, data, p->sizes.vocab, model->hidden, err);
    if (status == ADM_OK && !model->tied) {
        status = source->matrix(source->user, ADM_MATRIX_HEAD, model->n_layers, &data, err);
        if (status == ADM_OK) status = write_matrix(m, m->head, data, p->sizes.vocab, model->hidden, err);
    }
    if (status == ADM_OK) status = source->gain(source->user, model->n_layers, false, &data, err);
    if (status == ADM_OK) status = adm_gpu_write((void *)m->last_gain, data, gain_bytes, err);
    for (uint32_t l = 0; l < model->n_layers && status == ADM_OK; l++) {
        adm_decode_layer *layer = &m->layer[l];
        for (int i = 0; i < ADM_MATRIX_HEAD && status == ADM_OK; i++) {
            status = source->matrix(source->user, (adm_decode_matrix)i, l, &data, err);
            if (status == ADM_OK) status = write_matrix(m, layer->matrix[i], data, p->rows[i], p->columns[i], err);
        }
        for (int i = 0; i < 2 && status == ADM_OK; i++) {
            status = source->gain(source->user, l, i == 1, &data, err);
            if (status == ADM_OK) status = adm_gpu_write((void *)layer->gain[i], data, gain_bytes, err);
        }
        if (status == ADM_OK) status = source->bias(source->user, l, &data, err);
        if (status == ADM_OK && data == NULL) layer->bias = NULL;
        else if (status == ADM_OK)
            status = adm_gpu_write((void *)layer->bias, data, p->rows[ADM_MATRIX_QKV] * sizeof(float), err);
    }
    return status;
}

static adm_status write_frequencies(adm_decode *m, adm_error *err) {
    float frequency[ADM_MAX_HEAD_DIM / 2];
    const uint32_t half = m->setup.model.shape.head_dim / 2;
    for (uint32_t i = 0; i < half; i++) frequency[i] = (float)pow((double)m->setup.rope_base, -(double)i / (double)half);
    return adm_gpu_write((void *)m->frequency, frequency, half * sizeof *frequency, err);
}

static adm_status write_lengths(adm_decode *m, uint32_t length, adm_error *err) {
    uint32_t lengths[64];
    for (uint32_t b = 0; b < m->setup.batch; b++) lengths[b] = length;
    m->length = length;
    return adm_gpu_write(m->lengths, lengths, m->setup.batch * sizeof *lengths, err);
}

static adm_status fill_cache(adm_decode *m, adm_error *err) {
    const adm_gpu_shape shape = adm_decode_shape(&m->setup, m->setup.max_budget);
    const adm_gpu_impl *encode = adm_gpu_registry_find(ADM_STAGE_APPEND, "prompt");
    const adm_gpu_stream stream = adm_gpu_stream_of(m->gpu);
    adm_status status = write_lengths(m, m->setup.capacity, err);
    if (status == ADM_OK && m->setup.page_size > 0) {
        adm_gpu_plan_pages(&shape, m->page);
        status = adm_gpu_write(m->pages, m->page, (size_t)m->setup.batch * shape.max_pages * sizeof *m->page, err);
    }
    for (uint32_t l = 0; l < m->setup.model.n_layers && status == ADM_OK; l++) {
        status = adm_gpu_decode_fill_cache(&shape, &m->layer[l].buffers, m->setup.seed + l, stream, err);
        if (status == ADM_OK && m->layer[l].has_codes) status = encode->launch(&shape, &m->layer[l].buffers, stream, err);
    }
    return status == ADM_OK ? adm_gpu_wait(m->gpu, err) : status;
}

/* --- Opening -------------------------------------------------------------------------------------------------------- */

static adm_status open_linear(adm_decode *m, adm_error *err) {
    if (adm_decode_own(&m->setup)) return ADM_OK;
    adm_status status = adm_gpu_allocate(ADM_CUBLAS_WORKSPACE_BYTES, 0, (void **)&m->cublas_workspace, err);
    return status == ADM_OK ? adm_cublas_open(m->cublas_workspace, adm_gpu_stream_of(m->gpu), &m->cublas, err) : status;
}

static const adm_gpu_impl *first_of(adm_stage stage) {
    for (size_t i = 0; i < adm_gpu_registry_count(); i++)
        if (adm_gpu_registry_at(i)->stage == stage) return adm_gpu_registry_at(i);
    return NULL;
}

adm_status adm_decode_open(adm_gpu *gpu, const adm_decode_setup *setup, const adm_decode_source *source, adm_decode **out,
                           adm_error *err) {
    adm_decode *m = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&m, 1, sizeof *m, "a model", err);
    if (status != ADM_OK) return status;
    m->gpu = gpu;
    m->setup = *setup;
    status = adm_decode_plan_make(setup, &m->plan, err);
    const adm_gpu_shape shape = adm_decode_shape(setup, setup->max_budget);
    m->dense = first_of(ADM_STAGE_DENSE);
    if (status == ADM_OK) status = adm_alloc(&m->layer, setup->model.n_layers, sizeof *m->layer, "layers", err);
    if (status == ADM_OK && setup->page_size > 0)
        status = adm_alloc(&m->page, (size_t)setup->batch * shape.max_pages, sizeof *m->page, "a page table", err);
    if (status == ADM_OK) status = open_linear(m, err);
    if (status == ADM_OK) status = allocate(m, err);
    if (status == ADM_OK) carve(m);
    if (status == ADM_OK) status = source != NULL ? fill_from(m, source, err) : fill_random(m, err);
    if (status == ADM_OK) status = write_frequencies(m, err);
    if (status == ADM_OK) status = fill_cache(m, err);
    if (status != ADM_OK) adm_decode_close(&m);
    *out = m;
    return status;
}

void adm_decode_close(adm_decode **decode) {
    adm_decode *m = *decode;
    if (m == NULL) return;
    adm_cublas_close(&m->cublas);
    adm_gpu_release(&m->weights);
    adm_gpu_release(&m->gains);
    adm_gpu_release(&m->cache);
    adm_gpu_release(&m->activations);
    adm_gpu_release(&m->workspace);
    adm_gpu_release(&m->pages);
    adm_gpu_release(&m->cublas_workspace);
    adm_free(&m->layer);
    adm_free(&m->page);
    adm_free(decode);
}

/* Tries the variants on the first layer with codes: only a launch knows whether one takes the shape. */
static adm_status choose_variant(adm_decode *m, adm_error *err) {
    static const char *const usual[] = {"grouped", "fused"};
    const char *const named[] = {m->setup.variant};
    const char *const *names = m->setup.variant != NULL ? named : usual;
    const adm_gpu_shape shape = adm_decode_shape(&m->setup, m->budget);
    adm_status status = ADM_EUNSUPPORTED;
    m->step = NULL;
    for (size_t i = 0; i < (m->setup.variant != NULL ? 1u : 2u) && status == ADM_EUNSUPPORTED; i++) {
        m->step = adm_gpu_registry_find(ADM_STAGE_STEP, names[i]);
        if (m->step == NULL && m->setup.variant == NULL) continue;
        if (m->step == NULL)
            return adm_fail(err, ADM_EINPUT, "--variant: '%s' is no whole step in one launch; grouped and fused are", names[i]);
        status = m->step->launch(&shape, &m->layer[m->setup.dense_layers].buffers, adm_gpu_stream_of(m->gpu), err);
    }
    return status == ADM_OK ? adm_gpu_wait(m->gpu, err) : status;
}

adm_status adm_decode_set(adm_decode *m, uint32_t length, uint32_t budget, adm_error *err) {
    if (length < 1 || length > m->setup.capacity || budget > m->setup.max_budget)
        return adm_fail(err, ADM_EINPUT, "%u tokens at budget %u: this model was opened for %u and %u", length, budget,
                        m->setup.capacity, m->setup.max_budget);
    adm_status status = write_lengths(m, length, err);
    const bool same = m->step != NULL && m->budget == budget;
    m->budget = m->plan.n_sparse > 0 ? budget : 0;
    return status == ADM_OK && m->budget > 0 && !same ? choose_variant(m, err) : status;
}

adm_status adm_decode_set_tokens(adm_decode *m, const int32_t *token, adm_error *err) {
    return adm_gpu_write(m->token, token, m->setup.batch * sizeof *token, err);
}

const char *adm_decode_linear_name(const adm_decode *m) { return m->cublas != NULL ? "cublas" : "own"; }

/* --- A step --------------------------------------------------------------------------------------------------------- */

typedef struct enqueuing {
    adm_decode *m;
    const adm_decode_watch *watch; /* NULL: unwatched */
    unsigned parts;
    int32_t layer;
    adm_gpu_stream stream;
} enqueuing;

static adm_range range_of(const enqueuing *e, adm_range_kind kind, adm_stage stage, const char *part, const char *variant) {
    return (adm_range){.kind = kind,
                       .stage = stage,
                       .part = part,
                       .variant = variant,
                       .config_id = e->watch->config_id,
                       .step = e->watch->step,
                       .layer = e->layer,
                       .seq_len = e->m->length,
                       .budget = e->m->budget};
}

static void begin(const enqueuing *e, adm_range_kind kind, adm_stage stage, const char *part, const char *variant) {
    if (e->watch == NULL || e->watch->probes == NULL) return;
    const adm_range range = range_of(e, kind, stage, part, variant);
    adm_probes_begin(e->watch->probes, &range);
}

static void end(const enqueuing *e, adm_range_kind kind, adm_stage stage, const char *part, const char *variant) {
    if (e->watch == NULL || e->watch->probes == NULL) return;
    const adm_range range = range_of(e, kind, stage, part, variant);
    adm_probes_end(e->watch->probes, &range);
}

static adm_status product(const enqueuing *e, adm_decode_matrix which, const void *matrix, const void *x, void *y,
                          adm_error *err) {
    static const char *const names[ADM_N_MATRICES] = {"qkv", "output", "gate_up", "down", "head"};
    adm_decode *m = e->m;
    if (!(e->parts & ADM_DECODE_LINEAR)) return ADM_OK;
    const adm_decode_product p = {.n = m->plan.rows[which],
                                  .k = m->plan.columns[which],
                                  .batch = m->setup.batch,
                                  .wide = which == ADM_MATRIX_HEAD,
                                  .tiled = m->plan.sizes.tiled,
                                  .gated = which == ADM_MATRIX_GATE_UP && m->cublas == NULL,
                                  .matrix = matrix,
                                  .x = x,
                                  .y = y};
    begin(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, names[which], adm_decode_linear_name(m));
    adm_status status = m->cublas != NULL ? adm_cublas_product(m->cublas, &p, err) : adm_gpu_decode_product(&p, e->stream, err);
    end(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, names[which], adm_decode_linear_name(m));
    return status;
}

static adm_status norm(const enqueuing *e, const void *y, const float *gain, adm_error *err) {
    adm_decode *m = e->m;
    if (!(e->parts & ADM_DECODE_REST)) return ADM_OK;
    begin(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "norm", "");
    adm_status status = adm_gpu_decode_norm(&m->plan.sizes, m->residual, y, gain, m->setup.eps, m->x, e->stream, err);
    end(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "norm", "");
    return status;
}

static adm_status attend(const enqueuing *e, adm_error *err) {
    adm_decode *m = e->m;
    const adm_decode_layer *layer = &m->layer[e->layer];
    const bool selects = m->budget > 0 && layer->has_codes;
    const adm_gpu_shape shape = adm_decode_shape(&m->setup, selects ? m->budget : 0);
    const adm_gpu_impl *impl = selects ? m->step : m->dense;
    adm_status status = ADM_OK;
    if (e->parts & ADM_DECODE_REST) {
        begin(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "rope", "");
        status = adm_gpu_decode_rope(&shape, &layer->buffers, m->qkv, layer->bias, m->frequency, !selects, e->stream, err);
        end(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "rope", "");
    }
    if (status != ADM_OK || !(e->parts & ADM_DECODE_ATTENTION)) return status;
    begin(e, ADM_RANGE_STAGE, impl->stage, NULL, impl->name);
    adm_gpu_buffers buffers = layer->buffers;
    const adm_gpu_shape largest = adm_decode_shape(&m->setup, m->setup.max_budget);
    buffers.workspace = m->workspace + adm_gpu_plan_workspace(&largest, impl);
    status = impl->launch(&shape, &buffers, e->stream, err);
    end(e, ADM_RANGE_STAGE, impl->stage, NULL, impl->name);
    if (status == ADM_OK && e->watch != NULL && e->watch->hook != NULL)
        status = e->watch->hook(e->watch->user, (uint32_t)e->layer, err);
    return status;
}

static adm_status mlp(const enqueuing *e, adm_error *err) {
    adm_decode *m = e->m;
    const adm_decode_layer *layer = &m->layer[e->layer];
    const bool gated = m->cublas == NULL;
    adm_status status = norm(e, m->y, layer->gain[1], err);
    if (status == ADM_OK)
        status = product(e, ADM_MATRIX_GATE_UP, layer->matrix[ADM_MATRIX_GATE_UP], m->x, gated ? m->inner : m->gate_up, err);
    if (status == ADM_OK && !gated && (e->parts & ADM_DECODE_REST)) {
        begin(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "gate", "");
        status = adm_gpu_decode_gate(&m->plan.sizes, m->gate_up, m->inner, e->stream, err);
        end(e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "gate", "");
    }
    if (status == ADM_OK) status = product(e, ADM_MATRIX_DOWN, layer->matrix[ADM_MATRIX_DOWN], m->inner, m->y, err);
    return status;
}

static adm_status run_layer(enqueuing *e, uint32_t l, adm_error *err) {
    adm_decode *m = e->m;
    const adm_decode_layer *layer = &m->layer[l];
    e->layer = (int32_t)l;
    begin(e, ADM_RANGE_LAYER, 0, NULL, NULL);
    adm_status status = norm(e, l > 0 ? m->y : NULL, layer->gain[0], err);
    if (status == ADM_OK) status = product(e, ADM_MATRIX_QKV, layer->matrix[ADM_MATRIX_QKV], m->x, m->qkv, err);
    if (status == ADM_OK) status = attend(e, err);
    if (status == ADM_OK)
        status = product(e, ADM_MATRIX_OUTPUT, layer->matrix[ADM_MATRIX_OUTPUT], layer->buffers.out, m->y, err);
    if (status == ADM_OK) status = mlp(e, err);
    end(e, ADM_RANGE_LAYER, 0, NULL, NULL);
    return status;
}

adm_status adm_decode_enqueue(adm_decode *m, unsigned parts, const adm_decode_watch *watch, adm_error *err) {
    enqueuing e = {.m = m, .watch = watch, .parts = parts, .layer = -1, .stream = adm_gpu_stream_of(m->gpu)};
    const bool rest = parts & ADM_DECODE_REST;
    adm_status status = ADM_OK;
    begin(&e, ADM_RANGE_STEP, 0, NULL, m->budget > 0 ? m->step->name : "dense");
    if (rest) {
        begin(&e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "embed", "");
        status = adm_gpu_decode_embed(&m->plan.sizes, m->token, m->embedding, m->residual, e.stream, err);
        end(&e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "embed", "");
    }
    for (uint32_t l = 0; l < m->setup.model.n_layers && status == ADM_OK; l++) status = run_layer(&e, l, err);
    e.layer = -1;
    if (status == ADM_OK) status = norm(&e, m->y, m->last_gain, err);
    if (status == ADM_OK) status = product(&e, ADM_MATRIX_HEAD, m->head, m->x, m->logits, err);
    if (status == ADM_OK && rest) {
        begin(&e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "sampling", "");
        status = adm_gpu_decode_argmax(&m->plan.sizes, m->logits, m->token, e.stream, err);
        end(&e, ADM_RANGE_STAGE, ADM_STAGE_STEP, "sampling", "");
    }
    end(&e, ADM_RANGE_STEP, 0, NULL, m->budget > 0 ? m->step->name : "dense");
    return status;
}
