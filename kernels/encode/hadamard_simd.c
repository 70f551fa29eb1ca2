/* hadamard_simd.c: the butterflies in registers, with AVX2, AVX-512 and NEON; bit for bit the reference's.
 *
 *   stride < lanes     within a register: each lane and the lane `stride` away, one of the two negated, added
 *   stride >= lanes    between registers: a sum and a difference
 *   last               one multiplication, and out
 *
 * A difference a-b comes out as a+(-b), which is the same in IEEE arithmetic. An AVX-512 row of 256 elements stays in
 * 16 registers throughout. The others do 64 elements in 8 or 16, then the last one or two strides from the stack.
 *
 * On x86 a result larger than a cache is written past it: plain stores would first read the lines that they overwrite,
 * a third of all traffic. */
#include "kernels/encode/hadamard.h"

#include <math.h>
#include <string.h>

#include "core/system/cpu.h"

/* Calls an always-inlined function with constants. */
#define ROWS_OF(rows, dtype)                         \
    switch (head_dim) {                              \
    case 64: rows(dtype, x, n_rows, 64, y); break;   \
    case 128: rows(dtype, x, n_rows, 128, y); break; \
    case 256: rows(dtype, x, n_rows, 256, y); break; \
    }                                                \
    break

#if defined(__x86_64__)

#include <immintrin.h>

/* From how many bytes of result on nothing of it can be expected to stay in a core's own caches (L2: 1 or 2 MiB). */
enum { STREAM_BYTES = 8 << 20 };

static int streams(const float *y, size_t n_rows, uint32_t d) {
    return n_rows * d * sizeof *y >= STREAM_BYTES && (uintptr_t)y % 64 == 0;
}

/* ---- AVX-512 ---- */

static inline ADM_AVX512 __m512 load16(adm_dtype dtype, const void *p) {
    if (dtype == ADM_F32) return _mm512_loadu_ps(p);
    __m256i bits = _mm256_loadu_si256(p);
    if (dtype == ADM_F16) return _mm512_cvtph_ps(bits);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

/* other + x, with x negated in the lanes of `negative`: those whose number has the stride's bit. */
static inline ADM_AVX512 __m512 combine16(__m512 x, __m512 other, __m512i negative) {
    return _mm512_add_ps(other, _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(x), negative)));
}

static inline ADM_AVX512 __m512 within16(__m512 x) {
    const __m512i sign = _mm512_set1_epi32((int)0x80000000);
    x = combine16(x, _mm512_permute_ps(x, 0xb1), _mm512_maskz_mov_epi32(0xaaaa, sign));          /* stride 1 */
    x = combine16(x, _mm512_permute_ps(x, 0x4e), _mm512_maskz_mov_epi32(0xcccc, sign));          /* 2 */
    x = combine16(x, _mm512_shuffle_f32x4(x, x, 0xb1), _mm512_maskz_mov_epi32(0xf0f0, sign));    /* 4 */
    return combine16(x, _mm512_shuffle_f32x4(x, x, 0x4e), _mm512_maskz_mov_epi32(0xff00, sign)); /* 8 */
}

/* Inlined with a constant dtype and d, so that v is registers. */
static inline __attribute__((always_inline)) ADM_AVX512 void rows_avx512(adm_dtype dtype, const void *x, size_t n_rows,
                                                                         uint32_t d, float *y) {
    const unsigned char *from = x;
    const size_t step = 16 * (dtype == ADM_F32 ? 4 : 2);
    const __m512 scale = _mm512_set1_ps((float)(1.0 / sqrt((double)d)));
    const int stream = streams(y, n_rows, d);
    for (size_t row = 0; row < n_rows; row++, from += d / 16 * step, y += d) {
        __m512 v[16];
#pragma GCC unroll 16
        for (uint32_t i = 0; i < d / 16; i++) v[i] = within16(load16(dtype, from + i * step));
#pragma GCC unroll 4
        for (uint32_t stride = 1; stride < d / 16; stride *= 2)
#pragma GCC unroll 16
            for (uint32_t i = 0; i < d / 16; i++)
                if (!(i & stride)) {
                    __m512 a = v[i], b = v[i + stride];
                    v[i] = _mm512_add_ps(a, b);
                    v[i + stride] = _mm512_sub_ps(a, b);
                }
#pragma GCC unroll 16
        for (uint32_t i = 0; i < d / 16; i++) {
            if (stream) _mm512_stream_ps(y + 16 * i, _mm512_mul_ps(v[i], scale));
            else _mm512_storeu_ps(y + 16 * i, _mm512_mul_ps(v[i], scale));
        }
    }
    if (stream) _mm_sfence();
}

ADM_AVX512 void adm_hadamard_avx512(adm_dtype dtype, const void *x, size_t n_rows, uint32_t head_dim, float *y) {
    switch (dtype) {
    case ADM_F32: ROWS_OF(rows_avx512, ADM_F32);
    case ADM_F16: ROWS_OF(rows_avx512, ADM_F16);
    case ADM_BF16: ROWS_OF(rows_avx512, ADM_BF16);
    }
}

/* ---- AVX2 ---- */

static inline ADM_AVX2 __m256 load(adm_dtype dtype, const void *p) {
    if (dtype == ADM_F32) return _mm256_loadu_ps(p);
    __m128i bits = _mm_loadu_si128(p);
    if (dtype == ADM_F16) return _mm256_cvtph_ps(bits);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

static inline ADM_AVX2 __m256 within(__m256 x) {
    const __m256 odd = _mm256_setr_ps(0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f, 0.0f, -0.0f);
    const __m256 second = _mm256_setr_ps(0.0f, 0.0f, -0.0f, -0.0f, 0.0f, 0.0f, -0.0f, -0.0f);
    const __m256 high = _mm256_setr_ps(0.0f, 0.0f, 0.0f, 0.0f, -0.0f, -0.0f, -0.0f, -0.0f);
    x = _mm256_add_ps(_mm256_permute_ps(x, 0xb1), _mm256_xor_ps(x, odd));
    x = _mm256_add_ps(_mm256_permute_ps(x, 0x4e), _mm256_xor_ps(x, second));
    return _mm256_add_ps(_mm256_permute2f128_ps(x, x, 0x01), _mm256_xor_ps(x, high));
}

static inline ADM_AVX2 __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
static inline ADM_AVX2 __m256 subtract(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
static inline ADM_AVX2 void store(float *y, __m256 v, float scale, int stream) {
    const __m256 scaled = _mm256_mul_ps(v, _mm256_set1_ps(scale));
    if (stream) _mm256_stream_ps(y, scaled);
    else _mm256_storeu_ps(y, scaled);
}
static inline void finish(int stream) {
    if (stream) _mm_sfence();
}

#define SIMD ADM_AVX2
#define HADAMARD adm_hadamard_avx2
#define LANES 8
typedef __m256 vector;

#elif defined(__aarch64__)

#include <arm_neon.h>

static inline float32x4_t load(adm_dtype dtype, const void *p) {
    float32x4_t x;
    uint64_t bits;
    if (dtype == ADM_F32) {
        memcpy(&x, p, sizeof x);
        return x;
    }
    memcpy(&bits, p, sizeof bits);
    if (dtype == ADM_F16) return vcvt_f32_f16(vreinterpret_f16_u64(vcreate_u64(bits)));
    return vreinterpretq_f32_u32(vshll_n_u16(vcreate_u16(bits), 16));
}

static inline float32x4_t negate(float32x4_t x, uint32x4_t sign) {
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), sign));
}

static inline float32x4_t within(float32x4_t x) {
    const uint32x4_t odd = {0, 0x80000000u, 0, 0x80000000u}, high = {0, 0, 0x80000000u, 0x80000000u};
    x = vaddq_f32(vrev64q_f32(x), negate(x, odd));
    return vaddq_f32(vextq_f32(x, x, 2), negate(x, high));
}

static int streams(const float *y, size_t n_rows, uint32_t d) {
    (void)y, (void)n_rows, (void)d;
    return 0;
}

static inline float32x4_t add(float32x4_t a, float32x4_t b) { return vaddq_f32(a, b); }
static inline float32x4_t subtract(float32x4_t a, float32x4_t b) { return vsubq_f32(a, b); }
static inline void store(float *y, float32x4_t v, float scale, int stream) {
    (void)stream;
    vst1q_f32(y, vmulq_n_f32(v, scale));
}
static inline void finish(int stream) { (void)stream; }

#define SIMD
#define HADAMARD adm_hadamard_neon
#define LANES 4
typedef float32x4_t vector;

#endif

/* ---- AVX2 and NEON alike: 64 elements in registers, then the last strides from the stack ---- */

#ifdef HADAMARD

enum { REGISTERS = 64 / LANES };

/* The strides of n registers, n = 1, 2, 4 or REGISTERS. */
static inline __attribute__((always_inline)) SIMD void between(vector *v, uint32_t n) {
#pragma GCC unroll 4
    for (uint32_t stride = 1; stride < n; stride *= 2)
#pragma GCC unroll 16
        for (uint32_t i = 0; i < n; i++)
            if (!(i & stride)) {
                vector a = v[i], b = v[i + stride];
                v[i] = add(a, b);
                v[i + stride] = subtract(a, b);
            }
}

static inline __attribute__((always_inline)) SIMD void rows(adm_dtype dtype, const void *x, size_t n_rows, uint32_t d,
                                                            float *y) {
    const unsigned char *from = x;
    const size_t step = LANES * (dtype == ADM_F32 ? 4 : 2);
    const uint32_t n_chunks = d / 64;
    const float scale = (float)(1.0 / sqrt((double)d));
    const int stream = streams(y, n_rows, d);
    for (size_t row = 0; row < n_rows; row++, y += d) {
        vector chunk[4][REGISTERS]; /* of 64 elements */
        for (uint32_t p = 0; p < n_chunks; p++, from += REGISTERS * step) {
            vector v[REGISTERS];
#pragma GCC unroll 16
            for (uint32_t i = 0; i < REGISTERS; i++) v[i] = within(load(dtype, from + i * step));
            between(v, REGISTERS);
#pragma GCC unroll 16
            for (uint32_t i = 0; i < REGISTERS; i++) chunk[p][i] = v[i];
        }
        for (uint32_t i = 0; i < REGISTERS; i++) {
            vector v[4];
#pragma GCC unroll 4
            for (uint32_t p = 0; p < n_chunks; p++) v[p] = chunk[p][i];
            between(v, n_chunks);
#pragma GCC unroll 4
            for (uint32_t p = 0; p < n_chunks; p++) store(y + 64 * p + LANES * i, v[p], scale, stream);
        }
    }
    finish(stream);
}

SIMD void HADAMARD(adm_dtype dtype, const void *x, size_t n_rows, uint32_t head_dim, float *y) {
    switch (dtype) {
    case ADM_F32: ROWS_OF(rows, ADM_F32);
    case ADM_F16: ROWS_OF(rows, ADM_F16);
    case ADM_BF16: ROWS_OF(rows, ADM_BF16);
    }
}

#endif
