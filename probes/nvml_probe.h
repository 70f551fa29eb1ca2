/* nvml_probe.h: the probe that watches a device through NVML: clocks, power, temperature, and whether it is throttled;
 * before, during (every 20 ms, by a thread of its own) and after every outermost stage range. Only reads; the library is
 * found at run time. */
#ifndef ADM_PROBES_NVML_PROBE_H
#define ADM_PROBES_NVML_PROBE_H

#include "core/contract/probe.h"

typedef struct adm_nvml_probe adm_nvml_probe;

/* Opens the device with this UUID ("GPU-..."). Where NVML or the device is missing this succeeds all the same, and every
 * range is delivered without states and with the reason. */
adm_status adm_nvml_probe_open(const char *uuid, adm_nvml_probe **out, adm_error *err);
void adm_nvml_probe_close(adm_nvml_probe **probe);

/* What to attach: before a clock, which then times none of the readings. */
adm_probe *adm_nvml_probe_of(adm_nvml_probe *probe);

/* Where states go; call before start(). user is borrowed. */
void adm_nvml_probe_deliver_to(adm_nvml_probe *probe, adm_state_sink *sink, void *user);

/* Why there are no states; NULL if there are. */
const char *adm_nvml_probe_missing(const adm_nvml_probe *probe);

/* One reading; NAN and -1 for what the device does not tell. */
adm_device_state adm_nvml_probe_read(const adm_nvml_probe *probe);

/* The power limit in force, in watts: the user's, or the device's own where that is lower. NAN where the device does not tell;
 * *reason, which the probe owns, then says why. */
double adm_nvml_probe_power_limit(const adm_nvml_probe *probe, const char **reason);

/* MIG mode of the device: 1 on, 0 off, -1 unknown or none. */
int adm_nvml_probe_mig(const adm_nvml_probe *probe);

/* The reasons in a throttle mask as words ("power cap, thermal slowdown"); "none" for 0. */
void adm_throttle_words(int32_t throttle, char *out, size_t out_bytes);

#endif
