/* fake_gpu_stages.c: what the fake GPU computes: every stage by the host's reference, and the table of implementations. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/contract/asym4.h"
#include "kernels/attention/attention.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/code.h"
#include "kernels/distance/asym4.h"
#include "kernels/distance/distance.h"
#include "kernels/distance/distance_metric.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/ways.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/step/phases.h"
#include "kernels/topk/topk.h"
#include "tests/support/fake_gpu.h"

static size_t n_rows(const adm_gpu_shape *s) { return (size_t)s->batch * (s->heads.n_q_heads + s->heads.n_kv_heads); }

/* The input of row r of y: a query, or a new key. */
static const void *input_row(const adm_gpu_shape *s, const adm_gpu_buffers *p, size_t r) {
    const size_t n_q = s->heads.n_q_heads, n_kv = s->heads.n_kv_heads, b = r / (n_q + n_kv), h = r % (n_q + n_kv);
    const size_t row_bytes = s->heads.head_dim * adm_dtype_bytes(s->dtype);
    return h < n_q ? (const char *)p->q + (b * n_q + h) * row_bytes : (const char *)p->k_new + (b * n_kv + h - n_q) * row_bytes;
}

static void hadamard(const adm_gpu_shape *s, const adm_gpu_buffers *p) {
    for (size_t r = 0; r < n_rows(s); r++)
        adm_hadamard_reference(s->dtype, input_row(s, p, r), 1, s->heads.head_dim, p->y + r * s->heads.head_dim);
}

/* Whether row r of y is a query, and which KV head it reads or is. */
static bool is_query(const adm_gpu_shape *s, size_t r, uint32_t *kv_head) {
    const uint32_t h = (uint32_t)(r % (s->heads.n_q_heads + s->heads.n_kv_heads));
    const bool query = h < s->heads.n_q_heads;
    *kv_head = query ? adm_kv_head(&s->heads, h) : h - s->heads.n_q_heads;
    return query;
}

/* The codes of a key, one a byte. */
static void key_codes(const adm_gpu_shape *s, const adm_gpu_buffers *p, uint32_t kv_head, const float *y, uint8_t *code) {
    const uint32_t d = s->heads.head_dim;
    uint8_t packed[ADM_MAX_HEAD_DIM / 4];
    if (s->metric != ADM_METRIC_ASYM4) {
        adm_bucket_reference(y, d, s->threshold, code);
        return;
    }
    adm_encode_reference(y, 1, d, p->channels + (size_t)kv_head * ADM_GPU_CHANNEL_ROWS * d, 2, packed);
    adm_unpack_reference(packed, 1, d, code);
}

static void bucket(const adm_gpu_shape *s, const adm_gpu_buffers *p) {
    const uint32_t d = s->heads.head_dim;
    for (size_t r = 0; r < n_rows(s); r++) {
        uint32_t kv_head;
        int8_t q[ADM_MAX_HEAD_DIM];
        const bool quantises = is_query(s, r, &kv_head) && s->metric == ADM_METRIC_ASYM4;
        key_codes(s, p, kv_head, p->y + r * d, p->code + r * d);
        if (quantises) adm_asym4_quantise(p->y + r * d, p->channels + ((size_t)kv_head * ADM_GPU_CHANNEL_ROWS + 3) * d, d, q);
        for (uint32_t i = 0; i < d && quantises; i++) p->code[r * d + i] = q[i] & 15;
    }
}

static void pack(const adm_gpu_shape *s, const adm_gpu_buffers *p) {
    const uint32_t d = s->heads.head_dim;
    for (size_t r = 0; r < n_rows(s); r++) {
        uint32_t kv_head;
        uint8_t *to = p->packed + r * adm_gpu_packed_bytes(s);
        if (is_query(s, r, &kv_head) && s->metric == ADM_METRIC_ASYM4)
            adm_asym4_planes((const int8_t *)p->code + r * d, d, to); /* whose four bits are the integer's last */
        else adm_pack_reference(p->code + r * d, 1, d, to);
    }
}

size_t adm_fake_gpu_kv_at(const adm_gpu_shape *s, const adm_gpu_buffers *p, uint32_t b, uint32_t h, uint32_t t) {
    const size_t row_bytes = s->heads.head_dim * adm_dtype_bytes(s->dtype);
    if (s->page_size == 0) return (((size_t)b * s->heads.n_kv_heads + h) * s->capacity + t) * row_bytes;
    const size_t page = (size_t)p->page_table[(size_t)b * s->max_pages + t / s->page_size];
    return ((page * s->heads.n_kv_heads + h) * s->page_size + t % s->page_size) * row_bytes;
}

/* The packed row of a token, to or from the planes. */
static void planes_row(const adm_gpu_shape *s, const adm_gpu_buffers *p, uint32_t b, uint32_t h, uint32_t t, uint8_t *packed,
                       bool store) {
    const uint32_t words = s->heads.head_dim / 32;
    uint32_t *high = p->planes + (((size_t)b * s->heads.n_kv_heads + h) * (s->capacity / 32) + t / 32) * 64 * words +
                     t % 32 * words;
    uint32_t *low = high + 32 * words;
    if (store) memset(high, 0, words * sizeof *high), memset(low, 0, words * sizeof *low);
    else memset(packed, 0, s->heads.head_dim / 4);
    for (uint32_t i = 0; i < s->heads.head_dim; i++) {
        const uint32_t code = packed[i / 4] >> 2 * (i % 4) & 3;
        if (store) high[i / 32] |= (code >> 1) << i % 32, low[i / 32] |= (code & 1) << i % 32;
        else packed[i / 4] |= (uint8_t)(((high[i / 32] >> i % 32 & 1) * 2 + (low[i / 32] >> i % 32 & 1)) << 2 * (i % 4));
    }
}

static void append(const adm_gpu_shape *s, const adm_gpu_buffers *p) {
    const size_t row_bytes = s->heads.head_dim * adm_dtype_bytes(s->dtype), n_q = s->heads.n_q_heads,
                 n_kv = s->heads.n_kv_heads;
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < n_kv && p->length[b] > 0; h++) {
            const uint32_t t = p->length[b] - 1;
            const size_t at = adm_fake_gpu_kv_at(s, p, b, h, t), from = (b * n_kv + h) * row_bytes;
            memcpy((char *)p->k + at, (const char *)p->k_new + from, row_bytes);
            memcpy((char *)p->v + at, (const char *)p->v_new + from, row_bytes);
            planes_row(s, p, b, h, t, p->packed + (b * (n_q + n_kv) + n_q + h) * adm_gpu_packed_bytes(s), true);
        }
}

static void distance(const adm_gpu_shape *s, const adm_gpu_buffers *p, adm_distance_fn *metric) {
    const uint32_t d = s->heads.head_dim, n_q = s->heads.n_q_heads, per_q = adm_gpu_select_heads(s);
    uint8_t packed[ADM_MAX_HEAD_DIM / 4];
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < n_q; h++) {
            uint16_t *to = p->distance + ((size_t)b * per_q + h / (n_q / per_q)) * s->capacity, one;
            for (uint32_t t = 0; t < p->length[b]; t++) {
                planes_row(s, p, b, adm_kv_head(&s->heads, h), t, packed, false);
                metric(p->packed + ((size_t)b * (n_q + s->heads.n_kv_heads) + h) * adm_gpu_packed_bytes(s), packed, 1, d, &one);
                to[t] = (uint16_t)(one + (h % (n_q / per_q) > 0 ? to[t] : 0));
            }
        }
}

/* Memory of the device, which is no allocator's: a test that makes allocations fail means the host's. */
void *adm_fake_gpu_memory(size_t n_bytes) {
    enum { HEADER_BYTES = 64 };
    const size_t whole = n_bytes + HEADER_BYTES;
    char *memory = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    memcpy(memory, &whole, sizeof whole);
    return memory + HEADER_BYTES;
}

void adm_fake_gpu_release(void *memory) {
    size_t whole;
    if (memory == NULL) return;
    char *start = (char *)memory - 64;
    memcpy(&whole, start, sizeof whole);
    munmap(start, whole);
}

/* Memory of a kernel that is running, kept for the next one. */
enum { SCRATCH_K, SCRATCH_V, SCRATCH_SCORE, SCRATCH_HISTOGRAM, N_SCRATCH };
static void *scratch(int which, size_t n_bytes) {
    static _Thread_local struct {
        void *memory;
        size_t n_bytes;
    } kept[N_SCRATCH];
    if (kept[which].n_bytes < n_bytes) {
        adm_fake_gpu_release(kept[which].memory);
        kept[which].memory = adm_fake_gpu_memory(n_bytes);
        kept[which].n_bytes = n_bytes;
    }
    return kept[which].memory;
}

static void topk(const adm_gpu_shape *s, const adm_gpu_buffers *p) {
    const uint32_t rows = adm_gpu_select_heads(s), largest = adm_gpu_max_distance(s);
    uint32_t *histogram = scratch(SCRATCH_HISTOGRAM, (largest + 1) * sizeof *histogram);
    for (uint32_t r = 0; r < s->batch * rows; r++)
        p->n_selected[r] = adm_topk_reference(p->distance + (size_t)r * s->capacity, p->length[r / rows], largest, &s->rule,
                                              histogram, p->index + (size_t)r * s->rule.budget, NULL);
}

/* Over index [n], or the first n tokens where that is NULL. */
static void attend(const adm_gpu_shape *s, const adm_gpu_buffers *p, uint32_t b, uint32_t h, const uint32_t *index,
                   uint32_t n) {
    const uint32_t d = s->heads.head_dim;
    const size_t row_bytes = d * adm_dtype_bytes(s->dtype), at = ((size_t)b * s->heads.n_q_heads + h) * row_bytes;
    char *k = scratch(SCRATCH_K, (n + 1) * row_bytes), *v = scratch(SCRATCH_V, (n + 1) * row_bytes);
    double *score = scratch(SCRATCH_SCORE, (n + 1) * sizeof *score);
    float out[ADM_MAX_HEAD_DIM];
    for (uint32_t i = 0; i < n; i++) {
        const size_t row = adm_fake_gpu_kv_at(s, p, b, adm_kv_head(&s->heads, h), index != NULL ? index[i] : i);
        memcpy(k + i * row_bytes, (char *)p->k + row, row_bytes);
        memcpy(v + i * row_bytes, (char *)p->v + row, row_bytes);
    }
    adm_attention_reference(s->dtype, (const char *)p->q + at, k, v, NULL, n, d, s->scale, score, out);
    adm_from_f32(s->dtype, out, d, (char *)p->out + at);
}

static void attention(const adm_gpu_shape *s, const adm_gpu_buffers *p, bool dense) {
    const uint32_t n_q = s->heads.n_q_heads, rows = adm_gpu_select_heads(s);
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < n_q; h++) {
            const size_t row = (size_t)b * rows + h / (n_q / rows);
            if (dense) attend(s, p, b, h, NULL, p->length[b]);
            else attend(s, p, b, h, p->index + row * s->rule.budget, p->n_selected[row]);
        }
}

/* Runs the stages in `covers`, or fails as asked; `seen` is the stage that a fault names. */
static adm_status run(const adm_gpu_shape *s, const adm_gpu_buffers *p, uint32_t covers, adm_stage seen, adm_error *err) {
    if (adm_fake_gpu_faulty("error", seen))
        return adm_fail(err, ADM_EENVIRONMENT, "%s: this launch was to fail", adm_stage_name(seen));
    if (adm_fake_gpu_faulty("lost", seen)) adm_fake_gpu_lose();
    if (!adm_fake_gpu_is_alive()) return adm_fail(err, ADM_EENVIRONMENT, "the context is gone");
    if (covers >> ADM_STAGE_HADAMARD & 1) hadamard(s, p);
    if (covers >> ADM_STAGE_BUCKET & 1) bucket(s, p);
    if (covers >> ADM_STAGE_PACK & 1) pack(s, p);
    if (covers >> ADM_STAGE_APPEND & 1) append(s, p);
    static adm_distance_fn *const distances[ADM_N_CODE_METRICS] = {[ADM_METRIC_L1] = adm_distance_l1,
                                                                   [ADM_METRIC_XOR] = adm_distance_xor,
                                                                   [ADM_METRIC_DOT] = adm_distance_dot,
                                                                   [ADM_METRIC_ASYM4] = adm_distance_asym4_reference};
    if (covers >> ADM_STAGE_DISTANCE & 1) distance(s, p, distances[s->metric]);
    if (covers >> ADM_STAGE_TOPK & 1) topk(s, p);
    if (covers >> ADM_STAGE_ATTENTION & 1) attention(s, p, false);
    if (covers >> ADM_STAGE_DENSE & 1) attention(s, p, true);
    if (!adm_fake_gpu_faulty("wrong", seen)) return ADM_OK;
    char *const written[ADM_N_STAGES] = {
        (char *)p->y, (char *)p->code, (char *)p->packed, (char *)p->planes, (char *)p->distance, (char *)p->index, p->out,
        p->out,       p->out};
    written[seen][seen != ADM_STAGE_DISTANCE] ^= 1; /* a distance stays in range: top-k relies on that */
    return ADM_OK;
}

/* Arguments of a launch that may become a node of a graph. */
typedef struct launch {
    adm_gpu_shape shape;
    adm_gpu_buffers buffers;
    uint32_t covers;
    adm_stage stage;
} launch;

static adm_status run_launch(const void *arguments, adm_error *err) {
    const launch *l = arguments;
    return run(&l->shape, &l->buffers, l->covers, l->stage, err);
}

#define LAUNCH(function, covers, stage)                                                                                   \
    static adm_status function(const adm_gpu_shape *s, const adm_gpu_buffers *p, adm_gpu_stream stream, adm_error *err) { \
        const launch l = {*s, *p, covers, stage};                                                                         \
        (void)stream;                                                                                                     \
        adm_fake_gpu_spend((covers) >> ADM_STAGE_DENSE & 1 ? 20000 : 5000);                                               \
        return adm_fake_gpu_do(run_launch, &l, sizeof l, err);                                                            \
    }
#define ENCODE (BIT(HADAMARD) | BIT(BUCKET) | BIT(PACK) | BIT(APPEND))
#define STEP (ENCODE | BIT(DISTANCE) | BIT(TOPK) | BIT(ATTENTION))
LAUNCH(launch_hadamard, BIT(HADAMARD), ADM_STAGE_HADAMARD)
LAUNCH(launch_bucket, BIT(BUCKET), ADM_STAGE_BUCKET)
LAUNCH(launch_pack, BIT(PACK), ADM_STAGE_PACK)
LAUNCH(launch_append, BIT(APPEND), ADM_STAGE_APPEND)
LAUNCH(launch_encode, ENCODE, ADM_STAGE_APPEND)
LAUNCH(launch_distance, BIT(DISTANCE), ADM_STAGE_DISTANCE)
LAUNCH(launch_topk, BIT(TOPK), ADM_STAGE_TOPK)
LAUNCH(launch_attention, BIT(ATTENTION), ADM_STAGE_ATTENTION)
LAUNCH(launch_step, STEP, ADM_STAGE_STEP)
LAUNCH(launch_dense, BIT(DENSE), ADM_STAGE_DENSE)

static adm_status launch_xor(const adm_gpu_shape *s, const adm_gpu_buffers *p, adm_gpu_stream stream, adm_error *err) {
    (void)stream, (void)err;
    distance(s, p, adm_distance_xor);
    return ADM_OK;
}

static adm_status launch_dot(const adm_gpu_shape *s, const adm_gpu_buffers *p, adm_gpu_stream stream, adm_error *err) {
    (void)stream, (void)err;
    distance(s, p, adm_distance_dot);
    return ADM_OK;
}

static adm_status refuse(const adm_gpu_shape *s, const adm_gpu_buffers *p, adm_gpu_stream stream, adm_error *err) {
    (void)s, (void)p, (void)stream;
    return adm_fail(err, ADM_EUNSUPPORTED, "no shape is good enough for this top-k");
}

void adm_fake_gpu_encode_prompt(const adm_gpu_shape *s, const adm_gpu_buffers *p) {
    float y[ADM_MAX_HEAD_DIM];
    uint8_t codes[ADM_MAX_HEAD_DIM], packed[ADM_MAX_HEAD_DIM / 4];
    for (uint32_t b = 0; b < s->batch; b++)
        for (uint32_t h = 0; h < s->heads.n_kv_heads; h++)
            for (uint32_t t = 0; t < p->length[b]; t++) {
                adm_hadamard_reference(s->dtype, (char *)p->k + adm_fake_gpu_kv_at(s, p, b, h, t), 1, s->heads.head_dim, y);
                key_codes(s, p, h, y, codes);
                adm_pack_reference(codes, 1, s->heads.head_dim, packed);
                planes_row(s, p, b, h, t, packed, true);
            }
}

static adm_status launch_prompt(const adm_gpu_shape *s, const adm_gpu_buffers *p, adm_gpu_stream stream, adm_error *err) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    (void)stream, (void)err;
    if (asked == NULL || strstr(asked, "idle-prompt") == NULL) adm_fake_gpu_encode_prompt(s, p);
    return ADM_OK;
}

#define BY(metric) (1u << ADM_METRIC_##metric)
#define ROW(...) \
    &(const adm_gpu_impl) { __VA_ARGS__ }
const adm_gpu_impl *const adm_gpu_rows[] = {
    ROW(ADM_STAGE_HADAMARD, "fake", "", BIT(HADAMARD), 0, launch_hadamard, NULL, 0),
    ROW(ADM_STAGE_BUCKET, "fake", "", BIT(BUCKET), 0, launch_bucket, NULL, 0),
    ROW(ADM_STAGE_PACK, "fake", "", BIT(PACK), 0, launch_pack, NULL, 0),
    ROW(ADM_STAGE_APPEND, "fake", "", BIT(APPEND), 0, launch_append, NULL, 0),
    ROW(ADM_STAGE_APPEND, "fused", "", ENCODE, 0, launch_encode, NULL, 0),
    ROW(ADM_STAGE_APPEND, "prompt", "", ADM_GPU_COVERS_PROMPT, 0, launch_prompt, NULL, 0),
    ROW(ADM_STAGE_DISTANCE, "l1", "", BIT(DISTANCE), 0, launch_distance, NULL, BY(L1)),
    ROW(ADM_STAGE_DISTANCE, "xor", "", BIT(DISTANCE), 0, launch_xor, NULL, BY(XOR)),
    ROW(ADM_STAGE_DISTANCE, "dot", "", BIT(DISTANCE), 0, launch_dot, NULL, BY(DOT)),
    ROW(ADM_STAGE_DISTANCE, "asym4", "", BIT(DISTANCE), 0, launch_distance, NULL, BY(ASYM4)),
    ROW(ADM_STAGE_TOPK, "fake", "", BIT(TOPK), 0, launch_topk, NULL, 0),
    ROW(ADM_STAGE_TOPK, "choosy", "", BIT(TOPK), 0, refuse, NULL, 0),
    ROW(ADM_STAGE_ATTENTION, "fake", "", BIT(ATTENTION), 0x1p-8, launch_attention, NULL, 0),
    ROW(ADM_STAGE_STEP, "fused", "", STEP, 0x1p-8, launch_step, NULL, BY(L1) | BY(ASYM4)),
    ROW(ADM_STAGE_DENSE, "fake", "", BIT(DENSE), 0x1p-8, launch_dense, NULL, 0),
};

const size_t adm_gpu_n_rows = sizeof adm_gpu_rows / sizeof *adm_gpu_rows;

/* WORK 0 is the row itself, others do the work so many times more; 3 is refused, and 4 is wrong. */
static adm_status launch_topk_way(const adm_gpu_shape *s, const adm_gpu_buffers *p, const int64_t *value, adm_gpu_stream stream,
                                  adm_error *err) {
    if (value[0] == 3) return adm_fail(err, ADM_EUNSUPPORTED, "WORK is not 3");
    adm_status status = launch_topk(s, p, stream, err);
    for (int64_t i = 0; i < value[0] && status == ADM_OK; i++) status = launch_topk(s, p, stream, err);
    if (value[0] == 4) p->n_selected[0]++;
    return status;
}

const adm_gpu_ways adm_gpu_way_rows[] = {{ADM_STAGE_TOPK, "fake", {{"WORK", {2, 3, 0, 4, 1}, 5}}, launch_topk_way}};
const size_t adm_gpu_n_ways = 1;

/* --- Phases ------------------------------------------------------------------------------------------------------- */

/* Three blocks; phase i of the block takes 1,000 (i + 1) cycles and its number more, and the last block has no "cut". */
adm_status adm_gpu_step_phases(const char *variant, const adm_gpu_shape *shape, adm_gpu_phases *out, adm_error *err) {
    (void)shape;
    if (strcmp(variant, "fused") != 0) return adm_fail(err, ADM_EUNSUPPORTED, "%s has no instrumented instance", variant);
    *out = (adm_gpu_phases){.n_phases = 3, .name = {"scan", "cut", "gather"}, .n_blocks = 3};
    out->stamp_bytes = out->n_blocks * (ADM_GPU_MAX_PHASES + 1) * sizeof(uint64_t);
    return ADM_OK;
}

adm_status adm_gpu_step_phases_launch(const char *variant, const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                      uint64_t *d_stamps, adm_gpu_stream stream, adm_error *err) {
    (void)variant, (void)stream;
    if (adm_fake_gpu_faulty("phases", ADM_STAGE_STEP)) return adm_fail(err, ADM_EENVIRONMENT, "these phases were to fail");
    for (uint64_t b = 0; b < 3; b++) {
        uint64_t *stamp = d_stamps + b * (ADM_GPU_MAX_PHASES + 1), at = stamp[0] = 5000 + b;
        for (uint64_t p = 0; p < 3; p++)
            if (b < 2 || p != 1) stamp[p + 1] = at += 1000 * (p + 1) + b;
    }
    return run(shape, buffers, STEP, ADM_STAGE_STEP, err);
}
