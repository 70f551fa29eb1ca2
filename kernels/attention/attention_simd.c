/* attention_simd.c: attention in double precision, as the reference, on vectors: AVX2, AVX-512 and NEON; and on the same
 * vectors the loops behind a replay's dense reference (core/replay/session/quality.h).
 *
 * Products of two elements are exact in double and every sum is a sum of doubles, so a result differs from the
 * reference's by the order of summation, some 1e-15 of sum p_j |v_j|. That moves an element to the next float32 only
 * where it lies as close to a rounding boundary: off by at most one unit in the last place, 2^-23 of the element, which
 * is the tolerance of these rows. What is computed, and why each instruction set gives the same bits: attention_body.h.
 *
 * Why not float32: the widening costs what a single core's memory bandwidth leaves idle, and the quality figures of a
 * replay, which see these outputs, would carry an error of 1e-6 that is not the policy's. */
#include "kernels/attention/attention.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/system/cpu.h"
#include "kernels/attention/attention_simd.h"

/* What the body works on: see adm_attention_fn. */
typedef struct problem {
    const unsigned char *k, *v;
    const uint32_t *index;
    size_t n, row_bytes;
    double scale;
    /* For rows that follow one another, too. The hardware foresees them, but an Intel core has too few on the way to its first
     * cache while it widens and multiplies. An EPYC has enough, and loses by being asked: kernels/LOG.md. */
    bool asks;
} problem;

static inline const unsigned char *row_of(const problem *p, const unsigned char *base, size_t j) {
    return base + (p->index ? p->index[j] : j) * p->row_bytes;
}

enum { LINE_BYTES = 64 };

enum {
    STREAMS = 4, /* places at which keys that follow one another are read at once */
    STREAM_AHEAD = 4, /* rows of each */
    AHEAD = 8
};

static inline void ask_for(const unsigned char *from, size_t n_bytes) {
    for (size_t at = 0; at < n_bytes; at += LINE_BYTES) __builtin_prefetch(from + at);
}

/* Selected rows lie anywhere, which no hardware prefetcher foresees. */
static inline void prefetch_row(const problem *p, const unsigned char *base, size_t j) {
    if (p->index != NULL && j + AHEAD < p->n) ask_for(row_of(p, base, j + AHEAD), p->row_bytes);
}

/* Into the second cache: for more lines than the first has buffers for. */
static inline void prefetch_bytes(const unsigned char *from, size_t n_bytes) {
    for (size_t at = 0; at < n_bytes; at += LINE_BYTES) __builtin_prefetch(from + at, 0, 2);
}

/* Some blocks of rows ahead. Also rows that follow one another, which the hardware forgets between two blocks. */
static inline void prefetch_far_row(const problem *p, const unsigned char *base, size_t j, size_t ahead) {
    if (j + ahead < p->n) prefetch_bytes(row_of(p, base, j + ahead), p->row_bytes);
}

static void widen_query(adm_dtype dtype, const void *q, uint32_t head_dim, double *query) {
    float wide[ADM_MAX_HEAD_DIM];
    adm_to_f32(dtype, q, head_dim, wide);
    for (uint32_t i = 0; i < head_dim; i++) query[i] = wide[i];
}

#if defined(__x86_64__)

#include <immintrin.h>

static inline ADM_AVX2 __m256d widen_avx2(adm_dtype dtype, const void *p) {
    if (dtype == ADM_F32) return _mm256_cvtps_pd(_mm_loadu_ps(p));
    __m128i bits = _mm_loadl_epi64(p);
    if (dtype == ADM_F16) return _mm256_cvtps_pd(_mm_cvtph_ps(bits));
    return _mm256_cvtps_pd(_mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(bits), 16)));
}

/* Adding 1.5 2^52 leaves the integer n in the low bits; from there it goes to the exponent of x. */
static inline ADM_AVX2 __m256d scale_avx2(__m256d x, __m256d n) {
    __m256i bits = _mm256_castpd_si256(_mm256_add_pd(n, _mm256_set1_pd(0x1.8p52)));
    return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(x), _mm256_slli_epi64(bits, 52)));
}

static inline ADM_AVX2 double sum4_avx2(__m256d x) {
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(two) + _mm_cvtsd_f64(_mm_unpackhi_pd(two, two));
}

#define SIMD ADM_AVX2
#define NAME(x) x##_avx2
#define SET_NAME "avx2"
#define SET_AVAILABLE adm_cpu_has_avx2
#define QUERIES 2
#define TOKENS 6
#define V __m256d
#define LANES 4
#define ZERO() _mm256_setzero_pd()
#define SET(x) _mm256_set1_pd(x)
#define LOAD(p) _mm256_loadu_pd(p)
#define STORE(p, v) _mm256_storeu_pd(p, v)
#define WIDEN(dtype, p) widen_avx2(dtype, p)
#define ADD(a, b) _mm256_add_pd(a, b)
#define SUB(a, b) _mm256_sub_pd(a, b)
#define MUL(a, b) _mm256_mul_pd(a, b)
#define FMA(a, b, c) _mm256_fmadd_pd(a, b, c)
#define MAX(a, b) _mm256_max_pd(a, b)
#define ROUND(x) _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define SCALE(x, n) scale_avx2(x, n)
#define ZERO_BELOW(x, limit, v) _mm256_andnot_pd(_mm256_cmp_pd(x, SET(limit), _CMP_LT_OQ), v)
#define SUM8(v) sum4_avx2(ADD((v)[0], (v)[1]))
#define TURN(x) ((void)(x))
#include "kernels/attention/attention_body.h"
#include "kernels/attention/quality_body.h"

static inline ADM_AVX512 __m512d widen_avx512(adm_dtype dtype, const void *p) {
    if (dtype == ADM_F32) return _mm512_cvtps_pd(_mm256_loadu_ps(p));
    __m128i bits = _mm_loadu_si128(p);
    if (dtype == ADM_F16) return _mm512_cvtps_pd(_mm256_cvtph_ps(bits));
    return _mm512_cvtps_pd(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16)));
}

static inline ADM_AVX512 double sum8_avx512(__m512d x) {
    return sum4_avx2(_mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1)));
}

/* Eight rows become eight columns. */
static inline __attribute__((always_inline)) ADM_AVX512 void transpose_avx512(__m512d x[8]) {
    __m512d a[8], b[8];
#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm512_unpacklo_pd(x[i], x[i + 1]);
        a[i + 1] = _mm512_unpackhi_pd(x[i], x[i + 1]);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        const int i = k / 2 * 4 + k % 2;
        b[i] = _mm512_shuffle_f64x2(a[i], a[i + 2], 0x88);
        b[i + 2] = _mm512_shuffle_f64x2(a[i], a[i + 2], 0xdd);
    }
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        x[k] = _mm512_shuffle_f64x2(b[k], b[k + 4], 0x88);
        x[k + 4] = _mm512_shuffle_f64x2(b[k], b[k + 4], 0xdd);
    }
}

/* Without optimisation GCC 12 has the intrinsic be a macro, in which a mask of -1 changes its sign. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
static inline ADM_AVX512 __m512d round_avx512(__m512d x) {
    return _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#pragma GCC diagnostic pop

#define SIMD ADM_AVX512
#define NAME(x) x##_avx512
#define SET_NAME "avx512"
#define SET_AVAILABLE adm_cpu_has_avx512
#define QUERIES 4
#define TOKENS 8
#define V __m512d
#define LANES 8
#define ZERO() _mm512_setzero_pd()
#define SET(x) _mm512_set1_pd(x)
#define LOAD(p) _mm512_loadu_pd(p)
#define STORE(p, v) _mm512_storeu_pd(p, v)
#define WIDEN(dtype, p) widen_avx512(dtype, p)
#define ADD(a, b) _mm512_add_pd(a, b)
#define SUB(a, b) _mm512_sub_pd(a, b)
#define MUL(a, b) _mm512_mul_pd(a, b)
#define FMA(a, b, c) _mm512_fmadd_pd(a, b, c)
#define MAX(a, b) _mm512_max_pd(a, b)
#define ROUND(x) round_avx512(x)
#define SCALE(x, n) _mm512_scalef_pd(x, n)
#define ZERO_BELOW(x, limit, v) _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, SET(limit), _CMP_NLT_UQ), v)
#define SUM8(v) sum8_avx512((v)[0])
#define TURN(x) transpose_avx512(x)
#include "kernels/attention/attention_body.h"
#include "kernels/attention/quality_body.h"

#endif

#if defined(__aarch64__)

#include <arm_neon.h>

/* Two registers of two doubles. */
typedef float64x2x2_t four;

static inline four set_neon(double x) { return (four){{vdupq_n_f64(x), vdupq_n_f64(x)}}; }

static inline four load_neon(const double *p) { return (four){{vld1q_f64(p), vld1q_f64(p + 2)}}; }

static inline void store_neon(double *p, four x) {
    vst1q_f64(p, x.val[0]);
    vst1q_f64(p + 2, x.val[1]);
}

static inline four widen_neon(adm_dtype dtype, const void *p) {
    float32x4_t x;
    uint64_t bits;
    if (dtype == ADM_F32) {
        memcpy(&x, p, sizeof x);
    } else {
        memcpy(&bits, p, sizeof bits);
        x = dtype == ADM_F16 ? vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(bits)))
                             : vreinterpretq_f32_u32(vshll_n_u16(vcreate_u16(bits), 16));
    }
    return (four){{vcvt_f64_f32(vget_low_f32(x)), vcvt_high_f64_f32(x)}};
}

static inline float64x2_t scale_neon(float64x2_t x, float64x2_t n) {
    return vreinterpretq_f64_s64(vaddq_s64(vreinterpretq_s64_f64(x), vshlq_n_s64(vcvtq_s64_f64(n), 52)));
}

static inline float64x2_t zero_below_neon(float64x2_t x, double limit, float64x2_t v) {
    return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(v), vcltq_f64(x, vdupq_n_f64(limit))));
}

static inline double sum4_neon(four x) {
    float64x2_t two = vaddq_f64(x.val[0], x.val[1]);
    return vgetq_lane_f64(two, 0) + vgetq_lane_f64(two, 1);
}

static inline four add_neon(four a, four b) { return (four){{vaddq_f64(a.val[0], b.val[0]), vaddq_f64(a.val[1], b.val[1])}}; }

static inline four sub_neon(four a, four b) { return (four){{vsubq_f64(a.val[0], b.val[0]), vsubq_f64(a.val[1], b.val[1])}}; }

static inline four mul_neon(four a, four b) { return (four){{vmulq_f64(a.val[0], b.val[0]), vmulq_f64(a.val[1], b.val[1])}}; }

static inline four fma_neon(four a, four b, four c) {
    return (four){{vfmaq_f64(c.val[0], a.val[0], b.val[0]), vfmaq_f64(c.val[1], a.val[1], b.val[1])}};
}

static inline four max_neon(four a, four b) { return (four){{vmaxq_f64(a.val[0], b.val[0]), vmaxq_f64(a.val[1], b.val[1])}}; }

#define SIMD
#define NAME(x) x##_neon
#define SET_NAME "neon"
#define SET_AVAILABLE NULL
#define QUERIES 2
#define TOKENS 6
#define V four
#define LANES 4
#define ZERO() set_neon(0)
#define SET(x) set_neon(x)
#define LOAD(p) load_neon(p)
#define STORE(p, v) store_neon(p, v)
#define WIDEN(dtype, p) widen_neon(dtype, p)
#define ADD(a, b) add_neon(a, b)
#define SUB(a, b) sub_neon(a, b)
#define MUL(a, b) mul_neon(a, b)
#define FMA(a, b, c) fma_neon(a, b, c)
#define MAX(a, b) max_neon(a, b)
#define ROUND(x) ((four){{vrndnq_f64((x).val[0]), vrndnq_f64((x).val[1])}})
#define SCALE(x, n) ((four){{scale_neon((x).val[0], (n).val[0]), scale_neon((x).val[1], (n).val[1])}})
#define ZERO_BELOW(x, limit, v) \
    ((four){{zero_below_neon((x).val[0], limit, (v).val[0]), zero_below_neon((x).val[1], limit, (v).val[1])}})
#define SUM8(v) sum4_neon(ADD((v)[0], (v)[1]))
#define TURN(x) ((void)(x))
#include "kernels/attention/attention_body.h"
#include "kernels/attention/quality_body.h"

#endif
