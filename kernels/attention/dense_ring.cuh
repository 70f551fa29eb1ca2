/* dense_ring.cuh: how tiles of K and V come into a warp's ring in shared memory, for dense.cu. A warp asks for its tiles
 * itself, so that no two warps wait for one another. */
#ifndef ADM_KERNELS_ATTENTION_DENSE_RING_CUH
#define ADM_KERNELS_ATTENTION_DENSE_RING_CUH

#include "kernels/attention/dense_line.cuh"

template <int D> __host__ __device__ constexpr unsigned dense_part_bytes(void) { return ADM_TILE * D * 2; }

/* What is asked for runs ahead of what is read by as many tiles as the ring has stages. */
struct dense_ring {
    char *tiles; /* [stages][K | V] */
    uint64_t *arrivals; /* [stages] */
    uint32_t kv_bytes; /* of K of a tile, and of V */
    uint64_t policy;
    dense_segment asked; /* the tile that is asked for next */
    uint32_t asked_tile;
    uint32_t stage, parity; /* where the tile is that is read next */
};

static __device__ __forceinline__ char *dense_k_of(const dense_ring &ring, uint32_t stage) {
    return ring.tiles + stage * 2 * ring.kv_bytes;
}

/* Moves on to the next item where this one has no more tiles for the warp. False: nor has the chunk. */
static __device__ __forceinline__ bool dense_one_to_ask(dense_ring *ring, const dense_line &line, const dense_chunk &chunk) {
    while (ring->asked_tile >= ring->asked.end) {
        const uint32_t next = min(ring->asked.item_end, chunk.end);
        if (next >= chunk.end) return false;
        ring->asked = dense_segment_at(line, next, chunk.end);
        ring->asked_tile = ring->asked.first + chunk.first;
    }
    return true;
}

/* Asks for the next tile. Rows behind the last token hold the last token's values: their weight is 0, and so must their product
 * be. Before Hopper, and where BULK is false, every lane copies its share, and the caller commits. */
template <int D, bool BULK>
__device__ __forceinline__ void dense_ask(const adm_gpu_shape &s, const adm_gpu_buffers &buffers, const dense_cut &cut,
                                          uint32_t passes, dense_ring *ring, uint32_t step, uint32_t stage, unsigned lane) {
    const dense_segment &g = ring->asked;
    const uint32_t tokens = cut.parts * ADM_TILE, first = ring->asked_tile * tokens, kv_head = g.item_of_sequence / passes;
    char *const k = dense_k_of(*ring, stage), *const v = k + ring->kv_bytes;
    ring->asked_tile += step;
    if (!BULK) {
        for (uint32_t i = lane; i < tokens * (D / 8); i += 32) {
            const uint32_t row = adm_tile_row(s, buffers.page_table, g.b, kv_head, min(first + i / (D / 8), g.length - 1));
            const size_t from = (size_t)row * (D * 2) + i % (D / 8) * 16;
            adm_copy16(k + i * 16, (const char *)buffers.k + from);
            adm_copy16(v + i * 16, (const char *)buffers.v + from);
        }
        return;
    }
#if __CUDA_ARCH__ >= 900
    uint64_t *const arrived = ring->arrivals + stage;
    if (lane == 0) adm_barrier_expect(arrived, 2 * ring->kv_bytes);
    if (first + tokens <= g.length && (s.page_size == 0 || s.page_size % tokens == 0)) {
        if (lane > 0) return;
        const size_t from = (size_t)adm_tile_row(s, buffers.page_table, g.b, kv_head, first) * (D * 2);
        adm_bulk_copy_expected(k, (const char *)buffers.k + from, ring->kv_bytes, arrived, ring->policy);
        adm_bulk_copy_expected(v, (const char *)buffers.v + from, ring->kv_bytes, arrived, ring->policy);
        return;
    }
    __syncwarp();
    for (uint32_t i = lane; i < tokens; i += 32) {
        const uint32_t row = adm_tile_row(s, buffers.page_table, g.b, kv_head, min(first + i, g.length - 1));
        const size_t from = (size_t)row * (D * 2);
        adm_bulk_copy_expected(k + i * (D * 2), (const char *)buffers.k + from, D * 2, arrived, ring->policy);
        adm_bulk_copy_expected(v + i * (D * 2), (const char *)buffers.v + from, D * 2, arrived, ring->policy);
    }
#endif
}

/* Prepares a warp's ring and fills it, while the kernel before this one ends, but for what holds the newest two tokens; then
 * waits for that kernel. */
template <int D, bool BULK>
__device__ __forceinline__ void dense_fill(const adm_gpu_shape &s, const adm_gpu_buffers &buffers, const dense_cut &cut,
                                           const dense_heads &h, const dense_line &line, const dense_chunk &chunk,
                                           dense_ring *ring, unsigned lane) {
    const uint32_t tokens = cut.parts * ADM_TILE;
    ring->policy = 0;
#if __CUDA_ARCH__ >= 900
    ring->policy = adm_copy_policy(h.passes == 1); /* K and V are read once, but where a group takes several passes */
    if (BULK) {
        if (lane == 0) {
            for (uint32_t i = 0; i < cut.stages; i++) adm_barrier_init(ring->arrivals + i);
            adm_barrier_fence();
        }
        __syncwarp();
    }
    if (cut.team > 1) adm_cluster_arrive_relaxed();
#endif
    ring->stage = ring->parity = 0;
    ring->asked = dense_segment_at(line, chunk.begin, chunk.end);
    ring->asked_tile = ring->asked.first + chunk.first;
    uint32_t n = 0;
    for (; n < cut.stages && dense_one_to_ask(ring, line, chunk) &&
           adm_settled((ring->asked_tile + 1) * tokens, ring->asked.length);
         n++) {
        dense_ask<D, BULK>(s, buffers, cut, h.passes, ring, chunk.step, n, lane);
        if (!BULK) adm_copy_commit();
    }
    adm_wait_for_predecessors();
    for (; n < cut.stages; n++) {
        if (dense_one_to_ask(ring, line, chunk)) dense_ask<D, BULK>(s, buffers, cut, h.passes, ring, chunk.step, n, lane);
        if (!BULK) adm_copy_commit();
    }
}

/* Returns when the next tile is there. */
template <bool BULK> __device__ __forceinline__ void dense_await(const dense_ring &ring, const dense_cut &cut) {
#if __CUDA_ARCH__ >= 900
    if (BULK) adm_barrier_wait(ring.arrivals + ring.stage, ring.parity);
#endif
    if (BULK) return;
    if (cut.stages == 2) adm_copy_wait<1>();
    else if (cut.stages == 3) adm_copy_wait<2>();
    else adm_copy_wait<0>();
    __syncwarp();
}

#endif
