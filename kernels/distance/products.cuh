/* products.cuh: distances of codes by products of bits on tensor cores, 32 tokens against four query heads that share a KV
 * head. For distance.cu and the grouped step.
 *
 * L1. A key's code is a = 2h + l; against a query's code b its distance is
 *
 *   b = 0:  2h + l              b = 1:  1 - l + 2hl              b = 2:  2 - 2h - l + 2hl              b = 3:  3 - 2h - l
 *
 * so over all elements L1 = sum of b + 2 X - Y, where X counts h and l where b = 0, and hl where b is 1 or 2, and Y counts l
 * everywhere and h, twice, where b is 2 or 3. Each query head takes two columns, for X and for Y, of the products with the rows
 * [l h] and [hl h] of 256 bits, and a thread gets both sums of a head: no shuffles. [l h] is what ldmatrix brings from the
 * planes as they lie in memory: a row is a token (two tokens where d = 64).
 *
 * Weights. A query of integers w in -8..7 with the bits p0..p3 scores a key by sum of w a: six columns a head,
 *
 *   [p0 0]  [p1 p0]  [p2 p1]  [0 p2]  [p3 0]  [0 p3]      of [l h], that count      1  2  4  8  -8  -16
 *
 * and its distance is what the caller calls the base, less the score. Dot is this with w = 2b - 3: of codes as -3, -1, 1, 3 it
 * is (9 d - sum of A B) / 2, A = 2a - 3, B = 2b - 3, and so the base is three times the sum of b. With asym4 w is the quantised
 * query, and the base the largest score that it could have.
 *
 *   lane 4g + w    rows g and g + 8 of a tile's tokens, columns 2w and 2w + 1: one head, two tokens
 *
 * m16n8k256 .and.popc is one instruction on sm_80 to sm_90; from sm_100 on it is a call to products of 8-bit numbers, so there
 * the counts of distance.cuh stay. */
#ifndef ADM_KERNELS_DISTANCE_PRODUCTS_CUH
#define ADM_KERNELS_DISTANCE_PRODUCTS_CUH

#include "kernels/gpu/common.cuh"

enum {
    ADM_BIT_HEADS = 4,
    ADM_BIT_PAIRS = 2 /* of values that a lane gets of a tile */,
    ADM_BIT_PLANES = 4 /* of a query, at most */
};

/* The planes of a query of codes, word by word, and its base, from its planes of bits. */
template <int METRIC>
static __device__ __forceinline__ int32_t adm_bit_planes(uint32_t high, uint32_t low, uint32_t (&plane)[ADM_BIT_PLANES]) {
    if (METRIC == ADM_METRIC_L1) {
        plane[0] = ~(high | low), plane[1] = high ^ low, plane[2] = high, plane[3] = 0;
        return 2 * __popc(high) + __popc(low);
    }
    plane[0] = ~0u; /* 2b - 3 is odd: in two's complement 1101, 1111, 0001, 0011 */
    plane[1] = low;
    plane[2] = plane[3] = ~high;
    return 3 * (2 * __popc(high) + __popc(low));
}

/* What a word's elements add to the largest score that a key can have: three times each positive weight. */
static __device__ __forceinline__ uint32_t adm_largest_of(uint32_t p0, uint32_t p1, uint32_t p2, uint32_t p3) {
    return 3 * (__popc(p0 & ~p3) + 2 * __popc(p1 & ~p3) + 4 * __popc(p2 & ~p3));
}

#if __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ < 1000

template <int D> struct adm_bits {
    static const int words = D / 32;
    static const int tile_words = 64 * words;
    static const int units = D == 64 ? 1 : 2; /* of 16 rows, in a tile */
    static const int step = D == 64 ? 16 : 8; /* tokens between a lane's two rows */
    static const int columns = D == 64 ? 2 : 1; /* sets of eight: four heads, two where d = 64 */
};

/* ---- machine instructions ---- */

/* Four 8 x 8 matrices of 16-bit elements; lane i brings the address of row i % 8 of matrix i / 8. */
static __device__ __forceinline__ void adm_load_rows(uint32_t a[4], const uint32_t *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(a[0]), "=r"(a[1]), "=r"(a[2]), "=r"(a[3])
                 : "r"(adm_shared_address(row))
                 : "memory");
}

/* c += popc(row & column), 16 rows of 256 bits by 8 columns. */
static __device__ __forceinline__ void adm_bit_product(int32_t c[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                                       uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* An 8 x 8 matrix of 16-bit elements, of which lane 4g + w holds columns 2w and 2w + 1 of row g, with rows and columns
 * exchanged. */
static __device__ __forceinline__ uint32_t adm_transposed(uint32_t pair) {
    uint32_t other;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(other) : "r"(pair));
    return other;
}

/* ---- which value is whose ---- */

/* The head of a lane's pair i of values. */
template <int D> static __device__ __forceinline__ uint32_t adm_bit_head(int i) {
    const uint32_t w = threadIdx.x % 4;
    return D == 64 ? 2 * i + w / 2 : w;
}
/* The first of its two tokens, within the tile; the other is adm_bits<D>::step further. */
template <int D> static __device__ __forceinline__ uint32_t adm_bit_token(int i) {
    const uint32_t lane = threadIdx.x % 32;
    return D == 64 ? lane / 4 * 2 + lane % 2 : (uint32_t)i * 16 + lane / 4;
}

/* ---- the query ---- */

/* The query's columns, as this lane holds them. */
template <int D, int METRIC> struct adm_bit_query {
    static const int products = METRIC == ADM_METRIC_L1 ? (D == 256 ? 4 : 2) : (D == 256 ? 4 : 3);
    uint32_t b[adm_bits<D>::columns][products][2];
    int32_t base[adm_bits<D>::columns]; /* of distances */
};

/* planes [n_heads][ADM_BIT_PLANES][d/32 words, `stride` apart]: where codes are 0, are 1 or 2, are 2 or 3; or the bits of
 * weights. base [ADM_BIT_HEADS]. Heads from n_heads on have values of 0. */
template <int D, int METRIC>
static __device__ __forceinline__ void adm_bit_columns(const uint32_t *planes, uint32_t stride, const int32_t *base,
                                                       uint32_t n_heads, adm_bit_query<D, METRIC> *q) {
    const uint32_t lane = threadIdx.x % 32, column = lane / 4, w = lane % 4;
    const bool even = column % 2 == 0;
#pragma unroll
    for (int t = 0; t < adm_bits<D>::columns; t++) {
        const uint32_t head = D == 64 ? 2 * t + column / 4 : column / 2, mine = D == 64 ? 2 * t + w / 2 : w;
        const bool used = head < n_heads && (D != 64 || w / 2 == column / 2 % 2); /* or of the other of the row's two tokens */
        q->base[t] = mine < n_heads ? base[mine] : 0;
#pragma unroll
        for (int half = 0; half < (D == 256 ? 2 : 1); half++) {
            const uint32_t *at = planes + head * ADM_BIT_PLANES * stride + (D == 64 ? w % 2 : 4 * half + w);
            uint32_t p[4];
#pragma unroll
            for (int i = 0; i < (METRIC == ADM_METRIC_L1 ? 3 : 4); i++) p[i] = used ? at[i * stride] : 0;
            if (METRIC == ADM_METRIC_L1) {
                const uint32_t l = even ? p[0] : used ? ~0u : 0, h = even ? p[0] : p[2];
                const uint32_t hl = even ? p[1] : 0, again = even ? 0 : p[2];
                if (D == 256) q->b[t][0][half] = l, q->b[t][1][half] = h, q->b[t][2][half] = hl, q->b[t][3][half] = again;
                else q->b[t][0][0] = l, q->b[t][0][1] = h, q->b[t][1][0] = hl, q->b[t][1][1] = again;
            } else if (D == 256) { /* two products with l, and the same two with h */
                q->b[t][0][half] = q->b[t][2][half] = even ? p[0] : p[1];
                q->b[t][1][half] = q->b[t][3][half] = even ? p[2] : p[3];
            } else {
                q->b[t][0][0] = even ? p[0] : p[1], q->b[t][0][1] = even ? 0 : p[0];
                q->b[t][1][0] = even ? p[2] : 0, q->b[t][1][1] = even ? p[1] : p[2];
                q->b[t][2 % adm_bit_query<D, METRIC>::products][0] = even ? p[3] : 0;
                q->b[t][2 % adm_bit_query<D, METRIC>::products][1] = even ? 0 : p[3];
            }
        }
    }
}

/* The base of a lane's pair i of values. */
template <int D, int METRIC> static __device__ __forceinline__ int32_t adm_bit_base(const adm_bit_query<D, METRIC> &q, int i) {
    return q.base[D == 64 ? i : 0];
}

/* ---- the codes ---- */

/* A tile's codes as operands: of the bits rows g and g + 8; d = 256: and then the other halves of those. */
template <int D> struct adm_bit_codes {
    static const int n = D == 256 ? 4 : 2;
    uint32_t high[adm_bits<D>::units][n], low[adm_bits<D>::units][n];
};

/* Where in a tile the lane's row begins, in words. */
template <int D> static __device__ __forceinline__ uint32_t adm_row_at(void) {
    const uint32_t lane = threadIdx.x % 32;
    return D == 256 ? lane % 16 * adm_bits<D>::words + lane / 16 * 4
                    : (lane < 16 ? 32 * adm_bits<D>::words : 0) + lane % 16 * 4; /* the low ones first */
}

/* Of a tile in shared memory, by the whole warp; `row`: where the lane's begins. */
template <int D> static __device__ __forceinline__ void adm_read_codes_at(const uint32_t *row, adm_bit_codes<D> *to) {
    const int W = adm_bits<D>::words;
#pragma unroll
    for (int u = 0; u < adm_bits<D>::units; u++) {
        uint32_t a[4];
        adm_load_rows(a, row + u * (16 * W));
        if (D == 256) {
#pragma unroll
            for (int i = 0; i < adm_bit_codes<D>::n; i++) to->high[u][i] = a[i];
            adm_load_rows(a, row + u * (16 * W) + 32 * W);
#pragma unroll
            for (int i = 0; i < adm_bit_codes<D>::n; i++) to->low[u][i] = a[i];
        } else {
            to->low[u][0] = a[0], to->low[u][1] = a[1], to->high[u][0] = a[2], to->high[u][1] = a[3];
        }
    }
}
template <int D> static __device__ __forceinline__ void adm_read_codes(const uint32_t *tile, adm_bit_codes<D> *to) {
    adm_read_codes_at<D>(tile + adm_row_at<D>(), to);
}

/* The same of a tile in global memory, without shared memory: lanes' words are neighbours. */
template <int D> static __device__ __forceinline__ void adm_fetch_codes(const uint32_t *tile, adm_bit_codes<D> *to) {
    const int W = adm_bits<D>::words;
    const uint32_t row = threadIdx.x % 32 / 4, word = threadIdx.x % 4;
#pragma unroll
    for (int u = 0; u < adm_bits<D>::units; u++)
#pragma unroll
        for (int i = 0; i < adm_bit_codes<D>::n; i++) {
            const uint32_t at = (D == 64 ? (row + 8 * i) * 4 : (u * 16 + row + i % 2 * 8) * W + i / 2 * 4) + word;
            to->high[u][i] = tile[at];
            to->low[u][i] = tile[32 * W + at];
        }
}

/* What the products say of a tile: distances less their base. */
template <int D, int METRIC>
static __device__ __forceinline__ void adm_multiply_codes(const adm_bit_codes<D> &codes, const adm_bit_query<D, METRIC> &q,
                                                          int32_t (&first)[ADM_BIT_PAIRS], int32_t (&second)[ADM_BIT_PAIRS]) {
    const int n = adm_bit_codes<D>::n;
#pragma unroll
    for (int u = 0; u < adm_bits<D>::units; u++) {
        const uint32_t *h = codes.high[u], *l = codes.low[u];
        uint32_t both[n];
#pragma unroll
        for (int i = 0; i < n; i++) both[i] = h[i] & l[i];
#pragma unroll
        for (int t = 0; t < adm_bits<D>::columns; t++) {
            const uint32_t(*b)[2] = q.b[t];
            const int i = D == 64 ? t : u, last = adm_bit_query<D, METRIC>::products - 1;
            int32_t c[4] = {0, 0, 0, 0}, e[4] = {0, 0, 0, 0}, f[4] = {0, 0, 0, 0};
            if (METRIC == ADM_METRIC_L1) {
                if (D == 256) {
                    adm_bit_product(c, l[0], l[1], l[2 % n], l[3 % n], b[0][0], b[0][1]);
                    adm_bit_product(c, h[0], h[1], h[2 % n], h[3 % n], b[1][0], b[1][1]);
                    adm_bit_product(c, both[0], both[1], both[2 % n], both[3 % n], b[2 % (last + 1)][0], b[2 % (last + 1)][1]);
                    adm_bit_product(c, h[0], h[1], h[2 % n], h[3 % n], b[last][0], b[last][1]);
                } else {
                    adm_bit_product(c, l[0], l[1], h[0], h[1], b[0][0], b[0][1]);
                    adm_bit_product(c, both[0], both[1], h[0], h[1], b[1][0], b[1][1]);
                }
                first[i] = c[0] + c[0] - c[1];
                second[i] = c[2] + c[2] - c[3];
            } else if (D == 256) {
                int32_t g[4] = {0, 0, 0, 0};
                adm_bit_product(c, l[0], l[1], l[2 % n], l[3 % n], b[0][0], b[0][1]);
                adm_bit_product(e, l[0], l[1], l[2 % n], l[3 % n], b[1][0], b[1][1]);
                adm_bit_product(f, h[0], h[1], h[2 % n], h[3 % n], b[2 % (last + 1)][0], b[2 % (last + 1)][1]);
                adm_bit_product(g, h[0], h[1], h[2 % n], h[3 % n], b[last][0], b[last][1]);
                first[i] = 8 * (e[1] + 2 * g[1]) - 4 * (e[0] + 2 * g[0]) - 2 * (c[1] + 2 * f[1]) - (c[0] + 2 * f[0]);
                second[i] = 8 * (e[3] + 2 * g[3]) - 4 * (e[2] + 2 * g[2]) - 2 * (c[3] + 2 * f[3]) - (c[2] + 2 * f[2]);
            } else {
                adm_bit_product(c, l[0], l[1], h[0], h[1], b[0][0], b[0][1]);
                adm_bit_product(e, l[0], l[1], h[0], h[1], b[1][0], b[1][1]);
                adm_bit_product(f, l[0], l[1], h[0], h[1], b[last][0], b[last][1]);
                first[i] = 8 * (f[0] - e[1]) + 16 * f[1] - 4 * e[0] - 2 * c[1] - c[0];
                second[i] = 8 * (f[2] - e[3]) + 16 * f[3] - 4 * e[2] - 2 * c[3] - c[2];
            }
        }
    }
}

#endif /* sm_80 to sm_90 */

#endif
