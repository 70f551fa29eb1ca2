/* attention_one.cuh: attention of one query, 16 tokens at a time, by one warp on the tensor cores, without shared memory for K,
 * V and the query. Which tokens, and what becomes of the result, is the caller's business. Built on attention_dev.cuh, which
 * serves up to 8 queries; of its layout V, the weights and O stay.
 *
 * Rows come by whole lines of 128 bytes, since an SM can wait for so many lines at a time, full or half. A product of K has
 * eight columns, and a load brings four tokens to it, one half of a line to columns 0 to 3 and the other to columns 4 to 7. So
 * the query's chunks are two rows of the other factor: row 0 those that belong to the first half, row 1 to the second. Of the
 * products two quarters count:
 *
 *     quads u = 0, 1:  row 0 x columns 0 to 3  +  row 1 x columns 4 to 7
 *     quads u = 2, 3:  row 0 x columns 4 to 7  +  row 1 x columns 0 to 3       the halves are exchanged
 *
 *     lane 4g + t      K: of each quad u token 4 (g % 4) + u, of its line l the 16-byte chunk 8 l + 4 h + t, where h, the half,
 *                         is g / 4 for u = 0, 1, and 1 - g / 4 for u = 2, 3
 *                      q: row g = 0, 1: the chunks 8 l + 4 g + t; nothing for the other rows
 *                      V, S: tokens adm_one_token(t, i) for i = 0 .. 3; of V the chunks g, g + 8, ...; S on lanes 0 to 3
 *                      O: as in attention_dev.cuh, of query 0
 *
 * What the other lanes have for S, and the other queries for O, means nothing. */
#ifndef ADM_KERNELS_ATTENTION_ATTENTION_ONE_CUH
#define ADM_KERNELS_ATTENTION_ATTENTION_ONE_CUH

#include "kernels/attention/attention_dev.cuh"

/* A read that stays where it is written, of what other kernels of the stream wrote: the compiler would move a plain one into
 * the branch that needs it, behind another read. */
static __device__ __forceinline__ uint32_t adm_load_word(const uint32_t *p) {
    uint32_t x;
    asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(x) : "l"(p) : "memory");
    return x;
}

/* Of a tile, the tokens whose K and V this lane loads. */
typedef struct adm_one_tokens {
    uint32_t k[4], v[4];
} adm_one_tokens;

/* K and V of a tile, as one lane holds them. K's registers take the next tile's loads as soon as S is made, V's once O is. */
template <int D> struct adm_one_kv {
    uint4 k[4][D / 64]; /* quad, line */
    uint4 v[D / 64][4]; /* line, token */
};

/* Where K and V of a head lie, for one lane: row t is at + t * 2 D bytes, t being the token, or its row by the page table. */
typedef struct adm_one_rows {
    const char *k[2]; /* of quads 0 and 1, and of 2 and 3 */
    const char *v;
} adm_one_rows;

/* The place in the tile of the token of S, and of V, that a lane of the four has at i. */
static __device__ __forceinline__ unsigned adm_one_token(unsigned t, unsigned i) {
    return 4 * (2 * (t % 2) + i % 2) + 2 * (t / 2) + i / 2;
}

/* Of a tile all of whose positions may be read. k, v: this lane's first, of K and of V. */
static __device__ __forceinline__ adm_one_tokens adm_one_read(const uint32_t *k, const uint32_t *v) {
    adm_one_tokens tokens;
#pragma unroll
    for (int i = 0; i < 4; i++) tokens.k[i] = adm_load_word(k + i);
#pragma unroll
    for (int i = 0; i < 4; i++) tokens.v[i] = adm_load_word(v + adm_one_token(0, i));
    return tokens;
}

/* Of any tile. Position `last` of the index stands for those behind it. */
static __device__ __forceinline__ adm_one_tokens adm_one_read_to(const uint32_t *index, unsigned tile, unsigned last,
                                                                 unsigned lane) {
    const unsigned k = tile * ADM_TILE + lane / 4 % 4 * 4, v = tile * ADM_TILE + adm_one_token(lane % 4, 0);
    adm_one_tokens tokens;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        tokens.k[i] = adm_load_word(index + min(k + i, last));
        tokens.v[i] = adm_load_word(index + min(v + adm_one_token(0, i), last));
    }
    return tokens;
}

template <int D>
static __device__ __forceinline__ adm_one_rows adm_one_rows_of(const adm_gpu_shape &s, const adm_gpu_buffers &buffers,
                                                               uint32_t b, uint32_t kv_head, unsigned lane) {
    const size_t start = s.page_size == 0 ? (size_t)(b * s.heads.n_kv_heads + kv_head) * s.capacity * (2 * D) : 0;
    const char *k = (const char *)buffers.k + start + lane % 4 * 16;
    adm_one_rows rows;
    rows.k[0] = k + lane / 16 * 64;
    rows.k[1] = k + (1 - lane / 16) * 64;
    rows.v = (const char *)buffers.v + start + lane / 4 * 16;
    return rows;
}

/* Tokens into rows, where there is a page table. */
static __device__ __forceinline__ void adm_one_pages(const adm_gpu_shape &s, const int32_t *page_table, uint32_t b,
                                                     uint32_t kv_head, adm_one_tokens *tokens) {
    if (s.page_size == 0) return;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        tokens->k[i] = adm_tile_row(s, page_table, b, kv_head, tokens->k[i]);
        tokens->v[i] = adm_tile_row(s, page_table, b, kv_head, tokens->v[i]);
    }
}

template <int D>
static __device__ __forceinline__ void adm_one_load_k(adm_one_kv<D> *kv, const adm_one_rows &rows,
                                                      const adm_one_tokens &tokens) {
#pragma unroll
    for (int u = 0; u < 4; u++) {
        const char *p = rows.k[u / 2] + (size_t)tokens.k[u] * (2 * D);
#pragma unroll
        for (int l = 0; l < D / 64; l++) kv->k[u][l] = adm_load_stream(p + 128 * l);
    }
}

template <int D>
static __device__ __forceinline__ void adm_one_load_v(adm_one_kv<D> *kv, const adm_one_rows &rows,
                                                      const adm_one_tokens &tokens) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const char *p = rows.v + (size_t)tokens.v[i] * (2 * D);
#pragma unroll
        for (int l = 0; l < D / 64; l++) kv->v[l][i] = adm_load_stream(p + 128 * l);
    }
}

/* query: the first chunk that this lane holds, of lanes 0 to 7. */
template <int D>
static __device__ __forceinline__ void adm_one_load_query(const uint4 *query, unsigned lane, uint4 (&q)[D / 64]) {
#pragma unroll
    for (int l = 0; l < D / 64; l++) q[l] = lane < 8 ? query[8 * l] : make_uint4(0, 0, 0, 0);
}

/* S, unscaled. */
template <typename T, int D>
static __device__ __forceinline__ void adm_one_scores(const adm_one_kv<D> &kv, const uint4 (&q)[D / 64], unsigned lane,
                                                      float (&s)[4]) {
    float product[4][4] = {};
#pragma unroll
    for (int l = 0; l < D / 64; l++)
#pragma unroll
        for (int u = 0; u < 4; u++) {
            const uint4 &k = kv.k[u][l];
            adm_mma<T>(product[u], q[l].x, 0, q[l].y, 0, k.x, k.y);
            adm_mma<T>(product[u], q[l].z, 0, q[l].w, 0, k.z, k.w);
        }
    const bool first = lane / 2 % 2 == lane / 4 % 2; /* lanes 0, 1 and 6, 7 have what counts of quads 0 and 1 */
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float one = first ? product[i / 2][i % 2] : product[2 + i / 2][i % 2];
        s[i] = one + __shfl_xor_sync(ADM_FULL_WARP, one, 6);
    }
}

/* Scores into weights relative to the largest score so far, in p as the second product's operand; what was summed before is
 * rescaled, unless this is the FIRST tile. The first n_valid tokens count. Rounding is as in adm_tile_softmax(). */
template <typename T, int D, bool FIRST>
static __device__ __forceinline__ void adm_one_softmax(adm_tile_sum<D> *sum, float (&s)[4], float scale_log2, unsigned n_valid,
                                                       unsigned lane, uint32_t (&p)[2]) {
#pragma unroll
    for (int i = 0; i < 4; i++) s[i] = adm_one_token(lane % 4, i) < n_valid ? s[i] * scale_log2 : -INFINITY;
    float m = fmaxf(fmaxf(s[0], s[1]), fmaxf(s[2], s[3]));
    m = fmaxf(m, __shfl_xor_sync(ADM_FULL_WARP, m, 1));
    m = fmaxf(m, __shfl_xor_sync(ADM_FULL_WARP, m, 2));
    if (!FIRST) m = fmaxf(m, sum->m);
#pragma unroll
    for (int i = 0; i < 4; i++) s[i] = adm_exp2(s[i] - m + adm_weight_shift<T>());
#pragma unroll
    for (int i = 0; i < 2; i++) p[i] = adm_narrow2<T>(s[2 * i], s[2 * i + 1]);
    const float2 one = adm_widen2<T>(p[0]), other = adm_widen2<T>(p[1]);
    const float l = (one.x + one.y) + (other.x + other.y);
    const float factor = FIRST ? 0.0f : __shfl_sync(ADM_FULL_WARP, adm_exp2(sum->m - m), 0);
    sum->l = FIRST ? l : sum->l * factor + l;
    sum->m = m;
    if (!FIRST && factor != 1.0f)
#pragma unroll
        for (int i = 0; i < D / 16; i++) sum->o[i][0] *= factor, sum->o[i][2] *= factor;
}

#endif
