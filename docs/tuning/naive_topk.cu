// A top-k in 30 lines: one thread per selection counts, finds the boundary and writes. Right, and slow.
#include "adamas_plugin.h"

__global__ void topk(adamas_gpu_shape s, adamas_gpu_buffers b) {
    const uint32_t r = blockIdx.x, n = b.length[r / s.n_q_heads], budget = s.rule.budget;
    const uint16_t *distance = b.distance + (size_t)r * s.capacity;
    uint32_t *index = b.index + (size_t)r * budget;
    const uint32_t recent = s.rule.n_recent > 1 ? s.rule.n_recent : 1, last = n > recent ? n - recent : 0;
    const uint32_t first = s.rule.n_sinks < last ? s.rule.n_sinks : last, forced = first + (n - last);
    const uint32_t left = min(budget > forced ? budget - forced : 0, last - first);
    uint32_t histogram[3 * 256 + 1] = {0}, boundary = 0, below = 0, skip = 0, k = 0;
    for (uint32_t t = first; t < last; t++) histogram[distance[t]]++;
    if (left > 0) {
        while (below + histogram[boundary] < left) below += histogram[boundary++];
        skip = histogram[boundary] - (left - below);  // tied tokens that are too old
    }
    for (uint32_t t = 0; t < n; t++) {
        bool in = t < first || t >= last;
        if (!in && left > 0) in = distance[t] < boundary || (distance[t] == boundary && (skip > 0 ? (skip--, false) : true));
        if (in) index[k++] = t;
    }
    b.n_selected[r] = k;
}

int adamas_gpu_topk(const adamas_gpu_shape *shape, const adamas_gpu_buffers *buffers, adamas_stream stream) {
    if (shape->group) return ADAMAS_UNSUPPORTED;  // distances of a group go beyond the histogram
    topk<<<shape->batch * shape->n_q_heads, 1, 0, stream>>>(*shape, *buffers);
    return cudaGetLastError();
}
