/* gpu_run_none.c: kernels/gpu/gpu_run.h in a build without CUDA: opening says why, and nothing else can be reached. */
#include "kernels/gpu/gpu_run.h"

adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err) {
    int n;
    (void)device;
    *out = NULL;
    return adm_device_list(NULL, 0, &n, err); /* ADM_EUNSUPPORTED, in its own words */
}

static adm_status unreachable(adm_error *err) {
    return adm_fail(err, ADM_EINTERNAL, "a GPU function was called in a build without CUDA");
}

void adm_gpu_close(adm_gpu **gpu) { *gpu = NULL; }
const adm_device_info *adm_gpu_device(const adm_gpu *gpu) {
    (void)gpu;
    return NULL;
}
adm_gpu_stream adm_gpu_stream_of(const adm_gpu *gpu) {
    (void)gpu;
    return NULL;
}
bool adm_gpu_alive(const adm_gpu *gpu) {
    (void)gpu;
    return false;
}

adm_status adm_gpu_case_create(adm_gpu *gpu, const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, bool cold,
                               adm_gpu_case **out, adm_error *err) {
    (void)gpu, (void)shape, (void)inputs, (void)cold;
    *out = NULL;
    return unreachable(err);
}

void adm_gpu_case_free(adm_gpu_case **gpu_case) { *gpu_case = NULL; }
const adm_gpu_plan *adm_gpu_case_plan(const adm_gpu_case *gpu_case) {
    (void)gpu_case;
    return NULL;
}
adm_gpu_shape adm_gpu_case_shape(const adm_gpu_case *gpu_case, uint32_t set) {
    (void)gpu_case, (void)set;
    return (adm_gpu_shape){.batch = 0};
}
const adm_gpu_buffers *adm_gpu_case_buffers(const adm_gpu_case *gpu_case, uint32_t set) {
    (void)gpu_case, (void)set;
    return NULL;
}
const int32_t *adm_gpu_case_pages(const adm_gpu_case *gpu_case) {
    (void)gpu_case;
    return NULL;
}
void adm_gpu_case_set_rule(adm_gpu_case *gpu_case, const adm_select_rule *rule) { (void)gpu_case, (void)rule; }

adm_status adm_gpu_case_poison(adm_gpu_case *gpu_case, uint32_t set, uint32_t covers, adm_error *err) {
    (void)gpu_case, (void)set, (void)covers;
    return unreachable(err);
}

adm_status adm_gpu_case_run(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t set,
                            adm_error *err) {
    (void)gpu_case, (void)impls, (void)n_impls, (void)set;
    return unreachable(err);
}

adm_status adm_gpu_case_run_all(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, adm_error *err) {
    (void)gpu_case, (void)impls, (void)n_impls;
    return unreachable(err);
}

adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err) {
    (void)gpu, (void)device, (void)bytes, (void)host;
    return unreachable(err);
}

adm_status adm_gpu_time(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, adm_gpu_launch_mode mode,
                        double target, uint64_t cap_ns, adm_gpu_timing *timing, adm_error *err) {
    (void)gpu_case, (void)impls, (void)n_impls, (void)mode, (void)target, (void)cap_ns, (void)timing;
    return unreachable(err);
}

adm_status adm_gpu_case_clear(adm_gpu_case *gpu_case, adm_error *err) {
    (void)gpu_case;
    return unreachable(err);
}
adm_status adm_gpu_case_launch(adm_gpu_case *gpu_case, const adm_gpu_impl *impl, uint32_t set, adm_error *err) {
    (void)gpu_case, (void)impl, (void)set;
    return unreachable(err);
}
