/* emulate_runtime.cpp: of the CUDA runtime and of context.h and memory.h the few functions that the launchers and the tests
 * of kernels call. */
#include "kernels/gpu/memory.h"
#include "kernels/gpu/context.h"
#include "tests/support/emulate/emulate.h"

/* ---- of the CUDA runtime, what common.cuh calls ---- */

extern "C" {

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **args) {
    emu_launch l = {};
    l.kernel = (void (*)(emu_unread))kernel;
    l.args = args;
    l.grid = config->gridDim;
    l.n_blocks = 1;
    l.n_threads = config->blockDim.x;
    l.shared_bytes = config->dynamicSmemBytes;
    for (unsigned i = 0; i < config->numAttrs; i++)
        if (config->attrs[i].id == cudaLaunchAttributeClusterDimension) l.n_blocks = config->attrs[i].val.clusterDim.x;
    if (l.n_blocks < 1 || l.n_blocks > EMU_MAX_CLUSTER || l.grid.x % l.n_blocks != 0 || l.n_threads > EMU_MAX_THREADS ||
        l.n_threads == 0 || l.n_threads % EMU_WARP != 0 || l.shared_bytes > EMU_BLOCK_SHARED_BYTES)
        return cudaErrorInvalidConfiguration;
    l.n_clusters = l.grid.x / l.n_blocks * l.grid.y * l.grid.z;
    if (l.n_clusters == 0) return cudaErrorInvalidConfiguration;
    emu_run(&l);
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrComputeCapabilityMajor             ? 9
             : attribute == cudaDevAttrMultiProcessorCount              ? EMU_N_SMS
             : attribute == cudaDevAttrMaxSharedMemoryPerBlockOptin     ? EMU_BLOCK_SHARED_BYTES
             : attribute == cudaDevAttrMaxSharedMemoryPerMultiprocessor ? EMU_SM_SHARED_BYTES
                                                                        : -1;
    return *value >= 0 ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
const char *cudaGetErrorString(cudaError_t) { return "the emulation does not take this launch"; }
const char *cudaGetErrorName(cudaError_t error) { return error == cudaErrorInvalidConfiguration ? "configuration" : "value"; }

/* ---- of context.h and memory.h, what tests of kernels call: device memory is the host's ---- */

struct adm_gpu {
    adm_device_info info;
};

adm_status adm_gpu_open(int, adm_gpu **out, adm_error *) {
    static adm_gpu the_gpu;
    strcpy(the_gpu.info.name, "emulated");
    the_gpu.info.compute_major = 9;
    the_gpu.info.n_sms = EMU_N_SMS;
    *out = &the_gpu;
    return ADM_OK;
}
void adm_gpu_close(adm_gpu **gpu) { *gpu = NULL; }
const adm_device_info *adm_gpu_device(const adm_gpu *gpu) { return &gpu->info; }
adm_gpu_stream adm_gpu_stream_of(const adm_gpu *) { return NULL; }

adm_status adm_gpu_allocate(size_t bytes, unsigned char fill, void **out, adm_error *err) {
    *out = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (*out == NULL) return adm_fail(err, ADM_EENVIRONMENT, "no memory for %zu bytes", bytes);
    memset(*out, fill, bytes);
    return ADM_OK;
}
void adm_gpu_release(void *pointer_address) {
    void *p;
    memcpy(&p, pointer_address, sizeof p);
    free(p);
    memset(pointer_address, 0, sizeof p);
}
adm_status adm_gpu_write(void *device, const void *host, size_t bytes, adm_error *) {
    memcpy(device, host, bytes);
    return ADM_OK;
}
adm_status adm_gpu_fill(void *device, unsigned char value, size_t bytes, adm_error *) {
    memset(device, value, bytes);
    return ADM_OK;
}
adm_status adm_gpu_read(adm_gpu *, const void *device, size_t bytes, void *host, adm_error *) {
    memcpy(host, device, bytes);
    return ADM_OK;
}
}
