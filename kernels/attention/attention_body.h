/* attention_body.h: attention with vectors of doubles; the body that attention_simd.c includes once an instruction set,
 * with quality_body.h behind it, which also undefines what the includer defined.
 *
 * The includer defines, for its vectors V of LANES doubles:
 *
 *   SIMD         attribute of its functions          NAME(x)             x with the set's suffix
 *   ZERO() SET(x) LOAD(p) STORE(p, v)                doubles, unaligned
 *   WIDEN(dtype, p)                                  LANES elements of dtype, as doubles
 *   ADD SUB MUL  FMA(a, b, c) = a b + c  MAX(a, b)   MAX: b where either is a NaN
 *   ROUND(x)     to the nearest integer              SCALE(x, n)         x 2^n
 *   ZERO_BELOW(x, limit, v)                          v, and 0 where x < limit
 *   QUERIES TOKENS                                   queries of a tile of outputs, keys of a tile of scores: quality_body.h
 *   TURN(x)      x[0 .. LANES-1]: rows become columns; nothing where TOKENS is not LANES
 *   SUM8(v)      v[0 .. 8/LANES): lanes 0..7 added up as ((0+4)+(2+6)) + ((1+5)+(3+7))
 *
 * Every sum has one order whatever LANES is: a dot product runs over 16 partial sums (element i in number i mod 16),
 * the total of the weights over 8, an output element token by token. So all sets give the same bits. */

enum {
    NAME(DOT_VECTORS) = 16 / LANES,
    NAME(EIGHT) = 8 / LANES,
    NAME(GROUP) = 8          /* tokens */
};

static inline SIMD double NAME(dot)(adm_dtype dtype, const double *query, const unsigned char *row, uint32_t d) {
    const size_t element = dtype == ADM_F32 ? 4 : 2;
    V sum[NAME(DOT_VECTORS)], eight[NAME(EIGHT)];
#pragma GCC unroll 8
    for (int s = 0; s < NAME(DOT_VECTORS); s++) sum[s] = ZERO();
#pragma GCC unroll 16
    for (uint32_t i = 0; i < d; i += 16)
#pragma GCC unroll 8
        for (uint32_t s = 0; s < NAME(DOT_VECTORS); s++) {
            uint32_t at = i + s * LANES;
            sum[s] = FMA(LOAD(query + at), WIDEN(dtype, row + at * element), sum[s]);
        }
#pragma GCC unroll 4
    for (int s = 0; s < NAME(EIGHT); s++) eight[s] = ADD(sum[s], sum[s + NAME(EIGHT)]);
    return SUM8(eight);
}

/* e^x for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, then the Taylor series of e^r to r^13, whose rest is below
 * 2^-57; the evaluation errs by less than two units of 2^-53. Below -708, where the result leaves the normal numbers,
 * it is 0. ln 2 is split so that n times its first half is exact. */
static inline SIMD V NAME(exp)(V x) {
    static const double reciprocal_factorial[14] = {
        1,          1,           1.0 / 2,      1.0 / 6,       1.0 / 24,       1.0 / 120,       1.0 / 720,
        1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800};
    V clamped = MAX(SET(-708), x);
    V n = ROUND(MUL(clamped, SET(0x1.71547652b82fep0)));
    V r = FMA(n, SET(-0x1.62e42fefp-1), clamped);
    r = FMA(n, SET(-0x1.473de6af278edp-34), r);
    V y = SET(reciprocal_factorial[13]);
#pragma GCC unroll 13
    for (int k = 12; k >= 0; k--) y = FMA(y, r, SET(reciprocal_factorial[k]));
    return ZERO_BELOW(x, -708, SCALE(y, n));
}

/* weight[j] = exp(score[j] - largest); weight may be score. Returns their sum. */
static SIMD double NAME(weights)(const double *score, size_t n, double largest, double *weight) {
    V sum[NAME(EIGHT)];
    for (int s = 0; s < NAME(EIGHT); s++) sum[s] = ZERO();
    for (size_t j = 0; j < n; j += 8) {
        double rest[8], *to = weight + j;
        const double *from = score + j;
        if (n - j < 8) { /* the last few among scores of no weight */
            for (size_t i = 0; i < 8; i++) rest[i] = i < n - j ? score[j + i] : -INFINITY;
            from = to = rest;
        }
        for (int s = 0; s < NAME(EIGHT); s++) {
            V w = NAME(exp)(SUB(LOAD(from + s * LANES), SET(largest)));
            STORE(to + s * LANES, w);
            sum[s] = ADD(sum[s], w);
        }
        if (n - j < 8) memcpy(weight + j, rest, (n - j) * sizeof *weight);
    }
    return SUM8(sum);
}

/* sum[i] += weight[g] * row[g][i] for n_rows rows; n_vectors, a constant, stay in registers meanwhile. Each row's bytes
 * ahead_bytes further on are asked for; 0: not. */
static inline __attribute__((always_inline)) SIMD void NAME(add_tiles)(adm_dtype dtype, const unsigned char *const *row,
                                                                       const double *weight, int n_rows, size_t ahead_bytes,
                                                                       uint32_t d, int n_vectors, double *sum) {
    const size_t element = dtype == ADM_F32 ? 4 : 2, n_bytes = (size_t)n_vectors * LANES * element;
    for (uint32_t tile = 0; tile < d; tile += (uint32_t)n_vectors * LANES) {
        V sums[16];
#pragma GCC unroll 16
        for (int s = 0; s < n_vectors; s++) sums[s] = LOAD(sum + tile + s * LANES);
        for (int g = 0; g < n_rows; g++) {
            const V w = SET(weight[g]);
            const unsigned char *from = row[g] + tile * element;
            if (ahead_bytes > 0) ask_for(from + ahead_bytes, n_bytes);
#pragma GCC unroll 16
            for (int s = 0; s < n_vectors; s++) sums[s] = FMA(w, WIDEN(dtype, from + (size_t)s * LANES * element), sums[s]);
        }
#pragma GCC unroll 16
        for (int s = 0; s < n_vectors; s++) STORE(sum + tile + s * LANES, sums[s]);
    }
}

/* Where registers hold 128 elements (AVX-512), rows are read from end to end: 0.86 in place of 0.75 of PyTorch's speed at 32K
 * tokens of F32, one thread of an Intel Xeon (model 207), 2026-11-30. */
static inline SIMD void NAME(add_rows)(adm_dtype dtype, const unsigned char *const *row, const double *weight, int n_rows,
                                       size_t ahead_bytes, uint32_t d, double *sum) {
    if (LANES == 8 && d >= 16 * LANES) NAME(add_tiles)(dtype, row, weight, n_rows, ahead_bytes, d, 16, sum);
    else NAME(add_tiles)(dtype, row, weight, n_rows, ahead_bytes, d, 8, sum);
}

/* score[j] = scale q.k_j */
static inline __attribute__((always_inline)) SIMD void NAME(score_row)(adm_dtype dtype, const double *query, const problem *p,
                                                                       uint32_t d, size_t j, double *score, double *largest) {
    score[j] = p->scale * NAME(dot)(dtype, query, row_of(p, p->k, j), d);
    if (score[j] > *largest) *largest = score[j];
}

/* Scores of all rows; returns the largest. Rows that follow one another are read at STREAMS places at once. */
static inline __attribute__((always_inline)) SIMD double NAME(score_rows)(adm_dtype dtype, const double *query,
                                                                          const problem *p, uint32_t d, double *score) {
    const size_t part = p->index == NULL ? p->n / STREAMS : 0;
    double largest = -INFINITY;
    for (size_t j = 0; j < part; j++)
        for (size_t s = 0; s < STREAMS; s++) {
            if (p->asks) ask_for(row_of(p, p->k, s * part + j + STREAM_AHEAD), p->row_bytes);
            NAME(score_row)(dtype, query, p, d, s * part + j, score, &largest);
        }
    for (size_t j = STREAMS * part; j < p->n; j++) {
        prefetch_row(p, p->k, j);
        NAME(score_row)(dtype, query, p, d, j, score, &largest);
    }
    return largest;
}

/* Inlined with a constant dtype and d. */
static inline __attribute__((always_inline)) SIMD void NAME(attend)(adm_dtype dtype, const double *query, const problem *p,
                                                                    uint32_t d, double *score, float *out) {
    double sum[ADM_MAX_HEAD_DIM] = {0};
    const double largest = NAME(score_rows)(dtype, query, p, d, score);
    const double total = NAME(weights)(score, p->n, largest, score);
    const size_t ahead_bytes = p->asks ? AHEAD * p->row_bytes : 0;
    size_t j = 0;
    const unsigned char *row[NAME(GROUP)];
    for (; j + NAME(GROUP) <= p->n; j += NAME(GROUP)) {
        for (size_t g = 0; g < NAME(GROUP); g++) {
            prefetch_row(p, p->v, j + g);
            row[g] = row_of(p, p->v, j + g);
        }
        NAME(add_rows)(dtype, row, score + j, NAME(GROUP), ahead_bytes, d, sum);
    }
    for (; j < p->n; j++) {
        row[0] = row_of(p, p->v, j);
        NAME(add_rows)(dtype, row, score + j, 1, 0, d, sum);
    }
    for (uint32_t i = 0; i < d; i++) out[i] = (float)(sum[i] / total);
}

#define ATTEND_DIMS(dtype)                                            \
    switch (head_dim) {                                               \
    case 64: NAME(attend)(dtype, query, &p, 64, score, out); break;   \
    case 128: NAME(attend)(dtype, query, &p, 128, score, out); break; \
    case 256: NAME(attend)(dtype, query, &p, 256, score, out); break; \
    }                                                                 \
    break

SIMD void NAME(adm_attention)(adm_dtype dtype, const void *q, const void *k, const void *v, const uint32_t *index, size_t n,
                              uint32_t head_dim, double scale, double *score, float *out) {
    const problem p = {k, v, index, n, head_dim * adm_dtype_bytes(dtype), scale, index == NULL && adm_cpu_is_intel()};
    double query[ADM_MAX_HEAD_DIM];
    widen_query(dtype, q, head_dim, query);
    if (n == 0) {
        memset(out, 0, head_dim * sizeof *out);
        return;
    }
    switch (dtype) {
    case ADM_F32: ATTEND_DIMS(ADM_F32);
    case ADM_F16: ATTEND_DIMS(ADM_F16);
    case ADM_BF16: ATTEND_DIMS(ADM_BF16);
    }
}

#undef ATTEND_DIMS
