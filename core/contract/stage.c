/* stage.c: names and checks of the pipeline's contract. */
#include "core/contract/stage.h"

const char *adm_stage_name(adm_stage stage) {
    static const char *const names[ADM_N_STAGES] = {
        [ADM_STAGE_HADAMARD] = "hadamard",   [ADM_STAGE_BUCKET] = "bucket",     [ADM_STAGE_PACK] = "pack",
        [ADM_STAGE_APPEND] = "append",       [ADM_STAGE_DISTANCE] = "distance", [ADM_STAGE_TOPK] = "topk",
        [ADM_STAGE_ATTENTION] = "attention", [ADM_STAGE_STEP] = "step",         [ADM_STAGE_DENSE] = "dense",
    };
    return stage < ADM_N_STAGES ? names[stage] : "?";
}

void adm_stage_names(const char *names[ADM_N_STAGES]) {
    for (int s = 0; s < ADM_N_STAGES; s++) names[s] = adm_stage_name((adm_stage)s);
}

adm_status adm_shape_check(const adm_shape *shape, adm_error *err) {
    const uint32_t max = 4096;
    if (shape->n_q_heads < 1 || shape->n_q_heads > max || shape->n_kv_heads < 1 || shape->n_kv_heads > max)
        return adm_fail(err, ADM_EINPUT, "%u query heads and %u KV heads: each must be 1 to %u", shape->n_q_heads,
                        shape->n_kv_heads, max);
    if (shape->n_q_heads % shape->n_kv_heads != 0)
        return adm_fail(err, ADM_EINPUT, "%u query heads cannot share %u KV heads: the second must divide the first",
                        shape->n_q_heads, shape->n_kv_heads);
    if (shape->head_dim != 64 && shape->head_dim != 128 && shape->head_dim != 256)
        return adm_fail(err, ADM_EINPUT, "head dimension %u is not supported: it must be 64, 128 or 256", shape->head_dim);
    return ADM_OK;
}

const char *adm_selection_name(adm_selection selection) { return selection == ADM_SELECT_GROUP ? "group" : "head"; }

adm_status adm_select_rule_check(const adm_select_rule *rule, adm_error *err) {
    if (rule->budget == 0) return adm_fail(err, ADM_EINPUT, "a budget of 0 tokens: it must be at least 1");
    uint64_t forced = (uint64_t)rule->n_sinks + (rule->n_recent > 0 ? rule->n_recent : 1);
    if (forced > rule->budget)
        return adm_fail(err, ADM_EINPUT, "%u sinks and %u recent tokens do not fit a budget of %u: raise the budget",
                        rule->n_sinks, rule->n_recent > 0 ? rule->n_recent : 1, rule->budget);
    return ADM_OK;
}
