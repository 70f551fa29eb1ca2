/* identity.h: the hashes of a sweep. Inside this room. */
#ifndef ADM_CORE_FLEET_IDENTITY_H
#define ADM_CORE_FLEET_IDENTITY_H

#include "core/fleet/fleet.h"

/* Sets build and id from what was added. */
void adm_fleet_identify(adm_fleet *sweep);

#endif
