/* count.c: the counters of a candidate; see count.h. */
#include "kernels/tune/gpu/count.h"

#include <math.h>
#include <stdio.h>

#include "probes/cupti/counter_probe.h"

adm_status adm_tune_count_check(const char *set, adm_error *err) {
    adm_metric_set *opened = NULL;
    adm_status status = adm_fail_of(err, adm_metric_set_open(set, &opened, err), "--counters");
    adm_metric_set_close(&opened);
    return status;
}

/* Where a collection delivers. */
typedef struct receiver {
    const adm_counter_probe *probe;
    adm_tune_counted *out;
} receiver;

static void receive(void *user, const adm_range *range, const double *value) {
    const receiver *r = user;
    size_t n;
    const adm_counter *counter = adm_counter_probe_counters(r->probe, &n);
    (void)range;
    r->out->n = n < ADM_TUNE_MAX_COUNTERS ? n : ADM_TUNE_MAX_COUNTERS;
    for (size_t i = 0; i < r->out->n; i++) {
        adm_tune_counter *c = &r->out->counter[i];
        const char *reason = counter[i].reason != NULL ? counter[i].reason : isnan(value[i]) ? "it was not counted" : "";
        *c = (adm_tune_counter){.value = value[i]};
        snprintf(c->name, sizeof c->name, "%s", counter[i].name);
        snprintf(c->unit, sizeof c->unit, "%s", counter[i].unit);
        snprintf(c->better, sizeof c->better, "%s", counter[i].better);
        snprintf(c->description, sizeof c->description, "%s", counter[i].description);
        snprintf(c->reason, sizeof c->reason, "%s", isnan(value[i]) ? reason : "");
    }
}

static adm_status count_passes(adm_probes *probes, const adm_tune_counting *what, adm_error *err) {
    adm_status status = adm_probes_start(probes, err);
    if (status != ADM_OK) return status;
    for (bool again = true; status == ADM_OK && again;) {
        status = what->put_back(what->user, err);
        if (status == ADM_OK) {
            adm_probes_begin(probes, &what->range);
            status = what->run(what->user, err);
            adm_probes_end(probes, &what->range);
        }
        adm_status ended = adm_probes_pass(probes, &again, status == ADM_OK ? err : NULL);
        if (status == ADM_OK) status = ended;
    }
    adm_status stopped = adm_probes_stop(probes, status == ADM_OK ? err : NULL);
    return status == ADM_OK ? stopped : status;
}

adm_status adm_tune_count(const char *set, int device, const adm_tune_counting *what, adm_tune_counted *out, adm_error *err) {
    adm_counter_probe *probe = NULL;
    adm_probes probes = {0};
    out->n = 0;
    adm_status status = adm_counter_probe_open(set, device, 1, &probe, err);
    receiver r = {probe, out};
    if (status == ADM_OK) {
        adm_counter_probe_deliver_to(probe, receive, &r);
        status = adm_probes_attach(&probes, adm_counter_probe_of(probe), err);
    }
    if (status == ADM_OK) status = count_passes(&probes, what, err);
    snprintf(out->reason, sizeof out->reason, "%.300s",
             status != ADM_OK ? err->text
             : out->n == 0    ? "nothing was delivered"
                              : "");
    adm_counter_probe_close(&probe);
    return status;
}
