/* hadamard.h: the orthonormal Hadamard transform of queries and keys, y = H_d x / sqrt(d) in Sylvester order.
 * It spreads outlier channels over the whole row, so that one set of thresholds fits every element. */
#ifndef ADM_KERNELS_ENCODE_HADAMARD_H
#define ADM_KERNELS_ENCODE_HADAMARD_H

#include "core/contract/stage.h"

/* The transform as core/contract/stage.h fixes it, to the last bit: float32 butterflies. head_dim is a power of two up to
 * ADM_MAX_HEAD_DIM; x and y must not overlap. Overflow and NaN follow IEEE arithmetic. */
ADM_API adm_hadamard_fn adm_hadamard_reference;

#if defined(__x86_64__)
/* The same bits for head_dim 64, 128 and 256, on CPUs with adm_cpu_has_avx2() and adm_cpu_has_avx512(). A result
 * of megabytes bypasses the caches if y lies on a multiple of 64 bytes. */
ADM_API adm_hadamard_fn adm_hadamard_avx2;
ADM_API adm_hadamard_fn adm_hadamard_avx512;
#elif defined(__aarch64__)
ADM_API adm_hadamard_fn adm_hadamard_neon;
#endif

/* The same from the definition, in double: y_i = sum_j (-1)^popcount(i & j) x_j / sqrt(d). O(d^2) a row: the measure
 * of accuracy, not a stage. */
ADM_API void adm_hadamard_exact(adm_dtype dtype, const void *x, size_t n_rows, uint32_t head_dim, double *y);

/* Compulsory traffic of n_rows rows: x read and y written once. A decode step has n_q_heads + n_kv_heads rows per layer,
 * bulk encoding n_kv_heads rows per token. Ignored: a kernel fused with bucketing and packing never writes y. */
double adm_hadamard_bytes(adm_dtype dtype, double n_rows, uint32_t head_dim);

/* Additions and subtractions of the butterflies, and the scaling. */
double adm_hadamard_flops(double n_rows, uint32_t head_dim);

#endif
