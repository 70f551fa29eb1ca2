/* product.cu: matrix [n][k] times few vectors: the linear layers of a decode step, which are the reading of their weights.
 *
 * One matrix instruction multiplies 16 rows by 8 vectors, so a batch of 8 costs as much as one. Any order of the summed
 * dimension will do if both factors share it, so a lane holds what 16-byte loads bring:
 *
 *     lane 4g + t      matrix: rows g and g+8, of each the 8 elements 8t .. 8t+7 of every 32
 *                      x:      vector g, the same elements
 *                      sum:    rows g and g+8, vectors 2t and 2t+1
 *
 * A block has 16 rows; its warps share the summed dimension. The weights depend on nothing, so a warp asks for its first
 * PRODUCT_AHEAD pieces before it waits for the kernels before it: while those drain, the memory stays busy.
 *
 * Versions, us of Llama-2-7B's linear layers at batch 1 (13.2 GB: 2,892 at the read limit of 4.57 TB/s):
 *   1  as above */
#include "kernels/attention/attention_dev.cuh"
#include "kernels/decode/ops.h"

enum { PRODUCT_WARPS = 8, PRODUCT_ROWS = 16, PRODUCT_AHEAD = 4, PRODUCT_STEP = 32 };

/* The piece of 32 elements at `at` of this lane's two rows. */
static __device__ __forceinline__ void load_piece(const char *low, const char *high, uint32_t at, uint4 w[2]) {
    w[0] = adm_load_stream(low + (size_t)at * 2);
    w[1] = adm_load_stream(high + (size_t)at * 2);
}

/* matrix (n, k), x (batch, k) -> y (batch, n). Grid: n / 16 blocks. */
static __global__ void __launch_bounds__(PRODUCT_WARPS * 32, 3)
    product_rows(const char *matrix, const char *x, void *y, uint32_t n, uint32_t k, uint32_t batch, bool wide) {
    __shared__ float sums[PRODUCT_WARPS][PRODUCT_ROWS * ADM_TILE_QUERIES];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t row = blockIdx.x * PRODUCT_ROWS + g;
    /* Rows beyond the last read the last one's elements, and nobody writes what comes of it. */
    const char *low = matrix + ((size_t)min(row, n - 1) * k + 8 * t) * 2;
    const char *high = matrix + ((size_t)min(row + 8, n - 1) * k + 8 * t) * 2;
    const char *vector = x + ((size_t)min(g, batch - 1) * k + 8 * t) * 2;
    const uint32_t stride = PRODUCT_WARPS * PRODUCT_STEP * PRODUCT_AHEAD;
    uint4 w[PRODUCT_AHEAD][2];
    float c[4] = {0, 0, 0, 0};
    uint32_t at = warp * PRODUCT_STEP * PRODUCT_AHEAD;
#pragma unroll
    for (int i = 0; i < PRODUCT_AHEAD; i++)
        if (at + i * PRODUCT_STEP < k) load_piece(low, high, at + i * PRODUCT_STEP, w[i]);
    adm_start_dependents();
    adm_wait_for_predecessors();
    for (; at < k; at += stride) {
#pragma unroll
        for (int i = 0; i < PRODUCT_AHEAD; i++) {
            const uint32_t here = at + i * PRODUCT_STEP, next = here + stride;
            if (here >= k) break;
            uint4 v = *(const uint4 *)(vector + (size_t)here * 2);
            if (g >= batch) v = make_uint4(0, 0, 0, 0);
            adm_mma<__half>(c, w[i][0].x, w[i][1].x, w[i][0].y, w[i][1].y, v.x, v.y);
            adm_mma<__half>(c, w[i][0].z, w[i][1].z, w[i][0].w, w[i][1].w, v.z, v.w);
            if (next < k) load_piece(low, high, next, w[i]);
        }
    }
    float *mine = sums[warp];
    mine[g * ADM_TILE_QUERIES + 2 * t] = c[0];
    mine[g * ADM_TILE_QUERIES + 2 * t + 1] = c[1];
    mine[(g + 8) * ADM_TILE_QUERIES + 2 * t] = c[2];
    mine[(g + 8) * ADM_TILE_QUERIES + 2 * t + 1] = c[3];
    __syncthreads();
    const uint32_t b = threadIdx.x / PRODUCT_ROWS, r = threadIdx.x % PRODUCT_ROWS, out = blockIdx.x * PRODUCT_ROWS + r;
    if (threadIdx.x >= PRODUCT_ROWS * ADM_TILE_QUERIES || b >= batch || out >= n) return;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < PRODUCT_WARPS; i++) sum += sums[i][r * ADM_TILE_QUERIES + b];
    if (wide) ((float *)y)[(size_t)b * n + out] = sum;
    else ((__half *)y)[(size_t)b * n + out] = __float2half_rn(sum);
}

extern "C" adm_status adm_gpu_decode_product(const adm_decode_product *p, adm_gpu_stream stream, adm_error *err) {
    if (p->batch > ADM_GPU_PRODUCT_BATCH || p->k % PRODUCT_STEP != 0)
        return adm_fail(
            err, ADM_EUNSUPPORTED,
            "our own matrix product takes up to %d tokens and sums over a multiple of %d elements, not %u tokens and "
            "%u elements; cuBLAS takes any",
            ADM_GPU_PRODUCT_BATCH, PRODUCT_STEP, p->batch, p->k);
    uint32_t n = p->n, k = p->k, batch = p->batch;
    bool wide = p->wide;
    void *args[] = {(void *)&p->matrix, (void *)&p->x, (void *)&p->y, &n, &k, &batch, &wide};
    adm_gpu_grid grid = {};
    grid.blocks = dim3((n + PRODUCT_ROWS - 1) / PRODUCT_ROWS);
    grid.threads = PRODUCT_WARPS * 32;
    grid.dependent = true;
    return adm_gpu_launch("a matrix product", (const void *)product_rows, grid, args, stream, err);
}
