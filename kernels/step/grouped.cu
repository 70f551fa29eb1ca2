/* grouped.cu: a whole decode step of one layer in one launch, where query heads share their KV heads.
 *
 *   cluster    serves a KV head of a sequence with up to 8 of its query heads, or with all where they share a selection; a
 *              block has a stretch of the tokens
 *   scan       codes -> rings in shared memory, a warp each, filled before the wait -> distances by products of bits -> a
 *              byte a token: its place in a window of 64 bins, which a sample found (grouped.cuh, grouped_scan.cuh)
 *   exchange   counts of the 64 places go to all blocks: that gives the cut
 *   winners    in no order to the block that attends to them, and to bitmaps (grouped_select.cuh); its sums to who merges
 *
 * History (us on an H200; 32 query, 8 KV heads, budget 256, 32K / 128K; fused: 15.8 / 37.1; more in kernels/LOG.md):
 *   1  every distance counted, two exchanges, a block's ring        17.3 / 42.8
 *   4  a bound from a sample, no branch to count, a ring a warp     13.0 / 24.6
 *   5  a byte a token, winners in no order, half the code           11.4 / 22.5
 *   6  lanes' numbers read anew, so no spills; rows asked for early  11.5 / 20.8
 *   7  clusters of any size, lists where rows are long               11.5 / 20.2, and 64/8, 128K: 31.7 -> 24.2 */
#include <cstring>

#include "core/base/minmax.h"
#include "kernels/step/choice.h"
#include "kernels/step/grouped.h"
#include "kernels/encode/encode.cuh"
#include "kernels/step/grouped_attend.cuh"
#include "kernels/step/grouped_select.cuh"
#include "kernels/step/phases.h"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* ---- the query ---- */

/* With asym4 the KV head's rows of `channels`; else NULL. */
template <int D, int METRIC>
static __device__ __forceinline__ const float *grouped_channels(const adm_gpu_buffers &p, const grouped_block &me) {
    return METRIC == ADM_METRIC_ASYM4 ? p.channels + me.kv_head * (ADM_GPU_CHANNEL_ROWS * D) : NULL;
}

/* The planes of a query of asym4, and the largest score that it could have; by one warp. */
template <int D>
static __device__ __forceinline__ void grouped_quantise(const float (&y)[D / 32], const float (&scale)[D / 32],
                                                        uint32_t (*planes)[8], int32_t *base) {
    int32_t q[D / 32];
    uint32_t plane[ADM_BIT_PLANES][D / 32], positive = 0;
    adm_warp_quantise<D>(y, scale, q);
    adm_warp_query_planes<D>(q, plane);
#pragma unroll
    for (int w = 0; w < D / 32; w++) {
        positive += (uint32_t)max(q[w], 0);
#pragma unroll
        for (int i = 0; i < ADM_BIT_PLANES; i++)
            if (adm_lane() == (unsigned)w) planes[i][w] = plane[i][w];
    }
    positive = __reduce_add_sync(ADM_FULL_WARP, positive);
    if (adm_lane() == 0) *base = (int32_t)(3 * positive);
}

/* The planes of the queries into shared memory, where heads select each for itself. */
template <typename T, int D, int METRIC>
static __device__ __forceinline__ void grouped_encode(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      grouped_small *small) {
    const uint32_t lane = adm_lane();
    if (me.warp >= me.heads) return;
    float scale[D / 32];
    if (METRIC == ADM_METRIC_ASYM4) adm_warp_load_scales<D>(grouped_channels<D, METRIC>(p, me), scale);
    float v[D / 32];
    uint32_t high[D / 32], low[D / 32];
    int32_t base = 0;
    adm_warp_load_row<T, D>((const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + me.warp) * D, v);
    adm_warp_hadamard<D>(v);
    if (METRIC == ADM_METRIC_ASYM4) {
        grouped_quantise<D>(v, scale, small->planes[me.warp], &small->base[me.warp]);
        return;
    }
    adm_warp_planes<D>(v, s.threshold, high, low);
#pragma unroll
    for (int w = 0; w < D / 32; w++) {
        uint32_t plane[ADM_BIT_PLANES];
        base += adm_bit_planes<METRIC>(high[w], low[w], plane);
#pragma unroll
        for (int i = 0; i < ADM_BIT_PLANES; i++)
            if (lane == w) small->planes[me.warp][i][w] = plane[i];
    }
    if (lane == 0) small->base[me.warp] = base;
}

/* The new key, its value and its codes into the caches, by a warp of one of the KV head's blocks that has nothing else to do.
 * Nobody reads them in this step. */
template <typename T, int D, int METRIC>
static __device__ __forceinline__ void grouped_append(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      const grouped_plan &plan) {
    if (me.warp != GROUPED_HEADS || me.rank != plan.split - 1 || blockIdx.y % plan.slices != 0) return;
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const size_t at = adm_kv_offset(s, p.page_table, me.b, me.kv_head, me.length - 1);
    const T *x = (const T *)p.k_new + kv_row * D;
    float v[D / 32];
    uint32_t high[D / 32], low[D / 32];
    adm_warp_load_row<T, D>(x, v);
    adm_warp_copy_row<D>((const T *)p.v_new + kv_row * D, (uint16_t *)p.v + at);
    adm_warp_copy_row<D>(x, (uint16_t *)p.k + at);
    adm_warp_hadamard<D>(v);
    if (METRIC == ADM_METRIC_ASYM4) adm_warp_planes_by_channel<D>(v, grouped_channels<D, METRIC>(p, me), high, low);
    else adm_warp_planes<D>(v, s.threshold, high, low);
    adm_warp_store_planes<D>(p.planes, kv_row, s.capacity, me.length - 1, high, low);
}

/* ---- the whole ---- */

/* Barriers, each with what it is to count. By one thread. */
template <int D, int N>
static __device__ __forceinline__ void grouped_prepare(const grouped_block &me, const grouped_plan &plan,
                                                       grouped_small *small) {
    const uint32_t units = me.heads * (D / 32);
    adm_barrier_init(&small->counted);
    adm_barrier_init(&small->winners);
    adm_barrier_init(&small->results);
    adm_barrier_fence();
    adm_barrier_expect(&small->counted, plan.split * me.rows * (grouped_kind<N>::count_words * 4));
    adm_barrier_expect(&small->winners, me.rows * grouped_share(me, plan) * 4);
    adm_barrier_expect(&small->results, me.rank < units ? grouped_divide(plan, units + plan.split - 1 - me.rank) * plan.split *
                                                              (GROUPED_UNIT * 4)
                                                        : 0);
}

/* An empty sequence attends to nothing. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_empty(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                     const grouped_block &me) {
    const size_t head = (size_t)me.b * s.heads.n_q_heads + me.first_head;
    adm_wait_for_predecessors();
    adm_start_dependents();
    if (me.rank != 0) return;
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += GROUPED_THREADS) ((T *)p.out)[head * D + i] = adm_narrow<T>(0.0f);
    if (threadIdx.x < me.rows) p.n_selected[me.first_row + threadIdx.x] = 0;
}

/* The cuts of all rows, and cleared maps, for all threads of the block; the scan is done. Whether the places are no more
 * those of the windows. */
template <typename T, int D, int N, int METRIC>
static __device__ __forceinline__ bool grouped_find_cuts(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                         const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m, uint64_t *stamps) {
    grouped_push_counts<N>(me, plan, m);
    if (me.warp >= GROUPED_HEADS) {
        const uint32_t first = threadIdx.x - 32 * GROUPED_HEADS, step = GROUPED_THREADS - 32 * GROUPED_HEADS;
#pragma unroll 1
        for (uint32_t i = first; i < plan.rows * plan.map_words; i += step) m.maps[i] = 0;
#pragma unroll 1
        for (uint32_t i = first; i < plan.rows * GROUPED_TIES; i += step) m.ties[i] = UINT32_MAX;
    }
    grouped_append<T, D, METRIC>(s, p, me, plan);
    if (me.warp < me.rows) {
        adm_barrier_wait(&m.small->counted, 0);
        grouped_stamp(stamps, 4);
        grouped_find_cut<D, N, METRIC>(me, plan, m, me.warp);
    }
    __syncthreads();
    const bool missed = m.small->missed != 0;
    if (missed) grouped_search<D, N, METRIC>(s, p, plan, m.ring - plan.ring_at, m.small);
    return missed;
}

/* All winners to the blocks that attend to them. n: entries in the warp's list; again: places or lists are of no use. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_hand_out(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                        const grouped_block &me, const grouped_plan &plan,
                                                        const grouped_memory &m, bool again, uint32_t n) {
    if (again) grouped_take_again<D, N, METRIC>(s, p, plan, m.ring - plan.ring_at, m.small);
    else if (N > 0 && plan.list_entries > 0) grouped_take_listed<D, N>(s, p, me, plan, m, n);
    else grouped_take_kept<D, N>(s, p, me, plan, m);
    grouped_settle_ties<D, N, METRIC>(s, p, me, plan, m);
}

/* What is done before the kernel before this has ended: barriers, and the first codes. sample: of the row's. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ bool grouped_begin(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                     const grouped_plan &plan, const uint32_t *planes, const grouped_memory &m,
                                                     adm_bit_codes<D> *sample) {
    if (adm_lane() == 0) {
        if (me.warp == 0) grouped_prepare<D, N>(me, plan, m.small);
#pragma unroll 1
        for (uint32_t i = 0; i < plan.slots; i++) adm_barrier_init(&m.small->full[me.warp][i]);
        adm_barrier_fence();
        grouped_fetch_first<D>(me, plan, planes, m.ring, m.small, true);
    }
    if (METRIC == ADM_METRIC_ASYM4 && me.warp == 1 && adm_lane() < D / 8) /* thresholds and scales; they are read later */
        adm_prefetch(grouped_channels<D, METRIC>(p, me) + 32 * adm_lane());
    const uint32_t at = grouped_sampled(me);
    if (at != UINT32_MAX) adm_fetch_codes<D>(grouped_planes<D>(s, p, me, at), sample);
    __syncwarp();
    adm_cluster_arrive_relaxed(); /* the barriers are there to be pushed at */
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < grouped_kind<N>::rows * grouped_kind<N>::stride; i += GROUPED_THREADS)
        m.histogram[i] = 0;
    if (N == 0 && threadIdx.x < D) ((uint32_t *)m.merge)[threadIdx.x] = 0; /* for the sum of the queries */
    if (N == 0 && threadIdx.x == 0) m.small->base[0] = 0;
    if (threadIdx.x < GROUPED_HEADS) m.small->n_winners[threadIdx.x] = m.small->n_ties[threadIdx.x] = 0;
    if (threadIdx.x == 0) m.small->missed = m.small->parted = 0;
    return at != UINT32_MAX;
}

/* The block's queries, once they may be read, to columns; all blocks of the cluster have come that far. */
template <typename T, int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_read_queries(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                            const grouped_block &me, const grouped_memory &m,
                                                            grouped_query<D, N, METRIC> *columns) {
    if (N == 0) {
        uint32_t *sum = (uint32_t *)m.merge;
        __syncthreads(); /* it is zeros */
        grouped_add_queries<T, D, METRIC>(s, p, me, grouped_channels<D, METRIC>(p, me), sum, &m.small->base[0]);
        __syncthreads();
        grouped_sum_planes<D, METRIC>(me, sum, m.small->planes[0][0]);
    } else {
        grouped_encode<T, D, METRIC>(s, p, me, m.small);
    }
    adm_cluster_wait();
    __syncthreads();
    grouped_columns<D, N, METRIC>(me, m.small, columns);
}

/* Attends to the winners that the block was handed, with GROUPED_WARPS heads at a time at most. query: of the warp's first. */
template <typename T, int D, int N>
static __device__ __forceinline__ void grouped_attend_all(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                          const grouped_block &me, const grouped_plan &plan,
                                                          const grouped_memory &m, uint4 query, uint64_t *stamps) {
    float *partial = (float *)m.ring; /* which has been read */
    uint32_t head = 0;
    do {
        const uint32_t heads = N == 0 ? min(me.heads - head, (uint32_t)GROUPED_WARPS) : me.heads;
        if (me.head < heads) {
            float q[8];
            step_softmax sum;
            if (head == 0) adm_barrier_wait(&m.small->winners, 0);
            else query = grouped_load_query<T, D>(s, p, me, head + me.head);
            grouped_stamp(stamps, 7);
            grouped_widen_query<T>(s, query, q);
            grouped_attend<T, D>(s, p, me, m.winners + (N == 0 ? 0 : me.head * plan.share), grouped_share(me, plan), q,
                                 adm_team{me.part, plan.warps}, &sum);
            grouped_put_sum<D>(me, sum, partial, m.small->weight);
        }
        grouped_stamp(stamps, 8);
        __syncthreads();
        grouped_send_sums<D>(me, plan, m, partial, head, heads);
        head += GROUPED_WARPS;
        if (N == 0 && head < me.heads) __syncthreads(); /* nobody reads what is there now any more */
    } while (N == 0 && head < me.heads);
    grouped_stamp(stamps, 9);
}

#endif /* sm_90 */

/* Grid (split, KV heads * slices, sequences), clusters along x. N: sets of four heads that select each for itself, or 0: one
 * row. STAMPED: an instrumented instance. */
template <typename T, int D, int N, int METRIC, bool STAMPED>
static __global__ void __launch_bounds__(GROUPED_THREADS, 2)
    step_grouped(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p,
                 const __grid_constant__ grouped_plan plan) {
#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ grouped_small small;
    const grouped_block me = grouped_block_of<N>(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, &small);
    const uint32_t *planes = grouped_planes<D>(s, p, me, me.first_tile);
    const uint32_t lane = adm_lane();
    if (me.length == 0) {
        grouped_empty<T, D>(s, p, me);
        return;
    }
    uint64_t *stamps = NULL;
    if (STAMPED)
        stamps = plan.stamps + (blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z)) * (ADM_GPU_MAX_PHASES + 1);
    adm_bit_codes<D> sample;
    const bool sampled = grouped_begin<D, N, METRIC>(s, p, me, plan, planes, m, &sample);
    adm_wait_for_predecessors();
    grouped_stamp(stamps, 0);
    if (plan.trigger == 0) adm_start_dependents();
    if (lane == 0 && !adm_settled((me.first_tile + me.n_tiles + 1) * 32, me.length))
        grouped_fetch_first<D>(me, plan, planes, m.ring, &small, false);
    __syncwarp();
    grouped_query<D, N, METRIC> columns;
    grouped_read_queries<T, D, N, METRIC>(s, p, me, m, &columns);
    grouped_stamp(stamps, 1);
    if (plan.trigger == 1) adm_start_dependents();
    if (sampled) grouped_find_least<D, N, METRIC>(me, sample, &columns, &small);
    __syncthreads();
    grouped_find_window<N>(me, plan, sampled, &small);
    __syncthreads();
    grouped_stamp(stamps, 2);
    uint32_t listed = 0;
    if (N == 0 || plan.list_entries == 0) grouped_scan<D, N, METRIC, false, true>(me, plan, planes, m, &columns);
    else if (plan.counted) listed = grouped_scan<D, N, METRIC, true, true>(me, plan, planes, m, &columns);
    else listed = grouped_scan<D, N, METRIC, true, false>(me, plan, planes, m, &columns);
    const bool overflowed = __syncthreads_or(listed > 32 * plan.list_entries) != 0;
    if (N > 0 && overflowed && !plan.counted) grouped_count_again<D, N, METRIC>(s, p, plan, m.ring - plan.ring_at, &small);
    grouped_stamp(stamps, 3);
    if (plan.trigger == 2) adm_start_dependents();
    const bool searched = grouped_find_cuts<T, D, N, METRIC>(s, p, me, plan, m, stamps);
    grouped_stamp(stamps, 5);
    uint4 query = make_uint4(0, 0, 0, 0);
    if (me.head < me.heads) query = grouped_load_query<T, D>(s, p, me, me.head);
    grouped_hand_out<D, N, METRIC>(s, p, me, plan, m, searched || overflowed, listed);
    grouped_stamp(stamps, 6);
    if (plan.trigger == 3) adm_start_dependents();
    grouped_attend_all<T, D, N>(s, p, me, plan, m, query, stamps);
    grouped_add_sums<T, D>(s, p, me, plan, m);
    if (GROUPED_WARPS - 1 - me.warp < me.rows) grouped_write_index(s, p, me, plan, m, GROUPED_WARPS - 1 - me.warp);
    grouped_stamp(stamps, 10);
#endif
}

/* ---- launcher ---- */

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }
static uint32_t share_of(uint32_t n, uint32_t parts) { return (n + parts - 1) / parts; }

/* How often at least n of sixteen tiles of 32 tokens hold one of the share p of a row that wins. */
static double misses(double p, uint32_t n) {
    double empty = 1, sum = 0, term = 1; /* term: of exactly i such tiles */
    for (int i = 0; i < 32; i++) empty *= 1 - p;
    for (int i = 0; i < GROUPED_WARPS; i++) term *= empty;
    for (uint32_t i = 0; i < n; i++) {
        sum += term;
        term *= (1 - empty) / (empty > 0 ? empty : 1) * (GROUPED_WARPS - i) / (i + 1);
    }
    return 1 - sum;
}

/* The least of the sixteen that is hardly ever nearer than the cut. */
static uint32_t strict_of(const adm_gpu_shape *shape) {
    const double p = (double)shape->rule.budget / shape->capacity;
    uint32_t strict = 2;
    while (strict < GROUPED_WARPS - 1 && misses(p, strict + 1) > 1e-5) strict++;
    return strict;
}

/* Distances of asym4 have a standard deviation of about 30 where d = 128, those of L1 of 10: a bound that lies far beyond the
 * cut would have a window end before it; those of many heads together spread as far. Which bounds are near enough, of rows of
 * which a few or many tokens win. */
static void choose_bounds(grouped_plan *plan, const adm_gpu_shape *shape) {
    const double p = (double)shape->rule.budget / shape->capacity;
    plan->strict = plan->wide = GROUPED_WARPS - 1;
    if (shape->metric != ADM_METRIC_ASYM4 && (plan->rows > 1 || plan->heads <= 4)) return;
    plan->strict = strict_of(shape);
    plan->wide = p < 0.06 ? 0u : p < 0.2 ? 6u : (uint32_t)GROUPED_WARPS - 1;
}

/* Whether a block has one row: all heads of a group that shares its selection, or one head. */
static bool is_joint(const grouped_plan *plan, const adm_gpu_shape *shape) {
    return shape->selection == ADM_SELECT_GROUP || plan->heads == 1;
}

/* Lists in place of all places, with room for so many entries a lane at most, and a bound that a few tokens in a hundred are
 * within; words: a lane's. False: lists may become longer. */
static bool choose_lists(grouped_plan *plan, const adm_gpu_shape *shape, uint32_t words, uint32_t list_entries) {
    plan->strict = strict_of(shape);
    const double tile = (plan->strict + 0.5) / GROUPED_WARPS; /* of the tiles of 32 tokens hold one within the bound */
    const double wanted = 2.5 * words * tile / 8 + 1;
    plan->list_entries = adm_min(list_entries, (uint32_t)wanted + 1);
    return plan->list_entries >= wanted;
}

/* Where a block has much to read of which little wins, lists that are counted at the end take less time; by asym4, and for
 * shorter rows, they take more (kernels/LOG.md). Of a lane's words 6% are listed, 23% where the bound lies 3.5 standard
 * deviations too far; there is room for three of eight. */
static bool prefers_lists(const adm_gpu_shape *shape, uint32_t n_clusters) {
    return shape->metric == ADM_METRIC_L1 && shape->capacity > 65536 && shape->rule.budget <= shape->capacity / 400 &&
           n_clusters <= 16;
}

/* What lay_out() weighs up, bytes. */
typedef struct grouped_bytes {
    uint32_t max_bytes, fixed, min_ring; /* of all; of what is always there; of what lies in the ring later */
    uint32_t slot, places;       /* a pair of tiles for each warp; all places */
    uint32_t rounds, words;      /* of the scan; a lane's words of places */
} grouped_bytes;

static uint32_t ring_bytes(const grouped_bytes *r, uint32_t slots) {
    return slots * r->slot > r->min_ring ? slots * r->slot : r->min_ring;
}

/* Entries a lane that fit beside the ring. */
static uint32_t entries_left(const grouped_bytes *r, uint32_t slots) {
    const uint32_t used = r->fixed + ring_bytes(r, slots);
    return used < r->max_bytes ? (r->max_bytes - used) / (GROUPED_THREADS * 8) : 0;
}

/* Chooses slots of the ring, lists or places; returns their bytes. `enough`: false where lists may become longer than there is
 * room for, which is right, but slow. */
static uint32_t choose_places(grouped_plan *plan, const adm_gpu_shape *shape, const grouped_bytes *r, bool *enough) {
    const uint32_t given = plan->slots, n_clusters = shape->batch * shape->heads.n_kv_heads * plan->slices;
    const uint32_t most_slots = adm_min(given > 0 ? given : (uint32_t)GROUPED_SLOTS, r->rounds > 0 ? r->rounds : 1u);
    *enough = true;
    if (!is_joint(plan, shape) && plan->list_entries == 0 && prefers_lists(shape, n_clusters)) {
        /* One pair where most SMs have two blocks of this step, and none is left for the next one's. */
        plan->slots = given > 0 ? given : n_clusters > 8 ? 1 : adm_min(most_slots, 2u);
        const uint32_t list_entries = share_of(3 * r->words, 8);
        if (list_entries <= entries_left(r, plan->slots)) {
            plan->list_entries = list_entries;
            plan->strict = strict_of(shape);
            return list_entries * GROUPED_THREADS * 8;
        }
    }
    plan->slots = most_slots;
    while (plan->slots > 1 && given == 0 && r->fixed + ring_bytes(r, plan->slots) + r->places > r->max_bytes) plan->slots--;
    if (is_joint(plan, shape) || (plan->list_entries == 0 && r->fixed + ring_bytes(r, plan->slots) + r->places <= r->max_bytes))
        return r->places;
    const uint32_t wanted = plan->list_entries;
    if (wanted == 0) plan->counted = 1;
    for (plan->slots = given > 0 ? given : adm_min(most_slots, 2u);; plan->slots--) {
        *enough = choose_lists(plan, shape, r->words, entries_left(r, plan->slots));
        if (*enough || given > 0 || plan->slots <= 1) break;
    }
    plan->list_entries = wanted > 0 ? wanted : plan->list_entries > 0 ? plan->list_entries : 1;
    return plan->list_entries * GROUPED_THREADS * 8;
}

/* Fills in sizes and offsets for plan's heads and split, with `max_bytes` at most if it can; for a plan with 0 slots as many
 * as fit, for one with 0 list entries lists where few win. False: lists may become longer than fits, which is right, but
 * slow. */
static bool lay_out(grouped_plan *plan, const adm_gpu_shape *shape, uint32_t max_bytes) {
    const bool joint = is_joint(plan, shape);
    const uint32_t d = shape->heads.head_dim, sets = plan->heads > 4 ? 2 : 1, units = plan->heads * (d / 32);
    const uint32_t tiles = 2 * share_of(share_of(shape->capacity, 64), plan->split), rounds = share_of(tiles, GROUPED_PAIRS);
    const uint32_t slot = GROUPED_PAIRS * d * 8, words = joint ? share_of(rounds, 2) : 2 * rounds * sets;
    const uint32_t counts = plan->split * plan->rows * 4 *
                            (joint ? grouped_kind<0>::count_words : grouped_kind<1>::count_words);
    plan->share = share_of(adm_min(shape->rule.budget, shape->capacity), plan->split);
    plan->map_words = tiles;
    choose_bounds(plan, shape);
    /* With 1,024 winners of 32K the requests are in the way of other reads. A page would have to be looked up first. */
    plan->ahead = shape->page_size == 0 && (shape->capacity > 65536 || shape->rule.budget <= 512);
    const uint32_t histogram = round_up((joint ? grouped_kind<0>::stride : 4 * sets * grouped_kind<1>::stride) * 4, 128);
    const uint32_t maps = round_up(2 * plan->rows * tiles * 4, 128), winners = round_up(plan->rows * plan->share * 4, 128);
    const uint32_t last = winners + round_up(share_of(units, plan->split) * plan->split * GROUPED_UNIT * 4, 128);
    const uint32_t partials = GROUPED_WARPS * d * 4;
    const uint32_t fixed = histogram + last + counts, min_ring = partials + maps + plan->rows * GROUPED_TIES * 4;
    const grouped_bytes r = {max_bytes, fixed, min_ring, slot, words * GROUPED_THREADS * 4, rounds, words};
    bool enough;
    const uint32_t places = choose_places(plan, shape, &r, &enough);
    plan->ring_at = 0;
    plan->maps_at = partials;
    plan->ties_at = partials + maps;
    plan->places_at = ring_bytes(&r, plan->slots);
    plan->counts_at = plan->places_at + places;
    plan->histogram_at = plan->counts_at + counts;
    plan->winners_at = plan->histogram_at + histogram; /* apart: a block may send winners while another still reads counts */
    plan->merge_at = plan->winners_at + winners;
    plan->shared_bytes = plan->winners_at + last;
    return enough;
}

/* Heads a block: up to four, which are one product's columns, or all of a group that shares its selection. Returns the number
 * of clusters. */
static uint32_t cut_up(grouped_plan *plan, const adm_gpu_shape *shape) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (shape->selection == ADM_SELECT_GROUP) plan->heads = group;
    else if (plan->heads == 0) plan->heads = share_of(group, share_of(group, 4));
    plan->rows = is_joint(plan, shape) ? 1 : plan->heads;
    plan->slices = share_of(group, plan->heads);
    plan->warps = GROUPED_WARPS / adm_min(plan->heads, (uint32_t)GROUPED_WARPS);
    return shape->batch * shape->heads.n_kv_heads * plan->slices;
}

/* Blocks a cluster, by what was fastest on an H200 (kernels/LOG.md), and what to take where that has no room: many where there
 * is much to read or to attend to, and so few that all clusters fit the device at once, two blocks to an SM. 14 clusters of 16
 * do, 16 of 12, 21 of 10, 64 of 4. */
typedef struct grouped_splits {
    uint32_t usual, other;
} grouped_splits;

static grouped_splits splits_of(const adm_gpu_shape *shape, uint32_t n_clusters, bool joint) {
    const bool is_long = shape->capacity > 65536;
    if (joint && n_clusters <= 64) {
        const uint32_t few = n_clusters <= 4 || shape->rule.budget >= 1024 ? 16u : 8u;
        return grouped_splits{n_clusters <= 8    ? few
                              : n_clusters <= 16 ? (is_long || shape->rule.budget >= 1024 ? 12u : 6u)
                              : n_clusters <= 32 ? (is_long ? 7u : 6u)
                                                 : 4u,
                              16};
    }
    if (n_clusters <= 8) return grouped_splits{is_long || shape->rule.budget >= 1024 ? 16u : 8u, 16};
    if (n_clusters <= 16) return grouped_splits{12, 16};
    if (n_clusters <= 32) return grouped_splits{8, 16};
    if (is_long) return grouped_splits{10, 16};
    return grouped_splits{n_clusters <= 64 ? 4u : 2u, 8};
}

/* Whether a block is to have an SM for itself, and so more codes on their way: of long rows, where clusters of 8 are few enough
 * that the next step's have room beside them; by asym4 it was no faster (kernels/LOG.md). */
static bool prefers_to_be_alone(const grouped_plan *plan, const adm_gpu_shape *shape, uint32_t n_clusters) {
    return is_joint(plan, shape) && shape->metric == ADM_METRIC_L1 && n_clusters <= 8 && shape->capacity > 65536 &&
           shape->rule.budget < 1024;
}

typedef void grouped_kernel(const adm_gpu_shape, const adm_gpu_buffers, const grouped_plan);

/* The plan of a shape, or why there is none. */
static adm_status plan_of(const adm_gpu_shape *shape, const adm_gpu_grouped_tuning *tuning, grouped_plan *out, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major != 9)
        return adm_fail(
            err, ADM_EUNSUPPORTED,
            "the grouped step needs clusters of blocks and products of bits, compute capability 9.0; the device has %d.x",
            limits.compute_major);
    if (shape->metric != ADM_METRIC_L1 && shape->metric != ADM_METRIC_ASYM4)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step compares codes by l1 and asym4");
    if (tuning->heads > GROUPED_HEADS || tuning->split > GROUPED_SPLIT || tuning->split == 1 || tuning->trigger > 3 ||
        tuning->slots > GROUPED_SLOTS)
        return adm_fail(err, ADM_EINPUT,
                        "the grouped step with %u heads a block, %u blocks a cluster, %u pairs of tiles, trigger %u",
                        tuning->heads, tuning->split, tuning->slots, tuning->trigger);
    const uint32_t two = (uint32_t)limits.sm_shared_bytes / 2 - 1024 - round_up(sizeof(grouped_small), 128);
    const uint32_t one = (uint32_t)limits.block_shared_bytes - sizeof(grouped_small) - 1024;
    grouped_plan plan = {};
    plan.heads = tuning->heads;
    const uint32_t n_clusters = cut_up(&plan, shape);
    const grouped_splits splits = splits_of(shape, n_clusters, is_joint(&plan, shape));
    const uint32_t max_bytes = prefers_to_be_alone(&plan, shape, n_clusters) ? one : two;
    if (shape->selection == ADM_SELECT_GROUP && tuning->heads > 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step takes all heads of a group that shares its selection");
    if (is_joint(&plan, shape) && tuning->list_entries > 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step keeps no lists where a block has one selection");
    plan.trigger = tuning->trigger;
    bool enough = false;
    for (int i = 0; i < 2 && !enough; i++) {
        plan.split = tuning->split > 0 ? tuning->split : i == 0 ? splits.usual : splits.other;
        plan.inverse = UINT32_MAX / plan.split + 1;
        plan.slots = tuning->slots;
        plan.list_entries = tuning->list_entries;
        plan.counted = tuning->counted;
        enough = shape->capacity / plan.split <= GROUPED_TOKENS &&
                 (lay_out(&plan, shape, max_bytes) || tuning->list_entries > 0);
    }
    if (shape->capacity / plan.split > GROUPED_TOKENS)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step takes at most %d tokens a block, not %u", GROUPED_TOKENS,
                        shape->capacity / plan.split);
    if (!enough)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step has no capacity for the lists of a budget of %u of %u tokens",
                        shape->rule.budget, shape->capacity);
    if (plan.shared_bytes > one)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the grouped step needs %u bytes of shared memory a block, and this device has %d", plan.shared_bytes,
                        limits.block_shared_bytes);
    *out = plan;
    return ADM_OK;
}

/* stamps: NULL, or where the instrumented instance writes. */
static adm_status launch_plan(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, grouped_plan *plan, uint64_t *stamps,
                              adm_gpu_stream stream, adm_error *err) {
#define SETS(T, D, METRIC, STAMPED) \
    { step_grouped<T, D, 0, METRIC, STAMPED>, step_grouped<T, D, 1, METRIC, STAMPED>, step_grouped<T, D, 2, METRIC, STAMPED> }
#define TYPES(D, METRIC, STAMPED) {SETS(__half, D, METRIC, STAMPED), SETS(__nv_bfloat16, D, METRIC, STAMPED)}
#define KERNELS(METRIC, STAMPED) {TYPES(64, METRIC, STAMPED), TYPES(128, METRIC, STAMPED), TYPES(256, METRIC, STAMPED)}
    static grouped_kernel *const l1[3][2][3] = KERNELS(ADM_METRIC_L1, false),
                                 *const stamped[3][2][3] = KERNELS(ADM_METRIC_L1, true),
                                 *const asym4[3][2][3] = KERNELS(ADM_METRIC_ASYM4, false);
    grouped_kernel *const(*kernels)[2][3] = stamps != NULL ? stamped : shape->metric == ADM_METRIC_ASYM4 ? asym4 : l1;
    adm_gpu_grid grid = {};
    grid.blocks = dim3(plan->split, shape->heads.n_kv_heads * plan->slices, shape->batch);
    grid.threads = GROUPED_THREADS;
    grid.cluster = plan->split;
    grid.shared_bytes = plan->shared_bytes;
    grid.dependent = true;
    plan->stamps = stamps;
    const int dim = adm_dim_index(shape->heads.head_dim), type = adm_dtype_index(shape->dtype);
    void *args[] = {(void *)shape, (void *)buffers, plan};
    return adm_gpu_launch("grouped step",
                          (const void *)kernels[dim][type][is_joint(plan, shape) ? 0
                                                           : plan->heads > 4     ? 2
                                                                                 : 1],
                          grid, args, stream, err);
}

extern "C" adm_status adm_gpu_step_grouped_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                 const adm_gpu_grouped_tuning *tuning, adm_gpu_stream stream, adm_error *err) {
    grouped_plan plan;
    const adm_status status = plan_of(shape, tuning, &plan, err);
    return status == ADM_OK ? launch_plan(shape, buffers, &plan, NULL, stream, err) : status;
}

/* The plan of a shape for which the grouped step is the one to use, or why it is not. */
static adm_status usual_plan(const adm_gpu_shape *shape, grouped_plan *plan, adm_error *err) {
    adm_gpu_grouped_tuning usual = {};
    usual.trigger = 2;
    const adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    const char *reason = adm_step_why_not_grouped(shape);
    if (reason != NULL) return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step is not the one for this shape: %s", reason);
    return plan_of(shape, &usual, plan, err);
}

extern "C" adm_status adm_gpu_step_grouped(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    grouped_plan plan;
    const adm_status status = usual_plan(shape, &plan, err);
    return status == ADM_OK ? launch_plan(shape, buffers, &plan, NULL, stream, err) : status;
}

/* ---- phases ---- */

extern "C" adm_status adm_gpu_step_phases(const char *variant, const adm_gpu_shape *shape, adm_gpu_phases *out,
                                          adm_error *err) {
    static const char *const names[] = {"query",   "window", "scan",   "counts", "cut",
                                        "winners", "list",   "gather", "sums",   "merge"};
    grouped_plan plan;
    *out = adm_gpu_phases{};
    if (strcmp(variant, "grouped") != 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "the step '%s' has no instrumented instance; 'grouped' has", variant);
    if (shape->metric != ADM_METRIC_L1)
        return adm_fail(err, ADM_EUNSUPPORTED, "the step '%s' has an instrumented instance for l1 alone", variant);
    const adm_status status = usual_plan(shape, &plan, err);
    if (status != ADM_OK) return status;
    out->n_phases = sizeof names / sizeof *names;
    for (uint32_t i = 0; i < out->n_phases; i++) out->name[i] = names[i];
    out->n_blocks = plan.split * shape->heads.n_kv_heads * plan.slices * shape->batch;
    out->stamp_bytes = (size_t)out->n_blocks * (ADM_GPU_MAX_PHASES + 1) * sizeof(uint64_t);
    return ADM_OK;
}

extern "C" adm_status adm_gpu_step_phases_launch(const char *variant, const adm_gpu_shape *shape,
                                                 const adm_gpu_buffers *buffers, uint64_t *d_stamps, adm_gpu_stream stream,
                                                 adm_error *err) {
    adm_gpu_phases phases;
    grouped_plan plan;
    adm_status status = adm_gpu_step_phases(variant, shape, &phases, err);
    if (status == ADM_OK) status = usual_plan(shape, &plan, err);
    return status == ADM_OK ? launch_plan(shape, buffers, &plan, d_stamps, stream, err) : status;
}
