/* topk.cu: the budget smallest distances of every row, several blocks per row, exact and in order (select.cuh).
 *
 *   distance [batch][S][capacity] -> index [batch][S][budget], n_selected [batch][S]        S: see gpu.h
 *
 *   cluster   one kernel: the blocks of a row form a cluster. They hold the row in shared memory and push their counts
 *             to one another (held.cuh); or, where rows are long, they list candidates and read one another's histograms
 *   two       two kernels: histograms to the workspace, then the select; for chips without clusters
 *
 * Versions, us for 32 rows, k = 256, cold, 32K / 128K (what limits, what was dropped: kernels/LOG.md):
 *   1  cluster: 8 blocks per row, all distances counted                          H200 8.9 / 18.7
 *   2  the cut by the whole block; only tiles whose smallest can win             H200 8.9 / 15.3
 *   3  a bound from a sample, lists of candidates; 4 blocks per row              H200 6.7 / 12.5, H100 7.4 / 12.2
 *   4  no fence at the cluster barrier; up to 32K 2 blocks per row, alone        H100 and H200 6.4 / 11.3
 *   5  a fence of shared memory where the cluster meets: without it was a race   H200 6.4 / 11.3
 *   6  rows in registers, all distances counted, one exchange (held.cuh)         H200 4.1 / 9.8
 *   7  rows in shared memory, counts exchanged, winners sought where any are     H200 3.5 / 6.4 */
#include "core/base/minmax.h"
#include "kernels/topk/topk.h"
#include "kernels/topk/held.cuh"
#include "kernels/topk/select.cuh"

enum {
    TOPK_THREADS = 512,
    TOPK_WARPS = TOPK_THREADS / 32,
    TOPK_SPLIT = 8 /* blocks per row, at most */,
    CLUSTER_THREADS = 512,
    CLUSTER_WARPS = CLUSTER_THREADS / 32,
    USUAL_CAPACITY = 384 /* candidates per warp */,
    SAMPLE = 8 * CLUSTER_THREADS,
    SAMPLED_WORDS = 4 /* per thread */
};

/* Largest distance + 1. */
static uint32_t n_bins_of(const adm_gpu_shape *s) { return adm_gpu_max_distance(s) + 1; }

/* Where a block's chunk lies: whole groups of 256 tokens. */
static __device__ __forceinline__ uint2 chunk_of(uint32_t length, uint32_t split, uint32_t rank) {
    const uint32_t tokens = ((length + split - 1) / split + 255) / 256 * 256;
    return make_uint2(min(rank * tokens, length), min((rank + 1) * tokens, length));
}

/* Looks at tokens [start, end), 8 per thread and load, four loads in flight: counts the eligible ones into a histogram, unless
 * that is NULL, and writes the smallest distance of each tile to `tile_min`, both in shared memory. */
static __device__ __forceinline__ void scan_chunk(const uint16_t *distance, uint32_t start, uint32_t end,
                                                  const adm_row_eligible &c, uint32_t *histogram, uint16_t *tile_min) {
    for (uint32_t base = start + threadIdx.x / 32 * 256; base < end; base += 4 * 8 * TOPK_THREADS) {
        uint4 x[4];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t token = base + i * 8 * TOPK_THREADS + 8 * (threadIdx.x % 32);
            if (token < end) x[i] = *(const uint4 *)(distance + token);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t tile = base + i * 8 * TOPK_THREADS, token = tile + 8 * (threadIdx.x % 32);
            if (tile >= end) break;
            const uint32_t words[4] = {x[i].x, x[i].y, x[i].z, x[i].w};
            uint32_t smallest = 0xffffu;
            if (tile >= c.first && tile + 256 <= min(c.last, end)) { /* all are eligible */
                const uint32_t pair = __vminu2(__vminu2(words[0], words[1]), __vminu2(words[2], words[3]));
                smallest = min(pair & 0xffffu, pair >> 16);
                if (histogram != NULL)
#pragma unroll
                    for (uint32_t k = 0; k < 4; k++) {
                        atomicAdd(&histogram[words[k] & 0xffffu], 1u);
                        atomicAdd(&histogram[words[k] >> 16], 1u);
                    }
            } else {
#pragma unroll
                for (uint32_t k = 0; k < 8; k++) {
                    const uint32_t d = k % 2 ? words[k / 2] >> 16 : words[k / 2] & 0xffffu;
                    const bool eligible = adm_is_eligible(c, token + k);
                    if (token + k < end) smallest = min(smallest, eligible ? d : 0);
                    if (histogram != NULL && eligible && token + k < end) atomicAdd(&histogram[d], 1u);
                }
            }
            smallest = __reduce_min_sync(ADM_FULL_WARP, smallest);
            if (threadIdx.x % 32 == 0) tile_min[(tile - start) / 256] = (uint16_t)smallest;
        }
    }
}

static __device__ __forceinline__ uint32_t row_length(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t row) {
    return p.length[row / (s.selection == ADM_SELECT_GROUP ? s.heads.n_kv_heads : s.heads.n_q_heads)];
}

/* ---- with clusters ---- */

#if __CUDA_ARCH__ >= 900

/* A warp's range of a row: whole tiles of 256 tokens, eight neighbours per lane. */
enum { TILE = 256, TILES_AHEAD = 4 };

typedef struct warp_range {
    const uint16_t *distance; /* of the row */
    uint32_t start, end;      /* tokens; start is a multiple of TILE */
} warp_range;

static __device__ __forceinline__ warp_range range_of(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t row,
                                                      uint2 chunk) {
    const uint32_t warp = threadIdx.x / 32, n_tiles = (chunk.y - chunk.x + TILE - 1) / TILE;
    warp_range range;
    range.distance = p.distance + (size_t)row * s.capacity;
    range.start = min(chunk.x + n_tiles * warp / CLUSTER_WARPS * TILE, chunk.y);
    range.end = min(chunk.x + n_tiles * (warp + 1) / CLUSTER_WARPS * TILE, chunk.y);
    return range;
}

/* This lane's tokens of a tile; what lies beyond the range stays as it is. */
static __device__ __forceinline__ void load_tile(const warp_range &range, uint32_t tile, uint4 *x) {
    const uint32_t token = tile + 8 * (threadIdx.x % 32);
    if (token < range.end) *x = *(const uint4 *)(range.distance + token);
}

/* Bit i: whether token i of the eight is a candidate, of a tile of which all tokens are there and eligible. */
static __device__ __forceinline__ uint32_t within8(const uint4 &x, uint32_t bound) {
    const uint32_t bound2 = bound * 0x10001u | 0x80008000u; /* bits 15 and 31 of the difference, as in adm_warp_kth() */
    const uint32_t all = (bound2 - x.x & 0x80008000u) >> 15 | (bound2 - x.y & 0x80008000u) >> 13 |
                         (bound2 - x.z & 0x80008000u) >> 11 | (bound2 - x.w & 0x80008000u) >> 9;
    return (all & 0x55u) | (all >> 15 & 0xaau); /* even tokens' bits are at 0, 2, 4, 6; odd ones' at 16, 18, 20, 22 */
}

static __device__ __forceinline__ uint32_t distance8(const uint4 &x, uint32_t i) {
    const uint32_t pair = i < 4 ? (i < 2 ? x.x : x.y) : (i < 6 ? x.z : x.w);
    return pair >> 16 * (i % 2) & 0xffffu;
}

/* Lists what lies within the bound, or is forced in, of the tile at token `tile`. */
static __device__ __forceinline__ void list_tile(const warp_range &range, const adm_row_eligible &c, const uint4 &x,
                                                 uint32_t tile, uint32_t bound, adm_list *list) {
    const uint32_t token = tile + 8 * (threadIdx.x % 32), before = (1u << threadIdx.x % 32) - 1;
    uint32_t candidates = within8(x, bound);
    if (tile < c.first || tile + TILE > min(c.last, range.end)) {
#pragma unroll 1
        for (uint32_t i = 0; i < 8; i++) {
            if (!adm_is_eligible(c, token + i)) candidates |= 1u << i;
            if (token + i >= range.end) candidates &= ~(1u << i);
        }
    }
    uint32_t n = __popc(candidates), at = list->n, all = 0;
#pragma unroll
    for (uint32_t bit = 0; bit < 4; bit++) { /* sums over the lanes before, and over all, a bit of n at a time */
        const uint32_t lanes = __ballot_sync(ADM_FULL_WARP, n >> bit & 1);
        at += __popc(lanes & before) << bit;
        all += __popc(lanes) << bit;
    }
#pragma unroll 1
    for (; candidates != 0; candidates &= candidates - 1, at++) {
        const uint32_t i = __ffs((int)candidates) - 1, key = adm_key(c, token + i, distance8(x, i));
        if (at < list->capacity) list->entry[at] = (token + i - range.start) << ADM_KEY_BITS | key;
    }
    list->n += all;
}

/* x holds the range's first tiles. While one is looked at the one TILES_AHEAD behind it is loading. */
static __device__ __forceinline__ void list_range(const warp_range &range, const adm_row_eligible &c, uint4 (&x)[TILES_AHEAD],
                                                  uint32_t bound, adm_list *list) {
    list->n = 0;
#pragma unroll 1
    for (uint32_t base = range.start; base < range.end; base += TILES_AHEAD * TILE) {
#pragma unroll
        for (uint32_t i = 0; i < TILES_AHEAD; i++) {
            const uint32_t tile = base + TILE * i;
            if (tile >= range.end) break;
            const uint4 one = x[i];
            load_tile(range, tile + TILES_AHEAD * TILE, &x[i]);
            list_tile(range, c, one, tile, bound, list);
        }
    }
    __syncwarp();
}

/* visit(there, at, key) for the candidates of a range: see adm_visit(). */
template <typename Visit>
static __device__ __forceinline__ void visit_range(const warp_range &range, const adm_row_eligible &c, const adm_list &list,
                                                   Visit visit) {
    const auto key = [&](uint32_t at) {
        const uint32_t token = range.start + at;
        return token < range.end ? adm_key(c, token, range.distance[token]) : 0;
    };
    adm_visit(list, range.end - range.start, key, visit);
}

/* The sample: eight neighbours per thread, from all over the row, two per word. */
static __device__ __forceinline__ void sample_row(const warp_range &range, const adm_row_eligible &c,
                                                  uint32_t (&words)[SAMPLED_WORDS]) {
    const uint64_t span = c.last - c.first;
    const uint32_t token = (c.first + (uint32_t)(span * threadIdx.x / CLUSTER_THREADS)) & ~7u;
    const uint4 x = *(const uint4 *)(range.distance + token);
    words[0] = x.x, words[1] = x.y, words[2] = x.z, words[3] = x.w;
    if (token >= c.first && token + 8 <= c.last) return;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++)
        if (!adm_is_eligible(c, token + i)) words[i / 2] |= (uint32_t)ADM_NO_DISTANCE << 16 * (i % 2);
}

/* The mean of what the warps find in their shares of the sample. kth: a word of shared memory per warp. Synchronises the
 * block once. */
static __device__ __forceinline__ uint32_t bound_of_sample(uint32_t (&words)[SAMPLED_WORDS], uint32_t k, uint32_t n_bins,
                                                           uint32_t *kth) {
    const uint32_t lane = threadIdx.x % 32, mine = adm_warp_kth(words, k, n_bins);
    if (lane == 0) kth[threadIdx.x / 32] = mine;
    __syncthreads();
    const uint32_t all = __reduce_add_sync(ADM_FULL_WARP, lane < CLUSTER_WARPS ? kth[lane] : 0);
    return min((all + CLUSTER_WARPS - 1) / CLUSTER_WARPS, n_bins - 1);
}

/* The cut, from the histograms of all blocks of the cluster, each [bound + 1]. sums: as many in shared memory. The caller waits
 * for the cluster before it changes its own histogram. */
static __device__ __forceinline__ void find_cluster_cut(uint32_t *histogram, uint32_t bound, const adm_row_eligible &c,
                                                        uint32_t start, uint2 *sums, adm_row_cut *cut) {
    const uint32_t split = gridDim.x, rank = blockIdx.x;
    adm_cluster_meet();
#pragma unroll 1
    for (uint32_t bin = threadIdx.x; bin <= bound; bin += CLUSTER_THREADS)
        sums[bin] = adm_add_up_bin(split, rank, [&](uint32_t r) { return adm_cluster_peer(histogram, r)[bin]; });
    adm_cluster_arrive_relaxed(); /* this block is done with its neighbours' memory */
    __syncthreads();
    if (threadIdx.x / 32 == 0) adm_find_cut(bound + 1, c, start, cut, [&](uint32_t bin) { return sums[bin]; });
    __syncthreads();
}

/* The winners among a warp's candidates into the index. counts: a pair of shared memory per warp. Synchronises the block
 * once. */
static __device__ __forceinline__ void write_listed(const warp_range &range, const adm_row_eligible &c, const adm_list &list,
                                                    const adm_row_cut &cut, uint2 *counts, uint32_t *index) {
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    uint2 n = make_uint2(0, 0);
    visit_range(range, c, list, [&](bool there, uint32_t, uint32_t key) {
        const uint2 winners = adm_winners(there, key, cut);
        n.x += __popc(winners.x);
        n.y += __popc(winners.y);
    });
    if (lane == 0) counts[warp] = n;
    __syncthreads();
    if (n.x + n.y == 0) return;
    const uint2 earlier = lane < warp ? counts[lane] : make_uint2(0, 0);
    uint2 at = make_uint2(cut.rank + __reduce_add_sync(ADM_FULL_WARP, earlier.x),
                          cut.ties + __reduce_add_sync(ADM_FULL_WARP, earlier.y));
    visit_range(range, c, list, [&](bool there, uint32_t token, uint32_t key) {
        adm_put_winners(adm_winners(there, key, cut), cut, &at,
                        [&](uint32_t position) { index[position] = range.start + token; });
    });
}

#endif /* __CUDA_ARCH__ >= 900 */

/* distance (rows, capacity) -> index (rows, budget), n_selected (rows). Grid (split, rows), a cluster per row. Dynamic shared
 * memory: sums and a histogram of n_bins, a list of candidates per warp. */
template <bool USUAL>
static __global__ void __launch_bounds__(CLUSTER_THREADS)
    topk_cluster(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins,
                 uint32_t any_capacity) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(16) uint2 sums[];
    __shared__ uint2 counts[CLUSTER_WARPS];
    __shared__ adm_row_cut cut;
    __shared__ uint32_t kth[CLUSTER_WARPS];
    uint32_t *histogram = (uint32_t *)(sums + n_bins);
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y, warp = threadIdx.x / 32;
    adm_start_dependents();
#pragma unroll 1
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += CLUSTER_THREADS) histogram[bin] = 0;
    const uint32_t length = row_length(s, p, row);
    const adm_row_eligible c = adm_row_eligible_of(s.rule, length);
    const uint2 chunk = chunk_of(length, split, rank);
    const warp_range range = range_of(s, p, row, chunk);
    const uint32_t capacity = USUAL ? (uint32_t)USUAL_CAPACITY : any_capacity;
    adm_list list = {histogram + n_bins + warp * capacity, capacity, 0};
    const bool sampled = adm_worth_a_bound(c);
    const uint32_t k = sampled ? adm_bound_rank(c, SAMPLE / CLUSTER_WARPS, CLUSTER_WARPS) : 0;
    uint32_t bound = n_bins - 1, words[SAMPLED_WORDS];
    uint4 x[TILES_AHEAD];
    __syncthreads();
    adm_wait_for_predecessors();

    auto load_first = [&] {
#pragma unroll
        for (uint32_t i = 0; i < TILES_AHEAD; i++) load_tile(range, range.start + TILE * i, &x[i]);
    };
    if (sampled) sample_row(range, c, words);
    load_first();
    if (sampled) bound = bound_of_sample(words, k, n_bins, kth);
    for (;;) {
        list_range(range, c, x, bound, &list);
        visit_range(range, c, list, [&](bool there, uint32_t, uint32_t key) {
            if (there && key - 1 <= bound) atomicAdd(&histogram[key - 1], 1u);
        });
        find_cluster_cut(histogram, bound, c, chunk.x, sums, &cut);
        if (cut.boundary != UINT32_MAX) break;
        adm_cluster_wait(); /* too few within the bound */
        for (uint32_t bin = threadIdx.x; bin < n_bins; bin += CLUSTER_THREADS) histogram[bin] = 0;
        bound = n_bins - 1;
        load_first();
        __syncthreads();
    }
    const adm_row_cut found = cut;
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    write_listed(range, c, list, found, counts, p.index + (size_t)row * s.rule.budget);
    adm_cluster_wait(); /* and they with its */
#endif
}

/* ---- without ---- */

/* distance (rows, capacity) -> workspace (rows, split, n_bins): each block's histogram. Grid (split, rows). Dynamic shared
 * memory: the histogram, the smallest of each tile. */
static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_count(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins) {
    extern __shared__ __align__(16) uint32_t histogram[];
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    adm_start_dependents();
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) histogram[bin] = 0;
    const uint32_t length = row_length(s, p, row);
    const uint2 chunk = chunk_of(length, split, rank);
    __syncthreads();
    adm_wait_for_predecessors();
    scan_chunk(p.distance + (size_t)row * s.capacity, chunk.x, chunk.y, adm_row_eligible_of(s.rule, length), histogram,
               (uint16_t *)(histogram + n_bins));
    __syncthreads();
    uint32_t *to = (uint32_t *)p.workspace + ((size_t)row * split + rank) * n_bins;
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) to[bin] = histogram[bin];
}

/* distance (rows, capacity), workspace (rows, split, n_bins) -> index (rows, budget), n_selected (rows). Grid (split, rows). */
static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_select(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins) {
    extern __shared__ __align__(16) uint2 sums[];
    __shared__ uint2 counts[TOPK_WARPS];
    __shared__ adm_row_cut cut;
    uint16_t *tile_min = (uint16_t *)(sums + n_bins);
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    const adm_team team = {threadIdx.x / 32, TOPK_WARPS};
    adm_start_dependents();
    const uint32_t length = row_length(s, p, row);
    const adm_row_eligible c = adm_row_eligible_of(s.rule, length);
    const uint2 chunk = chunk_of(length, split, rank);
    const uint32_t *histograms = (const uint32_t *)p.workspace + (size_t)row * split * n_bins;
    adm_wait_for_predecessors();
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS)
        sums[bin] = adm_add_up_bin(split, rank, [&](uint32_t r) { return histograms[r * n_bins + bin]; });
    const uint16_t *distance = p.distance + (size_t)row * s.capacity;
    scan_chunk(distance, chunk.x, chunk.y, c, NULL, tile_min);
    __syncthreads();
    if (threadIdx.x < 32) adm_find_cut(n_bins, c, chunk.x, &cut, [&](uint32_t bin) { return sums[bin]; });
    __syncthreads();
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    uint32_t *index = p.index + (size_t)row * s.rule.budget;
    adm_write_winners<8>(distance + chunk.x, tile_min, chunk.x, chunk.y, c, cut, team, counts,
                         [&](uint32_t position, uint32_t token) { index[position] = token; });
}

/* ---- launchers ---- */

/* Blocks per row: enough to fill about 132 SMs twice, but no chunk below 2,048 tokens. Of the shape alone, since
 * the workspace depends on it. */
static uint32_t split_of(const adm_gpu_shape *s) {
    const uint32_t n_rows = s->batch * adm_gpu_select_heads(s);
    uint32_t split = 1;
    while (split < TOPK_SPLIT && 2 * split * n_rows <= 264 && s->capacity / (2 * split) >= 2048) split *= 2;
    return split;
}

/* Blocks per row of the kernel with clusters: fewer, since blocks that wait for one another cost more than they bring until
 * each has enough to do. */
static uint32_t cluster_of(const adm_gpu_shape *s) {
    const uint32_t n_rows = s->batch * adm_gpu_select_heads(s);
    uint32_t split = 1;
    while (split < 4 && 2 * split * n_rows <= 132 && s->capacity / split > 16384) split *= 2;
    return split;
}

/* Candidates that a warp's list holds where a row fills the capacity, of `max_words` words for all of a block. What does not
 * fit is looked for in the distances again, ten times as slowly. */
static uint32_t list_capacity_of(const adm_gpu_shape *s, uint32_t split, uint32_t max_words) {
    const uint32_t n = SAMPLE / CLUSTER_WARPS, tiles = (s->capacity + 255) / 256, ranges = split * CLUSTER_WARPS;
    const uint32_t tokens = (tiles + ranges - 1) / ranges * 256;
    const float share = (float)s->rule.budget / (float)s->capacity;
    const float within = (float)adm_bound_rank_of(share, n, 2.0f / sqrtf((float)CLUSTER_WARPS)) / (float)(n + 1);
    return (uint32_t)adm_min(adm_list_capacity(within, tokens, USUAL_CAPACITY) / 32 * 32, max_words / CLUSTER_WARPS);
}

/* Of the smallest distances of a chunk's tiles. */
static size_t tile_min_bytes_of(const adm_gpu_shape *s, uint32_t split) {
    return ((s->capacity + split - 1) / split / 256 + 2) * sizeof(uint16_t);
}

static adm_gpu_grid grid_of(const adm_gpu_shape *shape, uint32_t split, size_t shared_bytes) {
    adm_gpu_grid grid = {};
    grid.blocks = dim3(split, shape->batch * adm_gpu_select_heads(shape));
    grid.threads = TOPK_THREADS;
    grid.shared_bytes = shared_bytes;
    grid.dependent = true;
    return grid;
}

/* A row's bins, three times over, must fit a block's shared memory, and the rows the grid's second dimension. */
static adm_status check(const adm_gpu_shape *shape, adm_gpu_limits *limits, adm_error *err) {
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(limits, err);
    if (status != ADM_OK) return status;
    const uint32_t n_rows = shape->batch * adm_gpu_select_heads(shape), n_bins = n_bins_of(shape);
    if (n_rows > 65535) return adm_fail(err, ADM_EUNSUPPORTED, "top-k of %u rows: the kernel takes at most 65535", n_rows);
    if (3 * n_bins * sizeof(uint32_t) + 36 * 1024 > (size_t)limits->block_shared_bytes)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "top-k of distances up to %u: three histograms of them need %zu bytes of "
                        "shared memory, and a block of this device has %d",
                        n_bins - 1, 3 * n_bins * sizeof(uint32_t), limits->block_shared_bytes);
    return ADM_OK;
}

extern "C" adm_status adm_gpu_topk_cluster_split(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                                 adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = check(shape, &limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major < 9)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "this top-k needs clusters of blocks, compute capability 9.0; the "
                        "device has %d.x: use the variant with two kernels",
                        limits.compute_major);
    if (split > TOPK_SPLIT || (split & (split - 1)) != 0)
        return adm_fail(err, ADM_EINPUT, "top-k with %u blocks per row: they are 1, 2, 4 or 8", split);
    if (split == 0) split = cluster_of(shape);
    uint32_t n_bins = n_bins_of(shape);
    if (n_bins > (1u << ADM_KEY_BITS) - 1)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "top-k of distances up to %u: this one takes at most %u; use the variant with "
                        "two kernels",
                        n_bins - 1, (1u << ADM_KEY_BITS) - 2);
    uint32_t capacity = list_capacity_of(shape, split, ((uint32_t)limits.block_shared_bytes - 1024) / 4 - 3 * n_bins);
    adm_gpu_grid grid = grid_of(shape, split, (3 * n_bins + CLUSTER_WARPS * capacity) * sizeof(uint32_t));
    grid.threads = CLUSTER_THREADS;
    grid.cluster = split;
    /* Where half of the SMs hold all blocks, each gets one for itself: no two share one then, as clusters do that fit
     * beside those of the kernel before, and the next kernel begins on the other half. */
    const size_t more_than_half = (size_t)limits.sm_shared_bytes / 2;
    if (2 * grid.blocks.x * grid.blocks.y <= (unsigned)limits.n_sms && grid.shared_bytes < more_than_half)
        grid.shared_bytes = more_than_half;
    void *args[] = {(void *)shape, (void *)buffers, &n_bins, &capacity};
    const void *kernel = capacity == USUAL_CAPACITY ? (const void *)topk_cluster<true> : (const void *)topk_cluster<false>;
    return adm_gpu_launch("top-k", kernel, grid, args, stream, err);
}

/* ---- rows in shared memory ---- */

/* How a row is cut up: blocks, 0: by lists; and warps per block. */
typedef struct topk_cut {
    uint32_t split, warps;
} topk_cut;

/* A row's tiles in n parts: of the largest. */
static uint32_t held_tiles(const adm_gpu_shape *s, uint32_t n) { return (s->capacity + HELD_TILE * n - 1) / (HELD_TILE * n); }

static size_t held_shared_bytes(const adm_gpu_shape *s, topk_cut cut) {
    const uint32_t n_bins = n_bins_of(s), tiles = cut.warps * held_tiles(s, cut.split * cut.warps);
    const uint32_t counts = n_bins + HELD_BEHIND + (cut.split > 1 ? cut.split * n_bins : 0);
    return (size_t)tiles * HELD_TILE * sizeof(uint16_t) + counts * sizeof(uint32_t);
}

static const void *held_kernel_of(uint32_t warps, uint32_t tiles) {
    static const void *const kernels[2][3] = {
        {(const void *)topk_held<16, 2>, (const void *)topk_held<16, 4>, (const void *)topk_held<16, 8>},
        {(const void *)topk_held<32, 2>, (const void *)topk_held<32, 4>, (const void *)topk_held<32, 8>}};
    return kernels[warps / 32][tiles <= 2 ? 0 : tiles <= 4 ? 1 : 2];
}

static bool can_hold(const adm_gpu_shape *s, const adm_gpu_limits *limits, topk_cut cut) {
    return limits->compute_major >= 9 && held_tiles(s, cut.split * cut.warps) <= HELD_TILES &&
           n_bins_of(s) <= ADM_NO_DISTANCE && held_shared_bytes(s, cut) <= (size_t)limits->block_shared_bytes - 1024;
}

extern "C" adm_status adm_gpu_topk_held(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                        uint32_t warps, adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    const adm_status status = check(shape, &limits, err);
    if (status != ADM_OK) return status;
    if (split < 1 || split > TOPK_SPLIT || (warps != 16 && warps != 32))
        return adm_fail(err, ADM_EINPUT, "top-k with %u blocks per row of %u warps: 1 to %d of 16 or 32", split, warps,
                        TOPK_SPLIT);
    const topk_cut cut = {split, warps};
    uint32_t n_bins = n_bins_of(shape), max_tiles = held_tiles(shape, split * warps);
    if (!can_hold(shape, &limits, cut))
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "top-k in shared memory: %u blocks per row of %u warps hold up to %u tokens with fewer than %d "
                        "different distances, as far as there is room, where there are clusters of blocks; the rows have %u "
                        "with %u",
                        split, warps, split * warps * HELD_TILES * HELD_TILE, ADM_NO_DISTANCE, shape->capacity, n_bins);
    adm_gpu_grid grid = grid_of(shape, split, held_shared_bytes(shape, cut));
    grid.threads = 32 * warps;
    grid.cluster = split > 1 ? split : 0;
    grid.most_shared = true;
    /* As many blocks on an SM as it takes to hold them all, and none of the next kernel: 3.6 us in place of 5.2 for 32 rows of
     * 32K (kernels/LOG.md). */
    const uint32_t n_blocks = split * grid.blocks.y, per_sm = (n_blocks + (uint32_t)limits.n_sms - 1) / (uint32_t)limits.n_sms;
    const size_t a_share = (size_t)limits.sm_shared_bytes / (per_sm + 1);
    if (grid.shared_bytes < a_share) grid.shared_bytes = a_share;
    void *args[] = {(void *)shape, (void *)buffers, &n_bins, &max_tiles};
    return adm_gpu_launch("top-k", held_kernel_of(warps, max_tiles), grid, args, stream, err);
}

/* What was fastest on an H200 (kernels/LOG.md). 16 warps of two tiles each, as far as each block has an SM: only so many
 * clusters of more than two are sure to find SMs. Where there are many bins to exchange, fewer and larger blocks: 32 warps of
 * four tiles. 32 warps also where 16 would have more than six tiles each. Lists where blocks of several rows would have to
 * share all SMs. */
static topk_cut cut_of(const adm_gpu_shape *s, const adm_gpu_limits *limits) {
    const topk_cut lists = {0, 0};
    const uint32_t n_rows = s->batch * adm_gpu_select_heads(s), n_sms = (uint32_t)limits->n_sms;
    const bool large = n_bins_of(s) > 1024 && n_rows <= n_sms;
    const uint32_t sure = n_sms * 9 / 10 / n_rows, fit = sure >= 3 ? sure : 2 * n_rows <= n_sms ? 2 : 1;
    const uint32_t wanted = held_tiles(s, large ? 32 * 4 : 16 * 2), most = (uint32_t)adm_min(fit, TOPK_SPLIT);
    topk_cut cut = {(uint32_t)adm_min(wanted, most), large ? 32u : 16u};
    if (held_tiles(s, cut.split * cut.warps) > 6) cut.warps = 32;
    while (cut.split < TOPK_SPLIT && held_tiles(s, cut.split * cut.warps) > HELD_TILES) cut.split++;
    if (cut.split > most && n_rows > n_sms) return lists;
    return can_hold(s, limits, cut) ? cut : lists;
}

extern "C" adm_status adm_gpu_topk_cluster(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    adm_gpu_limits limits;
    const adm_status status = check(shape, &limits, err);
    if (status != ADM_OK) return status;
    const topk_cut cut = cut_of(shape, &limits);
    return cut.split == 0 ? adm_gpu_topk_cluster_split(shape, buffers, 0, stream, err)
                          : adm_gpu_topk_held(shape, buffers, cut.split, cut.warps, stream, err);
}

extern "C" size_t adm_gpu_topk_two_workspace_bytes(const adm_gpu_shape *shape) {
    return (size_t)shape->batch * adm_gpu_select_heads(shape) * split_of(shape) * n_bins_of(shape) * sizeof(uint32_t);
}

extern "C" adm_status adm_gpu_topk_two(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                       adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = check(shape, &limits, err);
    if (status != ADM_OK) return status;
    uint32_t n_bins = n_bins_of(shape);
    const uint32_t split = split_of(shape);
    const size_t bytes = n_bins * sizeof(uint32_t), tile_min_bytes = tile_min_bytes_of(shape, split);
    void *args[] = {(void *)shape, (void *)buffers, &n_bins};
    status = adm_gpu_launch("top-k, counting", (const void *)topk_count, grid_of(shape, split, bytes + tile_min_bytes), args,
                            stream, err);
    if (status != ADM_OK) return status;
    return adm_gpu_launch("top-k, selecting", (const void *)topk_select, grid_of(shape, split, 2 * bytes + tile_min_bytes),
                          args, stream, err);
}
