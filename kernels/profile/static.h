/* static.h: registers, shared memory and spills of every kernel, as the CUDA assembler stated them. */
#ifndef ADM_KERNELS_PROFILE_STATIC_H
#define ADM_KERNELS_PROFILE_STATIC_H

#include "core/store/store.h"

/* Stores registers, static shared memory, stack and spills of every kernel and architecture of this build, as the CUDA
 * assembler stated them: policy 'static', variant "KERNEL ARCH", the stage its file is about. Sets *n_kernels to the
 * rows; 0 in a build without CUDA. */
adm_status adm_profile_static(adm_store *store, int64_t run_id, size_t *n_kernels, adm_error *err);

#endif
