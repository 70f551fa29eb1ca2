/* choice.c: see choice.h. */
#include "kernels/step/choice.h"

#include <stdbool.h>
#include <stddef.h>

enum {
    MANY_KV_HEADS = 64,   /* of all sequences */
    LONG = 131072,        /* tokens */
    KEPT_BUDGET = 2048,   /* of long rows: one that the grouped step has no room for any more */
    SHARED_BUDGET = 4096, /* of a group that shares its selection: one from which on six stages are faster */
    SORTED_DISTANCE = 16384 /* larger ones the six stages do not select from */
};

static uint32_t kv_heads(const adm_gpu_shape *shape) { return shape->batch * shape->heads.n_kv_heads; }

/* The attention of six stages over many tokens of few heads has more SMs than a step's clusters. */
static const char *why_six(const adm_gpu_shape *shape) {
    const uint32_t heads = shape->batch * shape->heads.n_q_heads, group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    const uint32_t budget = shape->rule.budget;
    if (shape->selection != ADM_SELECT_HEAD) return NULL;
    if (heads > 16 && heads <= 32 && budget >= 4096 && shape->capacity >= 16384)
        return "budgets this large of few heads are faster in six stages";
    if (kv_heads(shape) >= MANY_KV_HEADS && group > 1 && budget >= 2048 && shape->capacity >= 32768 && shape->capacity < LONG)
        return "budgets this large of large batches are faster in six stages";
    if (group > 4 && budget >= 1024 && shape->capacity > 2 * LONG)
        return "budgets this large of rows this long are faster in six stages";
    return NULL;
}

/* A group of several heads that shares its selection. */
static bool shares(const adm_gpu_shape *shape) {
    return shape->selection == ADM_SELECT_GROUP && shape->heads.n_q_heads > shape->heads.n_kv_heads;
}

static const char *why_not_shared(const adm_gpu_shape *shape) {
    const uint32_t budget = shape->rule.budget < shape->capacity ? shape->rule.budget : shape->capacity;
    if (shape->capacity > 2 * LONG) return "of rows this long six stages read faster";
    const bool small = shape->capacity <= 16384 || kv_heads(shape) <= 4; /* too few tokens or blocks for half of that */
    if (budget >= (small ? SHARED_BUDGET / 2 : SHARED_BUDGET) || (kv_heads(shape) >= MANY_KV_HEADS && budget > 1024))
        return "budgets this large of a shared selection are faster in six stages";
    return NULL;
}

static uint32_t largest_grouped_budget(const adm_gpu_shape *shape, uint32_t group) {
    const bool is_short = shape->capacity < 16384;
    if (kv_heads(shape) >= MANY_KV_HEADS) return shape->capacity > 16384 ? 1024 : shape->capacity / (is_short ? 16 : 8);
    return shape->capacity / (group > 4 || is_short ? 16 : 4);
}

/* With asym4 there is no fused step. */
static const char *why_not_asym4(const adm_gpu_shape *shape) {
    return shares(shape) && shape->capacity > 2 * LONG && adm_gpu_max_distance(shape) < SORTED_DISTANCE
               ? "of rows this long six stages read faster"
               : NULL;
}

/* One query head per KV head. */
static const char *why_not_single(const adm_gpu_shape *shape) {
    if (kv_heads(shape) < 16 || kv_heads(shape) > 40) return "query heads share no KV head, and these are too few or too many";
    if (shape->capacity < 32768) return "contexts this short leave it nothing to save";
    if (shape->rule.budget > (shape->capacity >= LONG ? 2048u : 1024u)) return "budgets this large were no faster";
    return NULL;
}

const char *adm_step_why_not_grouped(const adm_gpu_shape *shape) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads, budget = shape->rule.budget;
    if (shape->metric == ADM_METRIC_ASYM4) return why_not_asym4(shape);
    if (group < 2) return why_not_single(shape);
    if (shares(shape)) return why_not_shared(shape);
    if (shape->capacity < (group > 7 ? 32768u : group > 4 ? 16384u : 8192u))
        return "contexts this short leave it nothing to save";
    if (why_six(shape) != NULL) return why_six(shape);
    if (shape->batch > 1 && kv_heads(shape) < MANY_KV_HEADS) return "small batches were not faster";
    if (budget > largest_grouped_budget(shape, group)) return "budgets this large were no faster";
    return NULL;
}

/* Between the budgets at which its lists just hold the candidates, and at which it does without, the fused step loses. */
const char *adm_step_why_not_fused(const adm_gpu_shape *shape) {
    const uint32_t budget = shape->rule.budget;
    if (why_six(shape) != NULL) return why_six(shape);
    if (shares(shape)) return "a selection that a group shares is faster by binary products or in six stages";
    if (kv_heads(shape) >= MANY_KV_HEADS && shape->capacity >= LONG && shape->selection == ADM_SELECT_HEAD && budget >= 1024 &&
        budget != KEPT_BUDGET && shape->heads.n_q_heads > shape->heads.n_kv_heads)
        return "large budgets in large batches are faster in six stages";
    if (shape->capacity >= LONG && shape->heads.n_q_heads > shape->heads.n_kv_heads && adm_step_why_not_grouped(shape) == NULL)
        return "rows this long of heads that share them are faster by binary products";
    return NULL;
}
