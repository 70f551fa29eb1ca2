/* map_guard.h: surviving a mapped file that loses its pages.
 *
 * Another process may shorten a file that we have mapped, or its disk may fail: touching what is gone is then a SIGBUS,
 * which ends the program. Under a guard the lost part reads as zeros instead, from the page touched to the end of the map,
 * and is remembered as lost: a caller working on the map continues to its next adm_map_is_lost(), fails there, and keeps
 * nothing of what it computed in between. A SIGBUS anywhere else ends the program as ever. */
#ifndef ADM_TRACES_FORMAT_MAP_GUARD_H
#define ADM_TRACES_FORMAT_MAP_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/error.h"

enum { ADM_MAX_GUARDED = 64 };

/* Guards a private read-only map. The signal is the process's, hence so is the list of maps; ADM_EENVIRONMENT when
 * ADM_MAX_GUARDED are guarded. From any thread, and good for all. */
adm_status adm_map_guard(const void *map, size_t n_bytes, adm_error *err);

/* Ends it, before the map goes. A map that is not guarded is left alone. */
void adm_map_unguard(const void *map);

/* Whether a page of the guarded map was lost. */
bool adm_map_is_lost(const void *map);

#endif
