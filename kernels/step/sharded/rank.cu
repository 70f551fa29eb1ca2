/* rank.cu: one GPU of several that share a step; see rank.h. */
#include <cuda_fp16.h>

#include "core/base/mem.h"
#include "kernels/gpu/case.cuh"
#include "kernels/step/sharded/rank.h"

struct adm_rank {
    adm_gpu *gpu;
    const adm_nccl *nccl;
    adm_nccl_comm comm;
    int rank, n_ranks;
    size_t n_elements;
    __half *d_send, *d_receive;
    cudaGraphExec_t exec;
    uint32_t n_calls;
};

/* Small whole numbers, which fp16 holds exactly, as it does their sum over 64 ranks. */
static float sent_by(int rank, size_t i) { return (float)((rank + 1) * (int)(i % 16)); }

static adm_status fill(adm_rank *r, adm_error *err) {
    __half *host = NULL;
    adm_status status = adm_alloc(&host, r->n_elements, sizeof *host, "what a rank sends", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < r->n_elements; i++) host[i] = __float2half(sent_by(r->rank, i));
    cudaError_t result = cudaMalloc(&r->d_send, r->n_elements * sizeof(__half));
    if (result == cudaSuccess) result = cudaMalloc(&r->d_receive, r->n_elements * sizeof(__half));
    if (result == cudaSuccess) result = cudaMemcpy(r->d_send, host, r->n_elements * sizeof(__half), cudaMemcpyHostToDevice);
    adm_free(&host);
    return adm_gpu_status(r->gpu, result, "making the buffers of an all-reduce", err);
}

extern "C" adm_status adm_rank_open(adm_gpu *gpu, const adm_nccl *nccl, const adm_nccl_id *id, int rank, int n_ranks,
                                    size_t n_elements, adm_rank **out, adm_error *err) {
    adm_rank *r = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&r, 1, sizeof *r, "a rank", err);
    if (status != ADM_OK) return status;
    r->gpu = gpu;
    r->nccl = nccl;
    r->rank = rank;
    r->n_ranks = n_ranks;
    r->n_elements = n_elements;
    if (n_ranks > 1) status = fill(r, err);
    if (status == ADM_OK && n_ranks > 1)
        status = adm_nccl_status(nccl, nccl->comm_init_rank(&r->comm, n_ranks, *id, rank), "joining the ranks", err);
    if (status == ADM_OK) *out = r;
    else adm_rank_close(&r);
    return status;
}

extern "C" void adm_rank_close(adm_rank **address) {
    adm_rank *r = *address;
    if (r == NULL) return;
    if (r->exec != NULL) cudaGraphExecDestroy(r->exec);
    if (r->comm != NULL) r->nccl->comm_destroy(r->comm);
    cudaFree(r->d_send);
    cudaFree(r->d_receive);
    adm_free(address);
}

static adm_status reduce(adm_rank *r, size_t n_elements, adm_error *err) {
    return adm_nccl_status(
        r->nccl,
        r->nccl->all_reduce(r->d_send, r->d_receive, n_elements, ADM_NCCL_FLOAT16, ADM_NCCL_SUM, r->comm, r->gpu->stream),
        "an all-reduce", err);
}

extern "C" adm_status adm_rank_check(adm_rank *r, size_t n_elements, adm_error *err) {
    __half *host = NULL;
    if (r->n_ranks == 1) return ADM_OK;
    adm_status status = adm_alloc(&host, n_elements, sizeof *host, "what a rank receives", err);
    cudaError_t result = cudaMemsetAsync(r->d_receive, 0xff, r->n_elements * sizeof(__half), r->gpu->stream);
    if (status == ADM_OK) status = adm_gpu_status(r->gpu, result, "clearing what a rank receives", err);
    if (status == ADM_OK) status = reduce(r, n_elements, err);
    if (status == ADM_OK) status = adm_gpu_read(r->gpu, r->d_receive, n_elements * sizeof(__half), host, err);
    for (size_t i = 0; status == ADM_OK && i < n_elements; i++) {
        const float want = (float)(r->n_ranks * (r->n_ranks + 1) / 2 * (int)(i % 16)), got = __half2float(host[i]);
        if (!(got == want))
            status = adm_fail(err, ADM_EINTERNAL, "all-reduce over %d ranks: element %zu of rank %d is %g, and the sum is %g",
                              r->n_ranks, i, r->rank, (double)got, (double)want);
    }
    adm_free(&host);
    return status;
}

static adm_status enqueue(adm_rank *r, adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_rank_work work,
                          size_t n_elements, uint32_t n_sets, adm_error *err) {
    adm_status status = ADM_OK;
    for (uint32_t i = 0; status == ADM_OK && i < r->n_calls; i++) {
        if (work & ADM_RANK_STEP) status = adm_gpu_case_enqueue(c, impls, n_impls, i % n_sets, err);
        if (status == ADM_OK && work & ADM_RANK_REDUCE && r->n_ranks > 1) status = reduce(r, n_elements, err);
    }
    return status;
}

extern "C" adm_status adm_rank_capture(adm_rank *r, adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls,
                                       adm_rank_work work, size_t n_elements, uint32_t n_calls, adm_error *err) {
    cudaGraph_t graph = NULL;
    uint32_t covers = 0, n_sets = 1;
    adm_status status = ADM_OK;
    if (r->exec != NULL) cudaGraphExecDestroy(r->exec);
    r->exec = NULL;
    r->n_calls = n_calls;
    for (size_t i = 0; i < n_impls; i++) covers |= impls[i]->covers;
    if (work & ADM_RANK_STEP) {
        n_sets = adm_gpu_plan_rotation(&c->plan, &c->shape, covers);
        status = adm_gpu_case_clear(c, err);
        if (status == ADM_OK && c->plan.cold)
            status = adm_gpu_status(r->gpu, cudaCtxResetPersistingL2Cache(), "resetting the L2's persisting lines", err);
    }
    if (status != ADM_OK) return status;
    cudaError_t result = cudaStreamBeginCapture(r->gpu->stream, cudaStreamCaptureModeThreadLocal);
    if (result != cudaSuccess) return adm_gpu_status(r->gpu, result, "starting a graph capture", err);
    status = enqueue(r, c, impls, n_impls, work, n_elements, n_sets, err);
    result = cudaStreamEndCapture(r->gpu->stream, &graph);
    if (status == ADM_OK) status = adm_gpu_status(r->gpu, result, "capturing a graph", err);
    if (status == ADM_OK) status = adm_gpu_status(r->gpu, cudaGraphInstantiate(&r->exec, graph, 0), "making a graph", err);
    if (graph != NULL) cudaGraphDestroy(graph);
    cudaGetLastError(); /* what a refused launch left in the runtime is not the next caller's */
    return status;
}

extern "C" adm_status adm_rank_sample(adm_rank *r, double *ns, adm_error *err) {
    adm_gpu *gpu = r->gpu;
    float milliseconds = 0;
    cudaError_t result = cudaEventRecord(gpu->before, gpu->stream);
    if (result == cudaSuccess) result = cudaGraphLaunch(r->exec, gpu->stream);
    if (result == cudaSuccess) result = cudaEventRecord(gpu->after, gpu->stream);
    if (result == cudaSuccess) result = cudaEventSynchronize(gpu->after);
    if (result == cudaSuccess) result = cudaEventElapsedTime(&milliseconds, gpu->before, gpu->after);
    *ns = (double)milliseconds * 1e6 / r->n_calls;
    return adm_gpu_status(gpu, result, "timing ranks", err);
}
