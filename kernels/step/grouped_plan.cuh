/* grouped_plan.cuh: how the grouped step's work is cut, and where in shared memory things lie. On the host; for grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_PLAN_CUH
#define ADM_KERNELS_STEP_GROUPED_PLAN_CUH

#include "core/base/minmax.h"
#include "kernels/step/grouped.cuh"
#include "kernels/step/grouped.h"

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }
static uint32_t share_of(uint32_t n, uint32_t parts) { return (n + parts - 1) / parts; }

/* How often at least n of sixteen tiles of 32 tokens hold one of the share p of a row that wins. */
static double misses(double p, uint32_t n) {
    double empty = 1, sum = 0, term = 1; /* term: of exactly i such tiles */
    for (int i = 0; i < 32; i++) empty *= 1 - p;
    for (int i = 0; i < GROUPED_WARPS; i++) term *= empty;
    for (uint32_t i = 0; i < n; i++) {
        sum += term;
        term *= (1 - empty) / (empty > 0 ? empty : 1) * (GROUPED_WARPS - i) / (i + 1);
    }
    return 1 - sum;
}

/* The least of the sixteen that is hardly ever nearer than the cut. */
static uint32_t strict_of(const adm_gpu_shape *shape) {
    const double p = (double)shape->rule.budget / shape->capacity;
    uint32_t strict = 2;
    while (strict < GROUPED_WARPS - 1 && misses(p, strict + 1) > 1e-5) strict++;
    return strict;
}

/* Distances of asym4 have a standard deviation of about 30 where d = 128, those of L1 of 10: a bound that lies far beyond the
 * cut would have a window end before it; those of many heads together spread as far. Which bounds are near enough, of rows of
 * which a few or many tokens win. */
static void choose_bounds(grouped_plan *plan, const adm_gpu_shape *shape) {
    const double p = (double)shape->rule.budget / shape->capacity;
    plan->strict = plan->wide = GROUPED_WARPS - 1;
    if (shape->metric != ADM_METRIC_ASYM4 && (plan->rows > 1 || plan->heads <= 4)) return;
    plan->strict = strict_of(shape);
    plan->wide = p < 0.06 ? 0u : p < 0.2 ? 6u : (uint32_t)GROUPED_WARPS - 1;
}

/* Whether a block has one row: all heads of a group that shares its selection, or one head. */
static bool is_joint(const grouped_plan *plan, const adm_gpu_shape *shape) {
    return shape->selection == ADM_SELECT_GROUP || plan->heads == 1;
}

/* Lists in place of all places, with room for so many entries a lane at most, and a bound that a few tokens in a hundred are
 * within; words: a lane's. False: lists may become longer. */
static bool choose_lists(grouped_plan *plan, const adm_gpu_shape *shape, uint32_t words, uint32_t list_entries) {
    plan->strict = strict_of(shape);
    const double tile = (plan->strict + 0.5) / GROUPED_WARPS; /* of the tiles of 32 tokens hold one within the bound */
    const double wanted = 2.5 * words * tile / 8 + 1;
    plan->list_entries = adm_min(list_entries, (uint32_t)wanted + 1);
    return plan->list_entries >= wanted;
}

/* Where two blocks read the same codes, much of which little wins, lists that are counted at the end take less time; by asym4,
 * for shorter rows, and where one block has all heads of a group, they take more (kernels/LOG.md). Of a lane's words 6% are
 * listed, 23% where the bound lies 3.5 standard deviations too far; there is room for three of eight. */
static bool prefers_lists(const adm_gpu_shape *shape, uint32_t n_clusters) {
    return shape->metric == ADM_METRIC_L1 && shape->capacity > 65536 && shape->rule.budget <= shape->capacity / 400 &&
           n_clusters <= 16 && shape->heads.n_q_heads > 4 * shape->heads.n_kv_heads;
}

/* What lay_out() weighs up, bytes. */
typedef struct grouped_bytes {
    uint32_t max_bytes, fixed, min_ring; /* of all; of what is always there; of what lies in the ring later */
    uint32_t slot, places;       /* a pair of tiles for each warp; all places */
    uint32_t rounds, words;      /* of the scan; a lane's words of places */
} grouped_bytes;

static uint32_t ring_bytes(const grouped_bytes *r, uint32_t slots) {
    return slots * r->slot > r->min_ring ? slots * r->slot : r->min_ring;
}

/* Entries a lane that fit beside the ring. */
static uint32_t entries_left(const grouped_bytes *r, uint32_t slots) {
    const uint32_t used = r->fixed + ring_bytes(r, slots);
    return used < r->max_bytes ? (r->max_bytes - used) / (GROUPED_THREADS * 8) : 0;
}

/* Chooses slots of the ring, lists or places; returns their bytes. `enough`: false where lists may become longer than there is
 * room for, which is right, but slow. */
static uint32_t choose_places(grouped_plan *plan, const adm_gpu_shape *shape, const grouped_bytes *r, bool *enough) {
    const uint32_t given = plan->slots, n_clusters = shape->batch * shape->heads.n_kv_heads * plan->slices;
    const uint32_t most_slots = adm_min(given > 0 ? given : (uint32_t)GROUPED_SLOTS, r->rounds > 0 ? r->rounds : 1u);
    *enough = true;
    if (!is_joint(plan, shape) && plan->list_entries == 0 && prefers_lists(shape, n_clusters)) {
        /* One pair where most SMs have two blocks of this step, and none is left for the next one's. */
        plan->slots = given > 0 ? given : n_clusters > 8 ? 1 : adm_min(most_slots, 2u);
        const uint32_t list_entries = share_of(3 * r->words, 8);
        if (list_entries <= entries_left(r, plan->slots)) {
            plan->list_entries = list_entries;
            plan->strict = strict_of(shape);
            return list_entries * GROUPED_THREADS * 8;
        }
    }
    plan->slots = most_slots;
    while (plan->slots > 1 && given == 0 && r->fixed + ring_bytes(r, plan->slots) + r->places > r->max_bytes) plan->slots--;
    if (is_joint(plan, shape) || (plan->list_entries == 0 && r->fixed + ring_bytes(r, plan->slots) + r->places <= r->max_bytes))
        return r->places;
    const uint32_t wanted = plan->list_entries;
    if (wanted == 0) plan->counted = 1;
    for (plan->slots = given > 0 ? given : adm_min(most_slots, 2u);; plan->slots--) {
        *enough = choose_lists(plan, shape, r->words, entries_left(r, plan->slots));
        if (*enough || given > 0 || plan->slots <= 1) break;
    }
    plan->list_entries = wanted > 0 ? wanted : plan->list_entries > 0 ? plan->list_entries : 1;
    return plan->list_entries * GROUPED_THREADS * 8;
}

/* Fills in sizes and offsets for plan's heads and split, with `max_bytes` at most if it can; for a plan with 0 slots as many
 * as fit, for one with 0 list entries lists where few win. False: lists may become longer than fits, which is right, but
 * slow. */
static bool lay_out(grouped_plan *plan, const adm_gpu_shape *shape, uint32_t max_bytes) {
    const bool joint = is_joint(plan, shape);
    const uint32_t d = shape->heads.head_dim, sets = plan->heads > 4 ? 2 : 1, units = plan->heads * (d / 32);
    const uint32_t tiles = 2 * share_of(share_of(shape->capacity, 64), plan->split), rounds = share_of(tiles, GROUPED_PAIRS);
    const uint32_t slot = GROUPED_PAIRS * d * 8, words = joint ? share_of(rounds, 2) : 2 * rounds * sets;
    const uint32_t counts = plan->split * plan->rows * 4 *
                            (joint ? grouped_kind<0>::count_words : grouped_kind<1>::count_words);
    plan->share = share_of(adm_min(shape->rule.budget, shape->capacity), plan->split);
    plan->map_words = tiles;
    choose_bounds(plan, shape);
    /* With 1,024 winners of 32K the requests are in the way of other reads. A page would have to be looked up first. */
    plan->ahead = shape->page_size == 0 && (shape->capacity > 65536 || shape->rule.budget <= 512);
    const uint32_t histogram = round_up((joint ? grouped_kind<0>::stride : 4 * sets * grouped_kind<1>::stride) * 4, 128);
    const uint32_t maps = round_up(2 * plan->rows * tiles * 4, 128), winners = round_up(plan->rows * plan->share * 4, 128);
    const uint32_t last = winners + round_up(share_of(units, plan->split) * plan->split * GROUPED_UNIT * 4, 128);
    const uint32_t partials = GROUPED_WARPS * d * 4;
    const uint32_t fixed = histogram + last + counts, min_ring = partials + maps + plan->rows * GROUPED_TIES * 4;
    const grouped_bytes r = {max_bytes, fixed, min_ring, slot, words * GROUPED_THREADS * 4, rounds, words};
    bool enough;
    const uint32_t places = choose_places(plan, shape, &r, &enough);
    plan->ring_at = 0;
    plan->maps_at = partials;
    plan->ties_at = partials + maps;
    plan->places_at = ring_bytes(&r, plan->slots);
    plan->counts_at = plan->places_at + places;
    plan->histogram_at = plan->counts_at + counts;
    plan->winners_at = plan->histogram_at + histogram; /* apart: a block may send winners while another still reads counts */
    plan->merge_at = plan->winners_at + winners;
    plan->shared_bytes = plan->winners_at + last;
    return enough;
}

/* Heads a block: up to four, which are one product's columns, or all of a group that shares its selection. Returns the number
 * of clusters. */
static uint32_t cut_up(grouped_plan *plan, const adm_gpu_shape *shape) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (shape->selection == ADM_SELECT_GROUP) plan->heads = group;
    else if (plan->heads == 0) plan->heads = share_of(group, share_of(group, 4));
    plan->rows = is_joint(plan, shape) ? 1 : plan->heads;
    plan->slices = share_of(group, plan->heads);
    plan->warps = GROUPED_WARPS / adm_min(plan->heads, (uint32_t)GROUPED_WARPS);
    return shape->batch * shape->heads.n_kv_heads * plan->slices;
}

/* Blocks a cluster, by what was fastest on an H200 (kernels/LOG.md), and what to take where that has no room: many where there
 * is much to read or to attend to, and so few that all clusters fit the device at once, two blocks to an SM. 14 clusters of 16
 * do, 16 of 12, 21 of 10, 64 of 4. */
typedef struct grouped_splits {
    uint32_t usual, other;
} grouped_splits;

static grouped_splits splits_of(const adm_gpu_shape *shape, uint32_t n_clusters, bool joint) {
    const bool is_long = shape->capacity > 65536;
    if (joint && n_clusters <= 64) {
        const uint32_t few = n_clusters <= 4 || shape->rule.budget >= 1024 ? 16u : 8u;
        return grouped_splits{n_clusters <= 8    ? few
                              : n_clusters <= 16 ? (is_long || shape->rule.budget >= 1024 ? 12u : 6u)
                              : n_clusters <= 32 ? (shape->capacity >= 65536 ? 7u : 6u)
                              : n_clusters <= 40 ? 5u
                                                 : 4u,
                              16};
    }
    if (n_clusters <= 8)
        return grouped_splits{shape->capacity > 131072 ? 15u : is_long || shape->rule.budget >= 1024 ? 16u : 8u, 16};
    if (n_clusters <= 16) return grouped_splits{12, 16};
    if (n_clusters <= 32) return grouped_splits{8, 16};
    if (is_long) return grouped_splits{10, 16};
    return grouped_splits{n_clusters <= 64 ? 4u : 2u, 8};
}

/* Whether a block is to have an SM for itself, and so more codes on their way: of long rows, and of few clusters; by asym4 it
 * was no faster, nor for 8 clusters since codes come by lanes' copies (kernels/LOG.md). */
static bool prefers_to_be_alone(const grouped_plan *plan, const adm_gpu_shape *shape, uint32_t n_clusters) {
    return is_joint(plan, shape) && shape->metric == ADM_METRIC_L1 && n_clusters <= 4 && shape->capacity > 65536 &&
           shape->rule.budget < 1024;
}

/* The plan of a shape, or why there is none. */
static adm_status plan_of(const adm_gpu_shape *shape, const adm_gpu_grouped_tuning *tuning, grouped_plan *out, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major != 9)
        return adm_fail(
            err, ADM_EUNSUPPORTED,
            "the grouped step needs clusters of blocks and products of bits, compute capability 9.0; the device has %d.x",
            limits.compute_major);
    if (shape->metric != ADM_METRIC_L1 && shape->metric != ADM_METRIC_ASYM4)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step compares codes by l1 and asym4");
    if (tuning->heads > GROUPED_HEADS || tuning->split > GROUPED_SPLIT || tuning->split == 1 || tuning->trigger > 3 ||
        tuning->slots > GROUPED_SLOTS)
        return adm_fail(err, ADM_EINPUT,
                        "the grouped step with %u heads a block, %u blocks a cluster, %u pairs of tiles, trigger %u",
                        tuning->heads, tuning->split, tuning->slots, tuning->trigger);
    const uint32_t two = (uint32_t)limits.sm_shared_bytes / 2 - 1024 - round_up(sizeof(grouped_small), 128);
    const uint32_t one = (uint32_t)limits.block_shared_bytes - sizeof(grouped_small) - 1024;
    grouped_plan plan = {};
    plan.heads = tuning->heads;
    const uint32_t n_clusters = cut_up(&plan, shape);
    const grouped_splits splits = splits_of(shape, n_clusters, is_joint(&plan, shape));
    const uint32_t max_bytes = prefers_to_be_alone(&plan, shape, n_clusters) ? one : two;
    if (shape->selection == ADM_SELECT_GROUP && tuning->heads > 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step takes all heads of a group that shares its selection");
    if (is_joint(&plan, shape) && tuning->list_entries > 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step keeps no lists where a block has one selection");
    plan.trigger = tuning->trigger;
    bool enough = false;
    for (int i = 0; i < 2 && !enough; i++) {
        plan.split = tuning->split > 0 ? tuning->split : i == 0 ? splits.usual : splits.other;
        plan.inverse = UINT32_MAX / plan.split + 1;
        plan.slots = tuning->slots;
        plan.list_entries = tuning->list_entries;
        plan.counted = tuning->counted;
        enough = shape->capacity / plan.split <= GROUPED_TOKENS &&
                 (lay_out(&plan, shape, max_bytes) || tuning->list_entries > 0);
    }
    if (shape->capacity / plan.split > GROUPED_TOKENS)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step takes at most %d tokens a block, not %u", GROUPED_TOKENS,
                        shape->capacity / plan.split);
    if (!enough)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step has no capacity for the lists of a budget of %u of %u tokens",
                        shape->rule.budget, shape->capacity);
    if (plan.shared_bytes > one)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the grouped step needs %u bytes of shared memory a block, and this device has %d", plan.shared_bytes,
                        limits.block_shared_bytes);
    *out = plan;
    return ADM_OK;
}

#endif
