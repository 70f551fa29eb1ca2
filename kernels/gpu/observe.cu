/* observe.cu: flushing the L2, waiting, and graphs by hand; see observe.h. */
#include "kernels/gpu/observe.h"

#include "core/base/mem.h"
#include "kernels/gpu/common.cuh"
#include "kernels/gpu/context.cuh"

enum { FLUSH_FACTOR = 4, THREADS = 512 };

struct adm_gpu_flusher {
    adm_gpu *gpu;
    uint4 *buffer;
    size_t n;        /* elements of 16 bytes */
    uint32_t *sink;
    unsigned blocks;
};

struct adm_gpu_graph {
    adm_gpu *gpu;
    cudaGraphExec_t exec;
};

extern "C" adm_status adm_gpu_wait(adm_gpu *gpu, adm_error *err) {
    return adm_cuda_status(cudaStreamSynchronize(adm_gpu_stream_of(gpu)), "waiting for the device", err);
}

/* One thread reads both clocks, at least CLOCK_NS apart: the timer ticks in steps of up to a microsecond. */
enum { CLOCK_NS = 200000 };

__global__ void compare_clocks(uint64_t *out) {
    uint64_t begin, now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin)::"memory");
    const long long cycles = clock64();
    do asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now)::"memory");
    while (now - begin < CLOCK_NS);
    out[1] = (uint64_t)(clock64() - cycles);
    out[0] = now - begin;
}

extern "C" adm_status adm_gpu_cycle_ns(adm_gpu *gpu, double *ns, adm_error *err) {
    uint64_t *device = NULL, measured[2] = {0, 0};
    cudaError_t error = cudaMalloc((void **)&device, sizeof measured);
    if (error == cudaSuccess) {
        compare_clocks<<<1, 1, 0, adm_gpu_stream_of(gpu)>>>(device);
        error = cudaGetLastError();
    }
    adm_status status = adm_cuda_status(error, "comparing the SM's clock with the timer", err);
    if (status == ADM_OK) status = adm_gpu_read(gpu, device, sizeof measured, measured, err);
    cudaFree(device);
    if (status == ADM_OK && measured[1] == 0) status = adm_fail(err, ADM_EENVIRONMENT, "the SM's clock stands still");
    if (status == ADM_OK) *ns = (double)measured[0] / (double)measured[1];
    return status;
}

/* Loads that the L2 keeps, unlike those that measure bandwidth. The buffer is zeros, so nothing is ever stored. */
__global__ void __launch_bounds__(THREADS) evict(const uint4 *in, size_t n, uint32_t *sink) {
    uint32_t sum = 0;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += (size_t)gridDim.x * THREADS) {
        uint4 x = __ldcg(in + i);
        sum += x.x ^ x.y ^ x.z ^ x.w;
    }
    if (sum != 0) *sink = sum;
}

extern "C" adm_status adm_gpu_flusher_create(adm_gpu *gpu, adm_gpu_flusher **out, adm_error *err) {
    adm_gpu_flusher *f = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&f, 1, sizeof *f, "an L2 flush", err);
    if (status != ADM_OK) return status;
    const adm_device_info *device = adm_gpu_device(gpu);
    f->gpu = gpu;
    f->n = FLUSH_FACTOR * (size_t)device->l2_bytes / sizeof *f->buffer;
    f->blocks = 8u * (unsigned)device->n_sms;
    cudaError_t error = cudaMalloc((void **)&f->buffer, (f->n + 1) * sizeof *f->buffer);
    if (error == cudaSuccess) error = cudaMemset(f->buffer, 0, (f->n + 1) * sizeof *f->buffer);
    f->sink = (uint32_t *)(f->buffer + f->n);
    status = adm_cuda_status(error, "allocating an L2 flush", err);
    if (status == ADM_OK) *out = f;
    else adm_gpu_flusher_free(&f);
    return status;
}

extern "C" void adm_gpu_flusher_free(adm_gpu_flusher **flusher) {
    if (*flusher == NULL) return;
    cudaFree((*flusher)->buffer);
    adm_free(flusher);
}

extern "C" adm_status adm_gpu_flush_l2(adm_gpu_flusher *f, adm_error *err) {
    cudaError_t error = cudaCtxResetPersistingL2Cache(); /* those lines would outlive what passes */
    if (error != cudaSuccess) return adm_cuda_status(error, "resetting the L2's persisting lines", err);
    evict<<<f->blocks, THREADS, 0, adm_gpu_stream_of(f->gpu)>>>(f->buffer, f->n, f->sink);
    return adm_cuda_status(cudaGetLastError(), "flushing the L2", err);
}

/* --- Graphs ------------------------------------------------------------------------------------------------------- */

extern "C" adm_status adm_gpu_graph_begin(adm_gpu *gpu, adm_error *err) {
    return adm_cuda_status(cudaStreamBeginCapture(adm_gpu_stream_of(gpu), cudaStreamCaptureModeThreadLocal),
                           "starting a graph capture", err);
}

extern "C" adm_status adm_gpu_graph_nodes(adm_gpu *gpu, size_t *n, adm_error *err) {
    cudaStreamCaptureStatus capturing;
    cudaGraph_t graph = NULL;
    *n = 0;
    cudaError_t error = cudaStreamGetCaptureInfo(adm_gpu_stream_of(gpu), &capturing, NULL, &graph, NULL, NULL, NULL);
    if (error == cudaSuccess && graph != NULL) error = cudaGraphGetNodes(graph, NULL, n);
    return adm_cuda_status(error, "looking into a graph capture", err);
}

extern "C" adm_status adm_gpu_graph_end(adm_gpu *gpu, adm_gpu_graph **out, adm_error *err) {
    cudaGraph_t graph = NULL;
    adm_gpu_graph *made = NULL;
    *out = NULL;
    cudaError_t error = cudaStreamEndCapture(adm_gpu_stream_of(gpu), &graph);
    adm_status status = adm_cuda_status(error, "capturing a graph", err);
    if (status == ADM_OK) status = adm_alloc(&made, 1, sizeof *made, "a graph", err);
    if (status == ADM_OK) {
        made->gpu = gpu;
        status = adm_cuda_status(cudaGraphInstantiate(&made->exec, graph, 0), "making a graph", err);
    }
    if (graph != NULL) cudaGraphDestroy(graph);
    if (status == ADM_OK) *out = made;
    else adm_free(&made);
    return status;
}

extern "C" adm_status adm_gpu_graph_launch(adm_gpu_graph *graph, adm_error *err) {
    return adm_cuda_status(cudaGraphLaunch(graph->exec, adm_gpu_stream_of(graph->gpu)), "launching a graph", err);
}

extern "C" adm_status adm_gpu_graph_time(adm_gpu_graph *graph, uint32_t n, double *ns, adm_error *err) {
    adm_gpu *gpu = graph->gpu;
    float milliseconds = 0;
    cudaError_t error = cudaEventRecord(gpu->before, gpu->stream);
    for (uint32_t i = 0; i < n && error == cudaSuccess; i++) error = cudaGraphLaunch(graph->exec, gpu->stream);
    if (error == cudaSuccess) error = cudaEventRecord(gpu->after, gpu->stream);
    if (error == cudaSuccess) error = cudaEventSynchronize(gpu->after);
    if (error == cudaSuccess) error = cudaEventElapsedTime(&milliseconds, gpu->before, gpu->after);
    *ns = (double)milliseconds * 1e6 / n;
    return adm_cuda_status(error, "timing a graph", err);
}

extern "C" void adm_gpu_graph_free(adm_gpu_graph **graph) {
    if (*graph == NULL) return;
    if ((*graph)->exec != NULL) cudaGraphExecDestroy((*graph)->exec);
    adm_free(graph);
}
