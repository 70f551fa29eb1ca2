/* fused.cu: a whole decode step of one layer in one launch.
 *
 * A cluster of blocks serves one KV head of one sequence with up to 8 of its query heads; each block has a chunk of the
 * tokens. Distances and histograms stay in shared memory, so that beyond q, the new rows and the result only codes and
 * the selected rows of K and V move:
 *
 *   per warp   codes -> ring of bulk copies in shared memory -> distances, histogram
 *   meanwhile  q and the new key are transformed; the new key, its value and codes join the caches
 *   cluster    read one another's histograms: the cut; write winners to index (select.cuh)
 *   cluster    attention: block r takes the r-th part of each head's winners, whoever found them; a warp a few rows
 *   cluster    partial results go to block 0, which merges and writes
 *
 * The newest token is in by force, so nobody needs the code that this very step appends.
 *
 * History (none is timed yet: tests/gpu_bench.cu, with SWEEP=1 over clusters and rings):
 *   1  as above */
#include <cmath>

#include "kernels/distance.cuh"
#include "kernels/encode.cuh"
#include "kernels/select.cuh"

enum { STEP_WARPS = 16, STEP_THREADS = 32 * STEP_WARPS, PIECE_BYTES = 2048, MAX_HEADS = 8, MAX_CLUSTER = 16 };

/* How the work is cut, and where in shared memory things lie (bytes). */
typedef struct step_plan {
    uint32_t heads;       /* query heads a block, at most MAX_HEADS */
    uint32_t slices;      /* blocks a KV head's group takes */
    uint32_t stages;      /* pieces in flight a warp */
    uint32_t kept_tokens; /* of a chunk, in shared memory; 0: distances go through buffers.distance */
    uint32_t n_bins;
    uint32_t query_at, histogram_at, total_at, before_at, barrier_at, kept_at; /* the ring and later the partials: 0 */
    uint32_t shared_bytes;
} step_plan;

#if __CUDA_ARCH__ >= 900

/* The block's share of the step. */
typedef struct step_block {
    uint32_t b, kv_head, first_head, heads; /* query heads first_head .. first_head + heads - 1, within the sequence */
    uint32_t rank, split;
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
    me.rank = adm_cluster_rank();
    me.split = gridDim.x;
    me.length = p.length[me.b];
    me.contest = adm_contest_of(s.rule, me.length);
    const uint32_t unit = step_piece<W>::tokens;
    const uint32_t tokens = ((me.length + me.split - 1) / me.split + unit - 1) / unit * unit;
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

template <int W> static __device__ __forceinline__ void read_plane(const uint32_t *plane, uint32_t (&words)[W]) {
    const uint32_t lane = threadIdx.x % 32;
    if (W == 2) {
        const uint2 x = ((const uint2 *)plane)[lane];
        words[0] = x.x, words[1] = x.y;
    } else {
#pragma unroll
        for (int i = 0; i < W / 4; i++) {
            const uint4 x = ((const uint4 *)plane)[lane * (W / 4) + i];
            words[4 * i] = x.x, words[4 * i + 1] = x.y, words[4 * i + 2] = x.z, words[4 * i + 3] = x.w;
        }
    }
}

/* kept: the first head's distances of the chunk; heads are `stride` apart. */
template <int W>
static __device__ __forceinline__ void scan_chunk(const step_block &me, const step_plan &plan, const step_ring &ring,
                                                  const adm_query_planes<W> *query, uint32_t *histogram, uint16_t *kept,
                                                  size_t stride) {
    const int n = step_piece<W>::tiles;
    const uint32_t lane = threadIdx.x % 32;
    uint32_t slot = 0, parity = 0;
    for (uint32_t piece = threadIdx.x / 32; piece * PIECE_BYTES < ring.bytes; piece += STEP_WARPS) {
        const uint32_t *tile = (const uint32_t *)(ring.slots + slot * PIECE_BYTES);
        uint32_t high[n][W], low[n][W];
        adm_barrier_wait(&ring.barriers[slot], parity);
#pragma unroll
        for (int i = 0; i < n; i++) {
            read_plane<W>(tile + i * 64 * W, high[i]);
            read_plane<W>(tile + i * 64 * W + 32 * W, low[i]);
        }
        __syncwarp();
        if (lane == 0) fetch_piece(ring, piece + plan.stages * STEP_WARPS, slot);
        if (++slot == plan.stages) slot = 0, parity ^= 1;
        const uint32_t at = piece * step_piece<W>::tokens + lane; /* in the chunk */
        for (uint32_t g = 0; g < me.heads; g++) {
            const adm_query_planes<W> q = query[g];
            uint32_t *bins = histogram + g * plan.n_bins;
#pragma unroll
            for (int i = 0; i < n; i++) {
                const uint32_t d = adm_distance_of<W, ADM_METRIC_L1>(q, high[i], low[i]);
                const uint32_t token = me.start + at + 32 * i;
                if (token < me.end) {
                    kept[g * stride + at + 32 * i] = (uint16_t)d;
                    if (adm_competes(me.contest, token)) atomicAdd(&bins[d], 1u);
                }
            }
        }
    }
}

/* ---- the new token and the queries ---- */

template <typename T, int D>
static __device__ __forceinline__ void encode_rows(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                                   adm_query_planes<D / 32> *query) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    const bool newest = warp == STEP_WARPS - 1 && me.rank == me.split - 1 && me.length > 0;
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

/* The rows of `index` [from, to) that this warp takes: lanes in groups of D/8, a group a row, 4 rows in flight each. */
template <typename T, int D>
static __device__ __forceinline__ void attend(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                              const uint32_t *index, const T *q_row, uint32_t from, uint32_t to,
                                              uint32_t warp, uint32_t n_warps, step_softmax *out) {
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

    for (uint32_t base = from + warp * rows; base < to; base += flight * rows * n_warps) {
        uint32_t token[flight];
        uint4 k[flight], v[flight];
        float score[flight];
#pragma unroll
        for (int r = 0; r < flight; r++) { /* past the end the last one again, with no weight: no branch between loads */
            const uint32_t j = base + r * rows * n_warps + lane / lanes;
            token[r] = __ldcg(&index[min(j, to - 1)]);
            score[r] = j < to ? 0.0f : -INFINITY;
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

/* A partial result in memory: [value, D floats | largest | sum]. Element i of the sum of n of them, `stride` floats
 * apart, scaled to the largest of their maxima. */
template <int D>
static __device__ __forceinline__ float merged(const float *partials, uint32_t n, size_t stride, uint32_t i,
                                               float *largest, float *sum) {
    float m = -INFINITY, value = 0;
    for (uint32_t r = 0; r < n; r++) m = fmaxf(m, partials[r * stride + D]);
    *sum = 0;
    for (uint32_t r = 0; r < n; r++) {
        const float w = weight_of(partials[r * stride + D], m);
        *sum += w * partials[r * stride + D + 1];
        value += w * partials[r * stride + i];
    }
    *largest = m;
    return value;
}

/* Attention of all heads of the block's slice over its part of their winners, merged in block 0 of the cluster. */
template <typename T, int D>
static __device__ __forceinline__ void attention(const adm_gpu_shape &s, const adm_gpu_buffers &p, const step_block &me,
                                                 const step_plan &plan, float *partials) {
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32, stride = D + 2;
    const uint32_t team = STEP_WARPS / me.heads, g = warp / team; /* warps a head */
    const size_t row = (size_t)me.b * s.heads.n_q_heads + me.first_head;
    const uint32_t n = min(s.rule.budget, me.length), share = (n + me.split - 1) / me.split;
    const uint32_t from = min(me.rank * share, n), to = min(from + share, n);
    float *gathered = partials + STEP_WARPS * stride; /* [split][plan.heads][stride], used in block 0 */
    if (g < me.heads) {
        step_softmax mine;
        attend<T, D>(s, p, me, p.index + (row + g) * s.rule.budget, (const T *)p.q + (row + g) * D, from, to, warp % team,
                     team, &mine);
        float *to_warp = partials + warp * stride;
        if (lane < D / 8)
            for (int i = 0; i < 8; i++) to_warp[8 * lane + i] = mine.value[i];
        if (lane == 0) to_warp[D] = mine.largest, to_warp[D + 1] = mine.sum;
    }
    __syncthreads();
    float *there = adm_cluster_peer(gathered, 0) + me.rank * plan.heads * stride;
    float largest, sum;
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += STEP_THREADS) {
        const uint32_t head = i / D;
        there[head * stride + i % D] = merged<D>(partials + head * team * stride, team, stride, i % D, &largest, &sum);
        if (i % D == 0) there[head * stride + D] = largest, there[head * stride + D + 1] = sum;
    }
    adm_cluster_sync();
    if (me.rank != 0) return;
    for (uint32_t i = threadIdx.x; i < me.heads * D; i += STEP_THREADS) {
        const float value = merged<D>(gathered + i / D * stride, me.split, plan.heads * stride, i % D, &largest, &sum);
        ((T *)p.out)[row * D + i] = adm_narrow<T>(sum > 0 ? value / sum : n > 0 ? NAN : 0.0f);
    }
}

/* ---- select ---- */

/* Every block adds up the cluster's histograms of each head and finds its own cut. */
static __device__ __forceinline__ void find_cuts(const step_block &me, const step_plan &plan, uint32_t *histogram,
                                                 uint32_t *total, uint32_t *before, adm_cut *cuts) {
    const uint32_t warp = threadIdx.x / 32;
    for (uint32_t bin = threadIdx.x; bin < me.heads * plan.n_bins; bin += STEP_THREADS) {
        uint32_t all = 0, earlier = 0;
#pragma unroll 8
        for (uint32_t r = 0; r < me.split; r++) {
            const uint32_t counted = adm_cluster_peer(histogram, r)[bin];
            all += counted;
            earlier += r < me.rank ? counted : 0;
        }
        total[bin] = all;
        before[bin] = earlier;
    }
    __syncthreads();
    if (warp < me.heads) {
        const adm_cut cut = adm_cut_of(total + warp * plan.n_bins, before + warp * plan.n_bins, plan.n_bins, me.contest,
                                       me.start);
        if (threadIdx.x % 32 == 0) cuts[warp] = cut;
    }
    __syncthreads();
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
    __shared__ uint32_t counts[2 * STEP_WARPS];
    __shared__ adm_cut cuts[MAX_HEADS];
    adm_query_planes<W> *query = (adm_query_planes<W> *)(shared + plan.query_at);
    uint32_t *histogram = (uint32_t *)(shared + plan.histogram_at), *total = (uint32_t *)(shared + plan.total_at);
    uint32_t *before = (uint32_t *)(shared + plan.before_at);
    const uint32_t warp = threadIdx.x / 32, lane = threadIdx.x % 32;

    step_ring ring;
    ring.slots = shared + warp * plan.stages * PIECE_BYTES;
    ring.barriers = (uint64_t *)(shared + plan.barrier_at) + warp * plan.stages;
    if (lane == 0) {
        for (uint32_t slot = 0; slot < plan.stages; slot++) adm_barrier_init(&ring.barriers[slot]);
        adm_barrier_fence();
    }
    adm_wait_for_predecessors();
    const step_block me = block_of<W>(s, p, plan);
    const size_t kv_row = (size_t)me.b * s.heads.n_kv_heads + me.kv_head;
    ring.codes = (const unsigned char *)(p.planes + (kv_row * s.capacity + me.start) / 32 * (64 * W));
    ring.bytes = (me.end - me.start + 31) / 32 * (256 * W);
    __syncwarp();
    if (lane == 0)
        for (uint32_t slot = 0; slot < plan.stages; slot++) fetch_piece(ring, warp + slot * STEP_WARPS, slot);
    for (uint32_t bin = threadIdx.x; bin < me.heads * plan.n_bins; bin += STEP_THREADS) histogram[bin] = 0;
    encode_rows<T, D>(s, p, me, query);
    __syncthreads();

    const size_t row = (size_t)me.b * s.heads.n_q_heads + me.first_head;
    uint16_t *kept = (uint16_t *)(shared + plan.kept_at);
    size_t stride = plan.kept_tokens;
    if (plan.kept_tokens == 0) kept = p.distance + row * s.capacity + me.start, stride = s.capacity;
    scan_chunk<W>(me, plan, ring, query, histogram, kept, stride);
    adm_cluster_sync();

    find_cuts(me, plan, histogram, total, before, cuts);
    const uint32_t team = STEP_WARPS / me.heads, g = min(warp / team, me.heads - 1);
    adm_write_winners(kept + g * stride, me.start, me.end, me.contest, cuts[g], warp - g * team,
                      g == me.heads - 1 ? STEP_WARPS - g * team : team, counts + 2 * g * team,
                      p.index + (row + g) * s.rule.budget);
    if (me.rank == 0 && threadIdx.x < me.heads) p.n_selected[row + threadIdx.x] = min(s.rule.budget, me.length);
    adm_cluster_sync();
    attention<T, D>(s, p, me, plan, (float *)shared);
#endif
}

/* ---- launcher ---- */

static uint32_t round_up(uint32_t n, uint32_t unit) { return (n + unit - 1) / unit * unit; }

/* Fills in the offsets for a cluster of `split` blocks. */
static void lay_out(step_plan *plan, const adm_gpu_shape *shape, uint32_t split, uint32_t shared_limit) {
    const uint32_t d = shape->heads.head_dim, heads = plan->heads;
    const uint32_t ring = STEP_WARPS * plan->stages * PIECE_BYTES;
    const uint32_t partials = (STEP_WARPS + split * heads) * (d + 2) * (uint32_t)sizeof(float);
    const uint32_t histogram = round_up(heads * plan->n_bins * (uint32_t)sizeof(uint32_t), 128);
    plan->query_at = round_up(ring > partials ? ring : partials, 128);
    plan->histogram_at = plan->query_at + round_up(heads * d / 32 * 12, 128);
    plan->total_at = plan->histogram_at + histogram;
    plan->before_at = plan->total_at + histogram;
    plan->barrier_at = plan->before_at + histogram;
    plan->kept_at = plan->barrier_at + round_up(STEP_WARPS * plan->stages * (uint32_t)sizeof(uint64_t), 128);
    const uint32_t kept_tokens = round_up((shape->capacity + split - 1) / split, PIECE_BYTES * 4 / d);
    const uint64_t kept = (uint64_t)heads * kept_tokens * sizeof(uint16_t);
    plan->kept_tokens = plan->kept_at + kept <= shared_limit ? kept_tokens : 0;
    plan->shared_bytes = plan->kept_at + (plan->kept_tokens > 0 ? (uint32_t)kept : 0);
}

/* Blocks a cluster: enough that nine processors in ten have one, and that the distances of a chunk stay within 32 KiB, so
 * that two blocks fit a processor and one streams while the other selects. */
static uint32_t split_of(const adm_gpu_shape *shape, const step_plan *plan, int n_sms) {
    const uint32_t n_clusters = shape->batch * shape->heads.n_kv_heads * plan->slices;
    uint32_t split = 1;
    while (split < MAX_CLUSTER && (split * n_clusters * 10 < (uint32_t)n_sms * 9 ||
                                   (uint64_t)plan->heads * shape->capacity * sizeof(uint16_t) > split * 32768u))
        split *= 2;
    return split;
}

typedef void step_kernel(const adm_gpu_shape, const adm_gpu_buffers, const step_plan);

extern "C" adm_status adm_gpu_step_fused_split(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                               uint32_t split, uint32_t stages, adm_gpu_stream stream, adm_error *err) {
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
    step_plan plan = {};
    plan.heads = group < MAX_HEADS ? group : (uint32_t)MAX_HEADS;
    plan.slices = (group + plan.heads - 1) / plan.heads;
    plan.stages = stages > 0 ? stages : 2; /* with 16 warps 64 KiB on their way */
    plan.n_bins = 3 * shape->heads.head_dim + 1;
    const void *kernel = (const void *)kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)];
    adm_gpu_grid grid = {};
    grid.blocks = dim3(0, shape->heads.n_kv_heads * plan.slices, shape->batch);
    grid.threads = STEP_THREADS;
    grid.dependent = true;
    if (split == 0) split = split_of(shape, &plan, limits.n_sms);
    for (int fit = 0; fit == 0; split /= 2) {
        lay_out(&plan, shape, split, (uint32_t)limits.block_shared_bytes - 1024);
        grid.blocks.x = grid.cluster = split;
        grid.shared_bytes = plan.shared_bytes;
        fit = 1;
        if (split > 8) status = adm_gpu_clusters_fit(kernel, grid, &fit, err); /* 8 is what every chip holds */
        if (status != ADM_OK) return status;
    }
    void *args[] = {(void *)shape, (void *)buffers, &plan};
    return adm_gpu_launch("fused step", kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_step_fused(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                         adm_gpu_stream stream, adm_error *err) {
    return adm_gpu_step_fused_split(shape, buffers, 0, 0, stream, err);
}
