/* gpu.h: the pipeline of core/contract/stage.h on a CUDA device: shapes, buffers, and one launcher type per stage.
 *
 * One call serves one layer of one decode step of a whole batch:
 *
 *   q, k_new, v_new                                     [batch][heads][d]          dtype
 *     hadamard   y        [batch][n_q_heads + n_kv_heads][d]                       float32
 *     bucket     code     the same rows                                            uint8
 *     pack       packed   the same rows, d/4 bytes each, layout of core/contract/stage.h; asym4: below
 *     append     k_new and v_new join K and V, the new key's codes join `planes`, at token length[b] - 1
 *     distance   distance [batch][S][capacity]                                     uint16
 *     topk       index    [batch][S][budget], ascending; n_selected [batch][S]
 *     attention  out      [batch][n_q_heads][d]                                    dtype
 *
 * The code cache `planes` holds bit planes, not the packed bytes: of a tile of 32 tokens first the high bits of every
 * token, then the low bits, so that a warp reads both with full 16-byte, fully coalesced loads:
 *
 *   planes [batch][n_kv_heads][capacity/32] tiles of
 *     high [32 tokens][d/32 words]   bit j of word w: the high bit of the code of element 32w + j
 *     low  [32 tokens][d/32 words]
 *
 * K and V are contiguous, [batch][n_kv_heads][capacity][d], or paged, [n_pages][n_kv_heads][page_size][d], where token t of
 * sequence b is row t % page_size of page page_table[b][t / page_size]. The code cache is by sequence in both cases:
 * it is 1/16 of K in float16, and the distance scan wants it contiguous.
 *
 * By the metric asym4 (core/contract/asym4.h) keys are coded by thresholds of their own for each channel of a KV head, and
 * queries quantised: `code` holds of a query its 4-bit two's complement integers, and a row of `packed` takes d/2 bytes: of a
 * query its planes, of a new key its d/4 bytes and as many that nobody reads.
 *
 *   channels [n_kv_heads][4][d]   three thresholds, ascending, then the scale; no -0 and no NaN among the thresholds
 *
 * S is n_q_heads, or n_kv_heads where a group of query heads shares its selection (shape.selection): a distance is then
 * the sum of the group's, and query head h attends to the tokens of index row h / group.
 *
 * Results are those of the host reference: codes, distances and index sets exactly, attention to a tolerance. */
#ifndef ADM_KERNELS_GPU_GPU_H
#define ADM_KERNELS_GPU_GPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_gpu_shape {
    adm_shape heads;
    adm_dtype dtype;      /* F16 or BF16 */
    uint32_t batch;       /* 1..64 sequences */
    uint32_t capacity;    /* tokens of space per sequence, a multiple of 32; at most 2^20 */
    uint32_t page_size;   /* 0: contiguous; else 1..64 */
    uint32_t max_pages;   /* entries per row of page_table; 0 when contiguous */
    adm_select_rule rule;
    float threshold[3];
    float scale;          /* of the softmax */
    adm_selection selection;
    adm_code_metric metric; /* L1, XOR, DOT or ASYM4 */
} adm_gpu_shape;

/* S above: selections per sequence. */
static inline uint32_t adm_gpu_select_heads(const adm_gpu_shape *shape) {
    return shape->selection == ADM_SELECT_GROUP ? shape->heads.n_kv_heads : shape->heads.n_q_heads;
}

/* No distance of a selection is larger. */
static inline uint32_t adm_gpu_max_distance(const adm_gpu_shape *shape) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    const uint32_t largest = shape->metric == ADM_METRIC_ASYM4 ? 24 : shape->metric == ADM_METRIC_DOT ? 9 : 3;
    return largest * shape->heads.head_dim * (shape->selection == ADM_SELECT_GROUP ? group : 1);
}

/* Of a row of `packed`. */
static inline uint32_t adm_gpu_packed_bytes(const adm_gpu_shape *shape) {
    return shape->heads.head_dim / (shape->metric == ADM_METRIC_ASYM4 ? 2 : 4);
}

enum { ADM_GPU_CHANNEL_ROWS = 4 /* of `channels`, per KV head */ };

/* Device pointers. Inputs are const to every stage but append. */
typedef struct adm_gpu_buffers {
    const void *q, *k_new, *v_new;
    void *k, *v;
    uint32_t *planes;
    const int32_t *page_table;  /* [batch][max_pages], or NULL */
    const uint32_t *length;     /* [batch] tokens of each sequence, the new one included; 0: an empty sequence */
    float *y;
    uint8_t *code, *packed;
    uint16_t *distance;
    uint32_t *index, *n_selected;
    void *out;
    void *workspace;            /* adm_gpu_impl.workspace_bytes(shape) bytes, zeroed once before the first use; every
                                   kernel leaves it as it found it where it relies on that */
    const float *channels;      /* with asym4; else NULL */
} adm_gpu_buffers;

/* A CUDA stream, opaque so that C files need no CUDA header (cudaStream_t). */
typedef struct CUstream_st *adm_gpu_stream;

/* Enqueues one stage; returns at once. ADM_EUNSUPPORTED with a sentence for a shape the implementation does not take;
 * ADM_EENVIRONMENT for a CUDA failure, in CUDA's words. Capturable into a CUDA graph; allocates nothing. */
typedef adm_status adm_gpu_launch_fn(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                     adm_error *err);

/* In adm_gpu_impl.covers: the codes of every key in K, as after a prompt, in place of one decode step's. */
#define ADM_GPU_COVERS_PROMPT (1u << 31)

/* A row of the registry (registry.h): one GPU implementation of one stage, or of several fused. */
typedef struct adm_gpu_impl {
    adm_stage stage;         /* ADM_STAGE_STEP for a fused whole step; else the last stage that it covers */
    const char *name;        /* the `variant` in the database */
    const char *summary;
    uint32_t covers;         /* bit mask of 1 << adm_stage, or ADM_GPU_COVERS_PROMPT */
    double tolerance;        /* relative L2 allowed against the reference; 0: bit for bit */
    adm_gpu_launch_fn *launch;
    size_t (*workspace_bytes)(const adm_gpu_shape *shape); /* NULL: none */
    uint32_t metrics;        /* bit mask of 1 << adm_code_metric; 0: any, or it compares no codes */
} adm_gpu_impl;

/* Whether the calling thread's launches wait until all earlier work of their stream has ended, as they must behind kernels that
 * are not ours: those may write lengths, K, V or codes, which ours read early (common.cuh, "dependent launch"). */
bool adm_gpu_launches_apart(void);
void adm_gpu_launch_apart(bool apart);

/* Whether the row serves codes that are compared by this metric. */
static inline bool adm_gpu_impl_serves(const adm_gpu_impl *impl, adm_code_metric metric) {
    return impl->metrics == 0 || impl->metrics >> metric & 1;
}

/* ADM_EUNSUPPORTED, with the limit, for a shape outside what is allowed above. Every launcher calls it first. */
adm_status adm_gpu_shape_check(const adm_gpu_shape *shape, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
