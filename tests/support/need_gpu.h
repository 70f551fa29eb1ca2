/* need_gpu.h: the device of the tests that need one. Without a GPU such a test skips, with the reason; with one that
 * cannot be opened, the group fails. */
#ifndef ADM_TESTS_SUPPORT_NEED_GPU_H
#define ADM_TESTS_SUPPORT_NEED_GPU_H

#include "kernels/gpu/context.h"
#include "tests/support/stage_check.h"

static adm_gpu *gpu;
static adm_error no_gpu; /* why gpu is NULL */

/* Group set-up and teardown. */
static inline int open_gpu(void **state) {
    (void)state;
    adm_status status = adm_gpu_open(0, &gpu, &no_gpu);
    if (status != ADM_OK && status != ADM_EUNSUPPORTED) print_error("%s\n", no_gpu.text);
    return status == ADM_OK || status == ADM_EUNSUPPORTED ? 0 : -1;
}

static inline int close_gpu(void **state) {
    (void)state;
    adm_gpu_close(&gpu);
    return 0;
}

/* The first line of every test. */
static inline void needs_gpu(void) {
    if (gpu != NULL) return;
    print_message("no device: %s\n", no_gpu.text);
    skip();
}

#endif
