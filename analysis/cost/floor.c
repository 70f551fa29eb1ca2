/* floor.c: compulsory bytes per stage. */
#include "analysis/cost/floor.h"

const char *adm_cost_stage_name(int stage) { return stage == ADM_COST_PROMPT ? "prompt" : adm_stage_name((adm_stage)stage); }

double adm_cost_floor_bytes(int stage, const adm_shape *shape, uint32_t element_bytes, double len, double budget,
                            double batch) {
    const double q = shape->n_q_heads, kv = shape->n_kv_heads, d = shape->head_dim, row = d * element_bytes;
    const double selected = budget < len ? budget : len;
    const double codes = kv * len * d / 4, in_out = 2 * q * row, new_token = 2 * kv * (2 * row) + kv * d / 4;
    switch (stage) {
    case ADM_STAGE_HADAMARD: return batch * (q + kv) * (row + d * 4);
    case ADM_STAGE_BUCKET: return batch * (q + kv) * (d * 4 + d);
    case ADM_STAGE_PACK: return batch * (q + kv) * (d + d / 4);
    case ADM_STAGE_APPEND: return batch * new_token;
    case ADM_STAGE_DISTANCE: return batch * (codes + q * (d / 4 + 2 * len));
    case ADM_STAGE_TOPK: return batch * q * (2 * len + 4 * selected);
    case ADM_STAGE_ATTENTION: return batch * (in_out + q * selected * (2 * row + 4));
    case ADM_STAGE_STEP: return batch * (in_out + new_token + codes + q * selected * 2 * row);
    case ADM_STAGE_DENSE: return batch * (in_out + kv * len * 2 * row);
    case ADM_COST_PROMPT: return batch * kv * len * (row + d / 4);
    default: return 0;
    }
}

double adm_cost_load_bytes(int stage, const adm_shape *shape, uint32_t element_bytes, double len, double budget, double batch) {
    const double distances = stage == ADM_STAGE_STEP ? 3 * 2 * batch * shape->n_q_heads * len : 0;
    return adm_cost_floor_bytes(stage, shape, element_bytes, len, budget, batch) + distances;
}
