/* gpu_registry_none.c: the table of GPU implementations in a build without CUDA: empty. Device memory too. */
#include "kernels/gpu.h"
#include "kernels/gpu_memory.h"

size_t adm_gpu_registry_count(void) { return 0; }

const adm_gpu_impl *adm_gpu_registry_at(size_t i) {
    (void)i;
    return NULL;
}

const adm_gpu_impl *adm_gpu_registry_find(adm_stage stage, const char *name) {
    (void)stage, (void)name;
    return NULL;
}

static adm_status no_cuda(adm_error *err) { return adm_fail(err, ADM_EUNSUPPORTED, "this build has no CUDA"); }

adm_status adm_gpu_alloc(size_t bytes, void **out, adm_error *err) {
    (void)bytes;
    *out = NULL;
    return no_cuda(err);
}

void adm_gpu_free(void **device) { *device = NULL; }

adm_status adm_gpu_upload(void *device, const void *host, size_t bytes, adm_error *err) {
    (void)device, (void)host, (void)bytes;
    return no_cuda(err);
}

adm_status adm_gpu_download(void *host, const void *device, size_t bytes, adm_error *err) {
    (void)host, (void)device, (void)bytes;
    return no_cuda(err);
}

adm_status adm_gpu_synchronize(adm_error *err) { return no_cuda(err); }
