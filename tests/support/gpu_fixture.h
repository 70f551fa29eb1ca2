/* gpu_fixture.h: for test_gpu.c, two images of every buffer of one configuration: as it is before a step (outputs poisoned,
 * the new token's positions full of rubbish) and as the host reference says it must be after it, guard bytes on both sides
 * included:
 *
 *   | guard | data ...................... | guard | */
#ifndef ADM_TESTS_SUPPORT_GPU_FIXTURE_H
#define ADM_TESTS_SUPPORT_GPU_FIXTURE_H

#include <stdbool.h>

#include "core/contract/asym4.h"
#include "kernels/attention/attention.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/code.h"
#include "kernels/distance/asym4.h"
#include "kernels/distance/distance.h"
#include "kernels/distance/distance_metric.h"
#include "kernels/gpu/memory.h"
#include "kernels/gpu/context.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"

#include "tests/support/need_gpu.h"

enum { GUARD = 256, MAX_BATCH = 5, POOL = 4096 };

typedef enum gpu_pattern { SPREAD, ALL_EQUAL, OUTLIERS, NONFINITE } gpu_pattern;

typedef struct gpu_config {
    adm_shape heads;
    adm_dtype dtype;
    uint32_t batch, length[MAX_BATCH], capacity, page_size;
    adm_select_rule rule;
    gpu_pattern pattern;
} gpu_config;

typedef enum buffer_id {
    Q,
    K_NEW,
    V_NEW,
    K,
    V,
    PLANES,
    PAGES,
    LENGTH,
    CHANNELS,
    Y,
    CODE,
    PACKED,
    DISTANCE,
    DISTANCE_XOR,
    DISTANCE_DOT,
    INDEX,
    N_SELECTED,
    OUT,
    N_BUFFERS
} buffer_id;

static const char *const buffer_names[N_BUFFERS] = {
    "q",          "k_new",          "v_new",          "k",     "v",          "planes",
    "page_table", "length",         "channels",       "y",     "code",       "packed",
    "distance",   "distance (xor)", "distance (dot)", "index", "n_selected", "out"};

/* The stage that fills a buffer; ADM_N_STAGES for inputs. */
static inline adm_stage producer(buffer_id id) {
    switch (id) {
    case Y: return ADM_STAGE_HADAMARD;
    case CODE: return ADM_STAGE_BUCKET;
    case PACKED: return ADM_STAGE_PACK;
    case K:
    case V:
    case PLANES: return ADM_STAGE_APPEND;
    case DISTANCE:
    case DISTANCE_XOR:
    case DISTANCE_DOT: return ADM_STAGE_DISTANCE;
    case INDEX:
    case N_SELECTED: return ADM_STAGE_TOPK;
    case OUT: return ADM_STAGE_ATTENTION;
    default: return ADM_N_STAGES;
    }
}

typedef struct image {
    size_t bytes; /* of the data */
    unsigned char *before, *after, *got; /* GUARD + bytes + GUARD */
    void *device;
} image;

typedef struct fixture {
    const gpu_config *config;
    adm_gpu_shape shape;
    image buffer[N_BUFFERS];
    uint16_t *pool[2]; /* rows of K and V: token t of any head holds row pool_row() */
    uint8_t *pool_packed; /* the codes of those of K; with asym4 by each KV head's thresholds */
    uint16_t *head_distance[3]; /* [capacity] of one query head: by the metric of the case, xor and dot */
    float *expected; /* of attention [batch][n_q_heads][d] */
    adm_gpu_buffers device;
} fixture;

static inline void check_ok(adm_status status, const adm_error *err) {
    if (status != ADM_OK) fail_msg("%s", err->text);
}

static inline void *data_before(fixture *f, buffer_id id) { return f->buffer[id].before + GUARD; }
static inline void *data_after(fixture *f, buffer_id id) { return f->buffer[id].after + GUARD; }

static inline void image_create(image *b, size_t bytes) {
    adm_error err;
    size_t all = bytes + 2 * (size_t)GUARD;
    b->bytes = bytes;
    b->before = malloc(all);
    b->after = malloc(all);
    b->got = malloc(all);
    assert_true(b->before != NULL && b->after != NULL && b->got != NULL);
    memset(b->before, CHECK_CANARY, all);
    memset(b->after, CHECK_CANARY, all);
    check_ok(adm_gpu_allocate(all, CHECK_CANARY, &b->device, &err), &err);
}

static inline void image_free(image *b) {
    free(b->before);
    free(b->after);
    free(b->got);
    adm_gpu_release(&b->device);
}

static inline size_t pool_row(uint32_t b, uint32_t head, uint32_t t) {
    uint32_t row = b * 977u + head * 131u + t;
    return (row < POOL ? row : row * 2654435761u >> 7) % POOL;
}

static inline uint16_t random_element(const fixture *f, adm_rng *rng, size_t channel) {
    static const check_kind kinds[] = {CHECK_NORMAL, CHECK_CONSTANT, CHECK_OUTLIERS, CHECK_NONFINITE};
    float value = check_value(rng, kinds[f->config->pattern], f->config->dtype, channel);
    uint16_t bits;
    adm_from_f32(f->config->dtype, &value, 1, &bits);
    return bits;
}

static inline void fill_random(const fixture *f, adm_rng *rng, uint16_t *rows, size_t n) {
    for (size_t i = 0; i < n; i++) rows[i] = random_element(f, rng, i % f->shape.heads.head_dim);
}

/* Where a row of K or V lies, and the words of a token's planes: gpu.h spelled out again. */
static inline size_t kv_at(fixture *f, uint32_t b, uint32_t head, uint32_t t) {
    const adm_gpu_shape *s = &f->shape;
    if (s->page_size == 0) return (((size_t)b * s->heads.n_kv_heads + head) * s->capacity + t) * s->heads.head_dim;
    const int32_t *pages = data_after(f, PAGES);
    size_t page = (size_t)pages[b * s->max_pages + t / s->page_size];
    return ((page * s->heads.n_kv_heads + head) * s->page_size + t % s->page_size) * s->heads.head_dim;
}

static inline void set_planes(fixture *f, uint32_t *planes, uint32_t b, uint32_t head, uint32_t t, const uint8_t *packed) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t words = s->heads.head_dim / 32;
    uint32_t *tile = planes + (((size_t)b * s->heads.n_kv_heads + head) * (s->capacity / 32) + t / 32) * 64 * words;
    for (uint32_t w = 0; w < words; w++) {
        uint32_t high = 0, low = 0;
        for (uint32_t j = 0; j < 32; j++) {
            uint32_t code = packed[8 * w + j / 4] >> 2 * (j % 4) & 3;
            high |= (code >> 1) << j;
            low |= (code & 1) << j;
        }
        tile[t % 32 * words + w] = high;
        tile[32 * words + t % 32 * words + w] = low;
    }
}

static inline void copy_both(fixture *f, buffer_id id, size_t offset, const void *from, size_t bytes) {
    memcpy((char *)data_before(f, id) + offset, from, bytes);
    memcpy((char *)data_after(f, id) + offset, from, bytes);
}

/* ---- making the images ---- */

static inline void create_buffers(fixture *f) {
    const adm_gpu_shape *s = &f->shape;
    size_t q_rows = (size_t)s->batch * s->heads.n_q_heads, kv_rows = (size_t)s->batch * s->heads.n_kv_heads;
    size_t d = s->heads.head_dim, rows = q_rows + kv_rows, selections = (size_t)s->batch * adm_gpu_select_heads(s);
    const bool asym4 = s->metric == ADM_METRIC_ASYM4;
    size_t tokens = s->page_size == 0 ? (size_t)s->capacity * s->batch : (size_t)s->max_pages * s->page_size * s->batch;
    const size_t bytes[N_BUFFERS] = {[Q] = q_rows * d * 2,
                                     [K_NEW] = kv_rows * d * 2,
                                     [V_NEW] = kv_rows * d * 2,
                                     [K] = tokens * s->heads.n_kv_heads * d * 2,
                                     [V] = tokens * s->heads.n_kv_heads * d * 2,
                                     [PLANES] = kv_rows * s->capacity * d / 4,
                                     [PAGES] = (size_t)s->batch * s->max_pages * 4,
                                     [LENGTH] = s->batch * sizeof(uint32_t),
                                     [CHANNELS] = asym4 ? s->heads.n_kv_heads * ADM_GPU_CHANNEL_ROWS * d * 4 : 0,
                                     [Y] = rows * d * 4,
                                     [CODE] = rows * d,
                                     [PACKED] = rows * adm_gpu_packed_bytes(s),
                                     [DISTANCE] = selections * s->capacity * 2,
                                     [DISTANCE_XOR] = selections * s->capacity * 2,
                                     [DISTANCE_DOT] = selections * s->capacity * 2,
                                     [INDEX] = selections * s->rule.budget * 4,
                                     [N_SELECTED] = selections * 4,
                                     [OUT] = q_rows * d * 2};
    for (int id = 0; id < N_BUFFERS; id++) image_create(&f->buffer[id], bytes[id]);
    f->expected = calloc(q_rows * d, sizeof *f->expected);
    f->pool[0] = malloc(POOL * d * 2);
    f->pool[1] = malloc(POOL * d * 2);
    f->pool_packed = malloc((asym4 ? s->heads.n_kv_heads : 1) * POOL * d / 4);
    f->head_distance[0] = malloc(s->capacity * sizeof(uint16_t));
    f->head_distance[1] = malloc(s->capacity * sizeof(uint16_t));
    f->head_distance[2] = malloc(s->capacity * sizeof(uint16_t));
    assert_true(f->head_distance[0] != NULL && f->head_distance[1] != NULL && f->head_distance[2] != NULL);
    assert_true(f->expected != NULL && f->pool[0] != NULL && f->pool[1] != NULL && f->pool_packed != NULL);
}

static inline const float *channels_of(const fixture *f, uint32_t kv_head) {
    return (const float *)(const void *)(f->buffer[CHANNELS].before + GUARD) +
           (size_t)kv_head * ADM_GPU_CHANNEL_ROWS * f->shape.heads.head_dim;
}

static inline const uint8_t *pool_codes(const fixture *f, uint32_t kv_head, size_t row) {
    const size_t pool = f->shape.metric == ADM_METRIC_ASYM4 ? kv_head : 0;
    return f->pool_packed + (pool * POOL + row) * f->shape.heads.head_dim / 4;
}

/* A key of that KV head. */
static inline void encode_key(const fixture *f, uint32_t kv_head, const uint16_t *row, float *y, uint8_t *code,
                              uint8_t *packed) {
    uint32_t d = f->shape.heads.head_dim;
    adm_hadamard_reference(f->shape.dtype, row, 1, d, y);
    if (f->shape.metric == ADM_METRIC_ASYM4) {
        adm_encode_reference(y, 1, d, channels_of(f, kv_head), 2, packed);
        adm_unpack_reference(packed, 1, d, code);
    } else {
        adm_bucket_reference(y, d, f->shape.threshold, code);
        adm_pack_reference(code, 1, d, packed);
    }
}

/* A query that reads that KV head. */
static inline void encode_query(const fixture *f, uint32_t kv_head, const uint16_t *row, float *y, uint8_t *code,
                                uint8_t *packed) {
    uint32_t d = f->shape.heads.head_dim;
    int8_t q[ADM_MAX_HEAD_DIM];
    encode_key(f, kv_head, row, y, code, packed);
    if (f->shape.metric != ADM_METRIC_ASYM4) return;
    adm_asym4_quantise(y, channels_of(f, kv_head) + 3 * d, d, q);
    adm_asym4_planes(q, d, packed);
    for (uint32_t i = 0; i < d; i++) code[i] = q[i] & 15;
}

/* Centre and scale of the pool's rows; every KV head stretches them in its own way. */
static inline void make_channels(fixture *f) {
    const uint32_t d = f->shape.heads.head_dim;
    float *y = malloc(POOL * d * sizeof *y), centre[ADM_MAX_HEAD_DIM], scale[ADM_MAX_HEAD_DIM];
    assert_non_null(y);
    for (size_t r = 0; r < POOL; r++) adm_hadamard_reference(f->shape.dtype, f->pool[0] + r * d, 1, d, y + r * d);
    adm_asym4_learn(y, POOL, d, centre, scale);
    for (uint32_t h = 0; h < f->shape.heads.n_kv_heads; h++) {
        const float wide = 1 + 0.125f * (float)h, z[3] = {-wide, 0.25f * (float)(h % 3), wide};
        float *to = (float *)data_before(f, CHANNELS) + (size_t)h * ADM_GPU_CHANNEL_ROWS * d;
        adm_asym4_thresholds(centre, scale, d, z, to);
        for (uint32_t i = 0; i < 3 * d; i++) to[i] = to[i] == 0 ? 0 : to[i]; /* no -0 (gpu.h) */
        memcpy(to + 3 * d, scale, d * sizeof *to);
    }
    free(y);
}

/* Inputs, pages in a shuffled order, and the cache up to the token before the newest. */
static inline void make_inputs(fixture *f, adm_rng *rng) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t d = s->heads.head_dim;
    float y[ADM_MAX_HEAD_DIM];
    uint8_t code[ADM_MAX_HEAD_DIM];
    fill_random(f, rng, f->pool[0], (size_t)POOL * d);
    fill_random(f, rng, f->pool[1], (size_t)POOL * d);
    if (s->metric == ADM_METRIC_ASYM4) make_channels(f);
    for (uint32_t h = 0; h < (s->metric == ADM_METRIC_ASYM4 ? s->heads.n_kv_heads : 1); h++)
        for (size_t r = 0; r < POOL; r++)
            encode_key(f, h, f->pool[0] + r * d, y, code, f->pool_packed + (h * (size_t)POOL + r) * d / 4);
    fill_random(f, rng, data_before(f, Q), f->buffer[Q].bytes / 2);
    fill_random(f, rng, data_before(f, K_NEW), f->buffer[K_NEW].bytes / 2);
    fill_random(f, rng, data_before(f, V_NEW), f->buffer[V_NEW].bytes / 2);
    memcpy(data_before(f, LENGTH), f->config->length, s->batch * sizeof(uint32_t));
    uint32_t n_pages = s->batch * s->max_pages;
    int32_t *pages = data_before(f, PAGES);
    for (uint32_t i = 0; i < n_pages; i++) pages[i] = (int32_t)i;
    for (uint32_t i = n_pages; i > 1; i--) {
        uint32_t j = (uint32_t)adm_rng_below(rng, i);
        int32_t swap = pages[i - 1];
        pages[i - 1] = pages[j];
        pages[j] = swap;
    }
    for (buffer_id id = 0; id < N_BUFFERS; id++)
        if (producer(id) == ADM_N_STAGES) memcpy(data_after(f, id), data_before(f, id), f->buffer[id].bytes);
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < s->heads.n_kv_heads; h++)
            for (uint32_t t = 0; t + 1 < f->config->length[b]; t++) {
                size_t row = pool_row(b, h, t), at = 2 * kv_at(f, b, h, t);
                copy_both(f, K, at, f->pool[0] + row * d, 2 * d);
                copy_both(f, V, at, f->pool[1] + row * d, 2 * d);
                set_planes(f, data_before(f, PLANES), b, h, t, pool_codes(f, h, row));
                set_planes(f, data_after(f, PLANES), b, h, t, pool_codes(f, h, row));
            }
}

/* y, code and packed of every row, and the newest token in the caches. */
static inline void expect_encoded(fixture *f) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t d = s->heads.head_dim, n_q = s->heads.n_q_heads, n_kv = s->heads.n_kv_heads;
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < n_q + n_kv; h++) {
            size_t row = (size_t)b * (n_q + n_kv) + h;
            const uint16_t *x = h < n_q ? (uint16_t *)data_after(f, Q) + ((size_t)b * n_q + h) * d
                                        : (uint16_t *)data_after(f, K_NEW) + ((size_t)b * n_kv + h - n_q) * d;
            uint8_t *packed = (uint8_t *)data_after(f, PACKED) + row * adm_gpu_packed_bytes(s);
            uint8_t *code = (uint8_t *)data_after(f, CODE) + row * d;
            float *y = (float *)data_after(f, Y) + row * d;
            if (h < n_q) encode_query(f, adm_kv_head(&s->heads, h), x, y, code, packed);
            else encode_key(f, h - n_q, x, y, code, packed);
            if (h < n_q || f->config->length[b] == 0) continue;
            uint32_t t = f->config->length[b] - 1;
            size_t at = kv_at(f, b, h - n_q, t);
            memcpy((uint16_t *)data_after(f, K) + at, x, 2 * d);
            memcpy((uint16_t *)data_after(f, V) + at, (uint16_t *)data_after(f, V_NEW) + ((size_t)b * n_kv + h - n_q) * d,
                   2 * d);
            set_planes(f, data_after(f, PLANES), b, h - n_q, t, packed);
        }
}

/* Adds one query head's distances to those of selection row `row`. keys: scratch for the codes of all tokens. */
static inline void add_distances(fixture *f, uint32_t b, uint32_t h, size_t row, uint8_t *keys) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t d = s->heads.head_dim, n = f->config->length[b], kv_head = adm_kv_head(&s->heads, h);
    size_t rows_before = (size_t)b * (s->heads.n_q_heads + s->heads.n_kv_heads);
    const size_t row_bytes = adm_gpu_packed_bytes(s);
    const uint8_t *q = (uint8_t *)data_after(f, PACKED) + (rows_before + h) * row_bytes;
    const uint8_t *newest = q + (s->heads.n_q_heads + kv_head - h) * row_bytes;
    for (uint32_t t = 0; t < n; t++)
        memcpy(keys + (size_t)t * d / 4, t + 1 < n ? pool_codes(f, kv_head, pool_row(b, kv_head, t)) : newest, d / 4);
    adm_distance_fn *own = s->metric == ADM_METRIC_ASYM4 ? adm_distance_asym4
                           : s->metric == ADM_METRIC_DOT ? adm_distance_dot
                                                         : adm_distance_l1;
    own(q, keys, n, d, f->head_distance[0]);
    if (s->metric == ADM_METRIC_L1) adm_distance_xor(q, keys, n, d, f->head_distance[1]);
    if (s->metric == ADM_METRIC_L1) adm_distance_dot(q, keys, n, d, f->head_distance[2]);
    uint16_t *own_sum = (uint16_t *)data_after(f, DISTANCE) + row * s->capacity;
    uint16_t * xor = (uint16_t *)data_after(f, DISTANCE_XOR) + row * s->capacity;
    uint16_t *dot = (uint16_t *)data_after(f, DISTANCE_DOT) + row * s->capacity;
    for (uint32_t t = 0; t < n; t++) {
        own_sum[t] = (uint16_t)(own_sum[t] + f->head_distance[0][t]);
        if (s->metric != ADM_METRIC_L1) continue;
        xor[t] = (uint16_t)(xor[t] + f->head_distance[1][t]);
        dot[t] = (uint16_t)(dot[t] + f->head_distance[2][t]);
    }
}

/* The selection of row h of sequence b (gpu.h has S rows per sequence), from the distances of the query heads it serves. */
static inline void expect_selection(fixture *f, uint32_t b, uint32_t h, uint8_t *keys, uint32_t *histogram) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t n = f->config->length[b], served = s->heads.n_q_heads / adm_gpu_select_heads(s);
    size_t row = (size_t)b * adm_gpu_select_heads(s) + h;
    uint16_t *distance = (uint16_t *)data_after(f, DISTANCE) + row * s->capacity;
    memset(distance, 0, n * sizeof *distance);
    memset((uint16_t *)data_after(f, DISTANCE_XOR) + row * s->capacity, 0, n * sizeof *distance);
    memset((uint16_t *)data_after(f, DISTANCE_DOT) + row * s->capacity, 0, n * sizeof *distance);
    for (uint32_t i = 0; i < served; i++) add_distances(f, b, h * served + i, row, keys);
    ((uint32_t *)data_after(f, N_SELECTED))[row] = adm_topk_reference(distance, n, adm_gpu_max_distance(s), &s->rule, histogram,
                                                                      (uint32_t *)data_after(f, INDEX) + row * s->rule.budget,
                                                                      NULL);
}

/* Attention of one query head. Rows of K and V are gathered, so that pages do not matter. */
static inline void expect_attention(fixture *f, uint32_t b, uint32_t h) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t d = s->heads.head_dim, kv_head = adm_kv_head(&s->heads, h);
    uint32_t served = s->heads.n_q_heads / adm_gpu_select_heads(s);
    size_t row = (size_t)b * s->heads.n_q_heads + h, from = (size_t)b * adm_gpu_select_heads(s) + h / served;
    uint32_t selected = ((uint32_t *)data_after(f, N_SELECTED))[from];
    const uint32_t *index = (uint32_t *)data_after(f, INDEX) + from * s->rule.budget;
    uint16_t *k = malloc((size_t)(selected + 1) * d * 2), *v = malloc((size_t)(selected + 1) * d * 2);
    double *score = malloc((selected + 1) * sizeof *score);
    assert_true(k != NULL && v != NULL && score != NULL);
    for (uint32_t i = 0; i < selected; i++) {
        memcpy(k + (size_t)i * d, (uint16_t *)data_after(f, K) + kv_at(f, b, kv_head, index[i]), 2 * d);
        memcpy(v + (size_t)i * d, (uint16_t *)data_after(f, V) + kv_at(f, b, kv_head, index[i]), 2 * d);
    }
    adm_attention_reference(s->dtype, (uint16_t *)data_after(f, Q) + row * d, k, v, NULL, selected, d, s->scale, score,
                            f->expected + row * d);
    free(k);
    free(v);
    free(score);
}

static inline void expect_results(fixture *f) {
    const adm_gpu_shape *s = &f->shape;
    uint8_t *keys = malloc((size_t)s->capacity * s->heads.head_dim / 4);
    uint32_t *histogram = malloc((adm_gpu_max_distance(s) + (size_t)1) * sizeof *histogram);
    assert_true(keys != NULL && histogram != NULL);
    for (uint32_t b = 0; b < s->batch; b++) {
        for (uint32_t h = 0; h < adm_gpu_select_heads(s); h++) expect_selection(f, b, h, keys, histogram);
        for (uint32_t h = 0; h < s->heads.n_q_heads; h++) expect_attention(f, b, h);
    }
    free(keys);
    free(histogram);
}

static inline void fixture_open(fixture *f, const gpu_config *c, adm_selection selection, adm_code_metric metric,
                                adm_rng *rng) {
    memset(f, 0, sizeof *f);
    f->config = c;
    f->shape = (adm_gpu_shape){.heads = c->heads,
                               .dtype = c->dtype,
                               .batch = c->batch,
                               .capacity = c->capacity,
                               .page_size = c->page_size,
                               .rule = c->rule,
                               .selection = selection,
                               .metric = metric,
                               .threshold = {-10, 0, 10},
                               .scale = 0.02f / sqrtf((float)c->heads.head_dim)}; /* scores of a few units */
    if (c->page_size > 0) f->shape.max_pages = (c->capacity + c->page_size - 1) / c->page_size;
    create_buffers(f);
    make_inputs(f, rng);
    expect_encoded(f);
    expect_results(f);

#define AT(id) ((void *)((char *)f->buffer[id].device + GUARD))
    f->device = (adm_gpu_buffers){AT(Q),
                                  AT(K_NEW),
                                  AT(V_NEW),
                                  AT(K),
                                  AT(V),
                                  AT(PLANES),
                                  AT(PAGES),
                                  AT(LENGTH),
                                  AT(Y),
                                  AT(CODE),
                                  AT(PACKED),
                                  AT(DISTANCE),
                                  AT(INDEX),
                                  AT(N_SELECTED),
                                  AT(OUT),
                                  NULL,
                                  metric == ADM_METRIC_ASYM4 ? AT(CHANNELS) : NULL};
}

static inline void fixture_close(fixture *f) {
    for (int id = 0; id < N_BUFFERS; id++) image_free(&f->buffer[id]);
    for (int i = 0; i < 2; i++) free(f->pool[i]);
    for (int i = 0; i < 3; i++) free(f->head_distance[i]);
    free(f->pool_packed);
    free(f->expected);
}

#endif
