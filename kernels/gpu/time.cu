/* time.cu: how long implementations take on a case; see time.h. */
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/gpu/case.cuh"
#include "kernels/gpu/time.h"

/* What is timed as one, and over what. */
struct timed_unit {
    adm_gpu_case *c;
    const adm_gpu_impl *const *impls;
    size_t n_impls;
    uint32_t n_sets, n_calls; /* n_calls calls over the first n_sets sets in turn */
};

static adm_status enqueue_calls(const timed_unit *u, adm_error *err) {
    adm_status status = ADM_OK;
    for (uint32_t i = 0; status == ADM_OK && i < u->n_calls; i++)
        status = adm_gpu_case_enqueue(u->c, u->impls, u->n_impls, i % u->n_sets, err);
    return status;
}

static adm_status capture(const timed_unit *u, cudaGraphExec_t *exec, adm_error *err) {
    adm_gpu *gpu = u->c->gpu;
    cudaGraph_t graph = NULL;
    cudaError_t result = cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal);
    if (result != cudaSuccess) return adm_gpu_status(gpu, result, "starting a graph capture", err);
    adm_status status = enqueue_calls(u, err);
    result = cudaStreamEndCapture(gpu->stream, &graph);
    if (status == ADM_OK) status = adm_gpu_status(gpu, result, "capturing a graph", err);
    if (status == ADM_OK) status = adm_gpu_status(gpu, cudaGraphInstantiate(exec, graph, 0), "making a graph", err);
    if (graph != NULL) cudaGraphDestroy(graph);
    cudaGetLastError(); /* what a refused launch left in the runtime is not the next caller's */
    return status;
}

/* One sample: nanoseconds per call. */
static adm_status take_sample(const timed_unit *u, cudaGraphExec_t exec, double *ns, adm_error *err) {
    adm_gpu *gpu = u->c->gpu;
    float milliseconds = 0;
    adm_status status = adm_gpu_status(gpu, cudaEventRecord(gpu->before, gpu->stream), "recording an event", err);
    if (status == ADM_OK)
        status = exec != NULL ? adm_gpu_status(gpu, cudaGraphLaunch(exec, gpu->stream), "launching a graph", err)
                              : enqueue_calls(u, err);
    if (status != ADM_OK) return status;
    cudaError_t result = cudaEventRecord(gpu->after, gpu->stream);
    if (result == cudaSuccess) result = cudaEventSynchronize(gpu->after);
    if (result == cudaSuccess) result = cudaEventElapsedTime(&milliseconds, gpu->before, gpu->after);
    *ns = (double)milliseconds * 1e6 / u->n_calls;
    return adm_gpu_status(gpu, result, u->impls[0]->name, err);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Half the width of the 95% confidence interval of the median, relative to it: order statistics n/2 +- 0.98 sqrt(n). */
static double median_uncertainty(const double *samples, size_t n, double *scratch) {
    memcpy(scratch, samples, n * sizeof *scratch);
    qsort(scratch, n, sizeof *scratch, ascending);
    double half = 0.98 * sqrt((double)n);
    size_t low = (size_t)fmax(0, floor((double)n / 2 - half)), high = adm_min(n - 1, (size_t)ceil((double)n / 2 + half));
    return (scratch[high] - scratch[low]) / 2 / scratch[n / 2];
}

enum { MAX_SAMPLES = 2000 };

static adm_status sample_until_sure(const timed_unit *u, cudaGraphExec_t exec, double target, uint64_t cap_ns,
                                    adm_gpu_timing *timing, adm_error *err) {
    double *scratch = NULL, warm_up;
    adm_status status = adm_alloc(&timing->sample_ns, MAX_SAMPLES, sizeof(double), "samples", err);
    if (status == ADM_OK) status = adm_alloc(&timing->end_ns, MAX_SAMPLES, sizeof *timing->end_ns, "samples", err);
    if (status == ADM_OK) status = adm_alloc(&scratch, MAX_SAMPLES, sizeof(double), "samples", err);
    for (int i = 0; status == ADM_OK && i < ADM_TIMING_WARM_UPS; i++) status = take_sample(u, exec, &warm_up, err);
    const uint64_t start = timing->start_ns = adm_clock_ns();
    while (status == ADM_OK && timing->n_samples < MAX_SAMPLES) {
        status = take_sample(u, exec, &timing->sample_ns[timing->n_samples], err);
        if (status == ADM_OK) timing->end_ns[timing->n_samples++] = adm_clock_ns();
        if (timing->n_samples < ADM_TIMING_MIN_SAMPLES) continue;
        timing->median_ci_ratio = median_uncertainty(timing->sample_ns, timing->n_samples, scratch);
        if (timing->median_ci_ratio <= target || adm_clock_ns() - start > cap_ns) break;
    }
    adm_free(&scratch);
    return status;
}

extern "C" adm_status adm_gpu_time(adm_gpu_case *c, const adm_gpu_impl *const *impls, size_t n_impls, adm_gpu_launch_mode mode,
                                   double target, uint64_t cap_ns, adm_gpu_timing *timing, adm_error *err) {
    cudaGraphExec_t exec = NULL;
    uint32_t covers = 0;
    memset(timing, 0, sizeof *timing);
    for (size_t i = 0; i < n_impls; i++) covers |= impls[i]->covers;
    timed_unit u = {c, impls, n_impls, adm_gpu_plan_rotation(&c->plan, &c->shape, covers), 0};
    /* A first guess at the duration of a call decides how many make a sample. */
    u.n_calls = adm_gpu_timing_first_calls(u.n_sets);
    double ns = 0;
    adm_status status = adm_gpu_case_clear(c, err);
    /* What an earlier kernel or program left as persisting in the L2 would be found there however much passes. */
    if (status == ADM_OK && c->plan.cold)
        status = adm_gpu_status(c->gpu, cudaCtxResetPersistingL2Cache(), "resetting the L2's persisting lines", err);
    if (status == ADM_OK) status = take_sample(&u, NULL, &ns, err);
    if (status == ADM_OK) status = take_sample(&u, NULL, &ns, err);
    if (status == ADM_OK) u.n_calls = adm_gpu_timing_calls(ns, n_impls, u.n_sets);
    if (status == ADM_OK && mode == ADM_LAUNCH_GRAPH) status = capture(&u, &exec, err);
    if (status == ADM_OK) status = sample_until_sure(&u, exec, target, cap_ns, timing, err);
    if (exec != NULL) cudaGraphExecDestroy(exec);
    timing->n_calls = u.n_calls;
    timing->n_sets = u.n_sets;
    if (status != ADM_OK) {
        adm_free(&timing->sample_ns);
        adm_free(&timing->end_ns);
    }
    return status;
}
