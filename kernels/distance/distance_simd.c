/* distance_simd.c: L1 over codes with AVX2 and AVX-512, in blocks of 16 tokens, and with NEON.
 *
 *   rows of 16 tokens  ->  counts: a 64-bit word for each word of 32 elements, at most 96
 *                      ->  four registers of counts in one, as the four 16-bit fields of its words
 *                      ->  the words of a token added up across the register: 16 distances
 *
 * AVX-512 counts bits of the unary codes (>=1, >=2, >=3), see distance.c: with h and l the two bits of a code, the
 * first two fill the element's bits as (h, h|l), the third is h&l. AVX2 has no bit count, so it makes |a-b| itself, two
 * bits an element, and adds those up through a table of 16.
 *
 * Measured, bytes of codes per second against FAISS's Hamming scan: `ninja bench`. */
#include "kernels/distance/distance.h"

#include <string.h>

#include "core/system/cpu.h"

#if defined(__x86_64__)

#include <immintrin.h>

enum {
    BLOCK = 16,         /* tokens */
    AHEAD_BYTES = 4096, /* of prefetching; with none a scan of 32 MB runs at two thirds of the speed (Zen 4) */
    LINE_BYTES = 64
};

/* The rows that the block AHEAD_BYTES further on will read; past the end of the codes this does nothing. */
static inline void prefetch_block(const uint8_t *k, uint32_t row_bytes) {
    for (uint32_t at = 0; at < BLOCK * row_bytes; at += LINE_BYTES)
        __builtin_prefetch((const void *)((uintptr_t)k + AHEAD_BYTES + at));
}

/* ---- AVX-512 ---- */

/* The query's row, repeated to fill a register, in unary. */
typedef struct unary512 {
    __m512i ge12, ge3;
} unary512;

static inline ADM_AVX512 unary512 unary512_of(__m512i k) {
    const __m512i low = _mm512_set1_epi8(0x55);
    __m512i high_at_low = _mm512_srli_epi64(k, 1);
    /* truth table of (k, k >> 1, low): low ? k | k>>1 : k */
    __m512i ge12 = _mm512_ternarylogic_epi64(k, high_at_low, low, 0xf8);
    return (unary512){ge12, _mm512_ternarylogic_epi64(k, high_at_low, low, 0x80)};
}

/* A count for each 64-bit word of one register of codes. */
static inline ADM_AVX512 __m512i counts512(const uint8_t *k, unary512 q) {
    unary512 u = unary512_of(_mm512_loadu_si512(k));
    __m512i a = _mm512_popcnt_epi64(_mm512_xor_si512(u.ge12, q.ge12));
    __m512i b = _mm512_popcnt_epi64(_mm512_xor_si512(u.ge3, q.ge3));
    return _mm512_add_epi64(a, b);
}

/* The counts of four registers in a row, register i in field i of each word. */
static inline ADM_AVX512 __m512i four512(const uint8_t *k, unary512 q) {
    __m512i even = _mm512_or_si512(counts512(k, q), _mm512_slli_epi64(counts512(k + 128, q), 32));
    __m512i odd = _mm512_or_si512(counts512(k + 64, q), _mm512_slli_epi64(counts512(k + 192, q), 32));
    return _mm512_or_si512(even, _mm512_slli_epi64(odd, 16));
}

/* Adds the two words of each 128-bit lane; lane of the result: those of a, those of b. */
static inline ADM_AVX512 __m512i add_words512(__m512i a, __m512i b) {
    return _mm512_add_epi16(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

static inline ADM_AVX512 __m512i add_lane_pairs512(__m512i x) { return _mm512_add_epi16(x, _mm512_shuffle_i64x2(x, x, 0xb1)); }

static inline ADM_AVX512 void store512(uint16_t *distance, __m512i sums, __m512i order) {
    _mm256_storeu_si256((__m256i *)(void *)distance, _mm512_castsi512_si256(_mm512_permutexvar_epi16(order, sums)));
}

/* Where block16's sums leave token t = 0..15: the 16-bit fields to gather. Fields 16..31 of `order` are unused. */
#define ORDER512(T)                                                                                                        \
    _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, T(15), T(14), T(13), T(12), T(11), T(10), T(9), T(8), \
                     T(7), T(6), T(5), T(4), T(3), T(2), T(1), T(0))
#define FIELD64(t) (8 * ((t) % 4) + (t) / 4)                       /* lane: token in its register; field: register */
#define FIELD128(t) (16 * ((t) % 2) + 4 * ((t) / 8) + (t) / 2 % 4) /* lane pair: token in its register */
#define FIELD256(t) (16 * ((t) / 8) + (t) % 8)                     /* lane pair: which two of the four fours */

static inline ADM_AVX512 void block16_avx512(uint32_t row_bytes, unary512 q, const uint8_t *k, uint16_t *distance) {
    __m512i first = four512(k, q);
    if (row_bytes == 16) {
        store512(distance, add_words512(first, first), ORDER512(FIELD64));
    } else if (row_bytes == 32) {
        __m512i sums = add_words512(first, four512(k + 256, q));
        store512(distance, add_lane_pairs512(sums), ORDER512(FIELD128));
    } else {
        __m512i low = add_words512(first, four512(k + 256, q));
        __m512i high = add_words512(four512(k + 512, q), four512(k + 768, q));
        __m512i sums = _mm512_add_epi16(_mm512_shuffle_i64x2(low, high, 0x88), _mm512_shuffle_i64x2(low, high, 0xdd));
        store512(distance, add_lane_pairs512(sums), ORDER512(FIELD256));
    }
}

static inline ADM_AVX512 unary512 query512(const uint8_t *q, uint32_t row_bytes) {
    uint8_t repeated[64];
    for (uint32_t at = 0; at < sizeof repeated; at += row_bytes) memcpy(repeated + at, q, row_bytes);
    return unary512_of(_mm512_loadu_si512(repeated));
}

/* Inlined with a constant row_bytes. */
static inline __attribute__((always_inline)) ADM_AVX512 void rows_avx512(const uint8_t *q, const uint8_t *k, size_t n,
                                                                         uint32_t row_bytes, uint16_t *distance) {
    const unary512 query = query512(q, row_bytes);
    for (; n >= BLOCK; n -= BLOCK, k += BLOCK * row_bytes, distance += BLOCK) {
        prefetch_block(k, row_bytes);
        block16_avx512(row_bytes, query, k, distance);
    }
    if (n == 0) return;
    uint8_t rest[BLOCK * ADM_MAX_HEAD_DIM / 4] = {0}; /* a block reads and writes 16 rows, whatever is left */
    uint16_t out[BLOCK];
    memcpy(rest, k, n * row_bytes);
    block16_avx512(row_bytes, query, rest, out);
    memcpy(distance, out, n * sizeof *out);
}

ADM_AVX512 void adm_distance_l1_avx512(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim,
                                       uint16_t *distance) {
    switch (head_dim) {
    case 64: rows_avx512(q, k, n_tokens, 16, distance); break;
    case 128: rows_avx512(q, k, n_tokens, 32, distance); break;
    case 256: rows_avx512(q, k, n_tokens, 64, distance); break;
    }
}

/* ---- AVX2 ---- */

/* A count for each 64-bit word. q2 is q shifted left by a bit. |a-b| is a ^ b, except that the high bit falls where
 * both bits differ and a is 1 or 2: its own two bits then differ, too. */
static inline ADM_AVX2 __m256i counts256(const uint8_t *row, __m256i q, __m256i q2) {
    const __m256i high = _mm256_set1_epi8((char)0xaa), nibble = _mm256_set1_epi8(0x0f);
    const __m256i sum_of_two = _mm256_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6,  //
                                                0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6);
    __m256i k = _mm256_loadu_si256((const __m256i *)(const void *)row);
    __m256i k2 = _mm256_add_epi64(k, k);
    __m256i both = _mm256_and_si256(_mm256_xor_si256(k2, q2), _mm256_xor_si256(k, k2));
    __m256i d = _mm256_andnot_si256(_mm256_and_si256(both, high), _mm256_xor_si256(k, q));
    __m256i bytes = _mm256_add_epi8(_mm256_shuffle_epi8(sum_of_two, _mm256_and_si256(d, nibble)),
                                    _mm256_shuffle_epi8(sum_of_two, _mm256_and_si256(_mm256_srli_epi16(d, 4), nibble)));
    return _mm256_sad_epu8(bytes, _mm256_setzero_si256());
}

/* The counts of four tokens, or with rows of 16 bytes four pairs of them, i in field i of each word. */
static inline ADM_AVX2 __m256i four256(uint32_t row_bytes, const uint8_t *k, const __m256i q[2], const __m256i q2[2]) {
    __m256i field[4];
    const uint32_t step = row_bytes == 64 ? 64 : 32;
    for (uint32_t i = 0; i < 4; i++) {
        field[i] = counts256(k + i * step, q[0], q2[0]);
        if (row_bytes == 64) field[i] = _mm256_add_epi64(field[i], counts256(k + i * step + 32, q[1], q2[1]));
    }
    __m256i even = _mm256_or_si256(field[0], _mm256_slli_epi64(field[2], 32));
    __m256i odd = _mm256_or_si256(field[1], _mm256_slli_epi64(field[3], 32));
    return _mm256_or_si256(even, _mm256_slli_epi64(odd, 16));
}

static inline ADM_AVX2 __m256i add_words256(__m256i a, __m256i b) {
    return _mm256_add_epi16(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

static inline ADM_AVX2 void block16_avx2(uint32_t row_bytes, const __m256i q[2], const __m256i q2[2], const uint8_t *k,
                                         uint16_t *distance) {
    const uint32_t stride = row_bytes == 64 ? 256 : 128;
    __m256i sums = add_words256(four256(row_bytes, k, q, q2), four256(row_bytes, k + stride, q, q2));
    if (row_bytes == 16) { /* the low lane has the even tokens, the high lane the odd */
        __m128i even = _mm256_castsi256_si128(sums), odd = _mm256_extracti128_si256(sums, 1);
        _mm_storeu_si128((__m128i *)(void *)distance, _mm_unpacklo_epi16(even, odd));
        _mm_storeu_si128((__m128i *)(void *)(distance + 8), _mm_unpackhi_epi16(even, odd));
        return;
    }
    k += 2 * stride;
    __m256i more = add_words256(four256(row_bytes, k, q, q2), four256(row_bytes, k + stride, q, q2));
    __m256i all = _mm256_add_epi16(_mm256_permute2x128_si256(sums, more, 0x20), _mm256_permute2x128_si256(sums, more, 0x31));
    _mm256_storeu_si256((__m256i *)(void *)distance, all);
}

static inline __attribute__((always_inline)) ADM_AVX2 void rows_avx2(const uint8_t *q, const uint8_t *k, size_t n,
                                                                     uint32_t row_bytes, uint16_t *distance) {
    uint8_t repeated[64];
    for (uint32_t at = 0; at < sizeof repeated; at += row_bytes) memcpy(repeated + at, q, row_bytes);
    __m256i query[2], query2[2];
    for (int i = 0; i < 2; i++) {
        query[i] = _mm256_loadu_si256((const __m256i *)(const void *)(repeated + 32 * i));
        query2[i] = _mm256_add_epi64(query[i], query[i]);
    }
    for (; n >= BLOCK; n -= BLOCK, k += BLOCK * row_bytes, distance += BLOCK) {
        prefetch_block(k, row_bytes);
        block16_avx2(row_bytes, query, query2, k, distance);
    }
    if (n == 0) return;
    uint8_t rest[BLOCK * ADM_MAX_HEAD_DIM / 4] = {0};
    uint16_t out[BLOCK];
    memcpy(rest, k, n * row_bytes);
    block16_avx2(row_bytes, query, query2, rest, out);
    memcpy(distance, out, n * sizeof *out);
}

ADM_AVX2 void adm_distance_l1_avx2(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) {
    switch (head_dim) {
    case 64: rows_avx2(q, k, n_tokens, 16, distance); break;
    case 128: rows_avx2(q, k, n_tokens, 32, distance); break;
    case 256: rows_avx2(q, k, n_tokens, 64, distance); break;
    }
}

#endif

#if defined(__aarch64__)

#include <arm_neon.h>

/* Bit counts of unary codes as with AVX-512, 64 elements per register and a token at a time. */
typedef struct unary128 {
    uint8x16_t ge12, ge3;
} unary128;

static inline unary128 unary128_of(uint8x16_t k) {
    const uint8x16_t low = vdupq_n_u8(0x55);
    uint8x16_t high_at_low = vshrq_n_u8(k, 1);
    return (unary128){vorrq_u8(k, vandq_u8(high_at_low, low)), vandq_u8(vandq_u8(k, high_at_low), low)};
}

static inline __attribute__((always_inline)) void rows_neon(const uint8_t *q, const uint8_t *k, size_t n, uint32_t row_bytes,
                                                            uint16_t *distance) {
    unary128 query[4];
    for (uint32_t i = 0; i < row_bytes / 16; i++) query[i] = unary128_of(vld1q_u8(q + 16 * i));
    for (size_t t = 0; t < n; t++, k += row_bytes) {
        uint8x16_t sum = vdupq_n_u8(0); /* at most 12 per register of codes */
        for (uint32_t i = 0; i < row_bytes / 16; i++) {
            unary128 key = unary128_of(vld1q_u8(k + 16 * i));
            sum = vaddq_u8(sum,
                           vaddq_u8(vcntq_u8(veorq_u8(key.ge12, query[i].ge12)), vcntq_u8(veorq_u8(key.ge3, query[i].ge3))));
        }
        distance[t] = vaddlvq_u8(sum);
    }
}

void adm_distance_l1_neon(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) {
    switch (head_dim) {
    case 64: rows_neon(q, k, n_tokens, 16, distance); break;
    case 128: rows_neon(q, k, n_tokens, 32, distance); break;
    case 256: rows_neon(q, k, n_tokens, 64, distance); break;
    }
}

#endif
