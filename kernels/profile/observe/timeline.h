/* timeline.h: traces a configuration's units: what the GPU did in each call, and when. */
#ifndef ADM_KERNELS_PROFILE_OBSERVE_TIMELINE_H
#define ADM_KERNELS_PROFILE_OBSERVE_TIMELINE_H

#include "kernels/profile/observe/observer.h"

/* Keep what probes deliver while tracing; user is the observer. The ranges are those of the launching side. */
adm_activity_sink adm_profile_activity_sink;
adm_range_sink adm_profile_range_sink;

adm_status adm_profile_timeline_open(adm_profile_timeline **out, adm_error *err);
void adm_profile_timeline_close(adm_profile_timeline **timeline);

/* Traces the units, and stores activities, events and what follows from them. Fails only where the store does. */
adm_status adm_profile_timeline_take(adm_profile_observer *observer, const adm_profile_subject *subject,
                                     const adm_profile_unit *units, size_t n_units, adm_error *err);

#endif
