/* grouped_scan.cuh: the grouped step's scan, from codes to counts, and the exchanges that find each head's cut. For grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_SCAN_CUH
#define ADM_KERNELS_STEP_GROUPED_SCAN_CUH

#include "kernels/step/grouped.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* Shared memory by what it holds. */
typedef struct grouped_memory {
    unsigned char *ring;
    uint32_t *bins;       /* [kept][N][threads] pairs */
    uint32_t *lists;      /* [warps][room] */
    uint32_t *histogram;  /* [4 or 8 heads][stride] */
    uint32_t *coarse;     /* [split][heads][32] pairs, twice */
    uint32_t *fine;       /* [split][heads][pairs] */
    uint32_t *maps;       /* [nearer, tied][heads][map_words], a bit a token of the block */
    uint32_t *winners;    /* [heads][share] */
    float *merge;         /* [units / split][split][GROUPED_UNIT] */
    grouped_small *small;
} grouped_memory;

static __device__ __forceinline__ grouped_memory grouped_memory_of(const grouped_plan &plan, unsigned char *shared,
                                                                   grouped_small *small) {
    grouped_memory m;
    m.ring = shared + plan.ring_at;
    m.bins = (uint32_t *)(shared + plan.bins_at);
    m.lists = (uint32_t *)(shared + plan.lists_at);
    m.histogram = (uint32_t *)(shared + plan.histogram_at);
    m.coarse = (uint32_t *)(shared + plan.coarse_at);
    m.fine = (uint32_t *)(shared + plan.fine_at);
    m.maps = (uint32_t *)(shared + plan.maps_at);
    m.winners = (uint32_t *)(shared + plan.winners_at);
    m.merge = (float *)(shared + plan.merge_at);
    m.small = small;
    return m;
}

/* ---- exchanges ---- */

/* How many of the block's tokens are in coarse bins up to 2 lane and up to 2 lane + 1, by one warp, 16 bits each. */
template <int D> static __device__ __forceinline__ uint32_t grouped_coarse_counts(const uint32_t *histogram) {
    const int n = 1 << grouped_dim<D>::shift;
    const uint4 *bins = (const uint4 *)(histogram + threadIdx.x % 32 * (2 * n));
    uint32_t even = 0, odd = 0;
#pragma unroll
    for (int i = 0; i < n / 4; i++) {
        const uint4 x = bins[i], y = bins[n / 4 + i];
        even += x.x + x.y + x.z + x.w;
        odd += y.x + y.y + y.z + y.w;
    }
    const uint32_t through = adm_warp_scan(even + odd);
    return (through - odd) | through << 16;
}

/* Counts of head `head` to all blocks of the cluster, by `n` warps, of which this is `which`. */
template <int D>
static __device__ __forceinline__ void grouped_push_coarse(const grouped_block &me, const grouped_plan &plan,
                                                           const uint32_t *histogram, uint32_t head, uint32_t which, uint32_t n,
                                                           uint32_t *coarse, uint64_t *barrier) {
    const uint32_t counts = grouped_coarse_counts<D>(histogram + head * grouped_dim<D>::stride);
    uint32_t *to = coarse + (me.rank * plan.heads + head) * 32 + threadIdx.x % 32;
#pragma unroll 4
    for (uint32_t r = which; r < plan.split; r += n) adm_push(to, counts, r, barrier);
}

/* The first coarse bin by which `need` of the row's tokens are counted; GROUPED_COARSE: not so many are counted at all. */
static __device__ __forceinline__ uint32_t grouped_reached(const grouped_plan &plan, const uint32_t *coarse, uint32_t head,
                                                           uint32_t need) {
    uint32_t even = 0, odd = 0;
#pragma unroll 8
    for (uint32_t r = 0; r < plan.split; r++) {
        const uint32_t counts = coarse[(r * plan.heads + head) * 32 + threadIdx.x % 32];
        even += counts & 0xffffu, odd += counts >> 16;
    }
    const uint32_t short_even = __ballot_sync(ADM_FULL_WARP, even < need), short_odd = __ballot_sync(ADM_FULL_WARP, odd < need);
    return __popc(short_even) + __popc(short_odd);
}

/* One warp finds the cut of its head, whose coarse counts have come: exchanges those of the bins within the coarse bin. */
template <int D>
static __device__ __forceinline__ void grouped_find_cut(const grouped_block &me, const grouped_plan &plan,
                                                        const grouped_memory &m, uint32_t head) {
    const uint32_t n = 1u << grouped_dim<D>::shift, lane = threadIdx.x % 32, word = lane % (n / 2);
    const uint32_t bin = grouped_reached(plan, m.coarse, head, me.need);
    const uint32_t *own = m.histogram + head * grouped_dim<D>::stride + bin * n;
    uint32_t before = 0;
#pragma unroll
    for (uint32_t j = 0; j < n - 1; j++) before += j <= 2 * word ? own[j] : 0;
    const uint32_t pair = before | (before + own[2 * word + 1]) << 16;
    uint32_t *to = m.fine + (me.rank * plan.heads + head) * (n / 2) + word;
#pragma unroll 2
    for (uint32_t r = lane / (n / 2); r < plan.split; r += 64 / n) adm_push(to, pair, r, &m.small->fine);
    uint32_t below = 0; /* of block `lane`, before the coarse bin */
    if (lane < plan.split && bin > 0) below = ((const uint16_t *)(m.coarse + (lane * plan.heads + head) * 32))[bin - 1];
    const uint32_t need = me.need - __reduce_add_sync(ADM_FULL_WARP, below);
    adm_barrier_wait_pushed(&m.small->fine, 0);
    const uint16_t *counts = (const uint16_t *)m.fine;
    uint32_t all = 0; /* of bin lane % n, a part of the blocks each */
#pragma unroll 4
    for (uint32_t r = lane / n; r < plan.split; r += 32 / n) all += counts[(r * plan.heads + head) * n + lane % n];
#pragma unroll
    for (uint32_t step = n; step < 32; step *= 2) all += __shfl_xor_sync(ADM_FULL_WARP, all, step);
    const uint32_t at = __popc(__ballot_sync(ADM_FULL_WARP, lane < n && all < need));
    uint32_t nearer = 0, tied = 0;
    if (lane < plan.split) {
        const uint16_t *its = counts + (lane * plan.heads + head) * n;
        nearer = at > 0 ? its[at - 1] : 0;
        tied = its[at] - nearer;
        nearer += below;
    }
    const uint32_t n_nearer = __reduce_add_sync(ADM_FULL_WARP, nearer), n_tied = __reduce_add_sync(ADM_FULL_WARP, tied);
    const uint32_t rank = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? nearer : 0);
    const uint32_t ties = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? tied : 0);
    if (lane == 0) m.small->cut[head] = adm_cut{bin * n + at, n_tied - (me.need - n_nearer), rank, ties};
}

/* ---- the scan ---- */

/* Where a warp is in the ring. */
typedef struct grouped_place {
    uint32_t slot, parity;
} grouped_place;

/* The bins of this warp's tiles in two pieces, i and i + 1, whose codes it waits for; of one, twice, where there is only one. */
template <int D, int N>
static __device__ __forceinline__ void grouped_two_tiles(const grouped_block &me, const grouped_memory &m, uint32_t i,
                                                         const grouped_place &place, const grouped_query<D, N> &q,
                                                         uint32_t (&first)[2][N], uint32_t (&second)[2][N]) {
    const uint32_t words = grouped_dim<D>::tile_words, tile = i * GROUPED_WARPS + me.warp;
    const uint32_t *codes = (const uint32_t *)m.ring + (place.slot * GROUPED_WARPS + me.warp) * words;
    const bool both = tile + GROUPED_WARPS < me.n_tiles;
    adm_barrier_wait(&m.small->full[place.slot], place.parity);
    if (both) adm_barrier_wait(&m.small->full[place.slot + 1], place.parity);
    grouped_bins<D, N>(codes, q, first[0], second[0]);
    grouped_bins<D, N>(both ? codes + GROUPED_WARPS * words : codes, q, first[1], second[1]);
    const uint32_t token = (me.first_tile + tile) * 32;
    if (token >= me.contest.first && token + GROUPED_THREADS + 32 <= me.contest.last) return;
    grouped_correct<D, N>(me, tile, first[0], second[0]);
    grouped_correct<D, N>(me, tile + GROUPED_WARPS, first[1], second[1]);
}

/* Two pieces have been read: their slots may be filled again. */
template <int D>
static __device__ __forceinline__ void grouped_release(const grouped_block &me, const grouped_plan &plan, const uint32_t *planes,
                                                       const grouped_memory &m, uint32_t i, grouped_place *place) {
    if (me.pieces > plan.slots) {
        const bool mine = threadIdx.x % 32 == 0;
        __syncwarp();
        if (mine) grouped_barrier_arrive(&m.small->empty[place->slot]);
        if (i / 2 % GROUPED_WARPS == me.warp && i + plan.slots < me.pieces) {
            adm_barrier_wait(&m.small->empty[place->slot], place->parity);
            if (mine) {
                grouped_fetch<D>(me, planes, i + plan.slots, place->slot, m.ring, m.small);
                if (i + plan.slots + 1 < me.pieces)
                    grouped_fetch<D>(me, planes, i + plan.slots + 1, place->slot + 1, m.ring, m.small);
            }
            __syncwarp();
        }
    }
    place->slot += 2;
    if (place->slot == plan.slots) place->slot = 0, place->parity ^= 1;
}

/* The bounds of all heads, once their counts have come: no token beyond can win, as enough are known that do not lie beyond. */
template <int D>
static __device__ __forceinline__ void grouped_find_bounds(const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m) {
    if (me.warp < me.heads) {
        adm_barrier_wait_pushed(&m.small->bounded, 0);
        const uint32_t bin = grouped_reached(plan, m.coarse + plan.split * plan.heads * 32, me.warp, me.need);
        if (threadIdx.x % 32 == 0)
            m.small->bound[me.warp] = (int32_t)min((bin + 1) << grouped_dim<D>::shift, (uint32_t)grouped_dim<D>::absent) - 1;
    }
    __syncthreads();
}

/* Lists and counts a warp's candidates among tokens of which each lane has one. n: listed so far. */
template <int D>
static __device__ __forceinline__ void grouped_list(const grouped_plan &plan, const grouped_memory &m, uint32_t *list, uint32_t head,
                                                    uint32_t at, uint32_t bin, int32_t bound, uint32_t *n) {
    const bool candidate = (int32_t)bin <= bound;
    const uint32_t votes = __ballot_sync(ADM_FULL_WARP, candidate);
    if (votes == 0) return;
    const uint32_t place = *n + __popc(votes & ((1u << threadIdx.x % 32) - 1));
    if (candidate) {
        atomicAdd(&m.histogram[head * grouped_dim<D>::stride + bin], 1u);
        if (place < plan.room) list[place] = (at << 3 | head) << GROUPED_BIN_BITS | bin;
    }
    *n += __popc(votes);
}

/* All of the block's codes to bins, counts and lists. */
template <int D, int N>
static __device__ __forceinline__ void grouped_scan(const grouped_block &me, const grouped_plan &plan, const uint32_t *planes,
                                                    const grouped_memory &m) {
    const int stride = grouped_dim<D>::stride, step = grouped_dim<D>::step;
    const uint32_t most = (((me.length + 31) / 32 + plan.split - 1 >> plan.shift) + GROUPED_WARPS - 1) / GROUPED_WARPS;
    const uint32_t kept = min(me.pieces, plan.kept);
    grouped_query<D, N> q;
    grouped_place place = {0, 0};
    uint32_t first[2][N], second[2][N];
    grouped_columns<D, N>(m.small, &q);
    auto keep = [&](uint32_t from, uint32_t to) {
        for (uint32_t i = from; i < to; i += 2) {
            const uint32_t tile = i * GROUPED_WARPS + me.warp;
            if (tile < me.n_tiles) {
                grouped_two_tiles<D, N>(me, m, i, place, q, first, second);
#pragma unroll
                for (int t = 0; t < 2; t++) {
                    if (tile + t * GROUPED_WARPS >= me.n_tiles) break;
#pragma unroll
                    for (int j = 0; j < N; j++) {
                        uint32_t *counts = m.histogram + grouped_head<D>(j) * stride;
                        m.bins[((i + t) * N + j) * GROUPED_THREADS + threadIdx.x] = first[t][j] | second[t][j] << 16;
                        atomicAdd(&counts[first[t][j]], 1u);
                        atomicAdd(&counts[second[t][j]], 1u);
                    }
                }
            }
            grouped_release<D>(me, plan, planes, m, i, &place);
        }
    };
    if (most <= plan.kept) { /* the usual short row; all blocks of the cluster decide alike */
        keep(0, me.pieces);
        return;
    }
    keep(0, min(plan.sampled, me.pieces));
    __syncthreads();
    if (me.warp < me.heads)
        grouped_push_coarse<D>(me, plan, m.histogram, me.warp, 0, 1, m.coarse + plan.split * plan.heads * 32, &m.small->bounded);
    keep(min(plan.sampled, me.pieces), kept);
    grouped_find_bounds<D>(me, plan, m);
    int32_t bound[N];
#pragma unroll
    for (int j = 0; j < N; j++) bound[j] = grouped_head<D>(j) < me.heads ? m.small->bound[grouped_head<D>(j)] : -1;
    uint32_t *list = m.lists + me.warp * plan.room, n = 0;
    for (uint32_t i = kept; i < me.pieces; i += 2) {
        const uint32_t tile = i * GROUPED_WARPS + me.warp;
        if (tile < me.n_tiles) {
            grouped_two_tiles<D, N>(me, m, i, place, q, first, second);
#pragma unroll
            for (int t = 0; t < 2; t++) {
                if (tile + t * GROUPED_WARPS >= me.n_tiles) break;
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const uint32_t head = grouped_head<D>(j), at = (tile + t * GROUPED_WARPS) * 32 + grouped_token<D>(j);
                    grouped_list<D>(plan, m, list, head, at, first[t][j], bound[j], &n);
                    grouped_list<D>(plan, m, list, head, at + step, second[t][j], bound[j], &n);
                }
            }
        }
        grouped_release<D>(me, plan, planes, m, i, &place);
    }
    if (threadIdx.x % 32 == 0) m.small->listed[me.warp] = n;
}

#endif /* sm_90 */

#endif
