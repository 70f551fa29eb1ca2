/* attention_dev.cuh: attention of up to 8 queries that share their keys, 16 tokens at a time, by one warp on the tensor cores,
 * without shared memory for K and V. Which tokens, and what becomes of the result, is the caller's business.
 *
 * One matrix instruction (m16n8k16) multiplies a 16x16 matrix by a 16x8 one:
 *
 *     S [8 queries][16 tokens] = Q [8 of 16 rows][d] K^T [d][2 x 8 tokens]         dense.cu; of one query: attention_one.cuh
 *     O [d][8 queries]        += V^T [d][16 tokens] P^T [16 tokens][8 queries]
 *
 * Any order of the summed dimension will do if both factors share it, so a lane holds what 16-byte loads bring:
 *
 *     lane 4g + t      K: tokens g and g+8, of each the 16-byte chunks t, t+4, t+8, ...: two words are one operand
 *                      V: tokens 2t, 2t+1, 2t+8, 2t+9, of each the chunks g, g+8, ...
 *                      S: query g, tokens 2t, 2t+1, 2t+8, 2t+9: rounded and paired they are the operand P^T
 *                      O: the elements of its chunks of V, queries 2t and 2t+1
 *
 * V^T wants two tokens of one element in a register: a byte permute of two loaded words. */
#ifndef ADM_KERNELS_ATTENTION_ATTENTION_DEV_CUH
#define ADM_KERNELS_ATTENTION_ATTENTION_DEV_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/gpu/common.cuh"

enum { ADM_TILE = 16, ADM_TILE_QUERIES = 8 };

/* What a warp knows so far, as one lane holds it. */
template <int D> struct adm_tile_sum {
    float o[D / 16][4]; /* [4 cs + w]: elements 8 (g + 8 cs) + 2w and + 1, in [0], [2] of query 2t, in [1], [3] of 2t+1 */
    float m, l; /* of query g: the largest score, times log2(e); this lane's share of the weights' sum */
};

static __device__ __forceinline__ uint4 adm_load_stream(const char *p) {
    uint4 x;
    asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(p)
                 : "memory");
    return x;
}

template <typename T>
__device__ __forceinline__ void adm_mma(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                        uint32_t b1);
template <>
__device__ __forceinline__ void adm_mma<__half>(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                                                uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void adm_mma<__nv_bfloat16>(float c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                       uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

template <typename T> __device__ __forceinline__ uint32_t adm_narrow2(float low, float high);
template <> __device__ __forceinline__ uint32_t adm_narrow2<__half>(float low, float high) {
    __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}
template <> __device__ __forceinline__ uint32_t adm_narrow2<__nv_bfloat16>(float low, float high) {
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&pair);
}

/* The weight of a partial result in a sum whose largest score is `all`. A partial result without tokens (l = 0) has none; one
 * of NaNs keeps them. */
static __device__ __forceinline__ float adm_partial_weight(float m, float l, float all) {
    return l == 0.0f ? 0.0f : adm_exp2(m - all);
}

/* Added to the exponent of a weight before it is rounded to T. A float16 weight is 2^15 times the true one: its
 * smallest normal number is then 2^-29 of the largest weight, and a million small weights still count. It
 * cancels in o / l. */
template <typename T> __device__ constexpr float adm_weight_shift(void);
template <> __device__ constexpr float adm_weight_shift<__half>(void) { return 15.0f; }
template <> __device__ constexpr float adm_weight_shift<__nv_bfloat16>(void) { return 0.0f; }

static __device__ __forceinline__ uint32_t adm_word(const uint4 &x, int i) {
    return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w;
}

/* The row of k and v in which token t of a sequence lies: see the layouts in gpu.h. 2^32 rows are at least
 * 512 GiB. */
static __device__ __forceinline__ uint32_t adm_tile_row(const adm_gpu_shape &s, const int32_t *page_table, uint32_t b,
                                                        uint32_t kv_head, uint32_t t) {
    if (s.page_size == 0) return (b * s.heads.n_kv_heads + kv_head) * s.capacity + t;
    uint32_t page = (uint32_t)page_table[b * s.max_pages + t / s.page_size];
    return (page * s.heads.n_kv_heads + kv_head) * s.page_size + t % s.page_size;
}

template <int D> __device__ __forceinline__ void adm_tile_begin(adm_tile_sum<D> *sum) {
#pragma unroll
    for (int i = 0; i < D / 16; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum->o[i][j] = 0.0f;
    sum->m = -INFINITY;
    sum->l = 0.0f;
}

/* Scores into weights relative to the largest score so far, in p as the second product's operand; what was
 * summed before is rescaled. Of the 16 tokens of N tiles each the first n_valid count. The weights are rounded to T
 * before they are summed, so that those that multiply V add up to l: the result is an average of V's rows. */
template <typename T, int D, int N = 1>
__device__ __forceinline__ void adm_tile_softmax(adm_tile_sum<D> *sum, float s[4 * N], float scale_log2, unsigned n_valid,
                                                 unsigned lane, uint32_t p[2 * N]) {
    const float shift = adm_weight_shift<T>();
#pragma unroll
    for (int i = 0; i < 4 * N; i++) s[i] = lane % 4 * 2 + i % 2 + i / 2 * 8 < n_valid ? s[i] * scale_log2 : -INFINITY;
    float m = fmaxf(fmaxf(s[0], s[1]), fmaxf(s[2], s[3]));
#pragma unroll
    for (int i = 4; i < 4 * N; i++) m = fmaxf(m, s[i]);
    m = fmaxf(m, __shfl_xor_sync(ADM_FULL_WARP, m, 1));
    m = fmaxf(m, __shfl_xor_sync(ADM_FULL_WARP, m, 2));
    m = fmaxf(m, sum->m);
    const float factor = adm_exp2(sum->m - m);
    sum->m = m;
#pragma unroll
    for (int i = 0; i < 4 * N; i++) s[i] = adm_exp2(s[i] - m + shift);
    float l = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) {
        p[2 * i] = adm_narrow2<T>(s[4 * i], s[4 * i + 1]);
        p[2 * i + 1] = adm_narrow2<T>(s[4 * i + 2], s[4 * i + 3]);
        float2 first = adm_widen2<T>(p[2 * i]), second = adm_widen2<T>(p[2 * i + 1]);
        l += (first.x + first.y) + (second.x + second.y);
    }
    sum->l = sum->l * factor + l;
    if (__any_sync(ADM_FULL_WARP, factor != 1.0f)) {
        float factors[2] = {__shfl_sync(ADM_FULL_WARP, factor, lane % 4 * 8),
                            __shfl_sync(ADM_FULL_WARP, factor, lane % 4 * 8 + 4)};
#pragma unroll
        for (int i = 0; i < D / 16; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) sum->o[i][j] *= factors[j % 2];
    }
}

/* O += V^T P^T. rows [D / 64][4]: of V, by chunk and token. */
template <typename T, int D>
__device__ __forceinline__ void adm_tile_values(adm_tile_sum<D> *sum, const uint4 (*rows)[4], const uint32_t p[2]) {
#pragma unroll
    for (int cs = 0; cs < D / 64; cs++)
#pragma unroll
        for (int w = 0; w < 4; w++) {
            const uint4 *v = rows[cs];
            uint32_t v0 = adm_word(v[0], w), v1 = adm_word(v[1], w), v2 = adm_word(v[2], w), v3 = adm_word(v[3], w);
            adm_mma<T>(sum->o[4 * cs + w], __byte_perm(v0, v1, 0x5410), __byte_perm(v0, v1, 0x7632),
                       __byte_perm(v2, v3, 0x5410), __byte_perm(v2, v3, 0x7632), p[0], p[1]);
        }
}

/* Where the partial results of a block's warps lie in shared memory, on their way to one sum:
 *   o [n_warps][n_queries][D] | m [n_warps][8] | l [n_warps][8] */
template <int D> struct adm_tile_shared {
    float *o, *m, *l;
};

/* A warp's sum into shared memory. The caller synchronises. */
template <int D>
__device__ __forceinline__ void adm_tile_store(const adm_tile_sum<D> &sum, const adm_tile_shared<D> &shared, unsigned n_queries,
                                               unsigned warp, unsigned lane) {
    float l = sum.l;
    l += __shfl_xor_sync(ADM_FULL_WARP, l, 1);
    l += __shfl_xor_sync(ADM_FULL_WARP, l, 2);
    if (lane % 4 == 0) {
        shared.m[warp * ADM_TILE_QUERIES + lane / 4] = sum.m;
        shared.l[warp * ADM_TILE_QUERIES + lane / 4] = l;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        unsigned query = 2 * (lane % 4) + i;
        if (query >= n_queries) continue;
        float *row = shared.o + (warp * n_queries + query) * D + lane / 4 * 8;
#pragma unroll
        for (int cs = 0; cs < D / 64; cs++) {
            const float(*o)[4] = &sum.o[4 * cs];
            *(float4 *)(row + cs * 64) = make_float4(o[0][i], o[0][i + 2], o[1][i], o[1][i + 2]);
            *(float4 *)(row + cs * 64 + 4) = make_float4(o[2][i], o[2][i + 2], o[3][i], o[3][i + 2]);
        }
    }
}

/* One element of one query, and the weights it is a sum of. */
struct adm_element {
    float o, m, l;
};

template <typename T> __device__ __forceinline__ T adm_element_result(const adm_element &e) {
    return adm_narrow<T>(e.l == 0.0f ? 0.0f : e.o / e.l);
}

/* ---- host ---- */

/* K, V, q and out are read and written 16 bytes at a time. */
static inline adm_status adm_tile_alignment_check(const adm_gpu_buffers *b, adm_error *err) {
    if ((((uintptr_t)b->q | (uintptr_t)b->k | (uintptr_t)b->v | (uintptr_t)b->out) & 15) == 0) return ADM_OK;
    return adm_fail(err, ADM_EINPUT, "attention needs q, k, v and out aligned to 16 bytes, not %p, %p, %p and %p", b->q, b->k,
                    b->v, b->out);
}

#endif
