/* sparse.h: the attention of one layer under a selection policy, for a program that runs the model itself
 * (traces/model/evaluate.py, through libadamas.so). Real feedback: what a step attends to shapes the next layer's keys.
 *
 *   prompt   k [n_kv_heads][n_prompt][d]   --adm_sparse_open-->   thresholds, codes, page bounds
 *   steps    q [n_steps][n_q_heads][d]     --adm_sparse_attend--> out [n_steps][n_q_heads][d]
 *
 * Step s stands at token n_prompt + s and sees the tokens up to itself; its key and value are already in k and v. All is
 * float32, contiguous in the last dimension; the tokens of a KV head lie `capacity` rows apart from those of the next:
 * k, v [n_kv_heads][capacity][d]. A handle belongs to one thread at a time. */
#ifndef ADM_KERNELS_STEP_SPARSE_H
#define ADM_KERNELS_STEP_SPARSE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/contract/stage.h"

typedef struct adm_sparse adm_sparse;

/* policy: one item of `adamas replay --policies` that names one variant: "quest", "adamas:metric=dot,thresholds=channel";
 * core/policy/sweep.h. Selections are per query head, of adamas also per group. n_prompt >= 1 tokens of k are taken in, with
 * thresholds learnt from them; room for max_steps more. h2o starts from no attention: see adm_sparse_attend(). The seed
 * is that of `random`. ADM_EINPUT, ADM_EUNSUPPORTED: what is wrong with policy or shape. */
ADM_API adm_status adm_sparse_open(const char *policy, const adm_shape *shape, const float *k, size_t n_prompt, size_t capacity,
                                   size_t max_steps, uint64_t seed, adm_sparse **out, adm_error *err);

/* Attends n_steps <= max_steps steps from the prompt on; any number of calls, each from the prompt on anew. budget >= 1
 * tokens, below 16 not with quest. scale: of the softmax.
 * drawn: attention that each token drew before, [n_q_heads][n_prompt + n_steps], for h2o, which adds what its own steps
 * pay; NULL or unread otherwise. index: if not NULL, [n_steps][n_q_heads][budget] the tokens attended to, ascending, and
 * behind the last of them UINT32_MAX. */
ADM_API adm_status adm_sparse_attend(adm_sparse *sparse, uint32_t budget, double scale, const float *q, const float *k,
                                     const float *v, size_t capacity, size_t n_steps, double *drawn, float *out,
                                     uint32_t *index, adm_error *err);

/* The variant as a replay names it in the database: "l1 calibrated", "pages of 16", ... At most ADM_SPARSE_NAME_BYTES. */
ADM_API void adm_sparse_variant(const adm_sparse *sparse, char *name);

enum { ADM_SPARSE_NAME_BYTES = 160 };

/* NULL is fine; nulls the caller's pointer. */
ADM_API void adm_sparse_close(adm_sparse **sparse);

#endif
