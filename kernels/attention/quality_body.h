/* quality_body.h: the loops of core/replay/session/quality.h with vectors of doubles; the body that attention_simd.c includes
 * behind attention_body.h, whose macros and functions it uses, and which it undefines.
 *
 * Many queries come at once, so that a key or a value is widened once for all of them.
 *
 *   scores   a lane is a query: a tile of up to two vectors of queries and TOKENS keys adds up q_g[i] k_t[i] for one i after
 *            the other, and no lanes are summed in the end
 *   outputs  a lane is an element of the row: QUERIES queries and a tile of elements stay in registers while ROWS rows are
 *            added, of which that tile alone is widened
 *
 * Sums have one order, whatever LANES is and however many queries come: all sets give the same bits, scores those of the plain
 * loops. The weights are attention_body.h's. What was tried and dropped: kernels/LOG.md. */

enum {
    NAME(TILE_VECTORS) = 4,                     /* vectors of a tile of values that serves several queries */
    NAME(TILE_OF_MANY) = NAME(TILE_VECTORS) * LANES,
    NAME(ROWS) = 32,                     /* of values between two tiles: a tile's columns of them stay in the L1 */
    NAME(AHEAD_ROWS) = 64, /* of keys and values that follow one another: the hardware forgets them between calls */
    NAME(WIDE) = 2 * LANES /* queries of a tile of scores */
};

static inline __attribute__((always_inline)) SIMD void NAME(widen_row)(adm_dtype dtype, const unsigned char *row, uint32_t d,
                                                                       double *wide) {
    const size_t element = dtype == ADM_F32 ? 4 : 2;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < d; i += LANES) STORE(wide + i, WIDEN(dtype, row + i * element));
}

/* --- Scores: a lane per query ---------------------------------------------------------------------------------------- */

/* LANES tokens' scores, a lane per query, to a row per query. */
static inline __attribute__((always_inline)) SIMD void NAME(store_turned)(V *token, double *score, size_t stride) {
    TURN(token);
#pragma GCC unroll 8
    for (uint32_t g = 0; g < LANES; g++) {
        STORE(score + g * stride, token[g]);
        __builtin_prefetch(score + g * stride + 2 * TOKENS, 1); /* a stream per query: more than the hardware follows */
    }
}

/* Rows of keys that are widened while others are multiplied: LANES elements for each element of those. */
typedef struct NAME(next_tile) {
    const unsigned char *row; /* NULL: none */
    double *key;
} NAME(next_tile);

static inline __attribute__((always_inline)) SIMD void NAME(widen_next)(adm_dtype dtype, const NAME(next_tile) * next,
                                                                        uint32_t d, uint32_t i) {
    const size_t n_bytes = LANES * (dtype == ADM_F32 ? 4 : 2);
    STORE(next->key + (size_t)i * LANES, WIDEN(dtype, next->row + i * n_bytes));
    if (i * n_bytes % LINE_BYTES == 0)
        __builtin_prefetch(next->row + NAME(AHEAD_ROWS) * d * n_bytes / LANES + i * n_bytes, 0, 2);
}

/* One tile: n_v vectors of queries q [d][n_v * LANES], a constant, and TOKENS keys [TOKENS][d], to tile
 * [TOKENS][n_v * LANES], or, where TOKENS is LANES and tile NULL, to score. */
static inline __attribute__((always_inline)) SIMD void NAME(score_tile)(adm_dtype dtype, const double *q, uint32_t n_v,
                                                                        const double *key, const NAME(next_tile) * next,
                                                                        uint32_t d, double scale, double *tile, double *score,
                                                                        size_t stride) {
    V sum[TOKENS][2];
#pragma GCC unroll 16
    for (int t = 0; t < TOKENS; t++)
#pragma GCC unroll 2
        for (uint32_t v = 0; v < n_v; v++) sum[t][v] = ZERO();
#pragma GCC unroll 4
    for (uint32_t i = 0; i < d; i++) {
        V query[2];
        if (next != NULL) NAME(widen_next)(dtype, next, d, i);
#pragma GCC unroll 2
        for (uint32_t v = 0; v < n_v; v++) query[v] = LOAD(q + i * n_v * LANES + v * LANES);
#pragma GCC unroll 16
        for (int t = 0; t < TOKENS; t++) {
            const V k = SET(key[(size_t)t * d + i]);
#pragma GCC unroll 2
            for (uint32_t v = 0; v < n_v; v++) sum[t][v] = FMA(query[v], k, sum[t][v]);
        }
    }
#pragma GCC unroll 2
    for (uint32_t v = 0; v < n_v; v++) {
        V scaled[TOKENS];
#pragma GCC unroll 16
        for (int t = 0; t < TOKENS; t++) scaled[t] = MUL(SET(scale), sum[t][v]);
        if (TOKENS == LANES && tile == NULL) {
            NAME(store_turned)(scaled, score + v * LANES * stride, stride);
            continue;
        }
#pragma GCC unroll 16
        for (uint32_t t = 0; t < TOKENS; t++) STORE(tile + (t * n_v + v) * LANES, scaled[t]);
    }
}

/* n_q <= WIDE queries, turned, and n_t <= TOKENS widened keys. */
static inline __attribute__((always_inline)) SIMD void NAME(score_few)(adm_dtype dtype, const double *q, uint32_t n_q,
                                                                       const double *key, size_t n_t,
                                                                       const NAME(next_tile) * next, uint32_t d, double scale,
                                                                       double *score, size_t stride) {
    double tile[TOKENS * NAME(WIDE)];
    const uint32_t width = n_q > LANES ? NAME(WIDE) : LANES;
    const bool is_whole = TOKENS == LANES && n_t == TOKENS && n_q == width;
    if (n_q > LANES) NAME(score_tile)(dtype, q, 2, key, next, d, scale, is_whole ? NULL : tile, score, stride);
    else NAME(score_tile)(dtype, q, 1, key, next, d, scale, is_whole ? NULL : tile, score, stride);
    for (uint32_t g = 0; g < n_q && !is_whole; g++, score += stride) {
        for (size_t t = 0; t < n_t; t++) score[t] = tile[t * width + g];
        __builtin_prefetch(score + 2 * TOKENS, 1);
    }
}

/* Queries [n_q, d] to [d][LANES or WIDE], each group of WIDE by itself; lanes without a query are 0. */
static SIMD void NAME(turn)(const double *q, uint32_t n_q, uint32_t d, double *turned) {
    for (uint32_t first = 0; first < n_q; first += NAME(WIDE), turned += d * NAME(WIDE)) {
        const uint32_t n_now = n_q - first < NAME(WIDE) ? n_q - first : NAME(WIDE);
        const uint32_t width = n_now > LANES ? NAME(WIDE) : LANES;
        for (uint32_t i = 0; i < d; i++)
            for (uint32_t g = 0; g < width; g++) turned[i * width + g] = g < n_now ? q[(first + g) * d + i] : 0;
    }
}

static inline __attribute__((always_inline)) SIMD void NAME(score_all)(adm_dtype dtype, const double *q, uint32_t n_q,
                                                                       const unsigned char *k, size_t n, uint32_t d,
                                                                       double scale, double *score, size_t stride) {
    _Alignas(64) double turned[ADM_QUALITY_QUERIES * ADM_MAX_HEAD_DIM];
    _Alignas(64) double keys[2][TOKENS * ADM_MAX_HEAD_DIM] = {{0}};
    const size_t row_bytes = d * (dtype == ADM_F32 ? 4 : 2);
    bool is_widened = false;
    NAME(turn)(q, n_q, d, turned);
    for (size_t t = 0; t < n; t += TOKENS) {
        const size_t n_t = n - t < TOKENS ? n - t : TOKENS;
        const double *key = keys[t / TOKENS % 2];
        const NAME(next_tile) next = {k + (t + TOKENS) * row_bytes, keys[(t / TOKENS + 1) % 2]};
        for (size_t j = 0; j < n_t && !is_widened; j++) NAME(widen_row)
        (dtype, k + (t + j) * row_bytes, d, keys[t / TOKENS % 2] + j * d);
        is_widened = TOKENS == LANES && n - t >= 2 * TOKENS;
        if (!is_widened) prefetch_bytes(k + (t + NAME(AHEAD_ROWS)) * row_bytes, TOKENS * row_bytes);
        for (uint32_t g = 0; g < n_q; g += NAME(WIDE)) {
            const uint32_t n_now = n_q - g < NAME(WIDE) ? n_q - g : NAME(WIDE);
            if (g == 0 && is_widened) NAME(score_few)
            (dtype, turned + g * d, n_now, key, n_t, &next, d, scale, score + g * stride + t, stride);
            else NAME(score_few)(dtype, turned + g * d, n_now, key, n_t, NULL, d, scale, score + g * stride + t, stride); }
    }
}

/* --- Outputs: a lane per element -------------------------------------------------------------------------------------- */

/* A tile that is widened while the one before is added, and the part of the rows ahead that is asked for meanwhile. */
typedef struct NAME(coming) {
    const problem *p;
    size_t first, column; /* of the tile */
    size_t ahead;         /* the row from which on rows are asked for */
    size_t part, n_parts;
    double *value;        /* NULL: no tile */
} NAME(coming);

static inline __attribute__((always_inline)) SIMD void NAME(widen_coming)(adm_dtype dtype, const NAME(coming) * next,
                                                                          size_t r) {
    const problem *p = next->p;
    const size_t element = dtype == ADM_F32 ? 4 : 2, n_bytes = NAME(TILE_OF_MANY) * element;
    NAME(widen_row)
    (dtype, row_of(p, p->v, next->first + r) + next->column * element, NAME(TILE_OF_MANY),
     next->value + r * NAME(TILE_OF_MANY));
    if (p->index != NULL) {
        if (r % next->n_parts == next->part) prefetch_far_row(p, p->v, next->ahead + r, 0);
    } else if (r * n_bytes % LINE_BYTES == 0) {
        prefetch_bytes(p->v + next->ahead * p->row_bytes + (next->part * NAME(ROWS) + r) * n_bytes, n_bytes);
    }
}

/* out[g] += sum_r weight[g][r] value[r] for n_q queries, a constant of at most 4, and a tile of their elements;
 * value [n_rows][TILE_OF_MANY]. */
static inline __attribute__((always_inline)) SIMD void NAME(combine_few)(adm_dtype dtype, const double *value,
                                                                         const double *weight, size_t stride, size_t n_rows,
                                                                         uint32_t n_q, uint32_t d, const NAME(coming) * next,
                                                                         double *out) {
    V sums[4][NAME(TILE_VECTORS)];
#pragma GCC unroll 4
    for (uint32_t g = 0; g < n_q; g++)
#pragma GCC unroll 4
        for (int s = 0; s < NAME(TILE_VECTORS); s++) sums[g][s] = LOAD(out + g * d + s * LANES);
    for (size_t r = 0; r < n_rows; r++) {
        V row[NAME(TILE_VECTORS)];
        if (next != NULL) NAME(widen_coming)(dtype, next, r);
#pragma GCC unroll 4
        for (int s = 0; s < NAME(TILE_VECTORS); s++) row[s] = LOAD(value + r * NAME(TILE_OF_MANY) + (size_t)s * LANES);
#pragma GCC unroll 4
        for (uint32_t g = 0; g < n_q; g++) {
            const V w = SET(weight[g * stride + r]);
#pragma GCC unroll 4
            for (int s = 0; s < NAME(TILE_VECTORS); s++) sums[g][s] = FMA(w, row[s], sums[g][s]);
        }
    }
#pragma GCC unroll 4
    for (uint32_t g = 0; g < n_q; g++)
#pragma GCC unroll 4
        for (int s = 0; s < NAME(TILE_VECTORS); s++) STORE(out + g * d + s * LANES, sums[g][s]);
}

/* out += sum_j weight[j] value[j] for one query: rows are widened on the way. n_vectors, a constant, stay in registers. */
static inline __attribute__((always_inline)) SIMD void
NAME(combine_one)(adm_dtype dtype, const problem *p, const double *weight, uint32_t d, uint32_t n_vectors, double *out) {
    const size_t element = dtype == ADM_F32 ? 4 : 2;
    for (uint32_t tile = 0; tile < d; tile += n_vectors * LANES) {
        V sums[16];
#pragma GCC unroll 16
        for (uint32_t s = 0; s < n_vectors; s++) sums[s] = LOAD(out + tile + s * LANES);
        for (size_t j = 0; j < p->n; j++) {
            const unsigned char *from = row_of(p, p->v, j) + tile * element;
            const V w = SET(weight[j]);
            prefetch_row(p, p->v, j);
#pragma GCC unroll 16
            for (uint32_t s = 0; s < n_vectors; s++) sums[s] = FMA(w, WIDEN(dtype, from + s * LANES * element), sums[s]);
        }
#pragma GCC unroll 16
        for (uint32_t s = 0; s < n_vectors; s++) STORE(out + tile + s * LANES, sums[s]);
    }
}

/* A tile's sums of all queries, the first of which widen the next tile meanwhile. */
static inline __attribute__((always_inline)) SIMD void NAME(combine_tile)(adm_dtype dtype, const double *value, const double *w,
                                                                          size_t stride, size_t n_rows, uint32_t n_q,
                                                                          uint32_t d, const NAME(coming) * next, double *to) {
    uint32_t g = 0;
    if (QUERIES >= 4 && n_q >= 4 && next->value != NULL) {
        NAME(combine_few)(dtype, value, w, stride, n_rows, QUERIES >= 4 ? 4 : 1, d, next, to);
        g = 4;
    } else if (n_q >= 2 && next->value != NULL) {
        NAME(combine_few)(dtype, value, w, stride, n_rows, 2, d, next, to);
        g = 2;
    }
    for (; QUERIES >= 4 && g + 4 <= n_q; g += 4)
        NAME(combine_few)(dtype, value, w + g * stride, stride, n_rows, QUERIES >= 4 ? 4 : 1, d, NULL, to + g * d);
    for (; g + 2 <= n_q; g += 2) NAME(combine_few)(dtype, value, w + g * stride, stride, n_rows, 2, d, NULL, to + g * d);
    if (g < n_q) NAME(combine_few)(dtype, value, w + g * stride, stride, n_rows, 1, d, NULL, to + g * d);
}

/* Rows are widened once for all queries; for one alone, on the way. */
static inline __attribute__((always_inline)) SIMD void NAME(combine_all)(adm_dtype dtype, const problem *p,
                                                                         const double *weight, size_t stride, uint32_t n_q,
                                                                         uint32_t d, double *out) {
    const size_t element = dtype == ADM_F32 ? 4 : 2;
    _Alignas(64) double values[2][NAME(ROWS) * NAME(TILE_OF_MANY) + 256];
    int now = 0;
    bool is_widened = false;
    if (n_q == 1) {
        NAME(combine_one)(dtype, p, weight, d, LANES == 8 && d >= 16 * LANES ? 16 : 8, out);
        return;
    }
    for (size_t j = 0; j < p->n; j += NAME(ROWS)) {
        const size_t n_rows = p->n - j < NAME(ROWS) ? p->n - j : NAME(ROWS);
        for (uint32_t column = 0; column < d; column += NAME(TILE_OF_MANY), now = 1 - now) {
            const bool is_last = column + NAME(TILE_OF_MANY) == d; /* of these rows */
            const bool has_next = !is_last || p->n - j >= 2 * NAME(ROWS);
            const NAME(coming) next = {.p = p,
                                       .first = is_last ? j + NAME(ROWS) : j,
                                       .column = is_last ? 0 : column + NAME(TILE_OF_MANY),
                                       .ahead = j + NAME(AHEAD_ROWS),
                                       .part = column / NAME(TILE_OF_MANY),
                                       .n_parts = d / NAME(TILE_OF_MANY),
                                       .value = has_next ? values[1 - now] : NULL};
            for (size_t r = 0; r < n_rows && !is_widened; r++) NAME(widen_row)
            (dtype, row_of(p, p->v, j + r) + column * element, NAME(TILE_OF_MANY), values[now] + r * NAME(TILE_OF_MANY));
            NAME(combine_tile)(dtype, values[now], weight + j, stride, n_rows, n_q, d, &next, out + column);
            is_widened = has_next;
        }
    }
}

static inline __attribute__((always_inline)) SIMD size_t NAME(within_all)(adm_dtype dtype, const problem *p, uint32_t d,
                                                                          const double *weight, const double *o, double limit) {
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
#define EACH_DIM(call)          \
    switch (head_dim) {         \
    case 64: {                  \
        const uint32_t d = 64;  \
        call;                   \
    } break;                    \
    case 128: {                 \
        const uint32_t d = 128; \
        call;                   \
    } break;                    \
    case 256: {                 \
        const uint32_t d = 256; \
        call;                   \
    } break;                    \
    }                           \
    break;
#define EACH_TYPE(call)                  \
    switch (dtype) {                     \
    case ADM_F32: {                      \
        const adm_dtype type = ADM_F32;  \
        EACH_DIM(call)                   \
    }                                    \
    case ADM_F16: {                      \
        const adm_dtype type = ADM_F16;  \
        EACH_DIM(call)                   \
    }                                    \
    case ADM_BF16: {                     \
        const adm_dtype type = ADM_BF16; \
        EACH_DIM(call)                   \
    }                                    \
    }

static SIMD void NAME(quality_scores)(adm_dtype dtype, const double *q, uint32_t n_q, const void *k, size_t n,
                                      uint32_t head_dim, double scale, double *score, size_t stride) {
    EACH_TYPE(NAME(score_all)(type, q, n_q, k, n, d, scale, score, stride))
}

static SIMD void NAME(quality_combine)(adm_dtype dtype, const void *v, const uint32_t *index, size_t n, uint32_t head_dim,
                                       const double *weight, size_t stride, uint32_t n_q, double *out) {
    const problem p = {NULL, v, index, n, head_dim * adm_dtype_bytes(dtype), 1, false};
    EACH_TYPE(NAME(combine_all)(type, &p, weight, stride, n_q, d, out))
}

static SIMD size_t NAME(quality_within)(adm_dtype dtype, const void *v, const uint32_t *order, size_t n, uint32_t head_dim,
                                        const double *weight, const double *o, double limit) {
    const problem p = {NULL, v, order, n, head_dim * adm_dtype_bytes(dtype), 1, false};
    EACH_TYPE(return NAME(within_all)(type, &p, d, weight, o, limit))
    return n;
}

const adm_quality_impl NAME(adm_quality) = {.name = SET_NAME,
                                            .is_available = SET_AVAILABLE,
                                            .scores = NAME(quality_scores),
                                            .weights = NAME(weights),
                                            .combine = NAME(quality_combine),
                                            .within = NAME(quality_within)};

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
#undef TURN
