/* gpu_rows.c: the table of GPU implementations, which kernels/gpu/registry.h looks up: one row per implementation. */
#include "kernels/attention/attention.h"
#include "kernels/attention/dense.h"
#include "kernels/distance/distance.h"
#include "kernels/encode/encode.h"
#include "kernels/gpu/registry.h"
#include "kernels/step/fused.h"
#include "kernels/step/grouped.h"
#include "kernels/topk/topk.h"

#define STAGE_BIT(stage) (1u << ADM_STAGE_##stage)
#define ENCODE (STAGE_BIT(HADAMARD) | STAGE_BIT(BUCKET) | STAGE_BIT(PACK) | STAGE_BIT(APPEND))

#define BY(metric) (1u << ADM_METRIC_##metric)
#define BY_ANY 0

/* In the order of the stages. */
#define ROW(...) \
    &(const adm_gpu_impl) { __VA_ARGS__ }
const adm_gpu_impl *const adm_gpu_rows[] = {
    ROW(ADM_STAGE_HADAMARD, "separate", "a warp per row", STAGE_BIT(HADAMARD), 0, adm_gpu_hadamard, NULL, BY_ANY),
    ROW(ADM_STAGE_BUCKET, "separate", "a thread four elements", STAGE_BIT(BUCKET), 0, adm_gpu_bucket, NULL, BY_ANY),
    ROW(ADM_STAGE_PACK, "separate", "a thread per byte", STAGE_BIT(PACK), 0, adm_gpu_pack, NULL, BY_ANY),
    ROW(ADM_STAGE_APPEND, "separate", "a warp per KV head", STAGE_BIT(APPEND), 0, adm_gpu_append, NULL, BY_ANY),
    ROW(ADM_STAGE_APPEND, "fused", "Hadamard to append in one launch", ENCODE, 0, adm_gpu_encode_step, NULL, BY_ANY),
    ROW(ADM_STAGE_APPEND, "prompt", "codes of every key of a prompt", ADM_GPU_COVERS_PROMPT, 0, adm_gpu_encode_prompt, NULL,
        BY_ANY),
    ROW(ADM_STAGE_DISTANCE, "l1", "L1 on bit planes", STAGE_BIT(DISTANCE), 0, adm_gpu_distance_l1, NULL, BY(L1)),
    ROW(ADM_STAGE_DISTANCE, "xor", "the authors' released metric", STAGE_BIT(DISTANCE), 0, adm_gpu_distance_xor, NULL, BY(XOR)),
    ROW(ADM_STAGE_DISTANCE, "dot", "dot product of the codes, by binary products", STAGE_BIT(DISTANCE), 0, adm_gpu_distance_dot,
        NULL, BY(DOT)),
    ROW(ADM_STAGE_DISTANCE, "asym4", "4-bit queries against codes by channel, by binary products", STAGE_BIT(DISTANCE), 0,
        adm_gpu_distance_asym4, NULL, BY(ASYM4)),
    ROW(ADM_STAGE_TOPK, "cluster", "counting select, a cluster of blocks per row", STAGE_BIT(TOPK), 0, adm_gpu_topk_cluster,
        NULL, BY_ANY),
    ROW(ADM_STAGE_TOPK, "two", "counting select in two launches", STAGE_BIT(TOPK), 0, adm_gpu_topk_two,
        adm_gpu_topk_two_workspace_bytes, BY_ANY),
    &adm_gpu_attention_impl,
    ROW(ADM_STAGE_STEP, "fused", "the whole step in one launch",
        ENCODE | STAGE_BIT(DISTANCE) | STAGE_BIT(TOPK) | STAGE_BIT(ATTENTION), ADM_GPU_ATTENTION_TOLERANCE, adm_gpu_step_fused,
        NULL, BY(L1)),
    ROW(ADM_STAGE_STEP, "grouped", "the same by binary products, where query heads share KV heads, or by asym4",
        ENCODE | STAGE_BIT(DISTANCE) | STAGE_BIT(TOPK) | STAGE_BIT(ATTENTION), ADM_GPU_ATTENTION_TOLERANCE,
        adm_gpu_step_grouped, NULL, BY(L1) | BY(ASYM4)),
    &adm_gpu_dense_impl,
};

const size_t adm_gpu_n_rows = sizeof adm_gpu_rows / sizeof *adm_gpu_rows;
