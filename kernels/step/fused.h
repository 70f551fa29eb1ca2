/* fused.h: a whole decode step of one layer on a GPU, in one launch; see kernels/gpu/gpu.h. */
#ifndef ADM_KERNELS_STEP_FUSED_H
#define ADM_KERNELS_STEP_FUSED_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

adm_gpu_launch_fn adm_gpu_step_fused;

/* The same with `split` blocks per cluster: 1, 2, 4, 8; 0: the default. */
adm_status adm_gpu_step_fused_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                    adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
