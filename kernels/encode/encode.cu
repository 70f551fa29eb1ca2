/* encode.cu: from rows of q and k to 2-bit codes on the device.
 *
 *   hadamard, bucket, pack, append   the four stages as kernels of their own, so that each can be profiled
 *   encode_step                      the four in one: a warp per row, codes by votes
 *   encode_prompt                    every key of every sequence into bit planes: a thread per row
 *
 * A thread holds a whole row (128 elements) in registers, so the butterflies need no shuffle; rows come through shared memory
 * by asynchronous copies, since a thread per row cannot load coalesced. The factor 1/sqrt(d) moves into the thresholds,
 * exactly: rounding is monotone, so fl(x s) > t is x > T for the largest T with fl(T s) <= t. Not so with asym4, where every
 * channel has thresholds of its own: all threads of a warp are at the same channel, so these are broadcast.
 *
 * Versions of encode_prompt, us for 32K tokens, 32 heads, d = 128 (more: kernels/LOG.md):
 *   1  as above      H200 90.6 (73.5% of the read limit), H100 116.4 (82.7%) */
#include <cmath>

#include "kernels/encode/encode.h"
#include "kernels/encode/encode.cuh"

/* ---- the stages one by one: rows [batch][n_q_heads + n_kv_heads] ---- */

template <typename T, int D>
static __device__ __forceinline__ const T *row_source(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t row) {
    const uint32_t n_q = s.heads.n_q_heads, n_kv = s.heads.n_kv_heads;
    const uint32_t b = row / (n_q + n_kv), h = row % (n_q + n_kv);
    return h < n_q ? (const T *)p.q + (size_t)(b * n_q + h) * D : (const T *)p.k_new + (size_t)(b * n_kv + h - n_q) * D;
}

static __device__ __forceinline__ bool is_query(const adm_gpu_shape &s, uint32_t row) {
    return row % (s.heads.n_q_heads + s.heads.n_kv_heads) < s.heads.n_q_heads;
}

/* The channels of the KV head that a row is of, or reads. */
template <int D>
static __device__ __forceinline__ const float *channels_of_row(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t row) {
    const uint32_t n_q = s.heads.n_q_heads, n_kv = s.heads.n_kv_heads, h = row % (n_q + n_kv);
    return p.channels + (size_t)(h < n_q ? h / (n_q / n_kv) : h - n_q) * (ADM_GPU_CHANNEL_ROWS * D);
}

/* A row of 2-bit codes as the contract packs it; every lane has all words. */
template <int D>
static __device__ __forceinline__ void store_packed(const uint32_t (&high)[D / 32], const uint32_t (&low)[D / 32],
                                                    uint32_t *to) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t packed = 0;
#pragma unroll
    for (unsigned w = 0; w < D / 16; w++)
        if (lane == w)
            packed = adm_spread16(high[w / 2] >> 16 * (w % 2) & 0xffffu) << 1 |
                     adm_spread16(low[w / 2] >> 16 * (w % 2) & 0xffffu);
    if (lane < D / 16) to[lane] = packed;
}

/* A quantised query: plane after plane. */
template <int D>
static __device__ __forceinline__ void store_query_planes(const uint32_t (&plane)[ADM_ASYM4_PLANES][D / 32], uint32_t *to) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t mine = 0;
#pragma unroll
    for (unsigned w = 0; w < D / 8; w++)
        if (lane == w) mine = plane[w / (D / 32)][w % (D / 32)];
    if (lane < D / 8) to[lane] = mine;
}

/* (rows, d): q and k_new, dtype -> y, float32. A warp per row. */
template <typename T, int D>
static __global__ void hadamard_rows(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    const uint32_t row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const uint32_t n_rows = s.batch * (s.heads.n_q_heads + s.heads.n_kv_heads);
    adm_start_dependents();
    adm_wait_for_predecessors();
    if (row >= n_rows) return;
    float v[D / 32];
    adm_warp_load_row<T, D>(row_source<T, D>(s, p, row), v);
    adm_warp_hadamard<D>(v);
    for (int e = 0; e < D / 32; e++) p.y[(size_t)row * D + 32 * e + threadIdx.x % 32] = v[e];
}

/* (rows, d): y, float32 -> code, uint8. Four elements per thread. */
static __global__ void bucket_elements(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p,
                                       uint32_t n_quads) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    adm_start_dependents();
    adm_wait_for_predecessors();
    if (i >= n_quads) return;
    const float4 y = ((const float4 *)p.y)[i];
    const float *t = s.threshold;
    uchar4 code;
    code.x = (y.x > t[0]) + (y.x > t[1]) + (y.x > t[2]);
    code.y = (y.y > t[0]) + (y.y > t[1]) + (y.y > t[2]);
    code.z = (y.z > t[0]) + (y.z > t[1]) + (y.z > t[2]);
    code.w = (y.w > t[0]) + (y.w > t[1]) + (y.w > t[2]);
    ((uchar4 *)p.code)[i] = code;
}

/* The same with asym4: of a query its integers. A warp per row. */
template <int D>
static __global__ void quantise_rows(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    const uint32_t row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    adm_start_dependents();
    adm_wait_for_predecessors();
    if (row >= s.batch * (s.heads.n_q_heads + s.heads.n_kv_heads)) return;
    const float *channels = channels_of_row<D>(s, p, row);
    float y[D / 32];
    int32_t q[D / 32];
#pragma unroll
    for (int e = 0; e < D / 32; e++) y[e] = p.y[(size_t)row * D + 32 * e + lane];
    if (is_query(s, row)) {
        float scale[D / 32];
        adm_warp_load_scales<D>(channels, scale);
        adm_warp_quantise<D>(y, scale, q);
    }
#pragma unroll
    for (int e = 0; e < D / 32; e++) {
        const float *t = channels + 32 * e + lane;
        const int32_t code = is_query(s, row) ? q[e] & 15 : (y[e] > t[0]) + (y[e] > t[D]) + (y[e] > t[2 * D]);
        p.code[(size_t)row * D + 32 * e + lane] = (uint8_t)code;
    }
}

/* code (rows, d) -> packed (rows, d/4). Four codes, one byte, per thread. */
static __global__ void pack_bytes(const __grid_constant__ adm_gpu_buffers p, uint32_t n_bytes) {
    const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    adm_start_dependents();
    adm_wait_for_predecessors();
    if (i >= n_bytes) return;
    const uchar4 c = ((const uchar4 *)p.code)[i];
    p.packed[i] = (uint8_t)(c.x | c.y << 2 | c.z << 4 | c.w << 6);
}

/* The same with asym4, rows of d/2 bytes. A warp per row. */
template <int D>
static __global__ void pack_rows(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    const uint32_t row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    adm_start_dependents();
    adm_wait_for_predecessors();
    if (row >= s.batch * (s.heads.n_q_heads + s.heads.n_kv_heads)) return;
    int32_t code[D / 32];
    uint32_t plane[ADM_ASYM4_PLANES][D / 32];
#pragma unroll
    for (int e = 0; e < D / 32; e++) code[e] = p.code[(size_t)row * D + 32 * e + threadIdx.x % 32];
    adm_warp_query_planes<D>(code, plane);
    uint32_t *to = (uint32_t *)(p.packed + (size_t)row * (D / 2));
    if (is_query(s, row)) store_query_planes<D>(plane, to);
    else store_packed<D>(plane[1], plane[0], to);
}

/* packed (rows, d/4; with asym4 d/2), k_new and v_new (batch, n_kv, d) -> planes, K and V at token length - 1. A warp per KV
 * head of a sequence: its key's codes, its K row, its V row. */
template <int D>
static __global__ void append_rows(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    const uint32_t head = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t n_kv = s.heads.n_kv_heads;
    adm_wait_for_predecessors();
    adm_start_dependents();
    if (head >= s.batch * n_kv) return;
    const uint32_t b = head / n_kv, h = head % n_kv;
    if (p.length[b] == 0) return;
    const uint32_t token = p.length[b] - 1;
    const size_t row = (size_t)b * (s.heads.n_q_heads + n_kv) + s.heads.n_q_heads + h;
    const uint32_t row_bytes = s.metric == ADM_METRIC_ASYM4 ? D / 2 : D / 4;
    const uint32_t packed = lane < D / 16 ? ((const uint32_t *)(p.packed + row * row_bytes))[lane] : 0;
    uint32_t high = adm_gather16(packed >> 1), low = adm_gather16(packed);
    high |= __shfl_down_sync(ADM_FULL_WARP, high, 1) << 16;
    low |= __shfl_down_sync(ADM_FULL_WARP, low, 1) << 16;
    if (lane < D / 16 && lane % 2 == 0) {
        *adm_plane_word<D>(p.planes, head, s.capacity, token, false, lane / 2) = high;
        *adm_plane_word<D>(p.planes, head, s.capacity, token, true, lane / 2) = low;
    }
    const size_t at = adm_kv_offset(s, p.page_table, b, h, token);
    adm_warp_copy_row<D>((const uint16_t *)p.k_new + (size_t)head * D, (uint16_t *)p.k + at);
    adm_warp_copy_row<D>((const uint16_t *)p.v_new + (size_t)head * D, (uint16_t *)p.v + at);
}

/* ---- the four in one ---- */

/* (rows, d): q and k_new -> packed (rows, d/4; with asym4 d/2); k_new and v_new -> planes, K and V at token length - 1.
 * Warps [0, batch * (n_q + n_kv)) take a row of q or k_new each, the batch * n_kv after them a row of v_new. */
template <typename T, int D, bool ASYM4>
static __device__ __forceinline__ void encode_step_row(const adm_gpu_shape &s, const adm_gpu_buffers &p) {
    uint32_t row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const uint32_t n_q = s.heads.n_q_heads, n_kv = s.heads.n_kv_heads, n_rows = s.batch * (n_q + n_kv);
    adm_wait_for_predecessors();
    adm_start_dependents();
    if (row >= n_rows) {
        const uint32_t head = row - n_rows;
        if (head >= s.batch * n_kv || p.length[head / n_kv] == 0) return;
        const size_t at = adm_kv_offset(s, p.page_table, head / n_kv, head % n_kv, p.length[head / n_kv] - 1);
        adm_warp_copy_row<D>((const uint16_t *)p.v_new + (size_t)head * D, (uint16_t *)p.v + at);
        return;
    }
    const T *x = row_source<T, D>(s, p, row);
    const uint32_t b = row / (n_q + n_kv), h = row % (n_q + n_kv), length = p.length[b];
    float v[D / 32];
    uint32_t high[D / 32], low[D / 32];
    adm_warp_load_row<T, D>(x, v);
    if (h >= n_q && length > 0)
        adm_warp_copy_row<D>(x, (uint16_t *)p.k + adm_kv_offset(s, p.page_table, b, h - n_q, length - 1));
    adm_warp_hadamard<D>(v);
    uint32_t *packed = (uint32_t *)(p.packed + (size_t)row * (ASYM4 ? D / 2 : D / 4));
    if (ASYM4 && h < n_q) {
        float scale[D / 32];
        int32_t quantised[D / 32];
        uint32_t plane[ADM_ASYM4_PLANES][D / 32];
        adm_warp_load_scales<D>(channels_of_row<D>(s, p, row), scale);
        adm_warp_quantise<D>(v, scale, quantised);
        adm_warp_query_planes<D>(quantised, plane);
        store_query_planes<D>(plane, packed);
        return;
    }
    if (ASYM4) adm_warp_planes_by_channel<D>(v, channels_of_row<D>(s, p, row), high, low);
    else adm_warp_planes<D>(v, s.threshold, high, low);
    store_packed<D>(high, low, packed);
    if (h >= n_q && length > 0)
        adm_warp_store_planes<D>(p.planes, (size_t)b * n_kv + h - n_q, s.capacity, length - 1, high, low);
}

template <typename T, int D>
static __global__ void encode_step_rows(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    encode_step_row<T, D, false>(s, p);
}

template <typename T, int D>
static __global__ void encode_step_rows_asym4(const __grid_constant__ adm_gpu_shape s,
                                              const __grid_constant__ adm_gpu_buffers p) {
    encode_step_row<T, D, true>(s, p);
}

/* ---- a whole prompt ---- */

enum { PROMPT_WARPS = 4, PROMPT_STAGES = 2 };

/* A chunk is what one thread transforms: a row, or half a row of d = 256. A warp's tile is 32 chunks. */
template <int D> struct prompt_tile {
    static const int chunk = D < 128 ? D : 128; /* elements */
    static const int chunks = D / chunk; /* of a row */
    static const int tokens = 32 / chunks; /* of a tile */
    static const int stride_bytes = 2 * chunk + 16; /* in shared memory: the padding spreads the rows over the banks */
    static const int bytes = 32 * stride_bytes;
};

/* Starts the copy of tile `tile` of a KV head: chunk i of 16-byte vectors to row i. Tokens past the end copy nothing. */
template <int D>
static __device__ __forceinline__ void prompt_fetch(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t head,
                                                    uint32_t first_token, uint32_t length, unsigned char *shared) {
    typedef prompt_tile<D> tile;
    const uint32_t lane = threadIdx.x % 32, n_kv = s.heads.n_kv_heads;
    const int vectors = tile::chunk / 8; /* of a chunk */
    const int rows_a_step = 32 / vectors;
    uint32_t token = first_token + lane / tile::chunks;
    if (token >= length) token = length - 1;
    const size_t mine = adm_kv_offset(s, p.page_table, head / n_kv, head % n_kv, token) +
                        lane % tile::chunks * (uint32_t)tile::chunk;
#pragma unroll
    for (int i = 0; i < 32; i += rows_a_step) {
        const int row = i + (int)lane / vectors, vector = (int)lane % vectors;
        const size_t at = __shfl_sync(ADM_FULL_WARP, (unsigned long long)mine, row);
        adm_copy16(shared + row * tile::stride_bytes + 16 * vector, (const uint16_t *)p.k + at + 8 * vector);
    }
}

/* Butterflies of a chunk within the thread, then across the pair of lanes that shares a row of 256. */
template <int D> static __device__ __forceinline__ void prompt_hadamard(float (&v)[prompt_tile<D>::chunk]) {
    const int n = prompt_tile<D>::chunk;
#pragma unroll
    for (int stride = 1; stride < n; stride *= 2)
#pragma unroll
        for (int i = 0; i < n; i++)
            if ((i & stride) == 0) {
                float a = v[i], b = v[i + stride];
                v[i] = __fadd_rn(a, b);
                v[i + stride] = __fsub_rn(a, b);
            }
    if (D > n) {
#pragma unroll
        for (int i = 0; i < n; i++) {
            float other = __shfl_xor_sync(ADM_FULL_WARP, v[i], 1);
            v[i] = threadIdx.x & 1 ? __fsub_rn(other, v[i]) : __fadd_rn(v[i], other);
        }
    }
}

/* The codes of a chunk by thresholds (3, D) of its channels, all lanes at the same one; else as above(). */
template <int D, int N>
static __device__ __forceinline__ void planes_by_channel(const float (&v)[N], const float *t, uint32_t *high, uint32_t *low) {
#pragma unroll
    for (int w = 0; w < N / 32; w++) {
        uint32_t bits[3] = {0, 0, 0};
#pragma unroll
        for (int i = 28; i >= 0; i -= 4)
#pragma unroll
            for (int j = 0; j < 3; j++) {
                const float4 at = *(const float4 *)(t + j * D + 32 * w + i);
                const float its[4] = {at.x, at.y, at.z, at.w};
#pragma unroll
                for (int k = 3; k >= 0; k--) {
                    const float y = __fmul_rn(v[32 * w + i + k], adm_hadamard_scale<D>());
                    bits[j] = __funnelshift_l(__float_as_uint(__fsub_rn(its[k], y)), bits[j], 1);
                }
            }
        high[w] = (bits[0] & bits[1]) | (bits[0] & bits[2]) | (bits[1] & bits[2]);
        low[w] = bits[0] ^ bits[1] ^ bits[2];
    }
}

/* Bits x > t of 32 elements: the sign of t - x, shifted in. t is never -0, so that equal values give +0. */
static __device__ __forceinline__ uint32_t above(const float *v, float t) {
    uint32_t bits = 0;
#pragma unroll
    for (int i = 31; i >= 0; i--) bits = __funnelshift_l(__float_as_uint(__fsub_rn(t, v[i])), bits, 1);
    return bits;
}

/* K (batch, n_kv, capacity, d), or paged -> planes of the same tokens; t: the thresholds over 1/sqrt(d), but for asym4. */
template <typename T, int D, bool ASYM4>
static __device__ __forceinline__ void encode_tiles(const adm_gpu_shape &s, const adm_gpu_buffers &p, const float3 &t) {
    typedef prompt_tile<D> tile;
    extern __shared__ __align__(16) unsigned char shared[];
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    unsigned char *ring = shared + warp * (PROMPT_STAGES * tile::bytes);
    const uint32_t tiles_a_head = s.capacity / tile::tokens;
    const uint32_t n_tiles = s.batch * s.heads.n_kv_heads * tiles_a_head, step = gridDim.x * PROMPT_WARPS;
    adm_wait_for_predecessors(); /* and starts nobody: see common.cuh */

    /* `fetch` runs PROMPT_STAGES tiles ahead of `at`; both skip tiles past their sequence's end in the same way. */
    uint32_t at = blockIdx.x * PROMPT_WARPS + warp, fetch = at;
    uint32_t buffer = 0, n_ahead = 0;
    for (;;) {
        while (n_ahead < PROMPT_STAGES && fetch < n_tiles) {
            const uint32_t head = fetch / tiles_a_head, first = fetch % tiles_a_head * tile::tokens;
            const uint32_t length = p.length[head / s.heads.n_kv_heads];
            if (first < length) {
                prompt_fetch<D>(s, p, head, first, length, ring + (buffer + n_ahead) % PROMPT_STAGES * tile::bytes);
                adm_copy_commit();
                n_ahead++;
            }
            fetch += step;
        }
        if (n_ahead == 0) break;
        while (at % tiles_a_head * tile::tokens >= p.length[at / tiles_a_head / s.heads.n_kv_heads]) at += step;
        if (n_ahead == PROMPT_STAGES) adm_copy_wait<PROMPT_STAGES - 1>();
        else adm_copy_wait<0>();
        __syncwarp();

        float v[tile::chunk];
        const uint4 *row = (const uint4 *)(ring + buffer * tile::bytes + lane * tile::stride_bytes);
#pragma unroll
        for (int i = 0; i < tile::chunk / 8; i++) {
            const uint4 x = row[i];
            const float2 a = adm_widen2<T>(x.x), b = adm_widen2<T>(x.y), c = adm_widen2<T>(x.z), d = adm_widen2<T>(x.w);
            v[8 * i] = a.x, v[8 * i + 1] = a.y, v[8 * i + 2] = b.x, v[8 * i + 3] = b.y;
            v[8 * i + 4] = c.x, v[8 * i + 5] = c.y, v[8 * i + 6] = d.x, v[8 * i + 7] = d.y;
        }
        __syncwarp(); /* the buffer is free for the next fetch */
        prompt_hadamard<D>(v);
        uint32_t high[tile::chunk / 32], low[tile::chunk / 32];
        const uint32_t head = at / tiles_a_head, token = at % tiles_a_head * tile::tokens + lane / tile::chunks;
        if (ASYM4) {
            const float *channels = p.channels + head % s.heads.n_kv_heads * (ADM_GPU_CHANNEL_ROWS * D);
            planes_by_channel<D>(v, channels + lane % tile::chunks * tile::chunk, high, low);
        }
#pragma unroll
        for (int w = 0; w < (ASYM4 ? 0 : tile::chunk / 32); w++) {
            const uint32_t a = above(v + 32 * w, t.x), b = above(v + 32 * w, t.y), c = above(v + 32 * w, t.z);
            high[w] = (a & b) | (a & c) | (b & c);
            low[w] = a ^ b ^ c;
        }
        if (token < p.length[head / s.heads.n_kv_heads]) {
            const uint32_t word = lane % tile::chunks * (tile::chunk / 32);
            uint32_t *to_high = adm_plane_word<D>(p.planes, head, s.capacity, token, false, word);
            uint32_t *to_low = adm_plane_word<D>(p.planes, head, s.capacity, token, true, word);
            if (tile::chunk == 64) {
                *(uint2 *)to_high = make_uint2(high[0], high[1]);
                *(uint2 *)to_low = make_uint2(low[0], low[1]);
            } else {
                *(uint4 *)to_high = make_uint4(high[0], high[1], high[tile::chunk / 32 - 2], high[tile::chunk / 32 - 1]);
                *(uint4 *)to_low = make_uint4(low[0], low[1], low[tile::chunk / 32 - 2], low[tile::chunk / 32 - 1]);
            }
        }
        at += step;
        buffer = (buffer + 1) % PROMPT_STAGES;
        n_ahead--;
    }
}

/* Grid: any number of blocks. */
template <typename T, int D>
static __global__ void __launch_bounds__(32 * PROMPT_WARPS, 3)
    encode_prompt_tiles(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, float3 t) {
    encode_tiles<T, D, false>(s, p, t);
}

template <typename T, int D>
static __global__ void __launch_bounds__(32 * PROMPT_WARPS, 3)
    encode_prompt_tiles_asym4(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, float3 t) {
    encode_tiles<T, D, true>(s, p, t);
}

/* The largest x with fl(x * scale) <= t; +0 for a zero. A NaN threshold, which nothing exceeds, becomes infinity. */
static float unscaled_threshold(float t, float scale) {
    if (isnan(t)) return INFINITY;
    float x = t / scale;
    while (x * scale > t) x = nextafterf(x, -INFINITY);
    while (x < INFINITY && nextafterf(x, INFINITY) * scale <= t) x = nextafterf(x, INFINITY);
    return x == 0.0f ? 0.0f : x;
}

/* ---- launchers ---- */

typedef void row_kernel(const adm_gpu_shape, const adm_gpu_buffers);

#define ROW_TABLE(kernel)                                                                                     \
    {                                                                                                         \
        {kernel<__half, 64>, kernel<__nv_bfloat16, 64>}, {kernel<__half, 128>, kernel<__nv_bfloat16, 128>}, { \
            kernel<__half, 256>, kernel<__nv_bfloat16, 256>                                                   \
        }                                                                                                     \
    }

static adm_gpu_grid grid_of(uint32_t n, uint32_t a_block, unsigned threads) {
    adm_gpu_grid grid = {};
    grid.blocks = dim3((n + a_block - 1) / a_block);
    grid.threads = threads;
    grid.dependent = true;
    return grid;
}

static uint32_t n_rows_of(const adm_gpu_shape *s) { return s->batch * (s->heads.n_q_heads + s->heads.n_kv_heads); }

extern "C" adm_status adm_gpu_hadamard(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                       adm_error *err) {
    static row_kernel *const kernels[3][2] = ROW_TABLE(hadamard_rows);
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    void *args[] = {(void *)shape, (void *)buffers};
    row_kernel *kernel = kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)];
    return adm_gpu_launch("hadamard", (const void *)kernel, grid_of(n_rows_of(shape), 4, 128), args, stream, err);
}

extern "C" adm_status adm_gpu_bucket(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                     adm_error *err) {
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    uint32_t n_quads = n_rows_of(shape) * shape->heads.head_dim / 4;
    void *args[] = {(void *)shape, (void *)buffers, &n_quads};
    static row_kernel *const quantise[3] = {quantise_rows<64>, quantise_rows<128>, quantise_rows<256>};
    if (shape->metric == ADM_METRIC_ASYM4)
        return adm_gpu_launch("bucket", (const void *)quantise[adm_dim_index(shape->heads.head_dim)],
                              grid_of(n_rows_of(shape), 4, 128), args, stream, err);
    return adm_gpu_launch("bucket", (const void *)bucket_elements, grid_of(n_quads, 128, 128), args, stream, err);
}

extern "C" adm_status adm_gpu_pack(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                   adm_error *err) {
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    uint32_t n_bytes = n_rows_of(shape) * shape->heads.head_dim / 4;
    void *args[] = {(void *)buffers, &n_bytes}, *row_args[] = {(void *)shape, (void *)buffers};
    static row_kernel *const rows[3] = {pack_rows<64>, pack_rows<128>, pack_rows<256>};
    if (shape->metric == ADM_METRIC_ASYM4)
        return adm_gpu_launch("pack", (const void *)rows[adm_dim_index(shape->heads.head_dim)],
                              grid_of(n_rows_of(shape), 4, 128), row_args, stream, err);
    return adm_gpu_launch("pack", (const void *)pack_bytes, grid_of(n_bytes, 128, 128), args, stream, err);
}

extern "C" adm_status adm_gpu_append(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                     adm_error *err) {
    static row_kernel *const kernels[3] = {append_rows<64>, append_rows<128>, append_rows<256>};
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    void *args[] = {(void *)shape, (void *)buffers};
    return adm_gpu_launch("append", (const void *)kernels[adm_dim_index(shape->heads.head_dim)],
                          grid_of(shape->batch * shape->heads.n_kv_heads, 2, 64), args, stream, err);
}

extern "C" adm_status adm_gpu_encode_step(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                          adm_error *err) {
    static row_kernel *const plain[3][2] = ROW_TABLE(encode_step_rows), *const asym4[3][2] = ROW_TABLE(encode_step_rows_asym4);
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    void *args[] = {(void *)shape, (void *)buffers};
    row_kernel *const(*kernels)[2] = shape->metric == ADM_METRIC_ASYM4 ? asym4 : plain;
    row_kernel *kernel = kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)];
    uint32_t n_warps = n_rows_of(shape) + shape->batch * shape->heads.n_kv_heads;
    return adm_gpu_launch("encode one step", (const void *)kernel, grid_of(n_warps, 2, 64), args, stream, err);
}

extern "C" adm_status adm_gpu_encode_prompt(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                            adm_error *err) {
    typedef void prompt_kernel(const adm_gpu_shape, const adm_gpu_buffers, float3);
    static prompt_kernel *const plain[3][2] = ROW_TABLE(encode_prompt_tiles);
    static prompt_kernel *const asym4[3][2] = ROW_TABLE(encode_prompt_tiles_asym4);
    prompt_kernel *const(*kernels)[2] = shape->metric == ADM_METRIC_ASYM4 ? asym4 : plain;
    static const size_t tile_bytes[3] = {prompt_tile<64>::bytes, prompt_tile<128>::bytes, prompt_tile<256>::bytes};
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    const float scale = (float)(1.0 / sqrt((double)shape->heads.head_dim));
    float3 t = make_float3(unscaled_threshold(shape->threshold[0], scale), unscaled_threshold(shape->threshold[1], scale),
                           unscaled_threshold(shape->threshold[2], scale));
    void *args[] = {(void *)shape, (void *)buffers, &t};
    const int d = adm_dim_index(shape->heads.head_dim);
    adm_gpu_grid grid = grid_of(1, 1, 32 * PROMPT_WARPS);
    grid.blocks.x = 3 * (unsigned)limits.n_sms;
    grid.shared_bytes = PROMPT_WARPS * PROMPT_STAGES * tile_bytes[d];
    return adm_gpu_launch("encode a prompt", (const void *)kernels[d][adm_dtype_index(shape->dtype)], grid, args, stream, err);
}
