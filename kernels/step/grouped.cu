/* grouped.cu: a whole decode step of one layer in one launch, by products of bits: where query heads share their KV heads, and
 * where there are some 32 of them.
 *
 *   cluster    serves a KV head of a sequence with up to 8 of its query heads, or with all where they share a selection; a
 *              block has a stretch of the tokens
 *   scan       codes -> rings in shared memory, a warp each, filled before the wait -> distances by products of bits -> a
 *              byte a token: its place in a window of 64 bins, or 120, which a sample found (grouped.cuh, grouped_scan.cuh)
 *   exchange   counts of the 64 places go to all blocks: that gives the cut
 *   winners    in no order to the block that attends to them, and to bitmaps (grouped_select.cuh); its sums to who merges
 *
 * History (us on an H200; 32 query, 8 KV heads, budget 256, 32K / 128K; fused: 15.8 / 37.1; more in kernels/LOG.md):
 *   1  every distance counted, two exchanges, a block's ring        17.3 / 42.8
 *   4  a bound from a sample, no branch to count, a ring a warp     13.0 / 24.6
 *   5  a byte a token, winners in no order, half the code           11.4 / 22.5
 *   6  lanes' numbers read anew, so no spills; rows asked for early  11.5 / 20.8
 *   7  clusters of any size, lists where rows are long               11.5 / 20.2, and 64/8, 128K: 31.7 -> 24.2
 *   9  fewer instructions a tile, codes by lanes' copies             10.9 / 19.2, and 32/32, 128K: 47.5 -> 42 */
#include <cstring>

#include "kernels/step/choice.h"
#include "kernels/step/grouped.h"
#include "kernels/encode/encode.cuh"
#include "kernels/step/grouped_attend.cuh"
#include "kernels/step/grouped_plan.cuh"
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
    if (threadIdx.x == 0) grouped_prepare<D, N>(me, plan, m.small);
    grouped_fetch_first<D>(me, plan, planes, m.ring, true);
    if (METRIC == ADM_METRIC_ASYM4 && me.warp == 1 && adm_lane() < D / 8) /* thresholds and scales; they are read later */
        adm_prefetch(grouped_channels<D, METRIC>(p, me) + 32 * adm_lane());
    const uint32_t at = grouped_sampled(me);
    if (at != UINT32_MAX) adm_fetch_codes<D>(grouped_planes<D>(s, p, me, at), sample);
    __syncwarp();
    adm_cluster_arrive_relaxed(); /* the barriers are there to be pushed at */
#pragma unroll 1
    for (uint32_t i = threadIdx.x; i < grouped_kind<N>::rows * grouped_kind<N>::stride; i += GROUPED_THREADS)
        m.histogram[i] = 0;
    if (N <= 0 && threadIdx.x < D) ((uint32_t *)m.merge)[threadIdx.x] = 0; /* for the sum of the queries */
    if (N <= 0 && threadIdx.x == 0) m.small->base[0] = 0;
    if (threadIdx.x < GROUPED_HEADS) m.small->n_winners[threadIdx.x] = m.small->n_ties[threadIdx.x] = 0;
    if (threadIdx.x == 0) m.small->missed = m.small->parted = 0;
    return at != UINT32_MAX;
}

/* The block's queries, once they may be read, to columns; all blocks of the cluster have come that far. */
template <typename T, int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_read_queries(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                            const grouped_block &me, const grouped_memory &m,
                                                            grouped_query<D, N, METRIC> *columns) {
    if (N <= 0) {
        uint32_t *sum = (uint32_t *)m.merge;
        __syncthreads(); /* it is zeros */
        grouped_add_queries<T, D, METRIC>(s, p, me, grouped_channels<D, METRIC>(p, me), sum, &m.small->base[0]);
        __syncthreads();
        grouped_sum_planes<D, N, METRIC>(me, sum, m.small->planes[0][0]);
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
        const uint32_t heads = N <= 0 ? min(me.heads - head, (uint32_t)GROUPED_WARPS) : me.heads;
        if (me.head < heads) {
            float q[8];
            step_softmax sum;
            if (head == 0) adm_barrier_wait(&m.small->winners, 0);
            else query = grouped_load_query<T, D>(s, p, me, head + me.head);
            grouped_stamp(stamps, 7);
            grouped_widen_query<T>(s, query, q);
            grouped_attend<T, D>(s, p, me, m.winners + (N <= 0 ? 0 : me.head * plan.share), grouped_share(me, plan), q,
                                 adm_team{me.part, plan.warps}, &sum);
            grouped_put_sum<D>(me, sum, partial, m.small->weight);
        }
        grouped_stamp(stamps, 8);
        __syncthreads();
        grouped_send_sums<D>(me, plan, m, partial, head, heads);
        head += GROUPED_WARPS;
        if (N <= 0 && head < me.heads) __syncthreads(); /* nobody reads what is there now any more */
    } while (N <= 0 && head < me.heads);
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
    const bool settled = adm_settled((me.first_tile + me.n_tiles + 1) * 32, me.length);
    if (!settled) grouped_fetch_first<D>(me, plan, planes, m.ring, false);
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
    if (!settled) adm_copy_wait<0>(); /* the last pairs were asked for out of turn */
    if (N <= 0 || plan.list_entries == 0) grouped_scan<D, N, METRIC, false, true>(me, plan, planes, m, &columns);
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

typedef void grouped_kernel(const adm_gpu_shape, const adm_gpu_buffers, const grouped_plan);

/* Which of the instances: a block with one row of many heads, with up to 4 rows, with up to 8, with one head. */
static int instance_of(const grouped_plan *plan, const adm_gpu_shape *shape) {
    if (!is_joint(plan, shape)) return plan->heads > 4 ? 2 : 1;
    return plan->heads == 1 ? 3 : 0;
}

/* stamps: NULL, or where the instrumented instance writes. */
static adm_status launch_plan(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, grouped_plan *plan, uint64_t *stamps,
                              adm_gpu_stream stream, adm_error *err) {
#define SETS(T, D, METRIC, STAMPED)                                                     \
    {                                                                                   \
        step_grouped<T, D, 0, METRIC, STAMPED>, step_grouped<T, D, 1, METRIC, STAMPED>, \
            step_grouped<T, D, 2, METRIC, STAMPED>, step_grouped < T, D,                \
            METRIC == ADM_METRIC_L1 &&D<256 ? -2 : 0, METRIC, STAMPED>                  \
    }
#define TYPES(D, METRIC, STAMPED) {SETS(__half, D, METRIC, STAMPED), SETS(__nv_bfloat16, D, METRIC, STAMPED)}
#define KERNELS(METRIC, STAMPED) {TYPES(64, METRIC, STAMPED), TYPES(128, METRIC, STAMPED), TYPES(256, METRIC, STAMPED)}
    static grouped_kernel *const l1[3][2][4] = KERNELS(ADM_METRIC_L1, false),
                                 *const stamped[3][2][4] = KERNELS(ADM_METRIC_L1, true),
                                 *const asym4[3][2][4] = KERNELS(ADM_METRIC_ASYM4, false);
    grouped_kernel *const(*kernels)[2][4] = stamps != NULL ? stamped : shape->metric == ADM_METRIC_ASYM4 ? asym4 : l1;
    adm_gpu_grid grid = {};
    grid.blocks = dim3(plan->split, shape->heads.n_kv_heads * plan->slices, shape->batch);
    grid.threads = GROUPED_THREADS;
    grid.cluster = plan->split;
    grid.shared_bytes = plan->shared_bytes;
    grid.dependent = true;
    plan->stamps = stamps;
    const int dim = adm_dim_index(shape->heads.head_dim), type = adm_dtype_index(shape->dtype);
    void *args[] = {(void *)shape, (void *)buffers, plan};
    return adm_gpu_launch("grouped step", (const void *)kernels[dim][type][instance_of(plan, shape)], grid, args, stream, err);
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
