/* encode.cuh: one row's transform and codes by one warp, for encode.cu and fused.cu.
 *
 * Lane l holds elements l, l + 32, l + 64, ...: register e of the warp is word e of the row's bit planes, so a vote over
 * the warp is a word of a plane. Strides 1 to 16 go across lanes, 32 and up stay within a lane. */
#ifndef ADM_KERNELS_ENCODE_ENCODE_CUH
#define ADM_KERNELS_ENCODE_ENCODE_CUH

#include "core/contract/asym4.h"
#include "kernels/gpu/common.cuh"

/* float32(1/sqrt(d)), the factor of the contract. */
template <int D> __device__ __forceinline__ float adm_hadamard_scale(void) {
    return D == 64 ? 0.125f : D == 128 ? 0.08838834764831845f : 0.0625f;
}

/* y = H x / sqrt(d), bit for bit as core/contract/stage.h fixes it: ascending strides, nothing contracted. */
template <int D> __device__ __forceinline__ void adm_warp_hadamard(float (&v)[D / 32]) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (unsigned stride = 1; stride < 32; stride *= 2)
#pragma unroll
        for (int e = 0; e < D / 32; e++) {
            float other = __shfl_xor_sync(ADM_FULL_WARP, v[e], stride);
            v[e] = lane & stride ? __fsub_rn(other, v[e]) : __fadd_rn(v[e], other);
        }
#pragma unroll
    for (int stride = 1; stride < D / 32; stride *= 2)
#pragma unroll
        for (int e = 0; e < D / 32; e++)
            if ((e & stride) == 0) {
                float a = v[e], b = v[e + stride];
                v[e] = __fadd_rn(a, b);
                v[e + stride] = __fsub_rn(a, b);
            }
#pragma unroll
    for (int e = 0; e < D / 32; e++) v[e] = __fmul_rn(v[e], adm_hadamard_scale<D>());
}

/* The planes of a transformed row, every lane the same. The code (y>t0) + (y>t1) + (y>t2) is a full adder's result: its
 * sum is the low bit, its carry the high one. */
template <int D>
__device__ __forceinline__ void adm_warp_planes(const float (&y)[D / 32], const float *t, uint32_t (&high)[D / 32],
                                                uint32_t (&low)[D / 32]) {
#pragma unroll
    for (int e = 0; e < D / 32; e++) {
        uint32_t a = __ballot_sync(ADM_FULL_WARP, y[e] > t[0]);
        uint32_t b = __ballot_sync(ADM_FULL_WARP, y[e] > t[1]);
        uint32_t c = __ballot_sync(ADM_FULL_WARP, y[e] > t[2]);
        high[e] = (a & b) | (a & c) | (b & c);
        low[e] = a ^ b ^ c;
    }
}

/* ---- asym4 (core/contract/asym4.h) ---- */

/* The planes of a key, by thresholds [3][D] of the channels of its KV head. */
template <int D>
__device__ __forceinline__ void adm_warp_planes_by_channel(const float (&y)[D / 32], const float *channels,
                                                           uint32_t (&high)[D / 32], uint32_t (&low)[D / 32]) {
#pragma unroll
    for (int e = 0; e < D / 32; e++) {
        const float *t = channels + 32 * e + threadIdx.x % 32;
        const uint32_t a = __ballot_sync(ADM_FULL_WARP, y[e] > t[0]), b = __ballot_sync(ADM_FULL_WARP, y[e] > t[D]);
        const uint32_t c = __ballot_sync(ADM_FULL_WARP, y[e] > t[2 * D]);
        high[e] = (a & b) | (a & c) | (b & c);
        low[e] = a ^ b ^ c;
    }
}

/* This lane's scales of a KV head's `channels`. */
template <int D> __device__ __forceinline__ void adm_warp_load_scales(const float *channels, float (&scale)[D / 32]) {
#pragma unroll
    for (int e = 0; e < D / 32; e++) scale[e] = channels[3 * D + 32 * e + threadIdx.x % 32];
}

/* q, -8 .. 7, of a transformed query, bit for bit as on the host: each operation rounds by itself, and what decides is a sum of
 * integers. Non-negative floats are in the order of their bits. */
template <int D>
__device__ __forceinline__ void adm_warp_quantise(const float (&y)[D / 32], const float (&scale)[D / 32],
                                                  int32_t (&q)[D / 32]) {
    const int32_t steps[ADM_ASYM4_N_STEPS] = ADM_ASYM4_STEPS;
    float x[D / 32];
    uint32_t largest = 0, min_error = 0xffffffffu;
#pragma unroll
    for (int e = 0; e < D / 32; e++) {
        x[e] = __fmul_rn(y[e], scale[e]);
        largest = max(largest, __float_as_uint(x[e]) & 0x7fffffffu);
        q[e] = 0;
    }
    const float m = __uint_as_float(__reduce_max_sync(ADM_FULL_WARP, largest));
    if (!(m >= ADM_ASYM4_SMALLEST_W && m <= ADM_ASYM4_LARGEST_W)) return;
    const float unit = __fdiv_rn((float)ADM_ASYM4_GRID, m);
#pragma unroll
    for (int e = 0; e < D / 32; e++) x[e] = __fmul_rn(x[e], unit);
#pragma unroll
    for (int i = 0; i < ADM_ASYM4_N_STEPS; i++) {
        int32_t tried[D / 32];
        uint32_t error = 0;
#pragma unroll
        for (int e = 0; e < D / 32; e++) {
            const int32_t rounded = (int32_t)rintf(__fmul_rn(x[e], (float)(1.0 / steps[i])));
            tried[e] = min(max(rounded, (int32_t)ADM_ASYM4_LEAST), (int32_t)ADM_ASYM4_LARGEST);
            const int32_t rest = (int32_t)rintf(x[e]) - steps[i] * tried[e];
            error += (uint32_t)(rest * rest);
        }
        error = __reduce_add_sync(ADM_FULL_WARP, error);
#pragma unroll
        for (int e = 0; e < D / 32; e++) q[e] = error < min_error ? tried[e] : q[e];
        min_error = min(min_error, error);
    }
}

/* Plane p of q, word by word; every lane the same. */
template <int D>
__device__ __forceinline__ void adm_warp_query_planes(const int32_t (&q)[D / 32], uint32_t (&plane)[ADM_ASYM4_PLANES][D / 32]) {
#pragma unroll
    for (int i = 0; i < ADM_ASYM4_PLANES; i++)
#pragma unroll
        for (int e = 0; e < D / 32; e++) plane[i][e] = __ballot_sync(ADM_FULL_WARP, q[e] >> i & 1);
}

/* ---- rows ---- */

template <typename T, int D> __device__ __forceinline__ void adm_warp_load_row(const T *x, float (&v)[D / 32]) {
#pragma unroll
    for (int e = 0; e < D / 32; e++) v[e] = adm_widen(x[32 * e + threadIdx.x % 32]);
}

/* Bit i of a half word goes to bit 2i, and back. */
static __device__ __forceinline__ uint32_t adm_spread16(uint32_t x) {
    x = (x | x << 8) & 0x00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0fu;
    x = (x | x << 2) & 0x33333333u;
    return (x | x << 1) & 0x55555555u;
}
static __device__ __forceinline__ uint32_t adm_gather16(uint32_t x) {
    x &= 0x55555555u;
    x = (x | x >> 1) & 0x33333333u;
    x = (x | x >> 2) & 0x0f0f0f0fu;
    x = (x | x >> 4) & 0x00ff00ffu;
    return (x | x >> 8) & 0x0000ffffu;
}

/* Word w of one token's planes, in the layout of gpu.h. `head` is b * n_kv_heads + kv_head. */
template <int D>
__device__ __forceinline__ uint32_t *adm_plane_word(uint32_t *planes, size_t head, uint32_t capacity, uint32_t token, bool low,
                                                    uint32_t w) {
    const uint32_t words = D / 32;
    uint32_t *tile = planes + (head * (capacity / 32) + token / 32) * (64 * words);
    return tile + (low ? 32 * words : 0) + token % 32 * words + w;
}

/* The new token of one KV head joins its tile of the planes; every lane holds all words. */
template <int D>
__device__ __forceinline__ void adm_warp_store_planes(uint32_t *planes, size_t head, uint32_t capacity, uint32_t token,
                                                      const uint32_t (&high)[D / 32], const uint32_t (&low)[D / 32]) {
    const unsigned lane = threadIdx.x % 32;
#pragma unroll
    for (int e = 0; e < D / 32; e++) {
        if (lane == 2 * e) *adm_plane_word<D>(planes, head, capacity, token, false, e) = high[e];
        if (lane == 2 * e + 1) *adm_plane_word<D>(planes, head, capacity, token, true, e) = low[e];
    }
}

/* Copies one row of D 2-byte elements by one warp. */
template <int D> __device__ __forceinline__ void adm_warp_copy_row(const void *from, void *to) {
    const unsigned lane = threadIdx.x % 32;
    if (lane < D / 8) ((uint4 *)to)[lane] = ((const uint4 *)from)[lane];
}

#endif
