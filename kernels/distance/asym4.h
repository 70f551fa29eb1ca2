/* asym4.h: distances of a 4-bit query from 2-bit keys (core/contract/asym4.h has the definition): the query's largest possible
 * score less the key's score, so 0 is the best that any key could be.
 *
 * As an adm_distance_fn, `q` is not a packed row but the query's planes, [4][d/8] bytes; k is packed keys as everywhere. */
#ifndef ADM_KERNELS_DISTANCE_ASYM4_H
#define ADM_KERNELS_DISTANCE_ASYM4_H

#include "core/contract/asym4.h"
#include "core/contract/stage.h"
#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Element by element. head_dim is a multiple of 8. */
ADM_API adm_distance_fn adm_distance_asym4_reference;

/* 32 elements at a time, by bit counts. head_dim is 64, 128 or 256; rows are read as bytes at any address. */
ADM_API adm_distance_fn adm_distance_asym4;

#if defined(__x86_64__)
/* By products of bytes, 8 to 32 tokens at a time, for CPUs with adm_cpu_has_avx2() and adm_cpu_has_avx512(). head_dim as
 * above. */
ADM_API adm_distance_fn adm_distance_asym4_avx2;
ADM_API adm_distance_fn adm_distance_asym4_avx512;
#endif

#ifdef __cplusplus
}
#endif

#endif
