/* memory.h: plain device memory for C files that prepare their own buffers (tests, benchmarks); case.h
 * makes whole cases. memory.cu answers in a build with CUDA, none.c in one without. */
#ifndef ADM_KERNELS_GPU_MEMORY_H
#define ADM_KERNELS_GPU_MEMORY_H

#include <stddef.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Allocates on the current device, aligned to 256 bytes, every byte set to `fill`. *out is NULL on failure.
 * ADM_EENVIRONMENT with the size and CUDA's words; ADM_EUNSUPPORTED without CUDA. Release with
 * adm_gpu_release(). */
adm_status adm_gpu_allocate(size_t bytes, unsigned char fill, void **out, adm_error *err);

/* Takes the address of the pointer, nulls it; NULL is fine. */
void adm_gpu_release(void *pointer_address);

/* Copies to, or sets, device memory; waits for the device before and after. */
adm_status adm_gpu_write(void *device, const void *host, size_t bytes, adm_error *err);
adm_status adm_gpu_fill(void *device, unsigned char value, size_t bytes, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
