/* topk.c: the reference selection. */
#include "kernels/topk/topk.h"

#include <string.h>

adm_eligible adm_topk_eligible(const adm_select_rule *rule, size_t n_tokens) {
    size_t n_recent = rule->n_recent > 0 ? rule->n_recent : 1;
    adm_eligible c;
    c.first = rule->n_sinks < n_tokens ? rule->n_sinks : n_tokens;
    c.last = n_tokens - c.first > n_recent ? n_tokens - n_recent : c.first;
    size_t n_eligible = c.last - c.first;
    size_t forced = n_tokens - n_eligible;
    c.remaining = rule->budget - forced < n_eligible ? rule->budget - forced : n_eligible;
    return c;
}

/* The distance at which the winners end, and how many of the tokens there still win. */
static adm_select_info boundary_of(const uint16_t *distance, const adm_eligible *c, uint32_t max_distance,
                                   uint32_t *histogram) {
    if (c->remaining == 0) return (adm_select_info){0};
    memset(histogram, 0, ((size_t)max_distance + 1) * sizeof *histogram);
    for (size_t t = c->first; t < c->last; t++) histogram[distance[t]]++;
    uint32_t boundary = 0;
    size_t below = 0;
    while (below + histogram[boundary] < c->remaining) below += histogram[boundary++];
    return (adm_select_info){boundary, histogram[boundary], (uint32_t)(c->remaining - below)};
}

uint32_t adm_topk_reference(const uint16_t *distance, size_t n_tokens, uint32_t max_distance, const adm_select_rule *rule,
                            uint32_t *histogram, uint32_t *index, adm_select_info *info) {
    adm_eligible c = adm_topk_eligible(rule, n_tokens);
    adm_select_info edge = boundary_of(distance, &c, max_distance, histogram);
    uint32_t n = 0;
    for (size_t t = 0; t < c.first; t++) index[n++] = (uint32_t)t;
    if (c.remaining > 0) {
        uint32_t ties_dropped = edge.n_tied - edge.n_tied_in; /* tied tokens that lose: they come first */
        for (size_t t = c.first; t < c.last; t++) {
            if (distance[t] > edge.boundary) continue;
            if (distance[t] == edge.boundary && ties_dropped > 0) {
                ties_dropped--;
                continue;
            }
            index[n++] = (uint32_t)t;
        }
    }
    for (size_t t = c.last; t < n_tokens; t++) index[n++] = (uint32_t)t;
    if (info != NULL) *info = edge;
    return n;
}

double adm_topk_bytes(const adm_shape *shape, double n_tokens, double n_selected) {
    return shape->n_q_heads * (n_tokens * sizeof(uint16_t) + n_selected * sizeof(uint32_t));
}

double adm_topk_flops(const adm_shape *shape, double n_tokens) { return 2.0 * shape->n_q_heads * n_tokens; }
