/* distance.h: how far each token's codes are from the query's, by L1. Others, for comparison, are in distance_metric.h;
 * among them what the authors released:
 *
 *   l1    sum |a - b|, the paper's and this project's contract
 *   xor   sum (a ^ b) over 2-bit codes, what the authors' released CUDA kernel computes as
 *         popc(x & 0x5555) + 2 popc(x & 0xAAAA) with x = a ^ b. It is not L1:
 *
 *              l1  b=0 1 2 3        xor b=0 1 2 3
 *         a=0        0 1 2 3            0 1 2 3
 *           1        1 0 1 2            1 0 3 2      the pair (1,2): neighbours, the middle of the range,
 *           2        2 1 0 1            2 3 0 1      scored as far apart as (0,3)
 *           3        3 2 1 0            3 2 1 0
 *
 * Both lie in 0..3d. Any row address will do: rows are read as bytes. */
#ifndef ADM_KERNELS_DISTANCE_DISTANCE_H
#define ADM_KERNELS_DISTANCE_DISTANCE_H

#include "core/contract/stage.h"
#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* L1, element by element. head_dim is a multiple of 4. */
ADM_API adm_distance_fn adm_distance_reference;

/* L1, 32 elements at a time. head_dim is 64, 128 or 256. */
ADM_API adm_distance_fn adm_distance_l1;

#if defined(__x86_64__)
/* L1, 16 tokens at a time, for CPUs with adm_cpu_has_avx2() and adm_cpu_has_avx512(). head_dim as above. */
ADM_API adm_distance_fn adm_distance_l1_avx2;
ADM_API adm_distance_fn adm_distance_l1_avx512;
#elif defined(__aarch64__)
ADM_API adm_distance_fn adm_distance_l1_neon;
#endif

/* The xor metric, 32 elements at a time. head_dim is 64, 128 or 256. */
ADM_API adm_distance_fn adm_distance_xor;

/* Compulsory traffic of one layer of one decode step: the code cache of every KV head and the queries' codes read once,
 * a distance for every query head and token written. Query heads of one group share the read of their KV head. */
double adm_distance_bytes(const adm_shape *shape, double n_tokens);

/* Subtraction, absolute value and addition an element and query head, whatever tricks a kernel uses. */
double adm_distance_flops(const adm_shape *shape, double n_tokens);

/* On a GPU (kernels/gpu/gpu.h): planes -> distance [batch][S][capacity]. */
adm_gpu_launch_fn adm_gpu_distance_l1, adm_gpu_distance_xor, adm_gpu_distance_dot;
/* Of codes of the metric asym4 (shape->metric), which the others do not take. */
adm_gpu_launch_fn adm_gpu_distance_asym4;
/* adm_gpu_distance_l1 by counts of bits, whatever the shape. */
adm_gpu_launch_fn adm_gpu_distance_l1_counts;

/* adm_gpu_distance_l1 with `blocks_per_sm` blocks per SM, 0: as many as were fastest, and else `stages` (1 to 8) loads in
 * flight per warp. */
adm_status adm_gpu_distance_l1_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t blocks_per_sm,
                                     uint32_t stages, adm_gpu_stream stream, adm_error *err);

/* adm_gpu_distance_asym4 likewise, by counts of bits in place of products if so asked. */
adm_status adm_gpu_distance_asym4_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t blocks_per_sm,
                                        uint32_t stages, bool by_counts, adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
