/* grouped.cu: a whole decode step of one layer in one launch, where query heads share their KV heads. */
#include "core/base/minmax.h"
#include "kernels/encode/encode.cuh"
#include "kernels/step/fused_attend.cuh"
#include "kernels/step/grouped.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

#ifdef ADM_GROUPED_STAMPS /* for measuring alone: clocks of each block, 16 a launch, at the end of what `workspace` says */
#define STAMP(i) \
    if (threadIdx.x == 0) ((long long *)p.workspace)[((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * 16 + (i)] = clock64()
#else
#define STAMP(i)
#endif

/* ---- the query ---- */

/* The planes of the queries into shared memory; the new key, its value and its codes into the caches. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_encode(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      const grouped_plan &plan, grouped_small *small) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const bool appends = me.rank == plan.split - 1 && blockIdx.y % plan.slices == 0;
    if (warp >= me.heads + (appends ? 1 : 0)) return;
    const bool newest = warp == me.heads;
    const T *x = newest ? (const T *)p.k_new + kv_row * D
                        : (const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + warp) * D;
    float v[D / 32];
    uint32_t high[D / 32], low[D / 32];
    adm_warp_load_row<T, D>(x, v);
    adm_warp_hadamard<D>(v);
    adm_warp_planes<D>(v, s.threshold, high, low);
    if (newest) {
        const size_t at = adm_kv_offset(s, p.page_table, me.b, me.kv_head, me.length - 1);
        adm_warp_copy_row<D>(x, (uint16_t *)p.k + at);
        adm_warp_copy_row<D>((const T *)p.v_new + kv_row * D, (uint16_t *)p.v + at);
        adm_warp_store_planes<D>(p.planes, kv_row, s.capacity, me.length - 1, high, low);
        return;
    }
    int32_t sum = 0;
#pragma unroll
    for (int w = 0; w < D / 32; w++) {
        sum += 2 * __popc(high[w]) + __popc(low[w]);
        if (lane == w) {
            small->query[warp][0][w] = high[w] | low[w];
            small->query[warp][1][w] = high[w];
            small->query[warp][2][w] = high[w] & low[w];
        }
    }
    if (lane == 0) small->sum[warp] = sum;
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

/* Counts of head `head` to all blocks of the cluster, by `n` warps, of which this is `which`. coarse: [split][heads][32]. */
template <int D>
static __device__ __forceinline__ void grouped_push_coarse(const grouped_block &me, const grouped_plan &plan,
                                                           const uint32_t *histogram, uint32_t head, uint32_t which, uint32_t n,
                                                           uint32_t *coarse, uint64_t *barrier) {
    const uint32_t counts = grouped_coarse_counts<D>(histogram + head * grouped_dim<D>::bins);
    uint32_t *to = coarse + (me.rank * plan.heads + head) * 32 + threadIdx.x % 32;
#pragma unroll 1
    for (uint32_t r = which; r < plan.split; r += n) adm_push(to, counts, r, barrier);
}

/* The first coarse bin by which `need` of the row's tokens are counted; GROUPED_COARSE: not so many are counted at all. */
static __device__ __forceinline__ uint32_t grouped_reached(const grouped_plan &plan, const uint32_t *coarse, uint32_t head,
                                                           uint32_t need) {
    uint32_t even = 0, odd = 0;
#pragma unroll 4
    for (uint32_t r = 0; r < plan.split; r++) {
        const uint32_t counts = coarse[(r * plan.heads + head) * 32 + threadIdx.x % 32];
        even += counts & 0xffffu, odd += counts >> 16;
    }
    const uint32_t short_even = __ballot_sync(ADM_FULL_WARP, even < need), short_odd = __ballot_sync(ADM_FULL_WARP, odd < need);
    return __popc(short_even) + __popc(short_odd);
}

/* One warp finds the cut of its head: whose coarse counts have come; exchanges those of the bins within the coarse bin. fine:
 * [split][heads][n / 2] pairs. */
template <int D>
static __device__ __forceinline__ void grouped_find_cut(const grouped_block &me, const grouped_plan &plan,
                                                        const uint32_t *histogram, uint32_t head, const uint32_t *coarse,
                                                        uint32_t *fine, grouped_small *small) {
    const uint32_t n = 1u << grouped_dim<D>::shift, lane = threadIdx.x % 32;
    const uint32_t bin = grouped_reached(plan, coarse, head, me.need);
    const uint32_t *own = histogram + head * grouped_dim<D>::bins + bin * n;
    for (uint32_t i = lane; i < plan.split * (n / 2); i += 32) { /* word i % (n / 2) to block i / (n / 2) */
        const uint32_t word = i % (n / 2);
        uint32_t before = 0;
#pragma unroll
        for (uint32_t j = 0; j < n - 1; j++) before += j <= 2 * word ? own[j] : 0;
        adm_push(fine + (me.rank * plan.heads + head) * (n / 2) + word, before | (before + own[2 * word + 1]) << 16,
                 i / (n / 2), &small->fine);
    }
    uint32_t below = 0; /* of block `lane`, before the coarse bin */
    if (lane < plan.split && bin > 0) below = ((const uint16_t *)(coarse + (lane * plan.heads + head) * 32))[bin - 1];
    const uint32_t need = me.need - __reduce_add_sync(ADM_FULL_WARP, below);
    adm_barrier_wait_pushed(&small->fine, 0);
    const uint16_t *counts = (const uint16_t *)fine;
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
    if (lane == 0) small->cut[head] = adm_cut{bin * n + at, n_tied - (me.need - n_nearer), rank, ties};
}

/* ---- the scan ---- */

/* Shared memory by what it holds. */
typedef struct grouped_memory {
    unsigned char *ring;
    uint32_t *bins;       /* [kept][N][threads] pairs */
    uint32_t *lists;      /* [heads][room] */
    uint32_t *histogram;  /* [heads][bins] */
    uint32_t *coarse, *fine;
    uint32_t *maps;       /* [nearer, tied][heads][map_words], a bit a token of the block */
    uint32_t *winners;    /* [heads][share] */
    float *merge;
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

/* Counts one token of a head, and lists it, if it may win. at: within the block. */
static __device__ __forceinline__ void grouped_list(const grouped_plan &plan, const grouped_memory &m, uint32_t n_bins,
                                                    uint32_t head, uint32_t at, uint32_t bin, uint32_t bound) {
    if (bin > bound) return;
    atomicAdd(&m.histogram[head * n_bins + bin], 1u);
    const uint32_t place = atomicAdd(&m.small->listed[head], 1u);
    if (place < plan.room) m.lists[head * plan.room + place] = at << GROUPED_TOKEN_SHIFT | bin;
}

/* The bounds of all heads, once their counts have come: no token beyond can win, as enough are known that do not lie beyond. */
template <int D>
static __device__ __forceinline__ void grouped_find_bounds(const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m) {
    const uint32_t warp = threadIdx.x / 32;
    if (warp < me.heads) {
        adm_barrier_wait_pushed(&m.small->bounded, 0);
        const uint32_t bin = grouped_reached(plan, m.coarse + plan.split * plan.heads * 32, warp, me.need);
        if (threadIdx.x % 32 == 0) m.small->bound[warp] = min((bin + 1) << grouped_dim<D>::shift, (uint32_t)GROUPED_ABSENT) - 1;
    }
    __syncthreads();
}

/* All of the block's codes to bins, counts and lists. */
template <int D, int N>
static __device__ __forceinline__ void grouped_scan(const grouped_block &me, const grouped_plan &plan, const uint32_t *planes,
                                                    const grouped_memory &m) {
    const int n_bins = grouped_dim<D>::bins;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, tile_bytes = grouped_dim<D>::tile_words * 4;
    const uint32_t most = ((me.length + 31) / 32 + plan.split - 1) / plan.split; /* tiles of any block: all decide alike */
    const bool bounded = (most + GROUPED_WARPS - 1) / GROUPED_WARPS > plan.kept;
    grouped_query<D, N> q;
    grouped_columns<D, N>(m.small, &q);
    uint32_t bound[N];
    for (uint32_t i = 0, slot = 0, parity = 0; i < me.pieces || (bounded && i <= plan.kept); i++) {
        if (bounded && i == plan.sampled) {
            __syncthreads();
            if (warp < me.heads)
                grouped_push_coarse<D>(me, plan, m.histogram, warp, 0, 1, m.coarse + plan.split * plan.heads * 32,
                                       &m.small->bounded);
        }
        if (bounded && i == plan.kept) {
            grouped_find_bounds<D>(me, plan, m);
#pragma unroll
            for (int j = 0; j < N; j++) bound[j] = grouped_head<D>(j) < me.heads ? m.small->bound[grouped_head<D>(j)] : 0;
        }
        if (i >= me.pieces) break;
        adm_barrier_wait(&m.small->full[slot], parity);
        const uint32_t tile = i * GROUPED_WARPS + warp;
        if (tile < me.n_tiles) {
            uint32_t first[N], second[N];
            grouped_tile<D, N>(me, (const uint32_t *)(m.ring + (slot * GROUPED_WARPS + warp) * tile_bytes), tile, q, first,
                               second);
            if (i < plan.kept) {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    uint32_t *counts = m.histogram + grouped_head<D>(j) * n_bins;
                    m.bins[(i * N + j) * GROUPED_THREADS + threadIdx.x] = first[j] | second[j] << 16;
                    if (grouped_head<D>(j) >= me.heads) continue;
                    if (first[j] < GROUPED_ABSENT) atomicAdd(&counts[first[j]], 1u);
                    if (second[j] < GROUPED_ABSENT) atomicAdd(&counts[second[j]], 1u);
                }
            } else {
#pragma unroll
                for (int j = 0; j < N; j++) {
                    const uint32_t head = grouped_head<D>(j), at = tile * 32 + grouped_token<D>(j);
                    if (head >= me.heads || min(first[j], second[j]) > bound[j]) continue;
                    grouped_list(plan, m, n_bins, head, at, first[j], bound[j]);
                    grouped_list(plan, m, n_bins, head, at + grouped_dim<D>::step, second[j], bound[j]);
                }
            }
        }
        if (me.pieces > plan.slots) {
            __syncwarp();
            if (lane == 0) grouped_barrier_arrive(&m.small->empty[slot]);
            if (i % GROUPED_WARPS == warp && i + plan.slots < me.pieces) { /* its turn to fill the slot again */
                adm_barrier_wait(&m.small->empty[slot], parity);
                if (lane == 0) grouped_fetch<D>(me, plan, planes, i + plan.slots, m.ring, m.small);
                __syncwarp();
            }
        }
        if (++slot == plan.slots) slot = 0, parity ^= 1;
    }
}

/* ---- winners ---- */

/* A winner, or a token tied with the last of them, to its bitmap. */
static __device__ __forceinline__ void grouped_mark(const grouped_plan &plan, const grouped_memory &m, uint32_t head, uint32_t at,
                                                    uint32_t bin, uint32_t boundary) {
    if (bin > boundary) return;
    uint32_t *map = m.maps + ((bin == boundary ? plan.heads : 0) + head) * plan.map_words;
    atomicOr(&map[at / 32], 1u << at % 32);
}

/* Where a list was too short: all the tokens that are not kept once more, from memory. Through the ring's first slot, a tile a
 * warp. */
template <int D, int N>
static __device__ __noinline__ void grouped_mark_again(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_plan &plan,
                                                       const uint32_t *planes, unsigned char *shared, grouped_small *small,
                                                       uint32_t heads) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const grouped_block me = grouped_block_of(s, p, plan); /* again, too: nothing of this is to be in anybody's way */
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    uint32_t *tile = (uint32_t *)m.ring + warp * grouped_dim<D>::tile_words;
    grouped_query<D, N> q;
    grouped_columns<D, N>(m.small, &q);
    for (uint32_t i = plan.kept * GROUPED_WARPS + warp; i < me.n_tiles; i += GROUPED_WARPS) {
        uint32_t first[N], second[N];
        __syncwarp();
        for (uint32_t j = lane; j < grouped_dim<D>::tile_words; j += 32)
            tile[j] = __ldcg(planes + (size_t)i * grouped_dim<D>::tile_words + j);
        __syncwarp();
        grouped_tile<D, N>(me, tile, i, q, first, second);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const uint32_t head = grouped_head<D>(j), at = i * 32 + grouped_token<D>(j);
            if (head >= me.heads || (heads >> head & 1) == 0) continue;
            grouped_mark(plan, m, head, at, first[j], m.small->cut[head].boundary);
            grouped_mark(plan, m, head, at + grouped_dim<D>::step, second[j], m.small->cut[head].boundary);
        }
    }
}

/* Marks winners and ties of all heads in the bitmaps. */
template <int D, int N>
static __device__ __forceinline__ void grouped_mark_all(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                        const grouped_plan &plan, const uint32_t *planes,
                                                        const grouped_memory &m) {
    const uint32_t warp = threadIdx.x / 32, kept = min(me.pieces, plan.kept);
    uint32_t beyond[N], boundary[N]; /* beyond: what lifts a bin beyond the boundary to 0x8000 */
#pragma unroll
    for (int j = 0; j < N; j++) {
        const uint32_t head = grouped_head<D>(j);
        boundary[j] = head < me.heads ? m.small->cut[head].boundary : 0;
        beyond[j] = head < me.heads ? (0x7fffu - boundary[j]) * 0x10001u : 0x80008000u;
    }
#pragma unroll 2
    for (uint32_t i = 0; i < kept; i++) {
        if (i * GROUPED_WARPS + warp >= me.n_tiles) break;
        uint32_t hits = 0;
#pragma unroll
        for (int j = 0; j < N; j++)
            hits |= (~(m.bins[(i * N + j) * GROUPED_THREADS + threadIdx.x] + beyond[j]) & 0x80008000u) >> j;
        while (hits != 0) {
            const uint32_t bit = 31 - __clz((int)hits), j = 15 - bit % 16;
            hits ^= 1u << bit;
            const uint32_t pair = m.bins[(i * N + j) * GROUPED_THREADS + threadIdx.x];
            uint32_t head = 0, at = 0, end = 0;
#pragma unroll
            for (int k = 0; k < N; k++)
                if (j == k) head = grouped_head<D>(k), at = grouped_token<D>(k), end = boundary[k];
            const uint32_t token = (i * GROUPED_WARPS + warp) * 32 + at + (bit >= 16 ? grouped_dim<D>::step : 0);
            grouped_mark(plan, m, head, token, bit >= 16 ? pair >> 16 : pair & 0xffffu, end);
        }
    }
    if (me.pieces <= plan.kept) return;
    uint32_t again = 0;
    for (uint32_t head = 0; head < me.heads; head++) {
        const uint32_t n = m.small->listed[head];
        if (n > plan.room) again |= 1u << head;
        for (uint32_t i = threadIdx.x; i < n && n <= plan.room; i += GROUPED_THREADS) {
            const uint32_t entry = m.lists[head * plan.room + i];
            grouped_mark(plan, m, head, entry >> GROUPED_TOKEN_SHIFT, entry & ((1u << GROUPED_TOKEN_SHIFT) - 1),
                         m.small->cut[head].boundary);
        }
    }
    if (again != 0) grouped_mark_again<D, N>(s, p, plan, planes, m.ring - plan.ring_at, m.small, again);
}

/* Winners, in order, to the index and to the blocks that attend to them: place r of a row to block r % split. */
static __device__ __forceinline__ void grouped_hand_out(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                        const grouped_plan &plan, const grouped_memory &m) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t n_warps = GROUPED_WARPS / plan.heads, head = warp / n_warps, part = warp % n_warps;
    if (head >= me.heads) return;
    const uint32_t *nearer = m.maps + head * plan.map_words, *tied = nearer + plan.heads * plan.map_words;
    const uint32_t share = (me.n_tiles + n_warps - 1) / n_warps, per_lane = (share + 31) / 32;
    const uint32_t start = min(part * share, me.n_tiles), end = min(start + share, me.n_tiles);
    const uint32_t from = min(start + lane * per_lane, end), to = min(from + per_lane, end);
    uint32_t before = 0, ties_before = 0, mine = 0, my_ties = 0;
    for (uint32_t i = lane; i < start; i += 32) before += __popc(nearer[i]), ties_before += __popc(tied[i]);
    for (uint32_t i = from; i < to; i++) mine += __popc(nearer[i]), my_ties += __popc(tied[i]);
    before = __reduce_add_sync(ADM_FULL_WARP, before);
    ties_before = __reduce_add_sync(ADM_FULL_WARP, ties_before);
    const adm_cut cut = m.small->cut[head];
    uint32_t rank = cut.rank + before + adm_warp_scan(mine) - mine;
    uint32_t ties = cut.ties + ties_before + adm_warp_scan(my_ties) - my_ties;
    const size_t row = (size_t)me.b * s.heads.n_q_heads + me.first_head + head;
    uint32_t *index = p.index + row * s.rule.budget, *winners = m.winners + head * plan.share;
    for (uint32_t i = from; i < to; i++) {
        const uint32_t ties_here = tied[i];
        for (uint32_t left = nearer[i] | ties_here; left != 0; left &= left - 1) {
            const uint32_t bit = __ffs((int)left) - 1, token = (me.first_tile + i) * 32 + bit;
            const bool is_tied = ties_here >> bit & 1;
            const uint32_t place = adm_place(cut, make_uint2(rank, ties));
            if (!is_tied || ties >= cut.too_old) {
                index[place] = token;
                adm_push(&winners[place / plan.split], token, place % plan.split, &m.small->winners);
            }
            if (is_tied) ties++;
            else rank++;
        }
    }
    if (part == 0 && lane == 0 && me.rank == 0) p.n_selected[row] = me.need;
}

/* ---- attention ---- */

/* Winners of this block, of a head. */
static __device__ __forceinline__ uint32_t grouped_share(const grouped_block &me, const grouped_plan &plan) {
    return (me.need + plan.split - 1 - me.rank) / plan.split;
}

/* Attends to the head's winners, those of them that this warp takes: lanes in groups of D/8, a group a row, FLIGHT rows in flight
 * each. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_attend(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      const uint32_t *tokens, uint32_t n, const float (&q)[8],
                                                      const adm_team &team, step_softmax *out) {
    const int lanes = D / 8, rows = 32 / lanes, flight = 4;
    const uint32_t lane = threadIdx.x % 32, part = lane % lanes;
    const size_t new_row = ((size_t)me.b * s.heads.n_kv_heads + me.kv_head) * D;
    const uint4 *k_new = (const uint4 *)((const T *)p.k_new + new_row), *v_new = (const uint4 *)((const T *)p.v_new + new_row);
    step_block where;
    where.b = me.b, where.kv_head = me.kv_head;
    out->largest = -INFINITY, out->sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) out->value[i] = 0;

    for (uint32_t base = team.warp * rows; base < n; base += flight * rows * team.n_warps) {
        const uint32_t stride = rows * team.n_warps;
        uint32_t token[flight];
        uint4 k[flight], v[flight];
        float score[flight];
        bool newest[flight];
#pragma unroll
        for (int r = 0; r < flight; r++) {
            const uint32_t j = base + r * stride + lane / lanes;
            token[r] = tokens[min(j, n - 1)];
            newest[r] = token[r] + 1 == me.length;
            score[r] = j < n ? 0.0f : -INFINITY;
            k[r] = v[r] = make_uint4(0, 0, 0, 0);
        }
        kv_rows<flight>(s, p, where, token);
#pragma unroll
        for (int r = 0; r < flight; r++) /* another block may still be writing the newest row to the caches */
            if (base + r * stride + lane / lanes < n) {
                k[r] = __ldcg((newest[r] ? k_new : (const uint4 *)((const T *)p.k + (size_t)token[r] * D)) + part);
                v[r] = __ldcg((newest[r] ? v_new : (const uint4 *)((const T *)p.v + (size_t)token[r] * D)) + part);
            }
        float largest = out->largest;
#pragma unroll
        for (int r = 0; r < flight; r++) {
            if (base + r * stride >= n) continue;
            const uint32_t words[4] = {k[r].x, k[r].y, k[r].z, k[r].w};
            float dot = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 pair = adm_widen2<T>(words[i]);
                dot = fmaf(q[2 * i], pair.x, fmaf(q[2 * i + 1], pair.y, dot));
            }
#pragma unroll
            for (int step = 1; step < lanes; step *= 2) dot += __shfl_xor_sync(ADM_FULL_WARP, dot, step);
            score[r] += dot;
            largest = fmaxf(largest, score[r]);
        }
        const float shrink = weight_of(out->largest, largest);
        out->sum *= shrink;
#pragma unroll
        for (int i = 0; i < 8; i++) out->value[i] *= shrink;
#pragma unroll
        for (int r = 0; r < flight; r++) {
            if (base + r * stride >= n) continue;
            const float w = weight_of(score[r], largest);
            const uint32_t words[4] = {v[r].x, v[r].y, v[r].z, v[r].w};
            out->sum += w;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 pair = adm_widen2<T>(words[i]);
                out->value[2 * i] = fmaf(w, pair.x, out->value[2 * i]);
                out->value[2 * i + 1] = fmaf(w, pair.y, out->value[2 * i + 1]);
            }
        }
        out->largest = largest;
    }
#pragma unroll
    for (int step = lanes; step < 32; step *= 2) { /* the groups of the warp into one */
        const float other = __shfl_xor_sync(ADM_FULL_WARP, out->largest, step), largest = fmaxf(out->largest, other);
        const float shrink = weight_of(out->largest, largest);
        out->sum *= shrink;
        out->sum += __shfl_xor_sync(ADM_FULL_WARP, out->sum, step);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            out->value[i] *= shrink;
            out->value[i] += __shfl_xor_sync(ADM_FULL_WARP, out->value[i], step);
        }
        out->largest = largest;
    }
}

/* This lane's elements of the query, scaled for exponentials to base 2. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_load_query(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                          uint32_t head, float (&q)[8]) {
    const float scale = s.scale * 1.4426950408889634f;
    const T *row = (const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + head) * D;
    const uint4 packed = ((const uint4 *)row)[threadIdx.x % (D / 8)];
    const uint32_t words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = adm_widen2<T>(words[i]);
        q[2 * i] = pair.x * scale, q[2 * i + 1] = pair.y * scale;
    }
}

/* Partial results of the block's warps, in `memory`, into one a head, 32 elements at a time to the block that adds up those of the
 * cluster: unit u = head * D / 32 + element / 32 to block u % split, there [unit / split][block][GROUPED_UNIT]. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_merge(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                     const grouped_plan &plan, const grouped_memory &m, const float *memory,
                                                     uint32_t n_warps) {
    const step_partials partials = {(float *)memory, m.small->weight};
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, units = me.heads * (D / 32);
    for (uint32_t u = warp; u < units; u += GROUPED_WARPS) {
        float2 weight;
        const uint32_t first = u / (D / 32) * n_warps;
        const float value = merged<D>(partials, first, n_warps, 1, u % (D / 32) * 32 + lane, &weight);
        float *to = m.merge + (u / plan.split * plan.split + me.rank) * GROUPED_UNIT;
        adm_push(to + lane, __float_as_uint(value), u % plan.split, &m.small->results);
        if (lane < 2) adm_push(to + 32 + lane, __float_as_uint(lane == 0 ? weight.x : weight.y), u % plan.split, &m.small->results);
    }
    if (me.rank >= units) return;
    adm_barrier_wait_pushed(&m.small->results, 0);
    for (uint32_t u = warp * plan.split + me.rank; u < units; u += GROUPED_WARPS * plan.split) {
        const float *from = m.merge + u / plan.split * plan.split * GROUPED_UNIT;
        float largest = -INFINITY, sum = 0, value = 0;
#pragma unroll 4
        for (uint32_t r = 0; r < plan.split; r++) largest = fmaxf(largest, from[r * GROUPED_UNIT + 32]);
#pragma unroll 4
        for (uint32_t r = 0; r < plan.split; r++) {
            const float w = weight_of(from[r * GROUPED_UNIT + 32], largest);
            sum += w * from[r * GROUPED_UNIT + 33];
            value += w * from[r * GROUPED_UNIT + lane];
        }
        T *out = (T *)p.out + ((size_t)me.b * s.heads.n_q_heads + me.first_head) * D;
        out[u * 32 + lane] = adm_narrow<T>(sum > 0 ? value / sum : NAN);
    }
}

/* ---- the whole ---- */

/* Barriers, each with what it is to count. By one thread. */
template <int D>
static __device__ __forceinline__ void grouped_prepare(const grouped_block &me, const grouped_plan &plan, grouped_small *small) {
    const uint32_t units = me.heads * (D / 32), counts = plan.split * me.heads;
    for (uint32_t i = 0; i < plan.slots; i++) {
        grouped_barrier_init(&small->full[i], 1);
        grouped_barrier_init(&small->empty[i], GROUPED_WARPS);
    }
    grouped_barrier_init(&small->bounded, 1);
    grouped_barrier_init(&small->coarse, 1);
    grouped_barrier_init(&small->fine, 1);
    grouped_barrier_init(&small->winners, 1);
    grouped_barrier_init(&small->results, 1);
    adm_barrier_fence();
    adm_barrier_expect(&small->bounded, counts * 32 * 4);
    adm_barrier_expect(&small->coarse, counts * 32 * 4);
    adm_barrier_expect(&small->fine, counts * (2u << grouped_dim<D>::shift));
    adm_barrier_expect(&small->winners, me.heads * grouped_share(me, plan) * 4);
    adm_barrier_expect(&small->results,
                       me.rank < units ? (units + plan.split - 1 - me.rank) / plan.split * plan.split * (GROUPED_UNIT * 4) : 0);
}

/* An empty sequence attends to nothing. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_empty(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me) {
    const size_t head = (size_t)me.b * s.heads.n_q_heads + me.first_head;
    adm_wait_for_predecessors();
    adm_start_dependents();
    if (me.rank != 0) return;
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += GROUPED_THREADS) ((T *)p.out)[head * D + i] = adm_narrow<T>(0.0f);
    if (threadIdx.x < me.heads) p.n_selected[head + threadIdx.x] = 0;
}

#endif /* sm_90 */

/* Grid (split, KV heads * slices, sequences), clusters along x. N: words of bins a lane and tile, 2 for four heads. */
template <typename T, int D, int N>
static __global__ void __launch_bounds__(GROUPED_THREADS, 2)
    step_grouped(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p,
                 const __grid_constant__ grouped_plan plan) {
#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ grouped_small small;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const grouped_block me = grouped_block_of(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, &small);
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const uint32_t *planes = p.planes + (kv_row * (s.capacity / 32) + me.first_tile) * grouped_dim<D>::tile_words;
    if (me.length == 0) {
        grouped_empty<T, D>(s, p, me);
        return;
    }
    STAMP(0);
    if (threadIdx.x == 0) {
        grouped_prepare<D>(me, plan, &small);
        for (uint32_t i = 0; i < min(me.pieces, plan.slots); i++)
            if (grouped_settled(me, i)) grouped_fetch<D>(me, plan, planes, i, m.ring, &small);
    }
    __syncwarp();
    adm_cluster_arrive_relaxed(); /* the barriers are there to be pushed at */
    for (uint32_t i = threadIdx.x; i < plan.heads * grouped_dim<D>::bins; i += GROUPED_THREADS) m.histogram[i] = 0;
    for (uint32_t i = threadIdx.x; i < 2 * plan.heads * plan.map_words; i += GROUPED_THREADS) m.maps[i] = 0;
    if (threadIdx.x < GROUPED_HEADS) small.listed[threadIdx.x] = 0;
    adm_wait_for_predecessors();
    STAMP(1);
    if (plan.trigger == 0) adm_start_dependents();
    if (threadIdx.x == 0)
        for (uint32_t i = 0; i < min(me.pieces, plan.slots); i++)
            if (!grouped_settled(me, i)) grouped_fetch<D>(me, plan, planes, i, m.ring, &small);
    __syncwarp();
    grouped_encode<T, D>(s, p, me, plan, &small);
    adm_cluster_wait();
    __syncthreads();
    STAMP(2);
    if (plan.trigger == 1) adm_start_dependents();
    grouped_scan<D, N>(me, plan, planes, m);
    __syncthreads();
    STAMP(3);
    if (plan.trigger == 2) adm_start_dependents();

    const uint32_t n_warps = GROUPED_WARPS / plan.heads, head = warp / n_warps;
    if (head < me.heads) {
        grouped_push_coarse<D>(me, plan, m.histogram, head, warp % n_warps, n_warps, m.coarse, &small.coarse);
        if (warp % n_warps == 0) {
            adm_barrier_wait_pushed(&small.coarse, 0);
            STAMP(4);
            grouped_find_cut<D>(me, plan, m.histogram, head, m.coarse, m.fine, &small);
        }
    }
    __syncthreads();
    STAMP(5);
    grouped_mark_all<D, N>(s, p, me, plan, planes, m);
    __syncthreads();
    STAMP(6);
    grouped_hand_out(s, p, me, plan, m);
    if (plan.trigger == 3) adm_start_dependents();

    float q[8];
    step_softmax sum;
    float *partial = (float *)m.ring; /* which has been read */
    if (head < me.heads) {
        grouped_load_query<T, D>(s, p, me, head, q);
        STAMP(7);
        adm_barrier_wait_pushed(&small.winners, 0);
        STAMP(8);
        grouped_attend<T, D>(s, p, me, m.winners + head * plan.share, grouped_share(me, plan), q,
                             adm_team{warp % n_warps, n_warps}, &sum);
        if (lane < D / 8) {
            float4 *to = (float4 *)(partial + warp * D + 8 * lane);
            to[0] = make_float4(sum.value[0], sum.value[1], sum.value[2], sum.value[3]);
            to[1] = make_float4(sum.value[4], sum.value[5], sum.value[6], sum.value[7]);
        }
        if (lane == 0) small.weight[warp] = make_float2(sum.largest, sum.sum);
    }
    STAMP(9);
    __syncthreads();
    grouped_merge<T, D>(s, p, me, plan, m, partial, n_warps);
    STAMP(10);
#endif
}

/* ---- launcher ---- */

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }
static uint32_t share_of(uint32_t n, uint32_t parts) { return (n + parts - 1) / parts; }

/* Fills in sizes and offsets for plan's heads and split, with `most` bytes at most if it can; for a plan with 0 slots or kept
 * pieces as many of those as fit. */
static void lay_out(grouped_plan *plan, const adm_gpu_shape *shape, uint32_t most) {
    const uint32_t d = shape->heads.head_dim, words = plan->heads > 4 ? 4 : 2, n = d == 64 ? 4 : d == 128 ? 8 : 16;
    const uint32_t tiles = share_of(shape->capacity / 32, plan->split), pieces = share_of(tiles, GROUPED_WARPS);
    const uint32_t piece = GROUPED_WARPS * d * 8, bins = words * GROUPED_THREADS * 4, units = plan->heads * (d / 32);
    plan->share = share_of(adm_min(shape->rule.budget, shape->capacity), plan->split);
    plan->map_words = tiles;
    const uint32_t histogram = plan->heads * GROUPED_COARSE * n * 4, counts = plan->split * plan->heads;
    const uint32_t fixed = histogram + counts * 128 * 2 + round_up(counts * n * 2, 128) +
                           round_up(2 * plan->heads * tiles * 4, 128) + round_up(plan->heads * plan->share * 4, 128) +
                           round_up(share_of(units, plan->split) * plan->split * GROUPED_UNIT * 4, 128);
    uint32_t slots = plan->slots > 0 ? plan->slots : 4, kept = plan->kept > 0 ? plan->kept : pieces;
    if (slots > pieces) slots = pieces;
    while (slots > 2 && fixed + slots * piece + adm_min(kept, 4u) * bins > most) slots--;
    plan->room = 0;
    if (kept > pieces) kept = pieces;
    if (kept < pieces || fixed + slots * piece + kept * bins > most) { /* not all: lists for the others */
        if (plan->kept == 0) kept = adm_min(pieces, 4u);
        plan->sampled = kept > 1 ? kept - 1 : 1;
        const float expected = 3.0f * (float)shape->rule.budget * (float)pieces / (float)(plan->sampled * plan->split);
        plan->room = round_up(adm_list_room(0, 0, (uint32_t)expected + 128), 32);
        const uint32_t left = most > fixed + slots * piece + kept * bins ? most - fixed - slots * piece - kept * bins : 0;
        plan->room = adm_min(plan->room, round_up(left / (plan->heads * 4), 32) - 32);
        if (left / (plan->heads * 4) < 64) plan->room = 32;
    }
    plan->slots = slots;
    plan->kept = kept;
    plan->ring_at = 0;
    plan->bins_at = slots * piece > GROUPED_WARPS * d * 4 ? slots * piece : GROUPED_WARPS * d * 4; /* and partial results */
    plan->lists_at = plan->bins_at + kept * bins;
    plan->histogram_at = plan->lists_at + plan->room * plan->heads * 4;
    plan->coarse_at = plan->histogram_at + histogram;
    plan->fine_at = plan->coarse_at + counts * 128 * 2;
    plan->maps_at = plan->fine_at + round_up(counts * n * 2, 128);
    plan->winners_at = plan->maps_at + round_up(2 * plan->heads * tiles * 4, 128);
    plan->merge_at = plan->winners_at + round_up(plan->heads * plan->share * 4, 128);
    plan->shared_bytes = plan->merge_at + round_up(share_of(units, plan->split) * plan->split * GROUPED_UNIT * 4, 128);
}

/* Heads a block and blocks a cluster. */
static void cut_up(grouped_plan *plan, const adm_gpu_shape *shape, int n_sms) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (plan->heads == 0) plan->heads = group <= GROUPED_HEADS ? group : share_of(group, share_of(group, GROUPED_HEADS));
    plan->slices = share_of(group, plan->heads);
    const uint32_t n_clusters = shape->batch * shape->heads.n_kv_heads * plan->slices;
    if (plan->split > 0) return;
    for (plan->split = 1; plan->split < GROUPED_SPLIT && 2 * plan->split * n_clusters <= (uint32_t)n_sms;) plan->split *= 2;
}

typedef void grouped_kernel(const adm_gpu_shape, const adm_gpu_buffers, const grouped_plan);

extern "C" adm_status adm_gpu_step_grouped_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                 const adm_gpu_grouped_tuning *tuning, adm_gpu_stream stream, adm_error *err) {
#define KERNELS(T, D) {step_grouped<T, D, 2>, step_grouped<T, D, 4>}
    static grouped_kernel *const kernels[3][2][2] = {{KERNELS(__half, 64), KERNELS(__nv_bfloat16, 64)},
                                                     {KERNELS(__half, 128), KERNELS(__nv_bfloat16, 128)},
                                                     {KERNELS(__half, 256), KERNELS(__nv_bfloat16, 256)}};
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major != 9)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the grouped step needs clusters of blocks and products of bits, compute capability 9.0; the device has %d.x",
                        limits.compute_major);
    if (shape->selection == ADM_SELECT_GROUP)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step selects for each query head, not for a group");
    grouped_plan plan = {};
    plan.heads = tuning->heads;
    plan.split = tuning->split;
    plan.slots = tuning->slots;
    plan.kept = tuning->kept;
    plan.trigger = tuning->trigger;
    cut_up(&plan, shape, limits.n_sms);
    if (plan.heads > GROUPED_HEADS || plan.split > GROUPED_SPLIT || (plan.split & (plan.split - 1)) != 0 || plan.trigger > 3 ||
        plan.slots > GROUPED_SLOTS)
        return adm_fail(err, ADM_EINPUT, "the grouped step with %u heads a block, %u blocks a cluster, %u pieces, trigger %u",
                        plan.heads, plan.split, plan.slots, plan.trigger);
    if (shape->capacity / plan.split > 65504)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step takes at most 65504 tokens a block, not %u",
                        shape->capacity / plan.split);
    const uint32_t two = (uint32_t)limits.sm_shared_bytes / 2 - 1024 - round_up(sizeof(grouped_small), 128);
    lay_out(&plan, shape, two);
    adm_gpu_grid grid = {};
    grid.blocks = dim3(plan.split, shape->heads.n_kv_heads * plan.slices, shape->batch);
    grid.threads = GROUPED_THREADS;
    grid.cluster = plan.split;
    grid.shared_bytes = plan.shared_bytes;
    grid.dependent = true;
    if (grid.shared_bytes > (uint32_t)limits.block_shared_bytes - sizeof(grouped_small) - 1024)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step needs %zu bytes of shared memory a block, and this device has %d",
                        grid.shared_bytes, limits.block_shared_bytes);
    const void *kernel =
        (const void *)kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)][plan.heads > 4];
    void *args[] = {(void *)shape, (void *)buffers, &plan};
    return adm_gpu_launch("grouped step", kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_step_grouped(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    const adm_gpu_grouped_tuning usual = {};
    if (adm_gpu_shape_check(shape, err) == ADM_OK && shape->heads.n_q_heads > shape->heads.n_kv_heads) {
        const adm_status status = adm_gpu_step_grouped_tuned(shape, buffers, &usual, stream, err);
        if (status != ADM_EUNSUPPORTED) return status;
    }
    return adm_gpu_step_fused(shape, buffers, stream, err);
}
