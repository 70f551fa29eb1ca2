/* product.cu: a tiled matrix [n][k] times few vectors: the linear layers of a decode step, which are the reading of their
 * weights.
 *
 * One matrix instruction multiplies 16 rows by 8 vectors, so a batch of 8 costs as much as one. Any order of the summed
 * dimension will do if both factors share it, so a lane holds what 16-byte loads bring, and tiles lie as lanes load them:
 *
 *     lane 4g + t      matrix: rows g and g+8, of each the 8 elements 8t .. 8t+7 of every 32
 *                      x:      vector g, the same elements
 *                      sum:    rows g and g+8, vectors 2t and 2t+1
 *
 * A block has 16 rows, whose tiles are one stretch of memory; its warps take turns at them. The weights depend on nothing, so a
 * warp asks for its first tiles before it waits for the kernels before it: while those drain, the memory stays busy.
 *
 * Versions, us of all products of Llama-2-7B's shape at batch 1 (13.2 GB: 2,840 at the read limit of 4.65 TB/s):
 *   1  row-major: a load has 64 bytes from each of 8 rows      H200 3,508 (81% of the limit; cuBLAS 13.1 82%)
 *   2  tiles, 4 of them ahead in 3 blocks per SM               H200 3,138 (90.6%)
 *   3  8 ahead in 2 blocks per SM; of the layers' products alone 2,972 against 3,072; 4 to 6 blocks 3,600 and more */
#include "kernels/attention/attention_dev.cuh"
#include "kernels/decode/ops.h"

enum { TILE_ROWS = ADM_DECODE_TILE_ROWS, TILE_COLUMNS = ADM_DECODE_TILE_COLUMNS, TILE_BYTES = TILE_ROWS * TILE_COLUMNS * 2 };

/* This lane's part of a tile: of a row of the upper half, and of the lower. */
static __device__ __forceinline__ void load_tile(const char *tiles, uint32_t tile, uint4 w[2]) {
    w[0] = adm_load_stream(tiles + (size_t)tile * TILE_BYTES);
    w[1] = adm_load_stream(tiles + (size_t)tile * TILE_BYTES + TILE_BYTES / 2);
}

typedef struct product_shape {
    uint32_t n, k, batch;
    bool wide, gated;
} product_shape;

/* The warps' sums [warps][16 rows][8 vectors] into y. */
template <int WARPS>
static __device__ __forceinline__ void write_sums(const product_shape &s, const float (*sums)[TILE_ROWS * ADM_TILE_QUERIES],
                                                  void *y) {
    const uint32_t b = threadIdx.x / TILE_ROWS, r = threadIdx.x % TILE_ROWS, row = blockIdx.x * TILE_ROWS + r;
    if (b >= s.batch || row >= s.n) return;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < WARPS; i++) sum += sums[i][r * ADM_TILE_QUERIES + b];
    if (s.gated) {
        if (r % 2 != 0) return;
        float up = 0;
#pragma unroll
        for (int i = 0; i < WARPS; i++) up += sums[i][(r + 1) * ADM_TILE_QUERIES + b];
        ((__half *)y)[((size_t)b * s.n + row) / 2] = __float2half_rn(sum / (1.0f + expf(-sum)) * up);
    } else if (s.wide) ((float *)y)[(size_t)b * s.n + row] = sum;
    else ((__half *)y)[(size_t)b * s.n + row] = __float2half_rn(sum);
}

/* matrix (n, k) in tiles, x (batch, k) -> y (batch, n). Grid: n / 16 blocks. A warp has AHEAD tiles on their way. */
template <int WARPS, int AHEAD, int BLOCKS>
static __global__ void __launch_bounds__(WARPS * 32, BLOCKS)
    product_rows(const char *matrix, const char *x, void *y, const product_shape s) {
    __shared__ float sums[WARPS][TILE_ROWS * ADM_TILE_QUERIES];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const uint32_t n_tiles = s.k / TILE_COLUMNS;
    const char *tiles = matrix + (size_t)blockIdx.x * n_tiles * TILE_BYTES + lane * 16;
    const char *vector = x + ((size_t)min(g, s.batch - 1) * s.k + 8 * t) * 2;
    uint4 w[AHEAD][2];
    float c[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        if (warp + i * WARPS < n_tiles) load_tile(tiles, warp + i * WARPS, w[i]);
    adm_start_dependents();
    adm_wait_for_predecessors();
    for (uint32_t at = warp; at < n_tiles; at += WARPS * AHEAD) {
        uint4 v[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const uint32_t tile = min(at + i * WARPS, n_tiles - 1);
            v[i] = *(const uint4 *)(vector + (size_t)tile * TILE_COLUMNS * 2);
            if (g >= s.batch) v[i] = make_uint4(0, 0, 0, 0);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const uint32_t tile = at + i * WARPS, next = tile + WARPS * AHEAD;
            if (tile >= n_tiles) break;
            adm_mma<__half>(c, w[i][0].x, w[i][1].x, w[i][0].y, w[i][1].y, v[i].x, v[i].y);
            adm_mma<__half>(c, w[i][0].z, w[i][1].z, w[i][0].w, w[i][1].w, v[i].z, v[i].w);
            if (next < n_tiles) load_tile(tiles, next, w[i]);
        }
    }
    float *mine = sums[warp];
    mine[g * ADM_TILE_QUERIES + 2 * t] = c[0];
    mine[g * ADM_TILE_QUERIES + 2 * t + 1] = c[1];
    mine[(g + 8) * ADM_TILE_QUERIES + 2 * t] = c[2];
    mine[(g + 8) * ADM_TILE_QUERIES + 2 * t + 1] = c[3];
    __syncthreads();
    write_sums<WARPS>(s, sums, y);
}

extern "C" adm_status adm_gpu_decode_product(const adm_decode_product *p, adm_gpu_stream stream, adm_error *err) {
    enum { WARPS = 8, AHEAD = 8, BLOCKS = 2 };
    if (!p->tiled || p->batch > ADM_GPU_PRODUCT_BATCH || p->k % TILE_COLUMNS != 0)
        return adm_fail(
            err, ADM_EUNSUPPORTED,
            "our own matrix product takes tiles, up to %d tokens, and sums over a multiple of %d elements, not %u tokens "
            "and %u elements; cuBLAS takes any",
            ADM_GPU_PRODUCT_BATCH, TILE_COLUMNS, p->batch, p->k);
    product_shape s = {p->n, p->k, p->batch, p->wide, p->gated};
    void *args[] = {(void *)&p->matrix, (void *)&p->x, (void *)&p->y, &s};
    adm_gpu_grid grid = {};
    grid.blocks = dim3((p->n + TILE_ROWS - 1) / TILE_ROWS);
    grid.threads = WARPS * 32;
    grid.dependent = true;
    return adm_gpu_launch("a matrix product", (const void *)product_rows<WARPS, AHEAD, BLOCKS>, grid, args, stream, err);
}
