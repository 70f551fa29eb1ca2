/* check.h: the GPU's results against the host reference, on the buffers that are timed. */
#ifndef ADM_KERNELS_PROFILE_CHECK_H
#define ADM_KERNELS_PROFILE_CHECK_H

#include "kernels/profile/reference.h"

/* Runs a unit on the reference's set, whose hand-over is in place, with poisoned outputs, and compares what it wrote.
 * ADM_OK: right. ADM_EINTERNAL: wrong, the sentence says where. Other statuses: it could not be run. */
adm_status adm_profile_check(adm_gpu *gpu, adm_gpu_case *gpu_case, adm_profile_reference *reference,
                             const adm_profile_unit *unit, adm_error *err);

#endif
