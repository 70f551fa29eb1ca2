/* generate_math.h: random numbers, logarithms and rotations whose bits are the same on every machine: integers, and
 * binary64 +, -, *, / and sqrt without contraction. The log, exp and sin of C libraries differ in their last bits. */
#ifndef ADM_TRACES_GENERATE_GENERATE_MATH_H
#define ADM_TRACES_GENERATE_GENERATE_MATH_H

#include <stdint.h>

#include "core/stats/rng.h"

/* A stream for one object, named by up to four numbers. */
void adm_gen_stream(adm_rng *rng, uint64_t seed, uint64_t what, uint64_t a, uint64_t b, uint64_t c);

/* Mean 0, variance 1, |z| < 4.9: the sum of eight 16-bit uniforms, near enough to normal for a channel's content
 * (kurtosis 2.85), and ten times cheaper than a logarithm. */
double adm_gen_normal(adm_rng *rng);

double adm_gen_between(adm_rng *rng, double low, double high);

/* Natural logarithm of a positive normal number, to 1e-14. */
double adm_gen_log(double x);

/* e^x, to 1e-13 of itself; 0 below -700, and x counts as 700 above. */
double adm_gen_exp(double x);

/* cos and sin of a whole circle times `turns`, |turns| < 2^40, to 1e-15 for the fraction that turns holds. */
void adm_gen_circle(double turns, double *cosine, double *sine);

/* turns[j] = base^(-2j/d) / (2 pi), j < d/2: what RoPE turns pair j by from token to token. d: a power of 2. */
void adm_gen_rope_turns(double base, uint32_t d, double *turns);

#endif
