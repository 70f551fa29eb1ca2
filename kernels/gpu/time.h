/* time.h: how long implementations take on a case. */
#ifndef ADM_KERNELS_GPU_TIME_H
#define ADM_KERNELS_GPU_TIME_H

#include <math.h>

#include "kernels/gpu/case.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum adm_gpu_launch_mode { ADM_LAUNCH_GRAPH, ADM_LAUNCH_STREAM } adm_gpu_launch_mode;

typedef struct adm_gpu_timing {
    double *sample_ns;   /* [n_samples], per call, in the order taken; owned: adm_free() */
    size_t n_samples;
    uint32_t n_calls;    /* calls behind each sample, which is their mean */
    uint32_t n_sets;     /* sets that they went through in turn */
    double median_ci_ratio; /* half the 95% confidence interval of the median, over the median */
    uint64_t start_ns;   /* adm_clock_ns() before the first sample */
    uint64_t *end_ns;    /* [n_samples] and at the end of each; owned: adm_free() */
} adm_gpu_timing;

/* Samples are taken by these rules, and `profile --shard` estimates by them what a unit takes. */
enum { ADM_TIMING_WARM_UPS = 3, ADM_TIMING_MIN_SAMPLES = 20, ADM_TIMING_MAX_NODES = 4000 };

/* How many calls make a sample of at least 1 ms, which makes the microseconds of a graph launch invisible: whole rounds over
 * the sets, and no more than ADM_TIMING_MAX_NODES launches where one round has fewer. */
static inline uint32_t adm_gpu_timing_calls(double call_ns, size_t n_impls, uint32_t n_sets) {
    const double max_calls = (double)ADM_TIMING_MAX_NODES / (double)n_impls, wanted = 1e6 / call_ns;
    const double calls = wanted < 1 ? 1 : wanted < max_calls ? wanted : max_calls;
    return (uint32_t)ceil(calls / n_sets) * n_sets;
}

/* The first guess, from which call_ns comes: two samples of plain launches. */
static inline uint32_t adm_gpu_timing_first_calls(uint32_t n_sets) { return (32 + n_sets - 1) / n_sets * n_sets; }

/* Times the implementations as one unit. A sample is n_calls back-to-back calls over as many sets as a cold cache takes
 * (adm_gpu_plan_rotation()), in one CUDA graph replay or as plain launches, between two events. Warms up, then samples
 * until the 95% confidence interval of the median (from order statistics) is within `target` of it, or cap_ns of wall time
 * are over, but at least 20 samples. */
adm_status adm_gpu_time(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, adm_gpu_launch_mode mode,
                        double target, uint64_t cap_ns, adm_gpu_timing *timing, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
