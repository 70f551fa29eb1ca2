/* count.h: counts a configuration's units on the GPU. */
#ifndef ADM_KERNELS_PROFILE_OBSERVE_COUNT_H
#define ADM_KERNELS_PROFILE_OBSERVE_COUNT_H

#include "kernels/profile/observe/observer.h"

/* Stores the counters of one range; user is the observer. */
adm_counter_sink adm_profile_counter_sink;

/* Counts the units with the observer's probes in `counting`, and stores what they deliver. Fails only where the store does. */
adm_status adm_profile_count(adm_profile_observer *observer, const adm_profile_subject *subject, const adm_profile_unit *units,
                             size_t n_units, adm_error *err);

#endif
