/* distance_metric.h: the distances that L1 is compared with, directly on packed codes: xor, l2, sign and dot of 2 bits, and
 * the Hamming distance, which every metric of core/contract/stage.h is for codes of 1 bit. Of two words of 32 elements, with
 * x = a ^ b, low and high the masks of the even and odd bits, popc the count of bits:
 *
 *   xor       popc(x & low) + 2 popc(x & high)
 *   sign      popc(x & high)
 *   l2        with |a - b| in two bits h l (see distance_simd.c): |a - b|^2 = l + 4 h + 4 (h & l)
 *   dot       l2 + 4 for each element - 2 for each outer code (0 or 3) in a or in b: of codes as the odd numbers A, B,
 *             A^2 + B^2 - 2 A B = 4 (a - b)^2, and A^2 is 9 for an outer code, else 1
 *   hamming   popc(x), 64 elements per word */
#ifndef ADM_KERNELS_DISTANCE_DISTANCE_METRIC_H
#define ADM_KERNELS_DISTANCE_DISTANCE_METRIC_H

#include "kernels/distance/distance.h"

/* A word at a time (adm_distance_xor is one of them). head_dim is 64, 128 or 256; rows are read as bytes at any address. */
ADM_API adm_distance_fn adm_distance_l2;
ADM_API adm_distance_fn adm_distance_sign;
ADM_API adm_distance_fn adm_distance_dot;
ADM_API adm_distance_fn adm_distance_hamming; /* rows of d/8 bytes */

#if defined(__x86_64__)
/* The same 64 bytes at a time, for CPUs with adm_cpu_has_avx512(). */
ADM_API adm_distance_fn adm_distance_xor_avx512;
ADM_API adm_distance_fn adm_distance_l2_avx512;
ADM_API adm_distance_fn adm_distance_sign_avx512;
ADM_API adm_distance_fn adm_distance_dot_avx512;
ADM_API adm_distance_fn adm_distance_hamming_avx512;

/* The word versions compiled for the bit count of CPUs with adm_cpu_has_avx2(). */
ADM_API adm_distance_fn adm_distance_xor_popcnt;
ADM_API adm_distance_fn adm_distance_l2_popcnt;
ADM_API adm_distance_fn adm_distance_sign_popcnt;
ADM_API adm_distance_fn adm_distance_dot_popcnt;
ADM_API adm_distance_fn adm_distance_hamming_popcnt;
#endif

#endif
