/* fill.cu: random weights and caches of a whole model, made on the device; see ops.h. */
#include "core/base/minmax.h"
#include "kernels/decode/ops.h"
#include "kernels/gpu/common.cuh"
#include "kernels/gpu/input.h"

enum { FILL_THREADS = 256, FILL_BLOCKS = 4096 };

static __device__ __forceinline__ float random_element(uint64_t seed, size_t i) {
    const uint64_t bits = adm_input_mix(seed + 0x9e3779b97f4a7c15u * (1 + (uint64_t)i));
    const int32_t sum = (int32_t)(bits & 0xffff) + (int32_t)(bits >> 16 & 0xffff) + (int32_t)(bits >> 32 & 0xffff) +
                        (int32_t)(bits >> 48) - 2 * 65535;
    return (float)sum * 2.6428998e-5f; /* variance 1: 1 / sqrt(4 * (65536^2 - 1) / 12) */
}

static __global__ void __launch_bounds__(FILL_THREADS) fill_matrix(__half *out, size_t n, uint64_t seed, float scale) {
    for (size_t i = (size_t)blockIdx.x * FILL_THREADS + threadIdx.x; i < n; i += (size_t)gridDim.x * FILL_THREADS)
        out[i] = __float2half_rn(random_element(seed, i) * scale);
}

/* K and V (batch, n_kv, capacity, d), or paged. Grid (any, KV heads, batch), a thread per element of a row. */
static __global__ void fill_tokens(const adm_gpu_shape s, const adm_gpu_buffers p, uint64_t seed) {
    const uint32_t h = blockIdx.y, b = blockIdx.z, d = s.heads.head_dim, i = threadIdx.x;
    for (uint32_t t = blockIdx.x; t < p.length[b]; t += gridDim.x) {
        const size_t at = adm_kv_offset(s, p.page_table, b, h, t) + i;
        ((__half *)p.k)[at] = __float2half_rn(adm_input_value(seed, ADM_INPUT_K, b, h, h, t, i, d));
        ((__half *)p.v)[at] = __float2half_rn(adm_input_value(seed, ADM_INPUT_V, b, h, h, t, i, d));
    }
}

static adm_gpu_grid grid_of(dim3 blocks, unsigned threads) {
    adm_gpu_grid grid = {};
    grid.blocks = blocks;
    grid.threads = threads;
    return grid;
}

extern "C" adm_status adm_gpu_decode_fill(void *matrix, size_t n, uint64_t seed, float scale, adm_gpu_stream stream,
                                          adm_error *err) {
    void *args[] = {&matrix, &n, &seed, &scale};
    return adm_gpu_launch("filling weights", (const void *)fill_matrix, grid_of(dim3(FILL_BLOCKS), FILL_THREADS), args, stream,
                          err);
}

extern "C" adm_status adm_gpu_decode_fill_cache(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint64_t seed,
                                                adm_gpu_stream stream, adm_error *err) {
    void *args[] = {(void *)shape, (void *)buffers, &seed};
    return adm_gpu_launch("filling K and V", (const void *)fill_tokens,
                          grid_of(dim3((unsigned)adm_min(shape->capacity, FILL_BLOCKS), shape->heads.n_kv_heads, shape->batch),
                                  shape->heads.head_dim),
                          args, stream, err);
}
