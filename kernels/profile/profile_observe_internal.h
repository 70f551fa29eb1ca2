/* profile_observe_internal.h: what profile_observe.c and profile_timeline.c share. */
#ifndef ADM_KERNELS_PROFILE_PROFILE_OBSERVE_INTERNAL_H
#define ADM_KERNELS_PROFILE_PROFILE_OBSERVE_INTERNAL_H

#include "kernels/profile/profile_observe.h"

/* Sets the unit's budget and leaves on a set what the stages before it hand over. Does not wait. */
adm_status adm_profile_prepare_set(const adm_profile_scene *scene, const adm_profile_unit *unit, uint32_t set, adm_error *err);

adm_status adm_profile_timeline_open(adm_profile_timeline **out, adm_error *err);
void adm_profile_timeline_close(adm_profile_timeline **timeline);

/* Traces the units, and stores activities, events and what follows from them. Fails only where the store does. */
adm_status adm_profile_timeline_take(adm_profile_observer *observer, const adm_profile_scene *scene,
                                     const adm_profile_unit *units, size_t n_units, adm_error *err);

#endif
