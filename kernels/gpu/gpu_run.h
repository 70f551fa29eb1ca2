/* gpu_run.h: runs the stages of kernels/gpu/gpu.h on a device: makes inputs there, reads results back, and times launches.
 *
 * A case is one configuration with enough distinct buffers that the level-2 cache is cold for K, V and codes: copies of
 * the cache, and sets that each hold a decode step's own queries, new keys and results (kernels/gpu/gpu_plan.h has the
 * layout and the counts). Queries, new keys and what one stage hands to the next are small and come as they come in a
 * decode step: from L2.
 *
 * With random inputs (gpu_input.h) all copies hold the same values, and each set has queries of its own. With a
 * session, copies and sets are steps of the session's layers:
 *
 *   set s    layer s % n_layers, step (s / n_layers) % n_steps, with that step's query, new token and length */
#ifndef ADM_KERNELS_GPU_GPU_RUN_H
#define ADM_KERNELS_GPU_GPU_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/device.h"
#include "kernels/gpu/gpu.h"
#include "kernels/gpu/gpu_plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_gpu adm_gpu;
typedef struct adm_gpu_case adm_gpu_case;

/* Opens a device. ADM_EUNSUPPORTED with the reason where there is none (77 as an exit code). */
adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err);
void adm_gpu_close(adm_gpu **gpu);

/* What the device is; lives as long as the adm_gpu. */
const adm_device_info *adm_gpu_device(const adm_gpu *gpu);

/* The stream on which everything here runs. */
adm_gpu_stream adm_gpu_stream_of(const adm_gpu *gpu);

/* False after an error that destroys the CUDA context (an illegal address, say): nothing more will run. */
bool adm_gpu_alive(const adm_gpu *gpu);

/* Allocates and fills a case; the inputs are copied. Warm: one copy and set (a layer). ADM_EENVIRONMENT out of device
 * memory, saying how much was needed and free. */
adm_status adm_gpu_case_create(adm_gpu *gpu, const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, bool cold,
                               adm_gpu_case **out, adm_error *err);
void adm_gpu_case_free(adm_gpu_case **gpu_case);

const adm_gpu_plan *adm_gpu_case_plan(const adm_gpu_case *gpu_case);

/* The shape with which a set is launched: its layer's thresholds, and the present budget. */
adm_gpu_shape adm_gpu_case_shape(const adm_gpu_case *gpu_case, uint32_t set);

/* The device buffers of a set, to launch with or to read from. */
const adm_gpu_buffers *adm_gpu_case_buffers(const adm_gpu_case *gpu_case, uint32_t set);

/* The page table on the host [batch][max_pages], or NULL when contiguous. */
const int32_t *adm_gpu_case_pages(const adm_gpu_case *gpu_case);

/* Changes the budget of a case to one not above that it was made with. */
void adm_gpu_case_set_rule(adm_gpu_case *gpu_case, const adm_select_rule *rule);

/* Fills with 0xFF what the stages in `covers` (bits 1 << adm_stage) write into a set's own buffers, so that what they
 * fail to write is seen; for a prompt with random inputs the whole code cache. Append is the exception: what it writes stays
 * in the cache, right, from the step before. */
adm_status adm_gpu_case_poison(adm_gpu_case *gpu_case, uint32_t set, uint32_t covers, adm_error *err);

/* Runs implementations one after another on a set and waits. */
adm_status adm_gpu_case_run(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                            adm_error *err);

/* The same on every set, the first one last: what the sets share is then as that one left it. */
adm_status adm_gpu_case_run_all(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, adm_error *err);

/* For observers: the zeros that the workspace must hold (gpu.h), and one implementation enqueued on a set, nothing else. */
adm_status adm_gpu_case_clear(adm_gpu_case *gpu_case, adm_error *err);
adm_status adm_gpu_case_launch(adm_gpu_case *gpu_case, const adm_gpu_impl *impl, uint32_t set, adm_error *err);

/* Copies bytes from the device. */
adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err);

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

/* Times the implementations as one unit. A sample is n_calls back-to-back calls over as many sets as a cold cache takes
 * (adm_gpu_plan_rotation()), in one CUDA graph replay or as plain launches, between two events. Warms up, then samples
 * until the 95% confidence interval of the median (from order statistics) is within `target` of it, at least 20 samples,
 * or until cap_ns of wall time. */
adm_status adm_gpu_time(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, adm_gpu_launch_mode mode,
                        double target, uint64_t cap_ns, adm_gpu_timing *timing, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
