// The same with a block per selection: the histogram in shared memory, then an ordered compaction with a scan per chunk.
// adamas: THREADS = 128, 256, 512, 1024
#include "adamas_plugin.h"

__device__ static uint32_t scan(uint32_t value, uint32_t *total) {  // exclusive, over the block
    __shared__ uint32_t warps[THREADS / 32];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t mask = __ballot_sync(0xffffffffu, value);
    if (lane == 0) warps[warp] = __popc(mask);
    __syncthreads();
    uint32_t before = 0, all = 0;
    for (uint32_t w = 0; w < THREADS / 32; w++) {
        if (w < warp) before += warps[w];
        all += warps[w];
    }
    __syncthreads();
    *total = all;
    return before + __popc(mask & ((1u << lane) - 1));
}

__global__ void topk(adamas_gpu_shape s, adamas_gpu_buffers b) {
    __shared__ uint32_t histogram[3 * 256 + 1], found[2];
    const uint32_t r = blockIdx.x, n = b.length[r / s.n_q_heads], budget = s.rule.budget;
    const uint16_t *distance = b.distance + (size_t)r * s.capacity;
    uint32_t *index = b.index + (size_t)r * budget;
    const uint32_t recent = s.rule.n_recent > 1 ? s.rule.n_recent : 1, last = n > recent ? n - recent : 0;
    const uint32_t first = s.rule.n_sinks < last ? s.rule.n_sinks : last, forced = first + (n - last);
    const uint32_t left = min(budget > forced ? budget - forced : 0, last - first);
    for (uint32_t i = threadIdx.x; i <= 3 * s.head_dim; i += THREADS) histogram[i] = 0;
    __syncthreads();
    for (uint32_t t = first + threadIdx.x; t < last; t += THREADS) atomicAdd(&histogram[distance[t]], 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        uint32_t boundary = 0, below = 0;
        while (left > 0 && below + histogram[boundary] < left) below += histogram[boundary++];
        found[0] = boundary;
        found[1] = left > 0 ? histogram[boundary] - (left - below) : 0;
    }
    __syncthreads();
    const uint32_t boundary = found[0], skip = found[1];
    uint32_t k = 0, tied = 0;
    for (uint32_t from = 0; from < n; from += THREADS) {
        const uint32_t t = from + threadIdx.x;
        const bool is_forced = t < n && (t < first || t >= last), ranked = t < n && !is_forced && left > 0;
        const bool is_tied = ranked && distance[t] == boundary;
        uint32_t n_tied, n_in;
        const uint32_t rank = tied + scan(is_tied, &n_tied);
        const bool in = is_forced || (ranked && distance[t] < boundary) || (is_tied && rank >= skip);
        const uint32_t at = k + scan(in, &n_in);
        if (in) index[at] = t;
        tied += n_tied;
        k += n_in;
    }
    if (threadIdx.x == 0) b.n_selected[r] = k;
}

int adamas_gpu_topk(const adamas_gpu_shape *shape, const adamas_gpu_buffers *buffers, adamas_stream stream) {
    if (shape->group) return ADAMAS_UNSUPPORTED;
    topk<<<shape->batch * shape->n_q_heads, THREADS, 0, stream>>>(*shape, *buffers);
    return cudaGetLastError();
}
