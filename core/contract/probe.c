/* probe.c: attaching, starting and stopping probes. */
#include "core/contract/probe.h"

adm_status adm_probes_attach(adm_probes *probes, adm_probe *probe, adm_error *err) {
    if (probes->n_probes == ADM_MAX_PROBES)
        return adm_fail(err, ADM_EINTERNAL, "probe '%s': %d probes are attached already, and no more can be", probe->name,
                        ADM_MAX_PROBES);
    probes->probe[probes->n_probes++] = probe;
    return ADM_OK;
}

static adm_status stop_first(adm_probes *probes, int n, adm_error *err) {
    adm_status first = ADM_OK;
    for (int i = n; i-- > 0;) {
        adm_probe *probe = probes->probe[i];
        if (probe->stop == NULL) continue;
        adm_status status = probe->stop(probe, first == ADM_OK ? err : NULL);
        if (first == ADM_OK) first = status;
    }
    return first;
}

adm_status adm_probes_start(adm_probes *probes, adm_error *err) {
    for (int i = 0; i < probes->n_probes; i++) {
        adm_probe *probe = probes->probe[i];
        if (probe->start == NULL) continue;
        adm_status status = probe->start(probe, err);
        if (status != ADM_OK) {
            stop_first(probes, i, NULL);
            return status;
        }
    }
    return ADM_OK;
}

adm_status adm_probes_pass(adm_probes *probes, bool *again, adm_error *err) {
    *again = false;
    for (int i = probes->n_probes; i-- > 0;) {
        adm_probe *probe = probes->probe[i];
        bool wanted = false;
        adm_status status = probe->pass != NULL ? probe->pass(probe, &wanted, err) : ADM_OK;
        if (status != ADM_OK) return status;
        *again |= wanted;
    }
    return ADM_OK;
}

adm_status adm_probes_stop(adm_probes *probes, adm_error *err) { return stop_first(probes, probes->n_probes, err); }
