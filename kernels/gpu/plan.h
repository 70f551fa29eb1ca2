/* plan.h: the memory of a case (case.h) and its layout, as arithmetic: no device is touched.
 *
 *   copies  [n_kv]    | K | V | planes | channels |
 *   sets    [n_sets]  | length | q | k_new | v_new | y | code | packed | index | n_selected | out |
 *   shared            | distance | workspace of each implementation |   one for all sets: a step overwrites what the
 *                                                                       last one left
 *
 * Every region begins on a 256-byte boundary. Set s works on copy s % n_kv.
 *
 * Counts keep the cache cold: between two uses of the same bytes at least ADM_COLD_L2 times the size of the L2 must pass. So
 * there are enough copies for the codes, and enough sets for the selected rows of K and V (each set has its own query, hence
 * its own selection), as far as memory allows. */
#ifndef ADM_KERNELS_GPU_PLAN_H
#define ADM_KERNELS_GPU_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/gpu/gpu.h"
#include "kernels/gpu/session.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADM_COLD_L2 = 4, ADM_MAX_SETS = 1024 };

typedef struct adm_gpu_plan {
    bool cold;
    uint64_t l2_bytes;
    uint64_t n_tokens;                       /* of all sequences together */
    uint32_t n_layers;                       /* different contents of a copy: layers of a session; else 1 */
    bool similar_queries;                    /* successive steps of a session select much the same tokens */
    uint32_t n_kv, n_sets;                   /* n_kv a multiple of n_layers, n_sets one of n_kv */
    size_t kv_bytes, planes_bytes;           /* of K, and of V, and of planes, in one copy */
    size_t channels_bytes;                   /* likewise; 0 but for asym4 */
    size_t copy_bytes, set_bytes, shared_bytes;
    size_t length, q, k_new, v_new, y, code, packed, index, n_selected, out; /* offsets in a set */
    size_t distance, workspace;                                              /* offsets in the shared region, which ends */
                                                                             /* with the workspaces */
    size_t page_table_bytes;
    size_t bytes;                            /* all of it */
} adm_gpu_plan;

/* The plan of a case of these inputs on a device with that L2; available_bytes: what copies and sets may take beyond the
 * minimum. The shape must be a valid one. */
void adm_gpu_plan_make(const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, bool cold, uint64_t l2_bytes,
                       uint64_t available_bytes, adm_gpu_plan *plan);

/* The page table [batch][max_pages]: pages in a scattered order, as a serving system's allocator leaves them, the same
 * every time. */
void adm_gpu_plan_pages(const adm_gpu_shape *shape, int32_t *pages);

/* Where the workspace of the registry's row of that stage and name lies behind the first: what one leaves there, no other
 * finds. NULL: where they end. */
size_t adm_gpu_plan_workspace(const adm_gpu_shape *shape, const adm_gpu_impl *impl);

/* Fills in a set's pointers, given where the three regions and the page table lie; workspace is that of the registry's first
 * row. */
adm_gpu_buffers adm_gpu_plan_buffers(const adm_gpu_plan *plan, uint32_t set, void *copies, void *sets, void *shared,
                                     const int32_t *page_table);

/* How many sets a timing of the stages in `covers` (bits 1 << adm_stage) at the shape's budget must go through in turn to
 * find a cold cache: a multiple of n_kv, at most n_sets; 1 if the plan is for a warm one. */
uint32_t adm_gpu_plan_rotation(const adm_gpu_plan *plan, const adm_gpu_shape *shape, uint32_t covers);

/* The bytes that pass between two uses of the same line of K, V or codes by these stages at that rotation, over the
 * level-2 cache: the smallest of the covered stages; 0 if none of them reads K, V or codes. */
double adm_gpu_plan_coldness(const adm_gpu_plan *plan, const adm_gpu_shape *shape, uint32_t covers);

#ifdef __cplusplus
}
#endif

#endif
