/* choice.h: which step of one launch serves a shape, and where six launches are faster. The one place for this; the launchers
 * of the fused and the grouped step ask it. By what was measured on an H200 (kernels/LOG.md). */
#ifndef ADM_KERNELS_STEP_CHOICE_H
#define ADM_KERNELS_STEP_CHOICE_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why another is the one to use, a static sentence; NULL: this one is. The shape is a valid one. */
const char *adm_step_why_not_grouped(const adm_gpu_shape *shape);
const char *adm_step_why_not_fused(const adm_gpu_shape *shape);

#ifdef __cplusplus
}
#endif

#endif
