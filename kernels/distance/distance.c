/* distance.c: L1 on the host.
 *
 * The word version keeps 32 elements in a uint64_t, two bits each, and never looks across elements, so neither the
 * machine's byte order nor the row's alignment matters:
 *
 *   k        hl hl hl ... hl     h = k >> 1 & 01..01,  l = k & 01..01
 *   L1       written in unary a code is (>=1, >=2, >=3) = (h|l, h, h&l), and |a-b| is the number of positions in which
 *            two such codes differ: at most 3, which the two bits of the element hold
 *   sum      2-bit fields -> 4-bit -> 8-bit (at most 12 per word, 96 in the 8 words of d = 256) -> 16-bit -> one sum */
#include "kernels/distance/distance.h"

#include <stdlib.h>
#include <string.h>

void adm_distance_reference(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) {
    for (size_t t = 0; t < n_tokens; t++, k += head_dim / 4) {
        int sum = 0;
        for (uint32_t i = 0; i < head_dim; i++) {
            int shift = (int)(2 * (i % 4));
            sum += abs((q[i / 4] >> shift & 3) - (k[i / 4] >> shift & 3));
        }
        distance[t] = (uint16_t)sum;
    }
}

enum { MAX_WORDS = ADM_MAX_HEAD_DIM / 32 };

#define EVEN_BITS 0x5555555555555555u

/* The query in unary, one word of 32 elements. */
typedef struct unary {
    uint64_t ge1, ge2, ge3;
} unary;

static inline uint64_t load64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline unary unary_of(uint64_t word) {
    uint64_t h = word >> 1 & EVEN_BITS, l = word & EVEN_BITS;
    return (unary){h | l, h, h & l};
}

/* From 32 fields of 2 bits to 8 of 8 bits. */
static inline uint64_t bytes_of_fields(uint64_t fields) {
    fields = (fields & 0x3333333333333333u) + (fields >> 2 & 0x3333333333333333u);
    return (fields & 0x0f0f0f0f0f0f0f0fu) + (fields >> 4 & 0x0f0f0f0f0f0f0f0fu);
}

static inline uint16_t sum_of_bytes(uint64_t bytes) {
    uint64_t pairs = (bytes & 0x00ff00ff00ff00ffu) + (bytes >> 8 & 0x00ff00ff00ff00ffu);
    return (uint16_t)(pairs * 0x0001000100010001u >> 48);
}

/* Inlined with a constant n_words, so that the loop over words unrolls. */
static inline __attribute__((always_inline)) void l1_rows(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t n_words,
                                                          uint16_t *distance) {
    unary query[MAX_WORDS];
    for (uint32_t w = 0; w < n_words; w++) query[w] = unary_of(load64(q + 8 * w));
    for (size_t t = 0; t < n_tokens; t++, k += 8 * n_words) {
        uint64_t bytes = 0;
        for (uint32_t w = 0; w < n_words; w++) {
            unary key = unary_of(load64(k + 8 * w));
            bytes += bytes_of_fields((key.ge1 ^ query[w].ge1) + (key.ge2 ^ query[w].ge2) + (key.ge3 ^ query[w].ge3));
        }
        distance[t] = sum_of_bytes(bytes);
    }
}

void adm_distance_l1(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) {
    switch (head_dim) {
    case 64: l1_rows(q, k, n_tokens, 2, distance); break;
    case 128: l1_rows(q, k, n_tokens, 4, distance); break;
    case 256: l1_rows(q, k, n_tokens, 8, distance); break;
    }
}

double adm_distance_bytes(const adm_shape *shape, double n_tokens) {
    double row_bytes = shape->head_dim / 4;
    return shape->n_kv_heads * n_tokens * row_bytes + shape->n_q_heads * row_bytes +
           shape->n_q_heads * n_tokens * sizeof(uint16_t);
}

double adm_distance_flops(const adm_shape *shape, double n_tokens) {
    return 3.0 * shape->n_q_heads * n_tokens * shape->head_dim;
}
