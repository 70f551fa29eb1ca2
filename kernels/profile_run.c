/* profile_run.c: walks the grid of a GPU profile: makes a case, checks every unit, times it, stores what it saw. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "kernels/bandwidth.h"
#include "kernels/profile.h"
#include "kernels/registry.h"

/* --- Units -------------------------------------------------------------------------------------------------------- */

/* The first implementation in the registry that does this stage and nothing else. */
static const adm_gpu_impl *alone(adm_stage stage) {
    for (size_t i = 0; i < adm_gpu_registry_count(); i++)
        if (adm_gpu_registry_at(i)->covers == 1u << stage) return adm_gpu_registry_at(i);
    return NULL;
}

/* True for stages whose work depends on the budget: they are repeated for each. */
static bool by_budget(adm_stage stage) {
    return stage == ADM_STAGE_TOPK || stage == ADM_STAGE_ATTENTION || stage == ADM_STAGE_STEP;
}

/* Every stage by itself, in order. */
static bool six_stages(adm_profile_unit *unit) {
    *unit = (adm_profile_unit){.stage = ADM_STAGE_STEP, .variant = "six"};
    for (adm_stage stage = ADM_STAGE_HADAMARD; stage <= ADM_STAGE_ATTENTION; stage++) {
        const adm_gpu_impl *impl = alone(stage);
        if (impl == NULL) return false;
        unit->impl[unit->n_impls++] = impl;
    }
    return true;
}

adm_status adm_profile_units(const adm_profile_options *o, adm_profile_unit **units, size_t *n_units, adm_error *err) {
    size_t n_most = (adm_gpu_registry_count() + 1) * (o->n_budgets + 1), n = 0;
    adm_status status = adm_alloc(units, n_most, sizeof **units, "units of a profile", err);
    *n_units = 0;
    if (status != ADM_OK) return status;
    /* Budgets outermost, and none first: a unit finds in memory what the stages before it left at this budget. */
    for (size_t b = 0; b <= o->n_budgets; b++) {
        uint32_t budget = b > 0 ? o->budgets[b - 1] : 0;
        for (size_t i = 0; i < adm_gpu_registry_count(); i++) {
            const adm_gpu_impl *impl = adm_gpu_registry_at(i);
            if (by_budget(impl->stage) != (b > 0) || !o->stage[impl->stage]) continue;
            (*units)[n++] = (adm_profile_unit){.stage = impl->stage, .variant = impl->name, .budget = budget,
                                               .impl = {impl}, .n_impls = 1};
        }
        adm_profile_unit unit;
        if (b > 0 && o->stage[ADM_STAGE_STEP] && six_stages(&unit)) {
            unit.budget = budget;
            (*units)[n++] = unit;
        }
    }
    *n_units = n;
    return ADM_OK;
}

adm_gpu_shape adm_profile_shape(const adm_profile_options *o, uint32_t n_kv_heads, uint32_t batch, uint32_t seq_len) {
    adm_gpu_shape shape = {.heads = {o->n_q_heads, n_kv_heads, o->head_dim}, .dtype = o->dtype, .batch = batch,
                           .capacity = (seq_len + 31) / 32 * 32, .page_size = o->page_size, .scale = 1.0f};
    shape.rule = (adm_select_rule){o->budgets[o->n_budgets - 1], o->n_sinks, o->n_recent};
    memcpy(shape.threshold, o->threshold, sizeof shape.threshold);
    if (o->page_size > 0) shape.max_pages = (shape.capacity + o->page_size - 1) / o->page_size;
    /* 1/sqrt(d) for the powers of four, and its nearest float32 otherwise. */
    shape.scale = (float)(1.0 / __builtin_sqrt(o->head_dim));
    return shape;
}

/* --- Storing ------------------------------------------------------------------------------------------------------ */

static const adm_metric time_metric = {"time_ns", "ns", "lower",
                                       "Duration of a stage for one layer of one decode step, all heads"};
static const adm_metric bytes_metric = {"model_bytes", "bytes", "none",
                                        "Compulsory memory traffic of a stage for one layer of one decode step"};
static const adm_metric flops_metric = {"model_flops", "1", "none",
                                        "Arithmetic operations of a stage for one layer of one decode step"};
static const adm_metric limit_metric = {"limit_ratio", "ratio", "higher",
                                        "Share of the device's measured read bandwidth that the byte model's traffic reaches"};
static const adm_metric read_metric = {"read_limit_bytes_per_s", "bytes/s", "higher",
                                       "Bandwidth of a plain read kernel over a buffer far larger than the L2"};

/* What a walk over the grid carries along. */
typedef struct walk {
    const adm_profile_options *o;
    adm_gpu *gpu;
    adm_store *store;
    int64_t run_id;
    double read_limit;        /* bytes/s; 0: not measured */
    size_t n_failed;
    uint64_t n_done, n_total;
    adm_gpu_shape shape;      /* of the present configuration, with the largest budget */
    uint32_t seq_len;
} walk;

static adm_config config_of(const walk *w, const adm_profile_unit *unit, const char *launch) {
    return (adm_config){.policy = unit->stage == ADM_STAGE_DENSE ? "dense" : "adamas", .variant = unit->variant,
                        .shape = w->shape.heads, .dtype = w->shape.dtype, .seq_len = w->seq_len, .budget = unit->budget,
                        .batch = w->shape.batch,
                        .n_sinks = by_budget(unit->stage) ? (int32_t)w->shape.rule.n_sinks : -1,
                        .n_recent = by_budget(unit->stage) ? (int32_t)w->shape.rule.n_recent : -1,
                        .selection = by_budget(unit->stage) ? "head" : NULL, .cache = w->o->cold ? "cold" : "warm",
                        .launch = launch};
}

static adm_status put(walk *w, int64_t config_id, const char *source, const adm_profile_unit *unit,
                      const adm_metric *metric, double *values, size_t n, const double *samples, adm_error *err) {
    adm_distribution distribution = adm_distribution_of(values, n);
    adm_measurement m = {.run_id = w->run_id, .config_id = config_id, .source = source,
                         .stage = adm_stage_name(unit->stage), .layer = -1, .head = -1, .metric = metric,
                         .distribution = &distribution, .status = "ok", .samples = samples,
                         .n_samples = samples != NULL ? n : 0};
    return adm_store_measurement(w->store, &m, err);
}

/* A unit that is wrong, or could not be run: a row that says so. */
static adm_status put_reason(walk *w, const adm_profile_unit *unit, const char *launch, const adm_error *why,
                             adm_error *err) {
    int64_t config_id;
    adm_config config = config_of(w, unit, launch);
    adm_status status = adm_store_config(w->store, &config, &config_id, err);
    bool skipped = why->status == ADM_EUNSUPPORTED;
    w->n_failed += !skipped;
    adm_measurement m = {.run_id = w->run_id, .config_id = config_id, .source = "gpu",
                         .stage = adm_stage_name(unit->stage), .layer = -1, .head = -1, .metric = &time_metric,
                         .status = skipped ? "skipped" : "failed", .reason = why->text};
    return status == ADM_OK ? adm_store_measurement(w->store, &m, err) : status;
}

/* The byte and flop model of everything a unit covers, for the whole batch. */
static adm_work work_of(const walk *w, const adm_profile_unit *unit) {
    const uint32_t group = w->shape.heads.n_q_heads / w->shape.heads.n_kv_heads;
    double n_selected = unit->budget < w->seq_len ? unit->budget : w->seq_len;
    double n_distinct = n_selected * group < w->seq_len ? n_selected * group : w->seq_len;
    const adm_work_case c = {w->shape.heads, w->shape.dtype, w->seq_len, n_selected, n_distinct};
    uint32_t covers = 0;
    adm_work sum = {0, 0};
    for (size_t i = 0; i < unit->n_impls; i++) covers |= unit->impl[i]->covers;
    for (int s = 0; s < ADM_N_STAGES; s++) {
        if (!(covers >> s & 1) || s == ADM_STAGE_STEP) continue;
        adm_work work = adm_stage_work((adm_stage)s, &c);
        sum.bytes += work.bytes * w->shape.batch;
        sum.flops += work.flops * w->shape.batch;
    }
    return sum;
}

static adm_status put_timing(walk *w, const adm_profile_unit *unit, const char *launch, const adm_gpu_timing *timing,
                             adm_error *err) {
    double *sorted = NULL;
    int64_t config_id;
    adm_config config = config_of(w, unit, launch);
    adm_work work = work_of(w, unit);
    adm_status status = adm_store_config(w->store, &config, &config_id, err);
    if (status == ADM_OK) status = adm_alloc(&sorted, timing->n_samples, sizeof *sorted, "samples", err);
    if (status != ADM_OK) return status;
    memcpy(sorted, timing->sample_ns, timing->n_samples * sizeof *sorted);
    status = put(w, config_id, "gpu", unit, &time_metric, sorted, timing->n_samples, timing->sample_ns, err);
    if (status == ADM_OK) status = put(w, config_id, "model", unit, &bytes_metric, &work.bytes, 1, NULL, err);
    if (status == ADM_OK) status = put(w, config_id, "model", unit, &flops_metric, &work.flops, 1, NULL, err);
    if (status == ADM_OK && w->read_limit > 0) {
        for (size_t i = 0; i < timing->n_samples; i++) sorted[i] = work.bytes / timing->sample_ns[i] * 1e9 / w->read_limit;
        status = put(w, config_id, "gpu", unit, &limit_metric, sorted, timing->n_samples, NULL, err);
    }
    adm_free(&sorted);
    return status;
}

/* The device's read limit, as a row of its own. */
static adm_status measure_read_limit(walk *w, adm_error *err) {
    adm_status status = adm_bandwidth_read(0, &w->read_limit, err);
    if (status != ADM_OK) return status;
    int64_t config_id;
    adm_config config = {.policy = "device", .variant = "read", .shape = {1, 1, w->o->head_dim}, .dtype = w->o->dtype,
                         .seq_len = 0, .batch = 1, .n_sinks = -1, .n_recent = -1, .cache = "cold", .launch = "stream"};
    status = adm_store_config(w->store, &config, &config_id, err);
    if (status != ADM_OK) return status;
    adm_distribution distribution = adm_distribution_of(&w->read_limit, 1);
    adm_measurement m = {.run_id = w->run_id, .config_id = config_id, .source = "gpu", .layer = -1, .head = -1,
                         .metric = &read_metric, .distribution = &distribution, .status = "ok"};
    return adm_store_measurement(w->store, &m, err);
}

/* --- Walking ------------------------------------------------------------------------------------------------------ */

static const char *launch_name(adm_gpu_launch_mode mode) { return mode == ADM_LAUNCH_GRAPH ? "graph" : "stream"; }

/* Checks a unit, and times it if it is right. Returns a failure only of the store; the unit's own is recorded. */
static adm_status run_unit(walk *w, adm_gpu_case *gpu_case, const adm_profile_reference *reference,
                           const adm_profile_unit *unit, adm_error *err) {
    adm_gpu_shape shape = w->shape;
    if (unit->budget > 0) shape.rule.budget = unit->budget;
    adm_gpu_case_set_rule(gpu_case, &shape.rule);
    adm_error why = {0};
    adm_status right = adm_profile_check(w->gpu, gpu_case, &shape, reference, unit, &why);
    for (int mode = 0; mode < 2; mode++) {
        if (!w->o->launch[mode]) continue;
        adm_gpu_timing timing = {0};
        adm_status status = right;
        if (status == ADM_OK && !w->o->check_only)
            status = adm_gpu_time(gpu_case, unit->impl, unit->n_impls, (adm_gpu_launch_mode)mode, w->o->target,
                                  w->o->cap_ns, &timing, &why);
        if (status != ADM_OK) status = put_reason(w, unit, launch_name((adm_gpu_launch_mode)mode), &why, err);
        else if (!w->o->check_only) status = put_timing(w, unit, launch_name((adm_gpu_launch_mode)mode), &timing, err);
        adm_free(&timing.sample_ns);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

/* Leaves in every set what the stages before a unit at this budget hand over: the six stages, once each. Before every
 * unit anew, since the check of the one before poisoned what it covers. */
static adm_status prepare(walk *w, adm_gpu_case *gpu_case, uint32_t budget, adm_error *err) {
    adm_profile_unit pipeline;
    adm_gpu_shape shape = w->shape;
    if (budget > 0) shape.rule.budget = budget;
    adm_gpu_case_set_rule(gpu_case, &shape.rule);
    if (!six_stages(&pipeline)) return adm_fail(err, ADM_EINTERNAL, "the GPU registry lacks one of the six stages");
    adm_status status = ADM_OK;
    for (uint32_t s = 0; status == ADM_OK && s < adm_gpu_case_n_sets(gpu_case); s++)
        status = adm_gpu_case_run(gpu_case, pipeline.impl, pipeline.n_impls, s, err);
    return status;
}

static adm_status run_configuration(walk *w, const adm_profile_unit *units, size_t n_units, adm_error *err) {
    adm_gpu_case *gpu_case = NULL;
    adm_profile_reference *reference = NULL;
    uint32_t *length = NULL;
    adm_error why = {0};
    adm_status status = adm_alloc(&length, w->shape.batch, sizeof *length, "lengths", err);
    if (status != ADM_OK) return status;
    for (uint32_t b = 0; b < w->shape.batch; b++) length[b] = w->seq_len;
    adm_status made = adm_gpu_case_create(w->gpu, &w->shape, length, w->o->seed, w->o->cold, &gpu_case, &why);
    if (made == ADM_OK) made = adm_profile_reference_create(&w->shape, length, w->o->seed, &reference, &why);
    for (size_t i = 0; status == ADM_OK && i < n_units; i++) {
        if (w->o->should_stop != NULL && w->o->should_stop())
            status = adm_fail(err, ADM_EINTERRUPTED, "interrupted at %u tokens, %u KV heads, batch %u", w->seq_len,
                              w->shape.heads.n_kv_heads, w->shape.batch);
        adm_status ready = made;
        if (status == ADM_OK && ready == ADM_OK) ready = prepare(w, gpu_case, units[i].budget, &why);
        if (status == ADM_OK && ready == ADM_OK) status = run_unit(w, gpu_case, reference, &units[i], err);
        for (int mode = 0; status == ADM_OK && ready != ADM_OK && mode < 2; mode++)
            if (w->o->launch[mode]) status = put_reason(w, &units[i], launch_name((adm_gpu_launch_mode)mode), &why, err);
        if (status == ADM_OK && made == ADM_OK && !adm_gpu_alive(w->gpu)) made = ADM_EENVIRONMENT;
        if (w->o->on_progress != NULL) w->o->on_progress(w->o->user, ++w->n_done, w->n_total);
    }
    adm_profile_reference_free(&reference);
    adm_gpu_case_free(&gpu_case);
    adm_free(&length);
    if (status == ADM_OK) status = adm_store_flush(w->store, err);
    return status;
}

adm_status adm_profile_run(const adm_profile_options *o, adm_gpu *gpu, adm_store *store, int64_t run_id,
                           size_t *n_failed, adm_error *err) {
    adm_profile_unit *units = NULL;
    size_t n_units;
    walk w = {.o = o, .gpu = gpu, .store = store, .run_id = run_id};
    adm_status status = adm_profile_units(o, &units, &n_units, err);
    w.n_total = n_units * o->n_seq_lens * o->n_kv_heads * o->n_batches;
    if (status == ADM_OK) status = measure_read_limit(&w, err);
    for (size_t l = 0; status == ADM_OK && l < o->n_seq_lens; l++)
        for (size_t h = 0; status == ADM_OK && h < o->n_kv_heads; h++)
            for (size_t b = 0; status == ADM_OK && b < o->n_batches; b++) {
                w.seq_len = o->seq_lens[l];
                w.shape = adm_profile_shape(o, o->kv_heads[h], o->batches[b], w.seq_len);
                status = run_configuration(&w, units, n_units, err);
                if (status == ADM_OK && !adm_gpu_alive(gpu))
                    status = adm_fail(err, ADM_EENVIRONMENT, "the CUDA context was lost at %u tokens, %u KV heads, batch "
                                      "%u; what came before is stored", w.seq_len, o->kv_heads[h], o->batches[b]);
            }
    adm_free(&units);
    *n_failed = w.n_failed;
    return status;
}
