/* device.cu: the CUDA runtime's answer to which devices there are. It launches nothing and creates no context. */
#include "kernels/gpu/device.h"

#include <cstdio>

#include <cuda_runtime.h>

/* "13.0" of 13000. */
struct version_text {
    char text[16];
};

static version_text text_of(int version) {
    version_text v;
    snprintf(v.text, sizeof v.text, "%d.%d", version / 1000, version % 1000 / 10);
    return v;
}

/* The sentence for why no device can be counted. */
static adm_status explain(cudaError_t error, int driver, int runtime, adm_error *err) {
    if (driver == 0)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "no NVIDIA driver was found: on a machine with an NVIDIA GPU install the driver (nvidia-smi "
                        "must list the GPU); start a container with the GPU, for instance docker run --gpus all");
    if (error == cudaErrorInsufficientDriver)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the NVIDIA driver supports CUDA up to %s and this program needs %s: update the driver",
                        text_of(driver).text, text_of(runtime).text);
    if (error == cudaErrorNoDevice || error == cudaSuccess)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the NVIDIA driver is there but shows no GPU: check nvidia-smi and that "
                        "CUDA_VISIBLE_DEVICES does not hide it");
    return adm_fail(err, ADM_EENVIRONMENT, "CUDA cannot list the devices: %s (%s): nvidia-smi may say more",
                    cudaGetErrorString(error), cudaGetErrorName(error));
}

/* Bytes per second at the memory clock, two transfers per cycle; 0: not known. */
static double memory_rate(int device) {
    int clock_khz = 0, bus_bits = 0;
    if (cudaDeviceGetAttribute(&clock_khz, cudaDevAttrMemoryClockRate, device) != cudaSuccess ||
        cudaDeviceGetAttribute(&bus_bits, cudaDevAttrGlobalMemoryBusWidth, device) != cudaSuccess)
        cudaGetLastError(); /* the runtime would report it again to the next caller */
    return 2.0 * 1e3 * clock_khz * bus_bits / 8;
}

static void format_uuid(const cudaUUID_t *uuid, char *text, size_t text_bytes) {
    const unsigned char *b = (const unsigned char *)uuid->bytes;
    snprintf(text, text_bytes, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
             b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

extern "C" adm_status adm_device_list(adm_device_info *out, int capacity, int *n, adm_error *err) {
    int driver = 0, runtime = 0, count = 0;
    *n = 0;
    cudaDriverGetVersion(&driver); /* stays 0 where there is no driver */
    cudaRuntimeGetVersion(&runtime);
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess || count == 0) {
        cudaGetLastError(); /* the runtime would report it again to the next caller */
        return explain(error, driver, runtime, err);
    }
    for (int i = 0; i < count && i < capacity; i++) {
        cudaDeviceProp properties;
        error = cudaGetDeviceProperties(&properties, i);
        if (error != cudaSuccess) {
            cudaGetLastError();
            return adm_fail(err, ADM_EENVIRONMENT, "CUDA cannot describe device %d: %s (%s)", i, cudaGetErrorString(error),
                            cudaGetErrorName(error));
        }
        adm_device_info *info = &out[i];
        *info = adm_device_info();
        snprintf(info->name, sizeof info->name, "%s", properties.name);
        format_uuid(&properties.uuid, info->uuid, sizeof info->uuid);
        if (cudaDeviceGetPCIBusId(info->pci, sizeof info->pci, i) != cudaSuccess) cudaGetLastError();
        for (char *c = info->pci; *c != '\0'; c++) /* CUDA writes capitals, sysfs does not */
            if (*c >= 'A' && *c <= 'F') *c = (char)(*c - 'A' + 'a');
        info->compute_major = properties.major;
        info->compute_minor = properties.minor;
        info->n_sms = properties.multiProcessorCount;
        info->l2_bytes = (uint64_t)properties.l2CacheSize;
        info->memory_bytes = properties.totalGlobalMem;
        info->memory_bytes_per_s = memory_rate(i);
        info->driver_version = driver;
        info->runtime_version = runtime;
    }
    *n = count;
    return ADM_OK;
}
