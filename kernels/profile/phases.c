/* phases.c: durations of a step's phases, from the stamps of its instrumented instance; see phases.h. */
#include "kernels/profile/phases.h"

#include <string.h>

#include "core/base/mem.h"
#include "kernels/gpu/memory.h"
#include "kernels/gpu/observe.h"

/* The first launch finds the kernel's code in no cache, which a decode step does not, and is left out. */
enum { N_LAUNCHES = 17, N_LEFT_OUT = 1, STAMPS_PER_BLOCK = ADM_GPU_MAX_PHASES + 1 };

/* On set after set, so that caches are as cold as in the step's timing. */
static adm_status launch_all(adm_gpu *gpu, adm_gpu_case *c, const adm_gpu_shape *max_shape, const adm_gpu_impl *step,
                             const adm_gpu_phases *phases, char *d_stamps, adm_error *err) {
    const uint32_t n_sets = adm_gpu_case_plan(c)->n_sets;
    adm_status status = adm_gpu_case_clear(c, err);
    for (uint32_t i = 0; status == ADM_OK && i < N_LAUNCHES; i++) {
        const adm_gpu_shape shape = adm_gpu_case_shape(c, i % n_sets);
        adm_gpu_buffers buffers = *adm_gpu_case_buffers(c, i % n_sets);
        buffers.workspace = (char *)buffers.workspace + adm_gpu_plan_workspace(max_shape, step);
        status = adm_gpu_step_phases_launch(step->name, &shape, &buffers, (uint64_t *)(d_stamps + i * phases->stamp_bytes),
                                            adm_gpu_stream_of(gpu), err);
    }
    return status == ADM_OK ? adm_gpu_wait(gpu, err) : status;
}

/* Adds the phases of one block: the time of each since the one before that the block had. */
static void add_block(adm_phase_times *times, const uint64_t *stamp, double cycle_ns) {
    uint64_t before = stamp[0];
    for (uint32_t p = 0; p < times->phases.n_phases; p++) {
        if (stamp[p + 1] == 0) continue;
        times->ns[p][times->n[p]++] = (double)(stamp[p + 1] - before) * cycle_ns;
        before = stamp[p + 1];
    }
}

static adm_status evaluate(adm_phase_times *times, const char *stamps, double cycle_ns, adm_error *err) {
    const adm_gpu_phases *phases = &times->phases;
    const size_t max_samples = (size_t)phases->n_blocks * (N_LAUNCHES - N_LEFT_OUT);
    adm_status status = ADM_OK;
    for (uint32_t p = 0; status == ADM_OK && p < phases->n_phases; p++)
        status = adm_alloc(&times->ns[p], max_samples, sizeof(double), "durations of phases", err);
    for (uint32_t i = N_LEFT_OUT; status == ADM_OK && i < N_LAUNCHES; i++)
        for (uint32_t b = 0; b < phases->n_blocks; b++)
            add_block(times, (const uint64_t *)(stamps + i * phases->stamp_bytes) + (size_t)b * STAMPS_PER_BLOCK, cycle_ns);
    return status;
}

adm_status adm_phase_times_take(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_shape *max_shape, const adm_gpu_impl *step,
                                adm_phase_times *times, adm_error *err) {
    const adm_gpu_shape shape = adm_gpu_case_shape(gpu_case, 0);
    void *d_stamps = NULL;
    char *stamps = NULL;
    double cycle_ns = 0;
    memset(times, 0, sizeof *times);
    adm_status status = adm_gpu_step_phases(step->name, &shape, &times->phases, err);
    const size_t bytes = N_LAUNCHES * times->phases.stamp_bytes;
    if (status == ADM_OK) status = adm_alloc(&stamps, bytes, 1, "stamps of phases", err);
    if (status == ADM_OK) status = adm_gpu_allocate(bytes, 0, &d_stamps, err);
    if (status == ADM_OK) status = launch_all(gpu, gpu_case, max_shape, step, &times->phases, d_stamps, err);
    if (status == ADM_OK) status = adm_gpu_cycle_ns(gpu, &cycle_ns, err); /* at once: the clock is still that of the launches */
    if (status == ADM_OK) status = adm_gpu_read(gpu, d_stamps, bytes, stamps, err);
    if (status == ADM_OK) status = evaluate(times, stamps, cycle_ns, err);
    adm_gpu_release(&d_stamps);
    adm_free(&stamps);
    if (status != ADM_OK) adm_phase_times_free(times);
    return status;
}

void adm_phase_times_free(adm_phase_times *times) {
    for (size_t p = 0; p < ADM_GPU_MAX_PHASES; p++) adm_free(&times->ns[p]);
}
