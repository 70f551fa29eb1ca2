/* select.cuh: the counting select of core/stage.h split over the blocks that share a row, for topk.cu and fused.cu.
 *
 *   row      | chunk of block 0 | chunk of block 1 | ...          a histogram of its distances for each chunk
 *   cut      boundary: the distance at which the winners end; too_old: how many of the tokens tied there lose (the first
 *            ones); rank and ties: winners and tied tokens in the chunks before this one
 *   write    each warp counts its share of the chunk, then writes it: a token's place is known from counts alone, so the
 *            result is in order and the same whatever the schedule
 *
 * A team is the warps of a block that work on one row; a block may hold several teams, which call in step. */
#ifndef ADM_KERNELS_SELECT_CUH
#define ADM_KERNELS_SELECT_CUH

#include "kernels/gpu_common.cuh"

/* Tokens [first, last) compete for `slots` places; the others are in by force. */
typedef struct adm_contest {
    uint32_t first, last, slots;
} adm_contest;

static __device__ __forceinline__ adm_contest adm_contest_of(const adm_select_rule &rule, uint32_t n_tokens) {
    const uint32_t n_recent = max(rule.n_recent, 1u);
    adm_contest c;
    c.first = min(rule.n_sinks, n_tokens);
    c.last = n_tokens - c.first > n_recent ? n_tokens - n_recent : c.first;
    const uint32_t competing = c.last - c.first;
    c.slots = min(rule.budget - (n_tokens - competing), competing);
    return c;
}

static __device__ __forceinline__ bool adm_competes(const adm_contest &c, uint32_t token) {
    return token - c.first < c.last - c.first;
}

/* Which of a team's warps this is. */
typedef struct adm_team {
    uint32_t warp, n_warps;
} adm_team;

/* Inclusive sums over the lanes. */
static __device__ __forceinline__ uint32_t adm_warp_scan(uint32_t x) {
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(ADM_FULL_WARP, x, step);
        if (threadIdx.x % 32 >= step) x += other;
    }
    return x;
}

typedef struct adm_cut {
    uint32_t boundary, too_old, rank, ties;
} adm_cut;

/* A team finds the cut of a chunk that begins at token `start`: total [n_bins] counts the row's competing tokens by
 * distance, before [n_bins] those in earlier chunks. sums: n_warps pairs, and cut, in shared memory of the team; cut is
 * there after the call, which synchronises the block twice. */
static __device__ __forceinline__ void adm_find_cut(const uint32_t *total, const uint32_t *before, uint32_t n_bins,
                                                    const adm_contest &c, uint32_t start, const adm_team &team,
                                                    uint2 *sums, adm_cut *cut) {
    const uint32_t lane = threadIdx.x % 32, me = 32 * team.warp + lane;
    const uint32_t bins = (n_bins + 32 * team.n_warps - 1) / (32 * team.n_warps);
    const uint32_t from = min(me * bins, n_bins), to = min(from + bins, n_bins);
    uint32_t mine = 0, mine_before = 0;
    for (uint32_t bin = from; bin < to; bin++) mine += total[bin], mine_before += before[bin];
    const uint32_t through = adm_warp_scan(mine), through_before = adm_warp_scan(mine_before);
    if (lane == 31) sums[team.warp] = make_uint2(through, through_before);
    __syncthreads();
    uint2 earlier = make_uint2(0, 0);
    if (lane < team.warp) earlier = sums[lane];
    uint32_t below = __reduce_add_sync(ADM_FULL_WARP, earlier.x) + through - mine;
    uint32_t rank = __reduce_add_sync(ADM_FULL_WARP, earlier.y) + through_before - mine_before;
    const uint32_t forced = min(start, c.first) + (start > c.last ? start - c.last : 0);
    if (c.slots == 0) {
        if (me == 0) *cut = adm_cut{0, UINT32_MAX, forced, 0};
    } else if (below < c.slots && c.slots <= below + mine) { /* one thread */
        uint32_t boundary = from;
        while (below + total[boundary] < c.slots) below += total[boundary], rank += before[boundary++];
        *cut = adm_cut{boundary, total[boundary] - (c.slots - below), forced + rank, before[boundary]};
    }
    __syncthreads();
}

/* Which of 8 tokens beginning at `token` are in for sure, and which tie at the boundary: bit i is token + i. */
static __device__ __forceinline__ void adm_judge8(uint4 distances, uint32_t token, uint32_t end, const adm_contest &c,
                                                  uint32_t boundary, uint32_t *in, uint32_t *tied) {
    *in = *tied = 0;
    /* Nearly all are among competing tokens and too far. */
    const uint32_t least2 = __vminu2(__vminu2(distances.x, distances.y), __vminu2(distances.z, distances.w));
    if (token >= c.first && token + 8 <= min(c.last, end) && min(least2 & 0xffffu, least2 >> 16) > boundary) return;
    const uint32_t words[4] = {distances.x, distances.y, distances.z, distances.w};
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t d = i % 2 ? words[i / 2] >> 16 : words[i / 2] & 0xffffu;
        const bool competes = adm_competes(c, token + i), there = token + i < end;
        if (there && (!competes || d < boundary)) *in |= 1u << i;
        if (there && competes && d == boundary) *tied |= 1u << i;
    }
}

/* A team writes the winners of tokens [start, end), whose distances are at `distance` (16-byte aligned, readable up to a
 * multiple of 8): put(place, token), each place of the row's once. counts: n_warps pairs of shared memory of the team.
 * Synchronises the block once. */
template <typename Put>
static __device__ __forceinline__ void adm_write_winners(const uint16_t *distance, uint32_t start, uint32_t end,
                                                         const adm_contest &c, const adm_cut &cut, const adm_team &team,
                                                         uint2 *counts, Put put) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t share = ((end - start + team.n_warps - 1) / team.n_warps + 255) / 256 * 256; /* 8 tokens a lane */
    const uint32_t from = min(start + team.warp * share, end), to = min(from + share, end);
    uint32_t n_in = 0, n_tied = 0, in, tied;
    for (uint32_t token = from + 8 * lane; token < to; token += 256) {
        adm_judge8(*(const uint4 *)(distance + (token - start)), token, to, c, cut.boundary, &in, &tied);
        n_in += __popc(in);
        n_tied += __popc(tied);
    }
    n_in = __reduce_add_sync(ADM_FULL_WARP, n_in);
    n_tied = __reduce_add_sync(ADM_FULL_WARP, n_tied);
    if (lane == 0) counts[team.warp] = make_uint2(n_in, n_tied);
    __syncthreads();
    if (n_in + n_tied == 0) return;
    uint2 earlier = make_uint2(0, 0);
    if (lane < team.warp) earlier = counts[lane];
    uint32_t rank = cut.rank + __reduce_add_sync(ADM_FULL_WARP, earlier.x);
    uint32_t ties = cut.ties + __reduce_add_sync(ADM_FULL_WARP, earlier.y);

    for (uint32_t base = from; base < to; base += 256) {
        const uint32_t token = base + 8 * lane;
        in = tied = 0;
        if (token < to)
            adm_judge8(*(const uint4 *)(distance + (token - start)), token, to, c, cut.boundary, &in, &tied);
        if (__ballot_sync(ADM_FULL_WARP, in | tied) == 0) continue;
        const uint32_t mine = __popc(in) | __popc(tied) << 16, through = adm_warp_scan(mine);
        uint32_t my_rank = rank + ((through - mine) & 0xffffu), my_ties = ties + ((through - mine) >> 16);
        for (uint32_t left = in | tied; left != 0; left &= left - 1) {
            const uint32_t i = __ffs((int)left) - 1;
            const bool ties_here = tied >> i & 1;
            if (!ties_here || my_ties >= cut.too_old)
                put(my_rank + (my_ties > cut.too_old ? my_ties - cut.too_old : 0), token + i);
            if (ties_here) my_ties++;
            else my_rank++;
        }
        const uint32_t all = __shfl_sync(ADM_FULL_WARP, through, 31);
        rank += all & 0xffffu;
        ties += all >> 16;
    }
}

/* Adds a chunk's competing tokens of 8 distances to a histogram in shared memory. */
static __device__ __forceinline__ void adm_count8(uint32_t *histogram, uint4 distances, uint32_t token,
                                                  const adm_contest &c) {
    const uint32_t words[4] = {distances.x, distances.y, distances.z, distances.w};
    const bool all = token >= c.first && token + 8 <= c.last;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++)
        if (all || adm_competes(c, token + i))
            atomicAdd(&histogram[i % 2 ? words[i / 2] >> 16 : words[i / 2] & 0xffffu], 1u);
}

#endif
