/* registry.h: every GPU implementation, by stage and name. */
#ifndef ADM_KERNELS_GPU_REGISTRY_H
#define ADM_KERNELS_GPU_REGISTRY_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The rows, in the order of the stages; none in a build without CUDA. A row is constant and lives as long as the program. */
size_t adm_gpu_registry_count(void);

/* Row i < adm_gpu_registry_count(), else NULL. */
const adm_gpu_impl *adm_gpu_registry_at(size_t i);

/* The row of that stage and name, or NULL. */
const adm_gpu_impl *adm_gpu_registry_find(adm_stage stage, const char *name);

/* The table itself, [adm_gpu_n_rows]. This room knows no stage, so kernels/gpu_rows.c fills it in; without CUDA none.c leaves
 * it empty. Only registry.c reads it. */
extern const adm_gpu_impl *const adm_gpu_rows[];
extern const size_t adm_gpu_n_rows;

#ifdef __cplusplus
}
#endif

#endif
