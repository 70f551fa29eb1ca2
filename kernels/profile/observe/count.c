/* count.c: counts a configuration's units: every unit once per pass, on set 0, with its state put back and the L2 flushed, or
 * warmed, before each. */
#include "kernels/profile/observe/count.h"

#include <math.h>
#include <stdio.h>

#include "core/base/mem.h"

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

/* Leaves on set 0 what the stages before a unit hand over, and the L2 cold, or warm with what the unit reads. */
static adm_status put_back(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *unit,
                           adm_error *err) {
    adm_status status = adm_profile_prepare_set(s, unit, 0, err);
    if (status == ADM_OK && s->cold) status = adm_gpu_flush_l2(o->flusher, err);
    for (size_t i = 0; status == ADM_OK && !s->cold && i < unit->n_impls; i++)
        status = adm_gpu_case_launch(s->gpu_case, unit->impl[i], 0, err);
    return status == ADM_OK ? adm_gpu_wait(o->gpu, err) : status;
}

static adm_status count_unit(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *unit,
                             const adm_range *range, adm_error *err) {
    adm_status status = put_back(o, s, unit, err);
    if (status != ADM_OK) return status;
    adm_probes_begin(&o->counting, range);
    for (size_t i = 0; status == ADM_OK && i < unit->n_impls; i++) {
        adm_range stage = *range;
        stage.stage = unit->impl[i]->stage;
        stage.variant = unit->impl[i]->name;
        if (unit->n_impls > 1) adm_probes_begin(&o->counting, &stage);
        status = adm_gpu_case_launch(s->gpu_case, unit->impl[i], 0, err);
        if (unit->n_impls > 1) adm_probes_end(&o->counting, &stage);
    }
    adm_status done = adm_gpu_wait(o->gpu, status == ADM_OK ? err : NULL);
    adm_probes_end(&o->counting, range);
    return status == ADM_OK ? done : status;
}

/* Every unit that can run, pass after pass. */
static adm_status count_passes(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *units,
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
static adm_status make_ranges(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *units,
                              size_t n_units, adm_error *err) {
    adm_range *ranges = o->range;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n_units; i++) {
        adm_config config = s->config(s->user, &units[i], "stream");
        ranges[i] = adm_profile_range_of(&units[i], s->seq_len);
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

adm_status adm_profile_count(adm_profile_observer *o, const adm_profile_subject *s, const adm_profile_unit *units,
                             size_t n_units, adm_error *err) {
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
