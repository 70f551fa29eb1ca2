/* id_map.h: 64-bit names (hashes of a trace, sessions) to small numbers. */
#ifndef ADM_TRACES_REQUESTS_ID_MAP_H
#define ADM_TRACES_REQUESTS_ID_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

/* Zero-initialise; release with adm_id_map_free(). */
typedef struct adm_id_map {
    uint64_t *name;  /* [capacity] */
    uint32_t *value; /* [capacity], and 0 for an empty place */
    size_t n, capacity;
} adm_id_map;

void adm_id_map_free(adm_id_map *map);

/* Finds the name's value, at least 1; of a name not yet there it becomes `otherwise`. */
adm_status adm_id_map_find(adm_id_map *map, uint64_t name, uint32_t otherwise, uint32_t *value, adm_error *err);

#endif
