/* fused.cu: a whole decode step of one layer in one launch.
 *
 * A cluster of blocks serves one KV head of one sequence with some of its query heads, and each block has a chunk of the
 * tokens, each warp a part of that. Nothing is kept of a distance that cannot win, so that beyond q, the new rows and the
 * result only codes and the selected rows of K and V move:
 *
 *   first      q and the new key are transformed; the new key, its value and codes join the caches
 *   block      tiles of codes from all over the row -> the bound (select.cuh)
 *   warp       strips of codes, 4 KiB, the next one loading -> distances; candidates are counted and listed
 *   cluster    read one another's histograms: the cut; hand each winner to the block that will attend to it
 *   cluster    attention: block r takes the r-th part of each row's winners, whoever found them; a warp a few tokens
 *   cluster    partial results go to block 0, which merges and writes
 *
 * A row is what one selection is made for: a query head, or the group where the group shares one. The newest token is in by
 * force, and its rows come from k_new and v_new, so nobody needs what this very step appends; all others but the one before it
 * may be read while the kernel before this one still runs: the sample and the first strips.
 *
 * History (us on an H200, budget 256, cold, in a graph: 32 KV heads at 32K / 128K; 8 KV heads at 32K / 128K):
 *   1  as above, codes fetched after the wait, winners through global memory, clusters up to 16       26.5 / 68.5; 30.4 / 72.9
 *      The same time for the same (token, query head) pairs, however many bytes: bound by the scan's instructions, and
 *      by latency in the search of the cut.
 *   2  the cut in parallel, winners through shared memory, the ring filled before the wait     26.6 / 73.0; 23.1 / 60.8
 *      Still 125 instructions a tile of 32 tokens, half of them the ring's upkeep, and a third of the rest of the time
 *      in two passes over all distances for the few that win.
 *   3  strips in registers in place of the ring, no distance kept twice                        27.6 / 66.0; 23.4 / 49.1
 *      Clocks at each phase, 32K and 32 KV heads, us: encode 2.1, scan 7.5 (the codes at the read limit), cluster barrier
 *      1.5, histograms and cut 1.8, winners 3.8, barrier 1.6, attention and merge 4.
 *   4  a bound from a sample, lists of candidates (select.cuh)                                  21.4 / 55.2; 17.3 / 38.3
 *      By the processors' numbers the 128 blocks shared 64 processors, and every second kernel took the other 64.
 *   5  clusters spread by load (common.cuh); appending without branches                       18.3 / 45.4; 16.7 / 38.7
 *      Clocks, 32K and 32 KV heads, us: encode 1.0, bound 1.3, scan 6.4, barrier 1.0, histograms and cut 1.2, winners 1.0,
 *      barrier 0.5, attention and merge 2.9, and 1 from kernel to kernel. With 8 KV heads the scan is bound by the
 *      latency of its instructions: 8 warps a processor, 280 instructions a strip and row in 1,300 cycles.
 *   Tried and left: half the instructions, by one loop over strips without a second buffer in turn and one code to count
 *      and to hand out winners, 19.4 / 47.7; 19.0 / 46.4; 16 warps a block and one block a processor, 30.0 / 61.3; clusters
 *      of 8, 27.1 / 58.0; 32 to 256 KiB of codes to L2 before the wait, up to 2 us slower: they push out what the kernel
 *      before still reads.
 * On an H100 version 5 takes                                                                        21.9 / 55.3; 17.5 / 38.9
 *   6  no fence at the cluster's barriers (a release there fences the whole device, 600 to 1,200 cycles): histograms are read
 *      where they lie, winners and results are pushed and counted; candidates are listed without a branch a tile, and
 *      counted from the lists once the codes have come                                                20.7 / 55.5; 15.7 / 36.9
 *      With as much shared memory as there is in place of the first-level cache, through which the codes come, 22.9 / 67.9;
 *      16.3 / 36.9. Another card: 20.8 / 54.4; 15.7 / 37.2.
 *      What limits: about 8 us a step in which the memory is idle, each a chain of latencies: query 0.7, bound 1.8, barrier 0.3
 *      to 1, cut 1, winners 0.8, attention 3, kernel to kernel 0.8. By the processors' numbers 128 blocks in clusters of 4 lie
 *      on 92 to 124 of the 132 processors: where a cluster finds room beside those of the step before, two of its blocks, or
 *      one and another's, share a processor, and the others wait for them. With 8 KV heads the scan is bound by its
 *      instructions: 64 strips and rows a processor take 2.6 us if one is issued a cycle and scheduler, and 3.6 with 16 warps.
 *   Since then, not measured: lists have room for what a large budget wants. By a count on the host over the inputs of a batch
 *      of 8 of 128K with 8 KV heads, 30,720 rows, a list was too short in 0.02% of the rows at a budget of 1,024, in 2.5% at
 *      2,048 and in 81% at 4,096, and the step took 159, 415 and 1,362 us; in none of them with the room there is now. The bound
 *      was too low, which costs a second scan of the cluster, in one row of 20,000.
 *      Not understood: in that batch 159 us at a budget of 256 too, between 138 at 128 and 140 at 512. Two blocks and what the
 *      device reserves want 131.25 KiB of shared memory there, of which it sets aside 100, 132 or 164: perhaps only one gets in.
 *   Tried and left (us on an H100, same columns): 16 warps, codes through a ring of bulk copies, each block attending to its
 *      own winners, 24.9 / 78; 24.2 / 47. The same with 8 warps, 20.3 / 56.0; 19.5 / 40.8, but for a batch of 8 with 8 KV heads
 *      160 in place of 53. No clusters, the last block to arrive at a counter selects and attends, 29.9 / 72; 23.3 / 39.8:
 *      what it reads waits behind the first codes of the next step, which are all asked for at once. The next step's first
 *      codes at the start, after the last of this one's, or after the scan: within 1 us. One block a processor, so that
 *      none share one, 30 / 75.
 *      12 warps, two tiles a strip, 23.3 / 59.3; 18.1 / 42.3; 16 warps likewise, 27.5 / 68.0; 21.5 / 48.5. Clusters of 8,
 *      28.7 / 68.8; 23.1 / 45.3, with two heads a block 17.5 / 37.9 for 8 KV heads.
 *      Two launches: 16 warps scan, a block a processor, through a ring of up to 190 KiB that fills while the step before ends,
 *      each lane listing for itself, in no order; then a cluster a row finds the cut, marks winners in bitmaps, and attends.
 *      20.7 / 63.7; 18.4 / 39.2, and 14.2 at 8K in place of 11.9. One thread that issues copies of 4 KiB takes 200 ns for
 *      each, which is 2.6 TB/s; the second kernel is a chain of 8 us, 1,650 instructions a warp; and what the next step reads
 *      early, even if never more than 20 KiB a processor are on their way, makes that chain 2 us longer. */
#include "core/base/minmax.h"
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

/* Grid (split, KV heads * slices, sequences), clusters along x. */
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
    const step_part part = part_of<W>(me);
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const uint32_t *row_planes = p.planes + kv_row * (s.capacity / 32) * (64 * W);
    const uint32_t *planes = row_planes + (size_t)me.start / 32 * (64 * W);
    const bool sampled = adm_worth_a_bound(me.contest);
    step_codes<W> sample, codes;
    if (sampled) load_sample<W>(me, row_planes, &sample);
    auto load_first = [&] {
        if (part.from < part.to) load_strip<W>(planes, (me.end - me.start + 31) / 32, part.from, &codes);
    };
    const bool early = adm_settled(me.start + (part.from + 1) * step_strip<W>::tokens, me.length);
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
        scan_part<W>(me, plan, planes, part, codes, query, &found);
        count_candidates<W>(me, plan, planes, part, query, found);
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
        visit_part<W>(me, plan, planes, part, row, query, found, [&](bool there, uint32_t, uint32_t key) {
            const uint2 winners = adm_winners(there, key, cut);
            n.x += __popc(winners.x);
            n.y += __popc(winners.y);
        });
        if (lane == 0) counts[row * STEP_WARPS + warp] = n;
    }
    __syncthreads();
    const uint32_t n = min(s.rule.budget, me.length), share = (n + plan.split - 1) / plan.split;
    const uint32_t part_start = me.start + part.from * step_strip<W>::tokens;
    for (uint32_t row = 0; row < me.rows; row++) {
        uint32_t *index = p.index + (size_t)(me.first_row + row) * s.rule.budget, *lists = list + row * plan.listed;
        const adm_row_cut cut = cuts[row];
        const uint2 earlier = lane < warp ? counts[row * STEP_WARPS + lane] : make_uint2(0, 0);
        uint2 at = make_uint2(cut.rank + __reduce_add_sync(ADM_FULL_WARP, earlier.x),
                              cut.ties + __reduce_add_sync(ADM_FULL_WARP, earlier.y));
        visit_part<W>(me, plan, planes, part, row, query, found, [&](bool there, uint32_t token, uint32_t key) {
            adm_put_winners(adm_winners(there, key, cut), cut, &at, [&](uint32_t place) {
                index[place] = part_start + token;
                if (plan.listed > 0) adm_push(&lists[place % share], part_start + token, place / share, &winners_here);
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

/* The most tokens of a part, of `n_tokens` in whole strips. */
static uint32_t part_tokens(const step_plan *plan, uint32_t strip, uint32_t n_tokens) {
    const uint32_t parts = plan->split * STEP_WARPS, strips = (n_tokens + strip - 1) / strip;
    return (strips + parts - 1) / parts * strip;
}

/* Candidates that a warp has room for, of a row that fills the capacity, or of one too short for a bound. What does not fit is
 * computed again, ten times as slowly. */
static uint32_t room_of(const step_plan *plan, const adm_gpu_shape *shape) {
    const uint32_t strip = STRIP_BYTES * 4 / shape->heads.head_dim, n = STEP_WARPS * strip /* sampled */;
    const uint32_t tokens = part_tokens(plan, strip, shape->capacity), usual = LIST_ROOM / plan->rows;
    const uint32_t whole = part_tokens(plan, strip, adm_min(ADM_SHORT_ROW, shape->capacity));
    const float within = (float)adm_wanted_of((float)n * (float)shape->rule.budget / (float)shape->capacity) / (float)n;
    return round_up(adm_list_room(within, tokens, usual > whole ? usual : whole), 32);
}

/* Fills in sizes and offsets for plan->split, of at most so many bytes if it can; what does not fit goes through global memory, or
 * is computed again. */
static void lay_out(step_plan *plan, const adm_gpu_shape *shape, uint32_t most_bytes) {
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
    plan->room = room_of(plan, shape);
    if (plan->candidates_at + lists * plan->room > most_bytes && plan->candidates_at < most_bytes)
        plan->room = (most_bytes - plan->candidates_at) / lists;
    plan->shared_bytes = plan->candidates_at + lists * plan->room;
}

/* Heads a block and blocks a cluster: enough blocks for nine tenths of the places there are, two a processor, but no
 * larger clusters than USUAL_SPLIT, whose blocks wait too long for one another. A group that shares its selection stays in
 * one block. */
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
        return adm_fail(err, ADM_EINPUT, "the fused step with %u blocks a cluster: they are 1, 2, 4 or 8", split);
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
                        "the fused step needs %zu bytes of shared memory a block for distances up to "
                        "%u, and this device has %d: use the six stages",
                        grid.shared_bytes, plan.n_bins - 1, limits.block_shared_bytes);
    const void *kernel = (const void *)kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)];
    void *args[] = {(void *)shape, (void *)buffers, &plan};
    return adm_gpu_launch("fused step", kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_step_fused(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                         adm_error *err) {
    return adm_gpu_step_fused_tuned(shape, buffers, 0, stream, err);
}
