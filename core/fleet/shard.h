/* shard.h: a part of a grid: which of n machines does which items, the same on every machine. */
#ifndef ADM_CORE_FLEET_SHARD_H
#define ADM_CORE_FLEET_SHARD_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"

enum { ADM_MAX_SHARDS = 65536 };

/* Shard `index` of `count`, from 1. count 0: the whole grid, and no sweep. */
typedef struct adm_shard {
    uint32_t index, count;
} adm_shard;

/* Parses "3/16". ADM_EINPUT names the text and the limits. */
adm_status adm_shard_parse(const char *text, adm_shard *shard, adm_error *err);

/* What an item takes, in any unit, and the group that it belongs to: a configuration whose preparation, which takes
 * group_cost, serves all of its items. The items of a group stand together; groups are numbered from 0 in ascending order. */
typedef struct adm_shard_item {
    double cost;      /* >= 0 and finite */
    size_t group;
} adm_shard_item;

/* Gives each item to a shard: part[i] is 1 .. n_shards. load[n_shards], which may be NULL, is what each takes.
 *
 * Without group_cost: the largest item first, each to the shard with the least so far (the longest-processing-time rule); of
 * equals the lower number. With group_cost [n_groups]: runs of neighbours, so that few shards prepare the same group, with the
 * largest load as small as it can be. Depends on nothing but the arguments. */
adm_status adm_shard_split(const adm_shard_item *item, size_t n, const double *group_cost, uint32_t n_shards, uint32_t *part,
                           double *load, adm_error *err);

/* The largest load over the mean; 1 where there is no work. */
double adm_shard_imbalance(const double *load, uint32_t n_shards);

#endif
