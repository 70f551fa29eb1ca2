/* model_step.h: one layer's decode step of Adamas for a program that runs the model itself, on memory of its own: on the host,
 * or on a GPU's stream.
 *
 *   q [batch][n_q_heads][d]; k_new, v_new [batch][n_kv_heads][d]     the new token's, after RoPE
 *   k, v [batch][n_kv_heads][capacity][d]                            the cache; the step writes the new token's rows
 *   codes [batch][n_kv_heads][capacity][d/4]                         of every key, in an order of the processor's own, so that
 *                                                                    host and GPU never share them
 *   length [batch]                                                   tokens, the new one included; 0: an empty sequence
 *   out [batch][n_q_heads][d]; index [batch][S][budget]              S: n_q_heads, or n_kv_heads where a group shares its
 *                                                                    selection; the first n_selected are written, ascending
 *   n_selected [batch][S]                                            min(budget, length)
 *
 * All but codes, length, index and n_selected are of `dtype`. Nothing is read of a cache's rows beyond the length. */
#ifndef ADM_CORE_CONTRACT_MODEL_STEP_H
#define ADM_CORE_CONTRACT_MODEL_STEP_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/api.h"
#include "core/base/error.h"
#include "core/contract/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_model_step {
    adm_shape shape;
    adm_dtype dtype; /* on a GPU F16 or BF16 */
    uint32_t batch, capacity; /* on a GPU 1..64 sequences, and a multiple of 32 tokens */
    adm_select_rule rule;
    adm_selection selection;
    float threshold[3];
    float scale; /* of the softmax */
    const void *q, *k_new, *v_new;
    void *k, *v;
    uint8_t *codes;
    const uint32_t *length;
    void *out;
    uint32_t *index, *n_selected; /* on the host NULL: not wanted */
    adm_code_metric metric;       /* L1 or ASYM4 (asym4.h) */
    const float *channels;        /* with asym4 [n_kv_heads][4][d], in place of threshold: of each channel three ascending
                                     thresholds and the scale; no NaN, and among the thresholds no -0. Else NULL */
} adm_model_step;

static inline adm_status adm_model_step_check_metric(const adm_model_step *step, adm_error *err) {
    const int is_asym4 = step->metric == ADM_METRIC_ASYM4;
    if (step->metric != ADM_METRIC_L1 && !is_asym4) return adm_fail(err, ADM_EINPUT, "a decode step compares by l1 or asym4");
    if (is_asym4 != (step->channels != NULL))
        return adm_fail(err, ADM_EINPUT, "thresholds and scales of channels belong to asym4, which needs them");
    return ADM_OK;
}

/* The step on the host: the stages of core/contract/stage.h. ADM_EINPUT: a shape, rule or metric that is none, or a length
 * beyond
 * the capacity. */
ADM_API adm_status adm_model_step_host(const adm_model_step *step, adm_error *err);

/* The codes of every key of a prompt, the first length[b] of each sequence. Uses shape, dtype, batch, capacity, threshold,
 * metric, channels, k, codes and length. */
ADM_API adm_status adm_model_encode_host(const adm_model_step *step, adm_error *err);

/* The same on the current device of the calling thread: enqueues on `stream` (a cudaStream_t) and returns. Every pointer is the
 * device's, 16-byte aligned; a length beyond the capacity is the caller's error. Allocates nothing and may be captured into a
 * CUDA graph. workspace: NULL, or zeroed memory of adm_model_step_workspace_bytes(). ADM_EUNSUPPORTED, with the reason: this
 * library was built without CUDA, a shape that the kernels do not take, or one for which they need the workspace. */
ADM_API adm_status adm_model_step_cuda(const adm_model_step *step, void *workspace, void *stream, adm_error *err);
ADM_API adm_status adm_model_encode_cuda(const adm_model_step *step, void *stream, adm_error *err);
ADM_API size_t adm_model_step_workspace_bytes(const adm_model_step *step);

#ifdef __cplusplus
}
#endif

#endif
