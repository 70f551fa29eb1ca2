/* distance_metric.c: the distances that L1 is compared with, by bit counts of whole words. */
#include "kernels/distance/distance_metric.h"

#include <string.h>

#include "core/system/cpu.h"

#define LOW 0x5555555555555555u
#define HIGH 0xaaaaaaaaaaaaaaaau

typedef enum metric { XOR, L2, SIGN, DOT, HAMMING } metric;

static inline uint64_t load64(const uint8_t *p) {
    uint64_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

static inline uint32_t popc(uint64_t word) { return (uint32_t)__builtin_popcountll(word); }

/* |a - b| of each element in its two bits. It is a ^ b, except that the high bit falls where both bits differ and a is 1
 * or 2: its own two bits then differ, too. */
static inline uint64_t absolute(uint64_t a, uint64_t b) {
    uint64_t x = a ^ b;
    return x & ~(x << 1 & (a ^ a << 1) & HIGH);
}

static inline uint32_t outer_codes(uint64_t a) { return popc(~(a ^ a >> 1) & LOW); }

static inline __attribute__((always_inline)) uint32_t distance_of(metric m, uint64_t a, uint64_t b) {
    uint64_t x = m == L2 || m == DOT ? absolute(a, b) : a ^ b;
    switch (m) {
    case XOR: return popc(x) + popc(x & HIGH);
    case SIGN: return popc(x & HIGH);
    case DOT: /* the query's outer codes are taken off at the end */
    case L2: return popc(x & LOW) + 4 * (popc(x & HIGH) + popc(x & x >> 1 & LOW)) + (m == DOT ? 128 - 2 * outer_codes(b) : 0);
    case HAMMING: return popc(x);
    }
    return 0;
}

/* Inlined with constants, so that the loop over words unrolls. */
static inline __attribute__((always_inline)) void rows(metric m, const uint8_t *q, const uint8_t *k, size_t n_tokens,
                                                       uint32_t n_words, uint16_t *distance) {
    uint64_t query[ADM_MAX_HEAD_DIM / 32];
    uint32_t outer = 0;
    for (uint32_t w = 0; w < n_words; w++) {
        query[w] = load64(q + 8 * w);
        outer += m == DOT ? 2 * outer_codes(query[w]) : 0;
    }
    for (size_t t = 0; t < n_tokens; t++, k += 8 * n_words) {
        uint32_t sum = 0;
        for (uint32_t w = 0; w < n_words; w++) sum += distance_of(m, query[w], load64(k + 8 * w));
        distance[t] = (uint16_t)(sum - outer);
    }
}

static inline __attribute__((always_inline)) void every_width(metric m, const uint8_t *q, const uint8_t *k, size_t n_tokens,
                                                              uint32_t head_dim, uint16_t *distance) {
    switch (m == HAMMING ? head_dim / 2 : head_dim) {
    case 32: rows(m, q, k, n_tokens, 1, distance); break;
    case 64: rows(m, q, k, n_tokens, 2, distance); break;
    case 128: rows(m, q, k, n_tokens, 4, distance); break;
    case 256: rows(m, q, k, n_tokens, 8, distance); break;
    }
}

#define DEFINE(name, metric_name, attribute)                                                                          \
    attribute void name(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance) { \
        every_width(metric_name, q, k, n_tokens, head_dim, distance);                                                 \
    }

DEFINE(adm_distance_xor, XOR, )
DEFINE(adm_distance_l2, L2, )
DEFINE(adm_distance_sign, SIGN, )
DEFINE(adm_distance_dot, DOT, )
DEFINE(adm_distance_hamming, HAMMING, )

#if defined(__x86_64__)
#define POPCNT __attribute__((target("popcnt,bmi,bmi2")))
DEFINE(adm_distance_xor_popcnt, XOR, POPCNT)
DEFINE(adm_distance_l2_popcnt, L2, POPCNT)
DEFINE(adm_distance_sign_popcnt, SIGN, POPCNT)
DEFINE(adm_distance_dot_popcnt, DOT, POPCNT)
DEFINE(adm_distance_hamming_popcnt, HAMMING, POPCNT)
#endif
