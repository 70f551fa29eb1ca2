/* held.cuh: top-k of rows whose distances fit the shared memory of a cluster of blocks. They are read once, all at once:
 *
 *   load     a bulk copy per warp. A lane holds neighbouring tokens, eight per chunk, and one chunk for each tile of the warp
 *   count    a histogram of all; an add of 1 to shared memory costs 1.5 to 5 cycles of the SM for 32 distances. Each chunk's
 *            smallest distance stays in a register
 *   share    every block pushes its counts to all blocks of the cluster. One exchange tells each the boundary, the ties that
 *            lose, and what comes before it in the index
 *   write    winners are marked in the chunks that have any, and scans over the lanes and warps give each its position */
#ifndef ADM_KERNELS_TOPK_HELD_CUH
#define ADM_KERNELS_TOPK_HELD_CUH

#include "kernels/topk/select.cuh"

enum {
    HELD_WARPS = 32, /* of a block, at most */
    HELD_TILES = 8,  /* of a warp, at most */
    HELD_CHUNK = 8,  /* tokens */
    HELD_TILE = 32 * HELD_CHUNK,
    HELD_BEHIND = 32 /* bins behind the others, one per lane, for tokens without a distance */
};

#if __CUDA_ARCH__ >= 900

/* A block's shared memory of known size. */
typedef struct held_memory {
    uint64_t pushed, loaded[HELD_WARPS]; /* barriers: count what the blocks push, and what is copied */
    uint2 totals[HELD_WARPS];
    uint32_t counts[HELD_WARPS];
    adm_row_cut cut;
} held_memory;

/* A warp's tokens, `n` tiles from token `start` on. A lane has n chunks that follow one another, and begins with chunk `turn`:
 * so the lanes that read at the same time read different banks, whatever n. */
typedef struct held_range {
    uint32_t start, n, turn;
    uint4 *chunk; /* this lane's [n] */
} held_range;

/* A row's tiles are shared out evenly among its warps, in order. tokens: the block's, [WARPS][max_tiles] tiles. */
template <int WARPS>
static __device__ __forceinline__ held_range held_range_of(uint32_t length, uint32_t split, uint32_t rank, uint4 *tokens,
                                                           uint32_t max_tiles) {
    const uint32_t warp = __shfl_sync(ADM_FULL_WARP, threadIdx.x / 32, 0), lane = threadIdx.x % 32;
    const uint32_t n_tiles = (length + HELD_TILE - 1) / HELD_TILE, n_warps = split * WARPS, at = rank * WARPS + warp;
    const uint32_t first = n_tiles * at / n_warps, n = n_tiles * (at + 1) / n_warps - first;
    const uint32_t power = min(n & (0 - n), 8u); /* of two, in n */
    return held_range{first * HELD_TILE, n, n > 0 ? (lane * power / 8) & (power - 1) : 0,
                      tokens + warp * max_tiles * 32 + lane * n};
}

/* Which of a lane's chunks is the i-th that it reads. */
static __device__ __forceinline__ uint32_t held_chunk(const held_range &range, uint32_t i) {
    const uint32_t chunk = i + range.turn;
    return chunk < range.n ? chunk : chunk - range.n;
}

/* Bytes of a warp's tokens, as far as a row with room for `capacity` has them. */
static __device__ __forceinline__ uint32_t held_bytes(const held_range &range, uint32_t capacity) {
    return range.n > 0 ? min(range.n * HELD_TILE, capacity - range.start) * (uint32_t)sizeof(uint16_t) : 0;
}

/* Takes tokens that are not eligible out of a word of two distances, the first of token `token`. What lies beyond the row
 * may be anything. */
static __device__ __forceinline__ uint32_t held_eligible(uint32_t pair, const adm_row_eligible &c, uint32_t token) {
    const uint32_t low = adm_is_eligible(c, token) ? pair & 0xffffu : (uint32_t)ADM_NO_DISTANCE;
    const uint32_t high = adm_is_eligible(c, token + 1) ? pair >> 16 : (uint32_t)ADM_NO_DISTANCE;
    return low | high << 16;
}

/* Waits for a warp's tokens; those that are not eligible have no distance from then on. */
static __device__ __forceinline__ void held_await(const adm_row_eligible &c, const held_range &range, uint64_t *loaded) {
    if (range.n == 0) return;
    adm_barrier_wait(loaded, 0);
    if (range.start >= c.first && range.start + range.n * HELD_TILE <= c.last) return;
#pragma unroll 1
    for (uint32_t i = 0; i < range.n; i++) {
        const uint32_t token = range.start + (threadIdx.x % 32 * range.n + i) * HELD_CHUNK;
        uint4 x = range.chunk[i];
        x.x = held_eligible(x.x, c, token);
        x.y = held_eligible(x.y, c, token + 2);
        x.z = held_eligible(x.z, c, token + 4);
        x.w = held_eligible(x.w, c, token + 6);
        range.chunk[i] = x;
    }
}

/* Counts a lane's chunks. least: of each the smallest distances, two per word. Tokens without a distance go to bins behind the
 * others, where lanes do not meet. */
template <int TILES>
static __device__ __forceinline__ void held_count(const held_range &range, uint32_t n_bins, uint32_t *histogram,
                                                  uint32_t (&least)[TILES]) {
    const uint32_t behind = (n_bins + threadIdx.x % 32) * 0x10001u;
#pragma unroll
    for (uint32_t i = 0; i < TILES; i++) {
        least[i] = ADM_NO_DISTANCE * 0x10001u;
        if (i >= range.n) continue;
        const uint4 x = range.chunk[held_chunk(range, i)];
        least[i] = __vminu2(__vminu2(x.x, x.y), __vminu2(x.z, x.w));
        const uint32_t word[4] = {__vminu2(x.x, behind), __vminu2(x.y, behind), __vminu2(x.z, behind), __vminu2(x.w, behind)};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            atomicAdd(&histogram[word[k] & 0xffffu], 1u);
            atomicAdd(&histogram[word[k] >> 16], 1u);
        }
    }
}

/* Pushes a block's counts to all blocks of the cluster; neighbouring threads' lie side by side. counts: [split][n_bins]. */
template <int WARPS>
static __device__ __forceinline__ void held_push(const uint32_t *histogram, uint32_t n_bins, uint32_t split, uint32_t rank,
                                                 uint32_t *counts, uint64_t *pushed) {
#pragma unroll 1
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += 32 * WARPS) {
        const uint32_t n = histogram[bin];
#pragma unroll 1
        for (uint32_t r = 0; r < split; r++) adm_push(&counts[rank * n_bins + bin], n, r, pushed);
    }
}

/* A bin of all blocks, and in .y of those before block `rank`. */
static __device__ __forceinline__ uint2 held_bin(const uint32_t *counts, uint32_t n_bins, uint32_t split, uint32_t rank,
                                                 uint32_t bin) {
    uint2 sum = make_uint2(0, 0);
#pragma unroll 4
    for (uint32_t r = 0; r < split; r++) {
        const uint32_t n = counts[r * n_bins + bin];
        sum.x += n;
        sum.y += r < rank ? n : 0;
    }
    return sum;
}

/* Inclusive sums over the lanes of both members, side by side. */
static __device__ __forceinline__ uint2 held_scan(uint2 x) {
#pragma unroll
    for (uint32_t step = 1; step < 32; step *= 2) {
        const uint32_t a = __shfl_up_sync(ADM_FULL_WARP, x.x, step), b = __shfl_up_sync(ADM_FULL_WARP, x.y, step);
        if (threadIdx.x % 32 >= step) x.x += a, x.y += b;
    }
    return x;
}

/* The thread among whose bins the winners end writes the cut. Synchronises the block once. */
template <int WARPS>
static __device__ __forceinline__ void held_find_cut(const uint32_t *counts, uint32_t n_bins, uint32_t split, uint32_t rank,
                                                     const adm_row_eligible &c, uint2 *totals, adm_row_cut *cut) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_each = (n_bins + 32 * WARPS - 1) / (32 * WARPS);
    const uint32_t from = min(threadIdx.x * n_each, n_bins), to = min(from + n_each, n_bins);
    uint2 mine = make_uint2(0, 0);
#pragma unroll 1
    for (uint32_t bin = from; bin < to; bin++) {
        const uint2 one = held_bin(counts, n_bins, split, rank, bin);
        mine.x += one.x, mine.y += one.y;
    }
    const uint2 through = held_scan(mine);
    if (lane == 31) totals[warp] = through;
    __syncthreads();
    const uint2 earlier = lane < warp ? totals[lane] : make_uint2(0, 0);
    uint32_t below = __reduce_add_sync(ADM_FULL_WARP, earlier.x) + through.x - mine.x;
    uint32_t before = __reduce_add_sync(ADM_FULL_WARP, earlier.y) + through.y - mine.y;
    if (below < c.remaining && c.remaining <= below + mine.x) {
        uint2 one = mine;
        uint32_t bin = from;
        if (n_each > 1) {
#pragma unroll 1
            for (one = held_bin(counts, n_bins, split, rank, bin); below + one.x < c.remaining;) {
                below += one.x, before += one.y;
                one = held_bin(counts, n_bins, split, rank, ++bin);
            }
        }
        *cut = adm_row_cut{bin, below + one.x - c.remaining, c.first + before, one.y};
    }
}

/* Four bytes: the signs of a's halves, then of b's, each as 0 or 0xff. */
static __device__ __forceinline__ uint32_t held_signs(uint32_t a, uint32_t b) {
    uint32_t signs;
    asm("prmt.b32 %0, %1, %2, 0xfdb9;" : "=r"(signs) : "r"(a), "r"(b));
    return signs;
}

/* Bit i: whether distance i of the eight is no larger than `bound2`, twice in a word, with bits 15 and 31 set. */
static __device__ __forceinline__ uint32_t held_within(const uint4 &x, uint32_t bound2) {
    const uint32_t low = held_signs(bound2 - x.x, bound2 - x.y) & 0x08040201u;
    const uint32_t high = held_signs(bound2 - x.z, bound2 - x.w) & 0x80402010u;
    return (low | high) * 0x01010101u >> 24;
}

/* A lane's marks: a bit per token. */
template <int TILES> struct held_marks {
    uint64_t in, tied;
};
template <> struct held_marks<2> {
    uint32_t in, tied;
};
template <> struct held_marks<4> {
    uint32_t in, tied;
};

static __device__ __forceinline__ uint32_t held_bits(uint32_t x) { return __popc(x); }
static __device__ __forceinline__ uint32_t held_bits(uint64_t x) { return __popcll(x); }
static __device__ __forceinline__ uint32_t held_lowest(uint32_t x) { return __ffs((int)x) - 1; }
static __device__ __forceinline__ uint32_t held_lowest(uint64_t x) { return __ffsll((long long)x) - 1; }

/* Who of a lane's tokens wins, and who is tied. Few chunks have any. */
template <int TILES>
static __device__ __forceinline__ held_marks<TILES> held_mark(const held_range &range, const uint32_t (&least)[TILES],
                                                              uint32_t boundary) {
    const uint32_t here2 = boundary * 0x10001u | 0x80008000u;
    held_marks<TILES> marks = {};
    uint32_t chunks = 0;
#pragma unroll
    for (uint32_t i = 0; i < TILES; i++)
        if (i < range.n && ((here2 - least[i]) & 0x80008000u) != 0) chunks |= 1u << held_chunk(range, i);
#pragma unroll 1
    for (; chunks != 0; chunks &= chunks - 1) {
        const uint32_t chunk = held_lowest(chunks);
        const uint4 x = range.chunk[chunk];
        const uint32_t below = held_within(x, here2 - 0x10001u), up_to = held_within(x, here2);
        marks.in |= (decltype(marks.in))below << HELD_CHUNK * chunk;
        marks.tied |= (decltype(marks.in))(up_to ^ below) << HELD_CHUNK * chunk;
    }
    __syncwarp();
    return marks;
}

/* The winners of the block's tokens into the index. counts: shared memory. Synchronises the block once. */
template <int TILES>
static __device__ __forceinline__ void held_write(const held_range &range, const uint32_t (&least)[TILES],
                                                  const adm_row_cut &cut, uint32_t *counts, uint32_t *index) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const held_marks<TILES> marks = held_mark<TILES>(range, least, cut.boundary);
    /* In the low half winners, in the high half tied tokens: 2^15 each at most in a block. */
    const uint32_t own = held_bits(marks.in) | held_bits(marks.tied) << 16, through = adm_warp_scan(own);
    if (lane == 31) counts[warp] = through;
    __syncthreads();
    const uint32_t before = __reduce_add_sync(ADM_FULL_WARP, lane < warp ? counts[lane] : 0) + through - own;
    uint32_t ties = cut.ties + (before >> 16), at = cut.rank + (before & 0xffffu);
    at += ties > cut.ties_dropped ? ties - cut.ties_dropped : 0;
    const uint32_t first = range.start + lane * range.n * HELD_CHUNK;
#pragma unroll 1
    for (auto left = marks.in | marks.tied; left != 0; left &= left - 1) {
        const uint32_t bit = held_lowest(left);
        const bool tied = marks.tied >> bit & 1;
        if (!tied || ties >= cut.ties_dropped) index[at++] = first + bit;
        ties += tied;
    }
}

/* Tokens that are forced in, by one block of the row. */
template <int WARPS>
static __device__ __forceinline__ void held_write_forced(const adm_row_eligible &c, uint32_t length, uint32_t *index) {
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < c.first; i += 32 * WARPS) index[i] = i;
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < length - c.last; i += 32 * WARPS) index[c.first + c.remaining + i] = c.last + i;
}

#endif /* __CUDA_ARCH__ >= 900 */

/* distance (rows, capacity) -> index (rows, budget), n_selected (rows). Grid (split, rows), a cluster per row. A warp has at
 * most max_tiles tiles, which are TILES at most. Dynamic shared memory: the tokens [WARPS][max_tiles] tiles, a histogram of
 * n_bins + HELD_BEHIND, counts [split][n_bins] unless split is 1. Where there are more rows than SMs, two blocks of 32 warps
 * share an SM, with 32 registers per thread. */
template <int WARPS, int TILES>
static __global__ void __launch_bounds__(32 * WARPS, WARPS == 32 && TILES <= 4 ? 2 : 1)
    topk_held(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins,
              uint32_t max_tiles) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(128) uint4 tokens[];
    __shared__ held_memory memory;
    uint32_t *histogram = (uint32_t *)(tokens + WARPS * max_tiles * 32), *counts = histogram + n_bins + HELD_BEHIND;
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    const uint32_t warp = __shfl_sync(ADM_FULL_WARP, threadIdx.x / 32, 0);
    adm_start_dependents();
#pragma unroll 1
    for (uint32_t bin = threadIdx.x; bin < n_bins + HELD_BEHIND; bin += 32 * WARPS) histogram[bin] = 0;
    uint64_t *loaded = &memory.loaded[warp];
    if (threadIdx.x % 32 == 0) adm_barrier_init(loaded);
    if (threadIdx.x == 0) {
        memory.cut = adm_row_cut{0, UINT32_MAX, 0, 0}; /* where nothing is left to rank */
        if (split > 1) adm_barrier_init(&memory.pushed);
    }
    if (threadIdx.x % 32 == 0) adm_barrier_fence();
    if (threadIdx.x == 0 && split > 1) adm_barrier_expect(&memory.pushed, split * n_bins * sizeof(uint32_t));
    if (split > 1) adm_cluster_arrive_relaxed();
    const uint32_t length = p.length[row / (s.selection == ADM_SELECT_GROUP ? s.heads.n_kv_heads : s.heads.n_q_heads)];
    const adm_row_eligible c = adm_row_eligible_of(s.rule, length);
    const held_range range = held_range_of<WARPS>(length, split, rank, tokens, max_tiles);
    uint32_t *index = p.index + (size_t)row * s.rule.budget;
    const uint32_t bytes = held_bytes(range, s.capacity);
    const bool asks = threadIdx.x % 32 == 0 && bytes > 0;
    __syncthreads(); /* the histogram is empty */
    if (asks) adm_barrier_expect(loaded, bytes); /* so that all the copy needs is known before the wait */
    adm_wait_for_predecessors();

    const uint16_t *distance = p.distance + (size_t)row * s.capacity + range.start;
    if (asks) adm_bulk_copy_expected(range.chunk, distance, bytes, loaded, adm_copy_policy(false));
    if (rank == 0) held_write_forced<WARPS>(c, length, index);
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    held_await(c, range, loaded);
    uint32_t least[TILES];
    held_count<TILES>(range, n_bins, histogram, least);
    __syncthreads();
    if (split > 1) {
        adm_cluster_wait(); /* all blocks have begun */
        held_push<WARPS>(histogram, n_bins, split, rank, counts, &memory.pushed);
        adm_barrier_wait_pushed(&memory.pushed, 0);
    }
    held_find_cut<WARPS>(split > 1 ? counts : histogram, n_bins, split, rank, c, memory.totals, &memory.cut);
    __syncthreads();
    const adm_row_cut found = memory.cut;
    held_write<TILES>(range, least, found, memory.counts, index);
#endif
}

#endif
