/* grouped_select.cuh: the grouped step's winners, from cuts to the blocks that attend to them, and to the index. For
 * grouped.cu.
 *
 * A block knows how many winners come before its own, and numbers these as it meets them: number r of a row goes to block
 * r % split. Bitmaps of them give the order, which only the index needs, once the rows are on their way. */
#ifndef ADM_KERNELS_STEP_GROUPED_SELECT_CUH
#define ADM_KERNELS_STEP_GROUPED_SELECT_CUH

#include "kernels/step/grouped_scan.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* The block's winner number `number`, to the block that attends to it and to the bitmap. token: of the block. */
static __device__ __forceinline__ void grouped_take(const grouped_block &me, const grouped_plan &plan, const grouped_memory &m,
                                                    uint32_t head, uint32_t token, uint32_t number) {
    const uint32_t place = m.small->cut[head].base + number;
    adm_push(&m.winners[head * plan.share + (place >> plan.shift)], me.first_tile * 32 + token, place & (plan.split - 1),
             &m.small->winners);
    atomicOr(&m.maps[head * plan.map_words + token / 32], 1u << token % 32);
}

static __device__ __forceinline__ void grouped_take_next(const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m, uint32_t head, uint32_t token) {
    grouped_take(me, plan, m, head, token, atomicAdd(&m.small->n_taken[head], 1u));
}

/* A tie, to those of which the newest win. number: of the block's. */
static __device__ __forceinline__ void grouped_keep_tie(const grouped_memory &m, uint32_t head, uint32_t token, uint32_t number) {
    if (number < GROUPED_TIES) m.small->tied[head][number] = token + 1;
}

/* Of the ties of this warp's head the newest. */
static __device__ __forceinline__ void grouped_take_newest(const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m, uint32_t head) {
    const uint32_t lane = threadIdx.x % 32, n = m.small->n_tied[head], wanted = m.small->cut[head].newest_ties;
    const uint32_t *tied = m.small->tied[head];
    uint32_t mine[GROUPED_TIES / 32], newer[GROUPED_TIES / 32];
#pragma unroll
    for (int i = 0; i < GROUPED_TIES / 32; i++) mine[i] = tied[32 * i + lane], newer[i] = 0;
#pragma unroll 2
    for (uint32_t j = 0; j < n; j += 4) { /* those that are not there are 0 */
        const uint4 four = *(const uint4 *)(tied + j);
#pragma unroll
        for (int i = 0; i < GROUPED_TIES / 32; i++)
            newer[i] += (four.x > mine[i]) + (four.y > mine[i]) + (four.z > mine[i]) + (four.w > mine[i]);
    }
#pragma unroll
    for (int i = 0; i < GROUPED_TIES / 32; i++)
        if (mine[i] > 0 && newer[i] < wanted) grouped_take_next(me, plan, m, head, mine[i] - 1);
}

/* The same for all heads where there are more of them: by bitmaps, where the ring was. By the whole block; n: as below. */
template <int D>
static __device__ __noinline__ void grouped_take_newest_of_many(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                const grouped_plan &plan, const uint32_t *planes,
                                                                unsigned char *shared, grouped_small *small, uint32_t n,
                                                                bool listed) {
    const grouped_block me = grouped_block_of(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    uint32_t *maps = m.rounds;
    for (uint32_t i = threadIdx.x; i < me.heads * plan.map_words; i += GROUPED_THREADS) maps[i] = 0;
    __syncthreads();
    const auto mark = [&](uint32_t head, uint32_t token, uint32_t bin) {
        if (bin == small->cut[head].boundary) atomicOr(&maps[head * plan.map_words + token / 32], 1u << token % 32);
    };
    if (listed) grouped_visit_list<D>(me, m, n, mark);
    else grouped_visit_all<D>(me, m, planes, mark);
    __syncthreads();
    const uint32_t *map = maps + me.warp * plan.map_words;
    uint32_t left = me.warp < me.heads ? small->cut[me.warp].newest_ties : 0;
    for (uint32_t end = me.n_tiles; end > 0 && left > 0; end -= min(end, 32u)) { /* lane 0 has the newest tile */
        const uint32_t tile = end - 1 - threadIdx.x % 32;
        uint32_t bits = threadIdx.x % 32 < end ? map[tile] : 0;
        const uint32_t mine = __popc(bits), through = adm_warp_scan(mine);
        for (uint32_t newer = through - mine; bits != 0 && newer < left; newer++) {
            const uint32_t bit = 31 - __clz((int)bits);
            bits ^= 1u << bit;
            grouped_take_next(me, plan, m, me.warp, tile * 32 + bit);
        }
        left -= min(left, __shfl_sync(ADM_FULL_WARP, through, 31));
    }
    __syncthreads(); /* rows of K and V come to where the bitmaps were */
}

/* All of the block's tokens judged, from memory: ties, or winners without a question. */
template <int D>
static __device__ __noinline__ void grouped_judge_all(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_plan &plan,
                                                      const uint32_t *planes, unsigned char *shared, grouped_small *small,
                                                      bool ties) {
    const grouped_block me = grouped_block_of(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    grouped_visit_all<D>(me, m, planes, [&](uint32_t head, uint32_t token, uint32_t bin) {
        const grouped_cut *cut = &small->cut[head];
        if (!ties && bin <= cut->limit) grouped_take_next(me, plan, m, head, token);
        if (ties && cut->newest_ties > 0 && bin == cut->boundary)
            grouped_keep_tie(m, head, token, atomicAdd(&small->n_tied[head], 1u));
    });
}

/* Which of a lane's n entries win, and which are ties of which some win. */
template <int D> static __device__ __forceinline__ uint2 grouped_judge_list(const grouped_memory &m, uint32_t n) {
    uint2 which = make_uint2(0, 0);
    grouped_cut cut[ADM_BIT_PAIRS];
#pragma unroll
    for (int j = 0; j < ADM_BIT_PAIRS; j++) cut[j] = m.small->cut[adm_bit_head<D>(j)];
#pragma unroll 2
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t entry = m.lists[i * GROUPED_THREADS + threadIdx.x], bin = entry % (1u << GROUPED_BIN_BITS);
        const bool other = D == 64 && (entry >> GROUPED_BIN_BITS) / 2 % 2 != 0; /* d = 64: of two heads in turn */
        const grouped_cut &its = cut[other ? 1 : 0];
        which.x |= (uint32_t)(bin <= its.limit) << i;
        which.y |= (uint32_t)(bin == its.boundary && its.newest_ties > 0) << i;
    }
    return which;
}

/* visit(head, token, number) for those of a lane's entries whose bits are set, numbered by the block's counts. */
template <int D, typename Visit>
static __device__ __forceinline__ void grouped_number_marked(const grouped_block &me, const grouped_memory &m, uint32_t which,
                                                             uint32_t *counts, Visit visit) {
    if (which == 0) return;
    uint32_t number = 0;
    if (D != 64) number = atomicAdd(&counts[adm_bit_head<D>(0)], (uint32_t)__popc(which)); /* all of one head */
#pragma unroll 1
    for (; which != 0; which &= which - 1, number++) {
        const uint32_t i = __ffs((int)which) - 1, tag = m.lists[i * GROUPED_THREADS + threadIdx.x] >> GROUPED_BIN_BITS;
        const uint32_t head = adm_bit_head<D>((int)(tag / 2 % 2));
        if (D == 64) number = atomicAdd(&counts[head], 1u);
        visit(head, grouped_value_token<D>(me, tag / GROUPED_VALUES, tag % GROUPED_VALUES), number);
    }
}

/* All winners of the block. n: of this lane's list; not listed: from memory. Ties first: others wait for them. */
template <int D>
static __device__ __forceinline__ void grouped_select(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me,
                                                      const grouped_plan &plan, const grouped_memory &m, const uint32_t *planes,
                                                      uint32_t n, bool listed) {
    bool some = false, many = false;
    uint2 which = make_uint2(0, 0);
#pragma unroll
    for (uint32_t h = 0; h < GROUPED_HEADS; h++) some |= h < me.heads && m.small->cut[h].newest_ties > 0;
    if (listed) which = grouped_judge_list<D>(m, n);
    const auto take = [&](uint32_t head, uint32_t token, uint32_t number) { grouped_take(me, plan, m, head, token, number); };
    const auto keep = [&](uint32_t head, uint32_t token, uint32_t number) { grouped_keep_tie(m, head, token, number); };
    if (some) {
        if (!listed) grouped_judge_all<D>(s, p, plan, planes, m.ring, m.small, true);
        grouped_number_marked<D>(me, m, which.y, m.small->n_tied, keep);
        __syncthreads();
#pragma unroll 1
        for (uint32_t h = 0; h < me.heads; h++) many |= m.small->n_tied[h] > GROUPED_TIES;
        if (many) grouped_take_newest_of_many<D>(s, p, plan, planes, m.ring, m.small, n, listed);
        else if (me.warp < me.heads && m.small->cut[me.warp].newest_ties > 0) grouped_take_newest(me, plan, m, me.warp);
    }
    if (!listed) grouped_judge_all<D>(s, p, plan, planes, m.ring, m.small, false);
    grouped_number_marked<D>(me, m, which.x, m.small->n_taken, take);
}

/* The block's winners, in order, to the index. By the warps of each head but the first two, of which some merge. */
static __device__ __forceinline__ void grouped_write_index(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                           const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m) {
    const uint32_t lane = threadIdx.x % 32;
    if (me.head >= me.heads || me.part < 2) return;
    const uint32_t *map = m.maps + me.head * plan.map_words;
    const uint32_t n_lanes = (plan.warps - 2) * 32, per_lane = (me.n_tiles + n_lanes - 1) / n_lanes;
    const uint32_t start = min((me.part - 2) * 32 * per_lane, me.n_tiles);
    const uint32_t from = min(start + lane * per_lane, me.n_tiles), to = min(from + per_lane, me.n_tiles);
    uint32_t before = 0, mine = 0;
#pragma unroll 2
    for (uint32_t i = lane; i < start; i += 32) before += __popc(map[i]);
#pragma unroll 1
    for (uint32_t i = from; i < to; i++) mine += __popc(map[i]);
    uint32_t place = m.small->cut[me.head].base + __reduce_add_sync(ADM_FULL_WARP, before) + adm_warp_scan(mine) - mine;
    const size_t row = (size_t)me.b * s.heads.n_q_heads + me.first_head + me.head;
    uint32_t *index = p.index + row * s.rule.budget;
#pragma unroll 1
    for (uint32_t i = from; i < to; i++)
#pragma unroll 1
        for (uint32_t left = map[i]; left != 0; left &= left - 1)
            index[place++] = (me.first_tile + i) * 32 + __ffs((int)left) - 1;
    if (me.part == 2 && lane == 0 && me.rank == 0) p.n_selected[row] = me.need;
}

#endif /* sm_90 */

#endif
