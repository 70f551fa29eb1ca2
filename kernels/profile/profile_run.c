/* profile_run.c: walks the grid of a GPU profile: makes a case, checks every unit, times it, stores what it saw. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "kernels/gpu/bandwidth.h"
#include "kernels/gpu_work.h"
#include "kernels/profile/profile_observe.h"

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
            (*units)[n++] =
                (adm_profile_unit){.stage = impl->stage, .variant = impl->name, .budget = budget, .impl = {impl}, .n_impls = 1};
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

/* --- Configurations ----------------------------------------------------------------------------------------------- */

static size_t n_lengths(const adm_profile_options *o) {
    return o->n_sessions > 0 ? o->n_sessions : o->n_batch_lens > 0 ? 1 : o->n_seq_lens;
}

static size_t n_batches(const adm_profile_options *o) { return o->n_batch_lens > 0 ? 1 : o->n_batches; }

size_t adm_profile_n_cases(const adm_profile_options *o) {
    return o->n_dtypes * o->n_page_sizes * n_lengths(o) * o->n_kv_heads * n_batches(o);
}

/* The last digit of i in a number system of that base, which is cut off. */
static size_t digit(size_t *i, size_t base) {
    const size_t last = *i % base;
    *i /= base;
    return last;
}

adm_profile_case adm_profile_case_at(const adm_profile_options *o, size_t i) {
    const size_t b = digit(&i, n_batches(o)), h = digit(&i, o->n_kv_heads), l = digit(&i, n_lengths(o));
    adm_profile_case c = {.n_kv_heads = o->kv_heads[h],
                          .batch = o->n_batch_lens > 0 ? (uint32_t)o->n_batch_lens : o->batches[b]};
    c.page_size = o->page_sizes[digit(&i, o->n_page_sizes)];
    c.dtype = o->dtypes[digit(&i, o->n_dtypes)];
    if (o->n_sessions > 0) c.session = &o->sessions[l];
    for (uint32_t s = 0; s < c.batch; s++) {
        if (o->n_batch_lens > 0) c.length[s] = o->batch_lens[s];
        else if (c.session != NULL) c.length[s] = c.session->session.length[c.session->session.n_steps - 1];
        else c.length[s] = o->seq_lens[l];
        if (c.length[s] > c.seq_len) c.seq_len = c.length[s];
    }
    if (c.session != NULL) c.seq_len = c.session->seq_len;
    return c;
}

adm_gpu_shape adm_profile_shape(const adm_profile_options *o, const adm_profile_case *c) {
    uint32_t longest = 1;
    for (uint32_t b = 0; b < c->batch; b++)
        if (c->length[b] > longest) longest = c->length[b];
    adm_gpu_shape shape = {.heads = {o->n_q_heads, c->n_kv_heads, o->head_dim},
                           .dtype = c->dtype,
                           .batch = c->batch,
                           .capacity = (longest + 31) / 32 * 32,
                           .page_size = c->page_size,
                           .selection = o->selection};
    shape.rule = (adm_select_rule){o->budgets[o->n_budgets - 1], o->n_sinks, o->n_recent};
    memcpy(shape.threshold, o->threshold, sizeof shape.threshold);
    if (c->page_size > 0) shape.max_pages = (shape.capacity + c->page_size - 1) / c->page_size;
    shape.scale = o->scale > 0 ? o->scale : (float)(1.0 / sqrt(o->head_dim));
    return shape;
}

adm_gpu_inputs adm_profile_inputs(const adm_profile_options *o, const adm_profile_case *c) {
    return (adm_gpu_inputs){.length = c->length,
                            .seed = o->seed,
                            .least_budget = o->budgets[0],
                            .session = c->session != NULL ? &c->session->session : NULL};
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
static const adm_metric floor_metric = {"floor_ns", "ns", "none",
                                        "Least duration of a stage: its compulsory traffic at the measured read bandwidth"};
static const adm_metric cold_metric = {"cold_l2_ratio", "ratio", "none",
                                       "Bytes that pass between two uses of the same K, V or codes, over the L2's size"};
static const adm_metric spread_metric = {"median_ci_ratio", "ratio", "lower",
                                         "Half the 95% confidence interval of the median duration, over the median"};
static const adm_metric read_metric = {"read_limit_bytes_per_s", "bytes/s", "higher",
                                       "Bandwidth of a plain read kernel over a buffer far larger than the L2"};
static const adm_metric power_metric = {"power_limit_w", "W", "none", "Power limit in force when the run began"};

/* What a walk over the grid carries along. */
typedef struct walk {
    const adm_profile_options *o;
    adm_gpu *gpu;
    adm_store *store;
    int64_t run_id;
    double read_limit;        /* bytes/s; 0: not measured */
    adm_profile_tally tally;
    uint64_t n_done, n_total;
    adm_profile_case present; /* the configuration at hand */
    adm_gpu_shape shape;      /* its shape, with the largest budget */
} walk;

/* What a configuration is at work with; all NULL where it could not be made. */
typedef struct workplace {
    adm_gpu_case *gpu_case;
    adm_profile_reference **reference; /* [n_references]: of the first sets, one a layer */
    size_t n_references;
    adm_profile_unit *right;  /* [n_right] units that passed their check: what may be observed */
    double *right_ns;         /* [n_right] median of its timing; 0: not timed */
    size_t n_right;
    double overlap;           /* of a group's selections at the budget overlap_at */
    uint32_t overlap_at;
} workplace;

static adm_config config_of(const walk *w, const adm_profile_unit *unit, const char *launch) {
    const bool selects = by_budget(unit->stage), grouped = selects || unit->stage == ADM_STAGE_DISTANCE;
    return (adm_config){.trace_id = w->o->trace_id,
                        .policy = unit->stage == ADM_STAGE_DENSE ? "dense" : "adamas",
                        .variant = unit->variant,
                        .shape = w->shape.heads,
                        .dtype = w->shape.dtype,
                        .seq_len = w->present.seq_len,
                        .budget = unit->budget,
                        .batch = w->shape.batch,
                        .n_sinks = selects ? (int32_t)w->shape.rule.n_sinks : -1,
                        .n_recent = selects ? (int32_t)w->shape.rule.n_recent : -1,
                        .selection = grouped ? adm_selection_name(w->o->selection) : NULL,
                        .cache = w->o->cold ? "cold" : "warm",
                        .launch = launch,
                        .page_size = w->shape.page_size,
                        .batch_lens = w->o->n_batch_lens > 0 ? w->o->batch_lens_text : NULL};
}

/* mark: the device's throttling at each sample, or NULL. */
static adm_status put_marked(walk *w, int64_t config_id, const char *source, const adm_profile_unit *unit,
                             const adm_metric *metric, double *values, size_t n, const double *samples, const int32_t *mark,
                             adm_error *err) {
    adm_distribution distribution = adm_distribution_of(values, n);
    adm_measurement m = {.run_id = w->run_id,
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
    return adm_store_measurement(w->store, &m, err);
}

static adm_status put(walk *w, int64_t config_id, const char *source, const adm_profile_unit *unit, const adm_metric *metric,
                      double *values, size_t n, const double *samples, adm_error *err) {
    return put_marked(w, config_id, source, unit, metric, values, n, samples, NULL, err);
}

/* A unit that is wrong, or could not be run: a row that says so. */
static adm_status put_reason(walk *w, const adm_profile_unit *unit, const char *launch, const adm_error *why, adm_error *err) {
    int64_t config_id;
    adm_config config = config_of(w, unit, launch);
    adm_status status = adm_store_config(w->store, &config, &config_id, err);
    bool skipped = why->status == ADM_EUNSUPPORTED;
    adm_measurement m = {.run_id = w->run_id,
                         .config_id = config_id,
                         .source = "gpu",
                         .stage = adm_stage_name(unit->stage),
                         .layer = -1,
                         .head = -1,
                         .metric = &time_metric,
                         .status = skipped ? "skipped" : "failed",
                         .reason = why->text};
    return status == ADM_OK ? adm_store_measurement(w->store, &m, err) : status;
}

static double mean_length(const walk *w, uint32_t b) {
    if (w->present.session == NULL) return w->present.length[b];
    const adm_gpu_session *s = &w->present.session->session;
    double sum = 0;
    for (uint32_t i = 0; i < s->n_steps; i++) sum += s->length[i];
    return sum / s->n_steps;
}

static adm_gpu_load load_of(const walk *w, const adm_profile_unit *unit, double overlap) {
    adm_gpu_load load = {0, 0, 0};
    for (uint32_t b = 0; b < w->shape.batch; b++) {
        const double n = mean_length(w, b), n_selected = fmin(unit->budget, n);
        load.n_tokens += n;
        load.n_selected += n_selected;
        load.n_distinct += n_selected * overlap;
    }
    return load;
}

static adm_work work_of(const walk *w, const adm_profile_unit *unit, double overlap) {
    const adm_gpu_load load = load_of(w, unit, overlap);
    return adm_gpu_work(&w->shape, adm_profile_covers(unit), &load);
}

static double write_bytes_of(const walk *w, const adm_profile_unit *unit) {
    const adm_gpu_load load = load_of(w, unit, 1);
    return adm_gpu_write_bytes(&w->shape, adm_profile_covers(unit), &load);
}

static adm_status put_model(walk *w, const workplace *at, int64_t config_id, const adm_profile_unit *unit, const adm_work *work,
                            adm_error *err) {
    adm_gpu_shape shape = adm_gpu_case_shape(at->gpu_case, 0);
    double values[] = {work->bytes, work->flops, w->read_limit > 0 ? work->bytes / w->read_limit * 1e9 : 0,
                       w->o->cold ? adm_gpu_plan_coldness(adm_gpu_case_plan(at->gpu_case), &shape, adm_profile_covers(unit))
                                  : 0};
    const adm_metric *const metrics[] = {&bytes_metric, &flops_metric, &floor_metric, &cold_metric};
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < 4; i++)
        if (i < 2 || values[i] > 0) status = put(w, config_id, "model", unit, metrics[i], &values[i], 1, NULL, err);
    return status;
}

static adm_status put_timing(walk *w, workplace *at, const adm_profile_unit *unit, const char *launch,
                             const adm_gpu_timing *timing, adm_error *err) {
    double *sorted = NULL;
    int32_t *mark = NULL;
    int64_t config_id;
    adm_config config = config_of(w, unit, launch);
    const adm_work work = work_of(w, unit, at->overlap);
    adm_status status = adm_store_config(w->store, &config, &config_id, err);
    if (status == ADM_OK) status = adm_alloc(&sorted, timing->n_samples, sizeof *sorted, "samples", err);
    if (status == ADM_OK) status = adm_alloc(&mark, timing->n_samples, sizeof *mark, "samples", err);
    if (status == ADM_OK) {
        memcpy(sorted, timing->sample_ns, timing->n_samples * sizeof *sorted);
        adm_profile_throttle_marks(w->o->observer, timing->start_ns, timing->end_ns, timing->n_samples, mark);
        status = put_marked(w, config_id, "gpu", unit, &time_metric, sorted, timing->n_samples, timing->sample_ns, mark, err);
        double *median = &at->right_ns[at->n_right - 1]; /* of the first launch mode */
        if (*median == 0) *median = adm_quantile_sorted(sorted, timing->n_samples, 0.5);
    }
    if (status == ADM_OK) status = adm_profile_put_state(w->o->observer, config_id, unit->stage, err);
    double spread = timing->median_ci_ratio;
    if (status == ADM_OK) status = put(w, config_id, "gpu", unit, &spread_metric, &spread, 1, NULL, err);
    if (status == ADM_OK) status = put_model(w, at, config_id, unit, &work, err);
    if (status == ADM_OK && w->read_limit > 0) {
        for (size_t i = 0; i < timing->n_samples; i++) sorted[i] = work.bytes / timing->sample_ns[i] * 1e9 / w->read_limit;
        status = put(w, config_id, "gpu", unit, &limit_metric, sorted, timing->n_samples, NULL, err);
    }
    adm_free(&sorted);
    adm_free(&mark);
    return status;
}

/* A figure of the device as a whole, as a row of its own; `reason`: why there is none. */
static adm_status put_of_device(walk *w, const char *variant, const adm_metric *metric, double value, const char *status_text,
                                const char *reason, adm_error *err) {
    int64_t config_id;
    adm_config config = {.policy = "device",
                         .variant = variant,
                         .shape = {1, 1, w->o->head_dim},
                         .dtype = w->o->dtypes[0],
                         .seq_len = 0,
                         .batch = 1,
                         .n_sinks = -1,
                         .n_recent = -1,
                         .cache = "cold",
                         .launch = "stream"};
    adm_status status = adm_store_config(w->store, &config, &config_id, err);
    if (status != ADM_OK) return status;
    adm_distribution distribution = adm_distribution_of(&value, 1);
    adm_measurement m = {.run_id = w->run_id,
                         .config_id = config_id,
                         .source = "gpu",
                         .layer = -1,
                         .head = -1,
                         .metric = metric,
                         .distribution = reason == NULL ? &distribution : NULL,
                         .status = status_text,
                         .reason = reason};
    status = adm_store_measurement(w->store, &m, err);
    return status == ADM_OK ? adm_store_flush(w->store, err) : status;
}

/* Where the read limit cannot be measured, the times go without their floor. */
static adm_status measure_read_limit(walk *w, adm_error *err) {
    adm_error why;
    const bool measured = adm_bandwidth_read(0, &w->read_limit, &why) == ADM_OK;
    return put_of_device(w, "read", &read_metric, w->read_limit, measured ? "ok" : "failed", measured ? NULL : why.text, err);
}

/* Runs under another power limit are a series of their own: what a kernel takes may depend on it. */
static adm_status put_power_limit(walk *w, adm_error *err) {
    const bool known = w->o->power_limit_w > 0;
    if (!known && w->o->no_power_limit == NULL) return ADM_OK;
    return put_of_device(w, "power", &power_metric, w->o->power_limit_w, known ? "ok" : "skipped",
                         known ? NULL : w->o->no_power_limit, err);
}

/* --- Walking ------------------------------------------------------------------------------------------------------ */

static const char *launch_name(adm_gpu_launch_mode mode) { return mode == ADM_LAUNCH_GRAPH ? "graph" : "stream"; }

/* The stages before a unit's first, each by itself: what it finds in memory comes from them. */
static adm_status stages_before(const adm_profile_unit *unit, adm_profile_unit *before, adm_error *err) {
    if (!six_stages(before)) return adm_fail(err, ADM_EINTERNAL, "the GPU registry lacks one of the six stages");
    const uint32_t covers = adm_profile_covers(unit);
    before->n_impls = 0;
    while (before->n_impls < 6 && (covers & ((before->impl[before->n_impls]->covers << 1) - 1)) == 0) before->n_impls++;
    if (covers & (1u << ADM_STAGE_DENSE | ADM_GPU_COVERS_PROMPT)) before->n_impls = 0; /* K and V are there */
    return ADM_OK;
}

static void overlap_at_budget(const walk *w, workplace *at, const adm_profile_unit *unit) {
    adm_select_rule rule = w->shape.rule;
    if (at->overlap_at == unit->budget || unit->budget == 0) return;
    rule.budget = unit->budget;
    at->overlap = 0;
    for (size_t i = 0; i < at->n_references; i++)
        at->overlap += adm_profile_reference_overlap(at->reference[i], &rule) / (double)at->n_references;
    at->overlap_at = unit->budget;
}

/* Leaves in every set what the stages before a unit at this budget hand over. Before every unit anew, since the check of
 * the one before poisoned what it covers. */
static adm_status prepare(walk *w, workplace *at, const adm_profile_unit *unit, adm_error *err) {
    adm_profile_unit before;
    adm_select_rule rule = w->shape.rule;
    if (unit->budget > 0) rule.budget = unit->budget;
    adm_gpu_case_set_rule(at->gpu_case, &rule);
    overlap_at_budget(w, at, unit);
    adm_status status = stages_before(unit, &before, err);
    if (status != ADM_OK || before.n_impls == 0) return status;
    return adm_gpu_case_run_all(at->gpu_case, before.impl, before.n_impls, err);
}

/* Compares the unit on the first set of every layer, the first of all last: prepare() left the hand-over of that. */
static adm_status check(walk *w, workplace *at, const adm_profile_unit *unit, adm_error *err) {
    adm_profile_unit before;
    adm_status status = stages_before(unit, &before, err);
    for (size_t i = at->n_references; status == ADM_OK && i-- > 0;) {
        if (at->n_references > 1 && before.n_impls > 0)
            status = adm_gpu_case_run(at->gpu_case, before.impl, before.n_impls, (uint32_t)i, err);
        if (status == ADM_OK) status = adm_profile_check(w->gpu, at->gpu_case, at->reference[i], unit, err);
    }
    return status;
}

static void count(adm_profile_tally *tally, adm_status status) {
    if (status == ADM_OK) tally->n_right++;
    else if (status == ADM_EUNSUPPORTED) tally->n_skipped++;
    else tally->n_failed++;
}

/* Checks a unit, and times it if it is right. Returns a failure only of the store; the unit's own is recorded. `ready`:
 * ADM_OK, or why nothing can be run, with `why`. */
static adm_status run_unit(walk *w, workplace *at, const adm_profile_unit *unit, adm_status ready, adm_error *why,
                           adm_error *err) {
    if (ready == ADM_OK) ready = prepare(w, at, unit, why);
    if (ready == ADM_OK) {
        adm_profile_check_begin(w->o->observer, unit, w->present.seq_len);
        ready = check(w, at, unit, why);
        adm_profile_check_end(w->o->observer, unit, w->present.seq_len);
    }
    if (ready == ADM_OK) at->right[at->n_right++] = *unit;
    adm_status worst = ready;
    for (int mode = 0; mode < 2; mode++) {
        if (!w->o->launch[mode]) continue;
        const char *launch = launch_name((adm_gpu_launch_mode)mode);
        adm_gpu_timing timing = {0};
        adm_status status = ready;
        if (status == ADM_OK && !w->o->check_only) {
            adm_profile_timing_begin(w->o->observer, unit, w->present.seq_len);
            status = adm_gpu_time(at->gpu_case, unit->impl, unit->n_impls, (adm_gpu_launch_mode)mode, w->o->target,
                                  w->o->cap_ns, &timing, why);
            adm_profile_timing_end(w->o->observer, unit, w->present.seq_len);
        }
        if (status != ADM_OK) worst = status;
        if (status != ADM_OK) status = put_reason(w, unit, launch, why, err);
        else if (!w->o->check_only) status = put_timing(w, at, unit, launch, &timing, err);
        adm_free(&timing.sample_ns);
        adm_free(&timing.end_ns);
        if (status == ADM_OK) status = adm_store_flush(w->store, err); /* nothing is timed with a batch open */
        if (status != ADM_OK) return status;
    }
    count(&w->tally, worst);
    return ADM_OK;
}

/* A configuration whose units are observed. */
typedef struct observed {
    walk *w;
    workplace *at;
} observed;

static adm_config observed_config(void *user, const adm_profile_unit *unit, const char *launch) {
    return config_of(((observed *)user)->w, unit, launch);
}

/* The share of a group's selections that differ depends on the budget, so prepare() has computed it for the unit. */
static adm_work observed_work(void *user, const adm_profile_unit *unit, double *write_bytes) {
    const observed *o = user;
    overlap_at_budget(o->w, o->at, unit);
    *write_bytes = write_bytes_of(o->w, unit);
    return work_of(o->w, unit, o->at->overlap);
}

/* What was right runs once more for counters and a timeline, where they were asked for. */
static adm_status observe(walk *w, workplace *at, adm_error *err) {
    adm_profile_unit pipeline;
    observed user = {w, at};
    if (w->o->observer == NULL || !six_stages(&pipeline)) return ADM_OK;
    const adm_profile_scene scene = {.gpu_case = at->gpu_case,
                                     .n_sets = adm_gpu_case_plan(at->gpu_case)->n_sets,
                                     .rule = w->shape.rule,
                                     .pipeline = &pipeline,
                                     .cold = w->o->cold,
                                     .launch = w->o->launch,
                                     .seq_len = w->present.seq_len,
                                     .timed_ns = at->right_ns,
                                     .config = observed_config,
                                     .work = observed_work,
                                     .user = &user};
    return adm_profile_observe(w->o->observer, &scene, at->right, at->n_right, err);
}

static adm_status open_workplace(walk *w, workplace *at, adm_error *err) {
    const adm_gpu_inputs inputs = adm_profile_inputs(w->o, &w->present);
    adm_status status = adm_gpu_case_create(w->gpu, &w->shape, &inputs, w->o->cold, &at->gpu_case, err);
    if (status == ADM_OK) at->n_references = adm_gpu_case_plan(at->gpu_case)->n_layers;
    if (status == ADM_OK)
        status = adm_alloc(&at->reference, at->n_references, sizeof *at->reference, "host references of a profile", err);
    for (size_t i = 0; status == ADM_OK && i < at->n_references; i++)
        status = adm_profile_reference_create(&w->shape, &inputs, (uint32_t)i, &at->reference[i], err);
    return status;
}

static void close_workplace(workplace *at) {
    for (size_t i = 0; at->reference != NULL && i < at->n_references; i++) adm_profile_reference_free(&at->reference[i]);
    adm_free(&at->reference);
    adm_gpu_case_free(&at->gpu_case);
    adm_free(&at->right);
    adm_free(&at->right_ns);
}

static adm_status run_configuration(walk *w, const adm_profile_unit *units, size_t n_units, adm_error *err) {
    workplace at = {.overlap = 1};
    adm_error why = {0};
    adm_status status = adm_alloc(&at.right, n_units, sizeof *at.right, "units of a profile", err);
    if (status == ADM_OK) status = adm_alloc(&at.right_ns, n_units, sizeof *at.right_ns, "units of a profile", err);
    if (status != ADM_OK) {
        close_workplace(&at);
        return status;
    }
    adm_status made = open_workplace(w, &at, &why);
    for (size_t i = 0; status == ADM_OK && i < n_units; i++) {
        if (w->o->should_stop != NULL && w->o->should_stop())
            status = adm_fail(err, ADM_EINTERRUPTED, "interrupted at %u tokens, %u KV heads, batch %u", w->present.seq_len,
                              w->present.n_kv_heads, w->present.batch);
        if (status == ADM_OK) status = run_unit(w, &at, &units[i], made, &why, err);
        if (made == ADM_OK && !adm_gpu_alive(w->gpu)) made = ADM_EENVIRONMENT; /* `why` says what ended it */
        if (w->o->on_progress != NULL) w->o->on_progress(w->o->user, ++w->n_done, w->n_total);
    }
    if (status == ADM_OK && made == ADM_OK) status = observe(w, &at, err);
    close_workplace(&at);
    return status;
}

adm_status adm_profile_run(const adm_profile_options *o, adm_gpu *gpu, adm_store *store, int64_t run_id,
                           adm_profile_tally *tally, adm_error *err) {
    adm_profile_unit *units = NULL;
    size_t n_units;
    walk w = {.o = o, .gpu = gpu, .store = store, .run_id = run_id};
    adm_status status = adm_profile_units(o, &units, &n_units, err);
    w.n_total = n_units * adm_profile_n_cases(o);
    if (status == ADM_OK) status = measure_read_limit(&w, err);
    if (status == ADM_OK) status = put_power_limit(&w, err);
    for (size_t i = 0; status == ADM_OK && i < adm_profile_n_cases(o); i++) {
        w.present = adm_profile_case_at(o, i);
        w.shape = adm_profile_shape(o, &w.present);
        status = run_configuration(&w, units, n_units, err);
        if (status == ADM_OK && !adm_gpu_alive(gpu))
            status = adm_fail(err, ADM_EENVIRONMENT,
                              "the CUDA context was lost at %u tokens, %u KV heads, batch %u; what "
                              "came before is stored",
                              w.present.seq_len, w.present.n_kv_heads, w.present.batch);
    }
    adm_free(&units);
    *tally = w.tally;
    return status;
}
