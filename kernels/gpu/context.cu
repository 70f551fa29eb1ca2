/* context.cu: a device that was opened; see context.h. */
#include "core/base/mem.h"
#include "kernels/gpu/context.cuh"

adm_status adm_gpu_status(adm_gpu *gpu, cudaError_t result, const char *doing, adm_error *err) {
    if (result == cudaSuccess) return ADM_OK;
    if (cudaStreamQuery(gpu->stream) == result && result != cudaErrorNotReady) gpu->alive = false;
    cudaGetLastError();
    return adm_fail(err, ADM_EENVIRONMENT, "%s: %s failed: %s", gpu->info.name, doing, cudaGetErrorString(result));
}

extern "C" adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err) {
    adm_device_info list[16];
    int n = 0;
    *out = NULL;
    adm_status status = adm_device_list(list, 16, &n, err);
    if (status != ADM_OK) return status;
    if (n > 16) n = 16;
    if (device < 0 || device >= n) return adm_fail(err, ADM_EINPUT, "device %d: there are devices 0 to %d", device, n - 1);
    adm_gpu *gpu = NULL;
    status = adm_alloc(&gpu, 1, sizeof *gpu, "GPU", err);
    if (status != ADM_OK) return status;
    gpu->info = list[device];
    gpu->alive = true;
    cudaError_t result = cudaSetDevice(device);
    if (result == cudaSuccess) result = cudaStreamCreateWithFlags(&gpu->stream, cudaStreamNonBlocking);
    if (result == cudaSuccess) result = cudaEventCreate(&gpu->before);
    if (result == cudaSuccess) result = cudaEventCreate(&gpu->after);
    if (result != cudaSuccess) {
        status = adm_gpu_status(gpu, result, "opening the device", err);
        adm_gpu_close(&gpu);
        return status;
    }
    *out = gpu;
    return ADM_OK;
}

extern "C" void adm_gpu_close(adm_gpu **gpu) {
    if (*gpu == NULL) return;
    if ((*gpu)->before != NULL) cudaEventDestroy((*gpu)->before);
    if ((*gpu)->after != NULL) cudaEventDestroy((*gpu)->after);
    if ((*gpu)->stream != NULL) cudaStreamDestroy((*gpu)->stream);
    adm_free(gpu);
}

extern "C" const adm_device_info *adm_gpu_device(const adm_gpu *gpu) { return &gpu->info; }
extern "C" adm_gpu_stream adm_gpu_stream_of(const adm_gpu *gpu) { return gpu->stream; }
extern "C" bool adm_gpu_alive(const adm_gpu *gpu) { return gpu->alive; }

extern "C" adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err) {
    cudaError_t result = cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, gpu->stream);
    if (result == cudaSuccess) result = cudaStreamSynchronize(gpu->stream);
    return adm_gpu_status(gpu, result, "reading results", err);
}
