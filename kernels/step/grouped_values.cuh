/* grouped_values.cuh: the grouped step's way from queries and codes to values: how far a token's bin lies beyond the first of
 * its row's window. For grouped_scan.cuh; rows, bins and N are as in grouped.cuh.
 *
 * Where heads select each for itself a lane gets four values of a tile and set, as products.cuh has them. Where the block has
 * one row, its heads' distances add up to a weighted sum of a token's bits, and the weights' planes are the columns of two
 * products, c and e, whatever the number of heads. With n0 the heads whose code is 0 at an element, m those at 1 or 2 and u
 * those below 2, g heads in all,
 *
 *   L1       = sum of b + sum over elements of 2 n0 (l + h) + 2 m hl + 2 u h - g l - 2 g h
 *   asym4    = base - sum over elements of Q (l + 2h), Q the sum of the heads' quantised queries, in ten bits
 *
 *   column     0 .. 6              7                      0               1          2          3
 *   c, L1      [n0_j n0_j]         [1 0], of weight -g    of [l h], and 2^(j+1) of weight elsewhere
 *   e, L1      [m_j u_j]           [0 1], of weight -2g   of [hl h]
 *   c, asym4   [Q_j Q_(j-1)]       the same               of [l h], of weight -2^j
 *   e, asym4                                              [Q_8 Q_7]       [0 Q_8]    [Q_9 0]    [0 Q_9] (sign), of [l h]
 *
 * The four lanes of a token's row add up what they have, so that each ends with one of the tile's tokens. */
#ifndef ADM_KERNELS_STEP_GROUPED_VALUES_CUH
#define ADM_KERNELS_STEP_GROUPED_VALUES_CUH

#include "kernels/encode/encode.cuh"
#include "kernels/step/grouped.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* The query's columns as this lane holds them, in sets of four heads, and what makes a place of what the products say. */
template <int D, int N, int METRIC> struct grouped_query {
    adm_bit_query<D, METRIC> columns[N];
    int32_t start[N][ADM_BIT_PAIRS];
};
template <int D, int METRIC> struct grouped_query<D, 0, METRIC> {
    uint32_t b[4][D == 256 ? 2 : 1]; /* against l and h of c, l (L1: hl) and h of e */
    int32_t weight[4];               /* of a lane's two columns of c, and of e */
    int32_t start;
};

/* Byte i of a lane's word of places has value i % 2 of pair i / 2 of a set, of this row. */
template <int D, int N> static __device__ __forceinline__ uint32_t grouped_row(uint32_t set, uint32_t byte) {
    return N == 0 ? 0 : 4 * set + adm_bit_head<D>((int)byte / 2);
}
/* A value's token, within the tile. */
template <int D, int N> static __device__ __forceinline__ uint32_t grouped_token(uint32_t value) {
    const uint32_t lane = threadIdx.x % 32, w = lane % 4;
    if (N == 0) return D == 64 ? lane / 4 * 2 + w % 2 * 16 + w / 2 : lane / 4 + w % 2 * 8 + w / 2 * 16;
    return adm_bit_token<D>((int)value / 2) + value % 2 * adm_bits<D>::step;
}

/* ---- one row ---- */

/* The heads' queries as one: `sum` [D] gets of each element what its planes are made of, base what the distances begin with;
 * both are zeros before. By all warps. */
template <typename T, int D, int METRIC>
static __device__ __forceinline__ void grouped_add_queries(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                           const grouped_block &me, const float *channels, uint32_t *sum,
                                                           int32_t *base) {
    const uint32_t lane = adm_lane();
    float scale[D / 32];
    if (METRIC == ADM_METRIC_ASYM4 && me.warp < me.heads) adm_warp_load_scales<D>(channels, scale);
#pragma unroll 1
    for (uint32_t head = me.warp; head < me.heads; head += GROUPED_WARPS) {
        float v[D / 32];
        int32_t its = 0;
        adm_warp_load_row<T, D>((const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + head) * D, v);
        adm_warp_hadamard<D>(v);
        if (METRIC == ADM_METRIC_ASYM4) {
            int32_t q[D / 32];
            adm_warp_quantise<D>(v, scale, q);
#pragma unroll
            for (int e = 0; e < D / 32; e++) its += 3 * max(q[e], 0), atomicAdd(&sum[32 * e + lane], (uint32_t)q[e]);
            its = (int32_t)__reduce_add_sync(ADM_FULL_WARP, (uint32_t)its);
        } else {
            uint32_t high[D / 32], low[D / 32];
            adm_warp_planes<D>(v, s.threshold, high, low);
#pragma unroll
            for (int e = 0; e < D / 32; e++) {
                const uint32_t h = high[e] >> lane & 1, l = low[e] >> lane & 1;
                its += 2 * __popc(high[e]) + __popc(low[e]);
                atomicAdd(&sum[32 * e + lane], (1 ^ (h | l)) | (h ^ l) << 8 | (1 ^ h) << 16); /* n0, m, u */
            }
        }
        if (lane == 0) atomicAdd((uint32_t *)base, (uint32_t)its);
    }
}

enum { GROUPED_SUM_PLANES = 10, GROUPED_COUNT_PLANES = 7 }; /* of Q; of each of n0, m and u */

/* The planes of that, [planes][8 words]: of L1 those of n0, m, u one after another. By all warps. */
template <int D, int METRIC>
static __device__ __forceinline__ void grouped_sum_planes(const grouped_block &me, const uint32_t *sum, uint32_t *planes) {
    const int kinds = METRIC == ADM_METRIC_ASYM4 ? 1 : 3;
    const int n = METRIC == ADM_METRIC_ASYM4 ? GROUPED_SUM_PLANES : GROUPED_COUNT_PLANES;
    const uint32_t lane = adm_lane();
#pragma unroll 1
    for (uint32_t i = me.warp; i < (uint32_t)(kinds * (D / 32)); i += GROUPED_WARPS) {
        const uint32_t word = i % (D / 32), kind = i / (D / 32), value = sum[32 * word + lane] >> 8 * kind;
        uint32_t mine = 0;
#pragma unroll
        for (int j = 0; j < n; j++) {
            const uint32_t plane = __ballot_sync(ADM_FULL_WARP, value >> j & 1);
            if (lane == (uint32_t)j) mine = plane;
        }
        if (lane < (uint32_t)n) planes[(kind * n + lane) * 8 + word] = mine;
    }
}

/* A lane's columns of one row. */
template <int D, int METRIC>
static __device__ __forceinline__ void grouped_sum_columns(const grouped_block &me, const uint32_t *planes,
                                                           grouped_query<D, 0, METRIC> *q) {
    const uint32_t lane = adm_lane(), column = lane / 4, w = lane % 4, ones = ~0u;
    const auto plane = [&](uint32_t i, uint32_t word) { return planes[i * 8 + word]; };
#pragma unroll
    for (int half = 0; half < (D == 256 ? 2 : 1); half++) {
        const uint32_t at = D == 64 ? w % 2 : 4 * half + w;
        if (METRIC == ADM_METRIC_ASYM4) {
            q->b[0][half] = plane(column, at);
            q->b[1][half] = column > 0 ? plane(column - 1, at) : 0;
            q->b[2][half] = column == 0 ? plane(8, at) : column == 2 ? plane(9, at) : 0;
            q->b[3][half] = column == 0 ? plane(7, at) : column == 1 ? plane(8, at) : column == 3 ? plane(9, at) : 0;
        } else {
            const uint32_t n = GROUPED_COUNT_PLANES;
            q->b[0][half] = column < n ? plane(column, at) : ones;
            q->b[1][half] = column < n ? plane(column, at) : 0;
            q->b[2][half] = column < n ? plane(n + column, at) : 0;
            q->b[3][half] = column < n ? plane(2 * n + column, at) : ones;
        }
    }
    const int32_t heads = (int32_t)me.heads, unit = 1 << 2 * w;
    if (METRIC == ADM_METRIC_ASYM4) {
        q->weight[0] = -unit, q->weight[1] = -2 * unit;
        q->weight[2] = w == 0 ? -256 : w == 1 ? 512 : 0;
        q->weight[3] = w == 0 ? -512 : w == 1 ? 1024 : 0;
    } else {
        q->weight[0] = q->weight[2] = 2 * unit;
        q->weight[1] = w < 3 ? 4 * unit : -heads;
        q->weight[3] = w < 3 ? 4 * unit : -2 * heads;
    }
}

/* The lane's token's value. */
template <int D, int METRIC>
static __device__ __forceinline__ int32_t grouped_sum_value(const adm_bit_codes<D> &codes,
                                                            const grouped_query<D, 0, METRIC> &q) {
    const int n = adm_bit_codes<D>::n;
    const uint32_t w = threadIdx.x % 4;
    int32_t value[2][2]; /* of units of 16 rows, or of a row's two tokens where d = 64; of rows g and g + 8 */
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const int u = D == 64 ? 0 : i;
        const uint32_t *h = codes.high[u], *l = codes.low[u];
        uint32_t x[n], b[4][D == 256 ? 2 : 1];
        int32_t c[4] = {0, 0, 0, 0}, e[4] = {0, 0, 0, 0};
#pragma unroll
        for (int j = 0; j < n; j++) x[j] = METRIC == ADM_METRIC_ASYM4 ? l[j] : h[j] & l[j];
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int half = 0; half < (D == 256 ? 2 : 1); half++)
                b[j][half] = D != 64 || w / 2 == (uint32_t)i ? q.b[j][half] : 0;
        if (D == 256) {
            const int last = D == 256 ? 1 : 0;
            adm_bit_product(c, l[0], l[1], l[2 % n], l[3 % n], b[0][0], b[0][last]);
            adm_bit_product(c, h[0], h[1], h[2 % n], h[3 % n], b[1][0], b[1][last]);
            adm_bit_product(e, x[0], x[1], x[2 % n], x[3 % n], b[2][0], b[2][last]);
            adm_bit_product(e, h[0], h[1], h[2 % n], h[3 % n], b[3][0], b[3][last]);
        } else {
            adm_bit_product(c, l[0], l[1], h[0], h[1], b[0][0], b[1][0]);
            adm_bit_product(e, x[0], x[1], h[0], h[1], b[2][0], b[3][0]);
        }
#pragma unroll
        for (int j = 0; j < 2; j++)
            value[i][j] = q.weight[0] * c[2 * j] + q.weight[1] * c[2 * j + 1] + q.weight[2] * e[2 * j] +
                          q.weight[3] * e[2 * j + 1];
    }
    int32_t mine[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const int32_t other = __shfl_xor_sync(ADM_FULL_WARP, w < 2 ? value[1][j] : value[0][j], 2);
        mine[j] = (w < 2 ? value[0][j] : value[1][j]) + other;
    }
    const int32_t other = __shfl_xor_sync(ADM_FULL_WARP, w % 2 == 0 ? mine[1] : mine[0], 1);
    return (w % 2 == 0 ? mine[0] : mine[1]) + other + q.start;
}

/* ---- any number of rows ---- */

template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_columns(const grouped_block &me, const grouped_small *small,
                                                       grouped_query<D, N, METRIC> *q) {
    if constexpr (N == 0) {
        grouped_sum_columns<D, METRIC>(me, small->planes[0][0], q);
    } else {
#pragma unroll
        for (int s = 0; s < N; s++) {
            const uint32_t n = me.heads > 4u * s ? me.heads - 4 * s : 0;
            adm_bit_columns<D, METRIC>(small->planes[4 * s][0], 8, small->base + 4 * s, n, &q->columns[s]);
        }
    }
}

/* Windows for the query, which has its columns, from from(row) on; rows that are not there have all their tokens beyond. */
template <int D, int N, int METRIC, typename From>
static __device__ __forceinline__ void grouped_set_windows(const grouped_block &me, const grouped_small *small,
                                                           grouped_query<D, N, METRIC> *q, From from) {
    if constexpr (N == 0) {
        q->start = small->base[0] + 1 - from(0);
    } else {
#pragma unroll
        for (int s = 0; s < N; s++)
#pragma unroll
            for (int i = 0; i < ADM_BIT_PAIRS; i++) {
                const uint32_t row = grouped_row<D, N>(s, 2 * i);
                q->start[s][i] = row < me.rows ? adm_bit_base<D, METRIC>(q->columns[s], i) + 1 - from(row) : 1 << 20;
            }
    }
}

/* A tile's bins less where the windows begin, as if all of it competed: value[set][byte of a word], or the lane's one. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_values(const adm_bit_codes<D> &codes, const grouped_query<D, N, METRIC> &q,
                                                      int32_t (&value)[grouped_kind<N>::sets][grouped_kind<N>::values]) {
    if constexpr (N == 0) {
        value[0][0] = grouped_sum_value<D, METRIC>(codes, q);
    } else {
#pragma unroll
        for (int s = 0; s < N; s++) {
            int32_t first[ADM_BIT_PAIRS], second[ADM_BIT_PAIRS];
            adm_multiply_codes_from<D, METRIC>(codes, q.columns[s], q.start[s], first, second);
#pragma unroll
            for (int i = 0; i < ADM_BIT_PAIRS; i++) value[s][2 * i] = first[i], value[s][2 * i + 1] = second[i];
        }
    }
}

/* What becomes of values where not all of tile i of the block is eligible. */
template <int D, int N>
static __device__ __forceinline__ void grouped_correct(const grouped_block &me, uint32_t i,
                                                       int32_t (&value)[grouped_kind<N>::sets][grouped_kind<N>::values]) {
    const uint32_t token = (me.first_tile + i) * 32;
    if (token >= me.eligible.first && token + 32 <= me.eligible.last) return;
#pragma unroll
    for (int s = 0; s < grouped_kind<N>::sets; s++)
#pragma unroll
        for (int j = 0; j < grouped_kind<N>::values; j++) {
            const uint32_t mine = token + grouped_token<D, N>(j);
            if (mine >= me.length) value[s][j] = 1 << 20;
            else if (!adm_is_eligible(me.eligible, mine)) value[s][j] = 0;
        }
}

/* The place of a value; beyond the window one that depends on the lane, so that lanes do not count into one bin. */
template <int N> static __device__ __forceinline__ uint32_t grouped_place(int32_t value) {
    return (uint32_t)max(min(value, (int32_t)(grouped_kind<N>::window + threadIdx.x % 32 / 4)), 0);
}

#endif /* sm_90 */

#endif
