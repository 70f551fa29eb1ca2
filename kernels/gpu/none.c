/* none.c: the GPU room in a build without CUDA. Questions about devices are answered with the reason why there is none, and the
 * cure. The tables of implementations and of their parameters are empty. Nothing else can be reached, since there is no
 * adm_gpu. */
#include "kernels/gpu/bandwidth.h"
#include "kernels/gpu/case.h"
#include "kernels/gpu/memory.h"
#include "kernels/gpu/observe.h"
#include "kernels/gpu/registry.h"
#include "kernels/gpu/time.h"
#include "kernels/gpu/ways.h"

const adm_gpu_impl *const adm_gpu_rows[] = {NULL};
const size_t adm_gpu_n_rows = 0;
const adm_gpu_ways adm_gpu_way_rows[] = {{.row = ""}};
const size_t adm_gpu_n_ways = 0;

/* --- device.h, memory.h, bandwidth.h ------------------------------------------------------------------------------ */

adm_status adm_device_list(adm_device_info *out, int capacity, int *n, adm_error *err) {
    (void)out, (void)capacity;
    *n = 0;
    return adm_fail(err, ADM_EUNSUPPORTED,
                    "this program was built without CUDA: install the CUDA toolkit 13, run ./configure.py and "
                    "build again");
}

static adm_status no_memory(adm_error *err) {
    return adm_fail(err, ADM_EUNSUPPORTED, "this program was built without CUDA, so it has no device memory");
}

adm_status adm_gpu_allocate(size_t bytes, unsigned char fill, void **out, adm_error *err) {
    (void)bytes, (void)fill;
    *out = NULL;
    return no_memory(err);
}

void adm_gpu_release(void *pointer_address) { *(void **)pointer_address = NULL; }

adm_status adm_gpu_write(void *device, const void *host, size_t bytes, adm_error *err) {
    (void)device, (void)host, (void)bytes;
    return no_memory(err);
}

adm_status adm_gpu_fill(void *device, unsigned char value, size_t bytes, adm_error *err) {
    (void)device, (void)value, (void)bytes;
    return no_memory(err);
}

adm_status adm_bandwidth_read(size_t buffer_bytes, double *bytes_per_s, adm_error *err) {
    (void)buffer_bytes;
    *bytes_per_s = 0;
    return adm_fail(err, ADM_EUNSUPPORTED, "this program was built without CUDA, so it measures no device's bandwidth");
}

/* --- context.h ---------------------------------------------------------------------------------------------------- */

adm_status adm_gpu_open(int device, adm_gpu **out, adm_error *err) {
    int n;
    (void)device;
    *out = NULL;
    return adm_device_list(NULL, 0, &n, err);
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
adm_status adm_gpu_read(adm_gpu *gpu, const void *device, size_t bytes, void *host, adm_error *err) {
    (void)gpu, (void)device, (void)bytes, (void)host;
    return unreachable(err);
}

/* --- case.h, time.h ----------------------------------------------------------------------------------------------- */

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
adm_status adm_gpu_case_run_first(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, uint32_t n_sets,
                                  adm_error *err) {
    (void)gpu_case, (void)impls, (void)n_impls, (void)n_sets;
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
adm_status adm_gpu_time(adm_gpu_case *gpu_case, const adm_gpu_impl *const *impls, size_t n_impls, adm_gpu_launch_mode mode,
                        double target, uint64_t cap_ns, adm_gpu_timing *timing, adm_error *err) {
    (void)gpu_case, (void)impls, (void)n_impls, (void)mode, (void)target, (void)cap_ns, (void)timing;
    return unreachable(err);
}

/* --- observe.h ---------------------------------------------------------------------------------------------------- */

adm_status adm_gpu_wait(adm_gpu *gpu, adm_error *err) {
    (void)gpu;
    return unreachable(err);
}
adm_status adm_gpu_cycle_ns(adm_gpu *gpu, double *ns, adm_error *err) {
    (void)gpu, (void)ns;
    return unreachable(err);
}
adm_status adm_gpu_flusher_create(adm_gpu *gpu, adm_gpu_flusher **out, adm_error *err) {
    (void)gpu;
    *out = NULL;
    return unreachable(err);
}
void adm_gpu_flusher_free(adm_gpu_flusher **flusher) { *flusher = NULL; }
adm_status adm_gpu_flush_l2(adm_gpu_flusher *flusher, adm_error *err) {
    (void)flusher;
    return unreachable(err);
}
adm_status adm_gpu_graph_begin(adm_gpu *gpu, adm_error *err) {
    (void)gpu;
    return unreachable(err);
}
adm_status adm_gpu_graph_nodes(adm_gpu *gpu, size_t *n, adm_error *err) {
    (void)gpu, (void)n;
    return unreachable(err);
}
adm_status adm_gpu_graph_end(adm_gpu *gpu, adm_gpu_graph **out, adm_error *err) {
    (void)gpu;
    *out = NULL;
    return unreachable(err);
}
adm_status adm_gpu_graph_launch(adm_gpu_graph *graph, adm_error *err) {
    (void)graph;
    return unreachable(err);
}
adm_status adm_gpu_graph_time(adm_gpu_graph *graph, uint32_t n, double *ns, adm_error *err) {
    (void)graph, (void)n;
    *ns = 0;
    return unreachable(err);
}
void adm_gpu_graph_free(adm_gpu_graph **graph) { *graph = NULL; }
