/* grouped_select.cuh: the grouped step's winners, from cuts to the blocks that attend to them, and to the index. For
 * grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_SELECT_CUH
#define ADM_KERNELS_STEP_GROUPED_SELECT_CUH

#include "kernels/step/grouped_scan.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* Has a winner's rows of K and V brought to L2, so that they need not come from memory when the block that attends to it has
 * heard of it. */
template <int D>
static __device__ __forceinline__ void grouped_ask_for(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                       const grouped_block &me, const grouped_plan &plan, uint32_t at) {
    if (plan.ahead == 0) return;
    const uint32_t row = (me.b * s.heads.n_kv_heads + me.kv_head) * s.capacity + me.first_tile * 32 + at;
    const char *k = (const char *)p.k + (size_t)row * (D * 2), *v = (const char *)p.v + (size_t)row * (D * 2);
#pragma unroll
    for (int i = 0; i < D * 2; i += 128) adm_prefetch(k + i), adm_prefetch(v + i);
}

/* Token `at` of the block, the row's winner number `place` in no order, to block place % split, and to the map. */
static __device__ __forceinline__ void grouped_send(const grouped_block &me, const grouped_plan &plan, const grouped_memory &m,
                                                    uint32_t head, uint32_t place, uint32_t at) {
    const uint32_t mine = grouped_divide(plan, place);
    adm_push(&m.winners[head * plan.share + mine], me.first_tile * 32 + at, place - mine * plan.split, &m.small->winners);
    atomicOr(&m.maps[head * plan.map_words + at / 32], 1u << at % 32);
}

/* A token at the cut, of those of which some lose. */
static __device__ __forceinline__ void grouped_list_tie(const grouped_memory &m, uint32_t head, uint32_t at) {
    const uint32_t n = atomicAdd(&m.small->n_ties[head], 1u);
    if (n < GROUPED_TIES) m.ties[head * GROUPED_TIES + n] = at;
}

/* A token wherever its place is. */
static __device__ __forceinline__ void grouped_take(const grouped_block &me, const grouped_plan &plan, const grouped_memory &m,
                                                    uint32_t head, uint32_t at, uint32_t place) {
    const grouped_cut &cut = m.small->cut[head];
    if (place < cut.at || (place == cut.at && cut.lose == 0))
        grouped_send(me, plan, m, head, cut.offset + atomicAdd(&m.small->n_winners[head], 1u), at);
    else if (place == cut.at && cut.lose < cut.ties) grouped_list_tie(m, head, at);
}

/* Rows whose bytes share a word of a set. */
template <int D, int N> struct grouped_halves {
    static const int n = N > 0 && D == 64 ? 2 : 1;
};

/* What tells a word's winners: by 1, those of its bytes that reach bit 7 have lost; by 2, those too that may be tied. */
typedef struct grouped_limit {
    uint32_t lost, out;
} grouped_limit;

template <int D, int N>
static __device__ __forceinline__ grouped_limit grouped_limit_of(const grouped_block &me, const grouped_small *small,
                                                                 uint32_t set) {
    grouped_limit limit = {0x80808080u, 0x80808080u}; /* of a head that is not there: nothing wins */
#pragma unroll
    for (uint32_t half = 0; half < grouped_halves<D, N>::n; half++) {
        const uint32_t row = grouped_row<D, N>(set, 2 * half);
        const uint32_t bytes = grouped_halves<D, N>::n == 2 ? 0x0101u << 16 * half : 0x01010101u;
        if (row >= me.rows) continue;
        const grouped_cut &cut = small->cut[row];
        const bool all = cut.lose == 0, some = cut.lose < cut.ties;
        limit.lost -= bytes * (cut.at + (all ? 1 : 0));
        limit.out -= bytes * (cut.at + (all || some ? 1 : 0));
    }
    return limit;
}

/* Of up to eight words of a set, in mask's bit 8 byte + 7 - word: sends those that won, lists those tied. */
template <int D, int N, typename Token>
static __device__ __forceinline__ void
grouped_take_marked(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_block &me, const grouped_plan &plan,
                    const grouped_memory &m, uint32_t set, uint32_t won, uint32_t tied, Token token) {
#pragma unroll
    for (uint32_t half = 0; half < grouped_halves<D, N>::n; half++) {
        const uint32_t bits = grouped_halves<D, N>::n == 2 ? 0xffffu << 16 * half : ~0u;
        const uint32_t head = grouped_row<D, N>(set, 2 * half);
        uint32_t left = won & bits;
        if (left != 0) {
            uint32_t place = m.small->cut[head].offset + atomicAdd(&m.small->n_winners[head], (uint32_t)__popc(left));
#pragma unroll 1
            for (; left != 0; left &= left - 1) {
                const uint32_t bit = (uint32_t)__ffs((int)left) - 1, at = token(7 - bit % 8, bit / 8);
                grouped_send(me, plan, m, head, place++, at);
                grouped_ask_for<D>(s, p, me, plan, at);
            }
        }
#pragma unroll 1
        for (left = tied & bits; left != 0; left &= left - 1) {
            const uint32_t bit = (uint32_t)__ffs((int)left) - 1;
            grouped_list_tie(m, head, token(7 - bit % 8, bit / 8));
        }
    }
}

/* Of one row, the block's token of a byte of this thread's word `word` of places. */
template <int D, int N> static __device__ __forceinline__ uint32_t grouped_kept_token(uint32_t word, uint32_t byte) {
    const uint32_t half = 2 * (word * GROUPED_THREADS + threadIdx.x) + byte / 2, thread = half % GROUPED_THREADS;
    return half / GROUPED_THREADS * (GROUPED_PAIRS * 32) + thread / 32 * 64 + grouped_token_of<D, N>(byte % 2, thread % 32);
}

/* Winners among the tokens whose places are kept. */
template <int D, int N>
static __device__ __forceinline__ void grouped_take_kept(const adm_gpu_shape &shape, const adm_gpu_buffers &p,
                                                         const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m) {
    const int sets = grouped_kind<N>::sets;
    const uint32_t rest = me.n_tiles % GROUPED_PAIRS, mine = 2 * me.warp; /* of the last round: tiles, and my first */
    const uint32_t rounds = (me.n_tiles + GROUPED_PAIRS - 1) / GROUPED_PAIRS; /* of one row a word is of two threads' places */
    const uint32_t n = N <= 0 ? (rounds + (threadIdx.x < GROUPED_THREADS / 2 ? 1 : 0)) / 2
                              : 2 * (me.n_tiles / GROUPED_PAIRS + (rest > mine ? 1 : 0));
#pragma unroll
    for (uint32_t s = 0; s < sets; s++) {
        const grouped_limit limit = grouped_limit_of<D, N>(me, m.small, s);
#pragma unroll 1
        for (uint32_t from = 0; from < n; from += 8) {
            const uint32_t *words = m.places + (from * sets + s) * GROUPED_THREADS + threadIdx.x;
            const auto marks = [&](uint32_t bound) {
                uint32_t beyond = 0;
#pragma unroll
                for (uint32_t i = 0; i < 8; i++) {
                    const uint32_t word = from + i < n ? words[i * (sets * GROUPED_THREADS)] : 0x7f7f7f7fu;
                    beyond |= (word + bound) >> i & 0x80808080u >> i;
                }
                return beyond;
            };
            const uint32_t out = marks(limit.out);
            if (out == ~0u) continue;
            const uint32_t lost = limit.lost == limit.out ? out : marks(limit.lost);
            grouped_take_marked<D, N>(shape, p, me, plan, m, s, ~lost, lost & ~out, [&](uint32_t i, uint32_t byte) {
                return N <= 0 ? grouped_kept_token<D, N>(from + i, byte)
                              : grouped_tile(me, from + i) * 32 + grouped_token<D, N>(byte);
            });
        }
    }
}

/* The same of the n words of the warp's list. */
template <int D, int N>
static __device__ __forceinline__ void grouped_take_listed(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                           const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m, uint32_t n) {
    const uint2 *list = grouped_list_of(me, plan, m);
#pragma unroll 1
    for (uint32_t i = adm_lane(); i < n; i += 32) {
        const uint2 entry = list[i];
        const uint32_t first = entry.y & (1u << GROUPED_HEAD_SHIFT) - 1;
#pragma unroll
        for (uint32_t half = 0; half < grouped_halves<D, N>::n; half++) {
            const uint32_t head = (entry.y >> GROUPED_HEAD_SHIFT) + 2 * half,
                           bytes = D == 64 ? 0x0101u << 16 * half : 0x01010101u;
            if (head >= me.rows) continue;
            const grouped_cut &cut = m.small->cut[head];
            const uint32_t all = cut.lose == 0 ? 1 : 0, some = cut.lose < cut.ties ? 1 : 0;
            /* A place reaches bit 7 with what is added where it is as large as the bound. */
            uint32_t won = ~(entry.x + bytes * (0x80u - cut.at - all)) & bytes << 7;
            uint32_t tied = ~(entry.x + bytes * (0x80u - cut.at - (all | some))) & bytes << 7 & ~won;
            const auto token = [&](uint32_t bit) { return first + (D == 64 ? bit / 8 % 2 * adm_bits<D>::step : bit / 8 * 8); };
            if (won != 0) {
                uint32_t place = cut.offset + atomicAdd(&m.small->n_winners[head], (uint32_t)__popc(won));
#pragma unroll 1
                for (; won != 0; won &= won - 1) {
                    const uint32_t at = token((uint32_t)__ffs((int)won) - 1);
                    grouped_send(me, plan, m, head, place++, at);
                    grouped_ask_for<D>(s, p, me, plan, at);
                }
            }
#pragma unroll 1
            for (; tied != 0; tied &= tied - 1) grouped_list_tie(m, head, token((uint32_t)__ffs((int)tied) - 1));
        }
    }
}

/* The same of all tokens, from their codes. */
template <int D, int N, int METRIC>
static __device__ __noinline__ void grouped_take_again(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                       const grouped_plan &plan, unsigned char *shared, grouped_small *small) {
    const grouped_block me = grouped_block_of<N>(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    grouped_visit<D, N, METRIC>(
        me, grouped_planes<D>(s, p, me, me.first_tile), m,
        [&](uint32_t head, uint32_t at, uint32_t place) { grouped_take(me, plan, m, head, at, place); });
}

/* Tokens at the cuts, where more of them than are listed are of a block in which some lose. By all threads. */
template <int D, int N, int METRIC>
static __device__ __noinline__ void grouped_take_ties(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                      const grouped_plan &plan, unsigned char *shared, grouped_small *small) {
    const grouped_block me = grouped_block_of<N>(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    uint32_t *maps = m.maps + plan.rows * plan.map_words;
    for (uint32_t i = threadIdx.x; i < plan.rows * plan.map_words; i += GROUPED_THREADS) maps[i] = 0;
    __syncthreads();
    grouped_visit<D, N, METRIC>(me, grouped_planes<D>(s, p, me, me.first_tile), m,
                                [&](uint32_t head, uint32_t at, uint32_t place) {
                                    if (place == small->cut[head].at)
                                        atomicOr(&maps[head * plan.map_words + at / 32], 1u << at % 32);
                                });
    __syncthreads();
    if (me.warp < me.rows && small->n_ties[me.warp] > GROUPED_TIES) {
        const grouped_cut cut = small->cut[me.warp];
        const uint32_t *map = maps + me.warp * plan.map_words, per_lane = (me.n_tiles + 31) / 32;
        const uint32_t from = min(adm_lane() * per_lane, me.n_tiles), to = min(from + per_lane, me.n_tiles);
        uint32_t mine = 0;
        for (uint32_t i = from; i < to; i++) mine += __popc(map[i]);
        uint32_t older = adm_warp_scan(mine) - mine;
        for (uint32_t i = from; i < to; i++)
            for (uint32_t left = map[i]; left != 0; left &= left - 1, older++)
                if (older >= cut.lose)
                    grouped_send(me, plan, m, me.warp, cut.offset + cut.nearer + older - cut.lose,
                                 i * 32 + (uint32_t)__ffs((int)left) - 1);
    }
    __syncthreads();
}

/* Tokens at the cuts, where some of a block's lose: all have been listed, if there was room. By all threads. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_settle_ties(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                           const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m) {
    if (m.small->parted == 0) return;
    __syncthreads();
    const uint32_t n = me.warp < me.rows ? m.small->n_ties[me.warp] : 0;
    const uint32_t *tied = m.ties + me.warp * GROUPED_TIES;
#pragma unroll 1
    for (uint32_t i = adm_lane(); i < n && n <= GROUPED_TIES; i += 32) {
        const grouped_cut &cut = m.small->cut[me.warp];
        const uint32_t at = tied[i];
        uint32_t older = 0;
#pragma unroll 1
        for (uint32_t j = 0; j < n; j += 8) {
            const uint4 *eight = (const uint4 *)(tied + j), x = eight[0], y = eight[1];
            older += (x.x < at) + (x.y < at) + (x.z < at) + (x.w < at);
            older += (y.x < at) + (y.y < at) + (y.z < at) + (y.w < at);
        }
        if (older >= cut.lose) grouped_send(me, plan, m, me.warp, cut.offset + cut.nearer + older - cut.lose, at);
    }
    if (__syncthreads_or(n > GROUPED_TIES)) grouped_take_ties<D, N, METRIC>(s, p, plan, m.ring - plan.ring_at, m.small);
}

/* The block's winners of a row, in order, to the index; by one warp, once all are in the map. */
static __device__ __forceinline__ void grouped_write_index(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                           const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m, uint32_t row_here) {
    const uint32_t lane = adm_lane(), per_lane = (me.n_tiles + 31) / 32;
    const uint32_t from = min(lane * per_lane, me.n_tiles), to = min(from + per_lane, me.n_tiles);
    const uint32_t *map = m.maps + row_here * plan.map_words;
    const size_t row = me.first_row + row_here;
    uint32_t mine = 0;
#pragma unroll 2
    for (uint32_t i = from; i < to; i++) mine += __popc(map[i]);
    uint32_t *index = p.index + row * s.rule.budget + m.small->cut[row_here].offset + adm_warp_scan(mine) - mine;
#pragma unroll 1
    for (uint32_t i = from; i < to; i++)
#pragma unroll 1
        for (uint32_t left = map[i]; left != 0; left &= left - 1)
            *index++ = (me.first_tile + i) * 32 + (uint32_t)__ffs((int)left) - 1;
    if (lane == 0 && me.rank == 0) p.n_selected[row] = me.need;
}

#endif /* sm_90 */

#endif
