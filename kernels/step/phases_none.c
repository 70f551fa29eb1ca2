/* phases_none.c: stands in for the instrumented steps where a build has none. */
#include "kernels/step/phases.h"

adm_status adm_gpu_step_phases(const char *variant, const adm_gpu_shape *shape, adm_gpu_phases *out, adm_error *err) {
    (void)shape, (void)out;
    return adm_fail(err, ADM_EUNSUPPORTED, "the step '%s' has no instrumented instance in this build", variant);
}

adm_status adm_gpu_step_phases_launch(const char *variant, const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                      uint64_t *d_stamps, adm_gpu_stream stream, adm_error *err) {
    adm_gpu_phases none;
    (void)buffers, (void)d_stamps, (void)stream;
    return adm_gpu_step_phases(variant, shape, &none, err);
}
