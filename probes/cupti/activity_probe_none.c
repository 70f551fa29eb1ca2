/* activity_probe_none.c: the timeline of a build without CUPTI's headers: the probe starts nowhere. */
#include "core/base/mem.h"
#include "probes/cupti/activity_probe.h"
#include "probes/cupti/cupti_host.h"

struct adm_activity_probe {
    adm_probe probe;
};

static adm_status start(adm_probe *self, adm_error *err) {
    (void)self;
    return adm_fail(err, ADM_EUNSUPPORTED, "%s", adm_cupti_missing());
}

static void ignore(adm_probe *self, const adm_range *range) { (void)self, (void)range; }

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
