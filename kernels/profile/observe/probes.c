/* probes.c: wires probes to `adamas profile`. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "kernels/profile/observe/count.h"
#include "kernels/profile/observe/observe.h"
#include "kernels/profile/observe/probes.h"
#include "kernels/profile/observe/state.h"
#include "kernels/profile/observe/timeline.h"
#include "probes/cupti/activity_probe.h"
#include "probes/clock_probe.h"
#include "probes/cupti/counter_plan.h"
#include "probes/cupti/counter_probe.h"
#include "probes/nvml_probe.h"
#include "probes/nvtx_probe.h"

struct adm_profile_probes {
    adm_profile_observer observer;
    adm_nvtx_probe nvtx;
    adm_nvml_probe *nvml;
    adm_counter_probe *counter;
    adm_activity_probe *activity;
    adm_clock_probe clock;
    adm_nvtx_probe in_timing, in_counting, in_tracing; /* the session's domain */
};

adm_status adm_profile_probes_check(const char *counters, adm_error *err) {
    adm_metric_set *set = NULL;
    adm_status status = counters != NULL ? adm_fail_of(err, adm_metric_set_open(counters, &set, err), "--counters") : ADM_OK;
    adm_metric_set_close(&set);
    return status;
}

/* Which chip there will be is not known without it; passes differ little between those of one generation. */
adm_status adm_profile_probes_plan(const char *counters, bool timeline, json_t *document, adm_error *err) {
    adm_metric_set *set = NULL;
    adm_counter_plan *plan = NULL;
    adm_error why;
    adm_status status = counters != NULL ? adm_fail_of(err, adm_metric_set_open(counters, &set, err), "--counters") : ADM_OK;
    const adm_status opened = set != NULL ? adm_counter_plan_open(set, "GH100", NULL, &plan, &why) : ADM_OK;
    const bool planned = set != NULL && opened == ADM_OK;
    if (opened == ADM_EENVIRONMENT) { /* which says nothing of the plan */
        adm_metric_set_close(&set);
        return adm_fail(err, opened, "--counters: %s", why.text);
    }
    if (set != NULL && document != NULL)
        json_object_set_new(document, "counters",
                            json_pack("{s:s, s:s, s:o, s:o}", "set", set->name, "chip", "GH100", "passes",
                                      planned ? json_integer((json_int_t)plan->n_passes) : json_null(), "reason",
                                      planned ? json_null() : json_string(why.text)));
    else if (planned)
        adm_print("counters %s: every unit %zu times, the passes on GH100 (`adamas counters plan --chip NAME` for others)\n",
                  set->name, plan->n_passes);
    else if (set != NULL) adm_print("counters %s: none, %s\n", set->name, why.text);
    if (timeline && document != NULL) json_object_set_new(document, "timeline_launches", json_integer(5));
    else if (timeline) adm_print("timeline: every unit 5 times in each launch mode\n");
    adm_counter_plan_close(&plan);
    adm_metric_set_close(&set);
    return status;
}

static uint64_t dropped(void *activity) { return adm_activity_probe_dropped(activity); }

/* The lists of observer.h. A clock comes last, so that it times none of the others. */
static adm_status attach(adm_profile_probes *p, adm_error *err) {
    adm_profile_observer *o = &p->observer;
    adm_nvtx_probe_share(&p->nvtx, &p->in_timing);
    adm_nvtx_probe_share(&p->nvtx, &p->in_counting);
    adm_nvtx_probe_share(&p->nvtx, &p->in_tracing);
    adm_status status = adm_probes_attach(&o->session, &p->nvtx.probe, err);
    if (status == ADM_OK) status = adm_probes_attach(&o->timing, adm_nvml_probe_of(p->nvml), err);
    if (status == ADM_OK) status = adm_probes_attach(&o->timing, &p->in_timing.probe, err);
    if (status == ADM_OK && p->counter != NULL) status = adm_probes_attach(&o->counting, &p->in_counting.probe, err);
    if (status == ADM_OK && p->counter != NULL) status = adm_probes_attach(&o->counting, adm_counter_probe_of(p->counter), err);
    if (status == ADM_OK && p->activity != NULL) status = adm_probes_attach(&o->tracing, &p->in_tracing.probe, err);
    if (status == ADM_OK && p->activity != NULL)
        status = adm_probes_attach(&o->tracing, adm_activity_probe_of(p->activity), err);
    if (status == ADM_OK && p->activity != NULL) status = adm_probes_attach(&o->tracing, &p->clock.probe, err);
    return status;
}

static adm_status open_counters(adm_profile_probes *p, const adm_profile_options *options, const char *counters,
                                int device_number, adm_error *err) {
    size_t n_units, max_units = 0;
    adm_status status = ADM_OK;
    if (counters == NULL) return ADM_OK;
    for (size_t m = 0; status == ADM_OK && m < options->n_metrics; m++) {
        adm_profile_unit *units = NULL;
        status = adm_profile_units(options, options->metrics[m], &units, &n_units, err);
        if (n_units > max_units) max_units = n_units;
        adm_free(&units);
    }
    if (status == ADM_OK) status = adm_counter_probe_open(counters, device_number, max_units, &p->counter, err);
    if (status != ADM_OK) return status;
    p->observer.counters = adm_counter_probe_counters(p->counter, &p->observer.n_counters);
    adm_counter_probe_deliver_to(p->counter, adm_profile_counter_sink, &p->observer);
    return ADM_OK;
}

static adm_status open_timeline(adm_profile_probes *p, bool timeline, adm_error *err) {
    if (!timeline) return ADM_OK;
    adm_status status = adm_activity_probe_open(&p->activity, err);
    if (status != ADM_OK) return status;
    adm_activity_probe_deliver_to(p->activity, adm_profile_activity_sink, &p->observer);
    adm_clock_probe_init(&p->clock, adm_profile_range_sink, &p->observer);
    p->observer.n_dropped = dropped;
    p->observer.trace_user = p->activity;
    return ADM_OK;
}

static void read_power_limit(const adm_nvml_probe *nvml, adm_profile_options *options) {
    const double limit_w = adm_nvml_probe_power_limit(nvml, &options->no_power_limit);
    options->power_limit_w = isnan(limit_w) ? 0 : limit_w;
}

adm_status adm_profile_probes_open(adm_profile_options *options, const char *counters, bool timeline, int device_number,
                                   adm_gpu *gpu, adm_store *store, int64_t run_id, adm_profile_probes **out, adm_error *err) {
    adm_profile_probes *p = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&p, 1, sizeof *p, "probes", err);
    if (status != ADM_OK) return status;
    adm_nvtx_probe_init(&p->nvtx);
    status = adm_nvml_probe_open(adm_gpu_device(gpu)->uuid, &p->nvml, err);
    if (status == ADM_OK) adm_nvml_probe_deliver_to(p->nvml, adm_profile_state_sink, &p->observer);
    if (status == ADM_OK) read_power_limit(p->nvml, options);
    if (status == ADM_OK) status = open_counters(p, options, counters, device_number, err);
    if (status == ADM_OK) status = open_timeline(p, timeline, err);
    if (status == ADM_OK) status = attach(p, err);
    if (status == ADM_OK) status = adm_profile_observe_begin(&p->observer, gpu, store, run_id, err);
    if (status == ADM_OK) options->observer = &p->observer;
    *out = p; /* the caller closes what is half open, too */
    return status;
}

void adm_profile_probes_close(adm_profile_probes **address) {
    adm_profile_probes *p = *address;
    if (p == NULL) return;
    adm_profile_observe_end(&p->observer);
    adm_counter_probe_close(&p->counter);
    adm_activity_probe_close(&p->activity);
    adm_nvml_probe_close(&p->nvml);
    adm_free(address);
}

void adm_profile_probes_print(const adm_profile_probes *p) {
    const adm_profile_observer *o = &p->observer;
    const double n = o->n_configurations > 0 ? (double)o->n_configurations : 1;
    if (p->counter != NULL && adm_counter_probe_passes(p->counter) > 0)
        adm_print("counted in %zu passes and %.2f s per configuration\n", adm_counter_probe_passes(p->counter),
                  (double)o->counting_ns / n * 1e-9);
    if (p->activity != NULL && o->untraced[0] == '\0')
        adm_print("traced in %.2f s per configuration\n", (double)o->tracing_ns / n * 1e-9);
    if (p->observer.uncounted[0] != '\0') adm_print("not counted: %s\n", p->observer.uncounted);
    if (p->observer.untraced[0] != '\0') adm_print("not traced: %s\n", p->observer.untraced);
    const char *no_state = adm_nvml_probe_missing(p->nvml);
    if (no_state != NULL) adm_print("device state not watched: %s\n", no_state);
}

void adm_profile_probes_clocks(const char *uuid, adm_run_info *info) {
    adm_nvml_probe *nvml = NULL;
    if (adm_nvml_probe_open(uuid, &nvml, NULL) != ADM_OK) return;
    adm_device_state state = adm_nvml_probe_read(nvml);
    info->sm_clock_hz = isnan(state.sm_clock_hz) ? 0 : (int64_t)state.sm_clock_hz;
    info->memory_clock_hz = isnan(state.memory_clock_hz) ? 0 : (int64_t)state.memory_clock_hz;
    adm_nvml_probe_close(&nvml);
}
