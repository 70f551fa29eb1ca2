/* grouped_scan.cuh: the grouped step's scan, from codes to places and counts, and each row's cut. For grouped.cu. */
#ifndef ADM_KERNELS_STEP_GROUPED_SCAN_CUH
#define ADM_KERNELS_STEP_GROUPED_SCAN_CUH

#include "kernels/step/grouped_values.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* ---- a sample ---- */

/* Which tile of the row this warp samples; UINT32_MAX where the row is too short. All blocks of the cluster take the same
 * tiles, which may be read before the wait. */
static __device__ __forceinline__ uint32_t grouped_sampled(const grouped_block &me) {
    const uint32_t first = (me.eligible.first + 31) / 32, last = min(me.eligible.last, me.length < 2 ? 0 : me.length - 2) / 32;
    if (last < first + GROUPED_WARPS) return UINT32_MAX;
    return first + (last - first) * (2 * me.warp + 1) / (2 * GROUPED_WARPS);
}

/* Whether so few of the row win that a bound within which a tenth lie is far beyond them. */
static __device__ __forceinline__ bool grouped_few(const grouped_block &me) { return me.need <= me.length / 40; }

/* The least of the tile's 32 values, or the largest of eight least ones of four; whole warp. */
static __device__ __forceinline__ int32_t grouped_least_of(int32_t value, bool few) {
    if (few) return (int32_t)__reduce_min_sync(ADM_FULL_WARP, (uint32_t)value); /* none is negative */
#pragma unroll
    for (int step = 1; step < 4; step *= 2) value = min(value, __shfl_xor_sync(ADM_FULL_WARP, value, step));
    return (int32_t)__reduce_max_sync(ADM_FULL_WARP, (uint32_t)value);
}

/* This warp's word on each row's window: the least bin of its sampled tile, of which the largest is where about a tenth of
 * the tokens lie; or, where more of the row wins, the largest of eight least bins of four tokens. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_find_least(const grouped_block &me, const adm_bit_codes<D> &codes,
                                                          grouped_query<D, N, METRIC> *q, grouped_small *small) {
    int32_t value[grouped_kind<N>::sets][grouped_kind<N>::values];
    const bool few = grouped_few(me);
    grouped_set_windows<D, N, METRIC>(me, small, q, [](uint32_t) { return 0; });
    grouped_values<D, N, METRIC>(codes, codes, *q, value);
    if constexpr (N <= 0) {
        const int32_t lowest = grouped_least_of(min(value[0][0], value[0][1]) + q->start, few); /* of one tile, twice */
        if (adm_lane() == 0) small->lowest[me.warp][0] = lowest;
    } else {
#pragma unroll
        for (int s = 0; s < N; s++)
#pragma unroll
            for (int j = 0; j < 4; j += D == 64 ? 2 : 4) {
                int32_t lowest = min(value[s][j], value[s][j + 1]);
                if (D != 64) lowest = min(lowest, min(value[s][2], value[s][3]));
                lowest += grouped_start<D, N, METRIC>(*q, s, j);
#pragma unroll
                for (int step = D == 64 ? 1 : 4; step < 32; step *= step == 1 ? 4 : 2) {
                    const int32_t other = __shfl_xor_sync(ADM_FULL_WARP, lowest, step);
                    lowest = few || step == 1 ? min(lowest, other) : max(lowest, other);
                }
                if (adm_lane() < 4) small->lowest[me.warp][grouped_row<D, N>(s, j)] = lowest;
            }
    }
}

/* Each row's window, by one warp a row, once all warps have given their word: it ends at the (strict + 1)-th of sixteen. */
template <int N>
static __device__ __forceinline__ void grouped_find_window(const grouped_block &me, const grouped_plan &plan, bool sampled,
                                                           grouped_small *small) {
    if (me.warp >= me.rows) return;
    const uint32_t lane = adm_lane();
    int32_t from = 0;
    if (sampled && me.need <= me.length / 5 * 2) {
        const uint32_t strict = grouped_few(me) ? plan.strict : plan.wide;
        const int32_t mine = small->lowest[lane % GROUPED_WARPS][me.warp];
        uint32_t before = 0;
        if (strict < GROUPED_WARPS - 1) {
#pragma unroll
            for (uint32_t i = 0; i < GROUPED_WARPS / 2; i++) { /* each half of the warp compares with eight */
                const uint32_t which = lane / GROUPED_WARPS * (GROUPED_WARPS / 2) + i;
                const int32_t other = small->lowest[which][me.warp];
                before += other < mine || (other == mine && which < lane % GROUPED_WARPS);
            }
            before += __shfl_xor_sync(ADM_FULL_WARP, before, GROUPED_WARPS);
        }
        const uint32_t end = ~__reduce_min_sync(ADM_FULL_WARP, before <= strict ? ~(uint32_t)mine : ~0u);
        from = max((int32_t)end - (grouped_kind<N>::window - 1), 0);
    }
    if (lane == 0) small->window[me.warp] = grouped_window{from, 0};
}

/* ---- the scan ---- */

/* Four places in a word, a byte each. */
static __device__ __forceinline__ uint32_t grouped_word(const uint32_t (&place)[4]) {
    return __byte_perm(__byte_perm(place[0], place[1], 0x0040), __byte_perm(place[2], place[3], 0x0040), 0x5410);
}

/* Counts and keeps the places of a tile; `to`: where the lane keeps the first set's. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_keep(const grouped_query<D, N, METRIC> &q,
                                                    uint32_t *const (&counts)[N][ADM_BIT_PAIRS], uint32_t *to,
                                                    const int32_t (&value)[N][4]) {
#pragma unroll
    for (int s = 0; s < N; s++) {
        uint32_t place[4];
#pragma unroll
        for (int j = 0; j < 4; j++) place[j] = grouped_place<N>(value[s][j], grouped_start<D, N, METRIC>(q, s, j));
#pragma unroll
        for (int j = 0; j < 4; j++) adm_count(counts[s][j / 2], place[j]); /* all: cheaper than a branch */
        to[s * GROUPED_THREADS] = grouped_word(place);
    }
}

/* The same of one row and a pair of tiles. */
template <int N>
static __device__ __forceinline__ void grouped_keep_pair(uint32_t *counts, uint16_t *to, const int32_t (&value)[2],
                                                         int32_t start) {
    const uint32_t one = grouped_place<N>(value[0], start), other = grouped_place<N>(value[1], start);
    adm_count(counts, one);
    adm_count(counts, other);
    *to = (uint16_t)(one | other << 8);
}

/* A warp's list on its way. */
typedef struct grouped_listed {
    uint2 *list;
    uint32_t n, room; /* entries, of which some may have found no room */
} grouped_listed;

/* Lists those of a tile's words in which a place is within the window. from: the tile's first token and the lane's first head,
 * as an entry has them. Counts all places now, or else later what is listed. */
template <int D, int N, int METRIC, bool COUNTED>
static __device__ __forceinline__ void grouped_list(const grouped_query<D, N, METRIC> &q,
                                                    uint32_t *const (&counts)[N][ADM_BIT_PAIRS], uint32_t from,
                                                    const int32_t (&value)[N][4], grouped_listed *to) {
#pragma unroll
    for (int s = 0; s < N; s++) {
        uint32_t place[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int32_t start = grouped_start<D, N, METRIC>(q, s, j);
            place[j] = COUNTED ? grouped_place<N>(value[s][j], start)
                               : (uint32_t)max(min(value[s][j] + start, (int32_t)grouped_kind<N>::window), 0);
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (COUNTED) adm_count(counts[s][j / 2], place[j]);
        const uint32_t word = grouped_word(place);
        const bool within = (~word & 0x40404040u) != 0;
        const uint32_t votes = __ballot_sync(ADM_FULL_WARP, within);
        const uint32_t at = to->n + __popc(votes & ((1u << threadIdx.x % 32) - 1));
        const uint2 entry = make_uint2(word, from + (4 * s << GROUPED_HEAD_SHIFT));
        if (within && at < to->room) to->list[at] = entry;
        to->n += __popc(votes);
    }
}

/* The warp's list. */
static __device__ __forceinline__ uint2 *grouped_list_of(const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m) {
    return (uint2 *)m.places + me.warp * (32 * plan.list_entries);
}

/* Counts what the warp has listed, of n words. */
template <int D, int N>
static __device__ __forceinline__ void grouped_count_listed(const grouped_block &me, const grouped_plan &plan,
                                                            const grouped_memory &m, uint32_t n) {
    const uint2 *list = grouped_list_of(me, plan, m);
    __syncwarp();
#pragma unroll 1
    for (uint32_t i = adm_lane(); i < min(n, 32 * plan.list_entries); i += 32) {
        const uint2 entry = list[i];
        const int stride = grouped_kind<N>::stride;
        uint32_t *counts = m.histogram + (entry.y >> GROUPED_HEAD_SHIFT) * stride;
#pragma unroll
        for (uint32_t j = 0; j < 4; j++) /* beyond the window: a bin that nobody reads */
            atomicAdd(&counts[(D == 64 ? j / 2 * 2 * stride : 0) + (entry.x >> 8 * j & 0xffu)], 1u);
    }
}

/* The lane's own value, of which the compiler knows nothing, lest it work it out anew in each turn of a loop. */
static __device__ __forceinline__ uint32_t grouped_fixed(uint32_t value) {
    return __shfl_sync(ADM_FULL_WARP, value, threadIdx.x);
}

/* The pairs of tiles of which all competes: those whose first tile of the block is first .. first + n - 1. */
typedef struct grouped_clean {
    uint32_t first, n;
} grouped_clean;

static __device__ __forceinline__ grouped_clean grouped_clean_of(const grouped_block &me) {
    const uint32_t first = max((me.eligible.first + 31) / 32, me.first_tile) - me.first_tile;
    const uint32_t last = max(me.eligible.last / 32, me.first_tile) - me.first_tile;
    return grouped_clean{grouped_fixed(first), grouped_fixed(last > first + 1 ? last - first - 1 : 0)};
}

/* Where a lane's values are counted. */
template <int D, int N>
static __device__ __forceinline__ void grouped_counts_of(const grouped_memory &m, uint32_t *(&counts)[N][ADM_BIT_PAIRS]) {
#pragma unroll
    for (int s = 0; s < N; s++)
#pragma unroll
        for (int i = 0; i < ADM_BIT_PAIRS; i++)
            counts[s][i] = m.histogram + grouped_fixed(grouped_row<D, N>(s, 2 * i) * grouped_kind<N>::stride);
}

/* All of the block's codes to places and counts; returns the length of the warp's list, which may be more than it holds. */
template <int D, int N, int METRIC, bool LISTED, bool COUNTED>
static __device__ __forceinline__ uint32_t grouped_scan(const grouped_block &me, const grouped_plan &plan,
                                                        const uint32_t *planes, const grouped_memory &m,
                                                        grouped_query<D, N, METRIC> *q) {
    const int sets = grouped_kind<N>::sets, values = grouped_kind<N>::values, words = adm_bits<D>::tile_words;
    const uint32_t n_slots = plan.slots, ahead = n_slots * GROUPED_PAIRS, ring_words = grouped_fixed(n_slots * (2 * words));
    const grouped_clean clean = grouped_clean_of(me);
    uint32_t *counts[sets][ADM_BIT_PAIRS];
    uint32_t *const all = (uint32_t *)m.ring; /* of it this warp's: */
    const uint32_t slots = (uint32_t)(grouped_slots<D>(me, plan, m.ring) - all);
    const uint32_t *const rows = all + grouped_fixed(slots + adm_row_at<D>());
    uint32_t *const copied = all + grouped_fixed(slots + 4 * (threadIdx.x % 32));
    uint32_t *places = m.places + threadIdx.x, tile = 2 * me.warp, at = 0;
    uint32_t entry = tile * 32 + grouped_token<D, N>(0) | grouped_row<D, N>(0, 0) << GROUPED_HEAD_SHIFT;
    grouped_listed listed = {grouped_list_of(me, plan, m), 0, 32 * plan.list_entries};
    uint16_t *pairs = (uint16_t *)m.places + threadIdx.x;
    const uint32_t *next = planes + (size_t)(tile + ahead) * words + 4 * (threadIdx.x % 32);
    grouped_set_windows<D, N, METRIC>(me, m.small, q, [&](uint32_t row) { return m.small->window[row].from; });
    if constexpr (N > 0) grouped_counts_of<D, N>(m, counts);
#pragma unroll 1
    for (; tile < me.n_tiles; tile += GROUPED_PAIRS) {
        adm_bit_codes<D> one, other;
        int32_t first[sets][values], second[sets][values];
        grouped_await_pair(n_slots);
        adm_read_codes_at<D>(rows + at, &one);
        adm_read_codes_at<D>(rows + at + words, &other);
        grouped_values<D, N, METRIC>(one, other, *q, first);
        if constexpr (N > 0) grouped_values<D, N, METRIC>(other, one, *q, second);
        __syncwarp(); /* what was read has been used, so it is not still on its way */
        if (tile + ahead < me.n_tiles) grouped_fetch<D>(copied + at, next, tile + ahead + 1 < me.n_tiles);
        adm_copy_commit();
        next += GROUPED_PAIRS * words;
        at = at + 2 * words == ring_words ? 0 : at + 2 * words;
        if (tile - clean.first >= clean.n) {
            grouped_correct<D, N>(me, tile, first);
            if constexpr (N > 0) grouped_correct<D, N>(me, tile + 1, second);
        }
        if constexpr (N <= 0) {
            grouped_keep_pair<N>(m.histogram, pairs, first[0], q->start);
            pairs += GROUPED_THREADS;
        } else if (LISTED) {
            grouped_list<D, N, METRIC, COUNTED>(*q, counts, entry, first, &listed);
            grouped_list<D, N, METRIC, COUNTED>(*q, counts, entry + 32, second, &listed);
            entry += 32 * GROUPED_PAIRS;
        } else {
            grouped_keep<D, N, METRIC>(*q, counts, places, first);
            grouped_keep<D, N, METRIC>(*q, counts, places + N * GROUPED_THREADS, second);
            places += 2 * N * GROUPED_THREADS;
        }
    }
    if (N <= 0 && tile < (me.n_tiles + GROUPED_PAIRS - 1) / GROUPED_PAIRS * GROUPED_PAIRS) *pairs = 0x7f7f; /* nothing there */
    if constexpr (!COUNTED) grouped_count_listed<D, N>(me, plan, m, listed.n);
    return listed.n;
}

/* ---- the cut ---- */

/* How many of the block's tokens are in places up to 2 lane and up to 2 lane + 1, by one warp, 16 bits each. */
static __device__ __forceinline__ uint32_t grouped_through(const uint32_t *histogram) {
    const uint2 pair = ((const uint2 *)histogram)[adm_lane()];
    const uint32_t through = adm_warp_scan(pair.x + pair.y);
    return (through - pair.y) | through << 16;
}
/* The same up to 4 lane and the three behind it. */
static __device__ __forceinline__ uint2 grouped_through_four(const uint32_t *histogram) {
    const uint4 four = ((const uint4 *)histogram)[adm_lane()];
    const uint32_t through = adm_warp_scan(four.x + four.y + four.z + four.w), third = through - four.w,
                   second = third - four.z;
    return make_uint2((second - four.y) | second << 16, third | through << 16);
}

/* Each row's counts to all blocks of the cluster, by the warps that work for it. */
template <int N>
static __device__ __forceinline__ void grouped_push_counts(const grouped_block &me, const grouped_plan &plan,
                                                           const grouped_memory &m) {
    if (N <= 0) {
        const uint2 counts = grouped_through_four(m.histogram);
        uint32_t *to = m.counts + me.rank * grouped_kind<N>::count_words + 2 * adm_lane();
#pragma unroll 1
        for (uint32_t r = me.warp; r < plan.split; r += GROUPED_WARPS) {
            adm_push(to, counts.x, r, &m.small->counted);
            adm_push(to + 1, counts.y, r, &m.small->counted);
        }
        return;
    }
    if (me.head >= me.heads) return;
    const uint32_t counts = grouped_through(m.histogram + me.head * grouped_kind<N>::stride);
    uint32_t *to = m.counts + (me.rank * plan.rows + me.head) * 32 + adm_lane();
#pragma unroll 4
    for (uint32_t r = me.part; r < plan.split; r += plan.warps) adm_push(to, counts, r, &m.small->counted);
}

/* How many places of a row hold less than the winners with all before them, from the counts that have come; by one warp. */
template <int N>
static __device__ __forceinline__ uint32_t grouped_places_before(const grouped_block &me, const grouped_plan &plan,
                                                                 const grouped_memory &m, uint32_t row) {
    const int pairs = grouped_kind<N>::count_words / 32;
    const uint32_t *from = m.counts + row * grouped_kind<N>::count_words + pairs * adm_lane();
    uint32_t even[pairs] = {}, odd[pairs] = {}, at = 0;
#pragma unroll 4
    for (uint32_t r = 0; r < plan.split; r++)
#pragma unroll
        for (int i = 0; i < pairs; i++) {
            const uint32_t counts = from[r * plan.rows * grouped_kind<N>::count_words + i];
            even[i] += counts & 0xffffu, odd[i] += counts >> 16;
        }
#pragma unroll
    for (int i = 0; i < pairs; i++)
        at += __popc(__ballot_sync(ADM_FULL_WARP, even[i] < me.need)) + __popc(__ballot_sync(ADM_FULL_WARP, odd[i] < me.need));
    return at;
}

/* The shift of a window of all bins that there are. */
template <int D, int N, int METRIC> static __device__ __forceinline__ uint32_t grouped_widest(uint32_t heads) {
    const uint32_t bins = (METRIC == ADM_METRIC_ASYM4 ? 24 : METRIC == ADM_METRIC_DOT ? 9 : 3) * D * (N <= 0 ? heads : 1) + 2;
    uint32_t shift = 0;
#pragma unroll
    for (int i = 0; i < (N <= 0 ? 13 : 8); i++) shift += (bins - 1) >> shift >= (uint32_t)grouped_kind<N>::window;
    return shift;
}

/* One warp finds the cut of its row from the counts that have come; or, where it is not in the window, another window. */
template <int D, int N, int METRIC>
static __device__ __forceinline__ void grouped_find_cut(const grouped_block &me, const grouped_plan &plan,
                                                        const grouped_memory &m, uint32_t row) {
    const int words = grouped_kind<N>::count_words;
    const uint32_t lane = adm_lane();
    const grouped_window window = m.small->window[row];
    const uint32_t at = grouped_places_before<N>(me, plan, m, row);
    const bool missed = at >= (uint32_t)grouped_kind<N>::window || (at == 0 && window.from > 0) || window.shift > 0;
    if (lane == 0) ((uint8_t *)&m.small->missed)[row] = missed;
    if (missed) {
        __syncwarp(); /* the other lanes have read the window */
        if (lane > 0) return;
        if (window.shift == 0) m.small->window[row] = grouped_window{0, grouped_widest<D, N, METRIC>(me.heads)};
        else
            m.small->window[row] = grouped_window{max(window.from + (int32_t)(at << window.shift) - 1, 0),
                                                  window.shift > 5 ? window.shift - 5 : 0};
        return;
    }
    uint32_t nearer = 0, ties = 0; /* of block `lane` */
    if (lane < plan.split) {
        const uint16_t *its = (const uint16_t *)(m.counts + (lane * plan.rows + row) * words);
        nearer = at > 0 ? its[at - 1] : 0;
        ties = its[at] - nearer;
    }
    const uint32_t all_ties = __reduce_add_sync(ADM_FULL_WARP, ties);
    const uint32_t lose = all_ties - (me.need - __reduce_add_sync(ADM_FULL_WARP, nearer)); /* the row's oldest so many */
    const uint32_t before = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? nearer : 0);
    const uint32_t ties_before = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? ties : 0);
    if (lane == me.rank) {
        const uint32_t here = min(lose - min(lose, ties_before), ties);
        m.small->cut[row] = grouped_cut{at, before + ties_before - min(lose, ties_before), nearer, ties, here};
        ((uint8_t *)&m.small->parted)[row] = here > 0 && here < ties;
    }
}

/* ---- where a window did not hold the cut, or a list was too short ---- */

/* visit(row, token of the block, place) for all the block's tokens, whose codes are read once more, from memory. */
template <int D, int N, int METRIC, typename Visit>
static __device__ __forceinline__ void grouped_visit(const grouped_block &me, const uint32_t *planes, const grouped_memory &m,
                                                     Visit visit) {
    grouped_query<D, N, METRIC> q;
    grouped_columns<D, N, METRIC>(me, m.small, &q);
    grouped_set_windows<D, N, METRIC>(me, m.small, &q, [&](uint32_t row) { return m.small->window[row].from; });
#pragma unroll 1
    for (uint32_t tile = me.warp; tile < me.n_tiles; tile += GROUPED_WARPS) {
        adm_bit_codes<D> codes;
        int32_t value[grouped_kind<N>::sets][grouped_kind<N>::values];
        adm_fetch_codes<D>(planes + (size_t)tile * adm_bits<D>::tile_words, &codes);
        grouped_values<D, N, METRIC>(codes, codes, q, value);
#pragma unroll
        for (int s = 0; s < grouped_kind<N>::sets; s++)
#pragma unroll
            for (int j = 0; j < grouped_kind<N>::values; j++) {
                const uint32_t row = grouped_row<D, N>(s, j);
                value[s][j] += grouped_start<D, N, METRIC>(q, s, j);
                if (row < me.rows) value[s][j] >>= m.small->window[row].shift;
            }
        grouped_correct<D, N>(me, tile, value);
#pragma unroll
        for (int s = 0; s < grouped_kind<N>::sets; s++)
#pragma unroll
            for (int j = 0; j < grouped_kind<N>::values; j++) {
                const uint32_t row = grouped_row<D, N>(s, j), at = grouped_token<D, N>(j); /* of one row twice the tile's */
                if (row < me.rows && at < 32) visit(row, tile * 32 + at, grouped_place<N>(value[s][j], 0));
            }
    }
}

/* Where the block's codes are. */
template <int D>
static __device__ __forceinline__ const uint32_t *grouped_planes(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                 const grouped_block &me, uint32_t tile) {
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    return p.planes + (kv_row * (s.capacity / 32) + tile) * adm_bits<D>::tile_words;
}

/* Counts all of the block's tokens anew. By all threads. */
template <int D, int N, int METRIC>
static __device__ __noinline__ void grouped_count_again(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                        const grouped_plan &plan, unsigned char *shared, grouped_small *small) {
    const grouped_block me = grouped_block_of<N>(s, p, plan); /* anew: nothing of this is to be in anybody's way */
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    for (uint32_t i = threadIdx.x; i < grouped_kind<N>::rows * grouped_kind<N>::stride; i += GROUPED_THREADS)
        m.histogram[i] = 0;
    __syncthreads();
    grouped_visit<D, N, METRIC>(me, grouped_planes<D>(s, p, me, me.first_tile), m, [&](uint32_t row, uint32_t, uint32_t place) {
        atomicAdd(&m.histogram[row * grouped_kind<N>::stride + place], 1u);
    });
    __syncthreads();
}

/* Counts in other windows until every row's holds its cut: at most three times, of one row four. */
template <int D, int N, int METRIC>
static __device__ __noinline__ void grouped_search(const adm_gpu_shape &s, const adm_gpu_buffers &p, const grouped_plan &plan,
                                                   unsigned char *shared, grouped_small *small) {
    const grouped_block me = grouped_block_of<N>(s, p, plan);
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    for (uint32_t parity = 1; small->missed != 0; parity ^= 1) { /* all blocks know the same */
        adm_cluster_meet(); /* nobody reads the counts any more */
        if (threadIdx.x == 0) adm_barrier_expect(&small->counted, plan.split * me.rows * (grouped_kind<N>::count_words * 4));
        grouped_count_again<D, N, METRIC>(s, p, plan, shared, small);
        grouped_push_counts<N>(me, plan, m);
        if (me.warp < me.rows) {
            adm_barrier_wait(&small->counted, parity);
            grouped_find_cut<D, N, METRIC>(me, plan, m, me.warp);
        }
        __syncthreads();
    }
}

#endif /* sm_90 */

#endif
