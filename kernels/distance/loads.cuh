/* loads.cuh: the line of loads of codes that the distance kernels share out among their warps, and each warp's ring of them in
 * shared memory. For distance.cu. */
#ifndef ADM_KERNELS_DISTANCE_LOADS_CUH
#define ADM_KERNELS_DISTANCE_LOADS_CUH

#include "kernels/gpu/common.cuh"

enum { DISTANCE_WARPS = 8, MAX_GROUP = 64 /* query heads per KV head */, LOAD_BYTES = 4096, MAX_STAGES = 8 };

/* A position in the line of loads. */
typedef struct distance_position {
    uint32_t b, kv_head, load;
    uint32_t length, n_loads; /* of sequence b */
} distance_position;

template <int W> struct distance_load {
    static const int tiles = LOAD_BYTES / (256 * W);
    static const int tokens = 32 * tiles;
};

/* Loads of a KV head of so many tokens. */
template <int W> static __device__ __forceinline__ uint32_t loads_of(uint32_t length) {
    return (length + distance_load<W>::tokens - 1) / distance_load<W>::tokens;
}

/* To the first load of sequence at->b, or of the next one that has tokens. */
template <int W>
static __device__ __forceinline__ void enter_sequence(const adm_gpu_shape &s, const uint32_t *length, distance_position *at) {
    at->length = at->n_loads = 0;
    while (at->b < s.batch && at->n_loads == 0) {
        at->length = length[at->b];
        at->n_loads = loads_of<W>(at->length);
        if (at->n_loads == 0) at->b++;
    }
}

template <int W>
static __device__ __forceinline__ void advance(const adm_gpu_shape &s, const uint32_t *length, distance_position *at) {
    if (++at->load < at->n_loads) return;
    at->load = 0;
    if (++at->kv_head < s.heads.n_kv_heads) return;
    at->kv_head = 0;
    at->b++;
    enter_sequence<W>(s, length, at);
}

/* The first position of this warp's range of n loads; every lane the same. */
template <int W>
static __device__ __forceinline__ distance_position range_of(const adm_gpu_shape &s, const uint32_t *length, uint32_t warp,
                                                             uint32_t n_warps, uint32_t *n) {
    const uint32_t lane = threadIdx.x % 32;
    uint64_t end[2], total = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) { /* lane l knows where sequences l and l + 32 end in the line */
        const uint32_t b = lane + 32 * i;
        uint64_t upto = b < s.batch ? (uint64_t)loads_of<W>(length[b]) * s.heads.n_kv_heads : 0;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            const uint64_t other = __shfl_up_sync(ADM_FULL_WARP, upto, step);
            if (lane >= step) upto += other;
        }
        end[i] = total + upto;
        total += __shfl_sync(ADM_FULL_WARP, upto, 31);
    }
    const uint64_t first = warp * total / n_warps;
    *n = (uint32_t)((warp + 1) * total / n_warps - first);
    distance_position at = {};
    at.b = __popc(__ballot_sync(ADM_FULL_WARP, end[0] <= first)) + __popc(__ballot_sync(ADM_FULL_WARP, end[1] <= first));
    at.b = min(at.b, s.batch); /* sequences beyond the batch end where the line does */
    const uint32_t before = at.b == 0 ? 0 : at.b - 1;
    uint64_t start = __shfl_sync(ADM_FULL_WARP, before < 32 ? end[0] : end[1], before % 32);
    if (at.b == 0) start = 0;
    if (at.b < s.batch) {
        at.length = length[at.b];
        at.n_loads = loads_of<W>(at.length);
        at.kv_head = (uint32_t)((first - start) / at.n_loads);
        at.load = (uint32_t)((first - start) % at.n_loads);
    }
    return at;
}

template <int W>
static __device__ __forceinline__ const unsigned char *codes_at(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                const distance_position &at) {
    const size_t head = (size_t)at.b * s.heads.n_kv_heads + at.kv_head;
    return (const unsigned char *)(p.planes + head * (s.capacity / 32) * (64 * W)) + (size_t)at.load * LOAD_BYTES;
}

/* Tiles of a load that hold tokens. */
template <int W> static __device__ __forceinline__ uint32_t tiles_at(const distance_position &at) {
    return min((at.length + 31) / 32 - at.load * distance_load<W>::tiles, (uint32_t)distance_load<W>::tiles);
}

/* ---- the ring of loads, which sm_90 and later have ---- */

typedef struct distance_ring {
    unsigned char *bytes; /* [stages] loads */
    uint64_t *barrier; /* [stages] */
    uint32_t stages, buffer, parity; /* which load is next */
    uint32_t n_all, n_ahead; /* loads of the range, and those asked for */
    distance_position ahead; /* the first that is not */
} distance_ring;

#if __CUDA_ARCH__ >= 900

static __device__ __forceinline__ distance_ring ring_of(unsigned char *shared, uint64_t *barriers, uint32_t warp,
                                                        uint32_t stages, const distance_position &at, uint32_t n_all) {
    return distance_ring{shared + warp * stages * LOAD_BYTES, barriers + warp * MAX_STAGES, stages, 0, 0, n_all, 0, at};
}

/* Asks for the next load, of which the first `bytes` hold tokens. Codes are read once: they are to leave the L2 before the
 * distances do, which top-k reads next. */
template <int W>
static __device__ __forceinline__ void ask_ahead(const adm_gpu_shape &s, const adm_gpu_buffers &p, distance_ring *ring,
                                                 uint32_t slot, uint32_t bytes) {
    adm_barrier_expect(&ring->barrier[slot], bytes);
    adm_bulk_copy_expected(ring->bytes + slot * LOAD_BYTES, codes_at<W>(s, p, ring->ahead), bytes, &ring->barrier[slot],
                           adm_copy_policy(true));
    advance<W>(s, p.length, &ring->ahead);
}

/* Asks for what may be read before the wait, waits, and asks for the rest that there is room for. */
template <int W>
static __device__ __forceinline__ void start_ring(const adm_gpu_shape &s, const adm_gpu_buffers &p, distance_ring *ring) {
    const uint32_t n = min(ring->stages, ring->n_all);
    const bool asks = threadIdx.x % 32 == 0;
    if (asks) {
        for (uint32_t i = 0; i < ring->stages; i++) adm_barrier_init(&ring->barrier[i]);
        adm_barrier_fence();
        for (uint32_t &i = ring->n_ahead;
             i < n && adm_settled((ring->ahead.load + 1) * distance_load<W>::tokens, ring->ahead.length); i++) {
            ask_ahead<W>(s, p, ring, i, LOAD_BYTES);
        }
    }
    adm_wait_for_predecessors();
    if (asks)
        for (uint32_t &i = ring->n_ahead; i < n; i++) {
            ask_ahead<W>(s, p, ring, i, tiles_at<W>(ring->ahead) * (256 * W));
        }
    __syncwarp();
}

/* The next load, once it is there. */
static __device__ __forceinline__ const uint32_t *next_of_ring(const distance_ring &ring) {
    adm_barrier_wait(&ring.barrier[ring.buffer], ring.parity);
    return (const uint32_t *)(ring.bytes + ring.buffer * LOAD_BYTES);
}

/* The load is read, and what came of it used: asks for another to its place. */
template <int W>
static __device__ __forceinline__ void refill_ring(const adm_gpu_shape &s, const adm_gpu_buffers &p, distance_ring *ring) {
    __syncwarp();
    if (threadIdx.x % 32 == 0 && ring->n_ahead < ring->n_all) {
        ask_ahead<W>(s, p, ring, ring->buffer, tiles_at<W>(ring->ahead) * (256 * W));
        ring->n_ahead++;
    }
    if (++ring->buffer == ring->stages) ring->buffer = 0, ring->parity ^= 1;
}

#endif

/* How both kernels begin: this warp's range of n loads, the first of them asked for, and the kernel before waited for. */
template <int W>
static __device__ __forceinline__ distance_position start_range(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                uint32_t stages, uint32_t warp, unsigned char *shared,
                                                                distance_ring *ring, uint32_t *n) {
    adm_start_dependents();
    const distance_position at = range_of<W>(s, p.length, blockIdx.x * DISTANCE_WARPS + warp, gridDim.x * DISTANCE_WARPS, n);
#if __CUDA_ARCH__ >= 900
    __shared__ uint64_t barriers[DISTANCE_WARPS * MAX_STAGES];
    *ring = ring_of(shared, barriers, warp, stages, at, *n);
    start_ring<W>(s, p, ring);
#else
    adm_wait_for_predecessors();
#endif
    return at;
}

#endif
