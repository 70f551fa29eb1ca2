/* grouped_values.cuh: the grouped step's way from queries and codes to values: how far a token's bin lies beyond the first of
 * its row's window. For grouped_scan.cuh; rows, bins and N are as in grouped.cuh.
 *
 * Where heads select each for itself a lane gets four values of a tile and set, as products.cuh has them. Where the block has
 * one row, its heads' distances add up to a weighted sum of a token's bits. With n0 the heads whose code is 0 at an element, m
 * those at 1 or 2 and u those below 2, g heads in all,
 *
 *   L1       = sum of b + sum over elements of (2 n0 - g) l + 2 (n0 + u - g) h + 2 m hl
 *   asym4    = base - sum over elements of Q (l + 2h), Q the sum of the heads' quantised queries, in ten bits
 *
 * L1: each of the three weights is a number of C digits, C = 2 (one head) or 8, with the values 1, 2, 4, .. of which the last
 * but one counts negative: from -1 to 2, from -64 to 191. h has two equal numbers, each half of its weight. A digit is a
 * column of two products that are added up, of [l h] and of [hl h]. A pair of tiles is 64 tokens, and each lane ends with
 * two of them.
 *
 *   C = 2    16 tokens need two of the product's eight columns; the others are zeros for them, and have the digits for the
 *            other 16s of the pair. So lane 4g + w gets the sums of tokens g and g + 8 of the w-th 16: no shuffle
 *   C = 8    of each tile the sums of 16 tokens are in four lanes, each of which ends with one of the tile's 32
 *
 * asym4: the planes of Q are the columns of two products, c and e, of [l h],
 *
 *   c    column j: [Q_j Q_(j-1)], of weight -2^j
 *   e    columns 0 .. 3: [Q_8 Q_7], [0 Q_8], [Q_9 0], [0 Q_9] (sign)
 *
 * and lanes end with tokens as with C = 8. */
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
/* Of one row, a lane's columns: `b` by the 16 tokens of a sum that the columns are for. */
template <int D, int C> struct grouped_columns_of {
    static const int sums = C == 2 ? 4 : D == 64 ? 2 : 1; /* where d = 64 the 16 are each row's first or second tokens */
    static const int halves = D == 256 ? 2 : 1;
    uint32_t b[sums][4][halves]; /* against l and h, then hl (asym4: l) and h */
    int32_t weight[4]; /* of two columns; asym4: of c, and of e */
    int32_t start;
};
template <int D, int METRIC> struct grouped_query<D, 0, METRIC> : grouped_columns_of<D, 8> {};
template <int D, int METRIC> struct grouped_query<D, -2, METRIC> : grouped_columns_of<D, 2> {};

/* Byte i of a lane's word of places has value i % 2 of pair i / 2 of a set, of this row. */
template <int D, int N> static __device__ __forceinline__ uint32_t grouped_row(uint32_t set, uint32_t byte) {
    return N <= 0 ? 0 : 4 * set + adm_bit_head<D>((int)byte / 2);
}
/* A value's token, within the tile; of one row within the pair of tiles. */
template <int D, int N> static __device__ __forceinline__ uint32_t grouped_token_of(uint32_t value, uint32_t lane) {
    const uint32_t w = lane % 4;
    if (N == -2) return w / 2 * 32 + (D == 64 ? (lane / 4 + value * 8) * 2 + w % 2 : w % 2 * 16 + lane / 4 + value * 8);
    return value * 32 + (D == 64 ? lane / 4 * 2 + w % 2 * 16 + w / 2 : lane / 4 + w % 2 * 8 + w / 2 * 16);
}
template <int D, int N> static __device__ __forceinline__ uint32_t grouped_token(uint32_t value) {
    if (N <= 0) return grouped_token_of<D, N>(value, threadIdx.x % 32);
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

enum { GROUPED_SUM_PLANES = 10 }; /* of Q */

/* Of one row, digits of a weight. */
template <int N> struct grouped_digits {
    static const int n = N == -2 ? 2 : 8;
};

/* The planes of that, [planes][8 words]; with L1 those of the weight of l, of h, of hl, and of h once more. By all warps. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_sum_planes(const grouped_block &me, const uint32_t *sum, uint32_t *planes) {
    const int kinds = METRIC == ADM_METRIC_ASYM4 ? 1 : 4;
    const int n = METRIC == ADM_METRIC_ASYM4 ? GROUPED_SUM_PLANES : grouped_digits<N>::n;
    const uint32_t lane = adm_lane();
#pragma unroll 1
    for (uint32_t i = me.warp; i < (uint32_t)(kinds * (D / 32)); i += GROUPED_WARPS) {
        const uint32_t word = i % (D / 32), kind = i / (D / 32);
        uint32_t value = sum[32 * word + lane];
        if (METRIC != ADM_METRIC_ASYM4) {
            const int32_t n0 = value & 0xff, m = value >> 8 & 0xff, u = value >> 16, g = (int32_t)me.heads;
            const int32_t weight = kind == 0 ? 2 * n0 - g : kind == 2 ? 2 * m : n0 + u - g;
            const int32_t highest = 1 << (n - 2); /* of the negative digit */
            value = (uint32_t)((weight + highest) ^ highest);
        }
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
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_sum_columns(const grouped_block &me, const uint32_t *planes,
                                                           grouped_query<D, N, METRIC> *q) {
    const uint32_t n = grouped_digits<N>::n, lane = adm_lane(), column = lane / 4, w = lane % 4;
    const auto plane = [&](uint32_t i, uint32_t word) { return planes[i * 8 + word]; };
#pragma unroll
    for (int sum = 0; sum < grouped_query<D, N, METRIC>::sums; sum++)
#pragma unroll
        for (int half = 0; half < grouped_query<D, N, METRIC>::halves; half++) {
            const uint32_t at = D == 64 ? w % 2 : 4 * half + w;
            /* Others' columns, and where d = 64 the other token of a row, are zeros. */
            const bool mine = (n == 8 || column / n == (uint32_t)sum) && (D != 64 || w / 2 == (uint32_t)sum % 2);
            uint32_t b[4];
            if (METRIC == ADM_METRIC_ASYM4) {
                b[0] = plane(column, at);
                b[1] = column > 0 ? plane(column - 1, at) : 0;
                b[2] = column == 0 ? plane(8, at) : column == 2 ? plane(9, at) : 0;
                b[3] = column == 0 ? plane(7, at) : column == 1 ? plane(8, at) : column == 3 ? plane(9, at) : 0;
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++) b[i] = plane(i * n + column % n, at);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) q->b[sum][i][half] = mine ? b[i] : 0;
        }
    if (METRIC == ADM_METRIC_ASYM4) {
        const int32_t unit = 1 << 2 * w;
        q->weight[0] = -unit, q->weight[1] = -2 * unit;
        q->weight[2] = w == 0 ? -256 : w == 1 ? 512 : 0;
        q->weight[3] = w == 0 ? -512 : w == 1 ? 1024 : 0;
    } else {
        const uint32_t digit = 2 * w % n; /* and the next; the last but one counts negative */
        const int32_t unit = 1 << digit;
        q->weight[0] = digit == n - 2 ? -unit : unit, q->weight[1] = 2 * unit;
    }
}

/* Adds to c what the columns b count of a tile's i-th 16 tokens, and with asym4 to e what those of e do. */
template <int D, int METRIC>
static __device__ __forceinline__ void grouped_count_bits(const adm_bit_codes<D> &codes, int i,
                                                          const uint32_t (&b)[4][D == 256 ? 2 : 1], int32_t (&c)[4],
                                                          int32_t (&e)[4]) {
    const int n = adm_bit_codes<D>::n, u = D == 64 ? 0 : i, last = D == 256 ? 1 : 0;
    const uint32_t *h = codes.high[u], *l = codes.low[u];
    uint32_t x[n];
    int32_t(&other)[4] = METRIC == ADM_METRIC_ASYM4 ? e : c;
#pragma unroll
    for (int j = 0; j < n; j++) x[j] = METRIC == ADM_METRIC_ASYM4 ? l[j] : h[j] & l[j];
    if (D == 256) {
        adm_bit_product(c, l[0], l[1], l[2 % n], l[3 % n], b[0][0], b[0][last]);
        adm_bit_product(c, h[0], h[1], h[2 % n], h[3 % n], b[1][0], b[1][last]);
        adm_bit_product(other, x[0], x[1], x[2 % n], x[3 % n], b[2][0], b[2][last]);
        adm_bit_product(other, h[0], h[1], h[2 % n], h[3 % n], b[3][0], b[3][last]);
    } else {
        adm_bit_product(c, l[0], l[1], h[0], h[1], b[0][0], b[1][0]);
        adm_bit_product(other, x[0], x[1], h[0], h[1], b[2][0], b[3][0]);
    }
}

/* The lane's token of a tile, where a sum is spread over four lanes. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ int32_t grouped_sum_value(const adm_bit_codes<D> &codes,
                                                            const grouped_query<D, N, METRIC> &q) {
    const uint32_t w = threadIdx.x % 4;
    int32_t value[2][2], mine[2]; /* of units of 16, or of a row's two tokens where d = 64; of rows g and g + 8 */
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int32_t c[4] = {0, 0, 0, 0}, e[4] = {0, 0, 0, 0};
        grouped_count_bits<D, METRIC>(codes, i, q.b[i % q.sums], c, e);
#pragma unroll
        for (int j = 0; j < 2; j++) {
            value[i][j] = q.weight[0] * c[2 * j] + q.weight[1] * c[2 * j + 1];
            if (METRIC == ADM_METRIC_ASYM4) value[i][j] += q.weight[2] * e[2 * j] + q.weight[3] * e[2 * j + 1];
        }
    }
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const int32_t other = __shfl_xor_sync(ADM_FULL_WARP, w < 2 ? value[1][j] : value[0][j], 2);
        mine[j] = (w < 2 ? value[0][j] : value[1][j]) + other;
    }
    const int32_t other = __shfl_xor_sync(ADM_FULL_WARP, w % 2 == 0 ? mine[1] : mine[0], 1);
    return (w % 2 == 0 ? mine[0] : mine[1]) + other;
}

/* The lane's two values of a pair of tiles. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_pair_values(const adm_bit_codes<D> &one, const adm_bit_codes<D> &other,
                                                           const grouped_query<D, N, METRIC> &q, int32_t (&value)[2]) {
    if (N == -2) { /* weights of -1 and 2 */
        int32_t c[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = 0; i < 4; i++) grouped_count_bits<D, METRIC>(i < 2 ? one : other, i % 2, q.b[i % q.sums], c, c);
        value[0] = 2 * c[1] - c[0];
        value[1] = 2 * c[3] - c[2];
    } else {
        value[0] = grouped_sum_value<D, N, METRIC>(one, q);
        value[1] = grouped_sum_value<D, N, METRIC>(other, q);
    }
}

/* ---- any number of rows ---- */

template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_columns(const grouped_block &me, const grouped_small *small,
                                                       grouped_query<D, N, METRIC> *q) {
    if constexpr (N <= 0) {
        grouped_sum_columns<D, N, METRIC>(me, small->planes[0][0], q);
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
    if constexpr (N <= 0) {
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

/* What is to be added to a value for its token's bin less where the window begins. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ int32_t grouped_start(const grouped_query<D, N, METRIC> &q, uint32_t set, uint32_t value) {
    if constexpr (N <= 0) return q.start;
    else return q.start[set][D == 64 ? value / 2 : 0];
}

/* A tile's values, as if all of it competed: value[set][byte of a word]; of one row the lane's two of the tile and `other`,
 * the next. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_values(const adm_bit_codes<D> &codes, const adm_bit_codes<D> &other,
                                                      const grouped_query<D, N, METRIC> &q,
                                                      int32_t (&value)[grouped_kind<N>::sets][grouped_kind<N>::values]) {
    if constexpr (N <= 0) {
        grouped_pair_values<D, N, METRIC>(codes, other, q, value[0]);
    } else {
#pragma unroll
        for (int s = 0; s < N; s++) {
            int32_t first[ADM_BIT_PAIRS], second[ADM_BIT_PAIRS];
            adm_multiply_codes<D, METRIC>(codes, q.columns[s], first, second);
#pragma unroll
            for (int i = 0; i < ADM_BIT_PAIRS; i++) value[s][2 * i] = first[i], value[s][2 * i + 1] = second[i];
        }
    }
}

/* What becomes of values where not all of the block's tile i, or of its pair, is eligible. */
template <int D, int N>
static __device__ __forceinline__ void grouped_correct(const grouped_block &me, uint32_t i,
                                                       int32_t (&value)[grouped_kind<N>::sets][grouped_kind<N>::values]) {
    const uint32_t token = (me.first_tile + i) * 32;
#pragma unroll
    for (int s = 0; s < grouped_kind<N>::sets; s++)
#pragma unroll
        for (int j = 0; j < grouped_kind<N>::values; j++) {
            const uint32_t mine = token + grouped_token<D, N>(j);
            if (mine >= me.length) value[s][j] = 1 << 24;
            else if (!adm_is_eligible(me.eligible, mine)) value[s][j] = -(1 << 24);
        }
}

/* The place of a value, with what is added to it; beyond the window one that depends on the lane, so that lanes do not count
 * into one bin. */
template <int N> static __device__ __forceinline__ uint32_t grouped_place(int32_t value, int32_t start) {
    return (uint32_t)max(min(value + start, (int32_t)(grouped_kind<N>::window + threadIdx.x % 32 / 4)), 0);
}

#endif /* sm_90 */

#endif
