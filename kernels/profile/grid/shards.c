/* shards.c: dividing the grid of a profile. */
#include "kernels/profile/grid/shards.h"

#include "core/base/mem.h"
#include "kernels/profile/grid/cost.h"

/* Items of configuration c, behind those before it. */
static adm_status add_case(const adm_profile_options *o, size_t c, adm_profile_shards *s, adm_shard_item *item,
                           double *case_cost, adm_error *err) {
    adm_profile_unit *units = NULL;
    size_t n = 0;
    const adm_profile_case present = adm_profile_case_at(o, c);
    adm_status status = adm_profile_units(o, present.metric, &units, &n, err);
    const adm_profile_cost before = adm_profile_case_cost(o, &present);
    case_cost[c] = adm_profile_cost_sum(&before);
    for (size_t u = 0; status == ADM_OK && u < n; u++) {
        const bool is_first = u == 0 || units[u].budget != units[u - 1].budget;
        const adm_profile_cost cost = adm_profile_unit_cost(o, &present, &units[u], is_first);
        item[s->n_items++] = (adm_shard_item){adm_profile_cost_sum(&cost), c};
    }
    s->first[c + 1] = s->n_items;
    adm_free(&units);
    return status;
}

adm_status adm_profile_shards_make(const adm_profile_options *o, adm_shard shard, adm_profile_shards *s, adm_error *err) {
    adm_shard_item *item = NULL;
    double *case_cost = NULL;
    size_t max_units = 0; /* units of a configuration, with all metrics */
    const uint32_t n_shards = shard.count > 0 ? shard.count : 1, index = shard.count > 0 ? shard.index : 1;
    *s = (adm_profile_shards){.shard = shard, .n_cases = adm_profile_n_cases(o)};
    adm_status status = adm_profile_n_units(o, &max_units, err);
    if (status == ADM_OK) status = adm_alloc(&s->first, s->n_cases + 1, sizeof *s->first, "configurations of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&item, s->n_cases * max_units, sizeof *item, "units of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&case_cost, s->n_cases, sizeof *case_cost, "configurations of a sweep", err);
    for (size_t c = 0; status == ADM_OK && c < s->n_cases; c++) status = add_case(o, c, s, item, case_cost, err);
    if (status == ADM_OK) status = adm_alloc(&s->part, s->n_items, sizeof *s->part, "units of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&s->load, n_shards, sizeof *s->load, "shards of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&s->is_ours, s->n_items, 1, "units of a sweep", err);
    if (status == ADM_OK) status = adm_shard_split(item, s->n_items, case_cost, n_shards, s->part, s->load, err);
    for (size_t i = 0; status == ADM_OK && i < s->n_items; i++) s->is_ours[i] = s->part[i] == index;
    adm_free(&item);
    adm_free(&case_cost);
    return status;
}

void adm_profile_shards_free(adm_profile_shards *s) {
    adm_free(&s->first);
    adm_free(&s->part);
    adm_free(&s->load);
    adm_free(&s->is_ours);
}

size_t adm_profile_shards_of_case(const adm_profile_shards *s, size_t c) {
    size_t n = 0;
    for (size_t i = s->first[c]; i < s->first[c + 1]; i++) n += s->is_ours[i];
    return n;
}
