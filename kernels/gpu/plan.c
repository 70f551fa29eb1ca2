/* plan.c: what memory a case takes; see plan.h. */
#include "kernels/gpu/plan.h"

#include <math.h>
#include <string.h>

#include "core/base/minmax.h"
#include "kernels/gpu/input.h"
#include "kernels/gpu/registry.h"

static uint64_t max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t divide_up(uint64_t a, uint64_t b) { return b > 0 ? (a + b - 1) / b : UINT32_MAX; }

static size_t reserve(size_t *at, size_t bytes) {
    size_t here = *at;
    *at += (bytes + 255) / 256 * 256;
    return here;
}

size_t adm_gpu_plan_workspace(const adm_gpu_shape *shape, const adm_gpu_impl *impl) {
    size_t at = 0;
    for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
        const adm_gpu_impl *row = adm_gpu_registry_at(i);
        if (impl != NULL && row->stage == impl->stage && strcmp(row->name, impl->name) == 0) break;
        if (row->workspace_bytes != NULL) reserve(&at, row->workspace_bytes(shape));
    }
    return at;
}

static void lay_out(const adm_gpu_shape *s, adm_gpu_plan *p) {
    const size_t q_rows = (size_t)s->batch * s->heads.n_q_heads, kv_rows = (size_t)s->batch * s->heads.n_kv_heads;
    const size_t d = s->heads.head_dim, element = adm_dtype_bytes(s->dtype);
    const size_t pool = s->page_size == 0 ? kv_rows * s->capacity : kv_rows * s->max_pages * s->page_size;
    size_t at = 0;
    reserve(&at, pool * d * element);
    p->kv_bytes = at;
    at = 0;
    reserve(&at, kv_rows * s->capacity * d / 4);
    p->planes_bytes = at;
    at = 0;
    if (s->metric == ADM_METRIC_ASYM4) reserve(&at, s->heads.n_kv_heads * ADM_GPU_CHANNEL_ROWS * d * sizeof(float));
    p->channels_bytes = at;
    p->copy_bytes = 2 * p->kv_bytes + p->planes_bytes + p->channels_bytes;

    at = 0;
    p->length = reserve(&at, s->batch * sizeof(uint32_t));
    p->q = reserve(&at, q_rows * d * element);
    p->k_new = reserve(&at, kv_rows * d * element);
    p->v_new = reserve(&at, kv_rows * d * element);
    p->y = reserve(&at, (q_rows + kv_rows) * d * sizeof(float));
    p->code = reserve(&at, (q_rows + kv_rows) * d);
    p->packed = reserve(&at, (q_rows + kv_rows) * adm_gpu_packed_bytes(s));
    p->index = reserve(&at, q_rows * s->rule.budget * sizeof(uint32_t));
    p->n_selected = reserve(&at, q_rows * sizeof(uint32_t));
    p->out = reserve(&at, q_rows * d * element);
    p->set_bytes = at;

    at = 0;
    p->distance = reserve(&at, q_rows * s->capacity * sizeof(uint16_t));
    p->workspace = reserve(&at, adm_gpu_plan_workspace(s, NULL)); /* of all */
    p->shared_bytes = at;
    p->page_table_bytes = (size_t)s->batch * s->max_pages * sizeof(int32_t);
}

/* --- What one call moves that a cache could keep ------------------------------------------------------------------ */

static double code_bytes(const adm_gpu_plan *p, const adm_gpu_shape *s) {
    return (double)p->n_tokens * s->heads.n_kv_heads * s->heads.head_dim / 4;
}

static double kv_row_bytes(const adm_gpu_shape *s) {
    return 2.0 * s->heads.n_kv_heads * s->heads.head_dim * (double)adm_dtype_bytes(s->dtype);
}

/* Rows of K and V that the query heads of a group select between them: at least those that one head selects. */
static double selected_bytes(const adm_gpu_plan *p, const adm_gpu_shape *s, uint32_t budget) {
    return fmin((double)budget * s->batch, (double)p->n_tokens) * kv_row_bytes(s);
}

/* --- Counts ------------------------------------------------------------------------------------------------------- */

static uint64_t calls_for(const adm_gpu_plan *p, double bytes_a_call) {
    double wanted = (double)ADM_COLD_L2 * (double)p->l2_bytes;
    return bytes_a_call > 0 ? (uint64_t)fmin(ceil(wanted / bytes_a_call), ADM_MAX_SETS) : ADM_MAX_SETS;
}

static void choose_counts(const adm_gpu_shape *s, uint32_t min_budget, uint64_t available_bytes, adm_gpu_plan *p) {
    p->n_kv = p->n_sets = p->n_layers;
    if (!p->cold) return;
    const uint64_t by_selection = calls_for(p, selected_bytes(p, s, min_budget));
    uint64_t n_kv = calls_for(p, code_bytes(p, s));
    if (p->similar_queries) n_kv = max_u64(n_kv, by_selection);
    n_kv = adm_min(n_kv, available_bytes / (p->copy_bytes + p->set_bytes));
    n_kv = max_u64(n_kv / p->n_layers, 1) * p->n_layers;
    const uint64_t used = n_kv * p->copy_bytes,
                   n_affordable = available_bytes > used ? (available_bytes - used) / p->set_bytes : 0;
    p->n_kv = (uint32_t)n_kv; /* and sets a multiple: every copy is used as often as every other */
    p->n_sets = (uint32_t)(max_u64(adm_min(divide_up(by_selection, n_kv), n_affordable / n_kv), 1) * n_kv);
}

void adm_gpu_plan_make(const adm_gpu_shape *shape, const adm_gpu_inputs *inputs, bool cold, uint64_t l2_bytes,
                       uint64_t available_bytes, adm_gpu_plan *plan) {
    *plan = (adm_gpu_plan){.cold = cold, .l2_bytes = l2_bytes, .n_layers = 1};
    if (inputs->session != NULL) {
        plan->n_layers = inputs->session->n_layers;
        plan->similar_queries = true;
    }
    for (uint32_t b = 0; b < shape->batch; b++) plan->n_tokens += adm_gpu_inputs_length(inputs, b);
    lay_out(shape, plan);
    choose_counts(shape, inputs->min_budget > 0 ? inputs->min_budget : shape->rule.budget, available_bytes, plan);
    plan->bytes = plan->n_kv * plan->copy_bytes + plan->n_sets * plan->set_bytes + plan->shared_bytes + plan->page_table_bytes;
}

void adm_gpu_plan_pages(const adm_gpu_shape *s, int32_t *pages) {
    const size_t n = (size_t)s->batch * s->max_pages;
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) pages[i] = (int32_t)i;
    for (size_t i = n; i > 1; i--) {
        state = adm_input_mix(state + 0x9e3779b97f4a7c15u);
        int32_t page = pages[i - 1];
        pages[i - 1] = pages[state % i];
        pages[state % i] = page;
    }
}

adm_gpu_buffers adm_gpu_plan_buffers(const adm_gpu_plan *p, uint32_t set, void *copies, void *sets, void *shared,
                                     const int32_t *page_table) {
    char *copy = (char *)copies + (set % p->n_kv) * p->copy_bytes, *own = (char *)sets + set * p->set_bytes;
    char *common = (char *)shared;
    return (adm_gpu_buffers){
        .q = own + p->q,
        .k_new = own + p->k_new,
        .v_new = own + p->v_new,
        .k = copy,
        .v = copy + p->kv_bytes,
        .planes = (uint32_t *)(copy + 2 * p->kv_bytes),
        .page_table = page_table,
        .length = (const uint32_t *)(own + p->length),
        .y = (float *)(own + p->y),
        .code = (uint8_t *)(own + p->code),
        .packed = (uint8_t *)(own + p->packed),
        .distance = (uint16_t *)(common + p->distance),
        .index = (uint32_t *)(own + p->index),
        .n_selected = (uint32_t *)(own + p->n_selected),
        .out = own + p->out,
        .workspace = common + p->workspace,
        .channels = p->channels_bytes > 0 ? (const float *)(copy + 2 * p->kv_bytes + p->planes_bytes) : NULL,
    };
}

/* --- Rotation ----------------------------------------------------------------------------------------------------- */

static bool has(uint32_t covers, adm_stage stage) { return covers >> stage & 1; }

uint32_t adm_gpu_plan_rotation(const adm_gpu_plan *p, const adm_gpu_shape *s, uint32_t covers) {
    if (!p->cold) return p->n_layers;
    if (!has(covers, ADM_STAGE_ATTENTION)) return p->n_kv;
    const uint64_t n = calls_for(p, selected_bytes(p, s, s->rule.budget));
    return (uint32_t)adm_min(max_u64(divide_up(n, p->n_kv), 1) * p->n_kv, p->n_sets);
}

double adm_gpu_plan_coldness(const adm_gpu_plan *p, const adm_gpu_shape *s, uint32_t covers) {
    const double n_kv = p->cold ? p->n_kv : 1, n_sets = adm_gpu_plan_rotation(p, s, covers);
    double passed = INFINITY;
    const double all = n_kv * (double)p->n_tokens * kv_row_bytes(s);
    if (has(covers, ADM_STAGE_DISTANCE)) passed = n_kv * code_bytes(p, s);
    if (has(covers, ADM_STAGE_DENSE)) passed = fmin(passed, all);
    if (covers & ADM_GPU_COVERS_PROMPT) passed = fmin(passed, all / 2); /* K alone */
    if (has(covers, ADM_STAGE_ATTENTION))
        passed = fmin(fmin(passed, all), (p->similar_queries ? n_kv : n_sets) * selected_bytes(p, s, s->rule.budget));
    return isfinite(passed) ? passed / (double)p->l2_bytes : 0;
}
