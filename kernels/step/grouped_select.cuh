/* grouped_select.cuh: the grouped step's winners, from cuts to the blocks that attend to them. For grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_SELECT_CUH
#define ADM_KERNELS_STEP_GROUPED_SELECT_CUH

#include "kernels/step/grouped_scan.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* A winner, or a token tied with the last of them, to its bitmap. at: within the block. */
static __device__ __forceinline__ void grouped_mark(const grouped_plan &plan, const grouped_memory &m, uint32_t head,
                                                    uint32_t at, uint32_t bin, uint32_t boundary) {
    if (bin > boundary) return;
    uint32_t *map = m.maps + ((bin == boundary ? plan.heads : 0) + head) * plan.map_words;
    atomicOr(&map[at / 32], 1u << at % 32);
}

/* Where a list was too short: all the tokens that are not kept once more, from memory. */
template <int D, int N>
static __device__ __noinline__ void grouped_mark_again(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                       const grouped_plan &plan, const uint32_t *planes, unsigned char *shared,
                                                       grouped_small *small) {
    const grouped_block me = grouped_block_of(s, p, plan); /* again, too: nothing of this is to be in anybody's way */
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    grouped_query<D, N> q;
    grouped_columns<D, N>(m.small, &q);
    for (uint32_t i = plan.kept * GROUPED_WARPS + me.warp; i < me.n_tiles; i += GROUPED_WARPS) {
        uint32_t first[N], second[N];
        grouped_codes<D> codes;
        grouped_read_global<D>(planes + (size_t)i * grouped_dim<D>::tile_words, &codes);
        grouped_bins<D, N>(codes, q, first, second);
        grouped_correct<D, N>(me, i, first, second);
#pragma unroll
        for (int j = 0; j < N; j++) {
            const uint32_t head = grouped_head<D>(j), at = i * 32 + grouped_token<D>(j);
            if (head >= me.heads) continue;
            const uint32_t boundary = m.small->cut[head].boundary;
            grouped_mark(plan, m, head, at, first[j], boundary);
            grouped_mark(plan, m, head, at + grouped_dim<D>::step, second[j], boundary);
        }
    }
}

/* Marks the winners and ties among the tokens whose bins are kept. */
template <int D, int N>
static __device__ __forceinline__ void grouped_mark_kept(const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m) {
    const int batch = 8 / N; /* pieces, of 16 bins a thread */
    const uint32_t mine = me.n_tiles + GROUPED_WARPS - 1 - me.warp, kept = min(mine / GROUPED_WARPS, plan.kept);
    uint32_t boundary[N], beyond[N]; /* beyond: what lifts a bin beyond the boundary to 0x8000 */
#pragma unroll
    for (int j = 0; j < N; j++) {
        const bool used = grouped_head<D>(j) < me.heads;
        boundary[j] = used ? m.small->cut[grouped_head<D>(j)].boundary : 0;
        beyond[j] = used ? (0x7fffu - boundary[j]) * 0x10001u : 0x80008000u;
    }
    for (uint32_t from = 0; from < kept; from += batch) {
        const uint32_t *bins = m.bins + from * (N * GROUPED_THREADS) + threadIdx.x;
        uint32_t hits = 0;
#pragma unroll
        for (int i = 0; i < batch; i++)
            if (from + i < kept) {
#pragma unroll
                for (int j = 0; j < N; j++)
                    hits |= (~(bins[(i * N + j) * GROUPED_THREADS] + beyond[j]) & 0x80008000u) >> (i * N + j);
            }
        while (hits != 0) {
            const uint32_t bit = 31 - __clz((int)hits), i = 15 - bit % 16, j = i % N;
            const uint32_t pair = bins[i * GROUPED_THREADS], lane = threadIdx.x % 32;
            const uint32_t head = D == 64 ? 2 * j + lane % 4 / 2 : 4 * (j / 2) + lane % 4;
            const uint32_t at = (D == 64 ? lane / 4 * 2 + lane % 2 : j % 2 * 16 + lane / 4) + (bit / 16) * grouped_dim<D>::step;
            uint32_t its = boundary[0];
#pragma unroll
            for (int k = 1; k < N; k++) its = j == k ? boundary[k] : its;
            hits ^= 1u << bit;
            grouped_mark(plan, m, head, ((from + i / N) * GROUPED_WARPS + me.warp) * 32 + at,
                         bit >= 16 ? pair >> 16 : pair & 0xffffu, its);
        }
    }
}

/* Marks winners and ties of all heads in the bitmaps. */
template <int D, int N>
static __device__ __forceinline__ void grouped_mark_all(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                        const grouped_block &me, const grouped_plan &plan,
                                                        const uint32_t *planes, const grouped_memory &m) {
    grouped_mark_kept<D, N>(me, plan, m);
    if (me.pieces <= plan.kept) return;
    const uint32_t n = m.small->listed[me.warp];
    const bool again = __syncthreads_or(n > plan.room) != 0;
    if (again) {
        grouped_mark_again<D, N>(s, p, plan, planes, m.ring - plan.ring_at, m.small);
        return;
    }
    for (uint32_t i = threadIdx.x % 32; i < n; i += 32) {
        const uint32_t entry = m.lists[me.warp * plan.room + i], token = entry >> GROUPED_BIN_BITS;
        grouped_mark(plan, m, token % 8, token / 8, entry % (1u << GROUPED_BIN_BITS), m.small->cut[token % 8].boundary);
    }
}

/* Winners, in order, to the index and to the blocks that attend to them: place r of a row to block r % split. */
static __device__ __forceinline__ void grouped_hand_out(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                        const grouped_block &me, const grouped_plan &plan,
                                                        const grouped_memory &m) {
    const uint32_t lane = threadIdx.x % 32;
    if (me.head >= me.heads) return;
    const uint32_t *nearer = m.maps + me.head * plan.map_words, *tied = nearer + plan.heads * plan.map_words;
    const uint32_t n_lanes = plan.warps * 32, per_lane = (me.n_tiles + n_lanes - 1) / n_lanes;
    const uint32_t start = min(me.part * 32 * per_lane, me.n_tiles);
    const uint32_t from = min(start + lane * per_lane, me.n_tiles), to = min(from + per_lane, me.n_tiles);
    uint32_t before = 0, ties_before = 0, mine = 0, my_ties = 0;
    for (uint32_t i = lane; i < start; i += 32) before += __popc(nearer[i]), ties_before += __popc(tied[i]);
    for (uint32_t i = from; i < to; i++) mine += __popc(nearer[i]), my_ties += __popc(tied[i]);
    const adm_row_cut cut = m.small->cut[me.head];
    uint32_t rank = adm_warp_scan(mine) - mine, ties = adm_warp_scan(my_ties) - my_ties;
    rank += cut.rank + __reduce_add_sync(ADM_FULL_WARP, before);
    ties += cut.ties + __reduce_add_sync(ADM_FULL_WARP, ties_before);
    const size_t row = (size_t)me.b * s.heads.n_q_heads + me.first_head + me.head;
    uint32_t *index = p.index + row * s.rule.budget, *winners = m.winners + me.head * plan.share;
    for (uint32_t i = from; i < to; i++) {
        const uint32_t ties_here = tied[i];
        for (uint32_t left = nearer[i] | ties_here; left != 0; left &= left - 1) {
            const uint32_t bit = __ffs((int)left) - 1, token = (me.first_tile + i) * 32 + bit;
            const bool is_tied = ties_here >> bit & 1;
            const uint32_t place = adm_index_position(cut, make_uint2(rank, ties));
            if (!is_tied || ties >= cut.ties_dropped) {
                adm_push(&winners[place >> plan.shift], token, place & (plan.split - 1), &m.small->winners);
                index[place] = token;
            }
            if (is_tied) ties++;
            else rank++;
        }
    }
    if (me.part == 0 && lane == 0 && me.rank == 0) p.n_selected[row] = me.need;
}

#endif /* sm_90 */

#endif
