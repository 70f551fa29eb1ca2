/* quality_simd.h: the loops of core/quality.h with vectors of doubles; the body that attention_simd.c includes behind
 * attention_simd.h, whose macros and functions it uses, and which it undefines.
 *
 * Scores go by tiles of QUERIES queries and TOKENS keys: a key is widened once for all queries of the tile, a query loaded
 * once for all keys. Values likewise: a strip of a row is widened once for all queries. Sums have the orders that
 * attention_simd.h fixes, so all sets give the same bits, and the same as the attention rows. */

enum {
    NAME(PARTS) = 4,                     /* vectors of a strip of values that serves several queries */
    NAME(SHARED_STRIP) = NAME(PARTS) * LANES,
    NAME(BLOCK) = 32                     /* rows of values between two strips: they stay in the first cache */
};

/* One tile; n_q, n_t and d are constants. */
static inline __attribute__((always_inline)) SIMD void NAME(score_tile)(adm_dtype dtype, const double *q, uint32_t n_q,
                                                                        const unsigned char *k, uint32_t n_t, uint32_t d,
                                                                        double scale, double *score, size_t stride) {
    const size_t element = dtype == ADM_F32 ? 4 : 2;
    V sum[QUERIES * TOKENS][NAME(DOT_VECTORS)];
#pragma GCC unroll 8
    for (uint32_t pair = 0; pair < n_q * n_t; pair++)
#pragma GCC unroll 4
        for (int s = 0; s < NAME(DOT_VECTORS); s++) sum[pair][s] = ZERO();
    for (uint32_t i = 0; i < d; i += 16)
#pragma GCC unroll 4
        for (uint32_t s = 0; s < NAME(DOT_VECTORS); s++) {
            const uint32_t at = i + s * LANES;
            V key[TOKENS * QUERIES];
#pragma GCC unroll 8
            for (uint32_t t = 0; t < n_t; t++) key[t] = WIDEN(dtype, k + (size_t)(t * d + at) * element);
#pragma GCC unroll 8
            for (uint32_t g = 0; g < n_q; g++) {
                const V query = LOAD(q + g * d + at);
#pragma GCC unroll 8
                for (uint32_t t = 0; t < n_t; t++) sum[g * n_t + t][s] = FMA(query, key[t], sum[g * n_t + t][s]);
            }
        }
#pragma GCC unroll 8
    for (uint32_t pair = 0; pair < n_q * n_t; pair++) {
        V eight[NAME(EIGHT)];
#pragma GCC unroll 4
        for (int s = 0; s < NAME(EIGHT); s++) eight[s] = ADD(sum[pair][s], sum[pair][s + NAME(EIGHT)]);
        score[pair / n_t * stride + pair % n_t] = scale * SUM8(eight);
    }
}

/* All keys for n_q queries, a constant: TOKENS * QUERIES / n_q keys a tile. */
static inline __attribute__((always_inline)) SIMD void NAME(score_queries)(adm_dtype dtype, const double *q, uint32_t n_q,
                                                                           const unsigned char *k, size_t n, uint32_t d,
                                                                           double scale, double *score, size_t stride) {
    const uint32_t n_t = QUERIES * TOKENS / n_q;
    const size_t row_bytes = d * (dtype == ADM_F32 ? 4 : 2);
    size_t t = 0;
    for (; t + n_t <= n; t += n_t)
        NAME(score_tile)(dtype, q, n_q, k + t * row_bytes, n_t, d, scale, score + t, stride);
    for (; t < n; t++) NAME(score_tile)(dtype, q, n_q, k + t * row_bytes, 1, d, scale, score + t, stride);
}

/* Queries in groups of 4, 2 and 1, as many as a tile takes. */
static inline __attribute__((always_inline)) SIMD void NAME(score_all)(adm_dtype dtype, const double *q, uint32_t n_q,
                                                                       const unsigned char *k, size_t n, uint32_t d,
                                                                       double scale, double *score, size_t stride) {
    enum { KEYS = 512 }; /* of 256 bytes and more: they stay in the second cache for the next group of queries */
    const size_t row_bytes = d * (dtype == ADM_F32 ? 4 : 2);
    for (size_t t = 0; t < n; t += KEYS) {
        const size_t n_now = n - t < KEYS ? n - t : KEYS;
        uint32_t g = 0;
        for (; QUERIES >= 4 && g + 4 <= n_q; g += 4)
            NAME(score_queries)(dtype, q + g * d, QUERIES >= 4 ? 4 : 1, k + t * row_bytes, n_now, d, scale,
                                score + g * stride + t, stride);
        for (; g + 2 <= n_q; g += 2)
            NAME(score_queries)(dtype, q + g * d, 2, k + t * row_bytes, n_now, d, scale, score + g * stride + t, stride);
        for (; g < n_q; g++)
            NAME(score_queries)(dtype, q + g * d, 1, k + t * row_bytes, n_now, d, scale, score + g * stride + t, stride);
    }
}

/* out[g] += sum_r weight[g][r] row[r] for n_q queries, a constant of 2 to QUERIES. */
static inline __attribute__((always_inline)) SIMD void NAME(combine_rows)(adm_dtype dtype,
                                                                          const unsigned char *const *row,
                                                                          const double *weight, size_t stride,
                                                                          size_t n_rows, uint32_t n_q, uint32_t d,
                                                                          double *out) {
    const size_t element = dtype == ADM_F32 ? 4 : 2;
    for (uint32_t strip = 0; strip < d; strip += NAME(SHARED_STRIP)) {
        V part[QUERIES][NAME(PARTS)];
#pragma GCC unroll 4
        for (uint32_t g = 0; g < n_q; g++)
#pragma GCC unroll 4
            for (int s = 0; s < NAME(PARTS); s++) part[g][s] = LOAD(out + g * d + strip + s * LANES);
        for (size_t r = 0; r < n_rows; r++) {
            V value[NAME(PARTS)];
#pragma GCC unroll 4
            for (int s = 0; s < NAME(PARTS); s++)
                value[s] = WIDEN(dtype, row[r] + (strip + (size_t)s * LANES) * element);
#pragma GCC unroll 4
            for (uint32_t g = 0; g < n_q; g++) {
                const V w = SET(weight[g * stride + r]);
#pragma GCC unroll 4
                for (int s = 0; s < NAME(PARTS); s++) part[g][s] = FMA(w, value[s], part[g][s]);
            }
        }
#pragma GCC unroll 4
        for (uint32_t g = 0; g < n_q; g++)
#pragma GCC unroll 4
            for (int s = 0; s < NAME(PARTS); s++) STORE(out + g * d + strip + s * LANES, part[g][s]);
    }
}

static inline __attribute__((always_inline)) SIMD void NAME(combine_all)(adm_dtype dtype, const problem *p,
                                                                         const double *weight, size_t stride,
                                                                         uint32_t n_q, uint32_t d, double *out) {
    const unsigned char *row[NAME(BLOCK)];
    memset(out, 0, n_q * d * sizeof *out);
    for (size_t j = 0; j < p->n; j += NAME(BLOCK)) {
        const size_t n_rows = p->n - j < NAME(BLOCK) ? p->n - j : NAME(BLOCK);
        for (size_t r = 0; r < n_rows; r++) {
            prefetch_far_row(p, p->v, j + r, NAME(BLOCK));
            row[r] = row_of(p, p->v, j + r);
        }
        uint32_t g = 0;
        for (; QUERIES >= 4 && g + 4 <= n_q; g += 4)
            NAME(combine_rows)(dtype, row, weight + g * stride + j, stride, n_rows, QUERIES >= 4 ? 4 : 1, d, out + g * d);
        for (; g + 2 <= n_q; g += 2)
            NAME(combine_rows)(dtype, row, weight + g * stride + j, stride, n_rows, 2, d, out + g * d);
        for (; g < n_q; g++) NAME(add_rows)(dtype, row, weight + g * stride + j, (int)n_rows, d, out + g * d);
    }
}

static inline __attribute__((always_inline)) SIMD size_t NAME(within_all)(adm_dtype dtype, const problem *p, uint32_t d,
                                                                          const double *weight, const double *o,
                                                                          double limit) {
    const size_t element = dtype == ADM_F32 ? 4 : 2;
    double rest[ADM_MAX_HEAD_DIM] = {0}, total = 0;
    for (size_t j = 0; j < p->n; j++) {
        prefetch_row(p, p->v, j);
        const unsigned char *from = row_of(p, p->v, j);
        const V w = SET(weight[p->index[j]]);
        V squares[NAME(DOT_VECTORS)], eight[NAME(EIGHT)];
#pragma GCC unroll 4
        for (int s = 0; s < NAME(DOT_VECTORS); s++) squares[s] = ZERO();
        for (uint32_t i = 0; i < d; i += 16)
#pragma GCC unroll 4
            for (uint32_t s = 0; s < NAME(DOT_VECTORS); s++) {
                const uint32_t at = i + s * LANES;
                V x = FMA(w, SUB(WIDEN(dtype, from + at * element), LOAD(o + at)), LOAD(rest + at));
                STORE(rest + at, x);
                squares[s] = FMA(x, x, squares[s]);
            }
#pragma GCC unroll 4
        for (int s = 0; s < NAME(EIGHT); s++) eight[s] = ADD(squares[s], squares[s + NAME(EIGHT)]);
        total += weight[p->index[j]];
        if (total > 0 && sqrt(SUM8(eight)) <= limit * total) return j + 1;
    }
    return p->n;
}

/* `call` with constants for `type` and `d`. */
#define EACH_DIM(call)                                         \
    switch (head_dim) {                                        \
    case 64: { const uint32_t d = 64; call; } break;           \
    case 128: { const uint32_t d = 128; call; } break;         \
    case 256: { const uint32_t d = 256; call; } break;         \
    }                                                          \
    break;
#define EACH_TYPE(call)                                              \
    switch (dtype) {                                                 \
    case ADM_F32: { const adm_dtype type = ADM_F32; EACH_DIM(call) } \
    case ADM_F16: { const adm_dtype type = ADM_F16; EACH_DIM(call) } \
    case ADM_BF16: { const adm_dtype type = ADM_BF16; EACH_DIM(call) } \
    }

static SIMD void NAME(quality_scores)(adm_dtype dtype, const double *q, uint32_t n_q, const void *k, size_t n,
                                      uint32_t head_dim, double scale, double *score, size_t stride) {
    EACH_TYPE(NAME(score_all)(type, q, n_q, k, n, d, scale, score, stride))
}

static SIMD void NAME(quality_combine)(adm_dtype dtype, const void *v, const uint32_t *index, size_t n, uint32_t head_dim,
                                       const double *weight, size_t stride, uint32_t n_q, double *out) {
    const problem p = {NULL, v, index, n, head_dim * adm_dtype_bytes(dtype), 1};
    EACH_TYPE(NAME(combine_all)(type, &p, weight, stride, n_q, d, out))
}

static SIMD size_t NAME(quality_within)(adm_dtype dtype, const void *v, const uint32_t *order, size_t n, uint32_t head_dim,
                                        const double *weight, const double *o, double limit) {
    const problem p = {NULL, v, order, n, head_dim * adm_dtype_bytes(dtype), 1};
    EACH_TYPE(return NAME(within_all)(type, &p, d, weight, o, limit))
    return n;
}

const adm_quality_impl NAME(adm_quality) = {.name = SET_NAME, .is_available = SET_AVAILABLE,
                                            .scores = NAME(quality_scores), .weights = NAME(weights),
                                            .combine = NAME(quality_combine), .within = NAME(quality_within)};

#undef EACH_TYPE
#undef EACH_DIM
#undef QUERIES
#undef TOKENS
#undef SET_NAME
#undef SET_AVAILABLE
#undef SIMD
#undef NAME
#undef V
#undef LANES
#undef ZERO
#undef SET
#undef LOAD
#undef STORE
#undef WIDEN
#undef ADD
#undef SUB
#undef MUL
#undef FMA
#undef MAX
#undef ROUND
#undef SCALE
#undef ZERO_BELOW
#undef SUM8
