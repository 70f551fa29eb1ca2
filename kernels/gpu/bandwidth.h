/* bandwidth.h: the read limit of a device, to which every percentage of a roofline refers. bandwidth.cu answers in a build
 * with CUDA, none.c in one without. */
#ifndef ADM_KERNELS_GPU_BANDWIDTH_H
#define ADM_KERNELS_GPU_BANDWIDTH_H

#include <stddef.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes per second at which a plain kernel reads device memory on the current device: it loads every 16 bytes of
 * a buffer of buffer_bytes once and adds them up. The best of several grid sizes, each the median of 9 passes
 * after a warm-up. buffer_bytes 0: 64 times the level-2 cache, so that it holds less than 2% of what is read.
 * Takes about 0.2 s. ADM_EINPUT for a buffer below 8 times the L2, which would measure the cache;
 * ADM_EENVIRONMENT when CUDA fails or memory is short, with the size; ADM_EUNSUPPORTED without CUDA.
 * *bytes_per_s is 0 on failure. */
adm_status adm_bandwidth_read(size_t buffer_bytes, double *bytes_per_s, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
