/* gpu.c: which shapes the GPU kernels take, and how a thread launches them. */
#include "kernels/gpu/gpu.h"

adm_status adm_gpu_shape_check(const adm_gpu_shape *shape, adm_error *err) {
    adm_status status = adm_shape_check(&shape->heads, err);
    if (status == ADM_OK) status = adm_select_rule_check(&shape->rule, err);
    if (status != ADM_OK) return status;
    if (shape->dtype != ADM_F16 && shape->dtype != ADM_BF16)
        return adm_fail(err, ADM_EUNSUPPORTED, "the GPU kernels take F16 and BF16, not %s", adm_dtype_name(shape->dtype));
    if (shape->batch < 1 || shape->batch > 64)
        return adm_fail(err, ADM_EUNSUPPORTED, "a batch of %u sequences: the GPU kernels take 1 to 64", shape->batch);
    if (shape->capacity == 0 || shape->capacity % 32 != 0 || shape->capacity > 1u << 20)
        return adm_fail(err, ADM_EUNSUPPORTED, "a capacity of %u tokens: the GPU kernels take multiples of 32 up to %u",
                        shape->capacity, 1u << 20);
    if (shape->page_size > 64)
        return adm_fail(err, ADM_EUNSUPPORTED, "pages of %u tokens: the GPU kernels take 1 to 64, or 0 for none",
                        shape->page_size);
    if (shape->page_size > 0 && (uint64_t)shape->max_pages * shape->page_size < shape->capacity)
        return adm_fail(err, ADM_EUNSUPPORTED, "%u pages of %u tokens per sequence do not reach its capacity of %u",
                        shape->max_pages, shape->page_size, shape->capacity);
    if (shape->metric != ADM_METRIC_L1 && shape->metric != ADM_METRIC_XOR && shape->metric != ADM_METRIC_DOT &&
        shape->metric != ADM_METRIC_ASYM4)
        return adm_fail(err, ADM_EUNSUPPORTED, "the GPU kernels compare codes by l1, xor, dot and asym4");
    return ADM_OK;
}

static _Thread_local bool launches_apart;

bool adm_gpu_launches_apart(void) { return launches_apart; }
void adm_gpu_launch_apart(bool apart) { launches_apart = apart; }
