/* gpu_work.h: what a unit of GPU work must move and compute for one layer of one decode step of a whole batch: the bytes
 * behind the floor and the percentage of the read limit.
 *
 * Compulsory traffic: a unit reads its inputs once and writes its results once. What one stage hands to the next counts only
 * where the two are separate units. Where one unit covers both it does not count, whether the unit is one kernel or six: a
 * step's floor is the queries, the new token, the codes, the selected rows and the result. Ignored: partial results, the page
 * table, and that a row of codes moves in whole 32-byte sectors. */
#ifndef ADM_KERNELS_GPU_WORK_H
#define ADM_KERNELS_GPU_WORK_H

#include "kernels/gpu/gpu.h"
#include "kernels/registry.h"

/* Sums over the sequences of a batch. */
typedef struct adm_gpu_load {
    double n_tokens;    /* in the caches */
    double n_selected;  /* held by one selection */
    double n_distinct;  /* different ones that the query heads of a group attend to */
} adm_gpu_load;

/* covers: bits 1 << adm_stage. */
adm_work adm_gpu_work(const adm_gpu_shape *shape, uint32_t covers, const adm_gpu_load *load);

/* Bytes of K, V and codes that a call must read from memory where the caches are cold: all that is not handed over between
 * stages or small. A group's selections may overlap, so each KV head counts one selection. */
double adm_gpu_cache_bytes(const adm_gpu_shape *shape, uint32_t covers, const adm_gpu_load *load);

/* How many of the bytes of adm_gpu_work() are written. */
double adm_gpu_write_bytes(const adm_gpu_shape *shape, uint32_t covers, const adm_gpu_load *load);

#endif
