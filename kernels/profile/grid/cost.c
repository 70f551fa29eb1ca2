/* cost.c: an estimate of what a profile takes; see cost.h. Nothing that is stored depends on it.
 *
 * A unit is mostly its timing, and a timing is at least 23 samples. On a cold cache a sample goes through all sets (plan.h), of
 * which a small budget has up to 1,024: then it takes far longer than the millisecond that it must. */
#include "kernels/profile/grid/cost.h"

#include <math.h>
#include <string.h>

#include "core/base/minmax.h"
#include "kernels/gpu_work.h"

/* The device: an H200's L2, and 60% of its memory. */
static const uint64_t l2_bytes = 60u << 20, available_bytes = 84ull << 30;

/* A call takes call_s of each stage, and its bytes at bytes_per_s or, in a step that computes them one by one, its
 * distances at score_s if that is longer: by the times of analysis/recorded/h200.json, which are 0.6 to 1.5 of that. */
static const double call_s[ADM_N_STAGES] = {
    [ADM_STAGE_HADAMARD] = 0.9e-6, [ADM_STAGE_BUCKET] = 0.7e-6, [ADM_STAGE_PACK] = 0.7e-6,
    [ADM_STAGE_APPEND] = 1.5e-6,   [ADM_STAGE_DISTANCE] = 2e-6, [ADM_STAGE_TOPK] = 4.5e-6,
    [ADM_STAGE_ATTENTION] = 3e-6,  [ADM_STAGE_STEP] = 9e-6,     [ADM_STAGE_DENSE] = 5e-6,
};
static const double bytes_per_s = 3.8e12, score_s = 4.5e-12;

/* The rest: by bench_balance.py of tests/bench/fleet_session.sh, 16 shards of the recorded grid on two H200s, 2026-11-30. */
static const double launch_s = 2.5e-6; /* of a kernel, plainly */
static const double prepare_s = 5e-6; /* the same for a stage before a unit, which may take longer itself */
static const double node_s = 0.3e-6; /* of a kernel in a graph: to capture and to instantiate */
static const double unit_s = 0.5e-3; /* of a timing, whatever it times */
static const double case_s = 5e-3, fill_bytes_per_s = 2.5e11;
static const double row_s = 0.55e-6; /* on the host, by 8 threads: K and V of a token made, and K encoded */
static const double compared_s = 4.7e-9; /* a distance of a token and query head */
static const double select_s = 4e-9; /* a token looked at by top-k */
static const double attend_s = 0.12e-6; /* a token attended to by a query head in double precision */
static const double compare_s = 8e-9; /* a token's codes or distances compared */
static const double check_s = 0.8e-3; /* of a check, whatever it checks */
static const double store_s = 1.2e-3; /* a unit's rows written */

const char *adm_profile_part_name(adm_profile_part part) {
    static const char *const name[] = {"inputs", "reference", "prepare", "check", "timing", "store"};
    return name[part];
}

double adm_profile_cost_sum(const adm_profile_cost *cost) {
    double sum = 0;
    for (int i = 0; i < ADM_PROFILE_N_PARTS; i++) sum += cost->s[i];
    return sum;
}

/* What the estimates share. */
typedef struct estimated {
    const adm_profile_options *o;
    adm_gpu_shape shape;
    adm_gpu_plan plan;
    double n_checked; /* (layer, sequence, KV head) whose results the host computes too */
    double n_queries; /* of all of them */
    double n_tokens; /* of one, at most */
} estimated;

static estimated estimate(const adm_profile_options *o, const adm_profile_case *c) {
    estimated e = {.o = o, .shape = adm_profile_shape(o, c)};
    const adm_gpu_inputs inputs = adm_profile_inputs(o, c);
    adm_gpu_plan_make(&e.shape, &inputs, o->cold, l2_bytes, available_bytes, &e.plan);
    const uint32_t per_layer = o->n_batch_lens > 0 ? (uint32_t)adm_min(c->batch, 16u) : c->batch * c->n_kv_heads > 1 ? 2 : 1;
    e.n_checked = (double)per_layer * e.plan.n_layers;
    e.n_queries = e.n_checked * o->n_q_heads / c->n_kv_heads;
    for (uint32_t b = 0; b < c->batch; b++) e.n_tokens = fmax(e.n_tokens, c->length[b]);
    return e;
}

adm_profile_cost adm_profile_case_cost(const adm_profile_options *o, const adm_profile_case *c) {
    const estimated e = estimate(o, c);
    const double n_distances = c->metric == ADM_METRIC_L1 ? 3 : 1;
    const double made_s = c->session == NULL ? row_s * e.shape.heads.head_dim / 128 : row_s / 3;
    return (adm_profile_cost){
        .s[ADM_PROFILE_INPUTS] = case_s + (double)e.plan.n_kv * (double)e.plan.copy_bytes / fill_bytes_per_s +
                                 4 * launch_s * e.plan.n_sets,
        .s[ADM_PROFILE_REFERENCE] = e.n_checked * e.n_tokens * made_s + e.n_queries * e.n_tokens * n_distances * compared_s};
}

/* The step by binary products, which distances do not hold up. */
static bool is_grouped(const adm_profile_unit *unit) {
    return unit->stage == ADM_STAGE_STEP && unit->n_impls == 1 && strcmp(unit->impl[0]->name, "grouped") == 0;
}

/* Of one call, of all the unit's kernels, where nothing waits for the host. */
static double call_of(const estimated *e, const adm_profile_case *c, const adm_profile_unit *unit) {
    adm_gpu_load load = {0};
    double fixed_s = unit->n_impls > 1 ? 0 : call_s[unit->stage];
    for (uint32_t b = 0; b < c->batch; b++) {
        load.n_tokens += c->length[b];
        load.n_selected += fmin(unit->budget, c->length[b]);
    }
    load.n_distinct = load.n_selected;
    for (size_t i = 0; unit->n_impls > 1 && i < unit->n_impls; i++) fixed_s += call_s[unit->impl[i]->stage];
    const double read_s = adm_gpu_work(&e->shape, adm_profile_covers(unit), &load).bytes / bytes_per_s;
    const bool scores = unit->stage == ADM_STAGE_STEP && !is_grouped(unit);
    return fixed_s + fmax(read_s, scores ? load.n_tokens * e->o->n_q_heads * score_s : 0);
}

static double timing_of(double call, size_t n_impls, uint32_t n_sets, adm_gpu_launch_mode mode) {
    const double n = (double)n_impls, n_samples = ADM_TIMING_WARM_UPS + ADM_TIMING_MIN_SAMPLES;
    const double plain = fmax(call, n * launch_s), first = 2 * plain * adm_gpu_timing_first_calls(n_sets);
    const double n_calls = adm_gpu_timing_calls(1e9 * plain, n_impls, n_sets);
    if (mode == ADM_LAUNCH_STREAM) return unit_s + first + n_samples * n_calls * plain;
    return unit_s + first + n_calls * n * node_s + n_samples * n_calls * call;
}

/* What the stages before a unit take on the sets of its timing: they are short. */
static size_t n_before(const adm_profile_unit *unit) {
    const uint32_t covers = adm_profile_covers(unit);
    size_t n = 0;
    if (covers & (1u << ADM_STAGE_DENSE | ADM_GPU_COVERS_PROMPT)) return 0;
    while (n < ADM_STAGE_DENSE && !(covers >> n & 1)) n++;
    return n;
}

static double check_of(const estimated *e, const adm_profile_unit *unit, bool is_first) {
    const uint32_t covers = adm_profile_covers(unit);
    double s = check_s;
    if (covers & (1u << ADM_STAGE_APPEND | ADM_GPU_COVERS_PROMPT)) s += e->n_checked * e->n_tokens * compare_s;
    if (covers >> ADM_STAGE_DISTANCE & 1) s += e->n_queries * e->n_tokens * compare_s;
    if (covers >> ADM_STAGE_DENSE & 1) s += e->n_queries * e->n_tokens * attend_s;
    if (is_first && unit->budget > 0) s += e->n_queries * (e->n_tokens * select_s + fmin(unit->budget, e->n_tokens) * attend_s);
    return s;
}

/* The step that takes the query heads of a group together refuses groups of one, but for asym4. */
static bool is_refused(const adm_profile_options *o, const adm_profile_case *c, const adm_profile_unit *unit) {
    return is_grouped(unit) && c->n_kv_heads == o->n_q_heads && c->metric == ADM_METRIC_L1;
}

adm_profile_cost adm_profile_unit_cost(const adm_profile_options *o, const adm_profile_case *c, const adm_profile_unit *unit,
                                       bool is_first) {
    estimated e = estimate(o, c);
    if (unit->budget > 0) e.shape.rule.budget = unit->budget;
    const uint32_t n_sets = adm_gpu_plan_rotation(&e.plan, &e.shape, adm_profile_covers(unit));
    const double call = call_of(&e, c, unit);
    if (is_refused(o, c, unit)) return (adm_profile_cost){.s[ADM_PROFILE_STORE] = store_s};
    adm_profile_cost cost = {.s[ADM_PROFILE_PREPARE] = prepare_s * (double)(n_sets * n_before(unit)),
                             .s[ADM_PROFILE_CHECK] = check_of(&e, unit, is_first),
                             .s[ADM_PROFILE_STORE] = store_s};
    for (int mode = 0; mode < 2; mode++)
        if (o->launch[mode] && !o->check_only)
            cost.s[ADM_PROFILE_TIMING] += timing_of(call, unit->n_impls, n_sets, (adm_gpu_launch_mode)mode);
    return cost;
}
