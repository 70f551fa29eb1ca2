/* gpu_judge.h: judges GPU implementations: each candidate in a process of its own that opens the device, checks on small odd
 * shapes and on the configuration that is timed, times, and checks what the timed calls left. The judge's process never opens
 * the device, so that an illegal address costs the candidate's process alone. */
#ifndef ADM_KERNELS_TUNE_GPU_GPU_JUDGE_H
#define ADM_KERNELS_TUNE_GPU_GPU_JUDGE_H

#include "kernels/gpu/device.h"
#include "kernels/tune/host/host_session.h"

/* What the device is, asked in a process of its own. ADM_EUNSUPPORTED with the reason where there is none. */
adm_status adm_tune_find_device(int device, adm_device_info *info, adm_error *err);

/* Times the settings of a search with a few samples each: in one process and on one set of buffers as long as none fails, which
 * then goes on with the next in another. results: as of a session, without resources and floor. */
adm_status adm_gpu_judge_screen(const adm_tune_options *options, int device, const adm_candidate *candidates, size_t n,
                                adm_tune_result *results, uint64_t *seed, adm_error *err);

/* As adm_host_session_run(), for candidates of the GPU. */
adm_status adm_gpu_judge_run(const adm_tune_options *options, int device, const adm_candidate *candidates, size_t n,
                             adm_tune_result *results, uint64_t *seed, adm_error *err);

#endif
