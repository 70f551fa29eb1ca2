/* state.h: the device's state (clocks, throttling, power, temperature) while a unit is timed. */
#ifndef ADM_KERNELS_PROFILE_OBSERVE_STATE_H
#define ADM_KERNELS_PROFILE_OBSERVE_STATE_H

#include "kernels/profile/observe/observer.h"

/* Keeps what a probe of the device saw; user is the observer. */
adm_state_sink adm_profile_state_sink;

/* What NVML saw while the unit was timed: mark [n_samples] for adm_measurement.throttle, -1 where nothing was seen;
 * ends_ns [n_samples] are adm_clock_ns() at the end of each sample, the first began at start_ns. */
void adm_profile_throttle_marks(const adm_profile_observer *observer, uint64_t start_ns, const uint64_t *ends_ns,
                                size_t n_samples, int32_t *mark);

/* Stores the device's state during the unit timed last, under its configuration. */
adm_status adm_profile_put_state(adm_profile_observer *observer, int64_t config_id, adm_stage stage, adm_error *err);

#endif
