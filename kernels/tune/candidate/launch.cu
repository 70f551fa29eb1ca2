// launch.cu: modules, and what a launcher's kernels are made of; see launch.h.
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstring>

#include "core/base/mem.h"
#include "kernels/gpu/common.cuh"
#include "kernels/tune/candidate/launch.h"

struct adm_tune_module {
    cudaLibrary_t library;
    cudaKernel_t kernel;
};

extern "C" adm_status adm_tune_module_load(const char *path, const char *kernel, adm_tune_module **out, adm_error *err) {
    adm_status status = adm_alloc(out, 1, sizeof **out, "a module", err);
    if (status != ADM_OK) return status;
    cudaError_t result = cudaLibraryLoadFromFile(&(*out)->library, path, NULL, NULL, 0, NULL, NULL, 0);
    const char *what = path;
    if (result == cudaSuccess) {
        what = kernel;
        result = cudaLibraryGetKernel(&(*out)->kernel, (*out)->library, kernel);
    }
    if (result == cudaSuccess) return ADM_OK;
    cudaGetLastError();
    adm_free(out);
    return adm_fail(err, ADM_EINPUT, "%s: cannot be loaded: CUDA says %s", what, cudaGetErrorString(result));
}

extern "C" adm_status adm_tune_module_run(const adm_tune_module *m, const adm_tune_launch *l, adm_gpu_stream stream,
                                          adm_error *err) {
    cudaError_t result = cudaSuccess;
    if (l->shared_bytes > 48 * 1024)
        result = cudaFuncSetAttribute((const void *)m->kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      (int)l->shared_bytes);
    if (result == cudaSuccess)
        result = cudaLaunchKernel((const void *)m->kernel, dim3(l->grid[0], l->grid[1], l->grid[2]),
                                  dim3(l->block[0], l->block[1], l->block[2]), (void **)l->argument, l->shared_bytes, stream);
    return adm_cuda_status(result, "launching the module's kernel", err);
}

extern "C" const char *adm_tune_cuda_words(int error) { return cudaGetErrorString((cudaError_t)error); }

extern "C" adm_status adm_tune_reset_l2(adm_error *err) {
    return adm_cuda_status(cudaCtxResetPersistingL2Cache(), "resetting the persisting part of the L2", err);
}

/* --- What kernels are made of --- */

/* Functions of the driver, which the runtime finds: a program without a driver must start too. */
struct driver {
    CUresult (*node_params)(CUgraphNode, CUDA_KERNEL_NODE_PARAMS *);
    CUresult (*kernel_function)(CUfunction *, CUkernel);
    CUresult (*attribute)(int *, CUfunction_attribute, CUfunction);
    CUresult (*occupancy)(int *, CUfunction, int, size_t);
};

static bool find(const char *name, void *function) {
    cudaDriverEntryPointQueryResult found;
    return cudaGetDriverEntryPointByVersion(name, (void **)function, 12000, cudaEnableDefault, &found) == cudaSuccess &&
           found == cudaDriverEntryPointSuccess;
}

static void keep_largest(int *figure, int value) {
    if (value > *figure) *figure = value;
}

/* Why no more blocks fit: the resource of which one more block would take too much. */
static void name_limiter(const adm_tune_resources *r, const cudaDeviceProp *p, char out[48]) {
    const int blocks = r->blocks_per_sm + 1, threads = (r->threads + 31) / 32 * 32;
    const long registers = (long)((r->registers + 7) / 8 * 8) * threads * blocks;
    const long shared = (long)(r->static_shared_bytes + r->dynamic_shared_bytes + 1024) * blocks;
    const char *what = "";
    if (threads * blocks > p->maxThreadsPerMultiProcessor) what = "threads";
    else if (registers > p->regsPerMultiprocessor) what = "registers";
    else if (shared > (long)p->sharedMemPerMultiprocessor) what = "shared memory";
    else if (blocks > p->maxBlocksPerMultiProcessor) what = "blocks";
    strcpy(out, what);
}

static void read_kernel(const driver *d, const cudaDeviceProp *p, const CUDA_KERNEL_NODE_PARAMS *node, adm_tune_resources *r) {
    CUfunction function = node->func;
    if (function == NULL && node->kern != NULL && d->kernel_function(&function, node->kern) != CUDA_SUCCESS) return;
    int registers = 0, shared = 0, local = 0, blocks_per_sm = 0;
    if (d->attribute(&registers, CU_FUNC_ATTRIBUTE_NUM_REGS, function) != CUDA_SUCCESS) return;
    d->attribute(&shared, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, function);
    d->attribute(&local, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES, function);
    const int threads = (int)(node->blockDimX * node->blockDimY * node->blockDimZ);
    d->occupancy(&blocks_per_sm, function, threads, node->sharedMemBytes);
    r->n_launches = r->n_launches < 0 ? 1 : r->n_launches + 1;
    keep_largest(&r->static_shared_bytes, shared);
    keep_largest(&r->dynamic_shared_bytes, (int)node->sharedMemBytes);
    keep_largest(&r->spill_bytes, local);
    if (registers <= r->registers) return; /* the figures below are of the kernel with the most registers */
    r->registers = registers;
    r->threads = threads;
    r->blocks = (int)(node->gridDimX * node->gridDimY * node->gridDimZ);
    r->blocks_per_sm = blocks_per_sm;
    r->occupancy = (double)blocks_per_sm * ((threads + 31) / 32 * 32) / p->maxThreadsPerMultiProcessor;
    r->static_shared_bytes = shared;
    r->dynamic_shared_bytes = (int)node->sharedMemBytes;
    name_limiter(r, p, r->limiter);
}

extern "C" adm_status adm_tune_inspect(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_impl *impl, adm_tune_resources *r,
                                       adm_error *err) {
    driver d = {};
    cudaGraph_t graph = NULL;
    cudaGraphNode_t node[64];
    size_t n = 64;
    cudaDeviceProp p;
    cudaStream_t stream = adm_gpu_stream_of(gpu);
    int device = 0;
    if (!find("cuGraphKernelNodeGetParams", &d.node_params) || !find("cuKernelGetFunction", &d.kernel_function) ||
        !find("cuFuncGetAttribute", &d.attribute) || !find("cuOccupancyMaxActiveBlocksPerMultiprocessor", &d.occupancy))
        return ADM_OK;
    cudaGetDevice(&device);
    cudaError_t result = cudaGetDeviceProperties(&p, device);
    if (result == cudaSuccess) result = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    if (result != cudaSuccess) return adm_cuda_status(result, "capturing a launch", err);
    adm_status status = adm_gpu_case_launch(gpu_case, impl, 0, err);
    result = cudaStreamEndCapture(stream, &graph);
    if (status == ADM_OK) status = adm_cuda_status(result, "capturing a launch", err);
    if (status == ADM_OK) status = adm_cuda_status(cudaGraphGetNodes(graph, node, &n), "reading a graph", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        cudaGraphNodeType type;
        CUDA_KERNEL_NODE_PARAMS params;
        if (cudaGraphNodeGetType(node[i], &type) != cudaSuccess || type != cudaGraphNodeTypeKernel) continue;
        if (d.node_params((CUgraphNode)node[i], &params) == CUDA_SUCCESS) read_kernel(&d, &p, &params, r);
    }
    if (graph != NULL) cudaGraphDestroy(graph);
    cudaGetLastError();
    return status;
}
