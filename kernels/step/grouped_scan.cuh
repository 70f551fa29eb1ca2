/* grouped_scan.cuh: the grouped step's scan, from codes to lists of candidates, and the exchanges that find each head's cut.
 * For grouped.cu.
 *
 *   sample    512 tokens, the same in all blocks of the cluster, say below which bin the winners lie, and some more tokens
 *   list      of each lane: its candidates, a word each: unit, which of the unit's values, bin
 *   exchange  how many of its tokens each block has in 64 bins and before them, to all blocks: that gives the cut. Where it does
 *             not lie there: rounds over all bins, coarse and then fine */
#ifndef ADM_KERNELS_STEP_GROUPED_SCAN_CUH
#define ADM_KERNELS_STEP_GROUPED_SCAN_CUH

#include "kernels/step/grouped.cuh"

#if __CUDA_ARCH__ >= 900 && __CUDA_ARCH__ < 1000

/* Shared memory by what it holds. */
typedef struct grouped_memory {
    unsigned char *ring;
    uint32_t *lists; /* [room][threads]; before that the sample's histogram, [heads][GROUPED_SAMPLE_STRIDE] */
    uint32_t *counts; /* [split][heads][32] pairs of counts, from each block of the cluster */
    uint32_t *rounds; /* [GROUPED_ROUNDS] times the same, in the ring, once its codes are read */
    uint32_t *maps; /* [heads][map_words], a bit a token of the block: winners */
    uint32_t *winners; /* [heads][share] */
    float *merge; /* [units / split][split][GROUPED_UNIT] */
    grouped_small *small;
} grouped_memory;

static __device__ __forceinline__ grouped_memory grouped_memory_of(const grouped_plan &plan, unsigned char *shared,
                                                                   grouped_small *small) {
    grouped_memory m;
    m.ring = shared;
    m.lists = (uint32_t *)(shared + plan.lists_at);
    m.counts = (uint32_t *)(shared + plan.counts_at);
    m.rounds = (uint32_t *)shared;
    m.maps = (uint32_t *)(shared + plan.maps_at);
    m.winners = (uint32_t *)(shared + plan.winners_at);
    m.merge = (float *)(shared + plan.merge_at);
    m.small = small;
    return m;
}

/* ---- a sample ---- */

/* Which tokens of the row are sampled: one from each of 512 equal stretches, or 256 pairs of neighbours where d = 64. */
typedef struct grouped_sample {
    uint32_t first, n; /* the stretches together; n = 0: none, for the row is short, or nearly all of it wins */
    uint32_t rank; /* the bound is where so many of the sample lie */
} grouped_sample;

/* The rank is the winners' share of the sample, and 4.5 standard deviations: one head of 100,000 finds its cut beyond. */
static __device__ __forceinline__ grouped_sample grouped_sample_of(const grouped_block &me) {
    grouped_sample s;
    const uint32_t last = min(me.eligible.last, me.length < 2 ? 0 : me.length - 2) & ~1u;
    s.first = (me.eligible.first + 1) & ~1u;
    s.n = last > s.first + 2 * GROUPED_SAMPLE ? last - s.first : 0;
    const float share = __fdividef((float)me.eligible.remaining, (float)max(s.n, 1u)), mean = GROUPED_SAMPLE * share;
    const float variance = fmaxf(mean * (1.0f - share), 1e-6f);
    s.rank = (uint32_t)(mean + 4.5f * variance * rsqrtf(variance) + 2.0f);
    if (s.rank >= GROUPED_SAMPLE - 32) s.n = 0;
    return s;
}

/* Row i of the sample. */
template <int D> static __device__ __forceinline__ uint32_t grouped_sampled(const grouped_sample &s, uint32_t i) {
    const uint32_t rows = D == 64 ? GROUPED_SAMPLE / 2 : GROUPED_SAMPLE;
    const uint32_t token = s.first + s.n * i / rows + (s.n / rows * (i * 40503u & 0xffffu) >> 16); /* anywhere in the stretch */
    return D == 64 ? token & ~1u : token;
}

template <int D>
static __device__ __forceinline__ void grouped_count_sample(const adm_bit_codes<D> &codes, const adm_bit_query<D, ADM_METRIC_L1> &q,
                                                            uint32_t *histogram) {
    int32_t first[ADM_BIT_PAIRS], second[ADM_BIT_PAIRS];
    adm_multiply_codes<D>(codes, q, first, second);
#pragma unroll
    for (int j = 0; j < ADM_BIT_PAIRS; j++) {
        uint32_t *its = histogram + adm_bit_head<D>(j) * GROUPED_SAMPLE_STRIDE;
        atomicAdd(&its[first[j] + adm_bit_base<D>(q, j) >> grouped_dim<D>::sample_shift], 1u);
        atomicAdd(&its[second[j] + adm_bit_base<D>(q, j) >> grouped_dim<D>::sample_shift], 1u);
    }
}

/* The first bin beyond the one where `rank` of the sample lie, by one warp. */
template <int D> static __device__ __forceinline__ uint32_t grouped_find_bound(const uint32_t *histogram, uint32_t rank) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t n[GROUPED_SAMPLE / 32], sum = 0;
#pragma unroll
    for (int i = 0; i < GROUPED_SAMPLE / 128; i++) {
        const uint4 four = ((const uint4 *)histogram)[lane * (GROUPED_SAMPLE / 128) + i];
        n[4 * i] = four.x, n[4 * i + 1] = four.y, n[4 * i + 2] = four.z, n[4 * i + 3] = four.w;
    }
#pragma unroll
    for (int i = 0; i < GROUPED_SAMPLE / 32; i++) sum += n[i];
    const uint32_t through = adm_warp_scan(sum), where = __popc(__ballot_sync(ADM_FULL_WARP, through < rank));
    uint32_t before = through - sum, bin = lane * (GROUPED_SAMPLE / 32);
#pragma unroll
    for (int i = 0; i < GROUPED_SAMPLE / 32; i++) {
        before += n[i];
        bin += before < rank;
    }
    bin = __shfl_sync(ADM_FULL_WARP, bin, where);
    return min((bin + 1) << grouped_dim<D>::sample_shift, (uint32_t)grouped_dim<D>::absent);
}

/* ---- the scan ---- */

/* What the products say of a unit, [tile][pair] of the two rows of a lane. */
typedef struct grouped_values {
    int32_t first[2][ADM_BIT_PAIRS], second[2][ADM_BIT_PAIRS];
} grouped_values;

/* Which token of the block value `which` (tile * 4 + pair * 2 + row) of unit i is. */
template <int D>
static __device__ __forceinline__ uint32_t grouped_value_token(const grouped_block &me, uint32_t i, uint32_t which) {
    const uint32_t tile = (i * GROUPED_WARPS + me.warp) * 2 + which / 4;
    return tile * 32 + adm_bit_token<D>((int)(which / 2 % 2)) + which % 2 * adm_bits<D>::step;
}

/* Where a warp is in its ring: the unit that begins with tile `tile` of the block, in slot `slot`. */
typedef struct grouped_place {
    uint32_t tile, slot, parity;
} grouped_place;

/* A unit, once its codes are there; asks for others in their place, and moves on. */
template <int D>
static __device__ __forceinline__ void grouped_take_unit(const grouped_block &me, const grouped_plan &plan,
                                                         const uint32_t *planes, const grouped_memory &m,
                                                         grouped_place *place, const adm_bit_query<D, ADM_METRIC_L1> &q, grouped_values *v) {
    const int unit_words = 2 * adm_bits<D>::tile_words;
    uint32_t *codes = (uint32_t *)m.ring + (me.warp * plan.slots + place->slot) * unit_words;
    uint64_t *full = &m.small->full[me.warp][place->slot];
    const uint32_t tile = place->tile, later = tile + plan.slots * (2 * GROUPED_WARPS);
    adm_bit_codes<D> one, other;
    adm_barrier_wait(full, place->parity);
    adm_read_codes<D>(codes, &one);
    adm_read_codes<D>(codes + adm_bits<D>::tile_words, &other); /* if there is none, nothing of it is listed */
    place->tile += 2 * GROUPED_WARPS;
    place->slot++;
    if (place->slot == plan.slots) place->slot = 0, place->parity ^= 1;
    adm_multiply_codes<D>(one, q, v->first[0], v->second[0]);
    adm_multiply_codes<D>(other, q, v->first[1], v->second[1]);
    if (later < me.n_tiles) { /* only now: what was read has been used, so it is not still on its way */
        __syncwarp();
        if (threadIdx.x % 32 == 0)
            adm_bulk_copy(codes, planes + (size_t)later * adm_bits<D>::tile_words,
                          (later + 1 < me.n_tiles ? 2 : 1) * (adm_bits<D>::tile_words * 4), full);
    }
    const uint32_t token = (me.first_tile + tile) * 32;
    if (token >= me.eligible.first && token + 64 <= me.eligible.last && tile + 2 <= me.n_tiles) return;
    grouped_correct<D>(me, q, tile, v->first[0], v->second[0]);
    grouped_correct<D>(me, q, tile + 1, v->first[1], v->second[1]);
#pragma unroll
    for (int j = 0; j < ADM_BIT_PAIRS; j++)
        if (tile + 2 > me.n_tiles) v->first[1][j] = v->second[1][j] = grouped_dim<D>::absent - adm_bit_base<D>(q, j);
}

/* A lane's list: where its next entry goes (bytes of the block's shared memory), the last place with room for a tile's, and
 * what makes an entry of a value: the unit's tag and the base of the value's pair. Values below the bounds go there. */
typedef struct grouped_lister {
    uint32_t at, full;
    uint32_t tag[ADM_BIT_PAIRS];
    int32_t bound[ADM_BIT_PAIRS];
    bool enough; /* room, so far */
} grouped_lister;

/* A lane's candidates among a unit's values to its list. */
static __device__ __forceinline__ void grouped_list_unit(const grouped_values &v, unsigned char *shared, grouped_lister *list) {
#pragma unroll
    for (uint32_t t = 0; t < 2; t++) {
#pragma unroll
        for (uint32_t j = 0; j < ADM_BIT_PAIRS; j++)
#pragma unroll
            for (uint32_t row = 0; row < 2; row++) {
                const int32_t value = row == 0 ? v.first[t][j] : v.second[t][j];
                if (value < list->bound[j]) {
                    *(uint32_t *)(shared + list->at) =
                        list->tag[j] + (uint32_t)value + ((t * 4 + j * 2 + row) << GROUPED_BIN_BITS);
                    list->at += GROUPED_THREADS * 4;
                }
            }
        list->enough &= list->at <= list->full;
        list->at = min(list->at, list->full);
    }
#pragma unroll
    for (int j = 0; j < ADM_BIT_PAIRS; j++) list->tag[j] += GROUPED_VALUES << GROUPED_BIN_BITS;
}

/* All of the block's codes to lists. Returns this lane's candidates; UINT32_MAX: more than its list has room for. sample: of
 * the row, if its n is not 0. */
template <int D>
static __device__ __forceinline__ uint32_t grouped_scan(const grouped_block &me, const grouped_plan &plan,
                                                        const uint32_t *planes, const grouped_memory &m,
                                                        const grouped_sample &sample, const adm_bit_codes<D> &sampled,
                                                        uint64_t *stamp) {
    adm_bit_query<D, ADM_METRIC_L1> q;
    grouped_values v, next;
    grouped_lister list;
    grouped_place place = {2 * me.warp, 0, 0};
    adm_bit_columns<D>(m.small->query[0][0], 8, m.small->base, me.heads, &q);
    if (sample.n > 0) grouped_count_sample<D>(sampled, q, m.lists);
    if (sample.n > 0) {
        __syncthreads();
        if (me.warp < me.heads) {
            const uint32_t its = grouped_find_bound<D>(m.lists + me.warp * GROUPED_SAMPLE_STRIDE, sample.rank);
            if (threadIdx.x % 32 == 0) m.small->bound[me.warp] = its;
        }
        __syncthreads();
    }
    grouped_stamp(stamp, 2);
#pragma unroll
    for (int j = 0; j < ADM_BIT_PAIRS; j++) {
        list.tag[j] = (uint32_t)adm_bit_base<D>(q, j);
        list.bound[j] = (int32_t)m.small->bound[adm_bit_head<D>(j)] - adm_bit_base<D>(q, j);
    }
    const uint32_t start = plan.lists_at + threadIdx.x * 4;
    list.at = start;
    list.full = start + (plan.room - GROUPED_SPARE) * (GROUPED_THREADS * 4);
    list.enough = true;
    bool more = place.tile < me.n_tiles, any = false;
#pragma unroll 1
    while (more || any) { /* one unit's values are listed while the next one's come */
        if (more) grouped_take_unit<D>(me, plan, planes, m, &place, q, &next);
        if (any) grouped_list_unit(v, m.ring, &list);
        any = more;
        v = next;
        more = place.tile < me.n_tiles && any;
    }
    return list.enough ? (list.at - start) / (GROUPED_THREADS * 4) : UINT32_MAX;
}

/* ---- all candidates, or all tokens ---- */

/* visit(head, token of the block, bin) for this lane's n candidates. */
template <int D, typename Visit>
static __device__ __forceinline__ void grouped_visit_list(const grouped_block &me, const grouped_memory &m, uint32_t n,
                                                          Visit visit) {
#pragma unroll 1
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t entry = m.lists[i * GROUPED_THREADS + threadIdx.x], which = entry >> GROUPED_BIN_BITS;
        visit(adm_bit_head<D>((int)(which / 2 % 2)), grouped_value_token<D>(me, which / GROUPED_VALUES, which % GROUPED_VALUES),
              entry & ((1u << GROUPED_BIN_BITS) - 1));
    }
}

/* The same for all of the block's tokens, from memory. */
template <int D, typename Visit>
static __device__ __forceinline__ void grouped_visit_all(const grouped_block &me, const grouped_memory &m,
                                                         const uint32_t *planes, Visit visit) {
    adm_bit_query<D, ADM_METRIC_L1> q;
    adm_bit_columns<D>(m.small->query[0][0], 8, m.small->base, me.heads, &q);
#pragma unroll 1
    for (uint32_t tile = me.warp; tile < me.n_tiles; tile += GROUPED_WARPS) {
        int32_t first[ADM_BIT_PAIRS], second[ADM_BIT_PAIRS];
        adm_bit_codes<D> codes;
        grouped_read_global<D>(planes + (size_t)tile * adm_bits<D>::tile_words, &codes);
        adm_multiply_codes<D>(codes, q, first, second);
        grouped_correct<D>(me, q, tile, first, second);
#pragma unroll
        for (int j = 0; j < ADM_BIT_PAIRS; j++) {
            const uint32_t head = adm_bit_head<D>(j), token = tile * 32 + adm_bit_token<D>(j);
            const int32_t one = first[j] + adm_bit_base<D>(q, j), other = second[j] + adm_bit_base<D>(q, j);
            if (head >= me.heads) continue;
            if (one != grouped_dim<D>::absent) visit(head, token, (uint32_t)one);
            if (other != grouped_dim<D>::absent) visit(head, token + adm_bits<D>::step, (uint32_t)other);
        }
    }
}

/* ---- exchanges ---- */

/* A token into its head's histogram: bins of 2^shift from the window's first on, all before it together, those beyond likewise. */
static __device__ __forceinline__ void grouped_count(grouped_small *small, uint32_t head, uint32_t bin, int32_t from,
                                                     uint32_t shift) {
    const int32_t at = ((int32_t)bin - from) >> shift;
    atomicAdd(&small->histogram[head][min(max(at, -1), (int)GROUPED_WINDOW) + 1], 1u);
}

/* How many of the block's tokens are in bins up to 2 lane and up to 2 lane + 1 of the window, by one warp, 16 bits each. */
static __device__ __forceinline__ uint32_t grouped_window_counts(const uint32_t *histogram) {
    const uint32_t lane = threadIdx.x % 32, even = histogram[1 + 2 * lane], odd = histogram[2 + 2 * lane];
    const uint32_t through = adm_warp_scan(even + odd) + histogram[0];
    return (through - odd) | through << 16;
}

/* A warp's counts of a head to all blocks of the cluster, with n - 1 other warps, of which this is `which`. */
static __device__ __forceinline__ void grouped_push_counts(const grouped_block &me, const grouped_plan &plan, uint32_t counts,
                                                           uint32_t head, uint32_t which, uint32_t n, uint32_t *to,
                                                           uint64_t *barrier) {
    to += (me.rank * plan.heads + head) * 32 + threadIdx.x % 32;
#pragma unroll 1
    for (uint32_t r = which; r < plan.split; r += n) adm_push(to, counts, r, barrier);
}

/* From one lane a block: its winners for sure, and its ties at bin `boundary`. */
static __device__ __forceinline__ void grouped_put_cut(const grouped_block &me, uint32_t boundary, uint32_t nearer,
                                                       uint32_t tied, grouped_cut *cut) {
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t n_nearer = __reduce_add_sync(ADM_FULL_WARP, nearer), n_tied = __reduce_add_sync(ADM_FULL_WARP, tied);
    const uint32_t nearer_before = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? nearer : 0);
    const uint32_t ties_before = __reduce_add_sync(ADM_FULL_WARP, lane < me.rank ? tied : 0);
    const uint32_t dropped = n_tied - (me.need - n_nearer); /* the oldest of them */
    const uint32_t base = nearer_before + (ties_before > dropped ? ties_before - dropped : 0);
    const uint32_t through = ties_before + tied, taken = through > dropped ? min(through - dropped, tied) : 0;
    if (lane == me.rank) *cut = grouped_cut{boundary, taken == tied ? boundary : boundary - 1, taken == tied ? 0 : taken, base};
}

/* One warp finds in an exchange's counts where the cut of its head is: in bins of one its cut, else the next window. False: the
 * cut is not in this window. */
static __device__ __forceinline__ bool grouped_find_cut(const grouped_block &me, const grouped_plan &plan,
                                                        const uint32_t *counts, uint32_t head, int32_t from, uint32_t shift,
                                                        uint32_t next_shift, grouped_small *small) {
    const uint32_t lane = threadIdx.x % 32;
    uint32_t even = 0, odd = 0;
    bool lost = false; /* a block has no counts */
#pragma unroll 4
    for (uint32_t r = 0; r < plan.split; r++) {
        const uint32_t pair = counts[(r * plan.heads + head) * 32 + lane];
        lost |= pair == UINT32_MAX;
        even += pair & 0xffffu, odd += pair >> 16;
    }
    const uint32_t short_even = __ballot_sync(ADM_FULL_WARP, even < me.need), short_odd = __ballot_sync(ADM_FULL_WARP, odd < me.need);
    const uint32_t at = __popc(short_even) + __popc(short_odd);
    if (__ballot_sync(ADM_FULL_WARP, lost) != 0 || at == GROUPED_WINDOW || (at == 0 && shift == 0)) return false;
    if (shift > 0) { /* its bins, and the one before the first */
        if (lane == 0) small->from[head] = from + (int32_t)(at << shift) - (1 << next_shift);
        return true;
    }
    uint32_t nearer = 0, tied = 0;
    if (lane < plan.split) {
        const uint16_t *its = (const uint16_t *)(counts + (lane * plan.heads + head) * 32);
        nearer = its[at - 1];
        tied = its[at] - nearer;
    }
    grouped_put_cut(me, (uint32_t)(from + (int32_t)at), nearer, tied, &small->cut[head]);
    return true;
}

/* The cuts of all heads from counts of all bins, in as many exchanges as it takes: where there was no sample, or it misled, or
 * a list was too short. n: this lane's candidates; UINT32_MAX: from memory. */
template <int D>
static __device__ __noinline__ void grouped_find_cuts_anywhere(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                               const grouped_plan &plan, const uint32_t *planes,
                                                               unsigned char *shared, grouped_small *small, uint32_t n,
                                                               bool sampled) {
    const grouped_block me = grouped_block_of(s, p, plan); /* anew: nothing of this is to be in anybody's way */
    const grouped_memory m = grouped_memory_of(plan, shared, small);
    const bool listed = __syncthreads_or(n == UINT32_MAX) == 0;
    if (threadIdx.x < me.heads) small->from[threadIdx.x] = 0;
    uint32_t shift = grouped_dim<D>::shift;
    for (uint32_t round = sampled ? 1 : 0;; round++) { /* round 0 of a row without a sample: blocks may still be scanning */
        const uint32_t next_shift = shift > 5 ? shift - 5 : 0;
        uint32_t *to = round == 0 ? m.counts : m.rounds + (round - 1) * (plan.split * plan.heads * 32);
        for (uint32_t i = threadIdx.x; i < GROUPED_HEADS * GROUPED_COUNTS; i += GROUPED_THREADS) small->histogram[0][i] = 0;
        __syncthreads();
        const auto count = [&](uint32_t head, uint32_t token, uint32_t bin) {
            grouped_count(small, head, bin, small->from[head], shift);
        };
        if (listed) grouped_visit_list<D>(me, m, n, count);
        else grouped_visit_all<D>(me, m, planes, count);
        __syncthreads();
        if (me.head < me.heads) {
            const uint32_t counts = grouped_window_counts(small->histogram[me.head]);
            grouped_push_counts(me, plan, counts, me.head, me.part, plan.warps, to, &small->counted[round]);
            if (me.part == 0) {
                adm_barrier_wait_pushed(&small->counted[round], 0);
                grouped_find_cut(me, plan, to, me.head, small->from[me.head], shift, next_shift, small);
            }
        }
        __syncthreads();
        if (shift == 0) return;
        shift = next_shift;
    }
}

/* The cuts of all heads, for all threads of the block; the lists are made. True: they were found from the lists alone, so
 * those hold all winners. */
template <int D>
static __device__ __forceinline__ bool grouped_find_cuts(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                         const grouped_block &me, const grouped_plan &plan,
                                                         const grouped_memory &m, const uint32_t *planes,
                                                         const grouped_sample &sample, uint32_t n) {
    bool listed = false, found = false;
    if (sample.n > 0) listed = __syncthreads_or(n == UINT32_MAX) == 0; /* and all are counted */
    if (sample.n > 0 && me.head < me.heads) {
        const uint32_t counts = listed ? grouped_window_counts(m.small->histogram[me.head]) : UINT32_MAX;
        grouped_push_counts(me, plan, counts, me.head, me.part, plan.warps, m.counts, &m.small->counted[0]);
        if (me.part == 0) {
            adm_barrier_wait_pushed(&m.small->counted[0], 0);
            const int32_t from = (int32_t)m.small->bound[me.head] - GROUPED_WINDOW;
            if (!grouped_find_cut(me, plan, m.counts, me.head, from, 0, 0, m.small) && threadIdx.x % 32 == 0)
                m.small->cut[me.head].boundary = UINT32_MAX;
        }
    }
    if (sample.n > 0) {
        __syncthreads();
        found = true;
#pragma unroll
        for (uint32_t h = 0; h < GROUPED_HEADS; h++)
            found &= h >= me.heads || m.small->cut[h].boundary != UINT32_MAX; /* all blocks know the same */
        n = UINT32_MAX; /* what lies beyond the bound is not listed */
    }
    if (found) return true;
    grouped_find_cuts_anywhere<D>(s, p, plan, planes, m.ring, m.small, n, sample.n > 0);
    return __syncthreads_or(n == UINT32_MAX) == 0;
}

#endif /* sm_90 */

#endif
