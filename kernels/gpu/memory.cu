/* memory.cu: device memory; see memory.h. */
#include "kernels/gpu/memory.h"

#include <cuda_runtime.h>

static adm_status status_of(cudaError_t error, const char *what, size_t bytes, adm_error *err) {
    if (error == cudaSuccess) return ADM_OK;
    cudaGetLastError(); /* the runtime would report it again to the next caller */
    return adm_fail(err, ADM_EENVIRONMENT, "%s %zu bytes on the device: CUDA says %s (%s)", what, bytes,
                    cudaGetErrorString(error), cudaGetErrorName(error));
}

extern "C" adm_status adm_gpu_allocate(size_t bytes, unsigned char fill, void **out, adm_error *err) {
    *out = NULL;
    adm_status status = status_of(cudaMalloc(out, bytes > 0 ? bytes : 1), "allocating", bytes, err);
    if (status == ADM_OK) status = adm_gpu_fill(*out, fill, bytes, err);
    if (status != ADM_OK) adm_gpu_release(out);
    return status;
}

extern "C" void adm_gpu_release(void *pointer_address) {
    void **pointer = (void **)pointer_address;
    cudaFree(*pointer);
    *pointer = NULL;
}

extern "C" adm_status adm_gpu_write(void *device, const void *host, size_t bytes, adm_error *err) {
    cudaError_t error = cudaDeviceSynchronize();
    if (error == cudaSuccess) error = cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice);
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
    return status_of(error, "writing", bytes, err);
}

extern "C" adm_status adm_gpu_fill(void *device, unsigned char value, size_t bytes, adm_error *err) {
    cudaError_t error = cudaDeviceSynchronize();
    if (error == cudaSuccess) error = cudaMemset(device, value, bytes);
    if (error == cudaSuccess) error = cudaDeviceSynchronize();
    return status_of(error, "setting", bytes, err);
}
