/* select.cuh: the counting select of core/stage.h split over the blocks that share a row, for topk.cu and fused.cu.
 *
 *   row      | chunk of block 0 | chunk of block 1 | ...          a histogram of its distances for each chunk
 *   cut      boundary: the distance at which the winners end; too_old: how many of the tokens tied there lose (the first
 *            ones); rank and ties: winners and tied tokens in the chunks before this one
 *   write    each warp counts the winners in its part of the chunk, then writes them: a token's place is known from
 *            counts alone, so the result is in order and the same whatever the schedule
 *
 * Few tokens win, and adding each to a histogram costs more than anything else. So a bound comes first, a distance beyond
 * which nobody is likely to win, from a sample of the row; only candidates within it are counted, and each warp lists
 * those of its part in order. Should the bound have been too low, which the counts tell, it is lifted and all is done
 * again: luck decides the time, never the result.
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

enum { MAX_SPLIT = 8 /* blocks that share a row, at most */ };

/* One bin over the chunks of a row: the sum of all into total, of those before chunk `rank` into before. counted(r): the
 * bin of chunk r. */
template <typename Counted>
static __device__ __forceinline__ void adm_add_up_bin(uint32_t bin, uint32_t split, uint32_t rank, uint32_t *total,
                                                      uint32_t *before, Counted counted) {
    uint32_t n[MAX_SPLIT], all = 0, earlier = 0;
#pragma unroll
    for (uint32_t r = 0; r < MAX_SPLIT; r++) n[r] = r < split ? counted(r) : 0;
#pragma unroll
    for (uint32_t r = 0; r < MAX_SPLIT; r++) {
        all += n[r];
        earlier += r < rank ? n[r] : 0;
    }
    total[bin] = all;
    before[bin] = earlier;
}

/* A team finds the cut of a chunk that begins at token `start`: total [n_bins] counts the row's competing tokens by
 * distance, before [n_bins] those in earlier chunks. sums: n_warps pairs, and cut, in shared memory of the team; cut is
 * there after the call, which synchronises the block twice. Where fewer than c.slots were counted, cut stays as it is. */
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

/* ---- the bound ---- */

/* Whether a row is worth a sample; else every token is a candidate. */
static __device__ __forceinline__ bool adm_worth_a_bound(const adm_contest &c) {
    const uint32_t competing = c.last - c.first;
    return competing > 4096 && c.slots < competing / 2;
}

/* How many of a sample of n of the competing tokens must lie within the bound: the winners' share of them, and four
 * standard deviations more. */
static __device__ __forceinline__ uint32_t adm_wanted_of_sample(const adm_contest &c, uint32_t n) {
    const float expected = (float)c.slots * ((float)n / (float)(c.last - c.first));
    return (uint32_t)(expected + 4.0f * sqrtf(expected)) + 4;
}

/* One warp finds the smallest bound within which `wanted` tokens of a sample's histogram lie; n_bins - 1 if so many are
 * not in it. Every lane gets it. */
static __device__ __forceinline__ uint32_t adm_bound_of(const uint32_t *sample, uint32_t n_bins, uint32_t wanted) {
    const uint32_t lane = threadIdx.x % 32, bins = (n_bins + 31) / 32;
    uint32_t mine = 0;
#pragma unroll 8
    for (uint32_t bin = lane * bins; bin < min((lane + 1) * bins, n_bins); bin++) mine += sample[bin];
    uint32_t through = adm_warp_scan(mine), reached = __ballot_sync(ADM_FULL_WARP, through >= wanted);
    if (reached == 0) return n_bins - 1;
    const uint32_t owner = __ffs((int)reached) - 1;
    uint32_t below = __shfl_sync(ADM_FULL_WARP, through - mine, (int)owner);
    for (uint32_t from = owner * bins;; from += 32) { /* its bins one by one */
        through = below + adm_warp_scan(sample[min(from + lane, n_bins - 1)]);
        reached = __ballot_sync(ADM_FULL_WARP, through >= wanted);
        if (reached != 0) return min(from + __ffs((int)reached) - 1, n_bins - 1);
        below = __shfl_sync(ADM_FULL_WARP, through, 31);
    }
}

/* ---- candidates ---- */

/* Those of a warp's part of a chunk, in order: the token, counted from the part's first, and its key, which is its
 * distance + 1, or 0 where it is in by force. n may exceed the room, and the list then is no use. */
typedef struct adm_list {
    uint32_t *entry;
    uint32_t room, n;
} adm_list;

enum { ADM_KEY_BITS = 15 }; /* leaves 17 for the token: parts are at most 2^17 tokens long */

/* The key of a token, for an entry and for judging. */
static __device__ __forceinline__ uint32_t adm_key(const adm_contest &c, uint32_t token, uint32_t distance) {
    return adm_competes(c, token) ? distance + 1 : 0;
}

/* Adds up to 32 tokens, one a lane and neighbours; the lanes in `candidates` have one. Every lane of the warp calls. */
static __device__ __forceinline__ void adm_list_add(adm_list *list, uint32_t candidates, uint32_t token, uint32_t key) {
    const uint32_t lane = threadIdx.x % 32, at = list->n + __popc(candidates & ((1u << lane) - 1));
    if ((candidates >> lane & 1) != 0 && at < list->room) list->entry[at] = token << ADM_KEY_BITS | key;
    list->n += __popc(candidates);
}

/* Winners in hand, by lane: in for sure, and tied at the boundary. there: whether the lane has a token. */
static __device__ __forceinline__ uint2 adm_winners(bool there, uint32_t key, const adm_cut &cut) {
    return make_uint2(__ballot_sync(ADM_FULL_WARP, there && key <= cut.boundary), /* nearer, or in by force */
                      __ballot_sync(ADM_FULL_WARP, there && key == cut.boundary + 1));
}

/* put(place) on the lanes that win. at: how many winners and tied tokens of the row come before; moved on. */
template <typename Put>
static __device__ __forceinline__ void adm_put_winners(uint2 winners, const adm_cut &cut, uint2 *at, Put put) {
    const uint32_t lane = threadIdx.x % 32, before = (1u << lane) - 1;
    const uint32_t ties = at->y + __popc(winners.y & before), rank = at->x + __popc(winners.x & before);
    if ((winners.x >> lane & 1) != 0 || ((winners.y >> lane & 1) != 0 && ties >= cut.too_old))
        put(rank + (ties > cut.too_old ? ties - cut.too_old : 0));
    at->x += __popc(winners.x);
    at->y += __popc(winners.y);
}

/* visit(there, token, key) for a list's entries, 32 at a time, by the whole warp. */
template <typename Visit> static __device__ __forceinline__ void adm_list_visit(const adm_list &list, Visit visit) {
    const uint32_t lane = threadIdx.x % 32;
    for (uint32_t base = 0; base < list.n; base += 32) {
        const bool there = base + lane < list.n;
        const uint32_t entry = there ? list.entry[base + lane] : 0;
        visit(there, entry >> ADM_KEY_BITS, entry & ((1u << ADM_KEY_BITS) - 1));
    }
}

/* ---- without a bound ---- */

/* A strip is the tokens that a warp looks at together, N neighbours a lane. Where its smallest distance is beyond the
 * boundary nothing in it wins, which is nearly everywhere; a strip with a token that is in by force counts as 0. */
template <int N> struct adm_strip {
    static const int tokens = 32 * N;
    uint32_t word[N / 2]; /* two distances each */
};

/* The N distances at p, which is aligned to 2 N bytes. */
template <int N> static __device__ __forceinline__ adm_strip<N> adm_strip_load(const uint16_t *p) {
    adm_strip<N> s;
    if (N == 2) {
        s.word[0] = *(const uint32_t *)p;
    } else if (N == 4) {
        const uint2 x = *(const uint2 *)p;
        s.word[0] = x.x, s.word[N / 2 - 1] = x.y;
    } else {
        const uint4 x = *(const uint4 *)p;
        s.word[0] = x.x, s.word[1 % (N / 2)] = x.y, s.word[2 % (N / 2)] = x.z, s.word[N / 2 - 1] = x.w;
    }
    return s;
}

/* Which of a lane's tokens, the first of them `token`, are in for sure, and which tie at the boundary: bit i is
 * token + i. */
template <int N>
static __device__ __forceinline__ void adm_judge(const adm_strip<N> &strip, uint32_t token, uint32_t end,
                                                 const adm_contest &c, uint32_t boundary, uint32_t *in, uint32_t *tied) {
    *in = *tied = 0;
#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t d = i % 2 ? strip.word[i / 2] >> 16 : strip.word[i / 2] & 0xffffu;
        const bool competes = adm_competes(c, token + i), there = token + i < end;
        if (there && (!competes || d < boundary)) *in |= 1u << i;
        if (there && competes && d == boundary) *tied |= 1u << i;
    }
}

/* A team writes the winners of tokens [start, end): put(place, token), each place of the row's once. distance: theirs,
 * readable up to a multiple of N; least: the smallest of each strip. counts: n_warps pairs of shared memory of the team.
 * Synchronises the block once. */
template <int N, typename Put>
static __device__ __forceinline__ void adm_write_winners(const uint16_t *distance, const uint16_t *least, uint32_t start,
                                                         uint32_t end, const adm_contest &c, const adm_cut &cut,
                                                         const adm_team &team, uint2 *counts, Put put) {
    const uint32_t lane = threadIdx.x % 32, n_strips = (end - start + adm_strip<N>::tokens - 1) / adm_strip<N>::tokens;
    const uint32_t share = (n_strips + team.n_warps - 1) / team.n_warps;
    const uint32_t from = min(team.warp * share, n_strips), to = min(from + share, n_strips);
    uint32_t n_in = 0, n_tied = 0, in, tied;
    for (uint32_t base = from; base < to; base += 32) {
        uint32_t left = __ballot_sync(ADM_FULL_WARP, base + lane < to && least[min(base + lane, to - 1)] <= cut.boundary);
        for (; left != 0; left &= left - 1) {
            const uint32_t at = (base + __ffs((int)left) - 1) * adm_strip<N>::tokens + N * lane;
            in = tied = 0;
            if (start + at < end)
                adm_judge<N>(adm_strip_load<N>(distance + at), start + at, end, c, cut.boundary, &in, &tied);
            n_in += __popc(in);
            n_tied += __popc(tied);
        }
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

    for (uint32_t base = from; base < to; base += 32) {
        uint32_t left = __ballot_sync(ADM_FULL_WARP, base + lane < to && least[min(base + lane, to - 1)] <= cut.boundary);
        for (; left != 0; left &= left - 1) {
            const uint32_t at = (base + __ffs((int)left) - 1) * adm_strip<N>::tokens + N * lane;
            in = tied = 0;
            if (start + at < end)
                adm_judge<N>(adm_strip_load<N>(distance + at), start + at, end, c, cut.boundary, &in, &tied);
            const uint32_t mine = __popc(in) | __popc(tied) << 16, through = adm_warp_scan(mine);
            uint32_t my_rank = rank + ((through - mine) & 0xffffu), my_ties = ties + ((through - mine) >> 16);
            for (uint32_t own = in | tied; own != 0; own &= own - 1) {
                const uint32_t i = __ffs((int)own) - 1;
                const bool ties_here = tied >> i & 1;
                if (!ties_here || my_ties >= cut.too_old)
                    put(my_rank + (my_ties > cut.too_old ? my_ties - cut.too_old : 0), start + at + i);
                if (ties_here) my_ties++;
                else my_rank++;
            }
            const uint32_t all = __shfl_sync(ADM_FULL_WARP, through, 31);
            rank += all & 0xffffu;
            ties += all >> 16;
        }
    }
}

#endif
