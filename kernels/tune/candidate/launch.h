/* launch.h: what judging on a device needs beyond kernels/gpu: launching a kernel of a loaded module, and what a launcher's
 * kernels are made of. launch.cu answers in a build with CUDA, launch_none.c in one without. */
#ifndef ADM_KERNELS_TUNE_CANDIDATE_LAUNCH_H
#define ADM_KERNELS_TUNE_CANDIDATE_LAUNCH_H

#include "kernels/gpu/case.h"
#include "kernels/tune/candidate/candidate.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADM_LAUNCH_MAX_ARGUMENTS = 32 };

/* One launch of a module's kernel. */
typedef struct adm_tune_launch {
    uint32_t grid[3], block[3], shared_bytes;
    uint32_t n_arguments;
    void *argument[ADM_LAUNCH_MAX_ARGUMENTS];   /* each points to its value */
    uint64_t value[ADM_LAUNCH_MAX_ARGUMENTS];   /* bytes of the values, first byte first */
} adm_tune_launch;

/* A kernel of a .cubin or .ptx on the current device. ADM_EINPUT with CUDA's words: not a module for this device, no such
 * kernel. */
typedef struct adm_tune_module adm_tune_module;
adm_status adm_tune_module_load(const char *path, const char *kernel, adm_tune_module **out, adm_error *err);
adm_status adm_tune_module_run(const adm_tune_module *module, const adm_tune_launch *launch, adm_gpu_stream stream,
                               adm_error *err);

/* CUDA's words for an error number. */
const char *adm_tune_cuda_words(int error);

/* Gives the L2 back what a candidate may have set aside as persisting. */
adm_status adm_tune_reset_l2(adm_error *err);

/* Captures one call on set 0 and reads its kernels' registers, shared memory, grid and occupancy. What cannot be read stays as
 * it is. */
adm_status adm_tune_inspect(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_impl *impl, adm_tune_resources *resources,
                            adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
