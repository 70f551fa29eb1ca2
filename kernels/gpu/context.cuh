/* context.cuh: the inside of an opened device, for the CUDA files of this room. */
#ifndef ADM_KERNELS_GPU_CONTEXT_CUH
#define ADM_KERNELS_GPU_CONTEXT_CUH

#include <cuda_runtime.h>

#include "kernels/gpu/context.h"

struct adm_gpu {
    adm_device_info info;
    cudaStream_t stream;
    cudaEvent_t before, after;
    bool alive;
};

/* Turns a CUDA result into a status; remembers a context that is gone. */
adm_status adm_gpu_status(adm_gpu *gpu, cudaError_t result, const char *doing, adm_error *err);

#endif
