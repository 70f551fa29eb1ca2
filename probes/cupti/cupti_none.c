/* cupti_none.c: the counters and traces of a build without CUPTI's headers. */
#include <stdio.h>

#include "core/base/mem.h"
#include "probes/cupti/activity_probe.h"
#include "probes/cupti/counter_list.h"
#include "probes/cupti/counter_probe.h"
#include "probes/cupti/cupti_host.h"

const char *adm_cupti_missing(void) {
    return "this program was built without CUPTI's headers: install the CUDA Toolkit 13, run ./configure.py and build again";
}

static adm_status none(adm_error *err) { return adm_fail(err, ADM_EUNSUPPORTED, "%s", adm_cupti_missing()); }

adm_status adm_cupti_chips(const char *const **names, size_t *n, adm_error *err) {
    *names = NULL;
    *n = 0;
    return none(err);
}

adm_status adm_cupti_host_open(const char *chip, const uint8_t *availability, adm_cupti_host **out, adm_error *err) {
    (void)chip, (void)availability;
    *out = NULL;
    return none(err);
}

void adm_cupti_host_close(adm_cupti_host **host) { *host = NULL; }

adm_status adm_cupti_host_describe(adm_cupti_host *host, const char *metric, adm_cupti_words *words, adm_error *err) {
    (void)host, (void)metric, (void)words;
    return none(err);
}

adm_status adm_cupti_host_metrics(adm_cupti_host *host, int kind, const char *const **names, size_t *n, adm_error *err) {
    (void)host, (void)kind;
    *names = NULL;
    *n = 0;
    return none(err);
}

adm_status adm_cupti_host_passes(adm_cupti_host *host, const char *const *metrics, size_t n, size_t *n_passes, adm_error *err) {
    (void)host, (void)metrics, (void)n, (void)n_passes;
    return none(err);
}

adm_status adm_cupti_host_schedule(adm_cupti_host *host, const char *const *metrics, size_t n, uint8_t **image,
                                   size_t *image_bytes, size_t *n_passes, adm_error *err) {
    (void)host, (void)metrics, (void)n, (void)image_bytes, (void)n_passes;
    *image = NULL;
    return none(err);
}

adm_status adm_cupti_host_value(adm_cupti_host *host, const uint8_t *data, size_t data_bytes, size_t range, const char *metric,
                                double *value, adm_error *err) {
    (void)host, (void)data, (void)data_bytes, (void)range, (void)metric, (void)value;
    return none(err);
}

void adm_readable_name(const char *mangled, char *out, size_t out_bytes) { snprintf(out, out_bytes, "%s", mangled); }

/* --- The probes: they start nowhere, but know what they would count ----------------------------------------------- */

struct adm_counter_probe {
    adm_probe probe;
    adm_counter_list list;
};

static adm_status start(adm_probe *self, adm_error *err) {
    (void)self;
    return none(err);
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

struct adm_activity_probe {
    adm_probe probe;
};

adm_status adm_activity_probe_open(adm_activity_probe **out, adm_error *err) {
    adm_status status = adm_alloc(out, 1, sizeof **out, "an activity probe", err);
    if (status == ADM_OK) (*out)->probe = (adm_probe){.name = "activity", .start = start, .begin = ignore, .end = ignore};
    return status;
}

void adm_activity_probe_close(adm_activity_probe **probe) { adm_free(probe); }
adm_probe *adm_activity_probe_of(adm_activity_probe *probe) { return &probe->probe; }
void adm_activity_probe_deliver_to(adm_activity_probe *probe, adm_activity_sink *sink, void *user) {
    (void)probe, (void)sink, (void)user;
}
uint64_t adm_activity_probe_dropped(const adm_activity_probe *probe) {
    (void)probe;
    return 0;
}
