/* encode.h: the encoding stages on a GPU, for one layer of one decode step of a batch; see kernels/gpu/gpu.h. */
#ifndef ADM_KERNELS_ENCODE_ENCODE_H
#define ADM_KERNELS_ENCODE_ENCODE_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The four stages, a launch each. */
adm_gpu_launch_fn adm_gpu_hadamard, adm_gpu_bucket, adm_gpu_pack, adm_gpu_append;

/* All four in one launch. */
adm_gpu_launch_fn adm_gpu_encode_step;

/* The codes of every key in K, as after a prompt. */
adm_gpu_launch_fn adm_gpu_encode_prompt;

#ifdef __cplusplus
}
#endif

#endif
