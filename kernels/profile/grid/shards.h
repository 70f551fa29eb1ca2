/* shards.h: which units of which configurations a shard of a profile runs. */
#ifndef ADM_KERNELS_PROFILE_GRID_SHARDS_H
#define ADM_KERNELS_PROFILE_GRID_SHARDS_H

#include "core/fleet/shard.h"
#include "kernels/profile/grid/grid.h"

/* The items of configuration c, a unit each, are first[c] to first[c + 1] - 1. */
typedef struct adm_profile_shards {
    adm_shard shard;   /* count 0: all items are ours */
    size_t n_cases, n_items;
    size_t *first;     /* [n_cases + 1] */
    uint32_t *part;    /* [n_items] the shard of each, from 1 */
    double *load;      /* [shards] estimated seconds */
    bool *is_ours;     /* [n_items] */
} adm_profile_shards;

/* Divides the grid by what it is estimated to take (cost.h). A configuration may be shared by two shards, which then both
 * prepare it. Free also after a failure. */
adm_status adm_profile_shards_make(const adm_profile_options *options, adm_shard shard, adm_profile_shards *shards,
                                   adm_error *err);
void adm_profile_shards_free(adm_profile_shards *shards);

/* Items of configuration c that are ours. */
size_t adm_profile_shards_of_case(const adm_profile_shards *shards, size_t c);

#endif
