/* grouped.cuh: the step for grouped query heads: its plan, its share of the work, and its way from codes to places; for
 * grouped.cu, whose head tells the whole.
 *
 * A row is what one selection is made for: a query head, or all of a group that shares its selection. Kernels come by N, the
 * sets of four heads of a block that select each for itself. Where the block has one row, of one head or of many, N is 0, or by
 * L1 and of one head -2 (grouped_values.cuh).
 *
 * A token's bin for a row is 0 where the token is in by force, and its distance + 1 otherwise. Of each row 64 neighbouring
 * bins are told apart (120 where the block has one row), its window, and a token's place says where in there its bin is:
 *
 *   0              all bins up to the window's first
 *   1 .. 63        single bins
 *   64 and more    all bins beyond, and tokens that are not there: of no interest
 *
 * Places fit a byte, and a lane's four of a tile and set fit a word; of one row its two of a pair of tiles half a word. A
 * window that did not hold the cut costs time, and no more: grouped_search() finds another. */
#ifndef ADM_KERNELS_STEP_GROUPED_CUH
#define ADM_KERNELS_STEP_GROUPED_CUH

#include "kernels/distance/products.cuh"
#include "kernels/topk/select.cuh"

enum {
    GROUPED_WARPS = 16,
    GROUPED_THREADS = 32 * GROUPED_WARPS,
    GROUPED_HEADS = 8, /* query heads a block that select each for itself, at most */
    GROUPED_SPLIT = 16, /* blocks a cluster, at most */
    GROUPED_SLOTS = 4, /* pairs of tiles in shared memory, a warp, at most */
    GROUPED_PAIRS = 2 * GROUPED_WARPS, /* tiles of a round: a pair for each warp */
    GROUPED_BEYOND = 8, /* bins of a histogram, by lane, for tokens beyond the window */
    GROUPED_TOKENS = 65504, /* a block, at most */
    GROUPED_TIES = 128, /* tokens at the cut, a head and block, that are listed */
    GROUPED_HEAD_SHIFT = 16, /* in a list's entry: the block's token of the word's first byte, then that byte's head */
    GROUPED_UNIT = 34 /* words of a partial result: 32 elements, largest score, sum */
};

/* How the work is cut, and where in shared memory things lie (bytes). */
typedef struct grouped_plan {
    uint32_t heads; /* query heads a block */
    uint32_t rows; /* selections a block */
    uint32_t slices; /* blocks a KV head's group takes */
    uint32_t split; /* blocks a cluster, 2 to 16 */
    uint32_t inverse; /* 2^32 / split, rounded up: grouped_divide() */
    uint32_t warps; /* a head, where each works for one */
    uint32_t slots; /* of a warp's ring of codes */
    uint32_t list_entries; /* entries of a warp's list, for each lane; 0: all places are kept */
    uint32_t counted; /* not 0: all places are counted as they are found, those that are not listed too */
    uint32_t strict; /* which of the sixteen sampled tiles' least bins is the bound, 0 .. 15 */
    uint32_t wide; /* which of their words, where more of the row wins */
    uint32_t share; /* winners a block attends to, a head */
    uint32_t map_words; /* of a bitmap of the block's tokens, a head */
    uint32_t ahead; /* not 0: who finds a winner has its rows of K and V brought to L2 */
    uint32_t trigger; /* when the next kernel may start: 0 at once, 1 with the query, 2 after the scan, 3 with the gather */
    uint32_t ring_at, maps_at, ties_at, places_at, histogram_at, counts_at, winners_at, merge_at;
    uint32_t shared_bytes;
    uint64_t *stamps; /* [blocks][ADM_GPU_MAX_PHASES + 1], of an instrumented instance */
} grouped_plan;

/* By the sets of four heads that a block has; one row: 0 or -2. */
template <int N> struct grouped_kind {
    static const int sets = N <= 0 ? 1 : N;
    static const int values = N <= 0 ? 2 : 4; /* a lane, of a tile and set; of one row of a pair of tiles */
    static const int rows = N <= 0 ? 1 : 4 * N; /* histograms */
    static const int window = N <= 0 ? 120 : 64; /* bins that are told apart */
    static const int stride = window + GROUPED_BEYOND; /* of a histogram */
    static const int count_words = N <= 0 ? 64 : 32; /* of a block's counts of a row: a pair of bins each */
};

/* A row's cut, as this block sees it. */
typedef struct grouped_cut {
    uint32_t at; /* the place of the last winners; UINT32_MAX: not in the window */
    uint32_t offset; /* the row's winners in the blocks before */
    uint32_t nearer, ties; /* tokens of this block before the cut, and at it */
    uint32_t lose; /* of the ties, the oldest so many */
} grouped_cut;

/* Place 0 is the bins up to `from`, place i those of which (bin - from) >> shift is i. */
typedef struct grouped_window {
    int32_t from;
    uint32_t shift;
} grouped_window;

/* Shared memory that grouped.cu declares. */
typedef struct grouped_small {
    uint64_t counted, winners, results;
    grouped_cut cut[GROUPED_HEADS];
    grouped_window window[GROUPED_HEADS];
    int32_t lowest[GROUPED_WARPS][GROUPED_HEADS]; /* of the bins of a sampled tile */
    int32_t base[GROUPED_HEADS]; /* of the distances */
    uint32_t planes[GROUPED_HEADS][ADM_BIT_PLANES][8]; /* of the queries; of one row: grouped_values.cuh */
    uint32_t n_winners[GROUPED_HEADS], n_ties[GROUPED_HEADS]; /* handed out, listed */
    uint64_t missed, parted; /* a byte a head: not 0 if the cut is not in the window; if of this block's ties some lose */
    float2 weight[GROUPED_WARPS]; /* of partial results: largest score, sum */
} grouped_small;

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* Shared memory by what it holds. */
typedef struct grouped_memory {
    unsigned char *ring; /* of codes; once these are read: partial results, and the next two */
    uint32_t *maps; /* [won, tied][rows][map_words], a bit a token of the block */
    uint32_t *ties; /* [rows][GROUPED_TIES] tokens at the cut, UINT32_MAX behind the last */
    uint32_t *places; /* [tiles a warp][sets of heads][threads], a byte a token; one row: [pairs a warp][threads] of two bytes;
                         or [warps][32 list_entries] of those words, each with where it is from */
    uint32_t *histogram; /* [1, 4 or 8 rows][stride] */
    uint32_t *counts; /* [split][rows][32 or 64] pairs of counts, from each block of the cluster */
    uint32_t *winners; /* [rows][share] */
    float *merge; /* [units / split][split][GROUPED_UNIT] */
    grouped_small *small;
} grouped_memory;

static __device__ __forceinline__ grouped_memory grouped_memory_of(const grouped_plan &plan, unsigned char *shared,
                                                                   grouped_small *small) {
    grouped_memory m;
    m.ring = shared + plan.ring_at;
    m.maps = (uint32_t *)(shared + plan.maps_at);
    m.ties = (uint32_t *)(shared + plan.ties_at);
    m.places = (uint32_t *)(shared + plan.places_at);
    m.histogram = (uint32_t *)(shared + plan.histogram_at);
    m.counts = (uint32_t *)(shared + plan.counts_at);
    m.winners = (uint32_t *)(shared + plan.winners_at);
    m.merge = (float *)(shared + plan.merge_at);
    m.small = small;
    return m;
}

/* The time at the end of a phase, in an instrumented instance; else `stamps` is NULL, and the compiler knows. */
static __device__ __forceinline__ void grouped_stamp(uint64_t *stamps, int phase) {
    if (stamps != NULL && threadIdx.x == 0) stamps[phase] = (uint64_t)clock64();
}

/* ---- the block's share ---- */

typedef struct grouped_block {
    uint32_t b, kv_head, first_head, heads; /* query heads first_head .. + heads - 1, within the sequence */
    uint32_t first_row, rows; /* of index and n_selected, over the whole batch */
    uint32_t warp, head, part; /* the warp's head, where each works for one, and which of that head's it is */
    uint32_t rank, length, need; /* need: winners of a row */
    uint32_t first_tile, n_tiles; /* its tiles of 32 tokens, of the row's; the first is even */
    adm_row_eligible eligible;
} grouped_block;

/* n / split, of an n below 2^28. */
static __device__ __forceinline__ uint32_t grouped_divide(const grouped_plan &plan, uint32_t n) {
    return __umulhi(n, plan.inverse);
}

template <int N>
static __device__ __forceinline__ grouped_block grouped_block_of(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                 const grouped_plan &plan) {
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads, slice = blockIdx.y % plan.slices;
    grouped_block me;
    me.b = blockIdx.z;
    me.kv_head = blockIdx.y / plan.slices;
    me.first_head = me.kv_head * group + slice * plan.heads;
    me.heads = min(plan.heads, group - slice * plan.heads);
    me.rows = N <= 0 ? 1 : me.heads;
    me.first_row = N <= 0 && s.selection == ADM_SELECT_GROUP ? me.b * s.heads.n_kv_heads + me.kv_head
                                                             : me.b * s.heads.n_q_heads + me.first_head;
    me.warp = __shfl_sync(ADM_FULL_WARP, threadIdx.x / 32, 0); /* so that the compiler knows it to be the warp's */
    me.head = me.warp / plan.warps;
    me.part = me.warp - me.head * plan.warps;
    me.rank = adm_cluster_rank();
    me.length = p.length[me.b];
    me.need = min(s.rule.budget, me.length);
    const uint32_t tiles = (me.length + 31) / 32, pairs = (tiles + 1) / 2;
    me.first_tile = min(2 * grouped_divide(plan, pairs * me.rank), tiles);
    me.n_tiles = min(2 * grouped_divide(plan, pairs * (me.rank + 1)), tiles) - me.first_tile;
    me.eligible = adm_row_eligible_of(s.rule, me.length);
    return me;
}

/* The block's tile that is the warp's i-th. */
static __device__ __forceinline__ uint32_t grouped_tile(const grouped_block &me, uint32_t i) {
    return i / 2 * GROUPED_PAIRS + 2 * me.warp + i % 2;
}

/* ---- the ring of codes ---- */

/* A warp's slots lie one behind another; each has a pair of tiles. */
template <int D> struct grouped_ring {
    static const int pair_words = 2 * adm_bits<D>::tile_words;
    static const int copies = pair_words / (4 * 32); /* of 16 bytes a lane, for a pair */
};

template <int D>
static __device__ __forceinline__ uint32_t *grouped_slots(const grouped_block &me, const grouped_plan &plan,
                                                          unsigned char *ring) {
    return (uint32_t *)ring + me.warp * plan.slots * grouped_ring<D>::pair_words;
}

/* Asks for the lane's share of a pair of tiles, or of its first alone; both addresses are the lane's. */
template <int D> static __device__ __forceinline__ void grouped_fetch(uint32_t *to, const uint32_t *codes, bool both) {
#pragma unroll
    for (int i = 0; i < grouped_ring<D>::copies; i++)
        if (i < grouped_ring<D>::copies / 2) adm_copy16(to + 128 * i, codes + 128 * i);
        else adm_copy16_if(to + 128 * i, codes + 128 * i, both);
}

/* Asks for the warp's first pairs: for those that may be read before the wait, or the others. */
template <int D>
static __device__ __forceinline__ void grouped_fetch_first(const grouped_block &me, const grouped_plan &plan,
                                                           const uint32_t *planes, unsigned char *ring, bool settled) {
    const uint32_t words = adm_bits<D>::tile_words, mine = 4 * adm_lane();
#pragma unroll 1
    for (uint32_t i = 0; i < plan.slots; i++) {
        const uint32_t tile = grouped_tile(me, 2 * i);
        if (tile < me.n_tiles && adm_settled((me.first_tile + tile + 2) * 32, me.length) == settled)
            grouped_fetch<D>(grouped_slots<D>(me, plan, ring) + 2 * words * i + mine, planes + (size_t)tile * words + mine,
                             tile + 1 < me.n_tiles);
        adm_copy_commit();
    }
}

/* Returns once all but the last slots - 1 pairs that were asked for are there, for the whole warp. */
static __device__ __forceinline__ void grouped_await_pair(uint32_t slots) {
    if (slots == 2) adm_copy_wait<1>();
    else if (slots == 4) adm_copy_wait<3>();
    else if (slots == 3) adm_copy_wait<2>();
    else adm_copy_wait<0>();
    __syncwarp();
}

#endif /* sm_90 */

#endif
