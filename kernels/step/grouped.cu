/* grouped.cu: a whole decode step of one layer in one launch, where query heads share their KV heads.
 *
 *   cluster    serves a KV head of a sequence with up to 4 of its query heads; a block has a stretch of the tokens
 *   scan       codes -> rings in shared memory, a warp each, filled before the wait -> distances by products of bits
 *              (grouped.cuh) -> candidates, those below a bound that a sample gave, in a list a lane (grouped_scan.cuh)
 *   exchange   counts of the 64 bins below the bound go to all blocks: that gives the cut
 *   winners    to the blocks that attend to them (grouped_select.cuh); sums to who merges; then the index, in order
 *
 * History (us on an H200; 32 query, 8 KV heads, budget 256, 32K / 128K; fused: 15.8 / 37.1; more in kernels/LOG.md):
 *   1  every distance counted, two exchanges, a block's ring        17.3 / 42.8
 *   2  two tiles at once, no division by what is not a constant     13.7 / 28.0
 *   3  a bound from a sample, one exchange, two operations a row    13.2 / 26.2
 *   4  no branch to count, a ring a warp                            13.0 / 23.8
 *   5  no distance kept: lists; winners not in order                NEW */
#include <cmath>
#include <cstring>

#include "core/base/minmax.h"
#include "kernels/step/grouped.h"
#include "kernels/encode/encode.cuh"
#include "kernels/step/grouped_attend.cuh"
#include "kernels/step/phases.h"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* ---- the query ---- */

/* The planes of the queries into shared memory, a warp each. Another warp, of one block a KV head, brings the new key, its value
 * and its codes to the caches, for the steps to come: in this one the newest token is in whatever its distance, and its rows are
 * read where they are new. All by the same instructions, as what is run for the first time waits for its instructions. */
template <typename T, int D>
static __device__ __forceinline__ void grouped_encode(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      const grouped_plan &plan, grouped_small *small) {
    const uint32_t warp = me.warp, lane = threadIdx.x % 32;
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const bool appends = me.rank == plan.split - 1 && blockIdx.y % plan.slices == 0, newest = warp == me.heads;
    if (warp >= me.heads + (appends ? 1 : 0)) return;
    const T *k_new = (const T *)p.k_new + kv_row * D, *v_new = (const T *)p.v_new + kv_row * D;
    const T *x = newest ? k_new : (const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + warp) * D;
    float v[D / 32];
    uint32_t high[D / 32], low[D / 32];
    uint4 key = make_uint4(0, 0, 0, 0), value = key;
    if (newest && lane < D / 8) key = ((const uint4 *)k_new)[lane], value = ((const uint4 *)v_new)[lane];
    adm_warp_load_row<T, D>(x, v);
    adm_warp_hadamard<D>(v);
    adm_warp_planes<D>(v, s.threshold, high, low);
    if (newest) {
        const size_t at = adm_kv_offset(s, p.page_table, me.b, me.kv_head, me.length - 1);
        if (lane < D / 8) ((uint4 *)((T *)p.k + at))[lane] = key, ((uint4 *)((T *)p.v + at))[lane] = value;
        adm_warp_store_planes<D>(p.planes, kv_row, s.capacity, me.length - 1, high, low);
        return;
    }
    int32_t base = 1; /* a bin is a distance and 1 */
#pragma unroll
    for (int w = 0; w < D / 32; w++) {
        uint32_t plane[ADM_BIT_PLANES];
        base += adm_bit_planes<ADM_METRIC_L1>(high[w], low[w], plane);
        if (lane == w)
            for (int i = 0; i < ADM_BIT_PLANES; i++) small->query[warp][i][w] = plane[i];
    }
    if (lane == 0) small->base[warp] = base;
}

/* ---- the whole ---- */

/* Barriers, each with what it is to count. By one thread. */
template <int D>
static __device__ __forceinline__ void grouped_prepare(const grouped_block &me, const grouped_plan &plan,
                                                       grouped_small *small) {
    const uint32_t units = me.heads * (D / 32), counts = plan.split * me.heads;
#pragma unroll
    for (int i = 0; i <= GROUPED_ROUNDS; i++) adm_barrier_init(&small->counted[i]);
    adm_barrier_init(&small->winners);
    adm_barrier_init(&small->results);
    adm_barrier_fence();
#pragma unroll
    for (int i = 0; i <= GROUPED_ROUNDS; i++) adm_barrier_expect(&small->counted[i], counts * 32 * 4);
    adm_barrier_expect(&small->winners, me.heads * grouped_share(me, plan) * 4);
    adm_barrier_expect(&small->results, me.rank < units
                                            ? (units + plan.split - 1 - me.rank >> plan.shift) * plan.split * (GROUPED_UNIT * 4)
                                            : 0);
}

/* What the block counts in starts from zero. */
static __device__ __forceinline__ void grouped_clear(const grouped_block &me, const grouped_plan &plan, const grouped_memory &m,
                                                     uint32_t bound) {
    grouped_small *small = m.small;
    const uint32_t i = threadIdx.x;
    for (uint32_t j = i; j < GROUPED_HEADS * GROUPED_SAMPLE_STRIDE / 4; j += GROUPED_THREADS)
        ((uint4 *)m.lists)[j] = make_uint4(0, 0, 0, 0);
    for (uint32_t j = i; j < me.heads * plan.map_words; j += GROUPED_THREADS) m.maps[j] = 0;
    if (i < GROUPED_HEADS * GROUPED_COUNTS) small->histogram[0][i] = 0;
    if (i < GROUPED_HEADS * GROUPED_TIES) small->tied[0][i] = 0;
    if (i < GROUPED_HEADS) {
        small->n_taken[i] = small->n_tied[i] = 0;
        small->bound[i] = i < me.heads ? bound : 0; /* columns without a query list nothing */
    }
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
    if (threadIdx.x < me.heads) p.n_selected[head + threadIdx.x] = 0;
}

#endif /* sm_90 */

/* Grid (split, KV heads * slices, sequences), clusters along x. STAMPED: an instrumented instance. */
template <typename T, int D, bool STAMPED>
static __global__ void __launch_bounds__(GROUPED_THREADS, 2)
    step_grouped(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p,
                 const __grid_constant__ grouped_plan plan) {
#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ grouped_small small;
    const grouped_block me = grouped_block_of(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, &small);
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const uint32_t *row_planes = p.planes + kv_row * (s.capacity / 32) * adm_bits<D>::tile_words;
    const uint32_t *planes = row_planes + (size_t)me.first_tile * adm_bits<D>::tile_words;
    const uint32_t lane = threadIdx.x % 32;
    uint64_t *stamps = NULL;
    if (STAMPED)
        stamps = plan.stamps + (blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z)) * (ADM_GPU_MAX_PHASES + 1);
    if (me.length == 0) {
        grouped_empty<T, D>(s, p, me);
        return;
    }
    if (lane == 0) {
        if (me.warp == 0) grouped_prepare<D>(me, plan, &small);
        for (uint32_t i = 0; i < plan.slots; i++) adm_barrier_init(&small.full[me.warp][i]);
        adm_barrier_fence();
        grouped_fetch_first<D>(me, plan, planes, m.ring, &small, true);
    }
    const grouped_sample sample = grouped_sample_of(me);
    adm_bit_codes<D> sampled;
    if (sample.n > 0)
        grouped_read_sample<D>(row_planes, me.warp, &sampled, [&](uint32_t i) { return grouped_sampled<D>(sample, i); });
    __syncwarp();
    adm_cluster_arrive_relaxed(); /* the barriers are there to be pushed at */
    grouped_clear(me, plan, m, grouped_dim<D>::absent);
    adm_wait_for_predecessors();
    grouped_stamp(stamps, 0);
    if (plan.trigger == 0) adm_start_dependents();
    if (lane == 0 && !adm_settled((me.first_tile + me.n_tiles) * 32, me.length))
        grouped_fetch_first<D>(me, plan, planes, m.ring, &small, false);
    __syncwarp();
    grouped_encode<T, D>(s, p, me, plan, &small);
    adm_cluster_wait();
    __syncthreads();
    grouped_stamp(stamps, 1);
    if (plan.trigger == 1) adm_start_dependents();
    const uint32_t n = grouped_scan<D>(me, plan, planes, m, sample, sampled, stamps);
    if (sample.n > 0 && n != UINT32_MAX)
        grouped_visit_list<D>(me, m, n, [&](uint32_t head, uint32_t token, uint32_t bin) {
            grouped_count(&small, head, bin, (int32_t)small.bound[head] - GROUPED_WINDOW, 0);
        });
    grouped_stamp(stamps, 3);
    if (plan.trigger == 2) adm_start_dependents();
    const bool listed = grouped_find_cuts<D>(s, p, me, plan, m, planes, sample, n);
    grouped_stamp(stamps, 4);
    uint4 query = make_uint4(0, 0, 0, 0);
    if (me.head < me.heads) query = grouped_load_query<T, D>(s, p, me);
    grouped_select<D>(s, p, me, plan, m, planes, n, listed);
    grouped_stamp(stamps, 5);
    if (plan.trigger == 3) adm_start_dependents();

    if (me.head < me.heads) {
        const uint32_t *tokens = m.winners + me.head * plan.share, share = grouped_share(me, plan);
        unsigned char *stage = grouped_stage(me, plan, m);
        const adm_team team = {me.part, plan.warps};
        float q[8];
        step_softmax sum;
        adm_barrier_wait_pushed(&small.winners, 0);
        grouped_stamp(stamps, 6);
        grouped_widen_query<T>(s, query, q);
        if (plan.stage < GROUPED_STAGE) grouped_attend<T, D, 2>(s, p, me, tokens, share, q, team, stage, &sum);
        else grouped_attend<T, D, 4>(s, p, me, tokens, share, q, team, stage, &sum);
        if (lane < D / 8) {
            float4 *to = (float4 *)stage + 2 * lane;
            to[0] = make_float4(sum.value[0], sum.value[1], sum.value[2], sum.value[3]);
            to[1] = make_float4(sum.value[4], sum.value[5], sum.value[6], sum.value[7]);
        }
        if (lane == 0) small.weight[me.warp] = make_float2(sum.largest, sum.sum);
    }
    grouped_stamp(stamps, 7);
    __syncthreads();
    grouped_send_results<D>(me, plan, m);
    grouped_stamp(stamps, 8);
    grouped_write_index(s, p, me, plan, m);
    grouped_merge<T, D>(s, p, me, plan, m);
    grouped_stamp(stamps, 9);
#endif
}

/* ---- launcher ---- */

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }
static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }
static uint32_t share_of(uint32_t n, uint32_t parts) { return (n + parts - 1) / parts; }

/* The entries that a lane's list may come to hold, with some to spare: by what the kernel takes for the bound. */
static uint32_t room_of(const adm_gpu_shape *shape, uint32_t values) {
    const float mean = (float)GROUPED_SAMPLE * (float)adm_min(shape->rule.budget, shape->capacity) / (float)shape->capacity;
    const float rank = mean + 4.5f * sqrtf(mean) + 2.0f; /* of the bound, which lies up to 3 standard deviations beyond */
    const float within = (rank + 3.0f * sqrtf(rank)) / GROUPED_SAMPLE + (shape->heads.head_dim == 256 ? 0.01f : 0.0f);
    const float expected = within < 1.0f ? within * (float)values : (float)values;
    const uint32_t room = (uint32_t)(expected + 6.0f * sqrtf(expected)) + 4;
    return adm_min(larger(adm_min(room, values), 8u) + GROUPED_SPARE, (size_t)GROUPED_ROOM);
}

/* Fills in sizes and offsets for plan's heads, split and slots. */
static void lay_out(grouped_plan *plan, const adm_gpu_shape *shape) {
    const uint32_t d = shape->heads.head_dim, unit = GROUPED_WARPS * d * 16, units = plan->heads * (d / 32);
    const uint32_t tiles = share_of(shape->capacity / 32, plan->split), n = share_of(tiles, 2 * GROUPED_WARPS);
    const uint32_t counts = plan->split * plan->heads * 128;
    plan->share = share_of(adm_min(shape->rule.budget, shape->capacity), plan->split);
    plan->map_words = tiles;
    const uint32_t maps = round_up(plan->heads * tiles * 4, 128), winners = round_up(plan->heads * plan->share * 4, 128);
    const uint32_t merge = round_up(share_of(units, plan->split) * plan->split * GROUPED_UNIT * 4, 128);
    const uint32_t later = larger(GROUPED_ROUNDS * counts, maps); /* in the ring */
    if (plan->room == 0) plan->room = room_of(shape, n * GROUPED_VALUES);
    const uint32_t least = GROUPED_WARPS * GROUPED_STAGE / 2;
    const uint32_t slots = adm_min(plan->slots, n);
    plan->slots = slots;
    plan->stage = slots * unit >= 2 * least ? GROUPED_STAGE : GROUPED_STAGE / 2;
    plan->lists_at = larger(larger(slots * unit, least), later);
    plan->counts_at = plan->lists_at + plan->room * GROUPED_THREADS * 4;
    plan->maps_at = plan->counts_at + counts;
    plan->winners_at = plan->maps_at + maps;
    plan->merge_at = plan->winners_at + winners;
    plan->shared_bytes = plan->merge_at + merge;
}

/* Heads a block, blocks a cluster and units in flight, by what was fastest on an H200 (kernels/LOG.md): up to four heads, which
 * are one product's columns; clusters of 16 where there are few of them, though only 7 fit the device at one block an SM, unless
 * a block's share of the codes is so large that SMs of its own count for more; smaller ones for batches. */
static void cut_up(grouped_plan *plan, const adm_gpu_shape *shape) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads, kv = shape->batch * shape->heads.n_kv_heads;
    const uint32_t k = 1024, length = shape->capacity;
    if (plan->heads == 0) plan->heads = share_of(group, share_of(group, GROUPED_HEADS));
    plan->slices = share_of(group, plan->heads);
    plan->warps = GROUPED_WARPS / plan->heads;
    const uint32_t n_clusters = kv * plan->slices;
    uint32_t split = 2, slots = 1;
    if (n_clusters <= 8) {
        const bool apart = length > 64 * k && length <= 256 * k && shape->rule.budget <= 512;
        split = apart ? 8 : 16;
        slots = length > 64 * k && (apart || length > 256 * k) ? 2 : 1;
    } else if (n_clusters <= 16 || (n_clusters <= 64 && length > 64 * k)) {
        split = length / 8 > 65504 ? 16 : 8;
    } else if (n_clusters <= 64) {
        split = 4;
    }
    if (plan->split == 0) plan->split = split;
    if (plan->slots == 0) plan->slots = slots;
    for (plan->shift = 0; 1u << plan->shift < plan->split;) plan->shift++;
}

/* Why the fused step is the one to use at this shape, by what was seen on an H200, or because nobody has looked; NULL: it is
 * not. */
static const char *why_fused(const adm_gpu_shape *shape) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (group < 2) return "query heads share no KV head";
    if (shape->capacity < (group > 7 ? 65536u : 16384u)) return "contexts this short leave it nothing to save";
    if (shape->batch > 1 && shape->batch * shape->heads.n_kv_heads < 64) return "small batches were not faster";
    return NULL;
}

typedef void grouped_kernel(const adm_gpu_shape, const adm_gpu_buffers, const grouped_plan);

/* The plan of a shape, or why there is none. */
static adm_status plan_of(const adm_gpu_shape *shape, const adm_gpu_grouped_tuning *tuning, grouped_plan *plan, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major != 9)
        return adm_fail(
            err, ADM_EUNSUPPORTED,
            "the grouped step needs clusters of blocks and products of bits, compute capability 9.0; the device has %d.x",
            limits.compute_major);
    if (shape->selection == ADM_SELECT_GROUP)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step selects for each query head, not for a group");
    *plan = grouped_plan{};
    plan->heads = tuning->heads;
    plan->split = tuning->split;
    plan->slots = tuning->slots;
    plan->room = tuning->room;
    plan->trigger = tuning->trigger;
    if (plan->heads > GROUPED_HEADS || plan->split > 1u << GROUPED_SPLIT_SHIFT || (plan->split & (plan->split - 1)) != 0 ||
        plan->split == 1 || plan->trigger > 3 || plan->slots > GROUPED_SLOTS || (plan->room != 0 && (plan->room < 8 + GROUPED_SPARE || plan->room > GROUPED_ROOM)))
        return adm_fail(err, ADM_EINPUT, "the grouped step with %u heads a block, %u blocks a cluster, %u units, lists of %u, trigger %u",
                        plan->heads, plan->split, plan->slots, plan->room, plan->trigger);
    cut_up(plan, shape);
    if (shape->capacity / plan->split > 65504)
        return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step takes at most 65504 tokens a block, not %u",
                        shape->capacity / plan->split);
    lay_out(plan, shape);
    if (plan->shared_bytes > (uint32_t)limits.block_shared_bytes - sizeof(grouped_small) - 1024)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the grouped step needs %u bytes of shared memory a block for a budget of %u of %u tokens, and this device has %d",
                        plan->shared_bytes, shape->rule.budget, shape->capacity, limits.block_shared_bytes);
    return ADM_OK;
}

static adm_status launch_plan(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, grouped_plan *plan,
                              adm_gpu_stream stream, adm_error *err) {
#define KERNELS(T, D) {step_grouped<T, D, false>, step_grouped<T, D, true>}
    static grouped_kernel *const kernels[3][2][2] = {{KERNELS(__half, 64), KERNELS(__nv_bfloat16, 64)},
                                                     {KERNELS(__half, 128), KERNELS(__nv_bfloat16, 128)},
                                                     {KERNELS(__half, 256), KERNELS(__nv_bfloat16, 256)}};
    adm_gpu_grid grid = {};
    grid.blocks = dim3(plan->split, shape->heads.n_kv_heads * plan->slices, shape->batch);
    grid.threads = GROUPED_THREADS;
    grid.cluster = plan->split;
    grid.shared_bytes = plan->shared_bytes;
    grid.dependent = true;
    const void *kernel =
        (const void *)kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)][plan->stamps != NULL];
    void *args[] = {(void *)shape, (void *)buffers, plan};
    return adm_gpu_launch("grouped step", kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_step_grouped_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                 const adm_gpu_grouped_tuning *tuning, adm_gpu_stream stream, adm_error *err) {
    grouped_plan plan;
    adm_status status = plan_of(shape, tuning, &plan, err);
    plan.stamps = tuning->d_stamps;
    return status == ADM_OK ? launch_plan(shape, buffers, &plan, stream, err) : status;
}

static const adm_gpu_grouped_tuning usual = {0, 0, 0, 0, 2, NULL};

static adm_status check_worth(const adm_gpu_shape *shape, adm_error *err) {
    const adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    const char *reason = why_fused(shape);
    if (reason != NULL) return adm_fail(err, ADM_EUNSUPPORTED, "the grouped step leaves this to the fused step: %s", reason);
    return ADM_OK;
}

extern "C" adm_status adm_gpu_step_grouped(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    const adm_status status = check_worth(shape, err);
    return status == ADM_OK ? adm_gpu_step_grouped_tuned(shape, buffers, &usual, stream, err) : status;
}

/* ---- phases ---- */

extern "C" adm_status adm_gpu_step_phases(const char *variant, const adm_gpu_shape *shape, adm_gpu_phases *out, adm_error *err) {
    static const char *const names[] = {"query", "sample", "scan", "cut", "winners", "list", "gather", "send", "merge"};
    grouped_plan plan;
    *out = adm_gpu_phases{};
    if (strcmp(variant, "grouped") != 0)
        return adm_fail(err, ADM_EUNSUPPORTED, "the step '%s' has no instrumented instance; 'grouped' has", variant);
    adm_status status = check_worth(shape, err);
    if (status == ADM_OK) status = plan_of(shape, &usual, &plan, err);
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
    adm_gpu_grouped_tuning stamped = usual;
    const adm_status status = adm_gpu_step_phases(variant, shape, &phases, err);
    stamped.d_stamps = d_stamps;
    return status == ADM_OK ? adm_gpu_step_grouped_tuned(shape, buffers, &stamped, stream, err) : status;
}
