/* fused.cu: a whole decode step of one layer in one launch.
 *
 * A cluster of blocks serves one KV head of one sequence with some of its query heads, and each block has a chunk of the
 * tokens. Distances, histograms and lists of winners stay in shared memory, so that beyond q, the new rows and the result
 * only codes and the selected rows of K and V move:
 *
 *   per warp   codes -> ring of bulk copies in shared memory -> distances, histogram
 *   meanwhile  q and the new key are transformed; the new key, its value and codes join the caches
 *   cluster    read one another's histograms: the cut; hand each winner to the block that will attend to it (select.cuh)
 *   cluster    attention: block r takes the r-th part of each row's winners, whoever found them; a warp a few tokens
 *   cluster    partial results go to block 0, which merges and writes
 *
 * A row is what one selection is made for: a query head, or the group where the group shares one. The newest token is in
 * by force, so nobody needs the code that this very step appends; all others may be fetched while the kernel before this
 * one still runs: the ring is filled, and the rest of the chunk is on its way into L2.
 *
 * History (us on an H200, budget 256, cold, in a graph: 32 KV heads at 32K / 128K; 8 KV heads at 32K / 128K):
 *   1  as above, codes fetched after the wait, winners through global memory, clusters up to 16       26.5 / 68.5; 30.4 / 72.9
 *      The same time for the same (token, query head) pairs, however many bytes: bound by the scan's instructions, 440
 *      issue slots a warp's tile. */
#include <cmath>

#include "kernels/distance.cuh"
#include "kernels/encode.cuh"
#include "kernels/select.cuh"

enum { STEP_WARPS = 16, STEP_THREADS = 32 * STEP_WARPS, PIECE_BYTES = 2048, MAX_HEADS = 8, MAX_SPLIT = 8, MAX_STAGES = 4 };

/* How the work is cut, and where in shared memory things lie (bytes). */
typedef struct step_plan {
    uint32_t heads;       /* query heads a block: a power of two up to MAX_HEADS; the last slice may have fewer */
    uint32_t slices;      /* blocks a KV head's group takes */
    uint32_t rows;        /* selections a block: heads, or 1 where the group shares one */
    uint32_t split;       /* blocks a cluster */
    uint32_t stages;      /* pieces in flight a warp */
    uint32_t prefetch_bytes; /* of a chunk, beyond the ring, that go to L2 before the wait */
    uint32_t kept_tokens; /* of a chunk's distances in shared memory; 0: they go through buffers.distance */
    uint32_t listed;      /* winners a block attends to, a row, in shared memory; 0: they come from buffers.index */
    uint32_t n_bins;
    uint32_t query_at, histogram_at, total_at, before_at, barrier_at, list_at, kept_at; /* ring, later partials: 0 */
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

template <int W> struct step_piece {
    static const int tiles = PIECE_BYTES / (256 * W);
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
    const uint32_t unit = step_piece<W>::tokens;
    const uint32_t tokens = ((me.length + plan.split - 1) / plan.split + unit - 1) / unit * unit;
    me.start = min(me.rank * tokens, me.length);
    me.end = min(me.start + tokens, me.length);
    return me;
}

/* ---- codes to distances ---- */

/* One warp's ring of pieces. */
typedef struct step_ring {
    unsigned char *slots;
    uint64_t *barriers;
    const unsigned char *codes; /* of the chunk */
    uint32_t bytes;             /* of the chunk's tiles */
} step_ring;

static __device__ __forceinline__ void fetch_piece(const step_ring &ring, uint32_t piece, uint32_t slot) {
    const uint32_t at = piece * PIECE_BYTES;
    if (at < ring.bytes)
        adm_bulk_copy(ring.slots + slot * PIECE_BYTES, ring.codes + at, min(ring.bytes - at, (uint32_t)PIECE_BYTES),
                      &ring.barriers[slot]);
}

/* The pieces that a warp asks for before or after the wait: the one with the newest token is for after. */
template <int W>
static __device__ __forceinline__ void fill_ring(const step_block &me, const step_plan &plan, const step_ring &ring,
                                                 bool newest) {
    for (uint32_t slot = 0; slot < plan.stages; slot++) {
        const uint32_t piece = threadIdx.x / 32 + slot * STEP_WARPS;
        if ((me.start + (piece + 1) * step_piece<W>::tokens >= me.length) == newest) fetch_piece(ring, piece, slot);
    }
}

/* What the ring does not hold, a part a warp, towards L2. */
static __device__ __forceinline__ void prefetch_chunk(const step_plan &plan, const step_ring &ring) {
    const uint32_t from = STEP_WARPS * plan.stages * PIECE_BYTES, end = min(ring.bytes, from + plan.prefetch_bytes);
    if (from >= end) return;
    const uint32_t part = ((end - from) / STEP_WARPS + 127) / 128 * 128, mine = from + threadIdx.x / 32 * part;
    if (mine < end) adm_prefetch_l2_bulk(ring.codes + mine, min(part, end - mine));
}

/* kept: the first row's distances of the chunk; rows are `stride` apart. */
template <int W>
static __device__ __forceinline__ void scan_chunk(const step_block &me, const step_plan &plan, const step_ring &ring,
                                                  const adm_query_planes<W> *query, uint32_t *histogram,
                                                  uint16_t *shared_kept, uint16_t *global_kept, size_t global_stride) {
    const int n = step_piece<W>::tiles;
    const uint32_t lane = threadIdx.x % 32;
    const bool grouped = me.rows < me.heads;
    uint32_t slot = 0, parity = 0;
    adm_query_planes<W> q = query[0];
    for (uint32_t piece = threadIdx.x / 32; piece * PIECE_BYTES < ring.bytes; piece += STEP_WARPS) {
        const uint32_t *tile = (const uint32_t *)(ring.slots + slot * PIECE_BYTES);
        uint32_t high[n][W], low[n][W], sum[n] = {};
        adm_barrier_wait(&ring.barriers[slot], parity);
#pragma unroll
        for (int i = 0; i < n; i++) adm_read_tile<W>(tile + i * 64 * W, high[i], low[i]);
        __syncwarp();
        if (lane == 0) fetch_piece(ring, piece + plan.stages * STEP_WARPS, slot);
        if (++slot == plan.stages) slot = 0, parity ^= 1;
        const uint32_t at = piece * step_piece<W>::tokens, token = me.start + at; /* the piece's first */
        const bool plain = plan.kept_tokens > 0 && token >= me.contest.first &&
                           token + step_piece<W>::tokens <= min(me.contest.last, me.end);
        uint16_t *kept = shared_kept + at + lane;
        uint32_t *bins = histogram;
        for (uint32_t g = 0; g < me.heads; g++) {
            if (me.heads > 1) q = query[g];
            uint32_t d[n];
#pragma unroll
            for (int i = 0; i < n; i++) {
                d[i] = adm_distance_of<W, ADM_METRIC_L1>(q, high[i], low[i]);
                sum[i] += d[i];
                if (grouped) d[i] = sum[i];
            }
            if (grouped && g + 1 < me.heads) continue;
            if (plain) {
#pragma unroll
                for (int i = 0; i < n; i++) {
                    kept[32 * i] = (uint16_t)d[i];
                    atomicAdd(&bins[d[i]], 1u);
                }
            } else {
#pragma unroll
                for (int i = 0; i < n; i++) {
                    const uint32_t t = token + lane + 32 * i;
                    if (t >= me.end) continue;
                    if (plan.kept_tokens > 0) kept[32 * i] = (uint16_t)d[i];
                    else global_kept[(grouped ? 0 : g) * global_stride + (t - me.start)] = (uint16_t)d[i];
                    if (adm_competes(me.contest, t)) atomicAdd(&bins[d[i]], 1u);
                }
            }
            kept += plan.kept_tokens;
            bins += plan.n_bins;
        }
    }
}

/* ---- the new token and the queries ---- */

template <typename T, int D>
static __device__ __forceinline__ void encode_rows(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                                   const step_plan &plan, adm_query_planes<D / 32> *query) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const bool newest = warp == STEP_WARPS - 1 && me.rank == plan.split - 1 && blockIdx.y % plan.slices == 0 &&
                        me.length > 0;
    if (warp >= me.heads && !newest) return;
    const T *x = newest ? (const T *)p.k_new + kv_row * D
                        : (const T *)p.q + ((size_t)me.b * s.heads.n_q_heads + me.first_head + warp) * D;
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
        for (int w = 0; w < D / 32; w++) adm_query_word<D / 32>(&query[warp], w, high[w], low[w]);
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

/* Every block adds up the cluster's histograms of each row; a team a row finds its cut of them. */
static __device__ __forceinline__ void find_cuts(const step_block &me, const step_plan &plan, uint32_t *histogram,
                                                 uint32_t *total, uint32_t *before, const adm_team &team, uint32_t row,
                                                 uint2 *sums, adm_cut *cuts) {
    for (uint32_t bin = threadIdx.x; bin < me.rows * plan.n_bins; bin += STEP_THREADS) {
        uint32_t counted[MAX_SPLIT], all = 0, earlier = 0;
#pragma unroll
        for (uint32_t r = 0; r < MAX_SPLIT; r++) counted[r] = r < plan.split ? adm_cluster_peer(histogram, r)[bin] : 0;
#pragma unroll
        for (uint32_t r = 0; r < MAX_SPLIT; r++) {
            all += counted[r];
            earlier += r < me.rank ? counted[r] : 0;
        }
        total[bin] = all;
        before[bin] = earlier;
    }
    __syncthreads();
    adm_contest contest = me.contest;
    if (row >= me.rows) contest.slots = 0; /* nothing was counted there */
    adm_find_cut(total + row * plan.n_bins, before + row * plan.n_bins, plan.n_bins, contest, me.start, team, sums,
                 &cuts[row]);
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
    __shared__ uint2 counts[STEP_WARPS];
    __shared__ adm_cut cuts[MAX_HEADS];
    adm_query_planes<W> *query = (adm_query_planes<W> *)(shared + plan.query_at);
    uint32_t *histogram = (uint32_t *)(shared + plan.histogram_at), *list = (uint32_t *)(shared + plan.list_at);
    uint16_t *kept = (uint16_t *)(shared + plan.kept_at);
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    const step_block me = block_of<W>(s, p, plan);
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    step_ring ring;
    ring.slots = shared + warp * plan.stages * PIECE_BYTES;
    ring.barriers = (uint64_t *)(shared + plan.barrier_at) + warp * plan.stages;
    ring.codes = (const unsigned char *)(p.planes + (kv_row * s.capacity + me.start) / 32 * (64 * W));
    ring.bytes = (me.end - me.start + 31) / 32 * (256 * W);
    if (lane == 0) {
        for (uint32_t slot = 0; slot < plan.stages; slot++) adm_barrier_init(&ring.barriers[slot]);
        adm_barrier_fence();
        fill_ring<W>(me, plan, ring, false);
        prefetch_chunk(plan, ring);
    }
    for (uint32_t bin = threadIdx.x; bin < me.rows * plan.n_bins; bin += STEP_THREADS) histogram[bin] = 0;
    adm_wait_for_predecessors();
    adm_start_dependents();
    if (lane == 0) fill_ring<W>(me, plan, ring, true);
    __syncwarp();
    encode_rows<T, D>(s, p, me, plan, query);
    __syncthreads();

    uint16_t *far = p.distance + (size_t)me.first_row * s.capacity + me.start;
    scan_chunk<W>(me, plan, ring, query, histogram, kept, far, s.capacity);
    adm_cluster_sync();

    const uint32_t n_warps = STEP_WARPS / plan.rows, row = warp / n_warps; /* a row beyond me.rows is empty */
    const adm_team team = {warp % n_warps, n_warps};
    uint32_t *index = p.index + (size_t)(me.first_row + row) * s.rule.budget;
    const uint32_t n = min(s.rule.budget, me.length), share = (n + plan.split - 1) / plan.split;
    find_cuts(me, plan, histogram, (uint32_t *)(shared + plan.total_at), (uint32_t *)(shared + plan.before_at), team, row,
              counts + row * n_warps, cuts);
    const uint16_t *distance = plan.kept_tokens > 0 ? kept + row * plan.kept_tokens : far + row * (size_t)s.capacity;
    adm_write_winners(distance, me.start, row < me.rows ? me.end : me.start, me.contest, cuts[row], team,
                      counts + row * n_warps, [&](uint32_t place, uint32_t token) {
                          index[place] = token;
                          if (plan.listed > 0)
                              adm_cluster_peer(list + row * plan.listed, place / share)[place % share] = token;
                      });
    if (me.rank == 0 && threadIdx.x < me.rows) p.n_selected[me.first_row + threadIdx.x] = n;
    adm_cluster_sync();
    attention<T, D>(s, p, me, plan, list, (float *)shared);
#endif
}

/* ---- launcher ---- */

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }

/* Fills in sizes and offsets for plan->split and plan->stages; what does not fit goes through global memory. */
static void lay_out(step_plan *plan, const adm_gpu_shape *shape, uint32_t shared_limit) {
    const uint32_t d = shape->heads.head_dim, split = plan->split;
    const uint32_t ring = STEP_WARPS * plan->stages * PIECE_BYTES;
    const uint32_t partials = (STEP_WARPS + split * plan->heads) * (d + 2) * (uint32_t)sizeof(float);
    const uint32_t histogram = round_up(plan->rows * plan->n_bins * (uint32_t)sizeof(uint32_t), 128);
    plan->query_at = round_up(ring > partials ? ring : partials, 128);
    plan->histogram_at = plan->query_at + round_up(plan->heads * d / 32 * 12, 128);
    plan->total_at = plan->histogram_at + histogram;
    plan->before_at = plan->total_at + histogram;
    plan->barrier_at = plan->before_at + histogram;
    plan->list_at = plan->barrier_at + round_up(STEP_WARPS * plan->stages * (uint32_t)sizeof(uint64_t), 128);
    plan->listed = (shape->rule.budget + split - 1) / split;
    uint32_t list = round_up(plan->rows * plan->listed * (uint32_t)sizeof(uint32_t), 128);
    if (list > 16 * 1024) plan->listed = list = 0;
    plan->kept_at = plan->list_at + list;
    const uint32_t kept_tokens = round_up((shape->capacity + split - 1) / split, PIECE_BYTES * 4 / d);
    const uint64_t kept = (uint64_t)plan->rows * kept_tokens * sizeof(uint16_t);
    plan->kept_tokens = plan->kept_at + kept <= shared_limit ? kept_tokens : 0;
    plan->shared_bytes = plan->kept_at + (plan->kept_tokens > 0 ? (uint32_t)kept : 0);
}

/* Heads a block and blocks a cluster: enough blocks that nine processors in ten have one, and a chunk whose distances
 * leave room for the ring. A group that shares its selection stays in one block. */
static void cut_up(step_plan *plan, const adm_gpu_shape *shape, int n_sms) {
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads, wanted = (uint32_t)n_sms * 9 / 10;
    const bool grouped = shape->selection == ADM_SELECT_GROUP;
    uint32_t heads = 1, split = plan->split > 0 ? plan->split : 1;
    while (heads < group && heads < MAX_HEADS) heads *= 2;
    for (;;) {
        plan->heads = heads;
        plan->slices = (group + heads - 1) / heads;
        plan->rows = grouped ? 1 : heads;
        const uint32_t n_clusters = shape->batch * shape->heads.n_kv_heads * plan->slices;
        if (plan->split == 0)
            for (split = 1; split < MAX_SPLIT && (split * n_clusters < wanted || (uint64_t)plan->rows * shape->capacity >
                                                  split * 32768u);)
                split *= 2;
        if (split * n_clusters >= wanted || heads == 1 || grouped) break;
        heads /= 2;
    }
    plan->split = split;
}

typedef void step_kernel(const adm_gpu_shape, const adm_gpu_buffers, const step_plan);

extern "C" adm_status adm_gpu_step_fused_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, uint32_t split,
                                               uint32_t stages, uint32_t prefetch_bytes, adm_gpu_stream stream,
                                               adm_error *err) {
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
    if (split > MAX_SPLIT || (split & (split - 1)) != 0 || stages > MAX_STAGES)
        return adm_fail(err, ADM_EINPUT, "the fused step with %u blocks a cluster and %u pieces in flight a warp: 1, 2, 4 "
                        "or 8, and up to %d", split, stages, MAX_STAGES);
    const uint32_t limit = (uint32_t)limits.block_shared_bytes - 1024; /* of which 1 KiB is the static memory's */
    step_plan plan = {};
    plan.split = split;
    plan.n_bins = 3 * shape->heads.head_dim * (grouped ? group : 1) + 1;
    plan.prefetch_bytes = prefetch_bytes;
    cut_up(&plan, shape, limits.n_sms);
    /* A ring of two pieces, if two blocks then fit a processor and one can fill it while the other selects; else the
     * longest that fits. */
    plan.stages = stages > 0 ? stages : 2;
    lay_out(&plan, shape, limit);
    while (stages == 0 && plan.stages < MAX_STAGES && plan.shared_bytes > limit / 2 - 1024) {
        const step_plan before = plan;
        plan.stages++;
        lay_out(&plan, shape, limit);
        if (plan.kept_tokens < before.kept_tokens) { /* distances in shared memory are worth more */
            plan = before;
            break;
        }
    }
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
    return adm_gpu_step_fused_tuned(shape, buffers, 0, 0, 192 * 1024, stream, err);
}
