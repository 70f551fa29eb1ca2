/* phases.h: instrumented instances of the steps of one launch: when each phase ended, in every block.
 *
 *   stamps   [block][ADM_GPU_MAX_PHASES + 1]   clock64(), the SM's cycles: to be compared within a block only
 *            0: the wait for the kernel before is over; i + 1: phase i is over; as found: the block had no such phase */
#ifndef ADM_KERNELS_STEP_PHASES_H
#define ADM_KERNELS_STEP_PHASES_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ADM_GPU_MAX_PHASES = 12 };

typedef struct adm_gpu_phases {
    uint32_t n_phases;
    const char *name[ADM_GPU_MAX_PHASES]; /* static strings, in the order of the phases */
    uint32_t n_blocks;                    /* of a launch at this shape */
    size_t stamp_bytes;                   /* device memory that the caller brings */
} adm_gpu_phases;

/* What the instrumented step of that variant would stamp at this shape. ADM_EUNSUPPORTED, with the reason, where there is
 * none, or it does not take the shape. */
adm_status adm_gpu_step_phases(const char *variant, const adm_gpu_shape *shape, adm_gpu_phases *out, adm_error *err);

/* Enqueues it; its results are those of the step itself. d_stamps: on the device, stamp_bytes. */
adm_status adm_gpu_step_phases_launch(const char *variant, const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                      uint64_t *d_stamps, adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
