/* grouped_attend.cuh: the grouped step's attention over the winners that a block was handed. For grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_ATTEND_CUH
#define ADM_KERNELS_STEP_GROUPED_ATTEND_CUH

#include "kernels/step/fused_attend.cuh"
#include "kernels/step/grouped_scan.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* Winners of this block, of a row. */
static __device__ __forceinline__ uint32_t grouped_share(const grouped_block &me, const grouped_plan &plan) {
    return grouped_divide(plan, me.need + plan.split - 1 - me.rank);
}

/* Attends to a head's winners, those of them that this warp takes: lanes in groups of D/8, a group a row, FLIGHT rows in
 * flight each. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_attend(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      const uint32_t *tokens, uint32_t n, const float (&q)[8],
                                                      const adm_team &team, step_softmax *out) {
    const int lanes = D / 8, rows = 32 / lanes, flight = 4;
    const uint32_t lane = adm_lane(), part = lane % lanes;
    const size_t new_row = ((size_t)me.b * s.heads.n_kv_heads + me.kv_head) * D;
    const uint4 *k_new = (const uint4 *)((const T *)p.k_new + new_row), *v_new = (const uint4 *)((const T *)p.v_new + new_row);
    step_block where;
    where.b = me.b, where.kv_head = me.kv_head;
    out->largest = -INFINITY, out->sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) out->value[i] = 0;

    for (uint32_t base = team.warp * rows; base < n; base += flight * rows * team.n_warps) {
        const uint32_t stride = rows * team.n_warps;
        uint32_t token[flight];
        uint4 k[flight], v[flight];
        float score[flight];
        bool newest[flight];
#pragma unroll
        for (int r = 0; r < flight; r++) {
            const uint32_t j = base + r * stride + lane / lanes;
            token[r] = tokens[min(j, n - 1)];
            newest[r] = token[r] + 1 == me.length;
            score[r] = j < n ? 0.0f : -INFINITY;
            k[r] = v[r] = make_uint4(0, 0, 0, 0);
        }
        kv_rows<flight>(s, p, where, token);
#pragma unroll
        for (int r = 0; r < flight; r++) /* another block may still be writing the newest row to the caches */
            if (base + r * stride + lane / lanes < n) {
                k[r] = __ldcg((newest[r] ? k_new : (const uint4 *)((const T *)p.k + (size_t)token[r] * D)) + part);
                v[r] = __ldcg((newest[r] ? v_new : (const uint4 *)((const T *)p.v + (size_t)token[r] * D)) + part);
            }
        float largest = out->largest;
#pragma unroll
        for (int r = 0; r < flight; r++) {
            if (base + r * stride >= n) continue;
            score[r] += row_dot<T, D>(q, k[r]);
            largest = fmaxf(largest, score[r]);
        }
        shrink_sum(out, largest);
#pragma unroll
        for (int r = 0; r < flight; r++)
            if (base + r * stride < n) add_row<T>(out, score[r], largest, v[r]);
        out->largest = largest;
    }
    join_groups<D>(out);
}

/* This lane's elements of the query of the block's head `head`. */
template <typename T, int D>
static __device__ __forceinline__ uint4 grouped_load_query(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                           const grouped_block &me, uint32_t head) {
    const T *row = (const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + head) * D;
    return ((const uint4 *)row)[threadIdx.x % (D / 8)];
}

/* The same, scaled for exponentials to base 2. */
template <typename T>
static __device__ __forceinline__ void grouped_widen_query(const adm_gpu_shape &s, const uint4 &packed, float (&q)[8]) {
    const float scale = s.scale * 1.4426950408889634f;
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = adm_widen2<T>(words[i]);
        q[2 * i] = pair.x * scale, q[2 * i + 1] = pair.y * scale;
    }
}

/* Of n partial results the sum of value(r), each scaled to the largest of weight(r).x, and the sum of weight(r).y. */
template <typename Weight, typename Value>
static __device__ __forceinline__ float grouped_join(uint32_t n, Weight weight, Value value, float2 *all) {
    float largest = -INFINITY, sum = 0, out = 0;
#pragma unroll 1
    for (uint32_t r = 0; r < n; r += 4)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) largest = fmaxf(largest, weight(min(r + i, n - 1)).x);
#pragma unroll 1
    for (uint32_t r = 0; r < n; r += 4)
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t at = min(r + i, n - 1);
            const float2 its = weight(at);
            const float w = r + i < n ? weight_of(its.x, largest) : 0.0f;
            sum += w * its.y;
            out += w * value(at);
        }
    *all = make_float2(largest, sum);
    return out;
}

/* A warp's result to `partial`, [warps][D], its weight beside it. */
template <int D>
static __device__ __forceinline__ void grouped_put_sum(const grouped_block &me, const step_softmax &sum, float *partial,
                                                       float2 *weight) {
    const uint32_t lane = threadIdx.x % 32;
    if (lane < D / 8) {
        float4 *to = (float4 *)(partial + me.warp * D + 8 * lane);
        to[0] = make_float4(sum.value[0], sum.value[1], sum.value[2], sum.value[3]);
        to[1] = make_float4(sum.value[4], sum.value[5], sum.value[6], sum.value[7]);
    }
    if (lane == 0) weight[me.warp] = make_float2(sum.largest, sum.sum);
}

/* Partial results of the block's warps, in `memory`, of `heads` heads from `head` on, into one a head, 32 elements at a time to
 * the block that adds up those of the cluster: unit u = head * D / 32 + element / 32 to block u % split. */
template <int D>
static __device__ __forceinline__ void grouped_send_sums(const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m, const float *memory, uint32_t head,
                                                         uint32_t heads) {
    const uint32_t lane = adm_lane();
    float2 weight;
#pragma unroll 1
    for (uint32_t i = me.warp; i < heads * (D / 32); i += GROUPED_WARPS) {
        const uint32_t first = i / (D / 32) * plan.warps, u = head * (D / 32) + i;
        const float *values = memory + first * D + i % (D / 32) * 32 + lane;
        const float value = grouped_join(
            plan.warps, [&](uint32_t r) { return m.small->weight[first + r]; }, [&](uint32_t r) { return values[r * D]; },
            &weight);
        const uint32_t round = grouped_divide(plan, u) * plan.split, who = u - round;
        float *to = m.merge + (round + me.rank) * GROUPED_UNIT;
        adm_push(to + lane, __float_as_uint(value), who, &m.small->results);
        if (lane < 2) adm_push(to + 32 + lane, __float_as_uint(lane == 0 ? weight.x : weight.y), who, &m.small->results);
    }
}

/* The units that have come from all blocks, to the output. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_add_sums(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                        const grouped_block &me, const grouped_plan &plan,
                                                        const grouped_memory &m) {
    const uint32_t lane = adm_lane(), units = me.heads * (D / 32);
    float2 weight;
    if (me.warp * plan.split + me.rank >= units) return;
    adm_barrier_wait(&m.small->results, 0);
#pragma unroll 1
    for (uint32_t u = me.warp * plan.split + me.rank; u < units; u += GROUPED_WARPS * plan.split) {
        const float *from = m.merge + (u - me.rank) * GROUPED_UNIT;
        const float value = grouped_join(
            plan.split, [&](uint32_t r) { return *(const float2 *)(from + r * GROUPED_UNIT + 32); },
            [&](uint32_t r) { return from[r * GROUPED_UNIT + lane]; }, &weight);
        T *out = (T *)p.out + ((size_t)me.b * s.heads.n_q_heads + me.first_head) * D;
        out[u * 32 + lane] = adm_narrow<T>(weight.y > 0 ? __fdividef(value, weight.y) : NAN);
    }
}

#endif /* sm_90 */

#endif
