/* topk.cu: the budget smallest distances of every row, several blocks a row, exact and in order (select.cuh).
 *
 *   distance [batch][S][capacity] -> index [batch][S][budget], n_selected [batch][S]        S: see gpu.h
 *
 *   cluster   one kernel: the blocks of a row form a cluster and read one another's histograms in shared memory
 *   two       two kernels: histograms to the workspace, then the select; for chips without clusters
 *
 * History (us on an H200, 32 rows, k = 256, cold: 32K / 128K):
 *   1  cluster: 8 blocks of 512 threads a row, all distances counted                                   8.9 / 18.7
 *      Stall samples: a fifth of the time 15 of 16 warps waited for the one that searched the cut.
 *   2  the cut by the whole block; winners looked for only in strips of 256 whose smallest can win     8.9 / 15.3
 *      Clocks at each phase, 32K: load and count 1,500 cycles, cluster barrier 1,100, read the others' histograms 3,300,
 *      cut 2,200, winners 3,900. An atomic add of a warp to shared memory takes 12 to 18 cycles of the processor.
 *   3  cluster: a bound from a sample, lists of candidates (select.cuh); 4 blocks a row               6.7 / 12.5
 *      Clocks, 32K: sample and bound 3,100 cycles, list 4,400, then four steps of 1,100 to 1,400 that are latency alone:
 *      barrier, histograms, cut, winners. 2 blocks a row: 8.3 / 17.6; 8: 10.5 / 15.5; 1: 10.3 / 25.7.
 * On an H100 version 3 takes                                                                           7.4 / 12.2
 *   4  no fence at the cluster's barrier (common.cuh); candidates counted from the lists; a sample of 4,096 without a
 *      histogram; 2 blocks a row up to 32K, one alone on a processor                                  6.4 / 11.3
 *      Clocks, 32K, us: loads and bound 1.8, lists 1.1, barrier 0.2, histograms and cut 0.7, winners 0.6, and 0.7 from kernel
 *      to kernel. With 4 blocks a row that share processors the median block is done after 4.8 us and the last after
 *      7.4: clusters find room beside those of the kernel before, so that some processors get two blocks.
 *   Since then, not measured: lists have room for what a large budget wants. Where they had not, 32 rows of 16K took 28.7 us
 *      at a budget of 4,096 beside 9.4 at 2,048, and 256 rows of 128K 285 at 2,048 beside 39.6 at 1,024. By a count on the host
 *      over those inputs the fullest list of 5,120 rows holds 414 of 704 there, and of 3,840 rows 509 of 608.
 *   Tried and left: 8 warps a block, 7.8 / 18.5; strips of 64 tokens, two a lane, 7.3 / 14.7; 4 blocks a row alone on
 *      their processors, 10.3 / 14.3; 2 blocks a row that share them, 8.6 / 14.8. */
#include "core/base/minmax.h"
#include "kernels/topk/topk.h"
#include "kernels/topk/select.cuh"

enum {
    TOPK_THREADS = 512,
    TOPK_WARPS = TOPK_THREADS / 32,
    TOPK_SPLIT = 8 /* blocks a row, at most */,
    CLUSTER_THREADS = 512,
    CLUSTER_WARPS = CLUSTER_THREADS / 32,
    USUAL_ROOM = 384 /* candidates a warp */,
    SAMPLE = 8 * CLUSTER_THREADS,
    SAMPLED_WORDS = 4 /* a thread */
};

/* Largest distance + 1. */
static uint32_t n_bins_of(const adm_gpu_shape *s) {
    const uint32_t group = s->heads.n_q_heads / s->heads.n_kv_heads;
    return 3 * s->heads.head_dim * (s->selection == ADM_SELECT_GROUP ? group : 1) + 1;
}

/* Where a block's chunk lies: whole groups of 256 tokens. */
static __device__ __forceinline__ uint2 chunk_of(uint32_t length, uint32_t split, uint32_t rank) {
    const uint32_t tokens = ((length + split - 1) / split + 255) / 256 * 256;
    return make_uint2(min(rank * tokens, length), min((rank + 1) * tokens, length));
}

/* Looks at tokens [start, end), 8 a thread and load, four loads in flight: counts the eligible ones into a histogram, unless
 * that is NULL, and writes the smallest distance of each strip to `least`, both in shared memory. */
static __device__ __forceinline__ void scan_chunk(const uint16_t *distance, uint32_t start, uint32_t end, const adm_row_eligible &c,
                                                  uint32_t *histogram, uint16_t *least) {
    for (uint32_t base = start + threadIdx.x / 32 * 256; base < end; base += 4 * 8 * TOPK_THREADS) {
        uint4 x[4];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t token = base + i * 8 * TOPK_THREADS + 8 * (threadIdx.x % 32);
            if (token < end) x[i] = *(const uint4 *)(distance + token);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t strip = base + i * 8 * TOPK_THREADS, token = strip + 8 * (threadIdx.x % 32);
            if (strip >= end) break;
            const uint32_t words[4] = {x[i].x, x[i].y, x[i].z, x[i].w};
            uint32_t smallest = 0xffffu;
            if (strip >= c.first && strip + 256 <= min(c.last, end)) { /* all are eligible */
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
            if (threadIdx.x % 32 == 0) least[(strip - start) / 256] = (uint16_t)smallest;
        }
    }
}

static __device__ __forceinline__ uint32_t row_length(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t row) {
    return p.length[row / (s.selection == ADM_SELECT_GROUP ? s.heads.n_kv_heads : s.heads.n_q_heads)];
}

/* ---- with clusters ---- */

#if __CUDA_ARCH__ >= 900

/* A warp's part of a row: whole strips of 256 tokens, eight neighbours a lane. */
enum { STRIP = 256, STRIPS_AHEAD = 4 };

typedef struct topk_part {
    const uint16_t *distance; /* of the row */
    uint32_t start, end;      /* tokens; start is a multiple of STRIP */
} topk_part;

static __device__ __forceinline__ topk_part part_of(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t row,
                                                    uint2 chunk) {
    const uint32_t warp = threadIdx.x / 32, n_strips = (chunk.y - chunk.x + STRIP - 1) / STRIP;
    topk_part part;
    part.distance = p.distance + (size_t)row * s.capacity;
    part.start = min(chunk.x + n_strips * warp / CLUSTER_WARPS * STRIP, chunk.y);
    part.end = min(chunk.x + n_strips * (warp + 1) / CLUSTER_WARPS * STRIP, chunk.y);
    return part;
}

/* This lane's tokens of a strip; what lies beyond the part stays as it is. */
static __device__ __forceinline__ void load_strip(const topk_part &part, uint32_t strip, uint4 *x) {
    const uint32_t token = strip + 8 * (threadIdx.x % 32);
    if (token < part.end) *x = *(const uint4 *)(part.distance + token);
}

/* Bit i: whether token i of the eight is a candidate, of a strip of which all tokens are there and compete. */
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

/* Lists what lies within the bound, or is in by force, of the strip at token `strip`. */
static __device__ __forceinline__ void list_strip(const topk_part &part, const adm_row_eligible &c, const uint4 &x, uint32_t strip,
                                                  uint32_t bound, adm_list *list) {
    const uint32_t token = strip + 8 * (threadIdx.x % 32), before = (1u << threadIdx.x % 32) - 1;
    uint32_t candidates = within8(x, bound);
    if (strip < c.first || strip + STRIP > min(c.last, part.end)) {
#pragma unroll 1
        for (uint32_t i = 0; i < 8; i++) {
            if (!adm_is_eligible(c, token + i)) candidates |= 1u << i;
            if (token + i >= part.end) candidates &= ~(1u << i);
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
        if (at < list->room) list->entry[at] = (token + i - part.start) << ADM_KEY_BITS | key;
    }
    list->n += all;
}

/* x holds the part's first strips. While one is looked at the one STRIPS_AHEAD behind it is loading. */
static __device__ __forceinline__ void list_part(const topk_part &part, const adm_row_eligible &c, uint4 (&x)[STRIPS_AHEAD],
                                                 uint32_t bound, adm_list *list) {
    list->n = 0;
#pragma unroll 1
    for (uint32_t base = part.start; base < part.end; base += STRIPS_AHEAD * STRIP) {
#pragma unroll
        for (uint32_t i = 0; i < STRIPS_AHEAD; i++) {
            const uint32_t strip = base + STRIP * i;
            if (strip >= part.end) break;
            const uint4 one = x[i];
            load_strip(part, strip + STRIPS_AHEAD * STRIP, &x[i]);
            list_strip(part, c, one, strip, bound, list);
        }
    }
    __syncwarp();
}

/* visit(there, at, key) for the candidates of a part: see adm_visit(). */
template <typename Visit>
static __device__ __forceinline__ void visit_part(const topk_part &part, const adm_row_eligible &c, const adm_list &list,
                                                  Visit visit) {
    const auto key = [&](uint32_t at) {
        const uint32_t token = part.start + at;
        return token < part.end ? adm_key(c, token, part.distance[token]) : 0;
    };
    adm_visit(list, part.end - part.start, key, visit);
}

/* The sample: eight neighbours a thread, from all over the row, two a word. */
static __device__ __forceinline__ void sample_row(const topk_part &part, const adm_row_eligible &c,
                                                  uint32_t (&words)[SAMPLED_WORDS]) {
    const uint64_t span = c.last - c.first;
    const uint32_t token = (c.first + (uint32_t)(span * threadIdx.x / CLUSTER_THREADS)) & ~7u;
    const uint4 x = *(const uint4 *)(part.distance + token);
    words[0] = x.x, words[1] = x.y, words[2] = x.z, words[3] = x.w;
    if (token >= c.first && token + 8 <= c.last) return;
#pragma unroll
    for (uint32_t i = 0; i < 8; i++)
        if (!adm_is_eligible(c, token + i)) words[i / 2] |= (uint32_t)ADM_NO_DISTANCE << 16 * (i % 2);
}

#endif /* __CUDA_ARCH__ >= 900 */

/* Grid (split, rows), a cluster a row. Dynamic shared memory: sums and a histogram of n_bins, a list of candidates a warp. */
template <bool USUAL>
static __global__ void __launch_bounds__(CLUSTER_THREADS)
    topk_cluster(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins,
                 uint32_t any_room) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(16) uint2 sums[];
    __shared__ uint2 counts[CLUSTER_WARPS];
    __shared__ adm_row_cut cut;
    __shared__ uint32_t kth[CLUSTER_WARPS];
    uint32_t *histogram = (uint32_t *)(sums + n_bins);
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y, warp = threadIdx.x / 32;
    const uint32_t lane = threadIdx.x % 32;
    adm_start_dependents();
#pragma unroll 1
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += CLUSTER_THREADS) histogram[bin] = 0;
    const uint32_t length = row_length(s, p, row);
    const adm_row_eligible c = adm_row_eligible_of(s.rule, length);
    const uint2 chunk = chunk_of(length, split, rank);
    const topk_part part = part_of(s, p, row, chunk);
    const uint32_t room = USUAL ? (uint32_t)USUAL_ROOM : any_room;
    adm_list list = {histogram + n_bins + warp * room, room, 0};
    const bool sampled = adm_worth_a_bound(c);
    const uint32_t k = sampled ? adm_bound_rank(c, SAMPLE / CLUSTER_WARPS, CLUSTER_WARPS) : 0;
    uint32_t bound = n_bins - 1, words[SAMPLED_WORDS];
    uint4 x[STRIPS_AHEAD];
    __syncthreads();
    adm_wait_for_predecessors();

    auto load_first = [&] {
#pragma unroll
        for (uint32_t i = 0; i < STRIPS_AHEAD; i++) load_strip(part, part.start + STRIP * i, &x[i]);
    };
    if (sampled) sample_row(part, c, words);
    load_first();
    if (sampled) {
        const uint32_t mine = adm_warp_kth(words, k, n_bins);
        if (lane == 0) kth[warp] = mine;
        __syncthreads();
        const uint32_t all = __reduce_add_sync(ADM_FULL_WARP, lane < CLUSTER_WARPS ? kth[lane] : 0);
        bound = min((all + CLUSTER_WARPS - 1) / CLUSTER_WARPS, n_bins - 1);
    }
    for (;;) {
        list_part(part, c, x, bound, &list);
        visit_part(part, c, list, [&](bool there, uint32_t, uint32_t key) {
            if (there && key - 1 <= bound) atomicAdd(&histogram[key - 1], 1u);
        });
        adm_cluster_meet();
#pragma unroll 1
        for (uint32_t bin = threadIdx.x; bin <= bound; bin += CLUSTER_THREADS)
            sums[bin] = adm_add_up_bin(split, rank, [&](uint32_t r) { return adm_cluster_peer(histogram, r)[bin]; });
        adm_cluster_arrive_relaxed(); /* this block is done with its neighbours' memory */
        __syncthreads();
        if (warp == 0) adm_find_cut(bound + 1, c, chunk.x, &cut, [&](uint32_t bin) { return sums[bin]; });
        __syncthreads();
        if (cut.boundary != UINT32_MAX) break;
        adm_cluster_wait(); /* too few within the bound */
        for (uint32_t bin = threadIdx.x; bin < n_bins; bin += CLUSTER_THREADS) histogram[bin] = 0;
        bound = n_bins - 1;
        load_first();
        __syncthreads();
    }
    const adm_row_cut found = cut;
    uint2 n = make_uint2(0, 0);
    visit_part(part, c, list, [&](bool there, uint32_t, uint32_t key) {
        const uint2 winners = adm_winners(there, key, found);
        n.x += __popc(winners.x);
        n.y += __popc(winners.y);
    });
    if (lane == 0) counts[warp] = n;
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    __syncthreads();
    if (n.x + n.y > 0) {
        uint32_t *index = p.index + (size_t)row * s.rule.budget;
        const uint2 earlier = lane < warp ? counts[lane] : make_uint2(0, 0);
        uint2 at = make_uint2(found.rank + __reduce_add_sync(ADM_FULL_WARP, earlier.x),
                              found.ties + __reduce_add_sync(ADM_FULL_WARP, earlier.y));
        visit_part(part, c, list, [&](bool there, uint32_t token, uint32_t key) {
            adm_put_winners(adm_winners(there, key, found), found, &at,
                            [&](uint32_t place) { index[place] = part.start + token; });
        });
    }
    adm_cluster_wait(); /* and they with its */
#endif
}

/* ---- without ---- */

/* Grid (split, rows): each block's histogram to the workspace [rows][split][n_bins]. Dynamic shared memory: the histogram,
 * the smallest of each strip. */
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

static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_select(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins) {
    extern __shared__ __align__(16) uint2 sums[];
    __shared__ uint2 counts[TOPK_WARPS];
    __shared__ adm_row_cut cut;
    uint16_t *least = (uint16_t *)(sums + n_bins);
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
    scan_chunk(distance, chunk.x, chunk.y, c, NULL, least);
    __syncthreads();
    if (threadIdx.x < 32) adm_find_cut(n_bins, c, chunk.x, &cut, [&](uint32_t bin) { return sums[bin]; });
    __syncthreads();
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    uint32_t *index = p.index + (size_t)row * s.rule.budget;
    adm_write_winners<8>(distance + chunk.x, least, chunk.x, chunk.y, c, cut, team, counts,
                         [&](uint32_t place, uint32_t token) { index[place] = token; });
}

/* ---- launchers ---- */

/* Blocks a row: enough to fill about 132 processors twice, but no chunk below 2,048 tokens. Of the shape alone, since
 * the workspace depends on it. */
static uint32_t split_of(const adm_gpu_shape *s) {
    const uint32_t n_rows = s->batch * adm_gpu_select_heads(s);
    uint32_t split = 1;
    while (split < TOPK_SPLIT && 2 * split * n_rows <= 264 && s->capacity / (2 * split) >= 2048) split *= 2;
    return split;
}

/* Blocks a row of the kernel with clusters: fewer, since blocks that wait for one another cost more than they bring until
 * each has enough to do. */
static uint32_t cluster_of(const adm_gpu_shape *s) {
    const uint32_t n_rows = s->batch * adm_gpu_select_heads(s);
    uint32_t split = 1;
    while (split < 4 && 2 * split * n_rows <= 132 && s->capacity / split > 16384) split *= 2;
    return split;
}

/* Candidates that a warp has room for where a row fills the capacity, of `most` words for all of a block. What does not fit is
 * looked for in the distances again, ten times as slowly. */
static uint32_t room_of(const adm_gpu_shape *s, uint32_t split, uint32_t most) {
    const uint32_t n = SAMPLE / CLUSTER_WARPS, strips = (s->capacity + 255) / 256, parts = split * CLUSTER_WARPS;
    const uint32_t tokens = (strips + parts - 1) / parts * 256;
    const float share = (float)s->rule.budget / (float)s->capacity;
    const float within = (float)adm_bound_rank_of(share, n, 2.0f / sqrtf((float)CLUSTER_WARPS)) / (float)(n + 1);
    return (uint32_t)adm_min(adm_list_room(within, tokens, USUAL_ROOM) / 32 * 32, most / CLUSTER_WARPS);
}

/* Of the smallest distances of a chunk's strips. */
static size_t least_bytes_of(const adm_gpu_shape *s, uint32_t split) {
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
        return adm_fail(err, ADM_EINPUT, "top-k with %u blocks a row: they are 1, 2, 4 or 8", split);
    if (split == 0) split = cluster_of(shape);
    uint32_t n_bins = n_bins_of(shape);
    if (n_bins > (1u << ADM_KEY_BITS) - 1)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "top-k of distances up to %u: this one takes at most %u; use the variant with "
                        "two kernels",
                        n_bins - 1, (1u << ADM_KEY_BITS) - 2);
    uint32_t room = room_of(shape, split, ((uint32_t)limits.block_shared_bytes - 1024) / 4 - 3 * n_bins);
    adm_gpu_grid grid = grid_of(shape, split, (3 * n_bins + CLUSTER_WARPS * room) * sizeof(uint32_t));
    grid.threads = CLUSTER_THREADS;
    grid.cluster = split;
    /* Where half of the processors hold all blocks, each gets one for itself: no two share one then, as clusters do that find
     * room beside those of the kernel before, and the next kernel begins on the other half. */
    const size_t more_than_half = (size_t)limits.sm_shared_bytes / 2;
    if (2 * grid.blocks.x * grid.blocks.y <= (unsigned)limits.n_sms && grid.shared_bytes < more_than_half)
        grid.shared_bytes = more_than_half;
    void *args[] = {(void *)shape, (void *)buffers, &n_bins, &room};
    const void *kernel = room == USUAL_ROOM ? (const void *)topk_cluster<true> : (const void *)topk_cluster<false>;
    return adm_gpu_launch("top-k", kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_topk_cluster(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    return adm_gpu_topk_cluster_split(shape, buffers, 0, stream, err);
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
    const size_t bytes = n_bins * sizeof(uint32_t), least_bytes = least_bytes_of(shape, split);
    void *args[] = {(void *)shape, (void *)buffers, &n_bins};
    status = adm_gpu_launch("top-k, counting", (const void *)topk_count, grid_of(shape, split, bytes + least_bytes), args,
                            stream, err);
    if (status != ADM_OK) return status;
    return adm_gpu_launch("top-k, selecting", (const void *)topk_select, grid_of(shape, split, 2 * bytes + least_bytes), args,
                          stream, err);
}
