/* bandwidth.cu: a plain read of a large buffer; see bandwidth.h.
 *
 *   1  a grid-stride loop of 16-byte loads, 8 in flight per thread, swept over 1 to 32 blocks per SM; the best counts:
 *      4.56 to 4.67 TB/s on an H200 */
#include "kernels/gpu/bandwidth.h"

#include <algorithm>

#include "kernels/gpu/common.cuh"

enum { THREADS = 512, IN_FLIGHT = 8, PASSES = 9 };

/* Adds up in [n] and keeps the sum where it cannot be optimised away. n: a multiple of THREADS * IN_FLIGHT. */
__global__ void __launch_bounds__(THREADS) read_kernel(const uint4 *in, size_t n, uint32_t *sink) {
    uint32_t sum = 0;
    const size_t chunk = (size_t)THREADS * IN_FLIGHT;
    for (size_t at = blockIdx.x * chunk; at < n; at += gridDim.x * chunk) {
        uint4 x[IN_FLIGHT];
#pragma unroll
        for (int i = 0; i < IN_FLIGHT; i++) x[i] = __ldcs(in + at + i * THREADS + threadIdx.x);
#pragma unroll
        for (int i = 0; i < IN_FLIGHT; i++) sum += x[i].x ^ x[i].y ^ x[i].z ^ x[i].w;
    }
    if (sum == 0x9e3779b9u) *sink = sum; /* the buffer is zeros, so never */
}

struct read_events {
    cudaEvent_t before, after;
};

/* The median of PASSES passes, in milliseconds. */
static cudaError_t median_ms(const read_events &events, unsigned blocks, const uint4 *in, size_t n, uint32_t *sink, float *ms) {
    float pass[PASSES];
    for (int i = -1; i < PASSES; i++) {
        cudaError_t error = cudaEventRecord(events.before);
        read_kernel<<<blocks, THREADS>>>(in, n, sink);
        if (error == cudaSuccess) error = cudaGetLastError();
        if (error == cudaSuccess) error = cudaEventRecord(events.after);
        if (error == cudaSuccess) error = cudaEventSynchronize(events.after);
        if (error == cudaSuccess && i >= 0) error = cudaEventElapsedTime(&pass[i], events.before, events.after);
        if (error != cudaSuccess) return error;
    }
    std::sort(pass, pass + PASSES);
    *ms = pass[PASSES / 2];
    return cudaSuccess;
}

static cudaError_t best_of(const read_events &events, unsigned n_sms, const uint4 *in, size_t n, uint32_t *sink,
                           double *bytes_per_s) {
    for (unsigned a_sm = 1; a_sm <= 32; a_sm *= 2) {
        float ms = 0;
        cudaError_t error = median_ms(events, n_sms * a_sm, in, n, sink, &ms);
        if (error != cudaSuccess) return error;
        *bytes_per_s = std::max(*bytes_per_s, (double)n * sizeof(uint4) / ((double)ms * 1e-3));
    }
    return cudaSuccess;
}

extern "C" adm_status adm_bandwidth_read(size_t buffer_bytes, double *bytes_per_s, adm_error *err) {
    const size_t unit = (size_t)THREADS * IN_FLIGHT * sizeof(uint4);
    int device = 0, l2_bytes = 0;
    *bytes_per_s = 0;
    adm_gpu_limits limits;
    adm_status status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) error = cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device);
    if (error != cudaSuccess) return adm_cuda_status(error, "asking for the size of the L2", err);
    if (buffer_bytes == 0) buffer_bytes = 64 * (size_t)l2_bytes;
    if (buffer_bytes < 8 * (size_t)l2_bytes)
        return adm_fail(err, ADM_EINPUT, "a buffer of %zu bytes would measure the L2 of %d bytes: at least 8 times that",
                        buffer_bytes, l2_bytes);
    buffer_bytes = buffer_bytes / unit * unit;

    char *buffer = NULL;
    read_events events = {};
    double best = 0;
    error = cudaMalloc((void **)&buffer, buffer_bytes + sizeof(uint32_t));
    if (error == cudaSuccess) error = cudaMemset(buffer, 0, buffer_bytes);
    if (error == cudaSuccess) error = cudaEventCreate(&events.before);
    if (error == cudaSuccess) error = cudaEventCreate(&events.after);
    if (error == cudaSuccess)
        error = best_of(events, (unsigned)limits.n_sms, (const uint4 *)buffer, buffer_bytes / sizeof(uint4),
                        (uint32_t *)(buffer + buffer_bytes), &best);
    if (events.after != NULL) cudaEventDestroy(events.after);
    if (events.before != NULL) cudaEventDestroy(events.before);
    cudaFree(buffer);
    if (error != cudaSuccess) {
        cudaGetLastError();
        return adm_fail(err, ADM_EENVIRONMENT, "measuring the read bandwidth with a buffer of %zu bytes: CUDA says %s",
                        buffer_bytes, cudaGetErrorString(error));
    }
    *bytes_per_s = best;
    return ADM_OK;
}
