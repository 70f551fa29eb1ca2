/* topk_simd.c: the selection without a histogram, with AVX2, AVX-512 and NEON.
 *
 * Counting into bins takes a store per token, one after the other; comparing takes an instruction for up to 32 tokens.
 * So a boundary is found by bisection: how many distances are <= v? Where few of many tokens win, a sample says about
 * where the boundary lies, and one pass sets aside what may win:
 *
 *   n distances   ->  sample, n/32 of them  ->  a value that surely more than `remaining` tokens do not exceed
 *   n distances   ->  candidates: the tokens up to that value, some hundreds
 *   candidates    ->  bisection: the boundary  ->  the winners
 *
 * Should the sample mislead, or too many tie, or more than one token in 32 win, all n distances are bisected, in ten
 * passes. */
#include "kernels/topk/topk.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/system/cpu.h"

#if defined(__x86_64__) || defined(__aarch64__)

/* How many of the n distances are <= value. */
typedef size_t count_fn(const uint16_t *distance, size_t n, uint16_t value);

/* Writes the tokens first + i, i < n, with distance[i] <= boundary, except the first ties_dropped of those at the boundary,
 * in ascending order to index [capacity], which holds them all; returns how many. */
typedef uint32_t collect_fn(const uint16_t *distance, size_t n, size_t first, uint16_t boundary, uint32_t ties_dropped,
                            uint32_t *index, size_t capacity);

/* Takes the first *ties_dropped tokens at the boundary out of the set `in`; bit i of `in` and `tied` is token i. */
static inline uint64_t without_dropped(uint64_t in, uint64_t tied, uint32_t *ties_dropped) {
    for (; tied != 0 && *ties_dropped > 0; tied &= tied - 1, --*ties_dropped) in &= ~(tied & -tied);
    return in;
}

/* Writes the set's tokens and returns how many. Where tokens of the set lie is unpredictable, and a wrongly predicted
 * branch for each costs more than all the rest; so four are written at a time, whether or not they are in the set. */
static inline uint32_t write_set(uint64_t in, size_t first, uint32_t *index, size_t capacity) {
    const uint32_t n = (uint32_t)__builtin_popcountll(in);
    if (n + 3 > capacity) {
        for (uint32_t i = 0; i < n; i++, in &= in - 1) index[i] = (uint32_t)first + (uint32_t)__builtin_ctzll(in);
        return n;
    }
    uint32_t i = 0;
    do {
        for (int k = 0; k < 4; k++, i++, in &= in - 1)
            index[i] = (uint32_t)first + (uint32_t)__builtin_ctzll(in | (uint64_t)1 << 63);
    } while (i < n);
    return n;
}

/* The tokens that fill no register. */
static size_t count_rest(const uint16_t *distance, size_t n, uint16_t value) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += distance[i] <= value;
    return count;
}

static uint32_t collect_rest(const uint16_t *distance, size_t n, size_t first, uint16_t boundary, uint32_t ties_dropped,
                             uint32_t *index, size_t capacity) {
    uint64_t in = 0, tied = 0; /* n < 64 */
    for (size_t i = 0; i < n; i++) {
        in |= (uint64_t)(distance[i] <= boundary) << i;
        tied |= (uint64_t)(distance[i] == boundary) << i;
    }
    return write_set(without_dropped(in, tied, &ties_dropped), first, index, capacity);
}

/* The smallest value that at least `remaining` of the n distances, remaining > 0, do not exceed. */
static adm_select_info bisect(const uint16_t *distance, size_t n, size_t remaining, uint32_t max_distance, count_fn *count) {
    uint32_t low = 0, high = max_distance;
    size_t below = 0, up_to = n; /* how many are < low, how many are <= high */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        size_t n_up_to = count(distance, n, (uint16_t)middle);
        if (n_up_to >= remaining) {
            high = middle;
            up_to = n_up_to;
        } else {
            low = middle + 1;
            below = n_up_to;
        }
    }
    return (adm_select_info){low, (uint32_t)(up_to - below), (uint32_t)(remaining - below)};
}

enum {
    STRIPE = 8,             /* neighbouring distances in the sample: 16 bytes */
    SAMPLE_STRIDE = 256,    /* one stripe for at least so many */
    MAX_SAMPLE = 4096,
    MAX_CANDIDATES = 4096,
    WORTH_SAMPLING = 8192,  /* tokens; below, ten passes over 16 KB are faster (measured, Zen 4) */
    CHUNK = 1024            /* candidates are looked for in chunks of so many tokens */
};

/* A distance that more than `remaining` of the n are likely not to exceed, and not many more: the one at the rank in the
 * sample where `remaining` would be expected, and three standard deviations of that rank, and three, on top. */
static bool guess(const uint16_t *distance, size_t n, size_t remaining, uint32_t max_distance, count_fn *count,
                  uint16_t *value) {
    uint16_t sample[MAX_SAMPLE];
    size_t stride = n / (MAX_SAMPLE / STRIPE) + 1; /* so that fewer than MAX_SAMPLE / STRIPE fit in n */
    if (stride < SAMPLE_STRIDE) stride = SAMPLE_STRIDE;
    size_t n_sample = 0;
    for (size_t t = 0; t + stride <= n; t += stride, n_sample += STRIPE)
        memcpy(sample + n_sample, distance + t, STRIPE * sizeof *sample);
    double rank = (double)remaining * STRIPE / (double)stride;
    rank += 3 * sqrt(rank) + 3;
    if (rank * (double)stride / STRIPE > MAX_CANDIDATES / 2) return false;
    *value = (uint16_t)bisect(sample, n_sample, (size_t)rank, max_distance, count).boundary;
    return true;
}

/* Selects by way of candidates; false, with nothing written, if they are too few or too many. */
static bool select_few(count_fn *count, collect_fn *collect, const uint16_t *distance, const adm_eligible *c,
                       uint32_t max_distance, uint32_t *index, adm_select_info *edge) {
    uint32_t token[MAX_CANDIDATES];
    uint16_t near[MAX_CANDIDATES], value;
    const size_t n_eligible = c->last - c->first;
    if (n_eligible < WORTH_SAMPLING || c->remaining >= n_eligible / 32) return false;
    if (!guess(distance + c->first, n_eligible, c->remaining, max_distance, count, &value)) return false;
    uint32_t n = 0;
    for (size_t t = c->first; t < c->last; t += CHUNK) {
        if (n > MAX_CANDIDATES - CHUNK) return false;
        n += collect(distance + t, c->last - t < CHUNK ? c->last - t : CHUNK, t, value, 0, token + n, MAX_CANDIDATES - n);
    }
    if (n < c->remaining) return false;
    for (uint32_t i = 0; i < n; i++) near[i] = distance[token[i]];
    *edge = bisect(near, n, c->remaining, value, count);
    uint32_t ties_dropped = edge->n_tied - edge->n_tied_in;
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t is_dropped = (near[i] == edge->boundary) & (ties_dropped > 0);
        ties_dropped -= is_dropped;
        token[n_kept] = token[i];
        n_kept += (near[i] <= edge->boundary) & !is_dropped;
    }
    memcpy(index, token, c->remaining * sizeof *index);
    return true;
}

static uint32_t select_by(count_fn *count, collect_fn *collect, const uint16_t *distance, size_t n_tokens,
                          uint32_t max_distance, const adm_select_rule *rule, uint32_t *index, adm_select_info *info) {
    const adm_eligible c = adm_topk_eligible(rule, n_tokens);
    adm_select_info edge = {0};
    uint32_t n = 0;
    for (size_t t = 0; t < c.first; t++) index[n++] = (uint32_t)t;
    if (c.remaining > 0 && !select_few(count, collect, distance, &c, max_distance, index + n, &edge)) {
        edge = bisect(distance + c.first, c.last - c.first, c.remaining, max_distance, count);
        collect(distance + c.first, c.last - c.first, c.first, (uint16_t)edge.boundary, edge.n_tied - edge.n_tied_in, index + n,
                c.remaining);
    }
    n += (uint32_t)c.remaining;
    for (size_t t = c.last; t < n_tokens; t++) index[n++] = (uint32_t)t;
    if (info != NULL) *info = edge;
    return n;
}

#endif

#if defined(__x86_64__)

#include <immintrin.h>

/* ---- AVX-512 ---- */

static ADM_AVX512 size_t count_avx512(const uint16_t *distance, size_t n, uint16_t value) {
    const __m512i limit = _mm512_set1_epi16((short)value), one = _mm512_set1_epi16(1);
    size_t count = 0, i = 0;
    while (i + 64 <= n) {
        __m512i a = _mm512_setzero_si512(), b = a;
        /* The 16-bit counters hold 65535. */
        for (size_t round = 0; round < 65535 && i + 64 <= n; round++, i += 64) {
            a = _mm512_mask_add_epi16(a, _mm512_cmple_epu16_mask(_mm512_loadu_si512(distance + i), limit), a, one);
            b = _mm512_mask_add_epi16(b, _mm512_cmple_epu16_mask(_mm512_loadu_si512(distance + i + 32), limit), b, one);
        }
        const __m512i low = _mm512_set1_epi32(0xffff);
        __m512i wide = _mm512_add_epi32(_mm512_and_si512(a, low), _mm512_srli_epi32(a, 16));
        wide = _mm512_add_epi32(wide, _mm512_add_epi32(_mm512_and_si512(b, low), _mm512_srli_epi32(b, 16)));
        count += (uint32_t)_mm512_reduce_add_epi32(wide);
    }
    return count + count_rest(distance + i, n - i, value);
}

static ADM_AVX512 uint32_t collect_avx512(const uint16_t *distance, size_t n, size_t first, uint16_t boundary,
                                          uint32_t ties_dropped, uint32_t *index, size_t capacity) {
    const __m512i limit = _mm512_set1_epi16((short)boundary);
    uint32_t written = 0;
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512i a = _mm512_loadu_si512(distance + i), b = _mm512_loadu_si512(distance + i + 32);
        uint64_t in = _mm512_cmple_epu16_mask(a, limit) | (uint64_t)_mm512_cmple_epu16_mask(b, limit) << 32;
        if (ties_dropped > 0)
            in = without_dropped(in, _mm512_cmpeq_epi16_mask(a, limit) | (uint64_t)_mm512_cmpeq_epi16_mask(b, limit) << 32,
                                 &ties_dropped);
        written += write_set(in, first + i, index + written, capacity - written);
    }
    return written + collect_rest(distance + i, n - i, first + i, boundary, ties_dropped, index + written, capacity - written);
}

uint32_t adm_topk_avx512(const uint16_t *distance, size_t n_tokens, uint32_t max_distance, const adm_select_rule *rule,
                         uint32_t *histogram, uint32_t *index, adm_select_info *info) {
    (void)histogram;
    return select_by(count_avx512, collect_avx512, distance, n_tokens, max_distance, rule, index, info);
}

/* ---- AVX2 ---- */

/* All ones where the distance is <= limit: there is no unsigned comparison, but a minimum. */
static inline ADM_AVX2 __m256i not_above(__m256i d, __m256i limit) { return _mm256_cmpeq_epi16(_mm256_min_epu16(d, limit), d); }

static inline ADM_AVX2 __m256i load16(const uint16_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

static ADM_AVX2 size_t count_avx2(const uint16_t *distance, size_t n, uint16_t value) {
    const __m256i limit = _mm256_set1_epi16((short)value);
    size_t count = 0, i = 0;
    while (i + 32 <= n) {
        __m256i a = _mm256_setzero_si256(), b = a;
        for (size_t round = 0; round < 65535 && i + 32 <= n; round++, i += 32) {
            a = _mm256_sub_epi16(a, not_above(load16(distance + i), limit));
            b = _mm256_sub_epi16(b, not_above(load16(distance + i + 16), limit));
        }
        uint16_t lane[32];
        _mm256_storeu_si256((__m256i *)(void *)lane, a);
        _mm256_storeu_si256((__m256i *)(void *)(lane + 16), b);
        for (int l = 0; l < 32; l++) count += lane[l];
    }
    return count + count_rest(distance + i, n - i, value);
}

/* Bit i for token i, from 32 masks of 16 bits: packing works on lanes of 8, which the permutation sets right. */
static inline ADM_AVX2 uint32_t bits_of(__m256i a, __m256i b) {
    return (uint32_t)_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0xd8));
}

static ADM_AVX2 uint32_t collect_avx2(const uint16_t *distance, size_t n, size_t first, uint16_t boundary,
                                      uint32_t ties_dropped, uint32_t *index, size_t capacity) {
    const __m256i limit = _mm256_set1_epi16((short)boundary);
    uint32_t written = 0;
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m256i a = load16(distance + i), b = load16(distance + i + 16);
        __m256i c = load16(distance + i + 32), d = load16(distance + i + 48);
        uint64_t in = bits_of(not_above(a, limit), not_above(b, limit)) |
                      (uint64_t)bits_of(not_above(c, limit), not_above(d, limit)) << 32;
        if (ties_dropped > 0)
            in = without_dropped(in,
                                 bits_of(_mm256_cmpeq_epi16(a, limit), _mm256_cmpeq_epi16(b, limit)) |
                                     (uint64_t)bits_of(_mm256_cmpeq_epi16(c, limit), _mm256_cmpeq_epi16(d, limit)) << 32,
                                 &ties_dropped);
        written += write_set(in, first + i, index + written, capacity - written);
    }
    return written + collect_rest(distance + i, n - i, first + i, boundary, ties_dropped, index + written, capacity - written);
}

uint32_t adm_topk_avx2(const uint16_t *distance, size_t n_tokens, uint32_t max_distance, const adm_select_rule *rule,
                       uint32_t *histogram, uint32_t *index, adm_select_info *info) {
    (void)histogram;
    return select_by(count_avx2, collect_avx2, distance, n_tokens, max_distance, rule, index, info);
}

#endif

#if defined(__aarch64__)

#include <arm_neon.h>

static size_t count_neon(const uint16_t *distance, size_t n, uint16_t value) {
    const uint16x8_t limit = vdupq_n_u16(value);
    size_t count = 0, i = 0;
    while (i + 16 <= n) {
        uint16x8_t a = vdupq_n_u16(0), b = a;
        for (size_t round = 0; round < 65535 && i + 16 <= n; round++, i += 16) {
            a = vsubq_u16(a, vcleq_u16(vld1q_u16(distance + i), limit));
            b = vsubq_u16(b, vcleq_u16(vld1q_u16(distance + i + 8), limit));
        }
        count += vaddlvq_u16(a) + vaddlvq_u16(b);
    }
    return count + count_rest(distance + i, n - i, value);
}

/* Bit i for mask i of 16. */
static inline uint32_t bits_of_neon(uint16x8_t a, uint16x8_t b) {
    const uint16x8_t bit = {1, 2, 4, 8, 16, 32, 64, 128};
    return (uint32_t)vaddvq_u16(vandq_u16(a, bit)) | (uint32_t)vaddvq_u16(vandq_u16(b, bit)) << 8;
}

static uint32_t collect_neon(const uint16_t *distance, size_t n, size_t first, uint16_t boundary, uint32_t ties_dropped,
                             uint32_t *index, size_t capacity) {
    const uint16x8_t limit = vdupq_n_u16(boundary);
    uint32_t written = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        uint16x8_t a = vld1q_u16(distance + i), b = vld1q_u16(distance + i + 8);
        uint64_t in = bits_of_neon(vcleq_u16(a, limit), vcleq_u16(b, limit));
        if (ties_dropped > 0) in = without_dropped(in, bits_of_neon(vceqq_u16(a, limit), vceqq_u16(b, limit)), &ties_dropped);
        written += write_set(in, first + i, index + written, capacity - written);
    }
    return written + collect_rest(distance + i, n - i, first + i, boundary, ties_dropped, index + written, capacity - written);
}

uint32_t adm_topk_neon(const uint16_t *distance, size_t n_tokens, uint32_t max_distance, const adm_select_rule *rule,
                       uint32_t *histogram, uint32_t *index, adm_select_info *info) {
    (void)histogram;
    return select_by(count_neon, collect_neon, distance, n_tokens, max_distance, rule, index, info);
}

#endif
