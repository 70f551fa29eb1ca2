/* adamas.h: the host library libadamas.so, for programs in other languages: this header says all that may be called. Every name
 * below is a plain C symbol; nothing else of the library is visible.
 *
 *   one layer under a selection policy   adm_sparse_*, below: attention for a program that runs the model itself
 *   one layer's decode step              core/contract/model_step.h: on the host, or on a GPU's stream
 *   the stages of a decode step          adm_hadamard_reference ... adm_attention_reference, below
 *   the metric asym4                     core/contract/asym4.h
 *   float formats                        core/base/floatfmt.h
 *
 * A function that can fail returns adm_status; its last argument is room for a sentence, or NULL (core/base/error.h). */
#ifndef ADM_CORE_CONTRACT_ADAMAS_H
#define ADM_CORE_CONTRACT_ADAMAS_H

#include "core/base/api.h"
#include "core/system/cpu.h"
#include "core/base/error.h"
#include "core/base/floatfmt.h"
#include "core/contract/asym4.h"
#include "core/contract/model_step.h"
#include "core/contract/stage.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- Sparse attention ----------------------------------------------------------------------------------------------
 * The attention of one layer under a selection policy, with real feedback: what a step attends to shapes the next layer's keys.
 *
 *   prompt   k [n_kv_heads][n_prompt][d]   --adm_sparse_open-->   what the policy keeps of it: thresholds, codes, page bounds
 *   steps    q [n_steps][n_q_heads][d]     --adm_sparse_attend--> out [n_steps][n_q_heads][d]
 *
 * Step s is at token n_prompt + s and sees the tokens up to itself; its key and value are already in k and v. All is float32,
 * contiguous in the last dimension; the tokens of a KV head lie `capacity` rows apart from those of the next:
 * k, v [n_kv_heads][capacity][d]. A handle belongs to one thread at a time. */
typedef struct adm_sparse adm_sparse;

/* policy: one item of `adamas replay --policies` that names one variant: "quest", "adamas:metric=dot,thresholds=channel".
 * n_prompt >= 1 tokens of k are taken in, with thresholds learnt from them; room for max_steps more. The seed is that of
 * `random`. ADM_EINPUT, ADM_EUNSUPPORTED: what is wrong with policy or shape. */
ADM_API adm_status adm_sparse_open(const char *policy, const adm_shape *shape, const float *k, size_t n_prompt, size_t capacity,
                                   size_t max_steps, uint64_t seed, adm_sparse **out, adm_error *err);

/* Attends n_steps <= max_steps steps from the prompt on; any number of calls, each from the prompt on anew. budget >= 1 tokens,
 * and at least what the policy needs. scale: of the softmax.
 * drawn: attention that each token of the prompt drew from it, [n_q_heads][n_prompt + n_steps] of which the first n_prompt
 * count, for policies that look back, which go on from there with what their own steps pay; NULL for others.
 * index: if not NULL, [n_steps][n_q_heads][budget] the tokens attended to, ascending, and behind the last of them
 * UINT32_MAX. */
ADM_API adm_status adm_sparse_attend(adm_sparse *sparse, uint32_t budget, double scale, const float *q, const float *k,
                                     const float *v, size_t capacity, size_t n_steps, const double *drawn, float *out,
                                     uint32_t *index, adm_error *err);

enum { ADM_SPARSE_NAME_BYTES = 176 };

/* The variant as a replay names it in the database: "l1 calibrated", "pages of 16", ... At most ADM_SPARSE_NAME_BYTES. */
ADM_API void adm_sparse_variant(const adm_sparse *sparse, char *name);

/* Whether a policy, as adm_sparse_open() takes it, needs `drawn`. 0 where it is not known. */
ADM_API int adm_sparse_looks_back(const char *policy);

/* NULL is fine; nulls the caller's pointer. */
ADM_API void adm_sparse_close(adm_sparse **sparse);

/* --- Stages --------------------------------------------------------------------------------------------------------
 * The references of core/contract/stage.h; faster versions of them are in the headers of kernels/. */
ADM_API adm_hadamard_fn adm_hadamard_reference;
ADM_API adm_bucket_fn adm_bucket_reference;
ADM_API adm_pack_fn adm_pack_reference;
ADM_API adm_distance_fn adm_distance_reference;
ADM_API adm_topk_fn adm_topk_reference;
ADM_API adm_attention_fn adm_attention_reference;
ADM_API adm_encode_fn adm_encode_reference;
ADM_API adm_scan_fn adm_scan_reference;

#ifdef __cplusplus
}
#endif

#endif
