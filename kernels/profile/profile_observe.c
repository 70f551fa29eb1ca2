/* profile_observe.c: brackets a profile's timing, and runs its units once more for those probes that count; what traces is
 * in profile_trace_log.c. */
#include "kernels/profile/profile_observe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/mem.h"
#include "kernels/profile/profile_observe_internal.h"

/* --- The session -------------------------------------------------------------------------------------------------- */

static const adm_range session_range = {.kind = ADM_RANGE_SESSION, .variant = "profile", .step = -1, .layer = -1};

adm_status adm_profile_observe_begin(adm_profile_observer *o, adm_gpu *gpu, adm_store *store, int64_t run_id, adm_error *err) {
    o->gpu = gpu;
    o->store = store;
    o->run_id = run_id;
    adm_status status = ADM_OK;
    if (o->counting.n_probes + o->tracing.n_probes > 0) status = adm_gpu_flusher_create(gpu, &o->flusher, err);
    if (status == ADM_OK && o->tracing.n_probes > 0) status = adm_profile_timeline_open(&o->timeline, err);
    if (status == ADM_OK) status = adm_probes_start(&o->session, err);
    if (status != ADM_OK) o->session.n_probes = 0; /* nothing for end() to stop */
    if (status == ADM_OK) status = adm_probes_start(&o->timing, err);
    if (status != ADM_OK) o->timing.n_probes = 0;
    adm_probes_begin(&o->session, &session_range);
    return status;
}

void adm_profile_observe_end(adm_profile_observer *o) {
    adm_probes_end(&o->session, &session_range);
    adm_probes_stop(&o->timing, NULL);
    adm_probes_stop(&o->session, NULL);
    adm_gpu_flusher_free(&o->flusher);
    adm_profile_timeline_close(&o->timeline);
    adm_free(&o->state);
}

/* --- Timing and the device's state -------------------------------------------------------------------------------- */

static adm_range range_of(const adm_profile_unit *unit, uint32_t seq_len) {
    return (adm_range){.kind = ADM_RANGE_STAGE,
                       .stage = unit->stage,
                       .variant = unit->variant,
                       .step = -1,
                       .layer = -1,
                       .seq_len = seq_len,
                       .budget = unit->budget};
}

void adm_profile_check_begin(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    const adm_range range = range_of(unit, seq_len);
    if (o != NULL) adm_probes_begin(&o->session, &range);
}

void adm_profile_check_end(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    const adm_range range = range_of(unit, seq_len);
    if (o != NULL) adm_probes_end(&o->session, &range);
}

void adm_profile_timing_begin(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    if (o == NULL) return;
    const adm_range range = range_of(unit, seq_len);
    o->n_states = 0;
    o->no_state[0] = '\0';
    adm_probes_begin(&o->timing, &range);
}

void adm_profile_timing_end(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    if (o == NULL) return;
    const adm_range range = range_of(unit, seq_len);
    adm_probes_end(&o->timing, &range);
}

void adm_profile_state_sink(void *observer, const adm_range *range, const adm_device_state *state, size_t n,
                            const char *reason) {
    adm_profile_observer *o = observer;
    (void)range;
    adm_free(&o->state);
    o->n_states = 0;
    snprintf(o->no_state, sizeof o->no_state, "%s", reason != NULL ? reason : "");
    if (n == 0) return;
    if (adm_alloc(&o->state, n, sizeof *o->state, "device states", NULL) != ADM_OK) {
        snprintf(o->no_state, sizeof o->no_state, "no memory was left to keep them");
        return;
    }
    memcpy(o->state, state, n * sizeof *state);
    o->n_states = n;
}

void adm_profile_throttle_marks(const adm_profile_observer *o, uint64_t start_ns, const uint64_t *ends_ns, size_t n_samples,
                                int32_t *mark) {
    size_t at = 0;
    for (size_t i = 0; i < n_samples; i++) {
        uint64_t from = i > 0 ? ends_ns[i - 1] : start_ns;
        mark[i] = -1;
        if (o == NULL || o->n_states == 0) continue;
        /* The last reading before the sample, those during it, and the first after it. */
        while (at + 1 < o->n_states && o->state[at + 1].at_ns <= from) at++;
        for (size_t s = at; s < o->n_states; s++) {
            if (o->state[s].throttle >= 0) mark[i] = (mark[i] < 0 ? 0 : mark[i]) | o->state[s].throttle;
            if (o->state[s].at_ns >= ends_ns[i]) break;
        }
    }
}

adm_status adm_profile_put_state(adm_profile_observer *o, int64_t config_id, adm_stage stage, adm_error *err) {
    static const adm_metric metric[] = {
        {"sm_clock_hz", "Hz", "none", "Clock of the SMs before, during and after the timing"},
        {"memory_clock_hz", "Hz", "none", "Clock of the device memory before, during and after the timing"},
        {"power_w", "W", "none",
         "Power drawn by the device before, during and after the timing. Caveat: a mean over the "
         "last second or less, by the device's own sensor"},
        {"temperature_c", "degC", "none", "Temperature of the device before, during and after the timing"},
        {"throttled_ratio", "ratio", "lower",
         "Share of the readings in which power, heat or a hardware signal held the "
         "clocks down"}};
    if (o == NULL || (o->n_states == 0 && o->no_state[0] == '\0')) return ADM_OK; /* nobody watches */
    double *values = NULL;
    adm_status status = adm_alloc(&values, 2 * o->n_states + 1, sizeof *values, "device states", err);
    for (size_t i = 0; status == ADM_OK && i < sizeof metric / sizeof metric[0]; i++) {
        size_t n = 0;
        for (size_t s = 0; s < o->n_states; s++) {
            const adm_device_state *state = &o->state[s];
            const double all[] = {state->sm_clock_hz, state->memory_clock_hz, state->power_w, state->temperature_c,
                                  state->throttle < 0 ? (double)NAN : (state->throttle & ADM_THROTTLED) != 0};
            if (!isnan(all[i])) values[n++] = all[i];
        }
        double *sorted = values + n;
        memcpy(sorted, values, n * sizeof *values);
        adm_distribution distribution = adm_distribution_of(sorted, n);
        adm_measurement m = {.run_id = o->run_id,
                             .config_id = config_id,
                             .source = "gpu",
                             .stage = adm_stage_name(stage),
                             .layer = -1,
                             .head = -1,
                             .metric = &metric[i],
                             .status = "skipped",
                             .reason = o->n_states == 0 ? o->no_state : "the device does not tell"};
        if (n > 0) {
            m.status = "ok";
            m.reason = NULL;
            m.distribution = &distribution;
            m.samples = values;
            m.n_samples = n;
        }
        status = adm_store_measurement(o->store, &m, err);
    }
    adm_free(&values);
    return status;
}

/* --- Counting ----------------------------------------------------------------------------------------------------- */

void adm_profile_counter_sink(void *observer, const adm_range *range, const double *value) {
    adm_profile_observer *o = observer;
    for (size_t i = 0; i < o->n_ranges; i++)
        if (o->range[i].config_id == range->config_id && o->range[i].stage == range->stage)
            o->range[i].config_id = 0; /* has its counts */
    for (size_t i = 0; o->sink_status == ADM_OK && i < o->n_counters; i++) {
        const adm_counter *c = &o->counters[i];
        const adm_metric metric = {c->name, c->unit, c->better, c->description};
        double copy = value[i];
        bool counted = !isnan(copy);
        adm_distribution distribution = adm_distribution_of(&copy, counted);
        adm_measurement m = {.run_id = o->run_id,
                             .config_id = range->config_id,
                             .source = "gpu",
                             .stage = adm_stage_name(range->stage),
                             .layer = -1,
                             .head = -1,
                             .metric = &metric,
                             .distribution = counted ? &distribution : NULL,
                             .status = counted ? "ok" : "skipped",
                             .reason = counted             ? NULL
                                       : c->reason != NULL ? c->reason
                                                           : "it was not counted"};
        if (!counted && o->uncounted[0] == '\0')
            snprintf(o->uncounted, sizeof o->uncounted, "%.60s of %s: %.200s", c->name, adm_stage_name(range->stage), m.reason);
        o->sink_status = adm_store_measurement(o->store, &m, &o->sink_error);
    }
}

/* The counters of a unit that could not be counted at all. */
static adm_status put_uncounted(adm_profile_observer *o, int64_t config_id, const adm_profile_unit *unit, const char *reason,
                                adm_error *err) {
    adm_status status = ADM_OK;
    if (o->uncounted[0] == '\0') snprintf(o->uncounted, sizeof o->uncounted, "%.300s", reason);
    for (size_t i = 0; status == ADM_OK && i < o->n_counters; i++) {
        const adm_counter *c = &o->counters[i];
        const adm_metric metric = {c->name, c->unit, c->better, c->description};
        adm_measurement m = {.run_id = o->run_id,
                             .config_id = config_id,
                             .source = "gpu",
                             .stage = adm_stage_name(unit->stage),
                             .layer = -1,
                             .head = -1,
                             .metric = &metric,
                             .status = "skipped",
                             .reason = reason};
        status = adm_store_measurement(o->store, &m, err);
    }
    return status;
}

adm_status adm_profile_prepare_set(const adm_profile_scene *s, const adm_profile_unit *unit, uint32_t set, adm_error *err) {
    adm_select_rule rule = s->rule;
    if (unit->budget > 0) rule.budget = unit->budget;
    adm_gpu_case_set_rule(s->gpu_case, &rule);
    adm_status status = adm_gpu_case_clear(s->gpu_case, err);
    for (size_t i = 0; status == ADM_OK && i < s->pipeline->n_impls; i++)
        status = adm_gpu_case_launch(s->gpu_case, s->pipeline->impl[i], set, err);
    return status;
}

/* Leaves on set 0 what the stages before a unit hand over, and the L2 cold, or warm with what the unit reads. */
static adm_status put_back(adm_profile_observer *o, const adm_profile_scene *s, const adm_profile_unit *unit, adm_error *err) {
    adm_status status = adm_profile_prepare_set(s, unit, 0, err);
    if (status == ADM_OK && s->cold) status = adm_gpu_flush_l2(o->flusher, err);
    for (size_t i = 0; status == ADM_OK && !s->cold && i < unit->n_impls; i++)
        status = adm_gpu_case_launch(s->gpu_case, unit->impl[i], 0, err);
    return status == ADM_OK ? adm_gpu_wait(o->gpu, err) : status;
}

static adm_status count_unit(adm_profile_observer *o, const adm_profile_scene *s, const adm_profile_unit *unit,
                             const adm_range *range, adm_error *err) {
    adm_status status = put_back(o, s, unit, err);
    if (status != ADM_OK) return status;
    adm_probes_begin(&o->counting, range);
    for (size_t i = 0; status == ADM_OK && i < unit->n_impls; i++) {
        adm_range part = *range;
        part.stage = unit->impl[i]->stage;
        part.variant = unit->impl[i]->name;
        if (unit->n_impls > 1) adm_probes_begin(&o->counting, &part);
        status = adm_gpu_case_launch(s->gpu_case, unit->impl[i], 0, err);
        if (unit->n_impls > 1) adm_probes_end(&o->counting, &part);
    }
    adm_status done = adm_gpu_wait(o->gpu, status == ADM_OK ? err : NULL);
    adm_probes_end(&o->counting, range);
    return status == ADM_OK ? done : status;
}

/* Every unit that can run, pass after pass. */
static adm_status count_passes(adm_profile_observer *o, const adm_profile_scene *s, const adm_profile_unit *units,
                               size_t n_units, adm_error *err) {
    adm_status status = adm_probes_start(&o->counting, err);
    if (status != ADM_OK) return status;
    for (bool again = true; status == ADM_OK && again;) {
        for (size_t i = 0; status == ADM_OK && i < n_units; i++)
            if (o->range[i].config_id != 0) status = count_unit(o, s, &units[i], &o->range[i], err);
        adm_status ended = adm_probes_pass(&o->counting, &again, status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
    }
    adm_status stopped = adm_probes_stop(&o->counting, status == ADM_OK ? err : NULL);
    return status == ADM_OK ? stopped : status;
}

/* A unit that the implementation does not run gets a configuration of 0, and its counters that reason. */
static adm_status make_ranges(adm_profile_observer *o, const adm_profile_scene *s, const adm_profile_unit *units,
                              size_t n_units, adm_error *err) {
    adm_range *ranges = o->range;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n_units; i++) {
        adm_config config = s->config(s->user, &units[i], "stream");
        ranges[i] = range_of(&units[i], s->seq_len);
        adm_work work = s->work(s->user, &units[i], &ranges[i].model_write_bytes);
        ranges[i].model_bytes = work.bytes;
        ranges[i].model_flops = work.flops;
        ranges[i].timed_ns = s->timed_ns[i];
        adm_error why;
        status = adm_store_config(o->store, &config, &ranges[i].config_id, err);
        if (status != ADM_OK) break;
        adm_status fits = put_back(o, s, &units[i], &why);
        for (size_t k = 0; fits == ADM_OK && k < units[i].n_impls; k++)
            fits = adm_gpu_case_launch(s->gpu_case, units[i].impl[k], 0, &why);
        if (fits == ADM_OK) fits = adm_gpu_wait(o->gpu, &why);
        if (fits == ADM_OK) continue;
        status = put_uncounted(o, ranges[i].config_id, &units[i], why.text, err);
        ranges[i].config_id = 0;
    }
    return status == ADM_OK ? adm_store_flush(o->store, err) : status;
}

static adm_status count(adm_profile_observer *o, const adm_profile_scene *s, const adm_profile_unit *units, size_t n_units,
                        adm_error *err) {
    adm_error why = {0};
    adm_status status = adm_alloc(&o->range, n_units, sizeof *o->range, "counted ranges", err);
    if (status == ADM_OK) status = make_ranges(o, s, units, n_units, err);
    if (status == ADM_OK) {
        o->n_ranges = n_units;
        adm_status counted = count_passes(o, s, units, n_units, &why);
        o->n_ranges = 0;
        for (size_t i = 0; status == ADM_OK && counted != ADM_OK && i < n_units; i++)
            if (o->range[i].config_id != 0) status = put_uncounted(o, o->range[i].config_id, &units[i], why.text, err);
    }
    if (status == ADM_OK) status = adm_store_flush(o->store, err);
    adm_free(&o->range);
    return status;
}

adm_status adm_profile_observe(adm_profile_observer *o, const adm_profile_scene *scene, const adm_profile_unit *units,
                               size_t n_units, adm_error *err) {
    adm_status status = ADM_OK;
    if (o == NULL || n_units == 0) return ADM_OK;
    const uint64_t start_ns = adm_clock_ns();
    if (o->counting.n_probes > 0) status = count(o, scene, units, n_units, err);
    const uint64_t counted_ns = adm_clock_ns();
    if (status == ADM_OK && o->tracing.n_probes > 0) status = adm_profile_timeline_take(o, scene, units, n_units, err);
    o->counting_ns += counted_ns - start_ns;
    o->tracing_ns += adm_clock_ns() - counted_ns;
    o->n_configurations++;
    if (status == ADM_OK && o->sink_status != ADM_OK) {
        status = o->sink_status;
        if (err != NULL) *err = o->sink_error;
    }
    return status;
}
