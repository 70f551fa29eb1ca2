/* fill.cuh: the inputs of a GPU case. */
#ifndef ADM_KERNELS_GPU_FILL_CUH
#define ADM_KERNELS_GPU_FILL_CUH

#include "kernels/gpu/case.cuh"

/* Fills the copies and sets of a case that has its memory, page table and thresholds. */
adm_status adm_gpu_case_fill(adm_gpu_case *gpu_case, const adm_gpu_inputs *inputs, adm_error *err);

#endif
