/* rng.c: seeded random numbers that are the same on every machine. */
#include "core/stats/rng.h"

#include <math.h>

static uint64_t rotate_left(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

void adm_rng_seed(adm_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        rng->s[i] = z ^ (z >> 31);
    }
}

uint64_t adm_rng_u64(adm_rng *rng) {
    uint64_t *s = rng->s;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

uint64_t adm_rng_below(adm_rng *rng, uint64_t bound) {
    if (bound == 0) return 0;
    uint64_t reject_below = -bound % bound; /* 2^64 mod bound: the values that would make the first residues likelier */
    uint64_t x;
    do x = adm_rng_u64(rng);
    while (x < reject_below);
    return x % bound;
}

double adm_rng_unit(adm_rng *rng) { return (double)(adm_rng_u64(rng) >> 11) * 0x1p-53; }

double adm_rng_normal(adm_rng *rng) {
    double x, y, r2;
    do {
        x = 2.0 * adm_rng_unit(rng) - 1.0;
        y = 2.0 * adm_rng_unit(rng) - 1.0;
        r2 = x * x + y * y;
    } while (r2 >= 1.0 || r2 == 0.0);
    return x * sqrt(-2.0 * log(r2) / r2);
}
