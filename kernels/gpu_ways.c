/* gpu_ways.c: the launch parameters of GPU rows that a search may choose: kernels/gpu/ways.h. The values are those that can be
 * the fastest somewhere; what a shape does not take is refused by the launcher. */
#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"
#include "kernels/distance/distance.h"
#include "kernels/gpu/ways.h"
#include "kernels/step/fused.h"
#include "kernels/step/grouped.h"
#include "kernels/topk/topk.h"

/* Values outside a launcher's limits are a way that the shape does not have. */
static adm_status as_unsupported(adm_status status, adm_error *err) {
    if (status == ADM_EINPUT && err != NULL) err->status = ADM_EUNSUPPORTED;
    return status == ADM_EINPUT ? ADM_EUNSUPPORTED : status;
}

/* WARPS 0: by lists of candidates. */
static adm_status topk(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const int64_t *value, adm_gpu_stream stream,
                       adm_error *err) {
    const uint32_t blocks = (uint32_t)value[0], warps = (uint32_t)value[1];
    return as_unsupported(warps == 0 ? adm_gpu_topk_cluster_split(shape, buffers, blocks, stream, err)
                                     : adm_gpu_topk_held(shape, buffers, blocks, warps, stream, err),
                          err);
}

static adm_status attention(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const int64_t *value,
                            adm_gpu_stream stream, adm_error *err) {
    return as_unsupported(adm_gpu_attention_tuned(shape, buffers, (unsigned)value[0], (unsigned)value[1], stream, err), err);
}

static adm_status distance(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const int64_t *value,
                           adm_gpu_stream stream, adm_error *err) {
    return as_unsupported(adm_gpu_distance_l1_tuned(shape, buffers, (uint32_t)value[0], (uint32_t)value[1], stream, err), err);
}

static adm_status fused(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const int64_t *value, adm_gpu_stream stream,
                        adm_error *err) {
    return as_unsupported(adm_gpu_step_fused_tuned(shape, buffers, (uint32_t)value[0], stream, err), err);
}

static adm_status grouped(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const int64_t *value,
                          adm_gpu_stream stream, adm_error *err) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (value[0] > group)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step with %u heads a block: %u share a KV head", (unsigned)value[0],
                        group);
    const adm_gpu_grouped_tuning tuning = {
        .heads = (uint32_t)value[0], .split = (uint32_t)value[1], .trigger = (uint32_t)value[2]};
    return as_unsupported(adm_gpu_step_grouped_tuned(shape, buffers, &tuning, stream, err), err);
}

static adm_status dense(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const int64_t *value, adm_gpu_stream stream,
                        adm_error *err) {
    const adm_dense_tuning tuning = {
        .team = (unsigned)value[0], .n_warps = (unsigned)value[1], .tile_tokens = (unsigned)value[2]};
    return as_unsupported(adm_gpu_dense_tuned(shape, buffers, &tuning, stream, err), err);
}

const adm_gpu_ways adm_gpu_way_rows[] = {
    {ADM_STAGE_DISTANCE, "l1", {{"BLOCKS_PER_SM", {1, 2, 3, 4}, 4}, {"LOADS", {1, 2, 4}, 3}}, distance},
    {ADM_STAGE_TOPK, "cluster", {{"BLOCKS", {1, 2, 4, 6, 8}, 5}, {"WARPS", {0, 16, 32}, 3}}, topk},
    {ADM_STAGE_ATTENTION, "cluster", {{"BLOCKS", {1, 2, 4, 8}, 4}, {"WARPS", {2, 4, 6, 8, 12, 16}, 6}}, attention},
    {ADM_STAGE_STEP, "fused", {{"BLOCKS", {1, 2, 4, 8}, 4}}, fused},
    {ADM_STAGE_STEP, "grouped", {{"HEADS", {1, 2, 4}, 3}, {"BLOCKS", {2, 4, 8, 16}, 4}, {"TRIGGER", {0, 2}, 2}}, grouped},
    {ADM_STAGE_DENSE, "split", {{"TEAM", {1, 2, 4, 8}, 4}, {"WARPS", {4, 8}, 2}, {"TILE", {16, 32}, 2}}, dense},
};

const size_t adm_gpu_n_ways = sizeof adm_gpu_way_rows / sizeof *adm_gpu_way_rows;
