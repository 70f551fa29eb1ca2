/* gpu_memory_none.c: the answer of a build without CUDA. */
#include "kernels/gpu/gpu_memory.h"

static adm_status without_cuda(adm_error *err) {
    return adm_fail(err, ADM_EUNSUPPORTED, "this program was built without CUDA, so it has no device memory");
}

adm_status adm_gpu_allocate(size_t bytes, unsigned char fill, void **out, adm_error *err) {
    (void)bytes;
    (void)fill;
    *out = NULL;
    return without_cuda(err);
}

void adm_gpu_release(void *pointer_address) { *(void **)pointer_address = NULL; }

adm_status adm_gpu_write(void *device, const void *host, size_t bytes, adm_error *err) {
    (void)device;
    (void)host;
    (void)bytes;
    return without_cuda(err);
}

adm_status adm_gpu_fill(void *device, unsigned char value, size_t bytes, adm_error *err) {
    (void)device;
    (void)value;
    (void)bytes;
    return without_cuda(err);
}
