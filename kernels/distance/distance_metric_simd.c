/* distance_metric_simd.c: the distances of distance_metric.c with AVX-512, a register of codes at a time:
 *
 *   64 bytes of rows  ->  eight counts, one a 64-bit word  ->  the words of a token added up  ->  8 to 1 distances */
#include "kernels/distance/distance_metric.h"

#include <string.h>

#include "core/system/cpu.h"

#if defined(__x86_64__)

#include <immintrin.h>

typedef enum metric { XOR, L2, SIGN, DOT, HAMMING } metric;

enum { REGISTER_BYTES = 64 };

static inline ADM_AVX512 __m512i twice(__m512i x) { return _mm512_add_epi64(x, x); }

/* Outer codes, 0 and 3, of each word: where the two bits of an element agree. */
static inline ADM_AVX512 __m512i outer512(__m512i k) {
    const __m512i low = _mm512_set1_epi8(0x55);
    /* truth table of (k, k >> 1, low): low & ~(k ^ k>>1) */
    return _mm512_popcnt_epi64(_mm512_ternarylogic_epi64(k, _mm512_srli_epi64(k, 1), low, 0x82));
}

static inline ADM_AVX512 __m512i squares512(__m512i k, __m512i q) {
    const __m512i low = _mm512_set1_epi8(0x55), high = _mm512_set1_epi8((char)0xaa);
    __m512i x = _mm512_xor_si512(k, q), shifted = twice(x);
    /* the high bits that fall: both bits differ, and the key's own two do */
    __m512i fall = _mm512_and_si512(_mm512_and_si512(shifted, high), _mm512_xor_si512(k, twice(k)));
    x = _mm512_andnot_si512(fall, x);
    __m512i is_odd = _mm512_and_si512(x, low), is_large = _mm512_and_si512(x, high);
    __m512i is_three = _mm512_and_si512(is_odd, _mm512_srli_epi64(x, 1));
    __m512i fours = _mm512_add_epi64(_mm512_popcnt_epi64(is_large), _mm512_popcnt_epi64(is_three));
    return _mm512_add_epi64(_mm512_popcnt_epi64(is_odd), _mm512_slli_epi64(fours, 2));
}

/* Inlined with a constant metric. */
static inline __attribute__((always_inline)) ADM_AVX512 __m512i counts512(metric m, __m512i k, __m512i q) {
    const __m512i high = _mm512_set1_epi8((char)0xaa);
    __m512i x = _mm512_xor_si512(k, q);
    switch (m) {
    case XOR: return _mm512_add_epi64(_mm512_popcnt_epi64(x), _mm512_popcnt_epi64(_mm512_and_si512(x, high)));
    case SIGN: return _mm512_popcnt_epi64(_mm512_and_si512(x, high));
    case HAMMING: return _mm512_popcnt_epi64(x);
    case L2: return squares512(k, q);
    case DOT: {
        __m512i outer = _mm512_add_epi64(outer512(k), outer512(q));
        return _mm512_sub_epi64(_mm512_add_epi64(squares512(k, q), _mm512_set1_epi64(128)), twice(outer));
    }
    }
    return x;
}

/* The sums of each n_words words in a row, first in the register. */
static inline __attribute__((always_inline)) ADM_AVX512 __m128i add_words(__m512i x, uint32_t n_words) {
    if (n_words >= 2) x = _mm512_add_epi64(x, _mm512_shuffle_epi32(x, _MM_PERM_BADC));
    if (n_words >= 4) x = _mm512_add_epi64(x, _mm512_shuffle_i64x2(x, x, 0xb1));
    if (n_words >= 8) x = _mm512_add_epi64(x, _mm512_shuffle_i64x2(x, x, 0x4e));
    if (n_words == 2) x = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 0, 0, 0, 0), x);
    if (n_words == 4) x = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 4, 0, 0, 0, 0, 0, 0), x);
    return _mm512_cvtepi64_epi16(x);
}

/* Inlined with constants. */
static inline __attribute__((always_inline)) ADM_AVX512 void rows512(metric m, const uint8_t *q, const uint8_t *k, size_t n,
                                                                     uint32_t n_words, uint16_t *distance) {
    const uint32_t row_bytes = 8 * n_words, n_rows = REGISTER_BYTES / row_bytes;
    uint8_t bytes[REGISTER_BYTES];
    for (uint32_t at = 0; at < REGISTER_BYTES; at += row_bytes) memcpy(bytes + at, q, row_bytes);
    const __m512i query = _mm512_loadu_si512(bytes);
    __m128i sums;
    for (; n >= n_rows; n -= n_rows, k += REGISTER_BYTES, distance += n_rows) {
        sums = add_words(counts512(m, _mm512_loadu_si512(k), query), n_words);
        memcpy(distance, &sums, n_rows * sizeof *distance);
    }
    if (n == 0) return;
    memcpy(bytes, k, n * row_bytes); /* what is behind the last row is the query's, and not written */
    sums = add_words(counts512(m, _mm512_loadu_si512(bytes), query), n_words);
    memcpy(distance, &sums, n * sizeof *distance);
}

#define DEFINE(name, m)                                                                                                \
    ADM_AVX512 void name(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) { \
        switch ((m) == HAMMING ? head_dim / 2 : head_dim) {                                                            \
        case 32: rows512(m, q, k, n_tokens, 1, distance); break;                                                       \
        case 64: rows512(m, q, k, n_tokens, 2, distance); break;                                                       \
        case 128: rows512(m, q, k, n_tokens, 4, distance); break;                                                      \
        case 256: rows512(m, q, k, n_tokens, 8, distance); break;                                                      \
        }                                                                                                              \
    }

DEFINE(adm_distance_xor_avx512, XOR)
DEFINE(adm_distance_l2_avx512, L2)
DEFINE(adm_distance_sign_avx512, SIGN)
DEFINE(adm_distance_dot_avx512, DOT)
DEFINE(adm_distance_hamming_avx512, HAMMING)

#endif
