/* context.h: an opened device: its stream, and copying results from it. */
#ifndef ADM_KERNELS_GPU_CONTEXT_H
#define ADM_KERNELS_GPU_CONTEXT_H

#include <stdbool.h>

#include "kernels/gpu/device.h"
#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_gpu adm_gpu;

/* Opens a device. ADM_EUNSUPPORTED with the reason where there is none (77 as an exit code). */
adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err);
void adm_gpu_close(adm_gpu **gpu);

/* What the device is; lives as long as the adm_gpu. */
const adm_device_info *adm_gpu_device(const adm_gpu *gpu);

/* The stream on which everything here runs. */
adm_gpu_stream adm_gpu_stream_of(const adm_gpu *gpu);

/* False after an error that destroys the CUDA context (an illegal address, say): nothing more will run. */
bool adm_gpu_alive(const adm_gpu *gpu);

/* Copies bytes from the device. */
adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
