/* rng.h: seeded random numbers that are the same on every machine. */
#ifndef ADM_CORE_STATS_RNG_H
#define ADM_CORE_STATS_RNG_H

#include <stdint.h>

/* xoshiro256** (Blackman and Vigna, 2018, https://prng.di.unimi.it), seeded through SplitMix64 as its authors advise. */
typedef struct adm_rng {
    uint64_t s[4];
} adm_rng;

void adm_rng_seed(adm_rng *rng, uint64_t seed);

/* Uniform over all 64-bit values. */
uint64_t adm_rng_u64(adm_rng *rng);

/* Uniform over 0 .. bound-1, without modulo bias; a bound of 0 gives 0. */
uint64_t adm_rng_below(adm_rng *rng, uint64_t bound);

/* Uniform in [0, 1), 53 bits. */
double adm_rng_unit(adm_rng *rng);

/* Standard normal, by the polar method. */
double adm_rng_normal(adm_rng *rng);

#endif
