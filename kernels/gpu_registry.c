/* gpu_registry.c: the table of GPU implementations, and what shapes they all take. */
#include <string.h>

#include "kernels/attention/attention_gpu.h"
#include "kernels/gpu/gpu_launch.h"

#define STAGE_BIT(stage) (1u << ADM_STAGE_##stage)
#define ENCODE (STAGE_BIT(HADAMARD) | STAGE_BIT(BUCKET) | STAGE_BIT(PACK) | STAGE_BIT(APPEND))

/* Results are rounded to the dtype at the end: half a unit in the last place, 2^-9 of a value in BF16 and 2^-12 in F16.
 * Float32 sums and exponentials add far less, so twice the larger is ample and yet below any real mistake. */
#define ATTENTION_TOLERANCE 0x1p-8

/* In the order of the stages. */
#define ROW(...) \
    &(const adm_gpu_impl) { __VA_ARGS__ }
static const adm_gpu_impl *const rows[] = {
    ROW(ADM_STAGE_HADAMARD, "separate", "a warp a row", STAGE_BIT(HADAMARD), 0, adm_gpu_hadamard, NULL),
    ROW(ADM_STAGE_BUCKET, "separate", "a thread four elements", STAGE_BIT(BUCKET), 0, adm_gpu_bucket, NULL),
    ROW(ADM_STAGE_PACK, "separate", "a thread a byte", STAGE_BIT(PACK), 0, adm_gpu_pack, NULL),
    ROW(ADM_STAGE_APPEND, "separate", "a warp a KV head", STAGE_BIT(APPEND), 0, adm_gpu_append, NULL),
    ROW(ADM_STAGE_APPEND, "fused", "Hadamard to append in one launch", ENCODE, 0, adm_gpu_encode_step, NULL),
    ROW(ADM_STAGE_APPEND, "prompt", "codes of every key of a prompt", ADM_GPU_COVERS_PROMPT, 0, adm_gpu_encode_prompt, NULL),
    ROW(ADM_STAGE_DISTANCE, "l1", "L1 on bit planes", STAGE_BIT(DISTANCE), 0, adm_gpu_distance_l1, NULL),
    ROW(ADM_STAGE_DISTANCE, "xor", "the authors' released metric", STAGE_BIT(DISTANCE), 0, adm_gpu_distance_xor, NULL),
    ROW(ADM_STAGE_TOPK, "cluster", "counting select, a cluster of blocks a row", STAGE_BIT(TOPK), 0, adm_gpu_topk_cluster,
        NULL),
    ROW(ADM_STAGE_TOPK, "two", "counting select in two launches", STAGE_BIT(TOPK), 0, adm_gpu_topk_two,
        adm_gpu_topk_two_workspace_bytes),
    &adm_gpu_attention_impl,
    ROW(ADM_STAGE_STEP, "fused", "the whole step in one launch",
        ENCODE | STAGE_BIT(DISTANCE) | STAGE_BIT(TOPK) | STAGE_BIT(ATTENTION), ATTENTION_TOLERANCE, adm_gpu_step_fused, NULL),
    ROW(ADM_STAGE_STEP, "grouped", "the same by binary products, where query heads share KV heads",
        ENCODE | STAGE_BIT(DISTANCE) | STAGE_BIT(TOPK) | STAGE_BIT(ATTENTION), ATTENTION_TOLERANCE, adm_gpu_step_grouped, NULL),
    &adm_gpu_dense_impl,
};

size_t adm_gpu_registry_count(void) { return sizeof rows / sizeof *rows; }

const adm_gpu_impl *adm_gpu_registry_at(size_t i) { return i < adm_gpu_registry_count() ? rows[i] : NULL; }

const adm_gpu_impl *adm_gpu_registry_find(adm_stage stage, const char *name) {
    for (size_t i = 0; i < adm_gpu_registry_count(); i++)
        if (rows[i]->stage == stage && strcmp(rows[i]->name, name) == 0) return rows[i];
    return NULL;
}

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
        return adm_fail(err, ADM_EUNSUPPORTED, "%u pages of %u tokens a sequence do not reach its capacity of %u",
                        shape->max_pages, shape->page_size, shape->capacity);
    return ADM_OK;
}
