/* case.cuh: the inside of a case, for the CUDA files of this room. */
#ifndef ADM_KERNELS_GPU_CASE_CUH
#define ADM_KERNELS_GPU_CASE_CUH

#include "kernels/gpu/case.h"
#include "kernels/gpu/context.cuh"

struct adm_gpu_case {
    adm_gpu *gpu;
    adm_gpu_shape shape;       /* with the present budget */
    adm_gpu_shape max_shape;   /* with the largest budget, for which everything is laid out */
    adm_gpu_plan plan;
    char *copies, *sets, *shared;
    int32_t *d_pages, *h_pages;
    adm_gpu_buffers *buffers;  /* [n_sets] */
    float (*threshold)[3];     /* [n_layers] */
};

/* Enqueues implementations one after another on a set. */
adm_status adm_gpu_case_enqueue(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                                adm_error *err);

#endif
