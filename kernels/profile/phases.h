/* phases.h: how long the phases of a step of one launch take: an instrumented instance of it (kernels/step/phases.h) runs on
 * the sets of a case, back to back, and its stamps become durations. */
#ifndef ADM_KERNELS_PROFILE_PHASES_H
#define ADM_KERNELS_PROFILE_PHASES_H

#include "kernels/gpu/case.h"
#include "kernels/step/phases.h"

typedef struct adm_phase_times {
    adm_gpu_phases phases;
    double *ns[ADM_GPU_MAX_PHASES]; /* [n] of each phase: a value per block and launch that had it */
    size_t n[ADM_GPU_MAX_PHASES];
} adm_phase_times;

/* Runs the instrumented instance of a step. max_shape: the shape that the case was made with; its present budget counts.
 * ADM_EUNSUPPORTED, with the reason: there is none for this step or shape. On success release `times` with
 * adm_phase_times_free(). */
adm_status adm_phase_times_take(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_shape *max_shape, const adm_gpu_impl *step,
                                adm_phase_times *times, adm_error *err);
void adm_phase_times_free(adm_phase_times *times);

#endif
