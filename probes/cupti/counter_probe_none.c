/* counter_probe_none.c: the counters of a build without CUPTI's headers: the probe starts nowhere, but knows what it would
 * count. */
#include "core/base/mem.h"
#include "probes/cupti/counter_list.h"
#include "probes/cupti/counter_probe.h"

struct adm_counter_probe {
    adm_probe probe;
    adm_counter_list list;
};

static adm_status start(adm_probe *self, adm_error *err) {
    (void)self;
    return adm_fail(err, ADM_EUNSUPPORTED, "%s", adm_cupti_missing());
}

static void ignore(adm_probe *self, const adm_range *range) { (void)self, (void)range; }

adm_status adm_counter_probe_open(const char *set, int device, size_t most_ranges, adm_counter_probe **out, adm_error *err) {
    (void)device, (void)most_ranges;
    adm_counter_probe *p = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&p, 1, sizeof *p, "a counter probe", err);
    if (status != ADM_OK) return status;
    p->probe = (adm_probe){.name = "counters", .start = start, .begin = ignore, .end = ignore};
    status = adm_counter_list_open(&p->list, set, err);
    if (status == ADM_OK) *out = p;
    else adm_counter_probe_close(&p);
    return status;
}

void adm_counter_probe_close(adm_counter_probe **probe) {
    if (*probe == NULL) return;
    adm_counter_list_close(&(*probe)->list);
    adm_free(probe);
}

adm_probe *adm_counter_probe_of(adm_counter_probe *probe) { return &probe->probe; }

const adm_counter *adm_counter_probe_counters(const adm_counter_probe *probe, size_t *n) {
    *n = probe->list.set->n;
    return probe->list.counter;
}

void adm_counter_probe_deliver_to(adm_counter_probe *probe, adm_counter_sink *sink, void *user) {
    (void)probe, (void)sink, (void)user;
}

size_t adm_counter_probe_passes(const adm_counter_probe *probe) {
    (void)probe;
    return 0;
}
