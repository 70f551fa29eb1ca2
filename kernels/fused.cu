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
 * A row is what one selection is made for: a query head, or the group where the group shares one. The newest token is in
 * by force, so nobody needs the code that this very step appends; all others may be read while the kernel before this one
 * still runs: the sample, the first strips, and, as far as L2 holds them, those after.
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
 *   5  clusters spread by load (gpu_common.cuh); appending without branches                       18.3 / 45.4; 16.7 / 38.7
 *      Clocks, 32K and 32 KV heads, us: encode 1.0, bound 1.3, scan 6.4, barrier 1.0, histograms and cut 1.2, winners 1.0,
 *      barrier 0.5, attention and merge 2.9, and 1 from kernel to kernel. With 8 KV heads the scan is bound by the
 *      latency of its instructions: 8 warps a processor, 280 instructions a strip and row in 1,300 cycles.
 *   Tried and left: 16 warps a block and one block a processor, 30.0 / 61.3; clusters of 8, 27.1 / 58.0; 32 to 256 KiB of
 *      codes to L2 before the wait, up to 2 us slower: they push out what the kernel before still reads. */
#include <cmath>

#include "kernels/distance.cuh"
#include "kernels/encode.cuh"
#include "kernels/select.cuh"

enum { STEP_WARPS = 8, STEP_THREADS = 32 * STEP_WARPS, STRIP_BYTES = 4096, MAX_HEADS = 8, MAX_SPLIT = 8, USUAL_SPLIT = 4, LIST_ROOM = 1024 };

/* How the work is cut, and where in shared memory things lie (bytes). */
typedef struct step_plan {
    uint32_t heads;       /* query heads a block: a power of two up to MAX_HEADS; the last slice may have fewer */
    uint32_t slices;      /* blocks a KV head's group takes */
    uint32_t rows;        /* selections a block: heads, or 1 where the group shares one */
    uint32_t split;       /* blocks a cluster */
    uint32_t prefetch_bytes; /* of a chunk that go to L2 before the wait */
    uint32_t listed;      /* winners a block attends to, a row, in shared memory; 0: they come from buffers.index */
    uint32_t n_bins;
    uint32_t room;        /* candidates a row and warp */
    uint32_t query_at, histogram_at, total_at, before_at, list_at, candidates_at; /* partial results: 0 */
    uint32_t shared_bytes;
} step_plan;

#if __CUDA_ARCH__ >= 900

/* The block's share of the step. */
typedef struct step_block {
    uint32_t b, kv_head, first_head, heads; /* query heads first_head .. first_head + heads - 1, within the sequence */
    uint32_t first_row, rows;               /* of index and n_selected, over the whole batch */
    uint32_t rank;
    uint32_t length, start, end;
    adm_contest contest;
} step_block;

template <int W> struct step_strip {
    static const int tiles = STRIP_BYTES / (256 * W);
    static const int tokens = 32 * tiles;
};

template <int W> static __device__ __forceinline__ step_block block_of(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                       const step_plan &plan) {
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads, slice = blockIdx.y % plan.slices;
    step_block me;
    me.b = blockIdx.z;
    me.kv_head = blockIdx.y / plan.slices;
    me.first_head = me.kv_head * group + slice * plan.heads;
    me.heads = min(plan.heads, group - slice * plan.heads);
    me.rows = s.selection == ADM_SELECT_GROUP ? 1 : me.heads;
    me.first_row = s.selection == ADM_SELECT_GROUP ? me.b * s.heads.n_kv_heads + me.kv_head
                                                   : me.b * s.heads.n_q_heads + me.first_head;
    me.rank = adm_cluster_rank();
    me.length = p.length[me.b];
    me.contest = adm_contest_of(s.rule, me.length);
    const uint32_t unit = step_strip<W>::tokens;
    const uint32_t tokens = ((me.length + plan.split - 1) / plan.split + unit - 1) / unit * unit;
    me.start = min(me.rank * tokens, me.length);
    me.end = min(me.start + tokens, me.length);
    return me;
}

/* ---- codes to distances ---- */

/* A strip's codes, a token a lane and tile. */
template <int W> struct step_codes {
    uint32_t high[step_strip<W>::tiles][W], low[step_strip<W>::tiles][W];
};

/* n_tiles: of the chunk. Tiles beyond them stay as they are. */
template <int W> static __device__ __forceinline__ void load_strip(const uint32_t *codes, uint32_t n_tiles, uint32_t strip,
                                                                   step_codes<W> *to) {
    const uint32_t first = strip * step_strip<W>::tiles;
#pragma unroll
    for (int i = 0; i < step_strip<W>::tiles; i++)
        if (first + i < n_tiles) adm_read_tile<W>(codes + (size_t)(first + i) * (64 * W), to->high[i], to->low[i]);
}

/* What a warp's scan leaves behind in shared memory. */
typedef struct step_found {
    uint32_t *histogram;        /* [rows][n_bins], of candidates */
    const uint32_t *bound;      /* [rows] */
    uint32_t *entries;          /* [rows][warps][room] */
    uint32_t *n;                /* [rows][warps] of them, or more than there is room for */
} step_found;

static __device__ __forceinline__ adm_list list_of(const step_found &found, const step_plan &plan, uint32_t row) {
    const uint32_t at = row * STEP_WARPS + threadIdx.x / 32;
    return adm_list{found.entries + at * plan.room, plan.room, found.n[at]};
}

/* The distances of a strip's tiles for one row: of the query head, or summed over the group. */
template <int W>
static __device__ __forceinline__ void distances_of(const step_block &me, const step_codes<W> &codes, uint32_t row,
                                                    const adm_query_planes<W> *query, uint32_t (&d)[step_strip<W>::tiles]) {
    const uint32_t from = me.rows < me.heads ? 0 : row, to = me.rows < me.heads ? me.heads : row + 1;
    for (uint32_t g = from; g < to; g++) {
        const adm_query_planes<W> q = query[g];
#pragma unroll
        for (int i = 0; i < step_strip<W>::tiles; i++) {
            const uint32_t one = adm_distance_of<W, ADM_METRIC_L1>(q, codes.high[i], codes.low[i]);
            d[i] = g > from ? d[i] + one : one;
        }
    }
}

/* Lists and counts one strip's candidates. first: the strip's first token. PLAIN: all its tokens are there and compete. */
template <int W, bool PLAIN>
static __device__ __forceinline__ void scan_strip(const step_block &me, const step_plan &plan, const step_codes<W> &codes,
                                                  uint32_t first, uint32_t part_start, const adm_query_planes<W> *query,
                                                  const step_found &found) {
    const int n = step_strip<W>::tiles;
    const uint32_t lane = threadIdx.x % 32;
    for (uint32_t row = 0; row < me.rows; row++) {
        uint32_t d[n], candidates[n], any = 0;
        const uint32_t bound = found.bound[row];
        distances_of<W>(me, codes, row, query, d);
#pragma unroll
        for (int i = 0; i < n; i++) {
            const uint32_t token = first + lane + 32 * i;
            const bool near = d[i] <= bound;
            candidates[i] = __ballot_sync(ADM_FULL_WARP, PLAIN ? near : token < me.end &&
                                                                        (near || !adm_competes(me.contest, token)));
            any |= candidates[i];
        }
        if (any == 0) continue;
        adm_list list = list_of(found, plan, row);
        uint32_t *bins = found.histogram + row * plan.n_bins;
#pragma unroll
        for (int i = 0; i < n; i++) {
            const uint32_t token = first + lane + 32 * i, key = PLAIN ? d[i] + 1 : adm_key(me.contest, token, d[i]);
            adm_list_add(&list, candidates[i], token - part_start, key);
            if ((candidates[i] >> lane & 1) != 0 && key > 0) atomicAdd(&bins[d[i]], 1u);
        }
        if (lane == 0) found.n[row * STEP_WARPS + threadIdx.x / 32] = list.n;
        __syncwarp();
    }
}

/* A warp's part: strips [from, to) of the chunk. */
typedef struct step_part {
    uint32_t from, to;
} step_part;

template <int W> static __device__ __forceinline__ step_part part_of(const step_block &me) {
    const uint32_t unit = step_strip<W>::tokens, n_strips = (me.end - me.start + unit - 1) / unit;
    const uint32_t share = (n_strips + STEP_WARPS - 1) / STEP_WARPS;
    const uint32_t from = min(threadIdx.x / 32 * share, n_strips);
    return step_part{from, min(from + share, n_strips)};
}

/* Scans a part; `codes` holds its first strip, if any. While one strip is looked at the next is loading. */
template <int W>
static __device__ __forceinline__ void scan_part(const step_block &me, const step_plan &plan, const uint32_t *planes,
                                                 const step_part &part, step_codes<W> &codes,
                                                 const adm_query_planes<W> *query, const step_found &found) {
    const uint32_t unit = step_strip<W>::tokens, n_tiles = (me.end - me.start + 31) / 32;
    const uint32_t plain_to = min(me.contest.last, me.end), part_start = me.start + part.from * unit;
    step_codes<W> next;
    auto scan = [&](const step_codes<W> &one, uint32_t strip) {
        const uint32_t first = me.start + strip * unit;
        if (first >= me.contest.first && first + unit <= plain_to)
            scan_strip<W, true>(me, plan, one, first, part_start, query, found);
        else scan_strip<W, false>(me, plan, one, first, part_start, query, found);
    };
    for (uint32_t strip = part.from; strip < part.to; strip += 2) {
        if (strip + 1 < part.to) load_strip<W>(planes, n_tiles, strip + 1, &next);
        scan(codes, strip);
        if (strip + 1 >= part.to) break;
        if (strip + 2 < part.to) load_strip<W>(planes, n_tiles, strip + 2, &codes);
        scan(next, strip + 1);
    }
}

/* visit(there, token, key) for a row's candidates in a warp's part, tokens counted from its start: from the list, or all
 * again where that is too short. */
template <int W, typename Visit>
static __device__ __forceinline__ void visit_part(const step_block &me, const step_plan &plan, const uint32_t *planes,
                                                  const step_part &part, uint32_t row, const adm_query_planes<W> *query,
                                                  const step_found &found, Visit visit) {
    const adm_list list = list_of(found, plan, row);
    if (list.n <= list.room) {
        adm_list_visit(list, visit);
        return;
    }
    const uint32_t unit = step_strip<W>::tokens, n_tiles = (me.end - me.start + 31) / 32;
    for (uint32_t strip = part.from; strip < part.to; strip++) {
        step_codes<W> codes;
        uint32_t d[step_strip<W>::tiles];
        load_strip<W>(planes, n_tiles, strip, &codes);
        distances_of<W>(me, codes, row, query, d);
#pragma unroll
        for (int i = 0; i < step_strip<W>::tiles; i++) {
            const uint32_t token = me.start + strip * unit + 32 * i + threadIdx.x % 32;
            visit(token < me.end, token - (me.start + part.from * unit), adm_key(me.contest, token, d[i]));
        }
    }
}

/* ---- the bound ---- */

/* Tiles of a sample, from all over the row: as many as a strip has, for each warp. */
template <int W> static __device__ __forceinline__ uint32_t sampled_tile(const step_block &me, int i) {
    const uint32_t all = STEP_WARPS * step_strip<W>::tiles, mine = threadIdx.x / 32 * step_strip<W>::tiles + i;
    return (uint32_t)((uint64_t)(me.length / 32) * mine / all);
}

/* row_planes: of the KV head's first token. */
template <int W>
static __device__ __forceinline__ void load_sample(const step_block &me, const uint32_t *row_planes, step_codes<W> *to) {
#pragma unroll
    for (int i = 0; i < step_strip<W>::tiles; i++)
        adm_read_tile<W>(row_planes + (size_t)sampled_tile<W>(me, i) * (64 * W), to->high[i], to->low[i]);
}

/* Leaves each row's bound in shared memory; sample [rows][n_bins] is zeros. Synchronises the block twice. */
template <int W>
static __device__ __forceinline__ void find_bounds(const step_block &me, const step_plan &plan, const step_codes<W> &codes,
                                                   const adm_query_planes<W> *query, uint32_t *sample, uint32_t *bounds) {
    const int n = step_strip<W>::tiles;
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (uint32_t row = 0; row < me.rows; row++) {
        uint32_t d[n];
        distances_of<W>(me, codes, row, query, d);
#pragma unroll
        for (int i = 0; i < n; i++)
            if (adm_competes(me.contest, sampled_tile<W>(me, i) * 32 + lane))
                atomicAdd(&sample[row * plan.n_bins + d[i]], 1u);
    }
    __syncthreads();
    if (warp < me.rows) {
        const uint32_t wanted = adm_wanted_of_sample(me.contest, 32 * STEP_WARPS * n);
        const uint32_t bound = adm_bound_of(sample + warp * plan.n_bins, plan.n_bins, wanted);
        if (lane == 0) bounds[warp] = bound;
    }
    __syncthreads();
}

/* A warp's codes after its first strip towards L2, up to its share of plan.prefetch_bytes. */
static __device__ __forceinline__ void prefetch_part(const step_plan &plan, const uint32_t *planes, const step_part &part) {
    const uint32_t n = min(part.to - part.from, 1 + plan.prefetch_bytes / (STEP_WARPS * STRIP_BYTES));
    if (threadIdx.x % 32 == 0 && n > 2) /* the last strip may be short */
        adm_prefetch_l2_bulk((const char *)planes + (size_t)(part.from + 1) * STRIP_BYTES, (n - 2) * STRIP_BYTES);
}

/* ---- the new token and the queries ---- */

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

/* ---- attention ---- */

/* A running softmax over rows of V: sum = total of 2^(score - largest), value = that-weighted rows, 8 elements a lane. */
typedef struct step_softmax {
    float largest, sum, value[8];
} step_softmax;

static __device__ __forceinline__ float weight_of(float score, float largest) {
    return score == -INFINITY ? 0.0f : exp2f(score - largest);
}

/* From tokens to their rows in K and V, counted in rows: adm_kv_offset() / d, which stays below 2^32 in any memory there
 * is, with the page numbers read side by side. */
template <int N>
static __device__ __forceinline__ void kv_rows(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                               uint32_t (&token)[N]) {
    const uint32_t n_kv = s.heads.n_kv_heads, size = s.page_size;
    if (size == 0) {
#pragma unroll
        for (int r = 0; r < N; r++) token[r] += (me.b * n_kv + me.kv_head) * s.capacity;
    } else {
        uint32_t page[N];
#pragma unroll
        for (int r = 0; r < N; r++) page[r] = (uint32_t)p.page_table[(size_t)me.b * s.max_pages + token[r] / size];
#pragma unroll
        for (int r = 0; r < N; r++) token[r] = (page[r] * n_kv + me.kv_head) * size + token[r] % size;
    }
}

/* Which of `tokens` [n] this warp takes: lanes in groups of D/8, a group a row, 4 rows in flight each. */
template <typename T, int D>
static __device__ __forceinline__ void attend(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                              const uint32_t *tokens, uint32_t n, const T *q_row, const adm_team &team,
                                              step_softmax *out) {
    const int lanes = D / 8, rows = 32 / lanes, flight = 4;
    const uint32_t lane = threadIdx.x % 32, part = lane % lanes;
    const float scale = s.scale * 1.4426950408889634f; /* exponentials to base 2 */
    float q[8];
    const uint4 packed = ((const uint4 *)q_row)[part];
    const uint32_t q_words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 pair = adm_widen2<T>(q_words[i]);
        q[2 * i] = pair.x * scale, q[2 * i + 1] = pair.y * scale;
    }
    out->largest = -INFINITY, out->sum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) out->value[i] = 0;

    for (uint32_t base = team.warp * rows; base < n; base += flight * rows * team.n_warps) {
        uint32_t token[flight];
        uint4 k[flight], v[flight];
        float score[flight];
#pragma unroll
        for (int r = 0; r < flight; r++) { /* past the end the last one again, with no weight: no branch between loads */
            const uint32_t j = base + r * rows * team.n_warps + lane / lanes;
            token[r] = tokens[min(j, n - 1)];
            score[r] = j < n ? 0.0f : -INFINITY;
        }
        kv_rows<flight>(s, p, me, token);
#pragma unroll
        for (int r = 0; r < flight; r++) {
            k[r] = __ldcg((const uint4 *)((const T *)p.k + (size_t)token[r] * D) + part);
            v[r] = __ldcg((const uint4 *)((const T *)p.v + (size_t)token[r] * D) + part);
        }
        float largest = out->largest;
#pragma unroll
        for (int r = 0; r < flight; r++) {
            const uint32_t words[4] = {k[r].x, k[r].y, k[r].z, k[r].w};
            float dot = 0;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 pair = adm_widen2<T>(words[i]);
                dot = fmaf(q[2 * i], pair.x, fmaf(q[2 * i + 1], pair.y, dot));
            }
#pragma unroll
            for (int step = 1; step < lanes; step *= 2) dot += __shfl_xor_sync(ADM_FULL_WARP, dot, step);
            score[r] += dot;
            largest = fmaxf(largest, score[r]);
        }
        const float shrink = weight_of(out->largest, largest);
        out->sum *= shrink;
#pragma unroll
        for (int i = 0; i < 8; i++) out->value[i] *= shrink;
#pragma unroll
        for (int r = 0; r < flight; r++) {
            const float w = weight_of(score[r], largest);
            const uint32_t words[4] = {v[r].x, v[r].y, v[r].z, v[r].w};
            out->sum += w;
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float2 pair = adm_widen2<T>(words[i]);
                out->value[2 * i] = fmaf(w, pair.x, out->value[2 * i]);
                out->value[2 * i + 1] = fmaf(w, pair.y, out->value[2 * i + 1]);
            }
        }
        out->largest = largest;
    }
#pragma unroll
    for (int step = lanes; step < 32; step *= 2) { /* the groups of the warp into one */
        const float other = __shfl_xor_sync(ADM_FULL_WARP, out->largest, step), largest = fmaxf(out->largest, other);
        const float shrink = weight_of(out->largest, largest);
        out->sum *= shrink;
        out->sum += __shfl_xor_sync(ADM_FULL_WARP, out->sum, step);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            out->value[i] *= shrink;
            out->value[i] += __shfl_xor_sync(ADM_FULL_WARP, out->value[i], step);
        }
        out->largest = largest;
    }
}

/* Partial results in shared memory: value [n][D] floats | largest and sum [n] float2. */
typedef struct step_partials {
    float *value;
    float2 *weight;
} step_partials;

template <int D> static __device__ __forceinline__ step_partials partials_at(float *memory, uint32_t n) {
    return step_partials{memory, (float2 *)(memory + n * D)};
}

/* Element i of the sum of n partials, the first at `first` and the others `stride` further each, scaled to the largest of
 * their maxima. */
template <int D>
static __device__ __forceinline__ float merged(const step_partials &partials, uint32_t first, uint32_t n, uint32_t stride,
                                               uint32_t i, float2 *weight) {
    float m = -INFINITY, value = 0, sum = 0;
#pragma unroll 8
    for (uint32_t r = 0; r < n; r++) m = fmaxf(m, partials.weight[first + r * stride].x);
#pragma unroll 8
    for (uint32_t r = 0; r < n; r++) {
        const float2 one = partials.weight[first + r * stride];
        const float w = weight_of(one.x, m);
        sum += w * one.y;
        value += w * partials.value[(first + r * stride) * D + i];
    }
    *weight = make_float2(m, sum);
    return value;
}

/* Attention of all heads of the block's slice over its part of their winners, merged in block 0 of the cluster. `list`:
 * [rows][plan.listed] tokens in shared memory. */
template <typename T, int D>
static __device__ __forceinline__ void attention(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                                 const step_plan &plan, const uint32_t *list, float *memory) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const uint32_t n_warps = STEP_WARPS / plan.heads, g = warp / n_warps, row = me.rows < me.heads ? 0 : g;
    const uint32_t n = min(s.rule.budget, me.length), share = (n + plan.split - 1) / plan.split;
    const uint32_t from = min(me.rank * share, n), mine = min(share, n - from);
    const size_t head = (size_t)me.b * s.heads.n_q_heads + me.first_head;
    const step_partials partials = partials_at<D>(memory, STEP_WARPS);
    const step_partials gathered = partials_at<D>(memory + STEP_WARPS * (D + 2), plan.split * plan.heads); /* block 0's */
    if (g < me.heads) {
        step_softmax sum;
        const uint32_t *tokens = plan.listed > 0 ? list + row * plan.listed
                                                 : p.index + (size_t)(me.first_row + row) * s.rule.budget + from;
        attend<T, D>(s, p, me, tokens, mine, (const T *)p.q + (head + g) * D, adm_team{warp % n_warps, n_warps}, &sum);
        if (lane < D / 8) {
            float4 *to = (float4 *)(partials.value + warp * D + 8 * lane);
            to[0] = make_float4(sum.value[0], sum.value[1], sum.value[2], sum.value[3]);
            to[1] = make_float4(sum.value[4], sum.value[5], sum.value[6], sum.value[7]);
        }
        if (lane == 0) partials.weight[warp] = make_float2(sum.largest, sum.sum);
    }
    __syncthreads();
    const step_partials there = {adm_cluster_peer(gathered.value, 0), adm_cluster_peer(gathered.weight, 0)};
    float2 weight;
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += STEP_THREADS) {
        const uint32_t to = me.rank * plan.heads + i / D;
        there.value[to * D + i % D] = merged<D>(partials, i / D * n_warps, n_warps, 1, i % D, &weight);
        if (i % D == 0) there.weight[to] = weight;
    }
    adm_cluster_arrive();
    if (me.rank != 0) return; /* nobody reads this block's memory any more */
    adm_cluster_wait();
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += STEP_THREADS) {
        const float value = merged<D>(gathered, i / D, plan.split, plan.heads, i % D, &weight);
        ((T *)p.out)[head * D + i] = adm_narrow<T>(weight.y > 0 ? value / weight.y : n > 0 ? NAN : 0.0f);
    }
}

/* ---- select ---- */

/* Every block adds up the cluster's histograms of each row; a team a row finds its cut of them. Where the bound was too
 * low, the cut is left as it is. */
static __device__ __forceinline__ void find_cuts(const step_block &me, const step_plan &plan, const step_found &found,
                                                 uint32_t *total, uint32_t *before, adm_cut *cuts, uint2 *sums) {
    const uint32_t n_warps = STEP_WARPS / plan.rows, row = threadIdx.x / 32 / n_warps; /* beyond me.rows there is none */
    const adm_team team = {threadIdx.x / 32 % n_warps, n_warps};
    for (uint32_t r = 0; r < me.rows; r++)
        for (uint32_t i = threadIdx.x; i <= found.bound[r]; i += STEP_THREADS) {
            const uint32_t bin = r * plan.n_bins + i;
            uint32_t counted[MAX_SPLIT], all = 0, earlier = 0;
#pragma unroll
            for (uint32_t k = 0; k < MAX_SPLIT; k++)
                counted[k] = k < plan.split ? adm_cluster_peer(found.histogram, k)[bin] : 0;
#pragma unroll
            for (uint32_t k = 0; k < MAX_SPLIT; k++) {
                all += counted[k];
                earlier += k < me.rank ? counted[k] : 0;
            }
            total[bin] = all;
            before[bin] = earlier;
        }
    __syncthreads();
    adm_contest contest = me.contest;
    if (row >= me.rows) contest.slots = 0;
    adm_find_cut(total + row * plan.n_bins, before + row * plan.n_bins, row < me.rows ? found.bound[row] + 1 : 0, contest,
                 me.start, team, sums + row * n_warps, &cuts[row]);
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
    __shared__ adm_cut cuts[MAX_HEADS];
    __shared__ uint32_t bounds[MAX_HEADS], n_listed[MAX_HEADS * STEP_WARPS];
    adm_query_planes<W> *query = (adm_query_planes<W> *)(shared + plan.query_at);
    uint32_t *list = (uint32_t *)(shared + plan.list_at), *histogram = (uint32_t *)(shared + plan.histogram_at);
    uint32_t *total = (uint32_t *)(shared + plan.total_at), *before = (uint32_t *)(shared + plan.before_at);
    const step_found found = {histogram, bounds, (uint32_t *)(shared + plan.candidates_at), n_listed};
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    const step_block me = block_of<W>(s, p, plan);
    const step_part part = part_of<W>(me);
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const uint32_t *row_planes = p.planes + kv_row * (s.capacity / 32) * (64 * W);
    const uint32_t *planes = row_planes + (size_t)me.start / 32 * (64 * W);
    const bool sampled = adm_worth_a_bound(me.contest);
    step_codes<W> sample, codes;
    if (sampled) load_sample<W>(me, row_planes, &sample);
    if (part.from < part.to) load_strip<W>(planes, (me.end - me.start + 31) / 32, part.from, &codes);
    prefetch_part(plan, planes, part);
    for (uint32_t bin = threadIdx.x; bin < me.rows * plan.n_bins; bin += STEP_THREADS) histogram[bin] = total[bin] = 0;
    if (threadIdx.x < MAX_HEADS * STEP_WARPS) n_listed[threadIdx.x] = 0;
    if (threadIdx.x < MAX_HEADS) cuts[threadIdx.x].boundary = UINT32_MAX, bounds[threadIdx.x] = plan.n_bins - 1;
    adm_wait_for_predecessors();
    adm_start_dependents();
    encode_rows<T, D>(s, p, me, plan, query);
    __syncthreads();
    if (sampled) find_bounds<W>(me, plan, sample, query, total, bounds);
    for (;;) {
        scan_part<W>(me, plan, planes, part, codes, query, found);
        adm_cluster_sync();
        find_cuts(me, plan, found, total, before, cuts, counts);
        bool again = false;
        for (uint32_t row = 0; row < me.rows; row++) again |= cuts[row].boundary == UINT32_MAX;
        if (!again) break;
        adm_cluster_sync(); /* everybody has read the histograms */
        for (uint32_t bin = threadIdx.x; bin < me.rows * plan.n_bins; bin += STEP_THREADS) histogram[bin] = 0;
        if (threadIdx.x < MAX_HEADS * STEP_WARPS) n_listed[threadIdx.x] = 0;
        if (threadIdx.x < MAX_HEADS) cuts[threadIdx.x].boundary = UINT32_MAX, bounds[threadIdx.x] = plan.n_bins - 1;
        if (part.from < part.to) load_strip<W>(planes, (me.end - me.start + 31) / 32, part.from, &codes);
        __syncthreads();
    }

    for (uint32_t row = 0; row < me.rows; row++) {
        uint2 n = make_uint2(0, 0);
        const adm_cut cut = cuts[row];
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
        const adm_cut cut = cuts[row];
        const uint2 earlier = lane < warp ? counts[row * STEP_WARPS + lane] : make_uint2(0, 0);
        uint2 at = make_uint2(cut.rank + __reduce_add_sync(ADM_FULL_WARP, earlier.x),
                              cut.ties + __reduce_add_sync(ADM_FULL_WARP, earlier.y));
        visit_part<W>(me, plan, planes, part, row, query, found, [&](bool there, uint32_t token, uint32_t key) {
            adm_put_winners(adm_winners(there, key, cut), cut, &at, [&](uint32_t place) {
                index[place] = part_start + token;
                if (plan.listed > 0) adm_cluster_peer(lists, place / share)[place % share] = part_start + token;
            });
        });
    }
    if (me.rank == 0 && threadIdx.x < me.rows) p.n_selected[me.first_row + threadIdx.x] = n;
    adm_cluster_sync();
    attention<T, D>(s, p, me, plan, list, (float *)shared);
#endif
}

/* ---- launcher ---- */

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }

/* Fills in sizes and offsets for plan->split; what does not fit goes through global memory. */
static void lay_out(step_plan *plan, const adm_gpu_shape *shape) {
    const uint32_t d = shape->heads.head_dim, split = plan->split;
    const uint32_t partials = (STEP_WARPS + split * plan->heads) * (d + 2) * (uint32_t)sizeof(float);
    const uint32_t histogram = round_up(plan->rows * plan->n_bins * (uint32_t)sizeof(uint32_t), 128);
    plan->query_at = round_up(partials, 128);
    plan->histogram_at = plan->query_at + round_up(plan->heads * d / 32 * 12, 128);
    plan->total_at = plan->histogram_at + histogram;
    plan->before_at = plan->total_at + histogram;
    plan->list_at = plan->before_at + histogram;
    plan->listed = (shape->rule.budget + split - 1) / split;
    uint32_t list = round_up(plan->rows * plan->listed * (uint32_t)sizeof(uint32_t), 128);
    if (list > 16 * 1024) plan->listed = list = 0;
    plan->candidates_at = plan->list_at + list;
    plan->room = LIST_ROOM / plan->rows;
    plan->shared_bytes = plan->candidates_at + plan->rows * STEP_WARPS * plan->room * (uint32_t)sizeof(uint32_t);
}

/* Heads a block and blocks a cluster: enough blocks that nine processors in ten have one. A group that shares its selection stays in one block. */
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
                                               uint32_t prefetch_bytes, adm_gpu_stream stream, adm_error *err) {
    static step_kernel *const kernels[3][2] = {{step_fused<__half, 64>, step_fused<__nv_bfloat16, 64>},
                                               {step_fused<__half, 128>, step_fused<__nv_bfloat16, 128>},
                                               {step_fused<__half, 256>, step_fused<__nv_bfloat16, 256>}};
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major < 9)
        return adm_fail(err, ADM_EUNSUPPORTED, "the fused step needs clusters of blocks, compute capability 9.0; the "
                        "device has %d.x: use the six stages", limits.compute_major);
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    const bool grouped = shape->selection == ADM_SELECT_GROUP;
    if (grouped && group > MAX_HEADS)
        return adm_fail(err, ADM_EUNSUPPORTED, "the fused step selects for groups of at most %d query heads, not %u: use "
                        "the six stages", MAX_HEADS, group);
    if (split > MAX_SPLIT || (split & (split - 1)) != 0)
        return adm_fail(err, ADM_EINPUT, "the fused step with %u blocks a cluster: they are 1, 2, 4 or 8", split);
    const uint32_t limit = (uint32_t)limits.block_shared_bytes - 1024; /* of which 1 KiB is the static memory's */
    step_plan plan = {};
    plan.split = split;
    plan.n_bins = 3 * shape->heads.head_dim * (grouped ? group : 1) + 1;
    plan.prefetch_bytes = prefetch_bytes;
    cut_up(&plan, shape, limits.n_sms);
    lay_out(&plan, shape);
    adm_gpu_grid grid = {};
    grid.blocks = dim3(plan.split, shape->heads.n_kv_heads * plan.slices, shape->batch);
    grid.threads = STEP_THREADS;
    grid.cluster = plan.split;
    grid.shared_bytes = plan.shared_bytes;
    grid.dependent = true;
    if (grid.shared_bytes > limit)
        return adm_fail(err, ADM_EUNSUPPORTED, "the fused step needs %zu bytes of shared memory a block for distances up to "
                        "%u, and this device has %d: use the six stages", grid.shared_bytes, plan.n_bins - 1,
                        limits.block_shared_bytes);
    const void *kernel = (const void *)kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)];
    void *args[] = {(void *)shape, (void *)buffers, &plan};
    return adm_gpu_launch("fused step", kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_step_fused(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                         adm_gpu_stream stream, adm_error *err) {
    return adm_gpu_step_fused_tuned(shape, buffers, 0, 0, stream, err);
}
