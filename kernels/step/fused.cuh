/* fused.cuh: the fused step's plan, and its way from codes to the cut of every row. For fused.cu, whose head has the whole. */
#ifndef ADM_KERNELS_STEP_FUSED_CUH
#define ADM_KERNELS_STEP_FUSED_CUH

#include "kernels/distance/distance.cuh"
#include "kernels/topk/select.cuh"

enum {
    STEP_WARPS = 8,
    STEP_THREADS = 32 * STEP_WARPS,
    LOAD_BYTES = 4096,
    MAX_HEADS = 8,
    USUAL_SPLIT = 4,
    LIST_CAPACITY = 1024
};

/* How the work is cut, and where in shared memory things lie (bytes). */
typedef struct step_plan {
    uint32_t heads;       /* query heads per block: a power of two up to MAX_HEADS; the last slice may have fewer */
    uint32_t slices;      /* blocks per KV head's group */
    uint32_t rows;        /* selections per block: heads, or 1 where the group shares one */
    uint32_t split;       /* blocks per cluster */
    uint32_t listed;      /* winners per row that a block attends to, in shared memory; 0: they come from buffers.index */
    uint32_t n_bins;
    uint32_t list_capacity; /* candidates per row and warp */
    uint32_t query_at, histogram_at, sums_at, list_at, candidates_at; /* partial results: 0 */
    uint32_t shared_bytes;
} step_plan;

#if __CUDA_ARCH__ >= 900

/* The block's share of the step. */
typedef struct step_block {
    uint32_t b, kv_head, first_head, heads; /* query heads first_head .. first_head + heads - 1, within the sequence */
    uint32_t first_row, rows;               /* of index and n_selected, over the whole batch */
    uint32_t rank;
    uint32_t length, start, end;
    adm_row_eligible eligible;
} step_block;

/* A load: the tiles of codes that a warp reads at once. */
template <int W> struct step_load {
    static const int tiles = LOAD_BYTES / (256 * W);
    static const int tokens = 32 * tiles;
};

template <int W>
static __device__ __forceinline__ step_block block_of(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_plan &plan) {
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads, slice = blockIdx.y % plan.slices;
    step_block me;
    me.b = blockIdx.z;
    me.kv_head = blockIdx.y / plan.slices;
    me.first_head = me.kv_head * group + slice * plan.heads;
    me.heads = min(plan.heads, group - slice * plan.heads);
    me.rows = s.selection == ADM_SELECT_GROUP ? 1 : me.heads;
    me.first_row = s.selection == ADM_SELECT_GROUP ? me.b * s.heads.n_kv_heads + me.kv_head
                                                   : me.b * s.heads.n_q_heads + me.first_head;
    me.rank = adm_cluster_rank();
    me.length = p.length[me.b];
    me.eligible = adm_row_eligible_of(s.rule, me.length);
    const uint32_t unit = step_load<W>::tokens;
    const uint32_t tokens = ((me.length + plan.split - 1) / plan.split + unit - 1) / unit * unit;
    me.start = min(me.rank * tokens, me.length);
    me.end = min(me.start + tokens, me.length);
    return me;
}

/* ---- codes to distances ---- */

/* A load's codes: a token per lane and tile. */
template <int W> struct step_codes {
    uint32_t high[step_load<W>::tiles][W], low[step_load<W>::tiles][W];
};

/* n_tiles: of the chunk. Tiles beyond them stay as they are. */
template <int W>
static __device__ __forceinline__ void load_codes(const uint32_t *codes, uint32_t n_tiles, uint32_t load, step_codes<W> *to) {
    const uint32_t first = load * step_load<W>::tiles;
#pragma unroll
    for (int i = 0; i < step_load<W>::tiles; i++)
        if (first + i < n_tiles) adm_read_tile<W>(codes + (size_t)(first + i) * (64 * W), to->high[i], to->low[i]);
}

/* What a warp's scan leaves behind in shared memory. */
typedef struct step_found {
    uint32_t *histogram;        /* [rows][n_bins], of candidates */
    const uint32_t *bound;      /* [rows] */
    uint32_t *entries;          /* [rows][warps][list_capacity] */
    uint32_t n;                 /* of them on lane r for row r, or more than list_capacity */
} step_found;

static __device__ __forceinline__ adm_list list_of(const step_found &found, const step_plan &plan, uint32_t row) {
    return adm_list{found.entries + (row * STEP_WARPS + threadIdx.x / 32) * plan.list_capacity, plan.list_capacity,
                    __shfl_sync(ADM_FULL_WARP, found.n, (int)row)};
}

/* The distances of a load's tiles for one row: of the query head, or summed over the group. */
template <int W>
static __device__ __forceinline__ void distances_of(const step_block &me, const step_codes<W> &codes, uint32_t row,
                                                    const adm_query_planes<W> *query, uint32_t (&d)[step_load<W>::tiles]) {
    const uint32_t from = me.rows < me.heads ? 0 : row, to = me.rows < me.heads ? me.heads : row + 1;
#pragma unroll 1
    for (uint32_t g = from; g < to; g++) {
        const adm_query_planes<W> q = query[g];
#pragma unroll
        for (int i = 0; i < step_load<W>::tiles; i++) {
            const uint32_t one = adm_distance_of<W, ADM_METRIC_L1>(q, codes.high[i], codes.low[i]);
            d[i] = g > from ? d[i] + one : one;
        }
    }
}

/* Lists one load's candidates for every row. first: the load's first token. plain: all its tokens are there and eligible. */
template <int W>
static __device__ __forceinline__ void scan_load(const step_block &me, const step_plan &plan, const step_codes<W> &codes,
                                                 uint32_t first, bool plain, uint32_t range_start,
                                                 const adm_query_planes<W> *query, step_found *found) {
    const int N = step_load<W>::tiles;
    const uint32_t lane = threadIdx.x % 32, before = (1u << lane) - 1;
    const uint32_t entry0 = (first + lane - range_start << ADM_KEY_BITS) + 1; /* of distance 0 */
    uint32_t *list = found->entries + threadIdx.x / 32 * plan.list_capacity;
#pragma unroll 1
    for (uint32_t row = 0; row < me.rows; row++, list += STEP_WARPS * plan.list_capacity) {
        const uint32_t bound = found->bound[row], n = __shfl_sync(ADM_FULL_WARP, found->n, (int)row);
        uint32_t d[N], votes[N], sum = n;
        distances_of<W>(me, codes, row, query, d);
        if (!plain) {
#pragma unroll
            for (int i = 0; i < N; i++) {
                const uint32_t token = first + lane + 32 * i;
                d[i] = token >= me.end ? INT32_MAX : adm_is_eligible(me.eligible, token) ? d[i] : UINT32_MAX; /* key 0 */
            }
        }
#pragma unroll
        for (int i = 0; i < N; i++) votes[i] = __ballot_sync(ADM_FULL_WARP, (int32_t)d[i] <= (int32_t)bound);
#pragma unroll
        for (int i = 0; i < N; i++) sum += __popc(votes[i]);
        if (sum <= plan.list_capacity) {
            uint32_t *at = list + n;
#pragma unroll
            for (int i = 0; i < N; i++) {
                uint32_t *mine = at + __popc(votes[i] & before);
                const uint32_t entry = entry0 + (32u * i << ADM_KEY_BITS) + d[i];
                if ((int32_t)d[i] <= (int32_t)bound) *mine = entry;
                at += __popc(votes[i]);
            }
        }
        if (lane == row) found->n = sum;
    }
}

/* A warp's range: loads [from, to) of the chunk. */
typedef struct step_range {
    uint32_t from, to;
} step_range;

template <int W> static __device__ __forceinline__ step_range range_of(const step_block &me) {
    const uint32_t unit = step_load<W>::tokens, n_loads = (me.end - me.start + unit - 1) / unit;
    const uint32_t share = (n_loads + STEP_WARPS - 1) / STEP_WARPS;
    const uint32_t from = min(threadIdx.x / 32 * share, n_loads);
    return step_range{from, min(from + share, n_loads)};
}

/* Scans a range; `codes` holds its first load, if any. While one load is looked at the next is loading. */
template <int W>
static __device__ __forceinline__ void scan_range(const step_block &me, const step_plan &plan, const uint32_t *planes,
                                                  const step_range &range, step_codes<W> &codes,
                                                  const adm_query_planes<W> *query, step_found *found) {
    const uint32_t unit = step_load<W>::tokens, n_tiles = (me.end - me.start + 31) / 32;
    const uint32_t plain_to = min(me.eligible.last, me.end), range_start = me.start + range.from * unit;
    step_codes<W> next;
    found->n = 0;
    auto scan = [&](const step_codes<W> &one, uint32_t load) {
        const uint32_t first = me.start + load * unit;
        scan_load<W>(me, plan, one, first, first >= me.eligible.first && first + unit <= plain_to, range_start, query, found);
    };
    for (uint32_t load = range.from; load < range.to; load += 2) {
        if (load + 1 < range.to) load_codes<W>(planes, n_tiles, load + 1, &next);
        scan(codes, load);
        if (load + 1 >= range.to) break;
        if (load + 2 < range.to) load_codes<W>(planes, n_tiles, load + 2, &codes);
        scan(next, load + 1);
    }
}

/* The distance of a lane's token in a tile, of n query heads together: for where a list was too short, so in nobody's way. */
template <int W>
static __device__ __noinline__ uint32_t distance_again(const uint32_t *tile, const adm_query_planes<W> *query, uint32_t n) {
    uint32_t high[W], low[W], d = 0;
    adm_read_tile<W>(tile, high, low);
#pragma unroll 1
    for (uint32_t g = 0; g < n; g++) d += adm_distance_of<W, ADM_METRIC_L1>(query[g], high, low);
    return d;
}

/* visit(there, at, key) for a row's candidates in a warp's range: see adm_visit(). */
template <int W, typename Visit>
static __device__ __forceinline__ void visit_range(const step_block &me, const step_plan &plan, const uint32_t *planes,
                                                   const step_range &range, uint32_t row, const adm_query_planes<W> *query,
                                                   const step_found &found, Visit visit) {
    const uint32_t first = range.from * step_load<W>::tokens, together = me.rows < me.heads ? me.heads : 1;
    const auto key = [&](uint32_t at) {
        const uint32_t *tile = planes + (size_t)((first + at) / 32) * (64 * W);
        return adm_key(me.eligible, me.start + first + at, distance_again<W>(tile, query + row, together));
    };
    adm_visit(list_of(found, plan, row), min(range.to * step_load<W>::tokens, me.end - me.start) - first, key, visit);
}

/* Counts a warp's eligible candidates. */
template <int W>
static __device__ __forceinline__ void count_candidates(const step_block &me, const step_plan &plan, const uint32_t *planes,
                                                        const step_range &range, const adm_query_planes<W> *query,
                                                        const step_found &found) {
    __syncwarp();
#pragma unroll 1
    for (uint32_t row = 0; row < me.rows; row++)
        visit_range<W>(me, plan, planes, range, row, query, found, [&](bool there, uint32_t, uint32_t key) {
            if (there && key - 1 <= found.bound[row]) atomicAdd(&found.histogram[row * plan.n_bins + key - 1], 1u);
        });
}

/* ---- the bound ---- */

/* Tiles of a sample, from all over the row: as many as a load has, for each warp. */
template <int W> static __device__ __forceinline__ uint32_t sampled_tile(const step_block &me, int i) {
    const uint32_t all = STEP_WARPS * step_load<W>::tiles, mine = threadIdx.x / 32 * step_load<W>::tiles + i;
    return (uint32_t)((uint64_t)(me.length / 32) * mine / all);
}

/* row_planes: of the KV head's first token. */
template <int W>
static __device__ __forceinline__ void load_sample(const step_block &me, const uint32_t *row_planes, step_codes<W> *to) {
#pragma unroll
    for (int i = 0; i < step_load<W>::tiles; i++)
        adm_read_tile<W>(row_planes + (size_t)sampled_tile<W>(me, i) * (64 * W), to->high[i], to->low[i]);
}

/* Leaves each row's bound in shared memory; sample [rows][n_bins] is zeros. Synchronises the block twice. */
template <int W>
static __device__ __forceinline__ void find_bounds(const step_block &me, const step_plan &plan, const step_codes<W> &codes,
                                                   const adm_query_planes<W> *query, uint32_t *sample, uint32_t *bounds) {
    const int n = step_load<W>::tiles;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (uint32_t row = 0; row < me.rows; row++) {
        uint32_t d[n];
        distances_of<W>(me, codes, row, query, d);
#pragma unroll
        for (int i = 0; i < n; i++)
            if (adm_is_eligible(me.eligible, sampled_tile<W>(me, i) * 32 + lane))
                atomicAdd(&sample[row * plan.n_bins + d[i]], 1u);
    }
    __syncthreads();
    if (warp < me.rows) {
        const uint32_t wanted = adm_wanted_of_sample(me.eligible, 32 * STEP_WARPS * n);
        const uint32_t bound = adm_bound_of(sample + warp * plan.n_bins, plan.n_bins, wanted);
        if (lane == 0) bounds[warp] = bound;
    }
    __syncthreads();
}

/* ---- the cut ---- */

/* Every block adds up the cluster's histograms of each row, and a warp per row finds its cut. sums: [rows][n_bins].
 * Synchronises the block twice, and arrives at the cluster's barrier. */
static __device__ __forceinline__ void find_cuts(const step_block &me, const step_plan &plan, const step_found &found,
                                                 uint2 *sums, adm_row_cut *cuts) {
    const uint32_t warp = threadIdx.x / 32;
    for (uint32_t r = 0; r < me.rows; r++)
#pragma unroll 1
        for (uint32_t i = threadIdx.x; i <= found.bound[r]; i += STEP_THREADS) {
            const uint32_t bin = r * plan.n_bins + i;
            sums[bin] = adm_add_up_bin(plan.split, me.rank,
                                       [&](uint32_t k) { return adm_cluster_peer(found.histogram, k)[bin]; });
        }
    adm_cluster_arrive_relaxed(); /* done with the others' memory */
    __syncthreads();
    if (warp < me.rows)
        adm_find_cut(found.bound[warp] + 1, me.eligible, me.start, &cuts[warp],
                     [&](uint32_t bin) { return sums[warp * plan.n_bins + bin]; });
    __syncthreads();
}

#endif /* __CUDA_ARCH__ >= 900 */

#endif
