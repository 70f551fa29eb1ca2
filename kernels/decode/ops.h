/* ops.h: what a decode step of a whole transformer does beside attention, for a batch of one token per sequence.
 *
 *   token   [batch]                           int32
 *     embed   residual [batch][hidden]        float32
 *   per layer
 *     norm    x [batch][hidden]               F16; the residual takes what the layer before left
 *     (product) qkv [batch][(n_q + 2 n_kv) d] F16
 *     rope    q, k_new, v_new of kernels/gpu/gpu.h; with dense attention also K and V
 *     (attention) out [batch][n_q d]          F16
 *     (product) y [batch][hidden]             F16
 *     norm    x
 *     (product) gate_up [batch][2 inner]      F16, gate and up in turn: an interleaved matrix
 *     gate    inner [batch][inner]            F16, silu(gate) * up; our own product does it at once
 *     (product) y
 *   norm, (product) logits [batch][vocab]     float32
 *   argmax  token
 *
 * A product is matrix [n][k], F16, times x [batch][k]; sums are float32. Kernels enqueue on a stream, allocate nothing, can be
 * captured, and keep the rules of the dependent launch (kernels/gpu/common.cuh). ops.cu has them; ops.c the host's references,
 * which sum in double and round where the kernels do. */
#ifndef ADM_KERNELS_DECODE_OPS_H
#define ADM_KERNELS_DECODE_OPS_H

#include <stdbool.h>

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_decode_sizes {
    uint32_t batch, hidden, inner, vocab; /* inner and vocab of one rank */
    adm_shape heads;
    bool tiled; /* matrices and the embedding are laid out in tiles */
} adm_decode_sizes;

/* A matrix [n][k] is row-major, which cuBLAS takes, or in tiles of 16 rows and 32 columns, 1 KiB each, which our own product
 * reads as it lies: the tiles of 16 rows one after another, and in a tile
 *
 *     [half: rows 0..7, 8..15][lane 4 (row % 8) + column / 8][column % 8]
 *
 * n is rounded up to a multiple of 16 then. The index of an element: */
enum { ADM_DECODE_TILE_ROWS = 16, ADM_DECODE_TILE_COLUMNS = 32 };

static inline size_t adm_decode_element(bool tiled, uint32_t k, uint32_t row, uint32_t column) {
    const size_t tile = (size_t)(row / 16) * (k / 32) + column / 32;
    const uint32_t lane = 4 * (row % 8) + column % 32 / 8;
    return tiled ? tile * 512 + (row % 16 / 8) * 256 + lane * 8 + column % 8 : (size_t)row * k + column;
}

/* Rows that a matrix of n takes. */
static inline uint32_t adm_decode_rows(bool tiled, uint32_t n) { return tiled ? (n + 15) / 16 * 16 : n; }

/* Rows of the matrix for q, k and v. */
static inline uint32_t adm_decode_qkv_rows(const adm_shape *heads) {
    return (heads->n_q_heads + 2 * heads->n_kv_heads) * heads->head_dim;
}

/* residual[b] = table[token[b] % vocab]; table [vocab][hidden] F16. */
adm_status adm_gpu_decode_embed(const adm_decode_sizes *sizes, const int32_t *token, const void *table, float *residual,
                                adm_gpu_stream stream, adm_error *err);

/* residual += y, where y is not NULL; x = residual / sqrt(mean of its squares + eps) * gain. hidden: a multiple of 4. */
adm_status adm_gpu_decode_norm(const adm_decode_sizes *sizes, float *residual, const void *y, const float *gain, float eps,
                               void *x, adm_gpu_stream stream, adm_error *err);

/* Adds the bias [rows of qkv] unless NULL, rotates element i with i + d/2 of q and k by (length - 1) * frequency[i], and writes
 * them and v where the buffers of a step say; `appends`: also into K and V at token length - 1. frequency [d/2]. */
adm_status adm_gpu_decode_rope(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const void *qkv, const float *bias,
                               const float *frequency, bool appends, adm_gpu_stream stream, adm_error *err);

/* inner[b][i] = silu(gate_up[b][2i]) * gate_up[b][2i + 1]. */
adm_status adm_gpu_decode_gate(const adm_decode_sizes *sizes, const void *gate_up, void *inner, adm_gpu_stream stream,
                               adm_error *err);

/* token[b] = the index of the largest logit, of equals the first. */
adm_status adm_gpu_decode_argmax(const adm_decode_sizes *sizes, const float *logits, int32_t *token, adm_gpu_stream stream,
                                 adm_error *err);

/* y [batch][n], F16 or float32 = matrix [n][k] times x [batch][k]; gated: y [batch][n / 2] F16, of rows 2i and 2i + 1 as
 * adm_gpu_decode_gate() makes it. */
typedef struct adm_decode_product {
    uint32_t n, k, batch;
    bool wide, tiled, gated; /* wide: y is float32 */
    const void *matrix, *x;
    void *y;
} adm_decode_product;

enum { ADM_GPU_PRODUCT_BATCH = 8 };

/* Our own product, for few tokens: tiled, batch up to ADM_GPU_PRODUCT_BATCH, k a multiple of 32; else ADM_EUNSUPPORTED. */
adm_status adm_gpu_decode_product(const adm_decode_product *product, adm_gpu_stream stream, adm_error *err);

/* --- Random contents, as pure functions of seed and place -------------------------------------------------------------- */

/* A matrix of random elements of mean 0 and standard deviation `scale`, F16. */
adm_status adm_gpu_decode_fill(void *matrix, size_t n, uint64_t seed, float scale, adm_gpu_stream stream, adm_error *err);

/* K and V of every sequence up to its length, as kernels/gpu/input.h has them. */
adm_status adm_gpu_decode_fill_cache(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint64_t seed,
                                     adm_gpu_stream stream, adm_error *err);

/* --- The host's references ---------------------------------------------------------------------------------------------- */

void adm_decode_embed(const adm_decode_sizes *sizes, const int32_t *token, const uint16_t *table, float *residual);
void adm_decode_norm(const adm_decode_sizes *sizes, float *residual, const uint16_t *y, const float *gain, float eps,
                     uint16_t *x);

/* One sequence: qkv [rows] -> q [n_q][d], k [n_kv][d], v [n_kv][d]. */
void adm_decode_rope(const adm_shape *heads, const uint16_t *qkv, const float *bias, const float *frequency, uint32_t position,
                     uint16_t *q, uint16_t *k, uint16_t *v);
void adm_decode_gate(const adm_decode_sizes *sizes, const uint16_t *gate_up, uint16_t *inner);
void adm_decode_argmax(const adm_decode_sizes *sizes, const float *logits, int32_t *token);
void adm_decode_product_reference(const adm_decode_product *product);

/* A row-major matrix [n][k] into tiles; rows beyond n are zeros. */
void adm_decode_tile(const uint16_t *matrix, uint32_t n, uint32_t k, uint16_t *tiles);

#ifdef __cplusplus
}
#endif

#endif
