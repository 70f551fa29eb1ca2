/* asym4_simd.c: the distances of asym4.c by products of bytes, with AVX2 and AVX-512, eight registers of keys at a time:
 *
 *   register  ->  its four codes a byte, a register each, times the query's bytes: eight 16-bit sums in each 128-bit lane
 *   eight registers  ->  one: field r of a lane is what the lane of register r sums to, over 64 elements
 *   the lanes of a token added up, the tokens put in order
 *
 * A lane sums to at most 64 * 24, and a token to 6,144: everything fits 16 bits. */
#include "kernels/distance/asym4.h"

#include <string.h>

#include "core/system/cpu.h"

#if defined(__x86_64__)

#include <immintrin.h>

enum {
    REGISTERS = 8,
    LANE_BYTES = 16,
    AHEAD_BYTES = 4096, /* of prefetching, as in distance_simd.c */
    LINE_BYTES = 64
};

/* byte [4][row_bytes repeated to n_bytes]: of element j of each byte of a row. */
static void query_bytes(const uint8_t *q, uint32_t head_dim, uint32_t n_bytes, int8_t *byte) {
    for (uint32_t j = 0; j < 4; j++)
        for (uint32_t i = 0; i < n_bytes; i++)
            byte[j * n_bytes + i] = (int8_t)adm_asym4_element(q, head_dim, 4 * (i % (head_dim / 4)) + j);
}

static inline void prefetch(const uint8_t *k, uint32_t n_bytes) {
    for (uint32_t at = 0; at < n_bytes; at += LINE_BYTES) __builtin_prefetch((const void *)((uintptr_t)k + AHEAD_BYTES + at));
}

/* ---- AVX-512 ---- */

typedef struct query512 {
    __m512i byte[4];
} query512;

static inline ADM_AVX512 __m512i products512(const uint8_t *k, const query512 *q) {
    const __m512i three = _mm512_set1_epi8(3), x = _mm512_loadu_si512(k);
    const __m512i a = _mm512_maddubs_epi16(_mm512_and_si512(x, three), q->byte[0]);
    const __m512i b = _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(x, 2), three), q->byte[1]);
    const __m512i c = _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(x, 4), three), q->byte[2]);
    const __m512i d = _mm512_maddubs_epi16(_mm512_and_si512(_mm512_srli_epi16(x, 6), three), q->byte[3]);
    return _mm512_add_epi16(_mm512_add_epi16(a, b), _mm512_add_epi16(c, d));
}

/* Neighbouring fields of a and b added up; of each lane first those of a. */
static inline ADM_AVX512 __m512i add_neighbours512(__m512i a, __m512i b) {
    const __m512i ones = _mm512_set1_epi16(1);
    return _mm512_packs_epi32(_mm512_madd_epi16(a, ones), _mm512_madd_epi16(b, ones));
}

static inline ADM_AVX512 __m512i four512(const uint8_t *k, const query512 *q) {
    const __m512i ab = add_neighbours512(products512(k, q), products512(k + 64, q));
    const __m512i cd = add_neighbours512(products512(k + 128, q), products512(k + 192, q));
    return add_neighbours512(ab, cd);
}

/* Where token t = 0 .. 31 of a block is: the field of its first lane. */
#define FIELD512(t, lanes) (8 * (lanes) * ((t) % (4 / (lanes))) + (t) / (4 / (lanes)) % 8)
#define ORDER8(t, lanes)                                                                                    \
    FIELD512((t) + 7, lanes), FIELD512((t) + 6, lanes), FIELD512((t) + 5, lanes), FIELD512((t) + 4, lanes), \
        FIELD512((t) + 3, lanes), FIELD512((t) + 2, lanes), FIELD512((t) + 1, lanes), FIELD512(t, lanes)
#define ORDER512(lanes) _mm512_set_epi16(ORDER8(24, lanes), ORDER8(16, lanes), ORDER8(8, lanes), ORDER8(0, lanes))

/* Distances of 32, 16 or 8 tokens; those behind are not meant. Inlined with constant lanes, of a token. */
static inline __attribute__((always_inline)) ADM_AVX512 __m512i block512(uint32_t lanes, const uint8_t *k, const query512 *q,
                                                                         __m512i largest) {
    __m512i sums = add_neighbours512(four512(k, q), four512(k + 256, q));
    if (lanes >= 2) sums = _mm512_add_epi16(sums, _mm512_shuffle_i64x2(sums, sums, 0xb1));
    if (lanes >= 4) sums = _mm512_add_epi16(sums, _mm512_shuffle_i64x2(sums, sums, 0x4e));
    const __m512i order = lanes == 1 ? ORDER512(1) : lanes == 2 ? ORDER512(2) : ORDER512(4);
    return _mm512_sub_epi16(largest, _mm512_permutexvar_epi16(order, sums));
}

/* Inlined with constant lanes. */
static inline __attribute__((always_inline)) ADM_AVX512 void rows512(uint32_t lanes, const uint8_t *q, const uint8_t *k,
                                                                     size_t n, uint16_t *distance) {
    enum { BLOCK_BYTES = REGISTERS * 64 };
    const uint32_t d = 64 * lanes, row_bytes = d / 4, n_block = BLOCK_BYTES / row_bytes;
    const __m512i largest = _mm512_set1_epi16((short)adm_asym4_largest(q, d));
    int8_t byte[4 * 64];
    query512 query;
    query_bytes(q, d, 64, byte);
    for (int j = 0; j < 4; j++) query.byte[j] = _mm512_loadu_si512(byte + 64 * j);
    for (; n >= n_block; n -= n_block, k += BLOCK_BYTES, distance += n_block) {
        prefetch(k, BLOCK_BYTES);
        const __m512i block = block512(lanes, k, &query, largest);
        if (lanes == 1) _mm512_storeu_si512(distance, block);
        else if (lanes == 2) _mm256_storeu_si256((__m256i *)(void *)distance, _mm512_castsi512_si256(block));
        else _mm_storeu_si128((__m128i *)(void *)distance, _mm512_castsi512_si128(block));
    }
    if (n == 0) return;
    uint8_t rest[BLOCK_BYTES] = {0};
    uint16_t out[32];
    memcpy(rest, k, n * row_bytes);
    _mm512_storeu_si512(out, block512(lanes, rest, &query, largest));
    memcpy(distance, out, n * sizeof *out);
}

ADM_AVX512 void adm_distance_asym4_avx512(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim,
                                          uint16_t *distance) {
    switch (head_dim) {
    case 64: rows512(1, q, k, n_tokens, distance); break;
    case 128: rows512(2, q, k, n_tokens, distance); break;
    case 256: rows512(4, q, k, n_tokens, distance); break;
    }
}

/* ---- AVX2 ---- */

typedef struct query256 {
    __m256i byte[2][4]; /* the second row of registers for tokens of two */
} query256;

static inline ADM_AVX2 __m256i products256(const uint8_t *k, const __m256i *byte) {
    const __m256i three = _mm256_set1_epi8(3), x = _mm256_loadu_si256((const __m256i *)(const void *)k);
    const __m256i a = _mm256_maddubs_epi16(_mm256_and_si256(x, three), byte[0]);
    const __m256i b = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(x, 2), three), byte[1]);
    const __m256i c = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(x, 4), three), byte[2]);
    const __m256i d = _mm256_maddubs_epi16(_mm256_and_si256(_mm256_srli_epi16(x, 6), three), byte[3]);
    return _mm256_add_epi16(_mm256_add_epi16(a, b), _mm256_add_epi16(c, d));
}

static inline ADM_AVX2 __m256i add_neighbours256(__m256i a, __m256i b) {
    const __m256i ones = _mm256_set1_epi16(1);
    return _mm256_packs_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
}

/* Row r of a block: one register, or for d = 256 the sum of the row's two. */
static inline __attribute__((always_inline)) ADM_AVX2 __m256i row256(uint32_t lanes, const uint8_t *k, const query256 *q,
                                                                     int r) {
    if (lanes < 4) return products256(k + 32 * r, q->byte[0]);
    return _mm256_add_epi16(products256(k + 64 * r, q->byte[0]), products256(k + 64 * r + 32, q->byte[1]));
}

static inline __attribute__((always_inline)) ADM_AVX2 __m256i four256(uint32_t lanes, const uint8_t *k, const query256 *q,
                                                                      int r) {
    const __m256i ab = add_neighbours256(row256(lanes, k, q, r), row256(lanes, k, q, r + 1));
    return add_neighbours256(ab, add_neighbours256(row256(lanes, k, q, r + 2), row256(lanes, k, q, r + 3)));
}

/* Distances of 16 tokens, or with more than one lane a token of 8. */
static inline __attribute__((always_inline)) ADM_AVX2 void block256(uint32_t lanes, const uint8_t *k, const query256 *q,
                                                                    __m128i largest, uint16_t *distance) {
    const __m256i sums = add_neighbours256(four256(lanes, k, q, 0), four256(lanes, k, q, 4));
    const __m128i low = _mm256_castsi256_si128(sums), high = _mm256_extracti128_si256(sums, 1);
    __m128i *out = (__m128i *)(void *)distance;
    if (lanes > 1) {
        _mm_storeu_si128(out, _mm_sub_epi16(largest, _mm_add_epi16(low, high)));
    } else {
        _mm_storeu_si128(out, _mm_sub_epi16(largest, _mm_unpacklo_epi16(low, high)));
        _mm_storeu_si128(out + 1, _mm_sub_epi16(largest, _mm_unpackhi_epi16(low, high)));
    }
}

/* Inlined with constant lanes. */
static inline __attribute__((always_inline)) ADM_AVX2 void rows256(uint32_t lanes, const uint8_t *q, const uint8_t *k, size_t n,
                                                                   uint16_t *distance) {
    const uint32_t d = 64 * lanes, row_bytes = LANE_BYTES * lanes, n_block = lanes == 1 ? 16 : 8;
    const __m128i largest = _mm_set1_epi16((short)adm_asym4_largest(q, d));
    int8_t byte[4 * 64];
    query256 query;
    query_bytes(q, d, 64, byte);
    for (int j = 0; j < 8; j++) query.byte[j % 2][j / 2] = _mm256_loadu_si256((const __m256i *)(const void *)(byte + 32 * j));
    for (; n >= n_block; n -= n_block, k += n_block * row_bytes, distance += n_block) {
        prefetch(k, n_block * row_bytes);
        block256(lanes, k, &query, largest, distance);
    }
    if (n == 0) return;
    uint8_t rest[8 * ADM_MAX_HEAD_DIM / 4] = {0};
    uint16_t out[16];
    memcpy(rest, k, n * row_bytes);
    block256(lanes, rest, &query, largest, out);
    memcpy(distance, out, n * sizeof *out);
}

ADM_AVX2 void adm_distance_asym4_avx2(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim,
                                      uint16_t *distance) {
    switch (head_dim) {
    case 64: rows256(1, q, k, n_tokens, distance); break;
    case 128: rows256(2, q, k, n_tokens, distance); break;
    case 256: rows256(4, q, k, n_tokens, distance); break;
    }
}

#endif
