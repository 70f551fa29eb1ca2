/* launch_none.c: launch.h in a build without CUDA. */
#include "kernels/tune/candidate/launch.h"

static adm_status none(adm_error *err) { return adm_fail(err, ADM_EUNSUPPORTED, "this program was built without CUDA"); }

adm_status adm_tune_module_load(const char *path, const char *kernel, adm_tune_module **out, adm_error *err) {
    (void)path, (void)kernel;
    *out = NULL;
    return none(err);
}

adm_status adm_tune_module_run(const adm_tune_module *module, const adm_tune_launch *launch, adm_gpu_stream stream,
                               adm_error *err) {
    (void)module, (void)launch, (void)stream;
    return none(err);
}

const char *adm_tune_cuda_words(int error) {
    (void)error;
    return "an error of CUDA";
}

adm_status adm_tune_reset_l2(adm_error *err) {
    (void)err;
    return ADM_OK;
}

adm_status adm_tune_inspect(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_impl *impl, adm_tune_resources *resources,
                            adm_error *err) {
    (void)gpu, (void)gpu_case, (void)impl, (void)resources, (void)err;
    return ADM_OK;
}
