// A top-k in 30 lines: counts distances, finds the boundary, writes the tokens in order.
#include "adamas_plugin.h"
#include <string.h>
uint32_t adamas_topk(const uint16_t *distance, size_t n, uint32_t max, const adamas_select_rule *rule, uint32_t *histogram,
                     uint32_t *index, adamas_select_info *info) {
    size_t recent = rule->n_recent > 1 ? rule->n_recent : 1, last = n > recent ? n - recent : 0;
    size_t first = rule->n_sinks < last ? rule->n_sinks : last, left, k = 0;
    if (info) memset(info, 0, sizeof *info);
    memset(histogram, 0, (max + 1) * sizeof *histogram);
    for (size_t t = first; t < last; t++) histogram[distance[t]]++;
    left = rule->budget - first - (n - last);
    if (left > last - first) left = last - first;
    uint32_t boundary = 0, below = 0, skip = 0;
    if (left > 0) {
        while (below + histogram[boundary] < left) below += histogram[boundary++];
        skip = histogram[boundary] - (left - below);
        if (info) *info = (adamas_select_info){boundary, histogram[boundary], histogram[boundary] - skip};
    }
    for (size_t t = 0; t < n; t++) {
        int in = t < first || t >= last;
        if (!in && left > 0) in = distance[t] < boundary || (distance[t] == boundary && (skip > 0 ? (skip--, 0) : 1));
        if (in) index[k++] = (uint32_t)t;
    }
    return (uint32_t)k;
}
