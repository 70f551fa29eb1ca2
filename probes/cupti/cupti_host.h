/* cupti_host.h: what CUPTI knows about chips and their metrics, without a GPU or a driver: which exist, how many passes a
 * set of them takes, and their values from a collected image. The C face of cupti_profiler_host.h, which is C++; a build
 * without CUPTI's headers has cupti_host_none.c instead, where everything is ADM_EUNSUPPORTED. */
#ifndef ADM_PROBES_CUPTI_CUPTI_HOST_H
#define ADM_PROBES_CUPTI_CUPTI_HOST_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Why this build has no counters, as a sentence; NULL if it does. */
const char *adm_cupti_missing(void);

/* The chips that this CUPTI knows; the list is CUPTI's and stays. */
adm_status adm_cupti_chips(const char *const **names, size_t *n, adm_error *err);

typedef struct adm_cupti_host adm_cupti_host;

/* Opens a chip. availability: what cuptiProfilerGetCounterAvailability() gave for the device, or NULL without one;
 * borrowed. ADM_EINPUT: no such chip, with those there are. */
adm_status adm_cupti_host_open(const char *chip, const uint8_t *availability, adm_cupti_host **out, adm_error *err);
void adm_cupti_host_close(adm_cupti_host **host);

/* CUPTI's own words for a metric; they stay as long as the host. ADM_EINPUT: the chip has no such metric. */
typedef struct adm_cupti_words {
    const char *description, *hardware, *dimension;
} adm_cupti_words;
adm_status adm_cupti_host_describe(adm_cupti_host *host, const char *metric, adm_cupti_words *words, adm_error *err);

/* The chip's base metrics of a kind, 0 counters, 1 ratios, 2 throughputs; the list is CUPTI's, until the next call. */
adm_status adm_cupti_host_metrics(adm_cupti_host *host, int kind, const char *const **names, size_t *n, adm_error *err);

/* How many passes these metrics take when they are added in this order; leaves the host as it is. ADM_EINPUT: it is
 * one metric, which the chip cannot collect. */
adm_status adm_cupti_host_passes(adm_cupti_host *host, const char *const *metrics, size_t n, size_t *n_passes, adm_error *err);

/* Schedules metrics in this order, once a host. Sets *image (to release with adm_free()), its size and the passes it takes. */
adm_status adm_cupti_host_schedule(adm_cupti_host *host, const char *const *metrics, size_t n, uint8_t **image,
                                   size_t *image_bytes, size_t *n_passes, adm_error *err);

/* The value of one metric in one range of collected data; NAN where the hardware gave none. */
adm_status adm_cupti_host_value(adm_cupti_host *host, const uint8_t *data, size_t data_bytes, size_t range, const char *metric,
                                double *value, adm_error *err);

/* A kernel's name as one writes it, without its parameters: "distance<128, 4>". */
void adm_readable_name(const char *mangled, char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif

#endif
