/* grouped_scan.cuh: the grouped step's scan, from codes to counts, and the exchanges that find each head's cut. For
 * grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_SCAN_CUH
#define ADM_KERNELS_STEP_GROUPED_SCAN_CUH

#include "kernels/step/grouped.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* Shared memory by what it holds. */
typedef struct grouped_memory {
    unsigned char *ring;
    uint32_t *bins; /* [kept][N][threads] pairs */
    uint32_t *lists; /* [warps][room] */
    uint32_t *histogram; /* [4 or 8 heads][stride] */
    uint32_t *counts; /* [split][heads][32] pairs of counts, from each block of the cluster */
    uint32_t *bounds; /* the same, of the sampled pieces */
    uint32_t *fine; /* [split][heads][pairs] */
    uint32_t *maps; /* [nearer, tied][heads][map_words], a bit a token of the block */
    uint32_t *winners; /* [heads][share] */
    float *merge; /* [units / split][split][GROUPED_UNIT] */
    grouped_small *small;
} grouped_memory;

static __device__ __forceinline__ grouped_memory grouped_memory_of(const grouped_plan &plan, unsigned char *shared,
                                                                   grouped_small *small) {
    grouped_memory m;
    m.ring = shared + plan.ring_at;
    m.bins = (uint32_t *)(shared + plan.bins_at);
    m.lists = (uint32_t *)(shared + plan.lists_at);
    m.histogram = (uint32_t *)(shared + plan.histogram_at);
    m.counts = (uint32_t *)(shared + plan.counts_at);
    m.bounds = (uint32_t *)(shared + plan.bounds_at);
    m.fine = (uint32_t *)(shared + plan.fine_at);
    m.maps = (uint32_t *)(shared + plan.maps_at);
    m.winners = (uint32_t *)(shared + plan.winners_at);
    m.merge = (float *)(shared + plan.merge_at);
    m.small = small;
    return m;
}

/* ---- a sample ---- */

/* Which tile of the row this warp samples, if the row is worth a bound; else UINT32_MAX. Few tokens may win, or too often all
 * sampled tiles hold one. All blocks of the cluster take the same tiles. */
static __device__ __forceinline__ uint32_t grouped_sampled(const grouped_block &me) {
    const uint32_t first = (me.eligible.first + 31) / 32, last = min(me.eligible.last, me.length < 2 ? 0 : me.length - 2) / 32;
    if (last < first + 128 || me.need > me.length / 24) return UINT32_MAX;
    return first + (last - first) * (2 * me.warp + 1) / (2 * GROUPED_WARPS);
}

/* The smallest bin of each head in this warp's sampled tile. */
template <int D, int N>
static __device__ __forceinline__ void grouped_find_least(const grouped_block &me, const grouped_codes<D> &codes,
                                                          const grouped_query<D, N> &q, grouped_small *small) {
    const int apart = D == 64 ? 1 : 2; /* words of the same head */
    uint32_t first[N], second[N];
    grouped_bins<D, N>(codes, q, first, second);
#pragma unroll
    for (int j = 0; j < N; j += apart) {
        uint32_t least = min(min(first[j], second[j]), min(first[j + apart - 1], second[j + apart - 1]));
        if (D == 64) least = min(least, __shfl_xor_sync(ADM_FULL_WARP, least, 1));
#pragma unroll
        for (int step = 4; step < 32; step *= 2) least = min(least, __shfl_xor_sync(ADM_FULL_WARP, least, step));
        if (threadIdx.x % 32 < 4) small->least[me.warp][grouped_head<D>(j)] = least;
    }
}

/* Up to where the bins of the heads of this lane's words are counted: to the largest of the least bins, which is where about
 * a tenth of the tokens lie, and far beyond the few that win. By the whole warp, once all warps have found theirs. */
template <int D, int N>
static __device__ __forceinline__ void grouped_bounds(const grouped_small *small, uint32_t (&bound)[N]) {
    const int apart = D == 64 ? 1 : 2;
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int j = 0; j < N; j += apart) {
        const uint32_t head = grouped_head<D>(j);
        uint32_t least = max(small->least[lane / 4][head], small->least[8 + lane / 4][head]);
#pragma unroll
        for (int step = 4; step < 32; step *= 2) least = max(least, __shfl_xor_sync(ADM_FULL_WARP, least, step));
        bound[j] = bound[j + apart - 1] = least;
    }
}

/* ---- exchanges ---- */

/* How many of the block's tokens are in bins up to from + 2 lane and up to from + 2 lane + 1, by one warp, 16 bits each. */
static __device__ __forceinline__ uint32_t grouped_window_counts(const uint32_t *histogram, uint32_t from) {
    const uint32_t lane = threadIdx.x % 32, even = histogram[from + 2 * lane], odd = histogram[from + 2 * lane + 1];
    uint32_t before = 0;
#pragma unroll 4
    for (uint32_t i = lane; i < from; i += 32) before += histogram[i];
    const uint32_t through = adm_warp_scan(even + odd) + __reduce_add_sync(ADM_FULL_WARP, before);
    return (through - odd) | through << 16;
}

/* The first bin of the exchange of a head whose bins are counted up to `bound`. */
static __device__ __forceinline__ uint32_t grouped_window(uint32_t bound) {
    return bound < GROUPED_COARSE ? 0 : bound - (GROUPED_COARSE - 1);
}

/* The same for coarse bins, from 0. */
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

/* A warp's counts of a head to all blocks of the cluster, with n - 1 other warps, of which this is `which`. */
static __device__ __forceinline__ void grouped_push_counts(const grouped_block &me, const grouped_plan &plan, uint32_t counts,
                                                           uint32_t head, uint32_t which, uint32_t n, uint32_t *to,
                                                           uint64_t *barrier) {
    to += (me.rank * plan.heads + head) * 32 + threadIdx.x % 32;
#pragma unroll 4
    for (uint32_t r = which; r < plan.split; r += n) adm_push(to, counts, r, barrier);
}

/* The first of the exchanged bins by which `need` of the row's tokens are counted; GROUPED_COARSE: not so many are counted. */
static __device__ __forceinline__ uint32_t grouped_reached(const grouped_plan &plan, const uint32_t *pairs, uint32_t head,
                                                           uint32_t need) {
    uint32_t even = 0, odd = 0;
#pragma unroll 8
    for (uint32_t r = 0; r < plan.split; r++) {
        const uint32_t counts = pairs[(r * plan.heads + head) * 32 + threadIdx.x % 32];
        even += counts & 0xffffu, odd += counts >> 16;
    }
    const uint32_t short_even = __ballot_sync(ADM_FULL_WARP, even < need), short_odd = __ballot_sync(ADM_FULL_WARP, odd < need);
    return __popc(short_even) + __popc(short_odd);
}

/* From one lane a block: its winners for sure, and its ties at bin `boundary`. */
static __device__ __forceinline__ void grouped_put_cut(const grouped_block &me, uint32_t boundary, uint32_t nearer,
                                                       uint32_t tied, adm_row_cut *cut) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t n_nearer = __reduce_add_sync(ADM_FULL_WARP, nearer), n_tied = __reduce_add_sync(ADM_FULL_WARP, tied);
    const uint32_t rank = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? nearer : 0);
    const uint32_t ties = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? tied : 0);
    if (lane == 0) *cut = adm_row_cut{boundary, n_tied - (me.need - n_nearer), rank, ties};
}

/* One warp finds the cut of its head, whose counts of single bins have come. Boundary UINT32_MAX: it is not among them. */
static __device__ __forceinline__ void grouped_find_cut(const grouped_block &me, const grouped_plan &plan,
                                                        const grouped_memory &m, uint32_t from, uint32_t head) {
    const uint32_t lane = threadIdx.x % 32, at = grouped_reached(plan, m.counts, head, me.need);
    if (from + at > m.small->bound[head] || (at == 0 && from > 0)) {
        if (lane == 0) m.small->cut[head].boundary = UINT32_MAX;
        return;
    }
    uint32_t nearer = 0, tied = 0;
    if (lane < plan.split) {
        const uint16_t *its = (const uint16_t *)(m.counts + (lane * plan.heads + head) * 32);
        nearer = at > 0 ? its[at - 1] : 0;
        tied = its[at] - nearer;
    }
    grouped_put_cut(me, from + at, nearer, tied, &m.small->cut[head]);
}

/* The same from coarse counts: exchanges those of the bins within the coarse bin. */
template <int D>
static __device__ __forceinline__ void grouped_find_cut_within(const grouped_block &me, const grouped_plan &plan,
                                                               const grouped_memory &m, uint32_t head) {
    const uint32_t n = 1u << grouped_dim<D>::shift, lane = threadIdx.x % 32, word = lane % (n / 2);
    const uint32_t bin = grouped_reached(plan, m.counts, head, me.need);
    const uint32_t *own = m.histogram + head * grouped_dim<D>::stride + bin * n;
    uint32_t before = 0;
#pragma unroll
    for (uint32_t j = 0; j < n - 1; j++) before += j <= 2 * word ? own[j] : 0;
    const uint32_t pair = before | (before + own[2 * word + 1]) << 16;
    uint32_t *to = m.fine + (me.rank * plan.heads + head) * (n / 2) + word;
#pragma unroll 2
    for (uint32_t r = lane / (n / 2); r < plan.split; r += 64 / n) adm_push(to, pair, r, &m.small->fine);
    uint32_t below = 0; /* of block `lane`, before the coarse bin */
    if (lane < plan.split && bin > 0) below = ((const uint16_t *)(m.counts + (lane * plan.heads + head) * 32))[bin - 1];
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
    grouped_put_cut(me, bin * n + at, nearer, tied, &m.small->cut[head]);
}

/* ---- the scan ---- */

/* Where a warp is in its ring. */
typedef struct grouped_place {
    uint32_t slot, parity;
} grouped_place;

/* The bins of the warp's tiles i and i + 1 (of the first twice, where there is no other), whose codes it waits for, and in
 * whose place it asks for others: of two at once, since each is a chain of latencies. */
template <int D, int N>
static __device__ __forceinline__ void grouped_next_tiles(const grouped_block &me, const grouped_plan &plan,
                                                          const uint32_t *planes, const grouped_memory &m, uint32_t i,
                                                          grouped_place *place, const grouped_query<D, N> &q,
                                                          uint32_t (&first)[2][N], uint32_t (&second)[2][N]) {
    const uint32_t tile = i * GROUPED_WARPS + me.warp;
    const bool both = tile + GROUPED_WARPS < me.n_tiles;
    const uint32_t *codes = grouped_slot<D>(me, plan, place->slot, m.ring);
    grouped_codes<D> one, other;
    adm_barrier_wait(&m.small->full[me.warp][place->slot], place->parity);
    if (both) adm_barrier_wait(&m.small->full[me.warp][place->slot + 1], place->parity);
    grouped_read<D>(codes, &one);
    grouped_read<D>(both ? codes + grouped_dim<D>::tile_words : codes, &other);
    const uint32_t slot = place->slot;
    place->slot += 2;
    if (place->slot == plan.slots) place->slot = 0, place->parity ^= 1;
    grouped_bins<D, N>(one, q, first[0], second[0]);
    grouped_bins<D, N>(other, q, first[1], second[1]);
    if (tile + plan.slots * GROUPED_WARPS <
        me.n_tiles) { /* only now: what was read has been used, so it is not still on its way */
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            grouped_fetch<D>(me, plan, planes, i + plan.slots, slot, m.ring, m.small);
            if (tile + (plan.slots + 1) * GROUPED_WARPS < me.n_tiles)
                grouped_fetch<D>(me, plan, planes, i + plan.slots + 1, slot + 1, m.ring, m.small);
        }
    }
    const uint32_t token = (me.first_tile + tile) * 32;
    if (token >= me.eligible.first && token + GROUPED_THREADS + 32 <= me.eligible.last) return;
    grouped_correct<D, N>(me, tile, first[0], second[0]);
    grouped_correct<D, N>(me, tile + GROUPED_WARPS, first[1], second[1]);
}

/* Tighter bounds of all heads, once their counts have come: no token beyond can win, as enough are known that do not lie
 * beyond. */
template <int D>
static __device__ __forceinline__ void grouped_find_bounds(const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m) {
    if (me.warp < me.heads) {
        const uint32_t bound = m.small->bound[me.warp];
        adm_barrier_wait_pushed(&m.small->bounded, 0);
        const uint32_t at = grouped_reached(plan, m.bounds, me.warp, me.need);
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            m.small->listing[me.warp] = grouped_window(bound) + at <= bound ? grouped_window(bound) + at + 1
                                                                            : (uint32_t)grouped_dim<D>::absent;
    }
    __syncthreads();
}

/* Lists and counts a warp's candidates among tokens of which each lane has one. n: listed so far. */
template <int D>
static __device__ __forceinline__ void grouped_list(const grouped_plan &plan, const grouped_memory &m, uint32_t *list,
                                                    uint32_t head, uint32_t at, uint32_t bin, uint32_t bound, uint32_t *n) {
    const bool candidate = bin < bound; /* here the first that is none */
    const uint32_t votes = __ballot_sync(ADM_FULL_WARP, candidate);
    if (votes == 0) return;
    const uint32_t place = *n + __popc(votes & ((1u << threadIdx.x % 32) - 1));
    if (candidate) {
        atomicAdd(&m.histogram[head * grouped_dim<D>::stride + bin], 1u);
        if (place < plan.room) list[place] = (at << 3 | head) << GROUPED_BIN_BITS | bin;
    }
    *n += __popc(votes);
}

/* All of the block's codes to bins, counts and lists. sample: of the row, if it is sampled. */
template <int D, int N>
static __device__ __forceinline__ void grouped_scan(const grouped_block &me, const grouped_plan &plan, const uint32_t *planes,
                                                    const grouped_memory &m, bool sampled, const grouped_codes<D> &sample) {
    const uint32_t most = (((me.length + 31) / 32 + plan.split - 1 >> plan.shift) + GROUPED_WARPS - 1) / GROUPED_WARPS;
    const bool lists = most > plan.kept; /* all blocks of the cluster decide alike */
    grouped_query<D, N> q;
    grouped_place place = {0, 0};
    uint32_t bound[N], first[2][N], second[2][N], n = 0;
    grouped_columns<D, N>(m.small, &q);
#pragma unroll
    for (int j = 0; j < N; j++) bound[j] = grouped_dim<D>::absent - 1;
    if (sampled) {
        grouped_find_least<D, N>(me, sample, q, m.small);
        __syncthreads();
        grouped_bounds<D, N>(m.small, bound);
    }
#pragma unroll
    for (int j = 0; j < N; j++)
        if (me.warp == 0 && grouped_head<D>(j) < me.heads)
            m.small->bound[grouped_head<D>(j)] = bound[j]; /* for after the scan */
#pragma unroll 1
    for (uint32_t i = 0;; i += 2) {
        if (lists && i == plan.sampled) {
            __syncthreads();
            if (me.warp < me.heads) {
                const uint32_t from = grouped_window(m.small->bound[me.warp]);
                const uint32_t counts = grouped_window_counts(m.histogram + me.warp * grouped_dim<D>::stride, from);
                grouped_push_counts(me, plan, counts, me.warp, 0, 1, m.bounds, &m.small->bounded);
            }
        }
        if (lists && i == plan.kept) {
            grouped_find_bounds<D>(me, plan, m);
#pragma unroll
            for (int j = 0; j < N; j++) bound[j] = grouped_head<D>(j) < me.heads ? m.small->listing[grouped_head<D>(j)] : 0;
        }
        if (i >= me.pieces) {
            if (lists && i < plan.kept) continue; /* a piece less than another block: still to find the bounds */
            break;
        }
        const uint32_t tile = i * GROUPED_WARPS + me.warp;
        if (tile >= me.n_tiles) continue;
        grouped_next_tiles<D, N>(me, plan, planes, m, i, &place, q, first, second);
        if (i < plan.kept) {
#pragma unroll
            for (int t = 0; t < 2; t++) {
                if (tile + t * GROUPED_WARPS >= me.n_tiles) break;
#pragma unroll
                for (int j = 0; j < N; j++) {
                    uint32_t *counts = m.histogram + grouped_head<D>(j) * grouped_dim<D>::stride;
                    m.bins[((i + t) * N + j) * GROUPED_THREADS + threadIdx.x] = __byte_perm(first[t][j], second[t][j], 0x5410);
                    atomicAdd(&counts[min(first[t][j], bound[j] + 1)], 1u); /* those beyond together: cheaper than a branch */
                    atomicAdd(&counts[min(second[t][j], bound[j] + 1)], 1u);
                }
            }
        } else {
#pragma unroll
            for (int t = 0; t < 2; t++) {
                if (tile + t * GROUPED_WARPS >= me.n_tiles) break;
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const uint32_t head = grouped_head<D>(j), at = (tile + t * GROUPED_WARPS) * 32 + grouped_token<D>(j);
                    uint32_t *list = m.lists + me.warp * plan.room;
                    grouped_list<D>(plan, m, list, head, at, first[t][j], bound[j], &n);
                    grouped_list<D>(plan, m, list, head, at + grouped_dim<D>::step, second[t][j], bound[j], &n);
                }
            }
        }
    }
    if (threadIdx.x % 32 == 0) m.small->listed[me.warp] = n;
}

/* Counts the kept tokens beyond the bounds, of which too many were thought unable to win. */
template <int D, int N>
static __device__ __forceinline__ void grouped_count_again(const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m) {
    const uint32_t mine = me.n_tiles + GROUPED_WARPS - 1 - me.warp, kept = min(mine / GROUPED_WARPS, plan.kept);
    if (threadIdx.x < me.heads) m.histogram[threadIdx.x * grouped_dim<D>::stride + m.small->bound[threadIdx.x] + 1] = 0;
    __syncthreads();
    for (uint32_t i = 0; i < kept * N; i++) {
        const uint32_t pair = m.bins[i * GROUPED_THREADS + threadIdx.x], j = i % N, w = threadIdx.x % 4;
        const uint32_t head = D == 64 ? 2 * j + w / 2 : 4 * (j / 2) + w;
        if (head >= me.heads) continue;
        uint32_t *counts = m.histogram + head * grouped_dim<D>::stride;
        if ((pair & 0xffffu) > m.small->bound[head]) atomicAdd(&counts[pair & 0xffffu], 1u);
        if (pair >> 16 > m.small->bound[head]) atomicAdd(&counts[pair >> 16], 1u);
    }
    __syncthreads();
}

/* The cuts of all heads from counts of all bins, in two exchanges: where there was no sample, or it misled. */
template <int D, int N>
static __device__ __noinline__ void grouped_find_cuts_within(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                             const grouped_plan &plan, unsigned char *shared,
                                                             grouped_small *small, bool again) {
    const grouped_block me = grouped_block_of(s, p, plan); /* anew: nothing of this is to be in anybody's way */
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    if (again) {
        adm_cluster_meet(); /* nobody reads counts any more */
        grouped_count_again<D, N>(me, plan, m);
    }
    uint32_t counts = 0;
    if (me.head < me.heads) counts = grouped_coarse_counts<D>(m.histogram + me.head * grouped_dim<D>::stride);
    __syncthreads();
    if (me.head < me.heads) {
        grouped_push_counts(me, plan, counts, me.head, me.part, plan.warps, m.counts, &small->coarse);
        if (me.part == 0) {
            adm_barrier_wait_pushed(&small->coarse, 0);
            grouped_find_cut_within<D>(me, plan, m, me.head);
        }
    }
    __syncthreads();
}

/* The cuts of all heads, for all threads of the block; the scan is done. */
template <int D, int N>
static __device__ __forceinline__ void grouped_find_cuts(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                         const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m, bool sampled) {
    bool found = sampled;
    if (sampled) {
        uint32_t from = 0, counts = 0;
        if (me.head < me.heads) {
            from = grouped_window(m.small->bound[me.head]);
            counts = grouped_window_counts(m.histogram + me.head * grouped_dim<D>::stride, from);
        }
        __syncthreads(); /* whoever has a count of this block may push winners to where the histogram is */
        if (me.head < me.heads) {
            grouped_push_counts(me, plan, counts, me.head, me.part, plan.warps, m.counts, &m.small->window);
            if (me.part == 0) {
                adm_barrier_wait_pushed(&m.small->window, 0);
                grouped_find_cut(me, plan, m, from, me.head);
            }
        }
        __syncthreads();
        for (uint32_t h = 0; h < me.heads; h++) found &= m.small->cut[h].boundary != UINT32_MAX; /* all blocks know the same */
    }
    if (!found) grouped_find_cuts_within<D, N>(s, p, plan, m.ring - plan.ring_at, m.small, sampled);
}

#endif /* sm_90 */

#endif
