/* static.h: registers, shared memory and spills of every kernel, as the CUDA assembler stated them. */
#ifndef ADM_KERNELS_SASS_STATIC_H
#define ADM_KERNELS_SASS_STATIC_H

#include "core/store/store.h"

/* Stores registers, static shared memory, stack and spills of every kernel and architecture of this build, as the CUDA
 * assembler stated them: policy 'static', variant "KERNEL ARCH", the stage its file is about. Sets *n_kernels to the
 * rows; 0 in a build without CUDA. */
adm_status adm_profile_static(adm_store *store, int64_t run_id, size_t *n_kernels, adm_error *err);

/* A kernel of this build that serves a stage. */
typedef struct adm_static_kernel {
    const char *stage, *source, *kernel, *arch;
    int registers, shared_bytes, stack_bytes, spill_store_bytes, spill_load_bytes; /* shared: static */
} adm_static_kernel;

/* Calls `each` for every such kernel; none in a build without CUDA. */
adm_status adm_static_each(void (*each)(void *user, const adm_static_kernel *kernel), void *user, adm_error *err);

#endif
