/* cupti_host_none.c: chips and metrics for a build without CUPTI's headers: none, with the reason. */
#include <stdio.h>

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
