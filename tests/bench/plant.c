/* plant.c: makes one host stage slower on purpose, for the tests of `adamas check`. Linked into
 * build/PROFILE/tests/adamas-planted with --wrap, so that nothing of it is in the program itself:
 *
 *     adm_host_pipeline_default()  ->  __wrap_...: the fastest stages, with top-k behind slow_topk()
 *
 * ADM_PLANT_PERCENT (configure.py --plant-slowdown): how much longer top-k takes. */
#include "core/system/clock.h"
#include "core/contract/stage.h"
#include "kernels/registry.h"

void __real_adm_host_pipeline_default(adm_host_pipeline *pipeline);
void __wrap_adm_host_pipeline_default(adm_host_pipeline *pipeline);

static adm_topk_fn *right_topk;
static adm_host_impl slow;

static uint32_t slow_topk(const uint16_t *distance, size_t n_tokens, uint32_t max_distance, const adm_select_rule *rule,
                          uint32_t *histogram, uint32_t *index, adm_select_info *info) {
    uint64_t start_ns = adm_clock_ns();
    uint32_t n = right_topk(distance, n_tokens, max_distance, rule, histogram, index, info);
    uint64_t took_ns = adm_clock_ns() - start_ns, until_ns = start_ns + took_ns + took_ns * ADM_PLANT_PERCENT / 100;
    while (adm_clock_ns() < until_ns) {}
    return n;
}

void __wrap_adm_host_pipeline_default(adm_host_pipeline *pipeline) {
    __real_adm_host_pipeline_default(pipeline);
    right_topk = pipeline->topk->fn.topk;
    slow = *pipeline->topk;
    slow.fn.topk = slow_topk;
    pipeline->topk = &slow;
}
