/* distance.cuh: the distance of codes held as bit planes, for distance.cu and fused.cu.
 *
 *   query   high[W], low[W], edge[W]     W = d/32 words; edge marks the elements where the query is 0 or 3
 *   key     high[W], low[W]
 *
 * Of one element's bits (h, l) against (qh, ql): unlike l means 1 apart, and 2 more where h is unlike and the query is
 * at an edge (0 against 3); like l means 0 apart, and 2 more where h is unlike. So, with b = l ^ ql and
 * edge = ~(qh ^ ql),
 *
 *   L1  = popc(b) + 2 popc((h ^ qh) & (~b | edge))
 *   xor = popc(b) + 2 popc(h ^ qh)
 *
 * POPC runs at a quarter of the rate of logic, so full adders first turn four words of weight 1 and four of weight 2 into
 * one of weight 1, two of 2 and two of 4: five POPC and eight logic operations where eight POPC were. */
#ifndef ADM_KERNELS_DISTANCE_DISTANCE_CUH
#define ADM_KERNELS_DISTANCE_DISTANCE_CUH

#include "kernels/gpu/common.cuh"

template <int W> struct __align__(W == 2 ? 8 : 16) adm_query_planes { uint32_t high[W], low[W], edge[W]; };

static __device__ __forceinline__ uint32_t adm_sum_bit(uint32_t a, uint32_t b, uint32_t c) { return a ^ b ^ c; }
static __device__ __forceinline__ uint32_t adm_carry_bit(uint32_t a, uint32_t b, uint32_t c) {
    return (a & b) | (a & c) | (b & c);
}

/* popc(b0)+..+popc(b3) + 2 (popc(a0)+..+popc(a3)). */
static __device__ __forceinline__ uint32_t adm_weigh4(const uint32_t *b, const uint32_t *a) {
    const uint32_t s = adm_sum_bit(b[0], b[1], b[2]), c0 = adm_carry_bit(b[0], b[1], b[2]);
    const uint32_t ones = s ^ b[3], c1 = s & b[3];
    const uint32_t twos0 = adm_sum_bit(a[0], a[1], a[2]), fours0 = adm_carry_bit(a[0], a[1], a[2]);
    const uint32_t twos1 = adm_sum_bit(a[3], c0, c1), fours1 = adm_carry_bit(a[3], c0, c1);
    return __popc(ones) + 2 * (__popc(twos0) + __popc(twos1)) + 4 * (__popc(fours0) + __popc(fours1));
}

/* popc of all of b + 2 popc of all of a. */
template <int W> static __device__ __forceinline__ uint32_t adm_weigh(const uint32_t *b, const uint32_t *a) {
    if (W == 2) {
        const uint32_t c = b[0] & b[1];
        return __popc(b[0] ^ b[1]) + 2 * __popc(adm_sum_bit(a[0], a[1], c)) + 4 * __popc(adm_carry_bit(a[0], a[1], c));
    }
    uint32_t sum = 0;
#pragma unroll
    for (int w = 0; w < W / 4 * 4; w += 4) sum += adm_weigh4(b + w, a + w);
    return sum;
}

template <int W, int METRIC>
__device__ __forceinline__ uint32_t adm_distance_of(const adm_query_planes<W> &q, const uint32_t *high, const uint32_t *low) {
    uint32_t a[W], b[W];
#pragma unroll
    for (int w = 0; w < W; w++) {
        b[w] = low[w] ^ q.low[w];
        a[w] = high[w] ^ q.high[w];
        if (METRIC == ADM_METRIC_L1) a[w] &= ~b[w] | q.edge[w];
    }
    return adm_weigh<W>(b, a);
}

/* A query of weights -8 .. 7 (products.cuh) by its bits, plane by plane; a key's distance is the base less its score. */
template <int W> struct adm_weights {
    uint32_t plane[4][W], base;
};

/* Of head g of those in memory: [group][4][W] planes, [group] bases. */
template <int W>
static __device__ __forceinline__ adm_weights<W> adm_weights_at(const uint32_t *planes, uint32_t g, uint32_t group) {
    adm_weights<W> weights;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int w = 0; w < W; w++) weights.plane[i][w] = planes[(g * 4 + i) * W + w];
    weights.base = planes[group * 4 * W + g];
    return weights;
}

template <int W>
static __device__ __forceinline__ uint32_t adm_weighted_distance(const adm_weights<W> &weights, const uint32_t *high,
                                                                 const uint32_t *low) {
    uint32_t sum[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t a[W], b[W];
#pragma unroll
        for (int w = 0; w < W; w++) a[w] = high[w] & weights.plane[i][w], b[w] = low[w] & weights.plane[i][w];
        sum[i] = adm_weigh<W>(b, a);
    }
    return weights.base + 8 * sum[3] - 4 * sum[2] - 2 * sum[1] - sum[0];
}

/* One lane's token of a tile: its words of both planes, 16 bytes at a time. */
template <int W>
static __device__ __forceinline__ void adm_read_tile(const uint32_t *tile, uint32_t (&high)[W], uint32_t (&low)[W]) {
    const uint32_t lane = threadIdx.x % 32;
    if (W == 2) {
        const uint2 h = ((const uint2 *)tile)[lane], l = ((const uint2 *)(tile + 32 * W))[lane];
        high[0] = h.x, high[1] = h.y, low[0] = l.x, low[1] = l.y;
    } else {
#pragma unroll
        for (int i = 0; i < W / 4; i++) {
            const uint4 h = ((const uint4 *)tile)[lane * (W / 4) + i], l = ((const uint4 *)(tile + 32 * W))[lane * (W / 4) + i];
            high[4 * i] = h.x, high[4 * i + 1] = h.y, high[4 * i + 2] = h.z, high[4 * i + 3] = h.w;
            low[4 * i] = l.x, low[4 * i + 1] = l.y, low[4 * i + 2] = l.z, low[4 * i + 3] = l.w;
        }
    }
}

/* Word w of the planes from a packed row, which is 8 bytes. */
template <int W>
__device__ __forceinline__ void adm_query_word(adm_query_planes<W> *q, uint32_t w, uint32_t high, uint32_t low) {
    q->high[w] = high;
    q->low[w] = low;
    q->edge[w] = ~(high ^ low);
}

#endif
