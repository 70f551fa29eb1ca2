/* select.cuh: the counting select of core/stage.h split over the blocks that share a row, for topk.cu and fused.cu.
 *
 *   row      | chunk of block 0 | chunk of block 1 | ...          a histogram of its distances for each chunk
 *   cut      boundary: the distance at which the winners end; too_old: how many of the tokens tied there lose (the first
 *            ones); rank and ties: winners and tied tokens in the chunks before this one
 *   write    each warp counts its share of the chunk, then writes it: a token's place is known from counts alone, so the
 *            result is in order and the same whatever the schedule */
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

typedef struct adm_cut {
    uint32_t boundary, too_old, rank, ties;
} adm_cut;

/* One warp finds the cut of a chunk that begins at token `start`: total [n_bins] counts the row's competing tokens by
 * distance, before [n_bins] those in earlier chunks. Every lane gets the result. */
static __device__ __forceinline__ adm_cut adm_cut_of(const uint32_t *total, const uint32_t *before, uint32_t n_bins,
                                                     const adm_contest &c, uint32_t start) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t forced = min(start, c.first) + (start > c.last ? start - c.last : 0);
    if (c.slots == 0) return adm_cut{0, UINT32_MAX, forced, 0};
    const uint32_t bins = (n_bins + 31) / 32, from = min(lane * bins, n_bins), to = min(from + bins, n_bins);
    uint32_t mine = 0;
    for (uint32_t bin = from; bin < to; bin++) mine += total[bin];
    uint32_t through = mine;
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t other = __shfl_up_sync(ADM_FULL_WARP, through, step);
        if (lane >= step) through += other;
    }
    const uint32_t owner = __ffs((int)__ballot_sync(ADM_FULL_WARP, through >= c.slots)) - 1;
    uint32_t boundary = from, below = through - mine;
    if (lane == owner)
        while (below + total[boundary] < c.slots) below += total[boundary++];
    boundary = __shfl_sync(ADM_FULL_WARP, boundary, (int)owner);
    below = __shfl_sync(ADM_FULL_WARP, below, (int)owner);
    uint32_t rank = 0;
    for (uint32_t bin = from; bin < min(to, boundary); bin++) rank += before[bin];
    rank = __reduce_add_sync(ADM_FULL_WARP, rank);
    return adm_cut{boundary, total[boundary] - (c.slots - below), forced + rank, before[boundary]};
}

/* Which of 8 tokens beginning at `token` are in for sure, and which tie at the boundary: bit i is token + i. */
static __device__ __forceinline__ void adm_judge8(uint4 distances, uint32_t token, uint32_t end, const adm_contest &c,
                                                  uint32_t boundary, uint32_t *in, uint32_t *tied) {
    const uint32_t words[4] = {distances.x, distances.y, distances.z, distances.w};
    *in = *tied = 0;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++) {
        const uint32_t d = i % 2 ? words[i / 2] >> 16 : words[i / 2] & 0xffffu;
        const bool competes = adm_competes(c, token + i), there = token + i < end;
        if (there && (!competes || d < boundary)) *in |= 1u << i;
        if (there && competes && d == boundary) *tied |= 1u << i;
    }
}

/* A team of n_warps warps, of which this is number `warp`, writes the winners of tokens [start, end), whose distances
 * are at `distance` (16-byte aligned, readable up to a multiple of 8), to index. counts: 2 * n_warps words of shared
 * memory of the team. Every thread of the block must call this equally often: it synchronises the block. */
static __device__ __forceinline__ void adm_write_winners(const uint16_t *distance, uint32_t start, uint32_t end,
                                                         const adm_contest &c, const adm_cut &cut, uint32_t warp,
                                                         uint32_t n_warps, uint32_t *counts, uint32_t *index) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t share = ((end - start + n_warps - 1) / n_warps + 255) / 256 * 256; /* 8 tokens a lane at a time */
    const uint32_t from = min(start + warp * share, end), to = min(from + share, end);
    uint32_t n_in = 0, n_tied = 0, in, tied;
    for (uint32_t token = from + 8 * lane; token < to; token += 256) {
        adm_judge8(*(const uint4 *)(distance + (token - start)), token, to, c, cut.boundary, &in, &tied);
        n_in += __popc(in);
        n_tied += __popc(tied);
    }
    n_in = __reduce_add_sync(ADM_FULL_WARP, n_in);
    n_tied = __reduce_add_sync(ADM_FULL_WARP, n_tied);
    if (lane == 0) counts[2 * warp] = n_in, counts[2 * warp + 1] = n_tied;
    __syncthreads();
    uint32_t rank = 0, ties = 0;
    if (lane < warp) rank = counts[2 * lane], ties = counts[2 * lane + 1];
    rank = cut.rank + __reduce_add_sync(ADM_FULL_WARP, rank);
    ties = cut.ties + __reduce_add_sync(ADM_FULL_WARP, ties);
    if (n_in + n_tied == 0) return;

    for (uint32_t base = from; base < to; base += 256) {
        const uint32_t token = base + 8 * lane;
        in = tied = 0;
        if (token < to)
            adm_judge8(*(const uint4 *)(distance + (token - start)), token, to, c, cut.boundary, &in, &tied);
        if (__ballot_sync(ADM_FULL_WARP, in | tied) == 0) continue;
        const uint32_t mine = __popc(in) | __popc(tied) << 16;
        uint32_t through = mine;
#pragma unroll
        for (uint32_t step = 1; step < 32; step *= 2) {
            const uint32_t other = __shfl_up_sync(ADM_FULL_WARP, through, step);
            if (lane >= step) through += other;
        }
        uint32_t my_rank = rank + ((through - mine) & 0xffffu), my_ties = ties + ((through - mine) >> 16);
        for (uint32_t left = in | tied; left != 0; left &= left - 1) {
            const uint32_t i = __ffs((int)left) - 1;
            const bool ties_here = tied >> i & 1;
            if (!ties_here || my_ties >= cut.too_old)
                index[my_rank + (my_ties > cut.too_old ? my_ties - cut.too_old : 0)] = token + i;
            if (ties_here) my_ties++;
            else my_rank++;
        }
        through = __shfl_sync(ADM_FULL_WARP, through, 31);
        rank += through & 0xffffu;
        ties += through >> 16;
    }
}

/* Adds a chunk's competing tokens of 8 distances to a histogram in shared memory. */
static __device__ __forceinline__ void adm_count8(uint32_t *histogram, uint4 distances, uint32_t token,
                                                  const adm_contest &c) {
    const uint32_t words[4] = {distances.x, distances.y, distances.z, distances.w};
#pragma unroll
    for (uint32_t i = 0; i < 8; i++)
        if (adm_competes(c, token + i)) atomicAdd(&histogram[i % 2 ? words[i / 2] >> 16 : words[i / 2] & 0xffffu], 1u);
}

#endif
