/* fake_gpu.c: the room kernels/gpu and the table of GPU implementations on host memory, so that the whole of `adamas profile`
 * can be tried on a machine without a GPU: the plan, the inputs, the checks, the faults, the rows. It is slow, its times are
 * made up, and no program but the test's links it.
 *
 * ADAMAS_FAKE_GPU, words separated by spaces:
 *   memory=BYTES     the device's memory (default 1 GiB)
 *   devices=N        how many there are (default 1)
 *   timings=N        samples of each unit (default 20)
 *   wrong=STAGE      that stage's implementations spoil a byte of what they write
 *   error=STAGE      their launches fail, and the context survives
 *   lost=STAGE       their launches fail, and the context does not
 *   memory-rate=N    the memory's own rate, bytes per second (default: not known)
 *   h200             the device says that it is an NVIDIA H200
 *   slow-dense       dense attention takes a millisecond
 *   idle-prompt      the encoding of a prompt does nothing
 *   no-bandwidth     the read limit cannot be measured
 *   honest           times are what the calls took on the host, and the read limit is above that of any host */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "core/contract/asym4.h"
#include "kernels/attention/attention.h"
#include "kernels/gpu/bandwidth.h"
#include "kernels/encode/bucket.h"
#include "kernels/encode/code.h"
#include "kernels/distance/asym4.h"
#include "kernels/distance/distance.h"
#include "kernels/distance/distance_metric.h"
#include "kernels/gpu/input.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/time.h"
#include "kernels/gpu/ways.h"
#include "kernels/step/phases.h"
#include "kernels/encode/hadamard.h"
#include "kernels/encode/pack.h"
#include "kernels/topk/topk.h"
#include "tests/support/fake_gpu.h"

struct adm_gpu {
    adm_device_info info;
    bool alive;
};

struct adm_gpu_case {
    adm_gpu *gpu;
    adm_gpu_shape shape;
    adm_gpu_plan plan;
    char *copies, *sets, *shared;
    int32_t *pages;
    adm_gpu_buffers *buffers;
    float (*threshold)[3];
};

static adm_gpu the_gpu; /* launches have no other way to it */
static adm_gpu others[15]; /* where there are several devices */

/* Whether the environment asks for this fault in this stage. */
static bool faulty(const char *fault, adm_stage stage) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    char word[64];
    snprintf(word, sizeof word, "%s=%s", fault, adm_stage_name(stage));
    const char *at = asked != NULL ? strstr(asked, word) : NULL;
    return at != NULL && (at[strlen(word)] == '\0' || at[strlen(word)] == ' ');
}

uint64_t adm_fake_gpu_bytes(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "memory=") : NULL;
    return at != NULL ? strtoull(at + strlen("memory="), NULL, 10) : 1u << 30;
}

static double memory_rate(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "memory-rate=") : NULL;
    return at != NULL ? strtod(at + strlen("memory-rate="), NULL) : 0;
}

static bool is_h200(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    return asked != NULL && strstr(asked, "h200") != NULL;
}

static size_t n_timings(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "timings=") : NULL;
    return at != NULL ? (size_t)strtoul(at + strlen("timings="), NULL, 10) : 20;
}

static bool is_honest(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    return asked != NULL && strstr(asked, "honest") != NULL;
}

/* --- Stages ------------------------------------------------------------------------------------------------------- */

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
    if (faulty("error", seen)) return adm_fail(err, ADM_EENVIRONMENT, "%s: this launch was to fail", adm_stage_name(seen));
    if (faulty("lost", seen)) the_gpu.alive = false;
    if (!the_gpu.alive) return adm_fail(err, ADM_EENVIRONMENT, "the context is gone");
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
    if (!faulty("wrong", seen)) return ADM_OK;
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
#define BIT(stage) (1u << ADM_STAGE_##stage)
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

static void encode_prompt(const adm_gpu_shape *s, const adm_gpu_buffers *p) {
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
    if (asked == NULL || strstr(asked, "idle-prompt") == NULL) encode_prompt(s, p);
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

/* --- The device --------------------------------------------------------------------------------------------------- */

/* devices=N; CUDA_VISIBLE_DEVICES=K leaves that one. */
static int n_devices(void) {
    const char *asked = getenv("ADAMAS_FAKE_GPU"), *at = asked != NULL ? strstr(asked, "devices=") : NULL;
    const int n = at != NULL ? (int)strtol(at + strlen("devices="), NULL, 10) : 1;
    return getenv("CUDA_VISIBLE_DEVICES") != NULL ? 1 : n;
}

static int first_device(void) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    if (visible != NULL && strrchr(visible, '-') != NULL) visible = strrchr(visible, '-') + 1; /* a UUID */
    return visible != NULL ? (int)strtol(visible, NULL, 10) : 0;
}

adm_status adm_device_list(adm_device_info *out, int capacity, int *n, adm_error *err) {
    (void)err;
    *n = n_devices();
    for (int i = 0; i < *n && i < capacity; i++) {
        out[i] = (adm_device_info){.name = "fake GPU of the tests",
                                   .compute_major = 9,
                                   .n_sms = 1,
                                   .l2_bytes = 1 << 14,
                                   .memory_bytes = adm_fake_gpu_bytes(),
                                   .memory_bytes_per_s = memory_rate(),
                                   .driver_version = 13000,
                                   .runtime_version = 13000};
        snprintf(out[i].uuid, sizeof out[i].uuid, "GPU-00000000-0000-0000-0000-%012d", first_device() + i);
        if (is_h200()) snprintf(out[i].name, sizeof out[i].name, "NVIDIA H200");
    }
    return ADM_OK;
}

adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err) {
    adm_device_info list[16];
    int n;
    *out = NULL;
    adm_device_list(list, 16, &n, err);
    if (device < 0 || device >= n) return adm_fail(err, ADM_EINPUT, "device %d: there are devices 0 to %d", device, n - 1);
    adm_gpu *gpu = device == 0 ? &the_gpu : &others[device - 1];
    *gpu = (adm_gpu){.info = list[device], .alive = true};
    *out = gpu;
    return ADM_OK;
}

void adm_gpu_close(adm_gpu **gpu) { *gpu = NULL; }
const adm_device_info *adm_gpu_device(const adm_gpu *gpu) { return &gpu->info; }
adm_gpu_stream adm_gpu_stream_of(const adm_gpu *gpu) {
    (void)gpu;
    return NULL;
}
bool adm_gpu_alive(const adm_gpu *gpu) { return gpu->alive; }

adm_status adm_bandwidth_read(size_t buffer_bytes, double *bytes_per_s, adm_error *err) {
    (void)buffer_bytes;
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    const bool fails = asked != NULL && strstr(asked, "no-bandwidth") != NULL;
    *bytes_per_s = fails ? 0 : is_honest() ? 1e12 : 1e9;
    return fails ? adm_fail(err, ADM_EENVIRONMENT, "this bandwidth was not to be had") : ADM_OK;
}

adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err) {
    if (!gpu->alive) return adm_fail(err, ADM_EENVIRONMENT, "the context is gone");
    memcpy(host, device, bytes);
    return ADM_OK;
}

/* --- Cases -------------------------------------------------------------------------------------------------------- */

/* One row of what set `set` is filled with; head counts query heads for Q. */
static void fill_row(const adm_gpu_case *c, const adm_gpu_inputs *in, uint32_t set, adm_input_tensor tensor, uint32_t b,
                     uint32_t head, uint32_t t, void *out) {
    const uint32_t d = c->shape.heads.head_dim, kv_head = tensor == ADM_INPUT_Q ? adm_kv_head(&c->shape.heads, head) : head;
    const adm_gpu_session *s = in->session;
    if (s != NULL) {
        const size_t row_bytes = d * adm_dtype_bytes(c->shape.dtype);
        const uint32_t layer = adm_gpu_session_layer(s, set), step = adm_gpu_session_step(s, set);
        const char *from = tensor == ADM_INPUT_Q ? s->q[layer] : tensor == ADM_INPUT_K ? s->k[layer] : s->v[layer];
        const size_t row = tensor == ADM_INPUT_Q ? (size_t)step * c->shape.heads.n_q_heads + head
                                                 : (size_t)head * s->n_tokens + t;
        memcpy(out, from + row * row_bytes, row_bytes);
        return;
    }
    float row[ADM_MAX_HEAD_DIM];
    for (uint32_t i = 0; i < d; i++)
        row[i] = adm_input_value(in->seed, tensor, b, kv_head, head, tensor == ADM_INPUT_Q ? set : t, i, d);
    adm_from_f32(c->shape.dtype, row, d, out);
}

static void fill_copy(adm_gpu_case *c, const adm_gpu_inputs *in, uint32_t copy) {
    const adm_gpu_shape shape = adm_gpu_case_shape(c, copy), *s = &shape;
    adm_gpu_buffers p = c->buffers[copy];
    uint32_t longest[64];
    const size_t n = (size_t)s->heads.n_kv_heads * ADM_GPU_CHANNEL_ROWS * s->heads.head_dim;
    if (p.channels != NULL)
        memcpy((float *)(uintptr_t)p.channels, in->channels + copy % c->plan.n_layers * n, n * sizeof *in->channels);
    for (uint32_t b = 0; b < s->batch; b++) {
        longest[b] = adm_gpu_inputs_length(in, b);
        for (uint32_t h = 0; h < s->heads.n_kv_heads; h++)
            for (uint32_t t = 0; t < longest[b]; t++) {
                fill_row(c, in, copy, ADM_INPUT_K, b, h, t, (char *)p.k + adm_fake_gpu_kv_at(s, &p, b, h, t));
                fill_row(c, in, copy, ADM_INPUT_V, b, h, t, (char *)p.v + adm_fake_gpu_kv_at(s, &p, b, h, t));
            }
    }
    p.length = longest;
    encode_prompt(s, &p);
}

static void fill_set(adm_gpu_case *c, const adm_gpu_inputs *in, uint32_t set) {
    const adm_gpu_shape *s = &c->shape;
    const adm_gpu_buffers *p = &c->buffers[set];
    const size_t row_bytes = s->heads.head_dim * adm_dtype_bytes(s->dtype);
    for (uint32_t b = 0; b < s->batch; b++) {
        const uint32_t n = in->session != NULL ? in->session->length[adm_gpu_session_step(in->session, set)] : in->length[b];
        memcpy((uint32_t *)p->length + b, &n, sizeof n);
        for (uint32_t h = 0; h < s->heads.n_q_heads; h++)
            fill_row(c, in, set, ADM_INPUT_Q, b, h, 0, (char *)p->q + (b * s->heads.n_q_heads + h) * row_bytes);
        for (uint32_t h = 0; h < s->heads.n_kv_heads; h++) {
            const size_t at = (b * s->heads.n_kv_heads + h) * row_bytes;
            fill_row(c, in, set, ADM_INPUT_K, b, h, n > 0 ? n - 1 : 0, (char *)p->k_new + at);
            fill_row(c, in, set, ADM_INPUT_V, b, h, n > 0 ? n - 1 : 0, (char *)p->v_new + at);
        }
    }
}

adm_status adm_gpu_case_create(adm_gpu *gpu, const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, bool cold,
                               adm_gpu_case **out, adm_error *err) {
    adm_gpu_case *c = adm_fake_gpu_memory(sizeof *c);
    *out = NULL;
    c->gpu = gpu;
    c->shape = *shape;
    adm_gpu_plan_make(shape, inputs, cold, gpu->info.l2_bytes, gpu->info.memory_bytes / 10 * 6, &c->plan);
    if (c->plan.bytes > gpu->info.memory_bytes) {
        adm_fail(err, ADM_EENVIRONMENT, "%s: out of device memory: %zu bytes needed, %llu free", gpu->info.name, c->plan.bytes,
                 (unsigned long long)gpu->info.memory_bytes);
        adm_fake_gpu_release(c);
        return ADM_EENVIRONMENT;
    }
    c->copies = adm_fake_gpu_memory(c->plan.n_kv * c->plan.copy_bytes);
    c->sets = adm_fake_gpu_memory(c->plan.n_sets * c->plan.set_bytes);
    c->shared = adm_fake_gpu_memory(c->plan.shared_bytes);
    c->pages = adm_fake_gpu_memory(c->plan.page_table_bytes + 1);
    c->buffers = adm_fake_gpu_memory(c->plan.n_sets * sizeof *c->buffers);
    c->threshold = adm_fake_gpu_memory(c->plan.n_layers * sizeof *c->threshold);
    adm_gpu_plan_pages(shape, c->pages);
    for (uint32_t i = 0; i < c->plan.n_layers; i++)
        memcpy(c->threshold[i], inputs->session != NULL ? inputs->session->threshold[i] : shape->threshold,
               sizeof *c->threshold);
    for (uint32_t i = 0; i < c->plan.n_sets; i++) {
        c->buffers[i] = adm_gpu_plan_buffers(&c->plan, i, c->copies, c->sets, c->shared, c->pages);
        fill_set(c, inputs, i);
        if (i < c->plan.n_kv) fill_copy(c, inputs, i);
    }
    *out = c;
    return ADM_OK;
}

void adm_gpu_case_free(adm_gpu_case **gpu_case) {
    adm_gpu_case *c = *gpu_case;
    *gpu_case = NULL;
    if (c == NULL) return;
    void *const owned[] = {c->copies, c->sets, c->shared, c->pages, c->buffers, c->threshold, c};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) adm_fake_gpu_release(owned[i]);
}

const adm_gpu_plan *adm_gpu_case_plan(const adm_gpu_case *c) { return &c->plan; }
const adm_gpu_buffers *adm_gpu_case_buffers(const adm_gpu_case *c, uint32_t set) { return &c->buffers[set]; }
const int32_t *adm_gpu_case_pages(const adm_gpu_case *c) { return c->pages; }
void adm_gpu_case_set_rule(adm_gpu_case *c, const adm_select_rule *rule) { c->shape.rule = *rule; }

adm_gpu_shape adm_gpu_case_shape(const adm_gpu_case *c, uint32_t set) {
    adm_gpu_shape shape = c->shape;
    memcpy(shape.threshold, c->threshold[set % c->plan.n_layers], sizeof shape.threshold);
    return shape;
}

adm_status adm_gpu_case_poison(adm_gpu_case *c, uint32_t set, uint32_t covers, adm_error *err) {
    (void)err;
    const adm_gpu_plan *p = &c->plan;
    char *own = c->sets + set * p->set_bytes;
    if (covers & BIT(HADAMARD)) memset(own + p->y, 0xff, p->code - p->y);
    if (covers & BIT(BUCKET)) memset(own + p->code, 0xff, p->packed - p->code);
    if (covers & BIT(PACK)) memset(own + p->packed, 0xff, p->index - p->packed);
    if (covers & BIT(TOPK)) memset(own + p->index, 0xff, p->out - p->index);
    if (covers & BIT(DISTANCE)) memset(c->shared + p->distance, 0xff, p->workspace - p->distance);
    if ((covers & ADM_GPU_COVERS_PROMPT) && !p->similar_queries) memset(c->buffers[set].planes, 0xff, p->planes_bytes);
    if (covers & (BIT(ATTENTION) | BIT(DENSE))) memset(own + p->out, 0xff, p->set_bytes - p->out);
    return ADM_OK;
}

adm_status adm_gpu_case_run(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set, adm_error *err) {
    const adm_gpu_shape shape = adm_gpu_case_shape(c, set);
    for (size_t i = 0; i < n_impls; i++) {
        adm_status status = impls[i]->launch(&shape, &c->buffers[set], NULL, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

adm_status adm_gpu_case_run_all(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_error *err) {
    adm_status status = ADM_OK;
    for (uint32_t i = c->plan.n_sets; status == ADM_OK && i > 0; i--) status = adm_gpu_case_run(c, impls, n_impls, i - 1, err);
    return status;
}

/* Times made up from what the unit is: 1 us an implementation, and some for the variety of samples. */
adm_status adm_gpu_time(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_gpu_launch_mode mode,
                        double target, uint64_t cap_ns, adm_gpu_timing *timing, adm_error *err) {
    uint32_t covers = 0;
    (void)target, (void)cap_ns;
    for (size_t i = 0; i < n_impls; i++) covers |= impls[i]->covers;
    *timing = (adm_gpu_timing){
        .n_samples = n_timings(), .median_ci_ratio = 0.004, .n_sets = adm_gpu_plan_rotation(&c->plan, &c->shape, covers)};
    timing->n_calls = timing->n_sets;
    for (uint32_t i = 0; i < timing->n_sets; i++) {
        adm_status status = adm_gpu_case_run(c, impls, n_impls, i, err);
        if (status != ADM_OK) return status;
    }
    adm_status status = adm_alloc(&timing->sample_ns, timing->n_samples, sizeof(double), "samples", err);
    timing->start_ns = adm_clock_ns();
    if (status == ADM_OK) status = adm_alloc(&timing->end_ns, timing->n_samples, sizeof *timing->end_ns, "samples", err);
    for (size_t i = 0; status == ADM_OK && i < timing->n_samples; i++) timing->end_ns[i] = adm_clock_ns();
    const char *asked = getenv("ADAMAS_FAKE_GPU");
    const double longer = covers == BIT(DENSE) && asked != NULL && strstr(asked, "slow-dense") != NULL ? 1e6 : 0;
    for (size_t i = 0; status == ADM_OK && i < timing->n_samples && is_honest(); i++) {
        const uint64_t start = adm_clock_ns();
        status = adm_gpu_case_run(c, impls, n_impls, (uint32_t)i % timing->n_sets, err);
        timing->sample_ns[i] = (double)(adm_clock_ns() - start);
    }
    for (size_t i = 0; status == ADM_OK && i < timing->n_samples && !is_honest(); i++)
        timing->sample_ns[i] = longer + 1000.0 * (double)n_impls * (mode == ADM_LAUNCH_STREAM ? 3 : 1) + (double)(i * 7 % 20);
    return status;
}

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
    if (faulty("phases", ADM_STAGE_STEP)) return adm_fail(err, ADM_EENVIRONMENT, "these phases were to fail");
    for (uint64_t b = 0; b < 3; b++) {
        uint64_t *stamp = d_stamps + b * (ADM_GPU_MAX_PHASES + 1), at = stamp[0] = 5000 + b;
        for (uint64_t p = 0; p < 3; p++)
            if (b < 2 || p != 1) stamp[p + 1] = at += 1000 * (p + 1) + b;
    }
    return run(shape, buffers, STEP, ADM_STAGE_STEP, err);
}
