/* ops.cu: what a decode step does beside attention and matrix products; see ops.h. Each of these kernels is a microsecond or
 * two of latency, so what counts is that there are few of them, and that each lets its successor begin at once: a product then
 * asks for its weights meanwhile. RoPE writes K and V, so its successor, the attention, begins after its wait.
 *
 * Versions, us of a step of Llama-2-7B's shape at batch 1 and 32K tokens beside attention and products, dense and budget 256
 * (kernels/LOG.md):
 *   1  successors begin after the wait, the MLP's gate by itself       H200 670; 405 */
#include "kernels/decode/ops.h"
#include "kernels/gpu/common.cuh"

enum { NORM_THREADS = 512, ARGMAX_THREADS = 1024, ROPE_WARPS = 4, GATE_THREADS = 256 };

static __device__ __forceinline__ float4 widen4(uint2 halves) {
    const float2 a = adm_widen2<__half>(halves.x), b = adm_widen2<__half>(halves.y);
    return make_float4(a.x, a.y, b.x, b.y);
}

static __device__ __forceinline__ uint2 narrow4(float4 x) {
    __half2 a = __floats2half2_rn(x.x, x.y), b = __floats2half2_rn(x.z, x.w);
    return make_uint2(*reinterpret_cast<uint32_t *>(&a), *reinterpret_cast<uint32_t *>(&b));
}

/* token (batch), table (vocab, hidden) -> residual (batch, hidden). Grid (any, batch). */
static __global__ void embed_tokens(const adm_decode_sizes s, const int32_t *token, const uint2 *table, float4 *residual) {
    adm_start_dependents();
    adm_wait_for_predecessors();
    const uint32_t n = s.hidden / 4, b = blockIdx.y, row = (uint32_t)token[b] % s.vocab;
    for (uint32_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        const size_t tile = (size_t)(row / 16) * (s.hidden / 32) + i / 8;
        const size_t at = s.tiled ? tile * 128 + row % 16 / 8 * 64 + (4 * (row % 8) + i % 8 / 2) * 2 + i % 2
                                  : (size_t)row * n + i;
        residual[(size_t)b * n + i] = widen4(table[at]);
    }
}

/* residual (batch, hidden), y (batch, hidden) or NULL -> residual, x (batch, hidden). Grid: batch blocks; shared memory for a
 * row. */
static __global__ void __launch_bounds__(NORM_THREADS)
    norm_rows(const adm_decode_sizes s, float4 *residual, const uint2 *y, const float4 *gain, float eps, uint2 *x) {
    extern __shared__ float4 row[];
    __shared__ float sums[NORM_THREADS / 32];
    const uint32_t n = s.hidden / 4, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const size_t at = (size_t)blockIdx.x * n;
    adm_start_dependents();
    adm_wait_for_predecessors();
    float squares = 0;
    for (uint32_t i = threadIdx.x; i < n; i += NORM_THREADS) {
        float4 v = residual[at + i];
        if (y != NULL) {
            const float4 a = widen4(y[at + i]);
            v = make_float4(v.x + a.x, v.y + a.y, v.z + a.z, v.w + a.w);
            residual[at + i] = v;
        }
        row[i] = v;
        squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(ADM_FULL_WARP, squares, step);
    if (lane == 0) sums[warp] = squares;
    __syncthreads();
    float all = 0;
    for (uint32_t w = 0; w < NORM_THREADS / 32; w++) all += sums[w];
    const float scale = 1.0f / sqrtf(all / (float)s.hidden + eps);
    for (uint32_t i = threadIdx.x; i < n; i += NORM_THREADS) {
        const float4 v = row[i], g = gain[i];
        x[at + i] = narrow4(make_float4(v.x * scale * g.x, v.y * scale * g.y, v.z * scale * g.z, v.w * scale * g.w));
    }
}

/* qkv (batch, (n_q + 2 n_kv) d) -> q, k_new, v_new; K and V at token length - 1. Grid (heads / ROPE_WARPS, batch): a warp per
 * head. Those who write K and V let their dependents start after their wait. */
static __global__ void __launch_bounds__(ROPE_WARPS * 32)
    rope_heads(const adm_gpu_shape s, const adm_gpu_buffers p, const __half *qkv, const float *bias, const float *frequency,
               bool appends) {
    const uint32_t d = s.heads.head_dim, half = d / 2, n_q = s.heads.n_q_heads, n_kv = s.heads.n_kv_heads;
    const uint32_t h = blockIdx.x * ROPE_WARPS + threadIdx.x / 32, lane = threadIdx.x % 32, b = blockIdx.y;
    const uint32_t length = p.length[b];
    adm_wait_for_predecessors();
    adm_start_dependents();
    if (h >= n_q + 2 * n_kv || length == 0) return;
    const size_t from = ((size_t)b * (n_q + 2 * n_kv) + h) * d;
    const bool is_q = h < n_q, is_v = h >= n_q + n_kv;
    const uint32_t kv_head = is_q ? 0 : is_v ? h - n_q - n_kv : h - n_q;
    __half *to = is_q   ? (__half *)p.q + ((size_t)b * n_q + h) * d
                 : is_v ? (__half *)p.v_new + ((size_t)b * n_kv + kv_head) * d
                        : (__half *)p.k_new + ((size_t)b * n_kv + kv_head) * d;
    __half *cache = (__half *)(is_v ? p.v : p.k);
    if (appends && !is_q) cache += adm_kv_offset(s, p.page_table, b, kv_head, length - 1);
    for (uint32_t i = lane; i < half; i += 32) {
        float low = __half2float(qkv[from + i]), high = __half2float(qkv[from + half + i]), sine = 0, cosine = 1;
        if (bias != NULL) low += bias[h * d + i], high += bias[h * d + half + i];
        if (!is_v) sincosf((float)(length - 1) * frequency[i], &sine, &cosine);
        const __half a = __float2half_rn(low * cosine - high * sine), c = __float2half_rn(high * cosine + low * sine);
        to[i] = a;
        to[half + i] = c;
        if (appends && !is_q) cache[i] = a, cache[half + i] = c;
    }
}

/* gate_up (batch, inner, 2) -> inner (batch, inner). */
static __global__ void __launch_bounds__(GATE_THREADS) gate_elements(const uint4 *gate_up, uint2 *inner, size_t n_fours) {
    adm_start_dependents();
    adm_wait_for_predecessors();
    const size_t i = (size_t)blockIdx.x * GATE_THREADS + threadIdx.x;
    if (i >= n_fours) return;
    const uint4 pairs = gate_up[i];
    const uint32_t pair[4] = {pairs.x, pairs.y, pairs.z, pairs.w};
    float out[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const float2 g = adm_widen2<__half>(pair[j]);
        out[j] = g.x / (1.0f + expf(-g.x)) * g.y;
    }
    inner[i] = narrow4(make_float4(out[0], out[1], out[2], out[3]));
}

/* logits (batch, vocab) -> token (batch). Grid: batch blocks. */
static __global__ void __launch_bounds__(ARGMAX_THREADS)
    find_largest(const adm_decode_sizes s, const float *logits, int32_t *token) {
    __shared__ float best_of[ARGMAX_THREADS / 32];
    __shared__ uint32_t index_of[ARGMAX_THREADS / 32];
    adm_start_dependents();
    adm_wait_for_predecessors();
    const float *row = logits + (size_t)blockIdx.x * s.vocab;
    float best = row[0];
    uint32_t index = 0;
    auto take = [&](float x, uint32_t i) {
        if (x > best || (x == best && i < index)) best = x, index = i;
    };
    for (uint32_t i = threadIdx.x; i < s.vocab; i += ARGMAX_THREADS) take(row[i], i);
    for (int step = 16; step > 0; step /= 2) {
        const float x = __shfl_xor_sync(ADM_FULL_WARP, best, step);
        take(x, __shfl_xor_sync(ADM_FULL_WARP, index, step));
    }
    if (threadIdx.x % 32 == 0) best_of[threadIdx.x / 32] = best, index_of[threadIdx.x / 32] = index;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (uint32_t w = 1; w < ARGMAX_THREADS / 32; w++) take(best_of[w], index_of[w]);
    token[blockIdx.x] = (int32_t)index;
}

/* ---- launchers ---- */

static adm_gpu_grid grid_of(dim3 blocks, unsigned threads) {
    adm_gpu_grid grid = {};
    grid.blocks = blocks;
    grid.threads = threads;
    grid.dependent = true;
    return grid;
}

extern "C" adm_status adm_gpu_decode_embed(const adm_decode_sizes *s, const int32_t *token, const void *table, float *residual,
                                           adm_gpu_stream stream, adm_error *err) {
    void *args[] = {(void *)s, &token, &table, &residual};
    adm_gpu_grid grid = grid_of(dim3((s->hidden / 4 + 255) / 256, s->batch), 256);
    grid.dependent = false; /* the first of a step: what the step before wrote is whole */
    return adm_gpu_launch("embedding tokens", (const void *)embed_tokens, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_decode_norm(const adm_decode_sizes *s, float *residual, const void *y, const float *gain,
                                          float eps, void *x, adm_gpu_stream stream, adm_error *err) {
    void *args[] = {(void *)s, &residual, &y, &gain, &eps, &x};
    adm_gpu_grid grid = grid_of(dim3(s->batch), NORM_THREADS);
    grid.shared_bytes = s->hidden * sizeof(float);
    return adm_gpu_launch("RMSNorm", (const void *)norm_rows, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_decode_rope(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const void *qkv,
                                          const float *bias, const float *frequency, bool appends, adm_gpu_stream stream,
                                          adm_error *err) {
    const uint32_t n_heads = shape->heads.n_q_heads + 2 * shape->heads.n_kv_heads;
    void *args[] = {(void *)shape, (void *)buffers, &qkv, &bias, &frequency, &appends};
    return adm_gpu_launch("RoPE", (const void *)rope_heads,
                          grid_of(dim3((n_heads + ROPE_WARPS - 1) / ROPE_WARPS, shape->batch), ROPE_WARPS * 32), args, stream,
                          err);
}

extern "C" adm_status adm_gpu_decode_gate(const adm_decode_sizes *s, const void *gate_up, void *inner, adm_gpu_stream stream,
                                          adm_error *err) {
    size_t n_fours = (size_t)s->batch * s->inner / 4;
    void *args[] = {&gate_up, &inner, &n_fours};
    return adm_gpu_launch("the MLP's gate", (const void *)gate_elements,
                          grid_of(dim3((unsigned)((n_fours + GATE_THREADS - 1) / GATE_THREADS)), GATE_THREADS), args, stream,
                          err);
}

extern "C" adm_status adm_gpu_decode_argmax(const adm_decode_sizes *s, const float *logits, int32_t *token,
                                            adm_gpu_stream stream, adm_error *err) {
    void *args[] = {(void *)s, &logits, &token};
    return adm_gpu_launch("sampling", (const void *)find_largest, grid_of(dim3(s->batch), ARGMAX_THREADS), args, stream, err);
}
