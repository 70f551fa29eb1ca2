/* gpu_case.cuh: what gpu_run.cu, gpu_fill.cu and gpu_time.cu share: the device and the case behind gpu_run.h. */
#ifndef ADM_KERNELS_GPU_GPU_CASE_CUH
#define ADM_KERNELS_GPU_GPU_CASE_CUH

#include <cuda_runtime.h>

#include "core/base/minmax.h"
#include "kernels/gpu/gpu_run.h"

struct adm_gpu {
    adm_device_info info;
    cudaStream_t stream;
    cudaEvent_t before, after;
    bool alive;
};

struct adm_gpu_case {
    adm_gpu *gpu;
    adm_gpu_shape shape;       /* with the present budget */
    adm_gpu_shape most;        /* with the largest, for which everything is laid out */
    adm_gpu_plan plan;
    char *copies, *sets, *shared;
    int32_t *d_pages, *h_pages;
    adm_gpu_buffers *buffers;  /* [n_sets] */
    float (*threshold)[3];     /* [n_layers] */
};

/* Turns a CUDA result into a status; remembers a context that is gone. */
adm_status adm_gpu_status(adm_gpu *gpu, cudaError_t result, const char *doing, adm_error *err);

/* gpu_fill.cu: fills the copies and sets of a case that has its memory, page table and thresholds. */
adm_status adm_gpu_case_fill(adm_gpu_case *gpu_case, const adm_gpu_inputs *inputs, adm_error *err);

/* Enqueues implementations one after another on a set. */
adm_status adm_gpu_case_enqueue(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                                adm_error *err);

#endif
