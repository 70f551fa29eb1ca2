/* gpu_launch.h: the launchers that the CUDA files export, one line each, and what they share on the host side.
 * gpu_registry.c makes the table of them; nobody else needs this header. */
#ifndef ADM_KERNELS_GPU_GPU_LAUNCH_H
#define ADM_KERNELS_GPU_GPU_LAUNCH_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ADM_EUNSUPPORTED, with the limit, for a shape outside what gpu.h allows. Every launcher calls it first. */
adm_status adm_gpu_shape_check(const adm_gpu_shape *shape, adm_error *err);

/* encode.cu */
adm_gpu_launch_fn adm_gpu_hadamard, adm_gpu_bucket, adm_gpu_pack, adm_gpu_append, adm_gpu_encode_step, adm_gpu_encode_prompt;

/* distance.cu */
adm_gpu_launch_fn adm_gpu_distance_l1, adm_gpu_distance_xor;
/* l1 with so many blocks a multiprocessor, and so many pieces (1 to 8) in flight a warp. */
adm_status adm_gpu_distance_l1_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t blocks_a_processor,
                                     uint32_t stages, adm_gpu_stream stream, adm_error *err);

/* topk.cu */
adm_gpu_launch_fn adm_gpu_topk_cluster, adm_gpu_topk_two;
size_t adm_gpu_topk_two_workspace_bytes(const adm_gpu_shape *shape);
/* cluster with so many blocks a row: 1, 2, 4, 8; 0: the default. */
adm_status adm_gpu_topk_cluster_split(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                      adm_gpu_stream stream, adm_error *err);

/* fused.cu */
adm_gpu_launch_fn adm_gpu_step_fused;
/* The same with so many blocks a cluster: 1, 2, 4, 8; 0: the default. */
adm_status adm_gpu_step_fused_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                    adm_gpu_stream stream, adm_error *err);

/* grouped.cu: shapes that it does not take go to the fused step. */
adm_gpu_launch_fn adm_gpu_step_grouped;
/* How it is cut; zeros: the default. */
typedef struct adm_gpu_grouped_tuning {
    uint32_t heads;   /* query heads a block, 1 to 8 */
    uint32_t split;   /* blocks a cluster: 2, 4, 8, 16 */
    uint32_t slots;   /* tiles of codes in shared memory, a warp: 2, 4, 6, 8 */
    uint32_t kept;    /* tiles a warp of which every distance is kept, even */
    uint32_t trigger; /* when the next kernel may start: 0 at once, 1 with the query, 2 after the scan, 3 with the gather */
    uint32_t ahead;   /* pieces to ask into the second-level cache before the wait */
} adm_gpu_grouped_tuning;
/* ADM_EUNSUPPORTED for shapes that it does not take. */
adm_status adm_gpu_step_grouped_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                      const adm_gpu_grouped_tuning *tuning, adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
