/* asym4.c: a 4-bit query against 2-bit keys on the host.
 *
 *   key    hl hl hl ... hl    32 elements in a word, code = 2h + l
 *   plane  pp pp pp ... pp    each bit of the query's plane twice
 *
 * Of a plane p, sum of p code = popc(k & pp) + popc(k & p0), where p0 keeps the bit beside h: l once, h twice. The planes
 * weigh 1, 2, 4 and -8. */
#include "kernels/distance/asym4.h"

#include <string.h>

void adm_distance_asym4_reference(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) {
    const int32_t largest = (int32_t)adm_asym4_largest(q, head_dim);
    for (size_t t = 0; t < n_tokens; t++, k += head_dim / 4)
        distance[t] = (uint16_t)(largest - adm_asym4_score(q, k, head_dim));
}

enum { MAX_WORDS = ADM_MAX_HEAD_DIM / 32 };

#define HIGH 0xaaaaaaaaaaaaaaaau

static inline uint64_t load64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline int32_t popc(uint64_t word) { return __builtin_popcountll(word); }

/* Each bit of 32 twice. */
static uint64_t doubled(const uint8_t *p) {
    uint64_t x = (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24;
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    x = (x | x << 2) & 0x3333333333333333u;
    x = (x | x << 1) & 0x5555555555555555u;
    return x | x << 1;
}

static inline int32_t plane_sum(uint64_t key, uint64_t plane) { return popc(key & plane) + popc(key & plane & HIGH); }

/* Inlined with a constant n_words, so that the loop over words unrolls. */
static inline __attribute__((always_inline)) void rows(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t n_words,
                                                       uint16_t *distance) {
    const int32_t largest = (int32_t)adm_asym4_largest(q, 32 * n_words);
    uint64_t plane[ADM_ASYM4_PLANES][MAX_WORDS];
    for (uint32_t p = 0; p < ADM_ASYM4_PLANES; p++)
        for (uint32_t w = 0; w < n_words; w++) plane[p][w] = doubled(q + 4 * (p * n_words + w));
    for (size_t t = 0; t < n_tokens; t++, k += 8 * n_words) {
        int32_t sum = 0;
        for (uint32_t w = 0; w < n_words; w++) {
            const uint64_t key = load64(k + 8 * w);
            sum += plane_sum(key, plane[0][w]) + 2 * plane_sum(key, plane[1][w]) + 4 * plane_sum(key, plane[2][w]) -
                   8 * plane_sum(key, plane[3][w]);
        }
        distance[t] = (uint16_t)(largest - sum);
    }
}

void adm_distance_asym4(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) {
    switch (head_dim) {
    case 64: rows(q, k, n_tokens, 2, distance); break;
    case 128: rows(q, k, n_tokens, 4, distance); break;
    case 256: rows(q, k, n_tokens, 8, distance); break;
    }
}
