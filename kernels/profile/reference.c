/* reference.c: what a set of a GPU case should hold and give, recomputed on the host. Random inputs come from their
 * formula (input.h), a session's from host memory: nothing on the device is trusted. */
#include "kernels/profile/reference.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/contract/asym4.h"
#include "kernels/attention/attention.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/code.h"
#include "kernels/distance/asym4.h"
#include "kernels/distance/distance.h"
#include "kernels/distance/distance_metric.h"
#include "kernels/gpu/input.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"

/* Which distances are compared: that of the metric, and with l1 the others of the same codes. */
static adm_distance_fn *distance_at(adm_code_metric metric, int which) {
    static adm_distance_fn *const of_l1[ADM_CHECKED_METRICS] = {adm_distance_l1, adm_distance_xor, adm_distance_dot};
    if (metric == ADM_METRIC_L1) return of_l1[which];
    if (which > 0) return NULL;
    return metric == ADM_METRIC_XOR ? adm_distance_xor : metric == ADM_METRIC_DOT ? adm_distance_dot : adm_distance_asym4;
}

static void make_row(const adm_profile_reference *r, adm_input_tensor tensor, const adm_checked_head *h, uint32_t head,
                     uint32_t token_or_draw, void *out) {
    const uint32_t d = r->shape.heads.head_dim;
    float row[ADM_MAX_HEAD_DIM];
    adm_input_fill_row(r->inputs.seed, tensor, h->sequence, h->kv_head, head, token_or_draw, d, row);
    adm_from_f32(r->shape.dtype, row, d, out);
}

/* Queries; keys and values come with their chunks. */
static adm_status make_random_rows(const adm_profile_reference *r, adm_checked_head *h, adm_error *err) {
    const size_t row_bytes = r->shape.heads.head_dim * adm_dtype_bytes(r->shape.dtype);
    adm_status status = adm_alloc(&h->own_k, h->n_tokens, row_bytes, "host reference of a profile", err);
    if (status == ADM_OK) status = adm_alloc(&h->own_v, h->n_tokens, row_bytes, "host reference of a profile", err);
    if (status == ADM_OK) status = adm_alloc(&h->own_q, r->group, row_bytes, "host reference of a profile", err);
    if (status != ADM_OK) return status;
    for (uint32_t i = 0; i < r->group; i++)
        make_row(r, ADM_INPUT_Q, h, h->kv_head * r->group + i, r->set, (char *)h->own_q + i * row_bytes);
    h->k = h->own_k;
    h->v = h->own_v;
    h->q = h->own_q;
    return ADM_OK;
}

static void take_session_rows(const adm_profile_reference *r, adm_checked_head *h) {
    const adm_gpu_session *s = r->inputs.session;
    const uint32_t layer = adm_gpu_session_layer(s, r->set), step = adm_gpu_session_step(s, r->set);
    const size_t row_bytes = r->shape.heads.head_dim * adm_dtype_bytes(r->shape.dtype);
    h->k = (const char *)s->k[layer] + (size_t)h->kv_head * s->n_tokens * row_bytes;
    h->v = (const char *)s->v[layer] + (size_t)h->kv_head * s->n_tokens * row_bytes;
    h->q = (const char *)s->q[layer] + ((size_t)step * r->shape.heads.n_q_heads + h->kv_head * r->group) * row_bytes;
}

/* Of the head, in the set's layer. */
static const float *channels_of(const adm_profile_reference *r, const adm_checked_head *h) {
    const uint32_t layer = r->inputs.session != NULL ? adm_gpu_session_layer(r->inputs.session, r->set) : 0;
    const size_t head = (size_t)layer * r->shape.heads.n_kv_heads + h->kv_head;
    return r->inputs.channels + head * ADM_GPU_CHANNEL_ROWS * r->shape.heads.head_dim;
}

static void encode_key(const adm_profile_reference *r, const adm_checked_head *h, const void *row, float *y, uint8_t *packed) {
    const adm_gpu_shape *s = &r->shape;
    uint8_t codes[ADM_MAX_HEAD_DIM];
    adm_hadamard_reference(s->dtype, row, 1, s->heads.head_dim, y);
    if (s->metric == ADM_METRIC_ASYM4) {
        adm_encode_rows(y, 1, s->heads.head_dim, channels_of(r, h), 2, packed);
        return;
    }
    adm_bucket_reference(y, s->heads.head_dim, s->threshold, codes);
    adm_pack_reference(codes, 1, s->heads.head_dim, packed);
}

static void encode_query(const adm_profile_reference *r, const adm_checked_head *h, const void *row, float *y,
                         uint8_t *packed) {
    const uint32_t d = r->shape.heads.head_dim;
    if (r->shape.metric != ADM_METRIC_ASYM4) {
        encode_key(r, h, row, y, packed);
        return;
    }
    adm_hadamard_reference(r->shape.dtype, row, 1, d, y);
    adm_asym4_query(y, channels_of(r, h) + 3 * d, d, packed);
}

/* --- Keys, a chunk at a time -------------------------------------------------------------------------------------- */

enum { CHUNK_TOKENS = 2048 };

/* Adds the distances of query i to those of its selection, for the n tokens from `first` on. */
static void add_distances(const adm_profile_reference *r, const adm_checked_head *h, uint32_t i, size_t first, size_t n) {
    const uint32_t d = r->shape.heads.head_dim;
    uint16_t found[CHUNK_TOKENS];
    for (int m = 0; m < ADM_CHECKED_METRICS; m++) {
        adm_distance_fn *distance = distance_at(r->shape.metric, m);
        if (distance == NULL) continue;
        uint16_t *sum = h->distance[m] + (size_t)(i % r->selections) * h->n_tokens + first;
        distance(h->q_packed + i * adm_gpu_packed_bytes(&r->shape), h->packed + first * d / 4, n, d, found);
        for (size_t t = 0; t < n; t++) sum[t] = (uint16_t)(sum[t] + found[t]);
    }
}

/* Chunk after chunk of head after head: keys and values where they are random, codes, and the distances of every query. */
static void make_chunk(void *reference, size_t task, size_t worker) {
    const adm_profile_reference *r = reference;
    const size_t n_chunks = (r->longest + CHUNK_TOKENS - 1) / CHUNK_TOKENS, first = task % n_chunks * CHUNK_TOKENS;
    const adm_checked_head *h = &r->head[task / n_chunks];
    const uint32_t d = r->shape.heads.head_dim, end = (uint32_t)adm_min(first + CHUNK_TOKENS, h->n_tokens);
    const size_t row_bytes = d * adm_dtype_bytes(r->shape.dtype);
    float y[ADM_MAX_HEAD_DIM];
    (void)worker;
    for (uint32_t t = (uint32_t)first; t < end; t++) {
        if (h->own_k != NULL) {
            make_row(r, ADM_INPUT_K, h, h->kv_head, t, (char *)h->own_k + t * row_bytes);
            make_row(r, ADM_INPUT_V, h, h->kv_head, t, (char *)h->own_v + t * row_bytes);
        }
        encode_key(r, h, (const char *)h->k + t * row_bytes, t + 1 == h->n_tokens ? h->y + r->group * d : y,
                   h->packed + (size_t)t * d / 4);
    }
    for (uint32_t i = 0; i < r->group && first < end; i++) add_distances(r, h, i, first, end - first);
}

static void make_keys(adm_profile_reference *r) {
    const size_t n = (r->longest + CHUNK_TOKENS - 1) / CHUNK_TOKENS * r->n_heads;
    if (r->pool != NULL) adm_pool_run(r->pool, n, make_chunk, r, NULL);
    for (size_t task = 0; r->pool == NULL && task < n; task++) make_chunk(r, task, 0);
}

/* --- Heads -------------------------------------------------------------------------------------------------------- */

/* Sinks and recent tokens are within the budget. */
static size_t max_selected(const adm_profile_reference *r, const adm_checked_head *h) {
    return adm_min(r->shape.rule.budget, h->n_tokens);
}

static adm_status make_head(adm_profile_reference *r, adm_checked_head *h, adm_error *err) {
    const adm_gpu_shape *s = &r->shape;
    size_t d = s->heads.head_dim, row_bytes = d * adm_dtype_bytes(s->dtype), n = h->n_tokens, g = r->group;
    const struct {
        void *pointer;
        size_t count, size;
    } buffers[] = {
        {&h->packed, n, d / 4},
        {&h->y, (g + 1) * d, sizeof(float)},
        {&h->q_packed, g, adm_gpu_packed_bytes(s)},
        {&h->distance[0], r->selections * n, 2},
        {&h->distance[1], s->metric == ADM_METRIC_L1 ? r->selections * n : 0, 2},
        {&h->distance[2], s->metric == ADM_METRIC_L1 ? r->selections * n : 0, 2},
        {&h->selected, r->selections * max_selected(r, h), sizeof *h->selected},
        {&h->n_selected, r->selections, sizeof *h->n_selected},
        {&h->output, g * d, sizeof(float)},
        {&h->dense, g * d, sizeof(float)},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof buffers / sizeof buffers[0]; i++)
        status = adm_alloc(buffers[i].pointer, buffers[i].count, buffers[i].size, "host reference of a profile", err);
    if (status == ADM_OK && r->inputs.session == NULL) status = make_random_rows(r, h, err);
    else if (status == ADM_OK) take_session_rows(r, h);
    for (uint32_t i = 0; status == ADM_OK && i < g; i++)
        encode_query(r, h, (const char *)h->q + i * row_bytes, h->y + i * d, h->q_packed + i * adm_gpu_packed_bytes(s));
    return status;
}

/* How many tokens sequence b of the set holds. */
static uint32_t length_of(const adm_profile_reference *r, uint32_t b) {
    const adm_gpu_session *s = r->inputs.session;
    return s != NULL ? s->length[adm_gpu_session_step(s, r->set)] : r->inputs.length[b];
}

static void choose_heads(adm_profile_reference *r) {
    const uint32_t batch = r->shape.batch, n_kv = r->shape.heads.n_kv_heads;
    bool ragged = false;
    for (uint32_t b = 1; b < batch; b++) ragged |= length_of(r, b) != length_of(r, 0);
    r->n_heads = ragged ? (batch < ADM_MAX_CHECKED ? batch : ADM_MAX_CHECKED) : batch * n_kv > 1 ? 2 : 1;
    for (uint32_t i = 0; i < r->n_heads; i++) {
        uint32_t b = ragged ? i : i * (batch - 1), head = ragged ? i % n_kv : i * (n_kv - 1);
        r->head[i] = (adm_checked_head){.sequence = b, .kv_head = head, .n_tokens = length_of(r, b)};
    }
}

static uint32_t largest_distance(const adm_profile_reference *r) { return adm_gpu_max_distance(&r->shape); }

static adm_status make_scratch(adm_profile_reference *r, adm_error *err) {
    const size_t n_threads = r->pool != NULL ? adm_pool_size(r->pool) : 1;
    for (size_t i = 0; i < r->n_heads; i++)
        if (r->head[i].n_tokens > r->longest) r->longest = r->head[i].n_tokens;
    const struct {
        void *pointer;
        size_t count, size;
    } buffers[] = {
        {&r->histogram, largest_distance(r) + 1, sizeof *r->histogram},
        {&r->found, r->longest, sizeof *r->found},
        {&r->distance, r->longest, sizeof *r->distance},
        {&r->score, n_threads * r->longest, sizeof *r->score},
        {&r->seen, r->longest, sizeof *r->seen},
    };
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < sizeof buffers / sizeof buffers[0]; i++)
        status = adm_alloc(buffers[i].pointer, buffers[i].count, buffers[i].size, "host reference of a profile", err);
    return status;
}

adm_status adm_profile_reference_create(const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, uint32_t set, adm_pool *pool,
                                        adm_profile_reference **out, adm_error *err) {
    adm_profile_reference *r = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&r, 1, sizeof *r, "host reference of a profile", err);
    if (status != ADM_OK) return status;
    r->shape = *shape;
    r->inputs = *inputs;
    r->set = set;
    r->pool = pool;
    if (inputs->session != NULL)
        memcpy(r->shape.threshold, inputs->session->threshold[adm_gpu_session_layer(inputs->session, set)],
               sizeof r->shape.threshold);
    r->group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    r->selections = adm_gpu_select_heads(shape) / shape->heads.n_kv_heads;
    choose_heads(r);
    status = make_scratch(r, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_heads; i++) status = make_head(r, &r->head[i], err);
    if (status == ADM_OK) make_keys(r);
    if (status != ADM_OK) adm_profile_reference_free(&r);
    *out = r;
    return status;
}

void adm_profile_reference_free(adm_profile_reference **reference) {
    if (*reference == NULL) return;
    for (size_t i = 0; i < (*reference)->n_heads; i++) {
        adm_checked_head *h = &(*reference)->head[i];
        void *const owned[] = {&h->own_k,      &h->own_v,       &h->own_q,       &h->packed,      &h->y,
                               &h->q_packed,   &h->distance[0], &h->distance[1], &h->distance[2], &h->selected,
                               &h->n_selected, &h->output,      &h->dense};
        for (size_t j = 0; j < sizeof owned / sizeof owned[0]; j++) adm_free(owned[j]);
    }
    void *const scratch[] = {&(*reference)->histogram, &(*reference)->found, &(*reference)->distance, &(*reference)->score,
                             &(*reference)->seen};
    for (size_t j = 0; j < sizeof scratch / sizeof scratch[0]; j++) adm_free(scratch[j]);
    adm_free(reference);
}

void adm_profile_reference_select(adm_profile_reference *r, const adm_select_rule *rule) {
    if (r->rule.budget == rule->budget && r->rule.n_sinks == rule->n_sinks && r->rule.n_recent == rule->n_recent) return;
    r->rule = *rule;
    for (size_t j = 0; j < r->n_heads; j++) {
        adm_checked_head *h = &r->head[j];
        for (uint32_t i = 0; i < r->selections; i++)
            h->n_selected[i] = adm_topk_reference(h->distance[0] + (size_t)i * h->n_tokens, h->n_tokens, largest_distance(r),
                                                  rule, r->histogram, h->selected + i * max_selected(r, h), NULL);
        h->has_output = false;
    }
}

const uint32_t *adm_profile_selection(const adm_profile_reference *r, const adm_checked_head *h, uint32_t i, uint32_t *n) {
    *n = h->n_selected[i];
    return h->selected + i * max_selected(r, h);
}

/* One head's queries, over its selection or densely. */
typedef struct attending {
    const adm_profile_reference *r;
    const adm_checked_head *h;
    bool is_dense;
} attending;

static void attend(void *user, size_t i, size_t worker) {
    const attending *a = user;
    const adm_profile_reference *r = a->r;
    const adm_checked_head *h = a->h;
    const uint32_t d = r->shape.heads.head_dim;
    uint32_t n = h->n_tokens;
    const uint32_t *index = a->is_dense ? NULL : adm_profile_selection(r, h, (uint32_t)i % r->selections, &n);
    adm_attention_reference(r->shape.dtype, (const char *)h->q + i * d * adm_dtype_bytes(r->shape.dtype), h->k, h->v, index, n,
                            d, r->shape.scale, r->score + worker * r->longest, (a->is_dense ? h->dense : h->output) + i * d);
}

const float *adm_profile_output(adm_profile_reference *r, adm_checked_head *h, uint32_t i, bool is_dense) {
    attending a = {r, h, is_dense};
    bool *has = is_dense ? &h->has_dense : &h->has_output;
    if (!*has && r->pool != NULL) adm_pool_run(r->pool, r->group, attend, &a, NULL);
    for (uint32_t k = 0; !*has && r->pool == NULL && k < r->group; k++) attend(&a, k, 0);
    *has = true;
    return (is_dense ? h->dense : h->output) + (size_t)i * r->shape.heads.head_dim;
}

double adm_profile_reference_overlap(adm_profile_reference *r, const adm_select_rule *rule) {
    double selected = 0, distinct = 0;
    if (r->selections == 1) return 1;
    adm_profile_reference_select(r, rule);
    for (size_t j = 0; j < r->n_heads; j++) {
        const adm_checked_head *h = &r->head[j];
        uint32_t n = 0;
        memset(r->seen, 0, h->n_tokens * sizeof *r->seen);
        for (uint32_t i = 0; i < r->selections; i++) {
            const uint32_t *index = adm_profile_selection(r, h, i, &n);
            for (uint32_t k = 0; k < n; k++) {
                distinct += !r->seen[index[k]];
                r->seen[index[k]] = true;
            }
        }
        selected += n;
    }
    return selected > 0 ? distinct / selected : 1;
}
