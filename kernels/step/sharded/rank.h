/* rank.h: one GPU of several that share a step by KV heads, as tensor parallelism does.
 *
 *   rank r    its heads' step (or dense attention)  ->  out [batch][heads / n][d]
 *             the output projection's partial sums, which no stage computes here: a buffer of that size stands for them
 *             all-reduce by NCCL                     ->  [batch][heads * d] of fp16, the sum over ranks
 *
 * A rank belongs to the thread that opened it, with its GPU current. What involves NCCL is called by all ranks at once. */
#ifndef ADM_KERNELS_STEP_SHARDED_RANK_H
#define ADM_KERNELS_STEP_SHARDED_RANK_H

#include "kernels/gpu/case.h"
#include "kernels/step/sharded/nccl.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct adm_rank adm_rank;

/* What is timed as one call. */
typedef enum adm_rank_work { ADM_RANK_STEP = 1, ADM_RANK_REDUCE = 2, ADM_RANK_BOTH = 3 } adm_rank_work;

/* n_elements: of the largest message. nccl and gpu are borrowed. With one rank nccl may be NULL: there is nothing to reduce. */
adm_status adm_rank_open(adm_gpu *gpu, const adm_nccl *nccl, const adm_nccl_id *id, int rank, int n_ranks, size_t n_elements,
                         adm_rank **out, adm_error *err);
void adm_rank_close(adm_rank **rank);

/* One all-reduce of n_elements whose sum is known; ADM_EINTERNAL if any element differs. All ranks. */
adm_status adm_rank_check(adm_rank *rank, size_t n_elements, adm_error *err);

/* Makes a graph of n_calls, each of `impls` on the next set and an all-reduce of n_elements behind it, or one of the two. The
 * case may be NULL for the all-reduce alone. */
adm_status adm_rank_capture(adm_rank *rank, adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls,
                            adm_rank_work work, size_t n_elements, uint32_t n_calls, adm_error *err);

/* Launches that graph, waits, and says what a call took. All ranks, where the graph reduces. */
adm_status adm_rank_sample(adm_rank *rank, double *ns, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
