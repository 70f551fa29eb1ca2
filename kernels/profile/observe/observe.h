/* observe.h: a GPU profile under observation: brackets its session, checks and timings, and has its units counted and
 * traced. */
#ifndef ADM_KERNELS_PROFILE_OBSERVE_OBSERVE_H
#define ADM_KERNELS_PROFILE_OBSERVE_OBSERVE_H

#include "kernels/profile/observe/observer.h"

/* Around adm_profile_run(). end() is fine after a failed begin(). */
adm_status adm_profile_observe_begin(adm_profile_observer *observer, adm_gpu *gpu, adm_store *store, int64_t run_id,
                                     adm_error *err);
void adm_profile_observe_end(adm_profile_observer *observer);

/* Around the check of one unit, and around its timing; observer NULL: nothing happens. */
void adm_profile_check_begin(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);
void adm_profile_check_end(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);
void adm_profile_timing_begin(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);
void adm_profile_timing_end(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);

/* Counts and traces the units, as far as probes are attached. Fails only where the store does. */
adm_status adm_profile_observe(adm_profile_observer *observer, const adm_profile_subject *subject,
                               const adm_profile_unit *units, size_t n_units, adm_error *err);

#endif
