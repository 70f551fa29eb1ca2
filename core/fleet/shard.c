/* shard.c: dividing a grid among machines. */
#include "core/fleet/shard.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/printable.h"

/* Digits alone, from 1 to `most`; 0 otherwise. */
static uint32_t whole_number(const char *text, size_t length, uint32_t max) {
    uint64_t value = 0;
    if (length == 0 || length > 9 || strspn(text, "0123456789") < length) return 0;
    for (size_t i = 0; i < length; i++) value = 10 * value + (uint64_t)(text[i] - '0');
    return value <= max ? (uint32_t)value : 0;
}

adm_status adm_shard_parse(const char *text, adm_shard *shard, adm_error *err) {
    char shown[64];
    const char *slash = strchr(text, '/');
    if (slash != NULL) {
        shard->count = whole_number(slash + 1, strlen(slash + 1), ADM_MAX_SHARDS);
        shard->index = whole_number(text, (size_t)(slash - text), shard->count);
    }
    if (slash != NULL && shard->count > 0 && shard->index > 0) return ADM_OK;
    *shard = (adm_shard){0};
    return adm_fail(err, ADM_EINPUT, "--shard: '%s' is not i/n with 1 <= i <= n <= %d, such as 3/16",
                    adm_printable(text, shown, sizeof shown), ADM_MAX_SHARDS);
}

/* --- The largest first -------------------------------------------------------------------------------------------- */

typedef struct ranked {
    double cost;
    size_t item;
} ranked;

static int larger_first(const void *x, const void *y) {
    const ranked *a = x, *b = y;
    if (a->cost != b->cost) return a->cost > b->cost ? -1 : 1;
    return (a->item > b->item) - (a->item < b->item);
}

/* The heap's order: the least load, then the lower shard. */
static bool comes_before(const double *load, uint32_t a, uint32_t b) { return load[a] != load[b] ? load[a] < load[b] : a < b; }

/* The shard on top got more; it moves to its place. */
static void sift_down(const double *load, uint32_t *heap, uint32_t n) {
    for (uint32_t at = 0;;) {
        uint32_t first = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
            if (comes_before(load, heap[child], heap[first])) first = child;
        if (first == at) return;
        const uint32_t moved = heap[at];
        heap[at] = heap[first];
        heap[first] = moved;
        at = first;
    }
}

static adm_status split_largest_first(const adm_shard_item *item, size_t n, uint32_t n_shards, uint32_t *part, double *load,
                                      adm_error *err) {
    ranked *order = NULL;
    uint32_t *heap = NULL;
    adm_status status = adm_alloc(&order, n, sizeof *order, "items of a sweep", err);
    if (status == ADM_OK) status = adm_alloc(&heap, n_shards, sizeof *heap, "shards of a sweep", err);
    if (status == ADM_OK) {
        for (size_t i = 0; i < n; i++) order[i] = (ranked){item[i].cost, i};
        for (uint32_t s = 0; s < n_shards; s++) heap[s] = s;
        adm_sort(order, n, sizeof *order, larger_first);
        for (size_t i = 0; i < n; i++) {
            part[order[i].item] = heap[0] + 1;
            load[heap[0]] += order[i].cost;
            sift_down(load, heap, n_shards);
        }
    }
    adm_free(&order);
    adm_free(&heap);
    return status;
}

/* --- Neighbours together ------------------------------------------------------------------------------------------ */

/* Fills shard after shard up to `most`; an item that is larger alone makes its shard so. Returns how many shards that takes.
 * part may be NULL. */
static uint32_t fill(const adm_shard_item *item, size_t n, const double *group_cost, double max, uint32_t *part) {
    uint32_t shard = 0;
    double load = 0;
    for (size_t i = 0; i < n; i++) {
        const bool starts = shard == 0, is_new = starts || item[i].group != item[i - 1].group;
        const double more = item[i].cost + (is_new ? group_cost[item[i].group] : 0);
        if (starts || load + more > max) {
            shard++;
            load = item[i].cost + group_cost[item[i].group];
        } else load += more;
        if (part != NULL) part[i] = shard;
    }
    return shard;
}

/* The least `most` with which n_shards are enough, by halving: 60 steps reach the last bit. */
static void split_neighbours(const adm_shard_item *item, size_t n, const double *group_cost, uint32_t n_shards, uint32_t *part,
                             double *load) {
    double low = 0, high = 0;
    for (size_t i = 0; i < n; i++) high += item[i].cost + group_cost[item[i].group];
    for (int step = 0; step < 60; step++) {
        const double middle = low + (high - low) / 2;
        if (fill(item, n, group_cost, middle, NULL) <= n_shards) high = middle;
        else low = middle;
    }
    fill(item, n, group_cost, high, part);
    for (size_t i = 0; i < n; i++) {
        const bool is_new = i == 0 || item[i].group != item[i - 1].group || part[i] != part[i - 1];
        load[part[i] - 1] += item[i].cost + (is_new ? group_cost[item[i].group] : 0);
    }
}

adm_status adm_shard_split(const adm_shard_item *item, size_t n, const double *group_cost, uint32_t n_shards, uint32_t *part,
                           double *load, adm_error *err) {
    double *own = NULL;
    adm_status status = load == NULL ? adm_alloc(&own, n_shards, sizeof *own, "shards of a sweep", err) : ADM_OK;
    if (status != ADM_OK) return status;
    if (load == NULL) load = own;
    memset(load, 0, n_shards * sizeof *load);
    if (group_cost != NULL) split_neighbours(item, n, group_cost, n_shards, part, load);
    else status = split_largest_first(item, n, n_shards, part, load, err);
    adm_free(&own);
    return status;
}

double adm_shard_imbalance(const double *load, uint32_t n_shards) {
    double sum = 0, largest = 0;
    for (uint32_t s = 0; s < n_shards; s++) {
        sum += load[s];
        if (load[s] > largest) largest = load[s];
    }
    return sum > 0 ? largest * n_shards / sum : 1;
}
