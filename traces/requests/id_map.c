/* id_map.c: open addressing, at most half full. */
#include "traces/requests/id_map.h"

#include "core/base/mem.h"

void adm_id_map_free(adm_id_map *map) {
    adm_free(&map->name);
    adm_free(&map->value);
    *map = (adm_id_map){0};
}

/* SplitMix64's finaliser: consecutive names do not cluster. */
static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t place_of(const adm_id_map *map, uint64_t name) {
    size_t i = mix(name) & (map->capacity - 1);
    while (map->value[i] != 0 && map->name[i] != name) i = (i + 1) & (map->capacity - 1);
    return i;
}

static adm_status grow(adm_id_map *map, adm_error *err) {
    adm_id_map larger = {.n = map->n, .capacity = map->capacity == 0 ? 1024 : 2 * map->capacity};
    adm_status status = adm_alloc(&larger.name, larger.capacity, sizeof *larger.name, "names of a request trace", err);
    if (status == ADM_OK)
        status = adm_alloc(&larger.value, larger.capacity, sizeof *larger.value, "names of a request trace", err);
    for (size_t i = 0; i < map->capacity && status == ADM_OK; i++) {
        if (map->value[i] == 0) continue;
        const size_t to = place_of(&larger, map->name[i]);
        larger.name[to] = map->name[i];
        larger.value[to] = map->value[i];
    }
    if (status != ADM_OK) {
        adm_id_map_free(&larger);
        return status;
    }
    adm_id_map_free(map);
    *map = larger;
    return ADM_OK;
}

adm_status adm_id_map_find(adm_id_map *map, uint64_t name, uint32_t otherwise, uint32_t *value, adm_error *err) {
    adm_status status = 2 * map->n >= map->capacity ? grow(map, err) : ADM_OK;
    if (status != ADM_OK) return status;
    const size_t i = place_of(map, name);
    if (map->value[i] == 0) {
        map->name[i] = name;
        map->value[i] = otherwise;
        map->n++;
    }
    *value = map->value[i];
    return ADM_OK;
}
