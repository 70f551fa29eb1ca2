/* held.cuh: top-k of rows whose distances fit the registers of a cluster of blocks. They are read once, all at once:
 *
 *   load     a warp holds up to TILES tiles of 256 neighbouring tokens, eight neighbours a lane in each
 *   count    a histogram of all; an add of 1 to shared memory costs 1.5 to 5 cycles of the SM for 32 distances
 *   share    how many tokens lie up to each bin: every block pushes its sums to all blocks of the cluster. One exchange
 *            tells each the boundary, the ties that lose, and what comes before it in the index
 *   write    winners are marked in the registers, and scans over the warps and lanes give each its position */
#ifndef ADM_KERNELS_TOPK_HELD_CUH
#define ADM_KERNELS_TOPK_HELD_CUH

#include "kernels/topk/select.cuh"

enum { HELD_THREADS = 512, HELD_WARPS = HELD_THREADS / 32, HELD_TILE = 256, HELD_BEHIND = 32 };

#if __CUDA_ARCH__ >= 900

/* A block's shared memory of known size. */
typedef struct held_memory {
    uint64_t pushed; /* a barrier: counts what the blocks push */
    uint32_t totals[HELD_WARPS], counts[HELD_WARPS];
    adm_row_cut cut;
} held_memory;

/* The tiles of a warp: `n` of them from token `start` on. */
typedef struct held_range {
    uint32_t start, n;
} held_range;

/* All tiles of a row go round its warps evenly. */
static __device__ __forceinline__ held_range held_range_of(uint32_t length, uint32_t split, uint32_t rank) {
    const uint32_t n_tiles = (length + HELD_TILE - 1) / HELD_TILE, n_warps = split * HELD_WARPS;
    const uint32_t warp = rank * HELD_WARPS + threadIdx.x / 32, first = n_tiles * warp / n_warps;
    return held_range{first * HELD_TILE, n_tiles * (warp + 1) / n_warps - first};
}

/* Takes tokens that are not eligible out of a word of two distances, the first of token `token`. What lies beyond the row
 * may be anything. */
static __device__ __forceinline__ uint32_t held_eligible(uint32_t pair, const adm_row_eligible &c, uint32_t token) {
    const uint32_t low = adm_is_eligible(c, token) ? pair & 0xffffu : (uint32_t)ADM_NO_DISTANCE;
    const uint32_t high = adm_is_eligible(c, token + 1) ? pair >> 16 : (uint32_t)ADM_NO_DISTANCE;
    return low | high << 16;
}

/* This lane's tokens; those that are not eligible have no distance. */
template <int TILES>
static __device__ __forceinline__ void held_load(const uint16_t *distance, const adm_row_eligible &c, const held_range &range,
                                                 uint4 (&x)[TILES]) {
    const uint32_t none = ADM_NO_DISTANCE * 0x10001u, lane_start = range.start + 8 * (threadIdx.x % 32);
#pragma unroll
    for (uint32_t i = 0; i < TILES; i++) {
        const uint32_t token = lane_start + HELD_TILE * i;
        x[i] = make_uint4(none, none, none, none);
        if (i < range.n && token < c.last && token + 8 > c.first) x[i] = *(const uint4 *)(distance + token);
    }
#pragma unroll
    for (uint32_t i = 0; i < TILES; i++) {
        const uint32_t tile = range.start + HELD_TILE * i, token = lane_start + HELD_TILE * i;
        if (i >= range.n || (tile >= c.first && tile + HELD_TILE <= c.last)) continue;
        x[i].x = held_eligible(x[i].x, c, token);
        x[i].y = held_eligible(x[i].y, c, token + 2);
        x[i].z = held_eligible(x[i].z, c, token + 4);
        x[i].w = held_eligible(x[i].w, c, token + 6);
    }
}

/* Counts n tiles. Tokens without a distance go to bins behind the others, where lanes do not meet. */
template <int TILES>
static __device__ __forceinline__ void held_count(const uint4 (&x)[TILES], uint32_t n, uint32_t n_bins, uint32_t *histogram) {
    const uint32_t behind = (n_bins + threadIdx.x % 32) * 0x10001u;
#pragma unroll
    for (uint32_t i = 0; i < TILES; i++) {
        if (i >= n) break;
        const uint32_t word[4] = {__vminu2(x[i].x, behind), __vminu2(x[i].y, behind), __vminu2(x[i].z, behind),
                                  __vminu2(x[i].w, behind)};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            atomicAdd(&histogram[word[k] & 0xffffu], 1u);
            atomicAdd(&histogram[word[k] >> 16], 1u);
        }
    }
}

/* The bins of a thread, from `from` to before `to`. */
static __device__ __forceinline__ uint2 held_bins_of(uint32_t n_bins) {
    const uint32_t bins = (n_bins + HELD_THREADS - 1) / HELD_THREADS, from = min(threadIdx.x * bins, n_bins);
    return make_uint2(from, min(from + bins, n_bins));
}

/* How many of the block's tokens have a distance up to each bin's: put(bin, n). Synchronises the block once. */
template <typename Put>
static __device__ __forceinline__ void held_add_up(const uint32_t *histogram, const uint2 &bins, uint32_t *totals, Put put) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint32_t mine = 0;
#pragma unroll 1
    for (uint32_t bin = bins.x; bin < bins.y; bin++) mine += histogram[bin];
    const uint32_t through = adm_warp_scan(mine);
    if (lane == 31) totals[warp] = through;
    __syncthreads();
    uint32_t up_to = through - mine + __reduce_add_sync(ADM_FULL_WARP, lane < warp ? totals[lane] : 0);
#pragma unroll 1
    for (uint32_t bin = bins.x; bin < bins.y; bin++) put(bin, up_to += histogram[bin]);
}

/* How many tokens of the first `split` blocks lie up to a bin. sums: [split][n_bins]. */
static __device__ __forceinline__ uint32_t held_up_to(const uint32_t *sums, uint32_t n_bins, uint32_t split, uint32_t bin) {
    uint32_t n = 0;
#pragma unroll 4
    for (uint32_t r = 0; r < split; r++) n += sums[r * n_bins + bin];
    return n;
}

/* The thread among whose bins the winners end writes the cut. */
static __device__ __forceinline__ void held_find_cut(const uint32_t *sums, uint32_t n_bins, uint32_t split, uint32_t rank,
                                                     const uint2 &bins, const adm_row_eligible &c, adm_row_cut *cut) {
    uint32_t below = bins.x > 0 && bins.x < bins.y ? held_up_to(sums, n_bins, split, bins.x - 1) : 0;
#pragma unroll 1
    for (uint32_t bin = bins.x; bin < bins.y; bin++) {
        const uint32_t here = held_up_to(sums, n_bins, split, bin);
        if (below < c.remaining && c.remaining <= here) {
            const uint32_t before = bin > 0 ? held_up_to(sums, n_bins, rank, bin - 1) : 0;
            *cut = adm_row_cut{bin, here - c.remaining, c.first + before, held_up_to(sums, n_bins, rank, bin) - before};
        }
        below = here;
    }
}

/* Bit i: whether distance i of the eight is no larger than `bound2`, twice in a word, with bits 15 and 31 set. */
static __device__ __forceinline__ uint32_t held_within(const uint4 &x, uint32_t bound2) {
    const uint32_t all = ((bound2 - x.x) & 0x80008000u) >> 15 | ((bound2 - x.y) & 0x80008000u) >> 13 |
                         ((bound2 - x.z) & 0x80008000u) >> 11 | ((bound2 - x.w) & 0x80008000u) >> 9;
    return (all & 0x55u) | (all >> 15 & 0xaau); /* even tokens' bits are at 0, 2, 4, 6; odd ones' at 16, 18, 20, 22 */
}

/* A lane's marks: a byte per tile. */
template <int TILES> struct held_marks {
    static const int words = (TILES + 3) / 4;
    uint32_t word[words];
};

template <int TILES> static __device__ __forceinline__ uint32_t held_marked(const held_marks<TILES> &marks) {
    uint32_t n = 0;
#pragma unroll
    for (int w = 0; w < held_marks<TILES>::words; w++) n += __popc(marks.word[w]);
    return n;
}

/* Bits set in each byte of a word. */
static __device__ __forceinline__ uint32_t held_bits_of_bytes(uint32_t x) {
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    return (x + (x >> 4)) & 0x0f0f0f0fu;
}

/* Takes away the first `n` of a warp's marks. */
template <int TILES> static __device__ __forceinline__ void held_drop_first(held_marks<TILES> *marks, uint32_t n) {
#pragma unroll
    for (int w = 0; w < held_marks<TILES>::words; w++) {
        uint32_t left = 0;
#pragma unroll 1
        for (int byte = 0; byte < 4; byte++) {
            uint32_t mine = marks->word[w] >> 8 * byte & 0xffu;
            const uint32_t own = __popc(mine), through = adm_warp_scan(own);
            for (uint32_t lose = n > through - own ? n - (through - own) : 0; lose > 0 && mine != 0; lose--) mine &= mine - 1;
            left |= mine << 8 * byte;
            n -= min(n, __shfl_sync(ADM_FULL_WARP, through, 31));
        }
        marks->word[w] = left;
    }
}

/* put(position, token) for each of a warp's marks in order; the first one's position is `position`. */
template <int TILES, typename Put>
static __device__ __forceinline__ void held_put(const held_marks<TILES> &marks, uint32_t start, uint32_t position, Put put) {
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int w = 0; w < held_marks<TILES>::words; w++) {
        const uint32_t own = held_bits_of_bytes(marks.word[w]);
        uint32_t before = __shfl_up_sync(ADM_FULL_WARP, own, 1); /* of 31 lanes at most: 248 fits a byte */
        if (lane == 0) before = 0;
        before = adm_warp_scan(before);
        const uint32_t last_before = __shfl_sync(ADM_FULL_WARP, before, 31), last_own = __shfl_sync(ADM_FULL_WARP, own, 31);
#pragma unroll
        for (int byte = 0; byte < 4 && 4 * w + byte < TILES; byte++) {
            uint32_t at = position + (before >> 8 * byte & 0xffu);
            const uint32_t token = start + (4 * w + byte) * HELD_TILE + 8 * lane;
#pragma unroll 1
            for (uint32_t mine = marks.word[w] >> 8 * byte & 0xffu; mine != 0; mine &= mine - 1)
                put(at++, token + __ffs((int)mine) - 1);
            position += (last_before >> 8 * byte & 0xffu) + (last_own >> 8 * byte & 0xffu);
        }
    }
}

/* The winners of the warps' tokens into the index. counts: shared memory. Synchronises the block once. */
template <int TILES>
static __device__ __forceinline__ void held_write(const uint4 (&x)[TILES], const held_range &range, const adm_row_cut &cut,
                                                  uint32_t *counts, uint32_t *index) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t here2 = cut.boundary * 0x10001u | 0x80008000u;
    held_marks<TILES> in = {}, tied = {};
#pragma unroll
    for (int i = 0; i < TILES; i++) {
        const uint32_t below = held_within(x[i], here2 - 0x10001u), up_to = held_within(x[i], here2);
        in.word[i / 4] |= below << i % 4 * 8;
        tied.word[i / 4] |= (up_to ^ below) << i % 4 * 8;
    }
    /* In the low half winners, in the high half tied tokens: 2^15 each at most in a block. */
    const uint32_t own = __reduce_add_sync(ADM_FULL_WARP, held_marked(in) | held_marked(tied) << 16);
    if (lane == 0) counts[warp] = own;
    __syncthreads();
    const uint32_t before = __reduce_add_sync(ADM_FULL_WARP, lane < warp ? counts[lane] : 0);
    const uint32_t ties = cut.ties + (before >> 16), dropped = cut.ties_dropped;
    const uint32_t position = cut.rank + (before & 0xffffu) + (ties > dropped ? ties - dropped : 0);
    if (ties < dropped && ties + (own >> 16) > dropped) held_drop_first(&tied, dropped - ties);
    const bool some_tied = ties + (own >> 16) > dropped;
#pragma unroll
    for (int w = 0; w < held_marks<TILES>::words; w++) in.word[w] |= some_tied ? tied.word[w] : 0;
    held_put(in, range.start, position, [&](uint32_t at, uint32_t token) { index[at] = token; });
}

/* Tokens that are forced in, by one block of the row. */
static __device__ __forceinline__ void held_write_forced(const adm_row_eligible &c, uint32_t length, uint32_t *index) {
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < c.first; i += HELD_THREADS) index[i] = i;
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < length - c.last; i += HELD_THREADS) index[c.first + c.remaining + i] = c.last + i;
}

#endif /* __CUDA_ARCH__ >= 900 */

/* distance (rows, capacity) -> index (rows, budget), n_selected (rows). Grid (split, rows), a cluster per row, of which
 * HELD_WARPS x TILES x split tiles hold all tokens. Dynamic shared memory: a histogram of n_bins + HELD_BEHIND, sums
 * [split][n_bins]. */
template <int TILES>
static __global__ void __launch_bounds__(HELD_THREADS, 2)
    topk_held(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(16) uint32_t histogram[];
    __shared__ held_memory memory;
    uint32_t *sums = histogram + n_bins + HELD_BEHIND;
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    adm_start_dependents();
#pragma unroll 1
    for (uint32_t bin = threadIdx.x; bin < n_bins + HELD_BEHIND; bin += HELD_THREADS) histogram[bin] = 0;
    if (threadIdx.x == 0) memory.cut = adm_row_cut{0, UINT32_MAX, 0, 0}; /* where nothing is left to rank */
    if (split > 1) {
        if (threadIdx.x == 0) {
            adm_barrier_init(&memory.pushed);
            adm_barrier_fence();
            adm_barrier_expect(&memory.pushed, split * n_bins * sizeof(uint32_t));
        }
        adm_cluster_arrive_relaxed();
    }
    const uint32_t length = p.length[row / (s.selection == ADM_SELECT_GROUP ? s.heads.n_kv_heads : s.heads.n_q_heads)];
    const adm_row_eligible c = adm_row_eligible_of(s.rule, length);
    const held_range range = held_range_of(length, split, rank);
    const uint2 bins = held_bins_of(n_bins);
    uint32_t *index = p.index + (size_t)row * s.rule.budget;
    adm_wait_for_predecessors();

    uint4 x[TILES];
    held_load(p.distance + (size_t)row * s.capacity, c, range, x);
    if (rank == 0) held_write_forced(c, length, index);
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    __syncthreads(); /* the histogram is empty */
    held_count(x, range.n, n_bins, histogram);
    __syncthreads();
    if (split > 1) adm_cluster_wait(); /* all blocks have begun */
    held_add_up(histogram, bins, memory.totals, [&](uint32_t bin, uint32_t n) {
        if (split == 1) sums[bin] = n;
#pragma unroll 1
        for (uint32_t r = 0; r < split && split > 1; r++) adm_push(&sums[rank * n_bins + bin], n, r, &memory.pushed);
    });
    if (split > 1) adm_barrier_wait_pushed(&memory.pushed, 0);
    else __syncthreads();
    held_find_cut(sums, n_bins, split, rank, bins, c, &memory.cut);
    __syncthreads();
    const adm_row_cut found = memory.cut;
    held_write(x, range, found, memory.counts, index);
#endif
}

#endif
