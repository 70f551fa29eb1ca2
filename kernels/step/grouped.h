/* grouped.h: the launchers of grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_H
#define ADM_KERNELS_STEP_GROUPED_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ADM_EUNSUPPORTED, with the reason, also for shapes at which the fused step was seen to be as fast. */
adm_gpu_launch_fn adm_gpu_step_grouped;
/* How it is cut; zeros: the default. */
typedef struct adm_gpu_grouped_tuning {
    uint32_t heads;   /* query heads a block, 1 to 8 */
    uint32_t split;   /* blocks a cluster, 2 to 16 */
    uint32_t slots;   /* pairs of tiles of codes in shared memory, a warp, 1 to 4 */
    uint32_t list_entries;    /* entries of a list of candidates, a lane, in place of all distances */
    uint32_t trigger; /* when the next kernel may start: 0 at once, 1 with the query, 2 after the scan, 3 with the gather */
    uint32_t counted; /* not 0, with lists: all distances are counted at once, not later those listed */
} adm_gpu_grouped_tuning;
/* ADM_EUNSUPPORTED for shapes that it does not take. */
adm_status adm_gpu_step_grouped_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                      const adm_gpu_grouped_tuning *tuning, adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
