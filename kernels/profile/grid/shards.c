/* shards.c: dividing the grid of a profile. */
#include "kernels/profile/grid/shards.h"

#include <math.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "kernels/gpu_work.h"

/* Estimates for balance alone; nothing that is stored depends on them. Fitted to the two shards of `profile --gpus all --split
 * --seq-lens 8192,32768,131072 --budgets 256,1024 --kv-heads 8,32 --cap-ms 60` on two H200s, 2026-11-30: 4.2 and 5.6 s, of
 * which
 * 0.7 s begin a process; every unit had 20 samples. */
static const double read_bytes_per_s = 4.4e12; /* an H200's plain read of 537 MB */
static const double launch_s = 2e-6;           /* per implementation: what the bytes do not explain */
static const double samples = 20, sample_s = 1e-3, fixed_s = 0.012; /* time.cu: samples of at least 1 ms, until 1% is reached */
static const double checked_row_s = 4.3e-6; /* making and encoding a row of K and V of a checked head */
static const double checked_dense_s = 0.7e-6; /* dense attention in double precision, per token and query head */

static uint32_t n_checked_heads(const adm_profile_options *o, const adm_profile_case *c) {
    if (o->n_batch_lens > 0) return (uint32_t)adm_min(c->batch, 16u);
    return c->batch * c->n_kv_heads > 1 ? 2 : 1;
}

double adm_profile_unit_cost(const adm_profile_options *o, const adm_profile_case *c, const adm_profile_unit *unit) {
    adm_gpu_shape shape = adm_profile_shape(o, c);
    adm_gpu_load load = {0};
    if (unit->budget > 0) shape.rule.budget = unit->budget;
    for (uint32_t b = 0; b < c->batch; b++) {
        load.n_tokens += c->length[b];
        load.n_selected += fmin(unit->budget, c->length[b]);
    }
    load.n_distinct = load.n_selected;
    const double call_s = adm_gpu_work(&shape, adm_profile_covers(unit), &load).bytes / read_bytes_per_s +
                          launch_s * (double)unit->n_impls;
    const double cap_s = (double)o->cap_ns * 1e-9, timed_s = fmin(samples * fmax(sample_s, call_s), fmax(cap_s, call_s));
    double cost = fixed_s;
    for (int mode = 0; mode < 2; mode++)
        if (o->launch[mode] && !o->check_only) cost += timed_s;
    if (unit->stage == ADM_STAGE_DENSE)
        cost += checked_dense_s * n_checked_heads(o, c) * c->seq_len * (double)o->n_q_heads / c->n_kv_heads;
    return cost;
}

double adm_profile_case_cost(const adm_profile_options *o, const adm_profile_case *c) {
    if (c->session != NULL) return fixed_s * c->session->session.n_layers;
    return fixed_s + checked_row_s * n_checked_heads(o, c) * c->seq_len * o->head_dim / 128.0;
}

/* Items of configuration c, behind those before it. */
static adm_status add_case(const adm_profile_options *o, size_t c, adm_profile_shards *s, adm_shard_item *item,
                           double *case_cost, adm_error *err) {
    adm_profile_unit *units = NULL;
    size_t n = 0;
    const adm_profile_case present = adm_profile_case_at(o, c);
    adm_status status = adm_profile_units(o, present.metric, &units, &n, err);
    case_cost[c] = adm_profile_case_cost(o, &present);
    for (size_t u = 0; status == ADM_OK && u < n; u++)
        item[s->n_items++] = (adm_shard_item){adm_profile_unit_cost(o, &present, &units[u]), c};
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
