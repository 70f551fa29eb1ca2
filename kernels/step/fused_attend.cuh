/* fused_attend.cuh: the fused step's attention over the winners of a block's rows, with ordinary arithmetic: a block has a
 * few tens of tokens, and what counts is that all their rows of K and V are asked for at once. For fused.cu. */
#ifndef ADM_KERNELS_STEP_FUSED_ATTEND_CUH
#define ADM_KERNELS_STEP_FUSED_ATTEND_CUH

#include "kernels/step/fused.cuh"

#if __CUDA_ARCH__ >= 900

/* A running softmax over rows of V: sum = total of 2^(score - largest), value = that-weighted rows, 8 elements per lane. */
typedef struct step_softmax {
    float largest, sum, value[8];
} step_softmax;

static __device__ __forceinline__ float weight_of(float score, float largest) {
    return score == -INFINITY ? 0.0f : adm_exp2(score - largest);
}

/* From tokens to their rows in K and V, counted in rows: adm_kv_offset() / d, which stays below 2^32 in any memory there
 * is, with the page numbers read side by side. */
template <int N>
static __device__ __forceinline__ void kv_rows(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                               uint32_t (&token)[N]) {
    const uint32_t n_kv = s.heads.n_kv_heads, size = s.page_size;
    if (size == 0) {
#pragma unroll
        for (int r = 0; r < N; r++) token[r] += (me.b * n_kv + me.kv_head) * s.capacity;
    } else {
        uint32_t page[N];
#pragma unroll
        for (int r = 0; r < N; r++) page[r] = (uint32_t)p.page_table[(size_t)me.b * s.max_pages + token[r] / size];
#pragma unroll
        for (int r = 0; r < N; r++) token[r] = (page[r] * n_kv + me.kv_head) * size + token[r] % size;
    }
}

/* Lanes in groups of D/8 have a sum each: the groups of the warp into one. */
template <int D> static __device__ __forceinline__ void join_groups(step_softmax *out) {
    const int lanes = D / 8;
#pragma unroll
    for (int step = lanes; step < 32; step *= 2) {
        const float other = __shfl_xor_sync(ADM_FULL_WARP, out->largest, step), largest = fmaxf(out->largest, other);
        const float shrink = weight_of(out->largest, largest);
        out->sum *= shrink;
        out->sum += __shfl_xor_sync(ADM_FULL_WARP, out->sum, step);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            out->value[i] *= shrink;
            out->value[i] += __shfl_xor_sync(ADM_FULL_WARP, out->value[i], step);
        }
        out->largest = largest;
    }
}

/* q . k of one row of K, of which each lane has 8 elements: in every lane of the row's group of D/8. */
template <typename T, int D> static __device__ __forceinline__ float row_dot(const float (&q)[8], const uint4 &k) {
    const uint32_t words[4] = {k.x, k.y, k.z, k.w};
    float dot = 0;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = adm_widen2<T>(words[i]);
        dot = fmaf(q[2 * i], pair.x, fmaf(q[2 * i + 1], pair.y, dot));
    }
#pragma unroll
    for (int step = 1; step < D / 8; step *= 2) dot += __shfl_xor_sync(ADM_FULL_WARP, dot, step);
    return dot;
}

/* The sum so far, as if `largest` had been the largest score. */
static __device__ __forceinline__ void shrink_sum(step_softmax *out, float largest) {
    const float shrink = weight_of(out->largest, largest);
    out->sum *= shrink;
#pragma unroll
    for (int i = 0; i < 8; i++) out->value[i] *= shrink;
}

/* Adds a row of V by the weight of its score; out->largest is still that of the rows before. */
template <typename T>
static __device__ __forceinline__ void add_row(step_softmax *out, float score, float largest, const uint4 &v) {
    const float w = weight_of(score, largest);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
    out->sum += w;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = adm_widen2<T>(words[i]);
        out->value[2 * i] = fmaf(w, pair.x, out->value[2 * i]);
        out->value[2 * i + 1] = fmaf(w, pair.y, out->value[2 * i + 1]);
    }
}

/* Which of `tokens` [n] this warp takes: lanes in groups of D/8, a group per row, 4 rows in flight each. */
template <typename T, int D>
static __device__ __forceinline__ void attend(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                              const uint32_t *tokens, uint32_t n, const T *q_row, const adm_team &team,
                                              step_softmax *out) {
    const int lanes = D / 8, rows = 32 / lanes, flight = 4;
    const uint32_t lane = threadIdx.x % 32, chunk = lane % lanes;
    const float scale = s.scale * 1.4426950408889634f; /* exponentials to base 2 */
    float q[8];
    const uint4 packed = ((const uint4 *)q_row)[chunk];
    const uint32_t q_words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = adm_widen2<T>(q_words[i]);
        q[2 * i] = pair.x * scale, q[2 * i + 1] = pair.y * scale;
    }
    const size_t new_row = ((size_t)me.b * s.heads.n_kv_heads + me.kv_head) * D;
    const uint4 *k_new = (const uint4 *)((const T *)p.k_new + new_row), *v_new = (const uint4 *)((const T *)p.v_new + new_row);
    out->largest = -INFINITY, out->sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) out->value[i] = 0;

    for (uint32_t base = team.warp * rows; base < n; base += flight * rows * team.n_warps) {
        uint32_t token[flight];
        uint4 k[flight], v[flight];
        float score[flight];
#pragma unroll
        for (int r = 0; r < flight; r++) { /* past the end the last one again, with no weight: no branch between loads */
            const uint32_t j = base + r * rows * team.n_warps + lane / lanes;
            token[r] = tokens[min(j, n - 1)];
            score[r] = j < n ? 0.0f : -INFINITY;
        }
        bool newest[flight];
#pragma unroll
        for (int r = 0; r < flight; r++) newest[r] = token[r] + 1 == me.length;
        kv_rows<flight>(s, p, me, token);
#pragma unroll
        for (int r = 0; r < flight; r++) { /* another block, or cluster, may still be writing the newest row to the caches */
            k[r] = __ldcg((newest[r] ? k_new : (const uint4 *)((const T *)p.k + (size_t)token[r] * D)) + chunk);
            v[r] = __ldcg((newest[r] ? v_new : (const uint4 *)((const T *)p.v + (size_t)token[r] * D)) + chunk);
        }
        float largest = out->largest;
#pragma unroll
        for (int r = 0; r < flight; r++) {
            score[r] += row_dot<T, D>(q, k[r]);
            largest = fmaxf(largest, score[r]);
        }
        shrink_sum(out, largest);
#pragma unroll
        for (int r = 0; r < flight; r++) add_row<T>(out, score[r], largest, v[r]);
        out->largest = largest;
    }
    join_groups<D>(out);
}

/* Partial results in shared memory: value [n][D] floats | largest and sum [n] float2. */
typedef struct step_partials {
    float *value;
    float2 *weight;
} step_partials;

template <int D> static __device__ __forceinline__ step_partials partials_at(float *memory, uint32_t n) {
    return step_partials{memory, (float2 *)(memory + n * D)};
}

/* Element i of the sum of n partials, the first at `first` and the others `stride` further each, scaled to the largest of
 * their maxima. */
template <int D>
static __device__ __forceinline__ float merged(const step_partials &partials, uint32_t first, uint32_t n, uint32_t stride,
                                               uint32_t i, float2 *weight) {
    float m = -INFINITY, value = 0, sum = 0;
#pragma unroll 8
    for (uint32_t r = 0; r < n; r++) m = fmaxf(m, partials.weight[first + r * stride].x);
#pragma unroll 8
    for (uint32_t r = 0; r < n; r++) {
        const float2 one = partials.weight[first + r * stride];
        const float w = weight_of(one.x, m);
        sum += w * one.y;
        value += w * partials.value[(first + r * stride) * D + i];
    }
    *weight = make_float2(m, sum);
    return value;
}

/* Attention of all heads of the block's slice over its share of their winners, merged in block 0 of the cluster. `list`:
 * [rows][plan.listed] tokens in shared memory. */
template <typename T, int D>
static __device__ __forceinline__ void attention(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                                 const step_plan &plan, const uint32_t *list, float *memory,
                                                 uint64_t *barrier) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t n_warps = STEP_WARPS / plan.heads, g = warp / n_warps, row = me.rows < me.heads ? 0 : g;
    const uint32_t n = min(s.rule.budget, me.length), share = (n + plan.split - 1) / plan.split;
    const uint32_t from = min(me.rank * share, n), mine = min(share, n - from);
    const size_t head = (size_t)me.b * s.heads.n_q_heads + me.first_head;
    const step_partials partials = partials_at<D>(memory, STEP_WARPS);
    const step_partials gathered = partials_at<D>(memory + STEP_WARPS * (D + 2), plan.split * plan.heads); /* block 0's */
    if (g < me.heads) {
        step_softmax sum;
        const uint32_t *tokens = plan.listed > 0 ? list + row * plan.listed
                                                 : p.index + (size_t)(me.first_row + row) * s.rule.budget + from;
        attend<T, D>(s, p, me, tokens, mine, (const T *)p.q + (head + g) * D, adm_team{warp % n_warps, n_warps}, &sum);
        if (lane < D / 8) {
            float4 *to = (float4 *)(partials.value + warp * D + 8 * lane);
            to[0] = make_float4(sum.value[0], sum.value[1], sum.value[2], sum.value[3]);
            to[1] = make_float4(sum.value[4], sum.value[5], sum.value[6], sum.value[7]);
        }
        if (lane == 0) partials.weight[warp] = make_float2(sum.largest, sum.sum);
    }
    __syncthreads();
    float2 weight;
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += STEP_THREADS) {
        const uint32_t to = me.rank * plan.heads + i / D;
        const float value = merged<D>(partials, i / D * n_warps, n_warps, 1, i % D, &weight);
        adm_push(&gathered.value[to * D + i % D], __float_as_uint(value), 0, barrier);
        if (i % D > 0) continue;
        adm_push(&gathered.weight[to].x, __float_as_uint(weight.x), 0, barrier);
        adm_push(&gathered.weight[to].y, __float_as_uint(weight.y), 0, barrier);
    }
    if (me.rank != 0) return;
    if (threadIdx.x == 0) adm_barrier_expect(barrier, plan.split * me.heads * (D + 2) * (uint32_t)sizeof(float));
    adm_barrier_wait_pushed(barrier, 0);
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += STEP_THREADS) {
        const float value = merged<D>(gathered, i / D, plan.split, plan.heads, i % D, &weight);
        ((T *)p.out)[head * D + i] = adm_narrow<T>(weight.y > 0 ? value / weight.y : n > 0 ? NAN : 0.0f);
    }
}

#endif /* __CUDA_ARCH__ >= 900 */

#endif
