/* run.c: runs the grid of a GPU profile: makes a case, checks every unit, times it, stores what it saw. */
#include "kernels/profile/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/gpu/bandwidth.h"
#include "kernels/gpu_work.h"
#include "kernels/profile/check.h"
#include "kernels/profile/grid/metrics.h"
#include "kernels/profile/observe/observe.h"
#include "kernels/profile/peers.h"
#include "kernels/profile/phases.h"
#include "kernels/profile/grid/spent.h"
#include "kernels/profile/observe/state.h"

/* --- Storing ------------------------------------------------------------------------------------------------------ */

static const adm_metric flops_metric = {"model_flops", "1", "none",
                                        "Arithmetic operations of a stage for one layer of one decode step"};
static const adm_metric cold_metric = {"cold_l2_ratio", "ratio", "none",
                                       "Bytes that pass between two uses of the same K, V or codes, over the L2's size"};
static const adm_metric peer_metric = {
    "peer_time_ns", "ns", "lower", "Recorded duration of another implementation of the same work, not measured in this run"};
static const adm_metric read_metric = {"read_limit_bytes_per_s", "bytes/s", "higher",
                                       "Bandwidth of a plain read kernel over a buffer far larger than the L2"};
static const adm_metric power_metric = {"power_limit_w", "W", "none", "Power limit in force when the run began"};

/* One run over the grid. */
typedef struct grid_run {
    const adm_profile_options *o;
    adm_gpu *gpu;
    adm_store *store;
    int64_t run_id;
    double read_limit;        /* bytes/s; 0: not measured */
    adm_profile_tally tally;
    uint64_t n_done, n_total;
    adm_profile_case present; /* the configuration at hand */
    adm_gpu_shape shape;      /* its shape, with the largest budget */
    adm_pool *pool;           /* for what the host computes; idle while anything is timed */
} grid_run;

/* What one configuration needs; all NULL where it could not be made. */
typedef struct case_run {
    adm_gpu_case *gpu_case;
    float *channels;          /* of random inputs with asym4 */
    adm_profile_reference **reference; /* [n_references]: of the first sets, one per layer */
    size_t n_references;
    adm_profile_unit *right;  /* [n_right] units that passed their check: what may be observed */
    double *right_ns;         /* [n_right] median of its timing; 0: not timed */
    size_t n_right;
    double overlap;           /* of a group's selections at the budget overlap_at */
    uint32_t overlap_at;
} case_run;

static const char *launch_name(adm_gpu_launch_mode mode) { return mode == ADM_LAUNCH_GRAPH ? "graph" : "stream"; }

static adm_config config_of(const grid_run *g, const adm_profile_unit *unit, const char *launch) {
    const bool selects = adm_profile_by_budget(unit->stage), grouped = selects || unit->stage == ADM_STAGE_DISTANCE;
    return (adm_config){.trace_id = g->o->trace_id,
                        .policy = unit->stage == ADM_STAGE_DENSE ? "dense" : "adamas",
                        .variant = unit->variant,
                        .shape = g->shape.heads,
                        .dtype = g->shape.dtype,
                        .seq_len = g->present.seq_len,
                        .budget = unit->budget,
                        .batch = g->shape.batch,
                        .n_sinks = selects ? (int32_t)g->shape.rule.n_sinks : -1,
                        .n_recent = selects ? (int32_t)g->shape.rule.n_recent : -1,
                        .selection = grouped ? adm_selection_name(g->o->selection) : NULL,
                        .cache = g->o->cold ? "cold" : "warm",
                        .launch = launch,
                        .page_size = g->shape.page_size,
                        .batch_lens = g->o->n_batch_lens > 0 ? g->o->batch_lens_text : NULL};
}

/* mark: the device's throttling at each sample, or NULL. */
static adm_status put_marked(grid_run *g, int64_t config_id, const char *source, const adm_profile_unit *unit,
                             const adm_metric *metric, double *values, size_t n, const double *samples, const int32_t *mark,
                             adm_error *err) {
    adm_distribution distribution = adm_distribution_of(values, n);
    adm_measurement m = {.run_id = g->run_id,
                         .config_id = config_id,
                         .source = source,
                         .stage = adm_stage_name(unit->stage),
                         .layer = -1,
                         .head = -1,
                         .metric = metric,
                         .distribution = &distribution,
                         .status = "ok",
                         .samples = samples,
                         .n_samples = samples != NULL ? n : 0,
                         .throttle = mark};
    return adm_store_measurement(g->store, &m, err);
}

static adm_status put(grid_run *g, int64_t config_id, const char *source, const adm_profile_unit *unit,
                      const adm_metric *metric, double *values, size_t n, const double *samples, adm_error *err) {
    return put_marked(g, config_id, source, unit, metric, values, n, samples, NULL, err);
}

/* A unit that is wrong, or could not be run: a row that says so. */
static adm_status put_reason(grid_run *g, const adm_profile_unit *unit, const char *launch, const adm_error *why,
                             adm_error *err) {
    int64_t config_id;
    adm_config config = config_of(g, unit, launch);
    adm_status status = adm_store_config(g->store, &config, &config_id, err);
    bool skipped = why->status == ADM_EUNSUPPORTED;
    adm_measurement m = {.run_id = g->run_id,
                         .config_id = config_id,
                         .source = "gpu",
                         .stage = adm_stage_name(unit->stage),
                         .layer = -1,
                         .head = -1,
                         .metric = &adm_metric_time,
                         .status = skipped ? "skipped" : "failed",
                         .reason = why->text};
    return status == ADM_OK ? adm_store_measurement(g->store, &m, err) : status;
}

static double mean_length(const grid_run *g, uint32_t b) {
    if (g->present.session == NULL) return g->present.length[b];
    const adm_gpu_session *s = &g->present.session->session;
    double sum = 0;
    for (uint32_t i = 0; i < s->n_steps; i++) sum += s->length[i];
    return sum / s->n_steps;
}

static adm_gpu_load load_of(const grid_run *g, const adm_profile_unit *unit, double overlap) {
    adm_gpu_load load = {0, 0, 0};
    for (uint32_t b = 0; b < g->shape.batch; b++) {
        const double n = mean_length(g, b), n_selected = fmin(unit->budget, n);
        load.n_tokens += n;
        load.n_selected += n_selected;
        load.n_distinct += n_selected * overlap;
    }
    return load;
}

static adm_work work_of(const grid_run *g, const adm_profile_unit *unit, double overlap) {
    const adm_gpu_load load = load_of(g, unit, overlap);
    return adm_gpu_work(&g->shape, adm_profile_covers(unit), &load);
}

static double write_bytes_of(const grid_run *g, const adm_profile_unit *unit) {
    const adm_gpu_load load = load_of(g, unit, 1);
    return adm_gpu_write_bytes(&g->shape, adm_profile_covers(unit), &load);
}

static adm_status put_model(grid_run *g, const case_run *c, int64_t config_id, const adm_profile_unit *unit,
                            const adm_work *work, adm_error *err) {
    adm_gpu_shape shape = adm_gpu_case_shape(c->gpu_case, 0);
    double values[] = {work->bytes, work->flops, g->read_limit > 0 ? work->bytes / g->read_limit * 1e9 : 0,
                       g->o->cold ? adm_gpu_plan_coldness(adm_gpu_case_plan(c->gpu_case), &shape, adm_profile_covers(unit))
                                  : 0};
    const adm_metric *const metrics[] = {&adm_metric_bytes, &flops_metric, &adm_metric_floor, &cold_metric};
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < 4; i++)
        if (i < 2 || values[i] > 0) status = put(g, config_id, "model", unit, metrics[i], &values[i], 1, NULL, err);
    return status;
}

static adm_status put_timing(grid_run *g, case_run *c, const adm_profile_unit *unit, const char *launch,
                             const adm_gpu_timing *timing, adm_error *err) {
    double *sorted = NULL;
    int32_t *mark = NULL;
    int64_t config_id;
    adm_config config = config_of(g, unit, launch);
    const adm_work work = work_of(g, unit, c->overlap);
    adm_status status = adm_store_config(g->store, &config, &config_id, err);
    if (status == ADM_OK) status = adm_alloc(&sorted, timing->n_samples, sizeof *sorted, "samples", err);
    if (status == ADM_OK) status = adm_alloc(&mark, timing->n_samples, sizeof *mark, "samples", err);
    if (status == ADM_OK) {
        memcpy(sorted, timing->sample_ns, timing->n_samples * sizeof *sorted);
        adm_profile_throttle_marks(g->o->observer, timing->start_ns, timing->end_ns, timing->n_samples, mark);
        status = put_marked(g, config_id, "gpu", unit, &adm_metric_time, sorted, timing->n_samples, timing->sample_ns, mark,
                            err);
        double *median = &c->right_ns[c->n_right - 1]; /* of the first launch mode */
        if (*median == 0) *median = adm_quantile_sorted(sorted, timing->n_samples, 0.5);
    }
    if (status == ADM_OK) status = adm_profile_put_state(g->o->observer, config_id, unit->stage, err);
    double spread = timing->median_ci_ratio;
    if (status == ADM_OK) status = put(g, config_id, "gpu", unit, &adm_metric_spread, &spread, 1, NULL, err);
    if (status == ADM_OK) status = put_model(g, c, config_id, unit, &work, err);
    if (status == ADM_OK && g->read_limit > 0) {
        for (size_t i = 0; i < timing->n_samples; i++) sorted[i] = work.bytes / timing->sample_ns[i] * 1e9 / g->read_limit;
        status = put(g, config_id, "gpu", unit, &adm_metric_limit, sorted, timing->n_samples, NULL, err);
    }
    adm_free(&sorted);
    adm_free(&mark);
    return status;
}

/* A time below what the compulsory reads of K, V and codes take at the memory's own rate was not taken on cold caches, or not
 * of this work. Where less than twice the L2 passes between two uses of the same bytes, they may be there, and nothing is said.
 * */
static adm_status refuse_impossible(const grid_run *g, const case_run *c, const adm_profile_unit *unit,
                                    const adm_gpu_timing *timing, adm_error *why) {
    const adm_device_info *device = adm_gpu_device(g->gpu);
    const adm_gpu_shape shape = adm_gpu_case_shape(c->gpu_case, 0);
    const uint32_t covers = adm_profile_covers(unit);
    const adm_gpu_load load = load_of(g, unit, 1);
    const double bytes = adm_gpu_cache_bytes(&g->shape, covers, &load);
    if (!g->o->cold || device->memory_bytes_per_s <= 0 || timing->n_samples == 0 ||
        adm_gpu_plan_coldness(adm_gpu_case_plan(c->gpu_case), &shape, covers) < 2)
        return ADM_OK;
    double *sorted = NULL;
    adm_status status = adm_alloc(&sorted, timing->n_samples, sizeof *sorted, "samples", why);
    if (status != ADM_OK) return status;
    memcpy(sorted, timing->sample_ns, timing->n_samples * sizeof *sorted);
    const double median = adm_distribution_of(sorted, timing->n_samples).median;
    adm_free(&sorted);
    const double min_ns = bytes / device->memory_bytes_per_s * 1e9;
    if (median >= min_ns) return ADM_OK;
    return adm_fail(
        why, ADM_EINTERNAL,
        "%s '%s': the median of %.0f ns is below the %.0f ns that %.0f bytes of K, V and codes take at this memory's "
        "%.3f TB/s: the caches were not cold, or the work was not done",
        adm_stage_name(unit->stage), unit->variant, median, min_ns, bytes, device->memory_bytes_per_s * 1e-12);
}

/* Beside our dense attention the fastest recorded of others, if there is one for this shape and device. */
static adm_status put_peer(grid_run *g, const adm_profile_unit *unit, adm_gpu_launch_mode mode, adm_error *err) {
    adm_dense_peer peer;
    bool found = false;
    char variant[64];
    const bool comparable = g->o->cold && mode == ADM_LAUNCH_GRAPH && g->shape.page_size == 0 && g->o->n_batch_lens == 0 &&
                            g->present.session == NULL;
    if (unit->stage != ADM_STAGE_DENSE || !comparable) return ADM_OK;
    adm_status status = adm_dense_peer_find(adm_gpu_device(g->gpu)->name, &g->shape, g->present.seq_len, &peer, &found, err);
    if (status != ADM_OK || !found) return status;
    snprintf(variant, sizeof variant, "%s, recorded", peer.name);
    adm_profile_unit recorded = *unit;
    recorded.variant = variant;
    adm_config config = config_of(g, &recorded, launch_name(mode));
    const adm_distribution one = adm_distribution_of(&peer.time_ns, 1);
    adm_measurement m = {.run_id = g->run_id,
                         .source = "model",
                         .stage = adm_stage_name(unit->stage),
                         .layer = -1,
                         .head = -1,
                         .metric = &peer_metric,
                         .distribution = &one,
                         .status = "ok",
                         .reason = peer.source};
    status = adm_store_config(g->store, &config, &m.config_id, err);
    return status == ADM_OK ? adm_store_measurement(g->store, &m, err) : status;
}

/* A phase's metric, by its name. `text`: what the metric borrows. */
typedef struct phase_text {
    char name[64], description[160];
} phase_text;

static adm_metric phase_metric(const char *phase, phase_text *text) {
    snprintf(text->name, sizeof text->name, "phase_%s_ns", phase);
    snprintf(text->description, sizeof text->description,
             "Phase '%s' of a step, between its stamps in a block of an instrumented instance; over blocks and launches",
             phase);
    return (adm_metric){text->name, "ns", "lower", text->description};
}

/* The phases of a step of one launch, a row each in their order; or one row that says why there are none. */
static adm_status put_phases(grid_run *g, const case_run *c, const adm_profile_unit *unit, adm_error *err) {
    adm_phase_times times;
    phase_text text;
    adm_error why = {0};
    int64_t config_id;
    if (!g->o->phases || unit->stage != ADM_STAGE_STEP || unit->n_impls != 1) return ADM_OK;
    const adm_config config = config_of(g, unit,
                                        launch_name(g->o->launch[ADM_LAUNCH_GRAPH] ? ADM_LAUNCH_GRAPH : ADM_LAUNCH_STREAM));
    adm_status status = adm_store_config(g->store, &config, &config_id, err);
    if (status != ADM_OK) return status;
    if (adm_phase_times_take(g->gpu, c->gpu_case, &g->shape, unit->impl[0], &times, &why) != ADM_OK) {
        const adm_metric all = phase_metric("all", &text);
        const adm_measurement m = {.run_id = g->run_id,
                                   .config_id = config_id,
                                   .source = "gpu",
                                   .stage = adm_stage_name(unit->stage),
                                   .layer = -1,
                                   .head = -1,
                                   .metric = &all,
                                   .status = why.status == ADM_EUNSUPPORTED ? "skipped" : "failed",
                                   .reason = why.text};
        return adm_store_measurement(g->store, &m, err);
    }
    for (uint32_t p = 0; status == ADM_OK && p < times.phases.n_phases; p++) {
        const adm_metric metric = phase_metric(times.phases.name[p], &text);
        if (times.n[p] > 0) status = put(g, config_id, "gpu", unit, &metric, times.ns[p], times.n[p], NULL, err);
    }
    adm_phase_times_free(&times);
    return status;
}

/* A figure of the device as a whole, as a row of its own; `reason`: why there is none. */
static adm_status put_of_device(grid_run *g, const char *variant, const adm_metric *metric, double value,
                                const char *status_text, const char *reason, adm_error *err) {
    int64_t config_id;
    adm_config config = {.policy = "device",
                         .variant = variant,
                         .shape = {1, 1, g->o->head_dim},
                         .dtype = g->o->dtypes[0],
                         .seq_len = 0,
                         .batch = 1,
                         .n_sinks = -1,
                         .n_recent = -1,
                         .cache = "cold",
                         .launch = "stream"};
    adm_status status = adm_store_config(g->store, &config, &config_id, err);
    if (status != ADM_OK) return status;
    adm_distribution distribution = adm_distribution_of(&value, 1);
    adm_measurement m = {.run_id = g->run_id,
                         .config_id = config_id,
                         .source = "gpu",
                         .layer = -1,
                         .head = -1,
                         .metric = metric,
                         .distribution = reason == NULL ? &distribution : NULL,
                         .status = status_text,
                         .reason = reason};
    status = adm_store_measurement(g->store, &m, err);
    return status == ADM_OK ? adm_store_flush(g->store, err) : status;
}

/* Where the read limit cannot be measured, the times go without their floor. */
static adm_status measure_read_limit(grid_run *g, adm_error *err) {
    adm_error why;
    const bool measured = adm_bandwidth_read(0, &g->read_limit, &why) == ADM_OK;
    return put_of_device(g, "read", &read_metric, g->read_limit, measured ? "ok" : "failed", measured ? NULL : why.text, err);
}

/* Runs under another power limit are a series of their own: what a kernel takes may depend on it. */
static adm_status put_power_limit(grid_run *g, adm_error *err) {
    const bool known = g->o->power_limit_w > 0;
    if (!known && g->o->no_power_limit == NULL) return ADM_OK;
    return put_of_device(g, "power", &power_metric, g->o->power_limit_w, known ? "ok" : "skipped",
                         known ? NULL : g->o->no_power_limit, err);
}

/* A fact without a value is a row with the reason. */
static adm_status put_facts(grid_run *g, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < g->o->n_facts; i++) {
        const adm_counter *f = &g->o->fact[i];
        const adm_metric metric = {f->name, f->unit, f->better, f->description};
        status = put_of_device(g, "cupti", &metric, g->o->fact_value[i], f->reason == NULL ? "ok" : "skipped", f->reason, err);
    }
    return status;
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

/* The stages before a unit's first, each by itself: what it finds in memory comes from them. */
static adm_status stages_before(adm_code_metric metric, const adm_profile_unit *unit, adm_profile_unit *before,
                                adm_error *err) {
    if (!adm_profile_six_stages(metric, before))
        return adm_fail(err, ADM_EINTERNAL, "the GPU registry lacks one of the six stages");
    const uint32_t covers = adm_profile_covers(unit);
    before->n_impls = 0;
    while (before->n_impls < 6 && (covers & ((before->impl[before->n_impls]->covers << 1) - 1)) == 0) before->n_impls++;
    if (covers & (1u << ADM_STAGE_DENSE | ADM_GPU_COVERS_PROMPT)) before->n_impls = 0; /* K and V are there */
    return ADM_OK;
}

static void overlap_at_budget(const grid_run *g, case_run *c, const adm_profile_unit *unit) {
    adm_select_rule rule = g->shape.rule;
    if (c->overlap_at == unit->budget || unit->budget == 0) return;
    rule.budget = unit->budget;
    c->overlap = 0;
    for (size_t i = 0; i < c->n_references; i++)
        c->overlap += adm_profile_reference_overlap(c->reference[i], &rule) / (double)c->n_references;
    c->overlap_at = unit->budget;
}

/* Leaves in every set of the unit's timing what the stages before it at this budget hand over. Before every unit anew, since
 * the check of the one before poisoned what it covers. */
static adm_status prepare(grid_run *g, case_run *c, const adm_profile_unit *unit, adm_error *err) {
    adm_profile_unit before;
    adm_select_rule rule = g->shape.rule;
    if (unit->budget > 0) rule.budget = unit->budget;
    adm_gpu_case_set_rule(c->gpu_case, &rule);
    overlap_at_budget(g, c, unit);
    adm_status status = stages_before(g->present.metric, unit, &before, err);
    if (status != ADM_OK || before.n_impls == 0) return status;
    const adm_gpu_shape shape = adm_gpu_case_shape(c->gpu_case, 0);
    const uint32_t n_sets = adm_gpu_plan_rotation(adm_gpu_case_plan(c->gpu_case), &shape, adm_profile_covers(unit));
    return adm_gpu_case_run_first(c->gpu_case, before.impl, before.n_impls, n_sets, err);
}

/* Compares the unit on the first set of every layer, the first of all last: prepare() left the hand-over of that. */
static adm_status check(grid_run *g, case_run *c, const adm_profile_unit *unit, adm_error *err) {
    adm_profile_unit before;
    adm_status status = stages_before(g->present.metric, unit, &before, err);
    for (size_t i = c->n_references; status == ADM_OK && i-- > 0;) {
        if (c->n_references > 1 && before.n_impls > 0)
            status = adm_gpu_case_run(c->gpu_case, before.impl, before.n_impls, (uint32_t)i, err);
        if (status == ADM_OK) status = adm_profile_check(g->gpu, c->gpu_case, c->reference[i], unit, err);
    }
    return status;
}

static void ends(const grid_run *g, const adm_profile_unit *unit, adm_profile_part part) {
    adm_profile_spent_end(g->o->spent, g->o, &g->present, unit, part);
}

static void count(adm_profile_tally *tally, adm_status status) {
    if (status == ADM_OK) tally->n_right++;
    else if (status == ADM_EUNSUPPORTED) tally->n_skipped++;
    else tally->n_failed++;
}

/* Checks a unit, and times it if it is right. Returns a failure only of the store; the unit's own is recorded. `ready`:
 * ADM_OK, or why nothing can be run, with `why`. */
static adm_status run_unit(grid_run *g, case_run *c, const adm_profile_unit *unit, adm_status ready, adm_error *why,
                           adm_error *err) {
    if (ready == ADM_OK) ready = prepare(g, c, unit, why);
    ends(g, unit, ADM_PROFILE_PREPARE);
    if (ready == ADM_OK) {
        adm_profile_check_begin(g->o->observer, unit, g->present.seq_len);
        ready = check(g, c, unit, why);
        adm_profile_check_end(g->o->observer, unit, g->present.seq_len);
    }
    ends(g, unit, ADM_PROFILE_CHECK);
    if (ready == ADM_OK) c->right[c->n_right++] = *unit;
    adm_status worst = ready;
    for (int mode = 0; mode < 2; mode++) {
        if (!g->o->launch[mode]) continue;
        const char *launch = launch_name((adm_gpu_launch_mode)mode);
        adm_gpu_timing timing = {0};
        adm_status status = ready;
        if (status == ADM_OK && !g->o->check_only) {
            adm_profile_timing_begin(g->o->observer, unit, g->present.seq_len);
            status = adm_gpu_time(c->gpu_case, unit->impl, unit->n_impls, (adm_gpu_launch_mode)mode, g->o->target, g->o->cap_ns,
                                  &timing, why);
            adm_profile_timing_end(g->o->observer, unit, g->present.seq_len);
            if (status == ADM_OK) status = refuse_impossible(g, c, unit, &timing, why);
        }
        ends(g, unit, ADM_PROFILE_TIMING);
        if (status != ADM_OK) worst = status;
        if (status != ADM_OK) status = put_reason(g, unit, launch, why, err);
        else if (!g->o->check_only) status = put_timing(g, c, unit, launch, &timing, err);
        adm_free(&timing.sample_ns);
        adm_free(&timing.end_ns);
        if (status == ADM_OK && !g->o->check_only) status = put_peer(g, unit, (adm_gpu_launch_mode)mode, err);
        if (status == ADM_OK) status = adm_store_flush(g->store, err); /* nothing is timed with a batch open */
        ends(g, unit, ADM_PROFILE_STORE);
        if (status != ADM_OK) return status;
    }
    count(&g->tally, worst);
    if (ready == ADM_OK && !g->o->check_only) return put_phases(g, c, unit, err);
    return ADM_OK;
}

/* A configuration whose units are observed. */
typedef struct observed {
    grid_run *g;
    case_run *c;
} observed;

static adm_config observed_config(void *user, const adm_profile_unit *unit, const char *launch) {
    return config_of(((observed *)user)->g, unit, launch);
}

/* The share of a group's selections that differ depends on the budget, so prepare() has computed it for the unit. */
static adm_work observed_work(void *user, const adm_profile_unit *unit, double *write_bytes) {
    const observed *o = user;
    overlap_at_budget(o->g, o->c, unit);
    *write_bytes = write_bytes_of(o->g, unit);
    return work_of(o->g, unit, o->c->overlap);
}

/* What was right runs once more for counters and a timeline, where they were asked for. */
static adm_status observe(grid_run *g, case_run *c, adm_error *err) {
    adm_profile_unit pipeline;
    observed user = {g, c};
    if (g->o->observer == NULL || !adm_profile_six_stages(g->present.metric, &pipeline)) return ADM_OK;
    const adm_profile_subject subject = {.gpu_case = c->gpu_case,
                                         .n_sets = adm_gpu_case_plan(c->gpu_case)->n_sets,
                                         .rule = g->shape.rule,
                                         .pipeline = &pipeline,
                                         .cold = g->o->cold,
                                         .launch = g->o->launch,
                                         .seq_len = g->present.seq_len,
                                         .timed_ns = c->right_ns,
                                         .config = observed_config,
                                         .work = observed_work,
                                         .user = &user};
    return adm_profile_observe(g->o->observer, &subject, c->right, c->n_right, err);
}

static adm_status open_case(grid_run *g, case_run *c, adm_error *err) {
    adm_gpu_inputs inputs = adm_profile_inputs(g->o, &g->present);
    adm_status status = ADM_OK;
    adm_profile_spent_begin(g->o->spent);
    if (g->present.metric == ADM_METRIC_ASYM4 && inputs.session == NULL)
        status = adm_profile_channels_random(&g->shape, &inputs, &c->channels, err);
    if (c->channels != NULL) inputs.channels = c->channels;
    if (status == ADM_OK) status = adm_gpu_case_create(g->gpu, &g->shape, &inputs, g->o->cold, &c->gpu_case, err);
    ends(g, NULL, ADM_PROFILE_INPUTS);
    if (status == ADM_OK) c->n_references = adm_gpu_case_plan(c->gpu_case)->n_layers;
    if (status == ADM_OK)
        status = adm_alloc(&c->reference, c->n_references, sizeof *c->reference, "host references of a profile", err);
    for (size_t i = 0; status == ADM_OK && i < c->n_references; i++)
        status = adm_profile_reference_create(&g->shape, &inputs, (uint32_t)i, g->pool, &c->reference[i], err);
    ends(g, NULL, ADM_PROFILE_REFERENCE);
    return status;
}

static void close_case(case_run *c) {
    for (size_t i = 0; c->reference != NULL && i < c->n_references; i++) adm_profile_reference_free(&c->reference[i]);
    adm_free(&c->reference);
    adm_gpu_case_free(&c->gpu_case);
    adm_free(&c->channels);
    adm_free(&c->right);
    adm_free(&c->right_ns);
}

static adm_status run_configuration(grid_run *g, const adm_profile_unit *units, size_t n_units, const bool *is_ours,
                                    adm_error *err) {
    case_run c = {.overlap = 1};
    adm_error why = {0};
    adm_status status = adm_alloc(&c.right, n_units, sizeof *c.right, "units of a profile", err);
    if (status == ADM_OK) status = adm_alloc(&c.right_ns, n_units, sizeof *c.right_ns, "units of a profile", err);
    if (status != ADM_OK) {
        close_case(&c);
        return status;
    }
    adm_status made = open_case(g, &c, &why);
    for (size_t i = 0; status == ADM_OK && i < n_units; i++) {
        if (is_ours != NULL && !is_ours[i]) continue;
        if (g->o->should_stop != NULL && g->o->should_stop())
            status = adm_fail(err, ADM_EINTERRUPTED, "interrupted at %u tokens, %u KV heads, batch %u", g->present.seq_len,
                              g->present.n_kv_heads, g->present.batch);
        if (status == ADM_OK) status = run_unit(g, &c, &units[i], made, &why, err);
        if (made == ADM_OK && !adm_gpu_alive(g->gpu)) made = ADM_EENVIRONMENT; /* `why` says what ended it */
        if (g->o->on_progress != NULL) g->o->on_progress(g->o->user, ++g->n_done, g->n_total);
    }
    if (status == ADM_OK && made == ADM_OK) status = observe(g, &c, err);
    close_case(&c);
    return status;
}

/* What belongs to the device, once per run: a run that goes on has it. */
static adm_status put_device(grid_run *g, adm_error *err) {
    if (g->o->start != NULL) {
        g->read_limit = g->o->start->read_limit;
        return ADM_OK;
    }
    adm_status status = measure_read_limit(g, err);
    if (status == ADM_OK) status = put_power_limit(g, err);
    return status == ADM_OK ? put_facts(g, err) : status;
}

/* How many of n units are ours. */
static size_t count_ours(const bool *is_ours, size_t n) {
    size_t n_ours = 0;
    for (size_t u = 0; u < n; u++) n_ours += is_ours[u];
    return n_ours;
}

enum { MAX_HOST_THREADS = 8 };

adm_status adm_profile_run(const adm_profile_options *o, adm_gpu *gpu, adm_store *store, int64_t run_id,
                           adm_profile_tally *tally, adm_error *err) {
    grid_run g = {.o = o, .gpu = gpu, .store = store, .run_id = run_id};
    const size_t n_cases = adm_profile_n_cases(o), first = o->start != NULL ? o->start->n_done : 0;
    size_t n_units = 0;
    adm_status status = adm_profile_n_units(o, &n_units, err);
    g.n_total = n_units * (n_cases / o->n_metrics);
    if (o->is_ours != NULL)
        g.n_total = count_ours(&o->is_ours[o->first_of_case[first]], o->first_of_case[n_cases] - o->first_of_case[first]);
    if (status == ADM_OK) status = put_device(&g, err);
    if (status == ADM_OK) status = adm_pool_create(adm_min(adm_threads_available(), MAX_HOST_THREADS), &g.pool, err);
    for (size_t i = first; status == ADM_OK && i < n_cases; i++) {
        const bool *is_ours = o->is_ours != NULL ? &o->is_ours[o->first_of_case[i]] : NULL;
        if (is_ours != NULL && count_ours(is_ours, o->first_of_case[i + 1] - o->first_of_case[i]) == 0) continue;
        g.present = adm_profile_case_at(o, i);
        g.shape = adm_profile_shape(o, &g.present);
        adm_profile_unit *units = NULL;
        status = adm_profile_units(o, g.present.metric, &units, &n_units, err);
        if (status == ADM_OK) status = run_configuration(&g, units, n_units, is_ours, err);
        adm_free(&units);
        if (status == ADM_OK && !adm_gpu_alive(gpu))
            status = adm_fail(err, ADM_EENVIRONMENT,
                              "the CUDA context was lost at %u tokens, %u KV heads, batch %u; what "
                              "came before is stored",
                              g.present.seq_len, g.present.n_kv_heads, g.present.batch);
    }
    adm_pool_free(&g.pool);
    *tally = g.tally;
    return status;
}
