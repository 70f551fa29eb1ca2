/* fake_gpu_tune.c: what judging candidates needs of a device beyond fake_gpu.c: plain memory, and the answers of
 * kernels/tune/candidate/launch.h. Launchers of a shared object get host memory. */
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "kernels/gpu/memory.h"
#include "kernels/tune/candidate/launch.h"
#include "tests/support/fake_gpu.h"

adm_status adm_gpu_allocate(size_t bytes, unsigned char fill, void **out, adm_error *err) {
    *out = NULL;
    if (bytes > adm_fake_gpu_bytes()) return adm_fail(err, ADM_EENVIRONMENT, "out of device memory: %zu bytes needed", bytes);
    adm_status status = adm_alloc(out, bytes, 1, "device memory", err);
    if (status == ADM_OK) memset(*out, fill, bytes);
    return status;
}

void adm_gpu_release(void *pointer_address) { adm_free(pointer_address); }

adm_status adm_gpu_write(void *device, const void *host, size_t bytes, adm_error *err) {
    (void)err;
    memcpy(device, host, bytes);
    return ADM_OK;
}

adm_status adm_gpu_fill(void *device, unsigned char value, size_t bytes, adm_error *err) {
    (void)err;
    memset(device, value, bytes);
    return ADM_OK;
}

adm_status adm_tune_module_load(const char *path, const char *kernel, adm_tune_module **out, adm_error *err) {
    (void)kernel;
    *out = NULL;
    return adm_fail(err, ADM_EINPUT, "%s: a fake GPU runs no module", path);
}

adm_status adm_tune_module_run(const adm_tune_module *module, const adm_tune_launch *launch, adm_gpu_stream stream,
                               adm_error *err) {
    (void)module, (void)launch, (void)stream;
    return adm_fail(err, ADM_EINTERNAL, "a fake GPU runs no module");
}

const char *adm_tune_cuda_words(int error) { return error == 700 ? "an illegal address" : "an error"; }

adm_status adm_tune_reset_l2(adm_error *err) {
    (void)err;
    return ADM_OK;
}

adm_status adm_tune_inspect(adm_gpu *gpu, adm_gpu_case *gpu_case, const adm_gpu_impl *impl, adm_tune_resources *resources,
                            adm_error *err) {
    (void)gpu, (void)gpu_case, (void)impl, (void)err;
    *resources = (adm_tune_resources){32, 1024, 0, 0, 128, 64, 16, 1.0, "threads", 1};
    return ADM_OK;
}
