/* select.cuh: the counting select of core/contract/stage.h split over the blocks that share a row, for topk.cu and fused.cu.
 *
 *   row      | chunk of block 0 | chunk of block 1 | ...          a histogram of distances per chunk
 *   cut      boundary: the distance at which the winners end; ties_dropped: how many of the tokens tied there lose (the
 *            oldest); rank and ties: winners and tied tokens in the chunks before this one
 *   write    each warp counts the winners in its range of the chunk, then writes them: counts alone give a token's
 *            position, so the result is in order and the same whatever the schedule
 *
 * Few tokens win. So a bound comes first, from a sample of the row: a distance beyond which no token is likely to win. Only
 * candidates within it are counted, and each warp lists those of its range in order. The counts tell when the bound was too
 * low; it is then lifted and all is done again: luck decides the time, never the result.
 *
 * A team is the warps of a block that work on one row; a block may hold several teams, which call in step. */
#ifndef ADM_KERNELS_TOPK_SELECT_CUH
#define ADM_KERNELS_TOPK_SELECT_CUH

#include "kernels/gpu/common.cuh"

/* Tokens [first, last) are eligible for the `remaining` budget; the others are forced in. */
typedef struct adm_row_eligible {
    uint32_t first, last, remaining;
} adm_row_eligible;

static __device__ __forceinline__ adm_row_eligible adm_row_eligible_of(const adm_select_rule &rule, uint32_t n_tokens) {
    const uint32_t n_recent = max(rule.n_recent, 1u);
    adm_row_eligible c;
    c.first = min(rule.n_sinks, n_tokens);
    c.last = n_tokens - c.first > n_recent ? n_tokens - n_recent : c.first;
    const uint32_t n_eligible = c.last - c.first;
    c.remaining = min(rule.budget - (n_tokens - n_eligible), n_eligible);
    return c;
}

static __device__ __forceinline__ bool adm_is_eligible(const adm_row_eligible &c, uint32_t token) {
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

/* ---- the cut ---- */

typedef struct adm_row_cut {
    uint32_t boundary, ties_dropped, rank, ties;
} adm_row_cut;

enum { MAX_SPLIT = 8 /* blocks that share a row, at most */ };

/* One bin over the chunks of a row: the sum of all, and of those before chunk `rank`. counted(r): the bin of chunk r. */
template <typename Counted>
static __device__ __forceinline__ uint2 adm_add_up_bin(uint32_t split, uint32_t rank, Counted counted) {
    uint2 sum = make_uint2(0, 0);
#pragma unroll 1
    for (uint32_t first = 0; first < split; first += 4) {
        uint32_t n[4];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) n[i] = first + i < split ? counted(first + i) : 0;
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            sum.x += n[i];
            sum.y += first + i < rank ? n[i] : 0;
        }
    }
    return sum;
}

/* One warp finds the cut of a chunk that begins at token `start`: sum(bin) [n_bins] counts the row's eligible tokens by
 * distance, in .y those in earlier chunks. One lane writes cut; where fewer than c.remaining were counted, its boundary is
 * UINT32_MAX. */
template <typename Sum>
static __device__ __forceinline__ void adm_find_cut(uint32_t n_bins, const adm_row_eligible &c, uint32_t start,
                                                    adm_row_cut *cut, Sum sum) {
    const uint32_t lane = threadIdx.x % 32, bins = (n_bins + 31) / 32;
    const uint32_t from = min(lane * bins, n_bins), to = min(from + bins, n_bins);
    uint2 mine = make_uint2(0, 0);
#pragma unroll 4
    for (uint32_t bin = from; bin < to; bin++) {
        const uint2 one = sum(bin);
        mine.x += one.x, mine.y += one.y;
    }
    uint32_t below = adm_warp_scan(mine.x) - mine.x, rank = adm_warp_scan(mine.y) - mine.y;
    const uint32_t forced = min(start, c.first) + (start > c.last ? start - c.last : 0);
    const bool here = c.remaining > 0 && below < c.remaining && c.remaining <= below + mine.x; /* on one lane at most */
    const bool anywhere = __ballot_sync(ADM_FULL_WARP, here) != 0;
    if (here) {
        uint32_t boundary = from;
        uint2 one = sum(boundary);
#pragma unroll 1
        while (below + one.x < c.remaining) below += one.x, rank += one.y, one = sum(++boundary);
        *cut = adm_row_cut{boundary, one.x - (c.remaining - below), forced + rank, one.y};
    } else if (!anywhere && lane == 0) {
        *cut = c.remaining == 0 ? adm_row_cut{0, UINT32_MAX, forced, 0} : adm_row_cut{UINT32_MAX, 0, 0, 0};
    }
}

/* ---- the bound ---- */

enum { ADM_NO_DISTANCE = 0x7fff };

enum { ADM_SHORT_ROW = 4096 /* tokens: not worth a sample */ };

/* Whether a row is worth a sample; else every token is a candidate. */
static __device__ __forceinline__ bool adm_worth_a_bound(const adm_row_eligible &c) {
    const uint32_t n_eligible = c.last - c.first;
    return n_eligible > ADM_SHORT_ROW && c.remaining < n_eligible / 2;
}

/* From a histogram of a sample: */

/* How many of a sample must lie within the bound, where so many are expected of the winners: those, and four standard
 * deviations more. */
static __host__ __device__ __forceinline__ uint32_t adm_wanted_of(float expected) {
    return (uint32_t)(expected + 4.0f * sqrtf(expected)) + 4;
}

/* The same for a sample of n of the eligible tokens. */
static __device__ __forceinline__ uint32_t adm_wanted_of_sample(const adm_row_eligible &c, uint32_t n) {
    return adm_wanted_of((float)c.remaining * ((float)n / (float)(c.last - c.first)));
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

/* From a share of a sample per warp, without a histogram: */

/* Each of some warps finds the k-th smallest of `n` sampled distances, and the bound is their mean: for which k a row's
 * winners, which are that share of it, lie within it but for one time in 30,000. That is four standard deviations of the mean;
 * the k-th smallest of n has a share of k / (n + 1) below it, give or take sqrt(k) / (n + 1). noise: 2 over the root of the
 * number of warps. */
static __host__ __device__ __forceinline__ uint32_t adm_bound_rank_of(float share, uint32_t n, float noise) {
    const float root = noise + sqrtf(noise * noise + (float)(n + 1) * share);
    const uint32_t k = (uint32_t)(root * root) + 2;
    return k < n ? k : n;
}

static __device__ __forceinline__ uint32_t adm_bound_rank(const adm_row_eligible &c, uint32_t n, uint32_t n_warps) {
    const float noise = 2.0f * rsqrtf((float)n_warps), share = __fdividef((float)c.remaining, (float)(c.last - c.first));
    return adm_bound_rank_of(share, n, noise);
}

/* The k-th smallest, from 1, of the distances that the lanes of a warp hold in N words each, two per word: the smallest again
 * and again, with all its equals. Leaves the words without them. */
template <int N> static __device__ __forceinline__ uint32_t adm_warp_kth_peeled(uint32_t (&words)[N], uint32_t k) {
    for (;;) {
        uint32_t pair = words[0], n = 0;
#pragma unroll
        for (int i = 1; i < N; i++) pair = __vminu2(pair, words[i]);
        const uint32_t minimum = __reduce_min_sync(ADM_FULL_WARP, min(pair & 0xffffu, pair >> 16));
#pragma unroll
        for (int i = 0; i < N; i++) {
            const bool low = (words[i] & 0xffffu) == minimum, high = words[i] >> 16 == minimum;
            n += __popc(__ballot_sync(ADM_FULL_WARP, low)) + __popc(__ballot_sync(ADM_FULL_WARP, high));
            words[i] |= (low ? ADM_NO_DISTANCE : 0u) | (high ? (uint32_t)ADM_NO_DISTANCE << 16 : 0u);
        }
        if (n >= k || minimum == ADM_NO_DISTANCE) return minimum;
        k -= n;
    }
}

/* The same for any k and at most 512 distances, below n_bins. Four ways at a time, for three counts fit a word. */
template <int N> static __device__ __forceinline__ uint32_t adm_warp_kth(uint32_t (&words)[N], uint32_t k, uint32_t n_bins) {
    if (k <= 6) return adm_warp_kth_peeled(words, k);
    uint32_t low = 0; /* fewer than k are smaller */
#pragma unroll 1
    for (int shift = (32 - __clz((int)n_bins)) / 2 * 2; shift >= 0; shift -= 2) {
        const uint32_t step = 0x10001u << shift, first = (low * 0x10001u + step - 0x10001u) | 0x80008000u;
        uint32_t n = 0;
#pragma unroll
        for (int i = 0; i < N; i++) { /* bits 15 and 31 say whether the bound is no smaller; no borrow goes from half to half */
            n += __popc((first - words[i]) & 0x80008000u);
            n += __popc((first + step - words[i]) & 0x80008000u) << 10;
            n += __popc((first + 2 * step - words[i]) & 0x80008000u) << 20;
        }
        n = __reduce_add_sync(ADM_FULL_WARP, n);
        low += (((n & 1023) < k) + ((n >> 10 & 1023) < k) + ((n >> 20) < k)) << shift;
    }
    return low;
}

/* ---- candidates ---- */

/* Those of a warp's range of a chunk, in order: the token, counted from the range's first, and its key, which is its
 * distance + 1, or 0 where it is forced in. n may exceed the capacity; the list is useless then. */
typedef struct adm_list {
    uint32_t *entry;
    uint32_t capacity, n;
} adm_list;

/* The capacity of a list for a range of so many tokens: twice the share that lies within the bound, and some more; at least
 * min_capacity, even if there cannot be as many. */
static inline uint32_t adm_list_capacity(float within, uint32_t tokens, uint32_t min_capacity) {
    const uint32_t wanted = (uint32_t)(2.0f * within * (float)tokens) + 128, capacity = wanted < tokens ? wanted : tokens;
    return capacity > min_capacity ? capacity : min_capacity;
}

enum { ADM_KEY_BITS = 15 }; /* leaves 17 for the token: ranges are at most 2^17 tokens long */

/* The key of a token, for an entry and for judging. */
static __device__ __forceinline__ uint32_t adm_key(const adm_row_eligible &c, uint32_t token, uint32_t distance) {
    return adm_is_eligible(c, token) ? distance + 1 : 0;
}

/* Winners in hand, by lane: in for sure, and tied at the boundary. there: whether the lane has a token. */
static __device__ __forceinline__ uint2 adm_winners(bool there, uint32_t key, const adm_row_cut &cut) {
    return make_uint2(__ballot_sync(ADM_FULL_WARP, there && key <= cut.boundary), /* nearer, or forced in */
                      __ballot_sync(ADM_FULL_WARP, there && key == cut.boundary + 1));
}

/* The position in the index of the first winner behind so many winners and tied tokens of a row. */
static __device__ __forceinline__ uint32_t adm_index_position(const adm_row_cut &cut, uint2 before) {
    return before.x + (before.y > cut.ties_dropped ? before.y - cut.ties_dropped : 0);
}

/* put(position) on the lanes that win. at: how many winners and tied tokens of the row come before; moved on. */
template <typename Put>
static __device__ __forceinline__ void adm_put_winners(uint2 winners, const adm_row_cut &cut, uint2 *at, Put put) {
    const uint32_t lane = threadIdx.x % 32, before = (1u << lane) - 1;
    const uint32_t ties = at->y + __popc(winners.y & before), rank = at->x + __popc(winners.x & before);
    if ((winners.x >> lane & 1) != 0 || ((winners.y >> lane & 1) != 0 && ties >= cut.ties_dropped))
        put(adm_index_position(cut, make_uint2(rank, ties)));
    at->x += __popc(winners.x);
    at->y += __popc(winners.y);
}

/* visit(there, at, key) for a range's candidates, 32 at a time, by the whole warp; at: the token, counted from the range's
 * first. From the list; or, where that was too short, for all n_tokens of the range, key(at) being their keys. */
template <typename Key, typename Visit>
static __device__ __forceinline__ void adm_visit(const adm_list &list, uint32_t n_tokens, Key key, Visit visit) {
    const bool listed = list.n <= list.capacity;
    const uint32_t n = listed ? list.n : n_tokens;
#pragma unroll 1
    for (uint32_t base = 0; base < n; base += 32) {
        const uint32_t at = base + threadIdx.x % 32;
        uint32_t entry = 0;
        if (!listed) entry = at << ADM_KEY_BITS | key(at);
        else if (at < n) entry = list.entry[at];
        visit(at < n, entry >> ADM_KEY_BITS, entry & ((1u << ADM_KEY_BITS) - 1));
    }
}

/* ---- without a bound ---- */

/* A tile is the tokens that a warp looks at together, N neighbours per lane. Where its smallest distance is beyond the
 * boundary nothing in it wins, which is nearly everywhere; a tile with a token that is forced in counts as 0. */
template <int N> struct adm_lane_tile {
    static const int tokens = 32 * N;
    uint32_t word[N / 2]; /* two distances each */
};

/* The N distances at p, which is aligned to 2 N bytes. */
template <int N> static __device__ __forceinline__ adm_lane_tile<N> adm_lane_tile_load(const uint16_t *p) {
    adm_lane_tile<N> s;
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
static __device__ __forceinline__ void adm_judge(const adm_lane_tile<N> &tile, uint32_t token, uint32_t end,
                                                 const adm_row_eligible &c, uint32_t boundary, uint32_t *in, uint32_t *tied) {
    *in = *tied = 0;
#pragma unroll
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t d = i % 2 ? tile.word[i / 2] >> 16 : tile.word[i / 2] & 0xffffu;
        const bool eligible = adm_is_eligible(c, token + i), there = token + i < end;
        if (there && (!eligible || d < boundary)) *in |= 1u << i;
        if (there && eligible && d == boundary) *tied |= 1u << i;
    }
}

/* A team writes the winners of tokens [start, end): put(position, token), each position of the row's once. distance: theirs,
 * readable up to a multiple of N; tile_min: the smallest of each tile. counts: n_warps pairs of shared memory of the team.
 * Synchronises the block once. */
template <int N, typename Put>
static __device__ __forceinline__ void adm_write_winners(const uint16_t *distance, const uint16_t *tile_min, uint32_t start,
                                                         uint32_t end, const adm_row_eligible &c, const adm_row_cut &cut,
                                                         const adm_team &team, uint2 *counts, Put put) {
    const uint32_t lane = threadIdx.x % 32, n_tiles = (end - start + adm_lane_tile<N>::tokens - 1) / adm_lane_tile<N>::tokens;
    const uint32_t share = (n_tiles + team.n_warps - 1) / team.n_warps;
    const uint32_t from = min(team.warp * share, n_tiles), to = min(from + share, n_tiles);
    uint32_t n_in = 0, n_tied = 0, in, tied;
    for (uint32_t base = from; base < to; base += 32) {
        uint32_t left = __ballot_sync(ADM_FULL_WARP, base + lane < to && tile_min[min(base + lane, to - 1)] <= cut.boundary);
        for (; left != 0; left &= left - 1) {
            const uint32_t at = (base + __ffs((int)left) - 1) * adm_lane_tile<N>::tokens + N * lane;
            in = tied = 0;
            if (start + at < end)
                adm_judge<N>(adm_lane_tile_load<N>(distance + at), start + at, end, c, cut.boundary, &in, &tied);
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
        uint32_t left = __ballot_sync(ADM_FULL_WARP, base + lane < to && tile_min[min(base + lane, to - 1)] <= cut.boundary);
        for (; left != 0; left &= left - 1) {
            const uint32_t at = (base + __ffs((int)left) - 1) * adm_lane_tile<N>::tokens + N * lane;
            in = tied = 0;
            if (start + at < end)
                adm_judge<N>(adm_lane_tile_load<N>(distance + at), start + at, end, c, cut.boundary, &in, &tied);
            const uint32_t mine = __popc(in) | __popc(tied) << 16, through = adm_warp_scan(mine);
            uint32_t my_rank = rank + ((through - mine) & 0xffffu), my_ties = ties + ((through - mine) >> 16);
            for (uint32_t own = in | tied; own != 0; own &= own - 1) {
                const uint32_t i = __ffs((int)own) - 1;
                const bool ties_here = tied >> i & 1;
                if (!ties_here || my_ties >= cut.ties_dropped)
                    put(my_rank + (my_ties > cut.ties_dropped ? my_ties - cut.ties_dropped : 0), start + at + i);
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
