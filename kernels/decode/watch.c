/* watch.c: wires probes to `adamas decode`. */
#include "kernels/decode/watch.h"

#include "core/base/mem.h"
#include "probes/clock_probe.h"
#include "probes/cupti/activity_probe.h"
#include "probes/nvtx_probe.h"

struct adm_decode_probes {
    adm_store *store;
    int64_t run_id;
    adm_probes all;
    adm_nvtx_probe nvtx;
    adm_activity_probe *activity;
    adm_clock_probe clock;
    adm_range layer; /* whose activities come at present; kind ADM_RANGE_LAYER once there was one */
    uint64_t layer_start_ns, layer_end_ns;
    uint64_t busy_until_ns; /* the end of the last activity */
    adm_status status;
    adm_error error;
};

static void keep(adm_decode_probes *p, adm_status status) {
    if (p->status == ADM_OK) p->status = status;
}

static void range_sink(void *user, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    adm_decode_probes *p = user;
    if (p->status == ADM_OK) keep(p, adm_store_event(p->store, p->run_id, range, "host", start_ns, end_ns, &p->error));
}

static void end_layer(adm_decode_probes *p) {
    if (p->layer.kind == ADM_RANGE_LAYER && p->status == ADM_OK)
        keep(p, adm_store_event(p->store, p->run_id, &p->layer, "gpu", p->layer_start_ns, p->layer_end_ns, &p->error));
    p->layer = (adm_range){0};
}

/* Since when an activity is the one that the GPU works on: a dependent launch starts while the kernel before it still runs, and
 * waits for it. */
static uint64_t own_start(const adm_decode_probes *p, const adm_activity *a) {
    const uint64_t from = a->start_ns > p->busy_until_ns ? a->start_ns : p->busy_until_ns;
    return from < a->end_ns ? from : a->end_ns;
}

/* A layer on the GPU is from its first activity to its last: ranges are delivered in the order in which they began. */
static void add_to_layer(adm_decode_probes *p, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    if (p->layer.kind == ADM_RANGE_LAYER && (p->layer.layer != range->layer || p->layer.config_id != range->config_id))
        end_layer(p);
    if (range->layer < 0) return;
    if (p->layer.kind != ADM_RANGE_LAYER) {
        p->layer = *range;
        p->layer.kind = ADM_RANGE_LAYER;
        p->layer.variant = p->layer.part = NULL;
        p->layer_start_ns = start_ns;
    }
    p->layer_end_ns = end_ns;
}

static void activity_sink(void *user, const adm_range *range, const adm_activity *activity, size_t n) {
    adm_decode_probes *p = user;
    if (range == NULL || range->kind != ADM_RANGE_STAGE || n == 0) return;
    const uint64_t start_ns = own_start(p, &activity[0]);
    uint64_t end_ns = activity[0].end_ns;
    for (size_t i = 0; i < n && p->status == ADM_OK; i++) {
        keep(p, adm_store_activity(p->store, p->run_id, range, &activity[i], &p->error));
        if (activity[i].end_ns > end_ns) end_ns = activity[i].end_ns;
    }
    if (p->status == ADM_OK) keep(p, adm_store_event(p->store, p->run_id, range, "gpu", start_ns, end_ns, &p->error));
    add_to_layer(p, range, start_ns, end_ns);
    if (end_ns > p->busy_until_ns) p->busy_until_ns = end_ns;
}

adm_status adm_decode_probes_open(bool timeline, adm_store *store, int64_t run_id, adm_decode_probes **out, adm_error *err) {
    adm_decode_probes *p = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&p, 1, sizeof *p, "probes", err);
    if (status != ADM_OK) return status;
    p->store = store;
    p->run_id = run_id;
    adm_nvtx_probe_init(&p->nvtx);
    status = adm_probes_attach(&p->all, &p->nvtx.probe, err);
    if (status == ADM_OK && timeline) {
        status = adm_activity_probe_open(&p->activity, err);
        if (status == ADM_OK) {
            adm_activity_probe_deliver_to(p->activity, activity_sink, p);
            adm_clock_probe_init(&p->clock, range_sink, p);
            status = adm_probes_attach(&p->all, adm_activity_probe_of(p->activity), err);
        }
        if (status == ADM_OK) status = adm_probes_attach(&p->all, &p->clock.probe, err);
    }
    *out = p;
    return status;
}

adm_probes *adm_decode_probes_of(adm_decode_probes *p) { return &p->all; }

adm_status adm_decode_probes_close(adm_decode_probes **probes, adm_error *err) {
    adm_decode_probes *p = *probes;
    if (p == NULL) return ADM_OK;
    end_layer(p);
    const adm_status status = p->status;
    if (status != ADM_OK && err != NULL) *err = p->error;
    adm_activity_probe_close(&p->activity);
    adm_free(probes);
    return status;
}
