/* case.h: cases for the stages of kernels/gpu/gpu.h: makes their inputs on a device and runs implementations on them.
 *
 * A case is one configuration with enough distinct buffers to keep the L2 cold for K, V and codes. It has copies of the cache,
 * and sets, each with the queries, new keys and results of one decode step (plan.h has the layout and the counts). Queries, new
 * keys and what one stage hands to the next are small and come from L2, as they do in a decode step.
 *
 * With random inputs (input.h) all copies hold the same values, and each set has its own queries. With a session, copies and
 * sets are steps of the session's layers:
 *
 *   set s    layer s % n_layers, step (s / n_layers) % n_steps, with that step's query, new token and length */
#ifndef ADM_KERNELS_GPU_CASE_H
#define ADM_KERNELS_GPU_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/context.h"
#include "kernels/gpu/plan.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_gpu_case adm_gpu_case;

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

/* Changes the budget of a case, up to the one it was made with. */
void adm_gpu_case_set_rule(adm_gpu_case *gpu_case, const adm_select_rule *rule);

/* Fills with 0xFF what the stages in `covers` (bits 1 << adm_stage) write into a set's own buffers, so that what they fail to
 * write is seen; for a prompt with random inputs the whole code cache. Append is the exception: the cache keeps the right
 * values from the step before. */
adm_status adm_gpu_case_poison(adm_gpu_case *gpu_case, uint32_t set, uint32_t covers, adm_error *err);

/* Runs implementations one after another on a set and waits. */
adm_status adm_gpu_case_run(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                            adm_error *err);

/* The same on every set, the first set last, so that the memory which sets share is as the first leaves it. */
adm_status adm_gpu_case_run_all(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, adm_error *err);

/* The same on the first n_sets sets. */
adm_status adm_gpu_case_run_first(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t n_sets,
                                  adm_error *err);

/* For observers. clear() writes the zeros that the workspace must hold (gpu.h); launch() enqueues one implementation on a set
 * and nothing else. */
adm_status adm_gpu_case_clear(adm_gpu_case *gpu_case, adm_error *err);
adm_status adm_gpu_case_launch(adm_gpu_case *gpu_case, const adm_gpu_impl *impl, uint32_t set, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
