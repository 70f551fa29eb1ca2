/* fused.cu: a whole decode step of one layer in one launch: a cluster of blocks per KV head of a sequence.
 *
 *   block     q and the new key are transformed; tiles of codes from all over the row -> the bound (select.cuh)
 *   warp      loads of 4 KiB of codes, the next one on its way -> distances; candidates are listed and counted
 *   cluster   read one another's histograms: the cut; push each winner to the block that will attend to it
 *   cluster   attention: block r takes the r-th share of each row's winners; block 0 merges and writes
 *
 * Versions, us at budget 256, cold, 32 KV heads 32K / 128K; 8 KV heads 32K / 128K (more: kernels/LOG.md):
 *   1  codes fetched after the wait, winners through global memory       H200 26.5 / 68.5; 30.4 / 72.9
 *   2  the cut in parallel, winners in shared memory, an early ring      H200 26.6 / 73.0; 23.1 / 60.8
 *   3  loads into registers in place of the ring, no distance twice      H200 27.6 / 66.0; 23.4 / 49.1
 *   4  a bound from a sample, lists of candidates                        H200 21.4 / 55.2; 17.3 / 38.3
 *   5  clusters spread by load                H200 18.3 / 45.4; 16.7 / 38.7, H100 21.9 / 55.3; 17.5 / 38.9
 *   6  no fence at cluster barriers           H100 20.7 / 55.5; 15.7 / 36.9, H200 17.7 / 45.2; 15.8 / 37.0
 *   7  a fence of shared memory where the cluster meets: without it was a race    H200 17.7 / 45.0; 15.8 / 37.2 */
#include "core/base/minmax.h"
#include "kernels/step/choice.h"
#include "kernels/step/fused.h"
#include "kernels/encode/encode.cuh"
#include "kernels/step/fused.cuh"
#include "kernels/step/fused_attend.cuh"

#if __CUDA_ARCH__ >= 900

/* The planes of the queries into shared memory; the new key, its value and its codes into the caches. */
template <typename T, int D>
static __device__ __forceinline__ void encode_rows(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                                   const step_plan &plan, adm_query_planes<D / 32> *query) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const bool appends = me.rank == plan.split - 1 && blockIdx.y % plan.slices == 0 && me.length > 0;
    for (uint32_t row = warp; row < me.heads + (appends ? 1 : 0); row += STEP_WARPS) {
        const bool newest = row == me.heads;
        const T *x = newest ? (const T *)p.k_new + kv_row * D
                            : (const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + row) * D;
        float v[D / 32];
        uint32_t high[D / 32], low[D / 32];
        adm_warp_load_row<T, D>(x, v);
        adm_warp_hadamard<D>(v);
        adm_warp_planes<D>(v, s.threshold, high, low);
        if (newest) {
            const size_t at = adm_kv_offset(s, p.page_table, me.b, me.kv_head, me.length - 1);
            adm_warp_copy_row<D>(x, (uint16_t *)p.k + at);
            adm_warp_copy_row<D>((const T *)p.v_new + kv_row * D, (uint16_t *)p.v + at);
            adm_warp_store_planes<D>(p.planes, kv_row, s.capacity, me.length - 1, high, low);
        } else if (lane == 0) {
#pragma unroll
            for (int w = 0; w < D / 32; w++) adm_query_word<D / 32>(&query[row], w, high[w], low[w]);
        }
    }
}

#endif /* __CUDA_ARCH__ >= 900 */

/* q (batch, n_q, d), k_new and v_new (batch, n_kv, d), K, V, planes -> out (batch, n_q, d), index (batch, S, budget); the new
 * token in K, V and planes. Grid (split, KV heads * slices, sequences), clusters along x.
 *
 * A cluster serves one KV head of one sequence with some of its query heads; each block has a chunk of the tokens, each warp a
 * range of that. Nothing is kept of a distance that cannot win, so beyond q, the new rows and the result only codes and the
 * selected rows of K and V move. A row is what one selection is made for: a query head, or the group where the group shares
 * one.
 *
 * The newest token is forced in, and its rows come from k_new and v_new, so nobody needs what this very step appends. All other
 * tokens but the one before it may be read while the kernel before this one still runs: the sample and the first loads. */
template <typename T, int D>
static __global__ void __launch_bounds__(STEP_THREADS, 2)
    step_fused(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p,
               const __grid_constant__ step_plan plan) {
#if __CUDA_ARCH__ >= 900
    const int W = D / 32;
    extern __shared__ __align__(128) unsigned char shared[];
    __shared__ uint2 counts[MAX_HEADS * STEP_WARPS];
    __shared__ adm_row_cut cuts[MAX_HEADS];
    __shared__ uint32_t bounds[MAX_HEADS];
    __shared__ uint64_t winners_here, results_here; /* count what others push into this block's memory */
    adm_query_planes<W> *query = (adm_query_planes<W> *)(shared + plan.query_at);
    uint32_t *list = (uint32_t *)(shared + plan.list_at), *histogram = (uint32_t *)(shared + plan.histogram_at);
    uint2 *sums = (uint2 *)(shared + plan.sums_at);
    uint32_t *sampled_bins = (uint32_t *)sums; /* before there are sums */
    step_found found = {histogram, bounds, (uint32_t *)(shared + plan.candidates_at), 0};
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    const step_block me = block_of<W>(s, p, plan);
    const step_range range = range_of<W>(me);
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const uint32_t *row_planes = p.planes + kv_row * (s.capacity / 32) * (64 * W);
    const uint32_t *planes = row_planes + (size_t)me.start / 32 * (64 * W);
    const bool sampled = adm_worth_a_bound(me.eligible);
    step_codes<W> sample, codes;
    if (sampled) load_sample<W>(me, row_planes, &sample);
    auto load_first = [&] {
        if (range.from < range.to) load_codes<W>(planes, (me.end - me.start + 31) / 32, range.from, &codes);
    };
    const bool early = adm_settled(me.start + (range.from + 1) * step_load<W>::tokens, me.length);
    if (early) load_first();
    for (uint32_t bin = threadIdx.x; bin < me.rows * plan.n_bins; bin += STEP_THREADS) histogram[bin] = sampled_bins[bin] = 0;
    if (threadIdx.x < MAX_HEADS) bounds[threadIdx.x] = plan.n_bins - 1;
    if (threadIdx.x == 0) {
        adm_barrier_init(&winners_here);
        adm_barrier_init(&results_here);
        adm_barrier_fence();
    }
    adm_wait_for_predecessors();
    adm_start_dependents();
    if (!early) load_first();
    encode_rows<T, D>(s, p, me, plan, query);
    __syncthreads();
    if (sampled) find_bounds<W>(me, plan, sample, query, sampled_bins, bounds);
    for (;;) {
        scan_range<W>(me, plan, planes, range, codes, query, &found);
        count_candidates<W>(me, plan, planes, range, query, found);
        adm_cluster_meet();
        find_cuts(me, plan, found, sums, cuts);
        bool again = false;
        for (uint32_t row = 0; row < me.rows; row++) again |= cuts[row].boundary == UINT32_MAX;
        if (!again) break;
        adm_cluster_wait(); /* everybody has read the histograms */
        for (uint32_t bin = threadIdx.x; bin < me.rows * plan.n_bins; bin += STEP_THREADS) histogram[bin] = 0;
        if (threadIdx.x < MAX_HEADS) bounds[threadIdx.x] = plan.n_bins - 1;
        load_first();
        __syncthreads();
    }

    for (uint32_t row = 0; row < me.rows; row++) {
        uint2 n = make_uint2(0, 0);
        const adm_row_cut cut = cuts[row];
        visit_range<W>(me, plan, planes, range, row, query, found, [&](bool there, uint32_t, uint32_t key) {
            const uint2 winners = adm_winners(there, key, cut);
            n.x += __popc(winners.x);
            n.y += __popc(winners.y);
        });
        if (lane == 0) counts[row * STEP_WARPS + warp] = n;
    }
    __syncthreads();
    const uint32_t n = min(s.rule.budget, me.length), share = (n + plan.split - 1) / plan.split;
    const uint32_t range_start = me.start + range.from * step_load<W>::tokens;
    for (uint32_t row = 0; row < me.rows; row++) {
        uint32_t *index = p.index + (size_t)(me.first_row + row) * s.rule.budget, *lists = list + row * plan.listed;
        const adm_row_cut cut = cuts[row];
        const uint2 earlier = lane < warp ? counts[row * STEP_WARPS + lane] : make_uint2(0, 0);
        uint2 at = make_uint2(cut.rank + __reduce_add_sync(ADM_FULL_WARP, earlier.x),
                              cut.ties + __reduce_add_sync(ADM_FULL_WARP, earlier.y));
        visit_range<W>(me, plan, planes, range, row, query, found, [&](bool there, uint32_t token, uint32_t key) {
            adm_put_winners(adm_winners(there, key, cut), cut, &at, [&](uint32_t position) {
                index[position] = range_start + token;
                if (plan.listed > 0) adm_push(&lists[position % share], range_start + token, position / share, &winners_here);
            });
        });
    }
    if (me.rank == 0 && threadIdx.x < me.rows) p.n_selected[me.first_row + threadIdx.x] = n;
    if (plan.listed > 0) {
        const uint32_t mine = n - min(me.rank * share, n);
        if (threadIdx.x == 0) adm_barrier_expect(&winners_here, me.rows * min(mine, share) * (uint32_t)sizeof(uint32_t));
        adm_barrier_wait_pushed(&winners_here, 0);
    } else { /* through the index */
        adm_cluster_wait();
        adm_cluster_arrive();
        adm_cluster_wait();
        adm_cluster_arrive_relaxed();
    }
    attention<T, D>(s, p, me, plan, list, (float *)shared, &results_here);
    adm_cluster_wait(); /* nobody leaves whose histograms are still read */
#endif
}

/* ---- launcher ---- */

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }

/* The longest range, in tokens, of `n_tokens` in whole loads of `load` tokens. */
static uint32_t range_tokens(const step_plan *plan, uint32_t load, uint32_t n_tokens) {
    const uint32_t ranges = plan->split * STEP_WARPS, loads = (n_tokens + load - 1) / load;
    return (loads + ranges - 1) / ranges * load;
}

/* Candidates that a warp's list holds, of a row that fills the capacity, or of one too short for a bound. What does not fit is
 * computed again, ten times as slowly. */
static uint32_t list_capacity_of(const step_plan *plan, const adm_gpu_shape *shape) {
    const uint32_t load = LOAD_BYTES * 4 / shape->heads.head_dim, n = STEP_WARPS * load /* sampled */;
    const uint32_t tokens = range_tokens(plan, load, shape->capacity), usual = LIST_CAPACITY / plan->rows;
    const uint32_t whole = range_tokens(plan, load, adm_min(ADM_SHORT_ROW, shape->capacity));
    const float within = (float)adm_wanted_of((float)n * (float)shape->rule.budget / (float)shape->capacity) / (float)n;
    return round_up(adm_list_capacity(within, tokens, usual > whole ? usual : whole), 32);
}

/* Fills in sizes and offsets for plan->split, of at most so many bytes if it can; what does not fit goes through global memory,
 * or is computed again. */
static void lay_out(step_plan *plan, const adm_gpu_shape *shape, uint32_t max_bytes) {
    const uint32_t d = shape->heads.head_dim, split = plan->split;
    const uint32_t partials = (STEP_WARPS + split * plan->heads) * (d + 2) * (uint32_t)sizeof(float);
    const uint32_t histogram = round_up(plan->rows * plan->n_bins * (uint32_t)sizeof(uint32_t), 128);
    plan->query_at = round_up(partials, 128);
    plan->histogram_at = plan->query_at + round_up(plan->heads * d / 32 * 12, 128);
    plan->sums_at = plan->histogram_at + histogram;
    plan->list_at = plan->sums_at + 2 * histogram;
    plan->listed = (shape->rule.budget + split - 1) / split;
    uint32_t list = round_up(plan->rows * plan->listed * (uint32_t)sizeof(uint32_t), 128);
    if (list > 16 * 1024) plan->listed = list = 0;
    plan->candidates_at = plan->list_at + list;
    const uint32_t lists = plan->rows * STEP_WARPS * (uint32_t)sizeof(uint32_t);
    plan->list_capacity = list_capacity_of(plan, shape);
    if (plan->candidates_at + lists * plan->list_capacity > max_bytes && plan->candidates_at < max_bytes)
        plan->list_capacity = (max_bytes - plan->candidates_at) / lists;
    plan->shared_bytes = plan->candidates_at + lists * plan->list_capacity;
}

/* Heads per block and blocks per cluster: enough blocks to fill nine tenths of the SMs, two per SM, but no larger clusters than
 * USUAL_SPLIT, whose blocks wait too long for one another. A group that shares its selection stays in one block. */
static void cut_up(step_plan *plan, const adm_gpu_shape *shape, int n_sms) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads, wanted = (uint32_t)n_sms * 9 / 5;
    const bool grouped = shape->selection == ADM_SELECT_GROUP;
    uint32_t heads = 1, split = plan->split > 0 ? plan->split : 1;
    while (heads < group && heads < MAX_HEADS) heads *= 2;
    for (;;) {
        plan->heads = heads;
        plan->slices = (group + heads - 1) / heads;
        plan->rows = grouped ? 1 : heads;
        const uint32_t n_clusters = shape->batch * shape->heads.n_kv_heads * plan->slices;
        if (plan->split == 0)
            for (split = 1; split < USUAL_SPLIT && split * n_clusters < wanted;) split *= 2;
        if (split * n_clusters >= wanted || heads == 1 || grouped) break;
        heads /= 2;
    }
    plan->split = split;
}

typedef void step_kernel(const adm_gpu_shape, const adm_gpu_buffers, const step_plan);

extern "C" adm_status adm_gpu_step_fused_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                               adm_gpu_stream stream, adm_error *err) {
    static step_kernel *const kernels[3][2] = {{step_fused<__half, 64>, step_fused<__nv_bfloat16, 64>},
                                               {step_fused<__half, 128>, step_fused<__nv_bfloat16, 128>},
                                               {step_fused<__half, 256>, step_fused<__nv_bfloat16, 256>}};
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (shape->metric != ADM_METRIC_L1) return adm_fail(err, ADM_EUNSUPPORTED, "the fused step compares codes by l1 alone");
    if (limits.compute_major < 9)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the fused step needs clusters of blocks, compute capability 9.0; the "
                        "device has %d.x: use the six stages",
                        limits.compute_major);
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    const bool grouped = shape->selection == ADM_SELECT_GROUP;
    if (grouped && group > MAX_HEADS)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the fused step selects for groups of at most %d query heads, not %u: use "
                        "the six stages",
                        MAX_HEADS, group);
    if (split > MAX_SPLIT || (split & (split - 1)) != 0)
        return adm_fail(err, ADM_EINPUT, "the fused step with %u blocks per cluster: they are 1, 2, 4 or 8", split);
    const uint32_t limit = (uint32_t)limits.block_shared_bytes - 1024; /* of which 1 KiB is the static memory's */
    step_plan plan = {};
    plan.split = split;
    plan.n_bins = 3 * shape->heads.head_dim * (grouped ? group : 1) + 1;
    cut_up(&plan, shape, limits.n_sms);
    lay_out(&plan, shape, limit);
    adm_gpu_grid grid = {};
    grid.blocks = dim3(plan.split, shape->heads.n_kv_heads * plan.slices, shape->batch);
    grid.threads = STEP_THREADS;
    grid.cluster = plan.split;
    grid.shared_bytes = plan.shared_bytes;
    grid.dependent = true;
    if (grid.shared_bytes > limit)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "the fused step needs %zu bytes of shared memory per block for distances up to "
                        "%u, and this device has %d: use the six stages",
                        grid.shared_bytes, plan.n_bins - 1, limits.block_shared_bytes);
    const void *kernel = (const void *)kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)];
    void *args[] = {(void *)shape, (void *)buffers, &plan};
    return adm_gpu_launch("fused step", kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_step_fused(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                         adm_error *err) {
    const adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    const char *reason = adm_step_why_not_fused(shape);
    if (reason != NULL) return adm_fail(err, ADM_EUNSUPPORTED, "the fused step is not the one for this shape: %s", reason);
    return adm_gpu_step_fused_tuned(shape, buffers, 0, stream, err);
}
