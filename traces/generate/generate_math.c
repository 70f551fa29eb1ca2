/* generate_math.c: random numbers, logarithms and rotations whose bits are the same on every machine. */
#include "traces/generate/generate_math.h"

#include <math.h>
#include <stddef.h>

static const double two_pi = 6.283185307179586;

/* SplitMix64's finaliser. */
static uint64_t mix(uint64_t z) {
    z += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void adm_gen_stream(adm_rng *rng, uint64_t seed, uint64_t what, uint64_t a, uint64_t b, uint64_t c) {
    adm_rng_seed(rng, mix(mix(mix(mix(mix(seed) ^ what) ^ a) ^ b) ^ c));
}

double adm_gen_normal(adm_rng *rng) {
    uint64_t x = adm_rng_u64(rng), y = adm_rng_u64(rng);
    int64_t sum = 0;
    for (int i = 0; i < 64; i += 16) sum += (int64_t)((x >> i & 0xffff) + (y >> i & 0xffff));
    /* Each is uniform on 0 .. 2^16-1: mean (2^16-1)/2, variance (2^32-1)/12. */
    return (double)(sum - 4 * 0xffff) / 53509.91992145008; /* sqrt(8 variances) */
}

double adm_gen_between(adm_rng *rng, double low, double high) { return low + (high - low) * adm_rng_unit(rng); }

double adm_gen_log(double x) {
    int exponent;
    double m = frexp(x, &exponent); /* exact */
    if (m < 0.7071067811865476) {
        m *= 2.0;
        exponent--;
    }
    double y = (m - 1.0) / (m + 1.0), y2 = y * y, term = y, sum = 0; /* |y| < 0.172: y^2k falls by 34 a term */
    for (int k = 1; k < 24; k += 2) {
        sum += term / (double)k;
        term *= y2;
    }
    return 2.0 * sum + (double)exponent * 0.6931471805599453;
}

double adm_gen_exp(double x) {
    if (x < -700.0) return 0.0;
    if (x > 700.0) x = 700.0;
    double n = floor(x / 0.6931471805599453 + 0.5), r = x - n * 0.6931471805599453; /* |r| <= 0.35 */
    double term = 1.0, sum = 1.0;
    for (int k = 1; k < 14; k++) {
        term *= r / (double)k;
        sum += term;
    }
    return ldexp(sum, (int)n); /* exact */
}

void adm_gen_circle(double turns, double *cosine, double *sine) {
    double eighths = (turns - floor(turns)) * 8.0; /* floor is exact */
    int octant = (int)eighths;
    int quarter = (octant + 1) / 2 % 4;
    double a = (eighths - 2.0 * (double)((octant + 1) / 2)) * (two_pi / 8.0), a2 = a * a; /* |a| <= pi/4 */
    double s = a, c = 1.0, term_s = a, term_c = 1.0;
    for (int k = 1; k < 9; k++) {
        term_c *= -a2 / (double)((2 * k - 1) * (2 * k));
        term_s *= -a2 / (double)((2 * k) * (2 * k + 1));
        c += term_c;
        s += term_s;
    }
    const double cosines[4] = {c, -s, -c, s}, sines[4] = {s, c, -s, -c};
    *cosine = cosines[quarter];
    *sine = sines[quarter];
}

void adm_gen_rope_turns(double base, uint32_t d, double *turns) {
    double root = base; /* base^(2/d), by square roots, which are exactly rounded where pow is not */
    for (uint32_t n = d / 2; n > 1; n /= 2) root = sqrt(root);
    double theta = 1.0;
    for (uint32_t j = 0; j < d / 2; j++) {
        turns[j] = theta / two_pi;
        theta /= root;
    }
}
