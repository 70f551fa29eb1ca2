/* topk.h: which tokens the query attends to: the forced ones, then those of smallest distance.
 *
 *   tokens   0 .. sinks-1 |            ranked by distance            | last `recent` tokens, at least the newest
 *            forced       |  budget - forced of them; of those that  | forced
 *                         |  tie at the boundary, the most recent    | */
#ifndef ADM_KERNELS_TOPK_TOPK_H
#define ADM_KERNELS_TOPK_TOPK_H

#include "core/contract/stage.h"
#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Counting select, exact since distances are small integers: one pass counts, one pass writes. index [min(budget, n_tokens)];
 * n_tokens < 2^32; the histogram need not be cleared. A distance above max_distance is the caller's error and is written
 * outside the histogram. Where no token is selected by rank, info is all zero. */
ADM_API adm_topk_fn adm_topk_reference;

#if defined(__x86_64__)
/* The same by bisection instead of counting; they leave the histogram alone. For CPUs with adm_cpu_has_avx2() and
 * adm_cpu_has_avx512(). */
ADM_API adm_topk_fn adm_topk_avx2;
ADM_API adm_topk_fn adm_topk_avx512;
#elif defined(__aarch64__)
ADM_API adm_topk_fn adm_topk_neon;
#endif

/* What the rule leaves to rank: tokens [first, last) are eligible for the `remaining` budget, all others are forced in. */
typedef struct adm_eligible {
    size_t first, last;
    size_t remaining;
} adm_eligible;

adm_eligible adm_topk_eligible(const adm_select_rule *rule, size_t n_tokens);

/* Compulsory traffic of one layer of one decode step: every query head reads its distances and writes its indices.
 * Ignored: the histogram, and the second look at the distances, which a cache may serve. */
double adm_topk_bytes(const adm_shape *shape, double n_tokens, double n_selected);

/* A count and a comparison per token and query head. */
double adm_topk_flops(const adm_shape *shape, double n_tokens);

/* On a GPU (kernels/gpu/gpu.h): distance -> index [batch][S][budget], n_selected [batch][S]. */
adm_gpu_launch_fn adm_gpu_topk_cluster, adm_gpu_topk_two;
size_t adm_gpu_topk_two_workspace_bytes(const adm_gpu_shape *shape);

/* The two ways of adm_gpu_topk_cluster. By lists of candidates, with `split` blocks per row: 1, 2, 4, 8; 0: the default. */
adm_status adm_gpu_topk_cluster_split(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                      adm_gpu_stream stream, adm_error *err);

/* In shared memory: `split` blocks per row, 1 to 8, of 16 or 32 warps. ADM_EUNSUPPORTED where they have no room for the
 * capacity. */
adm_status adm_gpu_topk_held(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split, uint32_t warps,
                             adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
