/* grouped.cuh: the step for grouped query heads: its plan, and what a block of it knows. For grouped.cu, whose head tells the
 * whole; distances by products of bits are in kernels/distance/products.cuh.
 *
 * A bin is 0 for a token that is in by force and its distance + 1 for the others. */
#ifndef ADM_KERNELS_STEP_GROUPED_CUH
#define ADM_KERNELS_STEP_GROUPED_CUH

#include "kernels/distance/products.cuh"
#include "kernels/topk/select.cuh"

enum {
    GROUPED_WARPS = 16,
    GROUPED_THREADS = 32 * GROUPED_WARPS,
    GROUPED_HEADS = ADM_BIT_HEADS, /* query heads a block, at most */
    GROUPED_SPLIT_SHIFT = 4, /* blocks a cluster, at most, as a power of two */
    GROUPED_SLOTS = 8, /* units of codes in shared memory, a warp, at most; a unit is two tiles of 32 tokens */
    GROUPED_WINDOW = 64, /* bins of an exchange */
    GROUPED_ROUNDS = 3, /* exchanges where the first did not find the cut, at most */
    GROUPED_SAMPLE = 512, /* bins of the sample's histogram, and tokens sampled */
    GROUPED_SAMPLE_STRIDE = GROUPED_SAMPLE + 8, /* heads begin at different banks; so below */
    GROUPED_COUNTS = GROUPED_WINDOW + 4, /* of a histogram: bins before the window, the window's, those beyond */
    GROUPED_TIES = 64, /* tokens of a block that tie with the last winner: more than these take a slower way */
    GROUPED_UNIT = 34, /* words of a partial result: 32 elements, largest score, sum */
    GROUPED_STAGE = 4096, /* bytes: four rows of K and V for each group of lanes */
    GROUPED_VALUES = 8, /* of a lane, in a unit */
    GROUPED_ROOM = 36, /* entries of a lane's list, at most: 32 may be candidates */
    GROUPED_SPARE = 4, /* entries of a lane's list that a tile may fill */
    GROUPED_BIN_BITS = 13 /* of a list's entry; above them the unit and which of its values */
};

/* How the work is cut, and where in shared memory things lie (bytes). */
typedef struct grouped_plan {
    uint32_t heads; /* query heads a block */
    uint32_t slices; /* blocks a KV head's group takes */
    uint32_t shift; /* blocks a cluster, as a power of two */
    uint32_t split; /* the same as a number */
    uint32_t warps; /* a head, where each works for one */
    uint32_t slots; /* of a warp's ring of codes */
    uint32_t stage; /* bytes of it that rows of K and V come to: GROUPED_STAGE, or half as many */
    uint32_t room; /* of a lane's list */
    uint32_t share; /* winners a block attends to, a head */
    uint32_t map_words; /* of a bitmap of the block's tokens, a head */
    uint32_t trigger; /* when the next kernel may start: 0 at once, 1 with the query, 2 after the scan, 3 with the gather */
    uint32_t lists_at, counts_at, maps_at, winners_at, merge_at; /* the ring is at 0 */
    uint32_t shared_bytes;
    uint64_t *stamps; /* [blocks][ADM_GPU_MAX_PHASES + 1], of an instrumented instance */
} grouped_plan;

template <int D> struct grouped_dim {
    static const int shift = D == 64 ? 2 : D == 128 ? 3 : 4; /* so that a window of bins of this many holds them all */
    static const int absent = 3 * D + 2; /* of no token */
    static const int sample_shift = D == 256 ? 1 : 0;
};

/* Where a row's winners end, as a block needs it. */
typedef struct grouped_cut {
    uint32_t boundary; /* the last winner's bin; UINT32_MAX: not found */
    uint32_t limit; /* this block's tokens up to this bin win */
    uint32_t newest_ties; /* and so many of those at the boundary, the newest; 0: none, or all */
    uint32_t base; /* winners in the blocks before */
} grouped_cut;

/* Shared memory that grouped.cu declares. */
typedef struct grouped_small {
    uint64_t full[GROUPED_WARPS][GROUPED_SLOTS];
    uint64_t counted[1 + GROUPED_ROUNDS], winners, results;
    grouped_cut cut[GROUPED_HEADS];
    uint32_t bound[GROUPED_HEADS]; /* bins below are listed */
    int32_t from[GROUPED_HEADS]; /* the first bin of the window */
    int32_t base[GROUPED_HEADS]; /* of its bins */
    uint32_t query[GROUPED_HEADS][ADM_BIT_PLANES][8];
    uint32_t histogram[GROUPED_HEADS][GROUPED_COUNTS];
    uint32_t n_taken[GROUPED_HEADS], n_tied[GROUPED_HEADS];
    __align__(16) uint32_t tied[GROUPED_HEADS][GROUPED_TIES]; /* tokens, within the block, and 1 */
    float2 weight[GROUPED_WARPS]; /* of partial results: largest score, sum */
} grouped_small;

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* ---- phases ---- */

/* The time at the end of a phase, in an instrumented instance; else `stamps` is NULL, and the compiler knows. */
static __device__ __forceinline__ void grouped_stamp(uint64_t *stamps, int phase) {
    if (stamps != NULL && threadIdx.x == 0) stamps[phase] = (uint64_t)clock64();
}

/* ---- the block's share ---- */

typedef struct grouped_block {
    uint32_t b, kv_head, first_head, heads; /* query heads first_head .. + heads - 1, within the sequence */
    uint32_t warp, head, part; /* the warp's head, where each works for one, and which of that head's it is */
    uint32_t rank, length, need; /* need: winners of a row */
    uint32_t first_tile, n_tiles; /* its tiles of 32 tokens, of the row's */
    uint32_t n_units; /* pairs of those that this warp takes: warp, warp + 16, ... of the block's */
    adm_row_eligible eligible;
} grouped_block;

static __device__ __forceinline__ grouped_block grouped_block_of(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                 const grouped_plan &plan) {
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads, slice = blockIdx.y % plan.slices;
    grouped_block me;
    me.b = blockIdx.z;
    me.kv_head = blockIdx.y / plan.slices;
    me.first_head = me.kv_head * group + slice * plan.heads;
    me.heads = min(plan.heads, group - slice * plan.heads);
    me.warp = __shfl_sync(ADM_FULL_WARP, threadIdx.x / 32, 0); /* so that the compiler knows it to be the warp's */
    me.head = me.warp / plan.warps;
    me.part = me.warp - me.head * plan.warps;
    me.rank = adm_cluster_rank();
    me.length = p.length[me.b];
    me.need = min(s.rule.budget, me.length);
    const uint32_t tiles = (me.length + 31) / 32;
    me.first_tile = tiles * me.rank >> plan.shift;
    me.n_tiles = (tiles * (me.rank + 1) >> plan.shift) - me.first_tile;
    const uint32_t units = (me.n_tiles + 1) / 2;
    me.n_units = units > me.warp ? (units - me.warp + GROUPED_WARPS - 1) / GROUPED_WARPS : 0;
    me.eligible = adm_row_eligible_of(s.rule, me.length);
    return me;
}

/* ---- the ring of codes ---- */

/* Where a slot of a warp's ring lies. Its unit i is pair i * warps + warp of the block's tiles. */
template <int D>
static __device__ __forceinline__ uint32_t *grouped_slot(const grouped_block &me, const grouped_plan &plan, uint32_t slot,
                                                         unsigned char *ring) {
    return (uint32_t *)ring + (me.warp * plan.slots + slot) * (2 * adm_bits<D>::tile_words);
}

/* Starts the copy of the warp's unit i to a slot; `planes`: of the block's first tile. By one lane. */
template <int D>
static __device__ __forceinline__ void grouped_fetch(const grouped_block &me, const grouped_plan &plan, const uint32_t *planes,
                                                     uint32_t i, uint32_t slot, unsigned char *ring, grouped_small *small) {
    const uint32_t tile = (i * GROUPED_WARPS + me.warp) * 2, n = min(me.n_tiles - tile, 2u);
    adm_bulk_copy(grouped_slot<D>(me, plan, slot, ring), planes + (size_t)tile * adm_bits<D>::tile_words,
                  n * (adm_bits<D>::tile_words * 4), &small->full[me.warp][slot]);
}

/* Starts the copies of the warp's first units: of those that may be read before the wait, or the others. */
template <int D>
static __device__ __forceinline__ void grouped_fetch_first(const grouped_block &me, const grouped_plan &plan,
                                                           const uint32_t *planes, unsigned char *ring, grouped_small *small,
                                                           bool settled) {
#pragma unroll 1
    for (uint32_t i = 0; i < min(plan.slots, me.n_units); i++) {
        const uint32_t end = me.first_tile + min((i * GROUPED_WARPS + me.warp) * 2 + 2, me.n_tiles);
        if (adm_settled(end * 32, me.length) == settled) grouped_fetch<D>(me, plan, planes, i, i, ring, small);
    }
}

/* ---- codes from memory ---- */

/* The codes of a tile in global memory, of which the kernel before may have written some. */
template <int D> static __device__ __forceinline__ void grouped_read_global(const uint32_t *tile, adm_bit_codes<D> *to) {
    const int W = adm_bits<D>::words;
    const uint32_t lane = threadIdx.x % 32, at = D == 256 ? lane / 4 * W + lane % 4 : lane;
#pragma unroll
    for (int u = 0; u < adm_bits<D>::units; u++)
#pragma unroll
        for (int i = 0; i < adm_bit_codes<D>::n; i++) {
            const uint32_t *from = tile + u * (16 * W) + i % 2 * (D == 256 ? 8 * W : 32) + i / 2 * 4 + at;
            to->high[u][i] = __ldcg(from);
            to->low[u][i] = __ldcg(from + 32 * W);
        }
}

/* The codes of sampled tokens, of warp `warp`'s rows: row i of the sample is token at(i), with d = 64 that and the next. */
template <int D, typename At>
static __device__ __forceinline__ void grouped_read_sample(const uint32_t *planes, uint32_t warp, adm_bit_codes<D> *to, At at) {
    const int W = adm_bits<D>::words;
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int u = 0; u < adm_bits<D>::units; u++)
#pragma unroll
        for (int i = 0; i < adm_bit_codes<D>::n; i++) {
            const uint32_t token = at((warp * adm_bits<D>::units + u) * 16 + i % 2 * 8 + lane / 4);
            const uint32_t *from = planes + (size_t)(token / 32) * adm_bits<D>::tile_words + token % 32 * W + i / 2 * 4 + lane % 4;
            to->high[u][i] = __ldg(from);
            to->low[u][i] = __ldg(from + 32 * W);
        }
}

/* ---- where not all of a tile competes ---- */

/* Where not all of a tile competes: what a token's bin is. */
template <int D>
static __device__ __forceinline__ int32_t grouped_corrected(const grouped_block &me, uint32_t token, int32_t bin) {
    return token >= me.length ? (int32_t)grouped_dim<D>::absent : adm_is_eligible(me.eligible, token) ? bin : 0;
}

/* The same for the values of tile i of the block. */
template <int D>
static __device__ __forceinline__ void grouped_correct(const grouped_block &me, const adm_bit_query<D, ADM_METRIC_L1> &q, uint32_t i,
                                                       int32_t (&first)[ADM_BIT_PAIRS], int32_t (&second)[ADM_BIT_PAIRS]) {
    const uint32_t token = (me.first_tile + i) * 32;
    if (token >= me.eligible.first && token + 32 <= me.eligible.last) return;
#pragma unroll
    for (int j = 0; j < ADM_BIT_PAIRS; j++) {
        const uint32_t mine = token + adm_bit_token<D>(j);
        const int32_t base = adm_bit_base<D>(q, j);
        first[j] = grouped_corrected<D>(me, mine, first[j] + base) - base;
        second[j] = grouped_corrected<D>(me, mine + adm_bits<D>::step, second[j] + base) - base;
    }
}

#endif /* sm_90 */

#endif
