/* test_gpu.c: every row of the GPU registry against the host reference.
 *
 * For each configuration the host makes two images of every buffer: as it is before a step (outputs poisoned, the new
 * token's places full of rubbish) and as it must be after it, guard bytes on both sides included:
 *
 *   | guard | data ...................... | guard |
 *
 * A row finds the results of earlier stages in place and its own outputs as before; afterwards every byte of every buffer
 * must be as the images say, so a stray write anywhere in a buffer or around it shows. Only the results of attention are
 * compared with a tolerance. ADAMAS_TEST_STAGE=topk, say, runs the rows of one stage only. */
#include <stdbool.h>

#include "kernels/attention.h"
#include "kernels/bucket.h"
#include "kernels/distance.h"
#include "kernels/gpu_launch.h"
#include "kernels/gpu_memory.h"
#include "kernels/gpu_run.h"
#include "kernels/hadamard.h"
#include "kernels/pack.h"
#include "kernels/topk.h"

#include "tests/need_gpu.h"

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
    Q, K_NEW, V_NEW, K, V, PLANES, PAGES, LENGTH, Y, CODE, PACKED, DISTANCE, DISTANCE_XOR, INDEX, N_SELECTED, OUT,
    N_BUFFERS
} buffer_id;

static const char *const buffer_names[N_BUFFERS] = {
    "q", "k_new", "v_new", "k", "v", "planes", "page_table", "length", "y", "code", "packed", "distance",
    "distance (xor)", "index", "n_selected", "out"};

/* The stage that fills a buffer; ADM_N_STAGES for inputs. */
static adm_stage producer(buffer_id id) {
    switch (id) {
    case Y: return ADM_STAGE_HADAMARD;
    case CODE: return ADM_STAGE_BUCKET;
    case PACKED: return ADM_STAGE_PACK;
    case K: case V: case PLANES: return ADM_STAGE_APPEND;
    case DISTANCE: case DISTANCE_XOR: return ADM_STAGE_DISTANCE;
    case INDEX: case N_SELECTED: return ADM_STAGE_TOPK;
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
    uint8_t *pool_packed;
    uint16_t *head_distance[2]; /* [capacity] of one query head, by l1 and by xor */
    float *expected; /* of attention [batch][n_q_heads][d] */
    adm_gpu_buffers device;
} fixture;

static void check_ok(adm_status status, const adm_error *err) {
    if (status != ADM_OK) fail_msg("%s", err->text);
}

static void *data_before(fixture *f, buffer_id id) { return f->buffer[id].before + GUARD; }
static void *data_after(fixture *f, buffer_id id) { return f->buffer[id].after + GUARD; }

static void image_create(image *b, size_t bytes) {
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

static void image_free(image *b) {
    free(b->before);
    free(b->after);
    free(b->got);
    adm_gpu_release(&b->device);
}

static size_t pool_row(uint32_t b, uint32_t head, uint32_t t) {
    uint32_t row = b * 977u + head * 131u + t;
    return (row < POOL ? row : row * 2654435761u >> 7) % POOL;
}

static uint16_t random_element(const fixture *f, adm_rng *rng, size_t channel) {
    static const check_kind kinds[] = {CHECK_NORMAL, CHECK_CONSTANT, CHECK_OUTLIERS, CHECK_NONFINITE};
    float value = check_value(rng, kinds[f->config->pattern], f->config->dtype, channel);
    uint16_t bits;
    adm_from_f32(f->config->dtype, &value, 1, &bits);
    return bits;
}

static void fill_random(const fixture *f, adm_rng *rng, uint16_t *rows, size_t n) {
    for (size_t i = 0; i < n; i++) rows[i] = random_element(f, rng, i % f->shape.heads.head_dim);
}

/* Where a row of K or V lies, and the words of a token's planes: gpu.h spelled out again. */
static size_t kv_at(fixture *f, uint32_t b, uint32_t head, uint32_t t) {
    const adm_gpu_shape *s = &f->shape;
    if (s->page_size == 0) return (((size_t)b * s->heads.n_kv_heads + head) * s->capacity + t) * s->heads.head_dim;
    const int32_t *pages = data_after(f, PAGES);
    size_t page = (size_t)pages[b * s->max_pages + t / s->page_size];
    return ((page * s->heads.n_kv_heads + head) * s->page_size + t % s->page_size) * s->heads.head_dim;
}

static void set_planes(fixture *f, uint32_t *planes, uint32_t b, uint32_t head, uint32_t t, const uint8_t *packed) {
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

static void copy_both(fixture *f, buffer_id id, size_t offset, const void *from, size_t bytes) {
    memcpy((char *)data_before(f, id) + offset, from, bytes);
    memcpy((char *)data_after(f, id) + offset, from, bytes);
}

/* ---- making the images ---- */

static void create_buffers(fixture *f) {
    const adm_gpu_shape *s = &f->shape;
    size_t q_rows = (size_t)s->batch * s->heads.n_q_heads, kv_rows = (size_t)s->batch * s->heads.n_kv_heads;
    size_t d = s->heads.head_dim, rows = q_rows + kv_rows, selections = (size_t)s->batch * adm_gpu_select_heads(s);
    size_t tokens = s->page_size == 0 ? (size_t)s->capacity * s->batch : (size_t)s->max_pages * s->page_size * s->batch;
    const size_t bytes[N_BUFFERS] = {
        [Q] = q_rows * d * 2, [K_NEW] = kv_rows * d * 2, [V_NEW] = kv_rows * d * 2,
        [K] = tokens * s->heads.n_kv_heads * d * 2, [V] = tokens * s->heads.n_kv_heads * d * 2,
        [PLANES] = kv_rows * s->capacity * d / 4, [PAGES] = (size_t)s->batch * s->max_pages * 4,
        [LENGTH] = s->batch * sizeof(uint32_t), [Y] = rows * d * 4, [CODE] = rows * d, [PACKED] = rows * d / 4,
        [DISTANCE] = selections * s->capacity * 2, [DISTANCE_XOR] = selections * s->capacity * 2,
        [INDEX] = selections * s->rule.budget * 4, [N_SELECTED] = selections * 4, [OUT] = q_rows * d * 2};
    for (int id = 0; id < N_BUFFERS; id++) image_create(&f->buffer[id], bytes[id]);
    f->expected = calloc(q_rows * d, sizeof *f->expected);
    f->pool[0] = malloc(POOL * d * 2);
    f->pool[1] = malloc(POOL * d * 2);
    f->pool_packed = malloc(POOL * d / 4);
    f->head_distance[0] = malloc(s->capacity * sizeof(uint16_t));
    f->head_distance[1] = malloc(s->capacity * sizeof(uint16_t));
    assert_true(f->head_distance[0] != NULL && f->head_distance[1] != NULL);
    assert_true(f->expected != NULL && f->pool[0] != NULL && f->pool[1] != NULL && f->pool_packed != NULL);
}

static void encode(const fixture *f, const uint16_t *row, float *y, uint8_t *code, uint8_t *packed) {
    uint32_t d = f->shape.heads.head_dim;
    adm_hadamard_reference(f->shape.dtype, row, 1, d, y);
    adm_bucket_reference(y, d, f->shape.threshold, code);
    adm_pack_reference(code, 1, d, packed);
}

/* Inputs, pages in a shuffled order, and the cache up to the token before the newest. */
static void make_inputs(fixture *f, adm_rng *rng) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t d = s->heads.head_dim;
    float y[ADM_MAX_HEAD_DIM];
    uint8_t code[ADM_MAX_HEAD_DIM];
    fill_random(f, rng, f->pool[0], (size_t)POOL * d);
    fill_random(f, rng, f->pool[1], (size_t)POOL * d);
    for (size_t r = 0; r < POOL; r++) encode(f, f->pool[0] + r * d, y, code, f->pool_packed + r * d / 4);
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
                set_planes(f, data_before(f, PLANES), b, h, t, f->pool_packed + row * d / 4);
                set_planes(f, data_after(f, PLANES), b, h, t, f->pool_packed + row * d / 4);
            }
}

/* y, code and packed of every row, and the newest token in the caches. */
static void expect_encoded(fixture *f) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t d = s->heads.head_dim, n_q = s->heads.n_q_heads, n_kv = s->heads.n_kv_heads;
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < n_q + n_kv; h++) {
            size_t row = (size_t)b * (n_q + n_kv) + h;
            const uint16_t *x = h < n_q ? (uint16_t *)data_after(f, Q) + ((size_t)b * n_q + h) * d
                                        : (uint16_t *)data_after(f, K_NEW) + ((size_t)b * n_kv + h - n_q) * d;
            uint8_t *packed = (uint8_t *)data_after(f, PACKED) + row * d / 4;
            encode(f, x, (float *)data_after(f, Y) + row * d, (uint8_t *)data_after(f, CODE) + row * d, packed);
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
static void add_distances(fixture *f, uint32_t b, uint32_t h, size_t row, uint8_t *keys) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t d = s->heads.head_dim, n = f->config->length[b], kv_head = adm_kv_head(&s->heads, h);
    size_t rows_before = (size_t)b * (s->heads.n_q_heads + s->heads.n_kv_heads);
    const uint8_t *q = (uint8_t *)data_after(f, PACKED) + (rows_before + h) * d / 4;
    const uint8_t *newest = q + (s->heads.n_q_heads + kv_head - h) * d / 4;
    for (uint32_t t = 0; t < n; t++)
        memcpy(keys + (size_t)t * d / 4, t + 1 < n ? f->pool_packed + pool_row(b, kv_head, t) * d / 4 : newest, d / 4);
    adm_distance_l1(q, keys, n, d, f->head_distance[0]);
    adm_distance_xor(q, keys, n, d, f->head_distance[1]);
    uint16_t *l1 = (uint16_t *)data_after(f, DISTANCE) + row * s->capacity;
    uint16_t *xor = (uint16_t *)data_after(f, DISTANCE_XOR) + row * s->capacity;
    for (uint32_t t = 0; t < n; t++) {
        l1[t] = (uint16_t)(l1[t] + f->head_distance[0][t]);
        xor[t] = (uint16_t)(xor[t] + f->head_distance[1][t]);
    }
}

/* The selection of row h of sequence b (gpu.h has S rows a sequence), from the distances of the query heads it serves. */
static void expect_selection(fixture *f, uint32_t b, uint32_t h, uint8_t *keys, uint32_t *histogram) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t n = f->config->length[b], served = s->heads.n_q_heads / adm_gpu_select_heads(s);
    size_t row = (size_t)b * adm_gpu_select_heads(s) + h;
    uint16_t *distance = (uint16_t *)data_after(f, DISTANCE) + row * s->capacity;
    memset(distance, 0, n * sizeof *distance);
    memset((uint16_t *)data_after(f, DISTANCE_XOR) + row * s->capacity, 0, n * sizeof *distance);
    for (uint32_t i = 0; i < served; i++) add_distances(f, b, h * served + i, row, keys);
    ((uint32_t *)data_after(f, N_SELECTED))[row] =
        adm_topk_reference(distance, n, 3 * s->heads.head_dim * served, &s->rule, histogram,
                           (uint32_t *)data_after(f, INDEX) + row * s->rule.budget, NULL);
}

/* Attention of one query head. Rows of K and V are gathered, so that pages do not matter. */
static void expect_attention(fixture *f, uint32_t b, uint32_t h) {
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

static void expect_results(fixture *f) {
    const adm_gpu_shape *s = &f->shape;
    uint32_t group = s->heads.n_q_heads / s->heads.n_kv_heads;
    uint8_t *keys = malloc((size_t)s->capacity * s->heads.head_dim / 4);
    uint32_t *histogram = malloc((3 * (size_t)s->heads.head_dim * group + 1) * sizeof *histogram);
    assert_true(keys != NULL && histogram != NULL);
    for (uint32_t b = 0; b < s->batch; b++) {
        for (uint32_t h = 0; h < adm_gpu_select_heads(s); h++) expect_selection(f, b, h, keys, histogram);
        for (uint32_t h = 0; h < s->heads.n_q_heads; h++) expect_attention(f, b, h);
    }
    free(keys);
    free(histogram);
}

static void fixture_open(fixture *f, const gpu_config *c, adm_selection selection, adm_rng *rng) {
    memset(f, 0, sizeof *f);
    f->config = c;
    f->shape = (adm_gpu_shape){.heads = c->heads, .dtype = c->dtype, .batch = c->batch, .capacity = c->capacity,
                               .page_size = c->page_size, .rule = c->rule, .selection = selection,
                               .threshold = {-10, 0, 10},
                               .scale = 0.02f / sqrtf((float)c->heads.head_dim)}; /* scores of a few units */
    if (c->page_size > 0) f->shape.max_pages = (c->capacity + c->page_size - 1) / c->page_size;
    create_buffers(f);
    make_inputs(f, rng);
    expect_encoded(f);
    expect_results(f);

#define AT(id) ((void *)((char *)f->buffer[id].device + GUARD))
    f->device = (adm_gpu_buffers){AT(Q), AT(K_NEW), AT(V_NEW), AT(K), AT(V), AT(PLANES), AT(PAGES), AT(LENGTH), AT(Y),
                                  AT(CODE), AT(PACKED), AT(DISTANCE), AT(INDEX), AT(N_SELECTED), AT(OUT), NULL};
}

static void fixture_close(fixture *f) {
    for (int id = 0; id < N_BUFFERS; id++) image_free(&f->buffer[id]);
    for (int i = 0; i < 2; i++) {
        free(f->pool[i]);
        free(f->head_distance[i]);
    }
    free(f->pool_packed);
    free(f->expected);
}

/* ---- running a row ---- */

static bool covers(const adm_gpu_impl *row, adm_stage stage) { return stage < ADM_N_STAGES && row->covers >> stage & 1; }

/* A row that covers several stages need not write what only its own later stages read. */
static bool optional(const adm_gpu_impl *row, buffer_id id) {
    adm_stage stage = producer(id);
    if (!covers(row, stage) || row->stage == stage) return false;
    if (id == Y || id == CODE) return true;
    return row->stage == ADM_STAGE_STEP && (id == PACKED || id == DISTANCE || id == DISTANCE_XOR);
}

/* What the row finds in a buffer: results of stages before its own, its own outputs not yet. */
static const unsigned char *found(const fixture *f, const adm_gpu_impl *row, buffer_id id) {
    bool later = row->stage != ADM_STAGE_DENSE && row->stage != ADM_STAGE_STEP && producer(id) > row->stage;
    bool absent = covers(row, producer(id)) || (later && producer(id) != ADM_N_STAGES);
    return absent ? f->buffer[id].before : f->buffer[id].after;
}

/* One NaN is as good as another: where both have one, take the expected bits. */
static void forgive_nan_payloads(unsigned char *got, const unsigned char *want, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float a, b;
        memcpy(&a, got + i * sizeof a, sizeof a);
        memcpy(&b, want + i * sizeof b, sizeof b);
        if (isnan(a) && isnan(b)) memcpy(got + i * sizeof a, &b, sizeof b);
    }
}

static void compare_exactly(fixture *f, const char *what, buffer_id id, const unsigned char *want) {
    const image *b = &f->buffer[id];
    for (size_t i = 0; i < b->bytes + 2 * (size_t)GUARD; i++)
        if (b->got[i] != want[i]) {
            const gpu_config *c = f->config;
            fail_msg("%s: %s: byte %td of %zu is %02x, not %02x (d=%u heads=%u/%u batch=%u length[0]=%u budget=%u "
                     "page=%u selection=%s)", what, buffer_names[id], (ptrdiff_t)i - GUARD, b->bytes, b->got[i], want[i], c->heads.head_dim,
                     c->heads.n_q_heads, c->heads.n_kv_heads, c->batch, c->length[0], c->rule.budget, c->page_size,
                     adm_selection_name(f->shape.selection));
        }
}

/* F16 keeps 3 more bits than BF16, for which the row's tolerance is made. */
static void compare_attention(fixture *f, const adm_gpu_impl *row) {
    image *b = &f->buffer[OUT];
    uint32_t d = f->shape.heads.head_dim, n_q = f->shape.heads.n_q_heads;
    double limit = f->shape.dtype == ADM_F16 ? row->tolerance / 4 : row->tolerance;
    for (uint32_t r = 0; r < f->shape.batch * n_q; r++) {
        float got[ADM_MAX_HEAD_DIM];
        adm_to_f32(f->shape.dtype, b->got + GUARD + (size_t)r * d * 2, d, got);
        double error = check_relative_l2(got, f->expected + (size_t)r * d, d);
        if (!(error <= limit))
            fail_msg("%s %s: head %u of sequence %u: relative error %g, limit %g (d=%u length=%u budget=%u)",
                     adm_stage_name(row->stage), row->name, r % n_q, r / n_q, error, limit, d,
                     f->config->length[r / n_q], f->config->rule.budget);
    }
    memcpy(b->got + GUARD, b->after + GUARD, b->bytes); /* compared; the guards are left */
}

static void run_row(fixture *f, const adm_gpu_impl *row) {
    adm_error err;
    bool xor = row->stage == ADM_STAGE_DISTANCE && strcmp(row->name, "xor") == 0;
    for (buffer_id id = 0; id < N_BUFFERS; id++)
        check_ok(adm_gpu_write(f->buffer[id].device, found(f, row, id), f->buffer[id].bytes + 2 * GUARD, &err), &err);
    adm_gpu_buffers buffers = f->device;
    if (xor) buffers.distance = AT(DISTANCE_XOR);
    size_t workspace_bytes = row->workspace_bytes != NULL ? row->workspace_bytes(&f->shape) : 0;
    check_ok(adm_gpu_allocate(workspace_bytes + 16, 0, &buffers.workspace, &err), &err);
    adm_status status = row->launch(&f->shape, &buffers, adm_gpu_stream_of(gpu), &err);
    if (status == ADM_EUNSUPPORTED) {
        print_message("not run: %s %s: %s\n", adm_stage_name(row->stage), row->name, err.text);
        adm_gpu_release(&buffers.workspace);
        return;
    }
    check_ok(status, &err);
    char what[128];
    snprintf(what, sizeof what, "%s %s", adm_stage_name(row->stage), row->name);
    for (buffer_id id = 0; id < N_BUFFERS; id++) {
        image *b = &f->buffer[id];
        check_ok(adm_gpu_read(gpu, b->device, b->bytes + 2 * GUARD, b->got, &err), &err);
        const unsigned char *want = found(f, row, id);
        if (covers(row, producer(id)) || (id == OUT && row->stage == ADM_STAGE_DENSE)) want = b->after;
        if ((id == DISTANCE && xor) || (id == DISTANCE_XOR && !xor)) want = found(f, row, id);
        if (optional(row, id)) memcpy(b->got + GUARD, want + GUARD, b->bytes);
        if (id == OUT && want == b->after && row->tolerance > 0) compare_attention(f, row);
        if (id == Y) forgive_nan_payloads(b->got + GUARD, want + GUARD, b->bytes / sizeof(float));
        compare_exactly(f, what, id, want);
    }
    adm_gpu_release(&buffers.workspace);
}

/* The newest token counts as part of the prompt here: K is as after the step, planes empty. */
static void run_prompt(fixture *f) {
    adm_error err;
    image *planes = &f->buffer[PLANES];
    unsigned char *want = malloc(planes->bytes + 2 * GUARD);
    assert_non_null(want);
    memset(want, CHECK_CANARY, planes->bytes + 2 * GUARD);
    check_ok(adm_gpu_write(planes->device, want, planes->bytes + 2 * GUARD, &err), &err);
    for (buffer_id id = 0; id < N_BUFFERS; id++)
        if (id != PLANES)
            check_ok(adm_gpu_write(f->buffer[id].device, f->buffer[id].after, f->buffer[id].bytes + 2 * GUARD, &err),
                     &err);
    adm_gpu_shape shape = f->shape;
    shape.selection = ADM_SELECT_HEAD; /* which a prompt has none of */
    check_ok(adm_gpu_encode_prompt(&shape, &f->device, adm_gpu_stream_of(gpu), &err), &err);
    check_ok(adm_gpu_read(gpu, planes->device, planes->bytes + 2 * GUARD, planes->got, &err), &err);
    compare_exactly(f, "prompt", PLANES, planes->after);
    free(want);
}

/* ---- the tests ---- */

/* Dense rows attend to every token, so they are compared only where the budget selects every token. */
static void check_config(const gpu_config *c, adm_selection selection, adm_rng *rng) {
    fixture f;
    fixture_open(&f, c, selection, rng);
    bool all_selected = true;
    for (uint32_t b = 0; b < c->batch; b++) all_selected &= c->rule.budget >= c->length[b];
    const char *only = getenv("ADAMAS_TEST_STAGE");
    for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
        const adm_gpu_impl *row = adm_gpu_registry_at(i);
        if (only != NULL && strcmp(only, adm_stage_name(row->stage)) != 0) continue;
        if (c->pattern == NONFINITE && row->tolerance > 0) continue; /* no tolerance is defined among NaNs */
        if (row->covers == ADM_GPU_COVERS_PROMPT) continue; /* run_prompt() below */
        if (row->stage != ADM_STAGE_DENSE || all_selected) run_row(&f, row);
    }
    if (only == NULL) run_prompt(&f);
    fixture_close(&f);
}

static void check_configs(const char *name, adm_selection selection, const gpu_config *configs, size_t n) {
    needs_gpu();
    adm_rng rng = check_rng(name);
    for (size_t i = 0; i < n; i++) check_config(&configs[i], selection, &rng);
}

#define CHECK_SELECTING(selection, configs) check_configs(__func__, selection, configs, sizeof(configs) / sizeof *(configs))
#define CHECK_CONFIGS(configs) CHECK_SELECTING(ADM_SELECT_HEAD, configs)

static void every_head_dim_and_dtype(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 4, 64}, ADM_F16, 1, {1000}, 1024, 0, {64, 0, 0}, SPREAD},
        {{4, 4, 64}, ADM_BF16, 1, {1024}, 1024, 0, {64, 0, 0}, OUTLIERS},
        {{4, 4, 128}, ADM_F16, 1, {3000}, 3008, 0, {256, 4, 16}, SPREAD},
        {{4, 4, 128}, ADM_BF16, 1, {999}, 1024, 0, {64, 4, 16}, OUTLIERS},
        {{4, 4, 256}, ADM_F16, 1, {1001}, 1024, 0, {64, 0, 0}, OUTLIERS},
        {{4, 4, 256}, ADM_BF16, 1, {1000}, 1024, 0, {64, 0, 0}, SPREAD},
        {{2, 2, 128}, ADM_F16, 1, {700}, 704, 0, {64, 0, 0}, NONFINITE},
        {{2, 2, 64}, ADM_BF16, 1, {700}, 704, 0, {64, 0, 0}, NONFINITE},
    };
    CHECK_CONFIGS(configs);
}

static void grouped_heads(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{6, 2, 64}, ADM_BF16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{16, 2, 256}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, SPREAD},
        {{20, 2, 128}, ADM_F16, 2, {1500, 700}, 1504, 0, {100, 1, 7}, SPREAD}, /* more than one slice of 8 heads */
        {{32, 8, 128}, ADM_BF16, 1, {9000}, 9024, 0, {256, 4, 64}, OUTLIERS},
    };
    CHECK_CONFIGS(configs);
}

static void groups_that_select_together(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{8, 2, 128}, ADM_F16, 1, {2000}, 2016, 0, {100, 1, 7}, SPREAD},
        {{6, 2, 64}, ADM_BF16, 2, {2000, 65}, 2016, 0, {100, 1, 7}, ALL_EQUAL},
        {{16, 2, 256}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, OUTLIERS},
        {{4, 4, 128}, ADM_F16, 1, {1500}, 1504, 0, {100, 1, 7}, SPREAD}, /* groups of one */
        {{32, 8, 128}, ADM_F16, 1, {9000}, 9024, 0, {256, 4, 64}, OUTLIERS},
        {{8, 2, 128}, ADM_F16, 3, {777, 0, 40}, 800, 7, {64, 2, 9}, SPREAD},
    };
    CHECK_SELECTING(ADM_SELECT_GROUP, configs);
}

/* Every branch, in sizes that a slow checker gets through: tests/gpu_session.sh runs these under compute-sanitizer. */
static void small_shapes(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 2, 128}, ADM_F16, 3, {300, 0, 1}, 320, 0, {40, 2, 5}, SPREAD},
        {{4, 2, 64}, ADM_BF16, 1, {257}, 288, 7, {32, 0, 0}, ALL_EQUAL},
        {{2, 1, 256}, ADM_F16, 1, {200}, 224, 16, {300, 0, 0}, OUTLIERS},
    };
    CHECK_SELECTING(ADM_SELECT_HEAD, configs);
    CHECK_SELECTING(ADM_SELECT_GROUP, configs);
}

static void edges(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 2, 128}, ADM_F16, 1, {1}, 32, 0, {16, 0, 0}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {0}, 32, 0, {16, 0, 0}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {31}, 32, 0, {64, 4, 8}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {64}, 64, 0, {64, 4, 8}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {65}, 96, 0, {64, 4, 8}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {1, 0, 0}, SPREAD},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {2, 1, 1}, SPREAD},
        {{4, 2, 64}, ADM_F16, 1, {5000}, 5024, 0, {700, 0, 0}, ALL_EQUAL},
        {{4, 2, 128}, ADM_F16, 1, {5000}, 5024, 0, {5001, 3, 3}, ALL_EQUAL},
        {{4, 2, 128}, ADM_BF16, 5, {0, 1, 4097, 33, 640}, 4128, 0, {64, 2, 9}, SPREAD},
        {{2, 1, 128}, ADM_F16, 1, {4100}, 4128, 0, {4096, 0, 0}, SPREAD},
    };
    CHECK_CONFIGS(configs);
}

static void pages(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{4, 2, 128}, ADM_F16, 2, {777, 64}, 800, 1, {64, 2, 9}, SPREAD},
        {{4, 2, 64}, ADM_BF16, 2, {777, 0}, 800, 7, {64, 2, 9}, SPREAD},
        {{4, 2, 128}, ADM_F16, 3, {1600, 1, 1599}, 1600, 16, {64, 2, 9}, SPREAD},
        {{4, 4, 256}, ADM_F16, 2, {640, 65}, 672, 64, {1000, 2, 9}, SPREAD},
    };
    CHECK_CONFIGS(configs);
}

static void long_sequences(void **state) {
    (void)state;
    static const gpu_config configs[] = {
        {{32, 32, 128}, ADM_F16, 1, {32768}, 32768, 0, {256, 0, 0}, SPREAD},
        {{8, 2, 128}, ADM_F16, 1, {131071}, 131072, 0, {1024, 4, 64}, SPREAD},
        {{2, 1, 64}, ADM_F16, 1, {1048576}, 1048576, 0, {4096, 4, 64}, SPREAD},
    };
    CHECK_CONFIGS(configs);
}

/* A refused shape is a sentence, not a launch failure. */
static void unsupported_shapes_say_why(void **state) {
    (void)state;
    needs_gpu();
    const adm_gpu_shape good = {.heads = {4, 4, 128}, .dtype = ADM_F16, .batch = 1, .capacity = 64, .rule = {16, 0, 0}};
    adm_gpu_shape bad[6] = {good, good, good, good, good, good};
    bad[0].dtype = ADM_F32;
    bad[1].capacity = 33;
    bad[2].batch = 65;
    bad[3].page_size = 65;
    bad[4].page_size = 16, bad[4].max_pages = 3;
    bad[5].heads.head_dim = 96;
    const adm_gpu_buffers none = {0};
    for (size_t i = 0; i < adm_gpu_registry_count(); i++)
        for (size_t j = 0; j < sizeof bad / sizeof *bad; j++) {
            adm_error err = {0};
            adm_status status = adm_gpu_registry_at(i)->launch(&bad[j], &none, NULL, &err);
            assert_int_equal(status, j == 5 ? ADM_EINPUT : ADM_EUNSUPPORTED);
            assert_true(strlen(err.text) > 10);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unsupported_shapes_say_why),
        cmocka_unit_test(every_head_dim_and_dtype),
        cmocka_unit_test(grouped_heads),
        cmocka_unit_test(groups_that_select_together),
        cmocka_unit_test(small_shapes),
        cmocka_unit_test(edges),
        cmocka_unit_test(pages),
        cmocka_unit_test(long_sequences),
    };
    cmocka_set_test_filter(getenv("ADAMAS_TEST_FILTER")); /* say "edges", under a slow checker; NULL: all */
    return cmocka_run_group_tests_name("gpu", tests, open_gpu, close_gpu);
}
