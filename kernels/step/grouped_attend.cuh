/* grouped_attend.cuh: the grouped step's attention over the winners that a block was handed. For grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_ATTEND_CUH
#define ADM_KERNELS_STEP_GROUPED_ATTEND_CUH

#include "kernels/step/fused_attend.cuh"
#include "kernels/step/grouped_select.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* Winners of this block, of a head. */
static __device__ __forceinline__ uint32_t grouped_share(const grouped_block &me, const grouped_plan &plan) {
    return me.need + plan.split - 1 - me.rank >> plan.shift;
}

/* Where in the ring, once its codes are read, a warp's rows of K and V come to. */
static __device__ __forceinline__ unsigned char *grouped_stage(const grouped_block &me, const grouped_plan &plan,
                                                               const grouped_memory &m) {
    return m.ring + me.warp * plan.stage;
}

/* A warp's rows of K and V: lanes in groups of D/8, a group a row, FLIGHT rows a group at once, through the warp's stage: with as
 * many in registers, or in flight to registers through the first-level cache, which two blocks leave no room, it took longer. */
template <typename T, int D, int FLIGHT> struct grouped_rows {
    static const int lanes = D / 8, rows = 32 / lanes;
    static __device__ __forceinline__ uint4 *at(unsigned char *stage, int r, int is_v) {
        return (uint4 *)stage + (2 * r + is_v) * 32 + threadIdx.x % 32;
    }
    /* Asks for row base + r * stride + group of the list, for all r. */
    static __device__ __forceinline__ void ask(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                               const uint32_t *tokens, uint32_t n, uint32_t base, uint32_t stride,
                                               unsigned char *stage) {
        const uint32_t lane = threadIdx.x % 32, part = lane % lanes;
        const size_t new_row = ((size_t)me.b * s.heads.n_kv_heads + me.kv_head) * D;
        uint32_t token[FLIGHT];
        bool newest[FLIGHT];
        step_block where;
        where.b = me.b, where.kv_head = me.kv_head;
#pragma unroll
        for (int r = 0; r < FLIGHT; r++) {
            token[r] = tokens[min(base + r * stride + lane / lanes, n - 1)];
            newest[r] = token[r] + 1 == me.length;
        }
        kv_rows<FLIGHT>(s, p, where, token);
#pragma unroll
        for (int r = 0; r < FLIGHT; r++) {
            if (base + r * stride + lane / lanes >= n) continue;
            const T *k = (const T *)p.k + (size_t)token[r] * D, *v = (const T *)p.v + (size_t)token[r] * D;
            if (newest[r]) k = (const T *)p.k_new + new_row, v = (const T *)p.v_new + new_row; /* may not be in the caches yet */
            adm_copy16(at(stage, r, 0), (const uint4 *)k + part);
            adm_copy16(at(stage, r, 1), (const uint4 *)v + part);
        }
        adm_copy_commit();
    }
};

/* Attends to the head's winners, those of them that this warp takes. */
template <typename T, int D, int FLIGHT>
static __device__ __forceinline__ void grouped_attend(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      const uint32_t *tokens, uint32_t n, const float (&q)[8],
                                                      const adm_team &team, unsigned char *stage, step_softmax *out) {
    typedef grouped_rows<T, D, FLIGHT> rows;
    const uint32_t lane = threadIdx.x % 32, stride = rows::rows * team.n_warps;
    out->largest = -INFINITY, out->sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) out->value[i] = 0;
    if (team.warp * rows::rows < n) rows::ask(s, p, me, tokens, n, team.warp * rows::rows, stride, stage);

#pragma unroll 1
    for (uint32_t base = team.warp * rows::rows; base < n; base += FLIGHT * stride) {
        uint4 v[FLIGHT];
        float score[FLIGHT];
        adm_copy_wait<0>(); /* a lane reads what it asked for itself */
        float largest = out->largest;
#pragma unroll
        for (int r = 0; r < FLIGHT; r++) {
            const uint4 k = *rows::at(stage, r, 0);
            const uint32_t words[4] = {k.x, k.y, k.z, k.w};
            float dot = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 pair = adm_widen2<T>(words[i]);
                dot = fmaf(q[2 * i], pair.x, fmaf(q[2 * i + 1], pair.y, dot));
            }
#pragma unroll
            for (int step = 1; step < rows::lanes; step *= 2) dot += __shfl_xor_sync(ADM_FULL_WARP, dot, step);
            score[r] = base + r * stride + lane / rows::lanes < n ? dot : -INFINITY; /* what is not there is whatever was */
            largest = fmaxf(largest, score[r]);
            v[r] = *rows::at(stage, r, 1);
        }
        if (base + FLIGHT * stride < n) rows::ask(s, p, me, tokens, n, base + FLIGHT * stride, stride, stage);
        const float shrink = weight_of(out->largest, largest);
        out->sum *= shrink;
#pragma unroll
        for (int i = 0; i < 8; i++) out->value[i] *= shrink;
#pragma unroll
        for (int r = 0; r < FLIGHT; r++) {
            const float w = weight_of(score[r], largest);
            const uint32_t words[4] = {v[r].x, v[r].y, v[r].z, v[r].w};
            out->sum += w;
            if (score[r] == -INFINITY) continue;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 pair = adm_widen2<T>(words[i]);
                out->value[2 * i] = fmaf(w, pair.x, out->value[2 * i]);
                out->value[2 * i + 1] = fmaf(w, pair.y, out->value[2 * i + 1]);
            }
        }
        out->largest = largest;
    }
    join_groups<D>(out);
    __syncwarp(); /* the stage is the result's now */
}

/* Element i of the sum of a head's partial results, each in its warp's stage. */
static __device__ __forceinline__ float grouped_joined(const grouped_plan &plan, const grouped_memory &m, uint32_t head,
                                                       uint32_t i, float2 *weight) {
    const uint32_t apart = plan.stage / sizeof(float), first = head * plan.warps;
    const float *values = (const float *)m.ring + first * apart + i;
    float largest = -INFINITY, value = 0, sum = 0;
#pragma unroll 2
    for (uint32_t r = 0; r < plan.warps; r++) largest = fmaxf(largest, m.small->weight[first + r].x);
#pragma unroll 2
    for (uint32_t r = 0; r < plan.warps; r++) {
        const float2 one = m.small->weight[first + r];
        const float w = weight_of(one.x, largest);
        sum += w * one.y;
        value += w * values[r * apart];
    }
    *weight = make_float2(largest, sum);
    return value;
}

/* This lane's elements of its head's query. */
template <typename T, int D>
static __device__ __forceinline__ uint4 grouped_load_query(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                           const grouped_block &me) {
    const T *row = (const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + me.head) * D;
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

/* Partial results of the block's warps into one a head, 32 elements at a time to the block that adds up those
 * of the cluster: unit u = head * D / 32 + element / 32 to block u % split. */
template <int D>
static __device__ __forceinline__ void grouped_send_results(const grouped_block &me, const grouped_plan &plan,
                                                            const grouped_memory &m) {
    const uint32_t lane = threadIdx.x % 32, units = me.heads * (D / 32), mask = plan.split - 1;
#pragma unroll 1
    for (uint32_t u = me.warp; u < units; u += GROUPED_WARPS) {
        float2 weight;
        const float value = grouped_joined(plan, m, u / (D / 32), u % (D / 32) * 32 + lane, &weight);
        float *to = m.merge + ((u & ~mask) + me.rank) * GROUPED_UNIT;
        adm_push(to + lane, __float_as_uint(value), u & mask, &m.small->results);
        if (lane < 2) adm_push(to + 32 + lane, __float_as_uint(lane == 0 ? weight.x : weight.y), u & mask, &m.small->results);
    }
}

/* Those that came, into the output. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_merge(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                     const grouped_plan &plan, const grouped_memory &m) {
    const uint32_t lane = threadIdx.x % 32, units = me.heads * (D / 32), mask = plan.split - 1;
    if ((me.warp << plan.shift) + me.rank >= units) return;
    adm_barrier_wait_pushed(&m.small->results, 0);
#pragma unroll 1
    for (uint32_t u = (me.warp << plan.shift) + me.rank; u < units; u += GROUPED_WARPS << plan.shift) {
        const float *from = m.merge + (u & ~mask) * GROUPED_UNIT;
        float largest = -INFINITY, sum = 0, value = 0;
#pragma unroll 2
        for (uint32_t r = 0; r < plan.split; r++) largest = fmaxf(largest, from[r * GROUPED_UNIT + 32]);
#pragma unroll 2
        for (uint32_t r = 0; r < plan.split; r++) {
            const float w = weight_of(from[r * GROUPED_UNIT + 32], largest);
            sum += w * from[r * GROUPED_UNIT + 33];
            value += w * from[r * GROUPED_UNIT + lane];
        }
        T *out = (T *)p.out + ((size_t)me.b * s.heads.n_q_heads + me.first_head) * D;
        out[u * 32 + lane] = adm_narrow<T>(sum > 0 ? value / sum : NAN);
    }
}

#endif /* sm_90 */

#endif
