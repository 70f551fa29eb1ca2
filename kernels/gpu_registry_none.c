/* gpu_registry_none.c: the table of GPU implementations in a build without CUDA: empty. */
#include "kernels/gpu/gpu.h"

size_t adm_gpu_registry_count(void) { return 0; }

const adm_gpu_impl *adm_gpu_registry_at(size_t i) {
    (void)i;
    return NULL;
}

const adm_gpu_impl *adm_gpu_registry_find(adm_stage stage, const char *name) {
    (void)stage, (void)name;
    return NULL;
}
