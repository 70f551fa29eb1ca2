/* registry.c: looks up GPU implementations in their table; see registry.h. */
#include "kernels/gpu/registry.h"

#include <string.h>

#include "kernels/gpu/ways.h"

size_t adm_gpu_registry_count(void) { return adm_gpu_n_rows; }

const adm_gpu_impl *adm_gpu_registry_at(size_t i) { return i < adm_gpu_n_rows ? adm_gpu_rows[i] : NULL; }

const adm_gpu_impl *adm_gpu_registry_find(adm_stage stage, const char *name) {
    for (size_t i = 0; i < adm_gpu_n_rows; i++)
        if (adm_gpu_rows[i]->stage == stage && strcmp(adm_gpu_rows[i]->name, name) == 0) return adm_gpu_rows[i];
    return NULL;
}

const adm_gpu_ways *adm_gpu_ways_of(const adm_gpu_impl *row) {
    for (size_t i = 0; i < adm_gpu_n_ways; i++)
        if (adm_gpu_way_rows[i].stage == row->stage && strcmp(adm_gpu_way_rows[i].row, row->name) == 0)
            return &adm_gpu_way_rows[i];
    return NULL;
}
