/* grouped.cuh: the step for grouped query heads: its plan, and its way from codes to bins; for grouped.cu, whose head tells the
 * whole.
 *
 * L1 as a binary product. A key's code is a = 2h + l; against a query's code b its distance is
 *
 *   b = 0:  2h + l              b = 1:  1 - l + 2hl              b = 2:  2 - 2h - l + 2hl              b = 3:  3 - 2h - l
 *
 * so over all elements L1 = sum of b + 2 X - Y, where X counts h and l where b = 0, and hl where b is 1 or 2, and Y counts l
 * everywhere and h, twice, where b is 2 or 3. Each query head takes two columns, for X and for Y, of the products with the rows
 * [l h] and [hl h] of 256 bits, and a thread gets both sums of a head: no shuffles. [l h] is what ldmatrix brings from the
 * planes as they lie in memory: a row is a token (two tokens where d = 64).
 *
 *   lane 4g + w    rows g and g + 8 of a tile's tokens, columns 2w and 2w + 1: one head, two tokens
 *
 * A bin is 0 for a token that is in by force and its distance + 1 for the others. */
#ifndef ADM_KERNELS_STEP_GROUPED_CUH
#define ADM_KERNELS_STEP_GROUPED_CUH

#include "kernels/distance/products.cuh"
#include "kernels/topk/select.cuh"

enum {
    GROUPED_WARPS = 16,
    GROUPED_THREADS = 32 * GROUPED_WARPS,
    GROUPED_HEADS = 8, /* query heads a block, at most */
    GROUPED_SPLIT_SHIFT = 4, /* blocks a cluster, at most, as a power of two */
    GROUPED_SLOTS = 8, /* tiles of codes in shared memory, a warp, at most; a piece is a tile of 32 tokens for each warp */
    GROUPED_COARSE = 64, /* bins of the first exchange */
    GROUPED_UNIT = 34, /* words of a partial result: 32 elements, largest score, sum */
    GROUPED_BIN_BITS = 10 /* of a list's entry; then 3 for the head, and the token */
};

/* How the work is cut, and where in shared memory things lie (bytes). */
typedef struct grouped_plan {
    uint32_t heads; /* query heads a block */
    uint32_t slices; /* blocks a KV head's group takes */
    uint32_t shift; /* blocks a cluster, as a power of two */
    uint32_t split; /* the same as a number */
    uint32_t warps; /* a head, where each works for one */
    uint32_t slots; /* of a warp's ring of codes; this, kept and sampled are even */
    uint32_t kept; /* pieces of which every bin is kept; the tokens after them are listed if they may win */
    uint32_t sampled; /* pieces from which the bound for those is taken */
    uint32_t room; /* listed tokens a warp */
    uint32_t share; /* winners a block attends to, a head */
    uint32_t map_words; /* of a bitmap of the block's tokens, a head */
    uint32_t trigger; /* when the next kernel may start: 0 at once, 1 with the query, 2 after the scan, 3 with the gather */
    uint32_t ahead; /* pieces beyond the ring that are asked into the second-level cache before the wait */
    uint32_t ring_at, bins_at, lists_at, histogram_at, counts_at, bounds_at, fine_at, maps_at, winners_at, merge_at;
    uint32_t shared_bytes;
    uint64_t *stamps; /* [blocks][ADM_GPU_MAX_PHASES + 1], of an instrumented instance */
} grouped_plan;

template <int D> struct grouped_dim {
    static const int words = D / 32;
    static const int tile_words = 64 * words;
    static const int shift = D == 64 ? 2 : D == 128 ? 3 : 4; /* bins of a coarse bin, as a power of two */
    static const int bins = GROUPED_COARSE << shift; /* 3 d + 2, and some that stay empty */
    static const int absent = bins - 1; /* of no token; nothing that counts is there */
    static const int stride = bins + 8; /* of a histogram: heads begin at different banks */
    static const int units = D == 64 ? 1 : 2; /* of 16 rows, in a tile */
    static const int step = D == 64 ? 16 : 8; /* tokens between a lane's two rows */
};

/* Shared memory that grouped.cu declares. */
typedef struct grouped_small {
    uint64_t full[GROUPED_WARPS][GROUPED_SLOTS];
    uint64_t bounded, window, coarse, fine, winners, results;
    adm_row_cut cut[GROUPED_HEADS];
    uint32_t bound[GROUPED_HEADS]; /* bins up to this are counted, all others as the next one */
    uint32_t least[GROUPED_WARPS][GROUPED_HEADS]; /* of the bins of a sampled tile */
    uint32_t listing[GROUPED_HEADS]; /* bins below this are listed, behind the kept pieces */
    uint32_t listed[GROUPED_WARPS]; /* candidates, or more than there is room for */
    int32_t sum[GROUPED_HEADS]; /* of a query's codes */
    uint32_t query[GROUPED_HEADS][3][8]; /* where its codes are 0, are 1 or 2, are 2 or 3 */
    float2 weight[GROUPED_WARPS]; /* of partial results: largest score, sum */
} grouped_small;

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* ---- machine instructions ---- */

/* Asks for bytes, a multiple of 16, to come to the second-level cache. */
static __device__ __forceinline__ void grouped_prefetch(const void *from, uint32_t bytes) {
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}

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
    uint32_t first_tile, n_tiles, pieces; /* its tiles of 32 tokens, of the row's */
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
    me.pieces = (me.n_tiles + GROUPED_WARPS - 1) / GROUPED_WARPS;
    me.eligible = adm_row_eligible_of(s.rule, me.length);
    return me;
}

/* ---- the ring of codes ---- */

/* Where a warp's tile i of the block (i * warps + warp) lies in its ring, and whose barrier says that it is there. */
template <int D>
static __device__ __forceinline__ uint32_t *grouped_slot(const grouped_block &me, const grouped_plan &plan, uint32_t slot,
                                                         unsigned char *ring) {
    return (uint32_t *)ring + (me.warp * plan.slots + slot) * grouped_dim<D>::tile_words;
}

/* Starts the copy of the warp's tile i to a slot; `planes`: of the block's first tile. By one lane. */
template <int D>
static __device__ __forceinline__ void grouped_fetch(const grouped_block &me, const grouped_plan &plan, const uint32_t *planes,
                                                     uint32_t i, uint32_t slot, unsigned char *ring, grouped_small *small) {
    adm_bulk_copy(grouped_slot<D>(me, plan, slot, ring),
                  planes + (size_t)(i * GROUPED_WARPS + me.warp) * grouped_dim<D>::tile_words, grouped_dim<D>::tile_words * 4,
                  &small->full[me.warp][slot]);
}

/* Starts the copies of the warp's first tiles: of those that may be read before the wait, or the others. */
template <int D>
static __device__ __forceinline__ void grouped_fetch_first(const grouped_block &me, const grouped_plan &plan,
                                                           const uint32_t *planes, unsigned char *ring, grouped_small *small,
                                                           bool settled) {
#pragma unroll 1
    for (uint32_t i = 0; i < plan.slots && i * GROUPED_WARPS + me.warp < me.n_tiles; i++) {
        const uint32_t tile = me.first_tile + i * GROUPED_WARPS + me.warp;
        if (adm_settled((tile + 1) * 32, me.length) == settled) grouped_fetch<D>(me, plan, planes, i, i, ring, small);
    }
}

/* ---- bins ---- */

/* The query's columns, as this lane holds them: heads in turn, four to a product (two where d = 64). N: words of bins. */
template <int D, int N> struct grouped_query {
    static const int columns = D == 64 ? N : N / 2, words = D == 256 ? 2 : 1; /* words: of a half row */
    uint32_t l[columns][words], h[columns][words], hl[columns][words], h_again[columns][words];
    int32_t base[columns];
};

/* The head of word i of the bins. */
template <int D> static __device__ __forceinline__ uint32_t grouped_head(int i) {
    const uint32_t w = threadIdx.x % 4;
    return D == 64 ? 2 * i + w / 2 : 4 * (i / 2) + w;
}
/* The first of its two tokens, within the tile. */
template <int D> static __device__ __forceinline__ uint32_t grouped_token(int i) {
    const uint32_t lane = threadIdx.x % 32;
    return D == 64 ? lane / 4 * 2 + lane % 2 : (i % 2) * 16 + lane / 4;
}

template <int D, int N>
static __device__ __forceinline__ void grouped_columns(const grouped_small *small, grouped_query<D, N> *q) {
    const uint32_t lane = threadIdx.x % 32, column = lane / 4, w = lane % 4;
    const bool x = column % 2 == 0, used = D != 64 || w / 2 == column / 2 % 2; /* or of the other of the row's two tokens */
#pragma unroll
    for (int t = 0; t < grouped_query<D, N>::columns; t++) {
        const uint32_t head = D == 64 ? 2 * t + column / 4 : 4 * t + column / 2;
#pragma unroll
        for (int i = 0; i < grouped_query<D, N>::words; i++) {
            const uint32_t word = D == 64 ? w % 2 : 4 * i + w, *planes = &small->query[head][0][word];
            const uint32_t zero = used && x ? planes[0] : 0, large = used && !x ? planes[16] : 0;
            q->l[t][i] = x ? zero : used ? ~0u : 0;
            q->h[t][i] = x ? zero : large;
            q->hl[t][i] = used && x ? planes[8] : 0;
            q->h_again[t][i] = large;
        }
        q->base[t] = -1 - small->sum[D == 64 ? 2 * t + w / 2 : 4 * t + w];
    }
}

/* A tile's codes as operands: of the bits rows g and g + 8; d = 256: and then the other halves of those. */
template <int D> struct grouped_codes {
    static const int n = D == 256 ? 4 : 2;
    uint32_t high[grouped_dim<D>::units][n], low[grouped_dim<D>::units][n];
};

template <int D> static __device__ __forceinline__ void grouped_read(const uint32_t *tile, grouped_codes<D> *to) {
    const int W = grouped_dim<D>::words;
    const uint32_t lane = threadIdx.x % 32;
#pragma unroll
    for (int u = 0; u < grouped_dim<D>::units; u++) {
        uint32_t a[4];
        if (D == 256) {
            const uint32_t *row = tile + (u * 16 + lane % 16) * W + lane / 16 * 4;
            adm_load_rows(a, row);
#pragma unroll
            for (int i = 0; i < grouped_codes<D>::n; i++) to->high[u][i] = a[i];
            adm_load_rows(a, row + 32 * W);
#pragma unroll
            for (int i = 0; i < grouped_codes<D>::n; i++) to->low[u][i] = a[i];
        } else {
            adm_load_rows(a, tile + (lane < 16 ? 32 * W : 0) + u * (16 * W) + lane % 16 * 4); /* the low ones first */
            to->low[u][0] = a[0], to->low[u][1] = a[1], to->high[u][0] = a[2], to->high[u][1] = a[3];
        }
    }
}

/* The same of a tile in global memory. */
template <int D> static __device__ __forceinline__ void grouped_read_global(const uint32_t *tile, grouped_codes<D> *to) {
    const int W = grouped_dim<D>::words;
    const uint32_t lane = threadIdx.x % 32, at = D == 256 ? lane / 4 * W + lane % 4 : lane;
#pragma unroll
    for (int u = 0; u < grouped_dim<D>::units; u++)
#pragma unroll
        for (int i = 0; i < grouped_codes<D>::n; i++) {
            const uint32_t *from = tile + u * (16 * W) + i % 2 * (D == 256 ? 8 * W : 32) + i / 2 * 4 + at;
            to->high[u][i] = __ldg(from);
            to->low[u][i] = __ldg(from + 32 * W);
        }
}

/* A tile's bins, if all of it competes. */
template <int D, int N>
static __device__ __forceinline__ void grouped_bins(const grouped_codes<D> &codes, const grouped_query<D, N> &q,
                                                    uint32_t (&first)[N], uint32_t (&second)[N]) {
    const int n = grouped_codes<D>::n, columns = grouped_query<D, N>::columns;
#pragma unroll
    for (int u = 0; u < grouped_dim<D>::units; u++) {
        const uint32_t *h = codes.high[u], *l = codes.low[u];
        uint32_t both[n];
#pragma unroll
        for (int i = 0; i < n; i++) both[i] = h[i] & l[i];
#pragma unroll
        for (int t = 0; t < columns; t++) {
            int32_t c[4] = {0, q.base[t], 0, q.base[t]};
            if (D == 256) {
                const int m = grouped_query<D, N>::words - 1;
                adm_bit_product(c, l[0], l[1], l[2 % n], l[3 % n], q.l[t][0], q.l[t][m]);
                adm_bit_product(c, h[0], h[1], h[2 % n], h[3 % n], q.h[t][0], q.h[t][m]);
                adm_bit_product(c, both[0], both[1], both[2 % n], both[3 % n], q.hl[t][0], q.hl[t][m]);
                adm_bit_product(c, h[0], h[1], h[2 % n], h[3 % n], q.h_again[t][0], q.h_again[t][m]);
            } else {
                adm_bit_product(c, l[0], l[1], h[0], h[1], q.l[t][0], q.h[t][0]);
                adm_bit_product(c, both[0], both[1], h[0], h[1], q.hl[t][0], q.h_again[t][0]);
            }
            const int i = D == 64 ? t : 2 * t + u;
            first[i] = (uint32_t)(c[0] + c[0] - c[1]);
            second[i] = (uint32_t)(c[2] + c[2] - c[3]);
        }
    }
}

/* What becomes of a bin where not all of a tile competes. */
template <int D>
static __device__ __forceinline__ uint32_t grouped_corrected(const grouped_block &me, uint32_t token, uint32_t bin) {
    return token >= me.length ? (uint32_t)grouped_dim<D>::absent : adm_is_eligible(me.eligible, token) ? bin : 0;
}

/* The same for the bins of tile i of the block. */
template <int D, int N>
static __device__ __forceinline__ void grouped_correct(const grouped_block &me, uint32_t i, uint32_t (&first)[N],
                                                       uint32_t (&second)[N]) {
    const uint32_t token = (me.first_tile + i) * 32;
    if (token >= me.eligible.first && token + 32 <= me.eligible.last) return;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const uint32_t mine = token + grouped_token<D>(j);
        first[j] = grouped_corrected<D>(me, mine, first[j]);
        second[j] = grouped_corrected<D>(me, mine + grouped_dim<D>::step, second[j]);
    }
}

#endif /* sm_90 */

#endif
