/* dense.cu: attention over every token, the baseline that selecting has to beat; see dense.h.
 *
 *   q [batch][n_q_heads][d]    out [batch][n_q_heads][d]    length [batch]
 *
 *     sequence 0, KV head 0 | head 1 | ... | sequence 1, head 0 | ...      one line of tiles; an item is a KV head of a
 *     sequence [ team 0 )[ team 1 )[ team 2 )[ ...                                  equal chunks, whatever the lengths
 *
 * Versions, us, d = 128, cold: 32 KV heads 32K / 128K; 8 KV heads 32K / 128K (more: kernels/LOG.md)
 *   1  one block per SM, 12 warps, a tile of K and V in flight in each               not timed
 *   2  operands ordered so that nothing is moved or waited for                       not timed
 *   3  the merge loads four partial results at once                                  H200 128.7 / 488.8; 38.9
 *   4  the first tiles to L2 before the wait; every warp adds up                     H200 126.2 / 478.7; 38.2
 *   5  the first tiles into registers before the wait                                H200 123.1 / 476.0; 36.0
 *   6  blocks that end where heads do       H200 123.6 / 476.5; 36.1, H100 179.3 / 703.6; 49.3 / 180.4
 *   7  teams of blocks per item      H100 177.8 / 698.9; 49.7 / 179.9, H200 128.1 / 493; 37.0 / 129
 *   8  tiles by bulk copies into a ring per warp; teams are clusters, which share their sums and the merge
 *                                                                                    H200 123.7 / 481.0; 35.2 / 125.7
 *   9  a fence of shared memory where a team meets: without it was a race           H200 124.2 / 483.6; 35.1 / 125.8 */
#include "kernels/attention/dense.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/dense_ring.cuh"
#include "kernels/attention/dense_sum.cuh"

/* How the line of tiles is shared:
 *
 * A team is a cluster of 1 to 8 blocks. Every team takes an equal chunk of the line, which may end inside an item, or span
 * some; its warps take the chunk's tiles in turn. A warp's tiles come into a ring of its own in shared memory, and the ring
 * goes on from one item into the next:
 *
 *   shared memory   ring [warps][stages][K | V][tokens][d] | o [warps][queries][d] float | m [warps][8] | l [warps][8]
 *                   | (m, l) of the block's sum [8] float2 | arrivals [warps][stages] uint64
 *
 * The end of an item in a chunk: warps' sums -> the block's sum -> block r of the team adds up slice r of the columns, of all
 * its blocks. A team that holds a whole item writes the result. Else the slices go to the workspace, and the block that
 * arrives last at a slice of an item adds up the teams' partial results in the order of their teams, so the result does not
 * depend on who was last. As many blocks as a team has share that work:
 *
 *   workspace   arrived [items][8] uint32, of an item's tiles, 0 between launches
 *               partial_ml [2 teams][blocks of a team][8 queries] float2    partial 2i of team i is of the item in which its
 *               partial_o  [2 teams][8 queries][d] float                    chunk begins, 2i + 1 of another in which it ends */

/* Warps of a block: as many as have registers. */
template <int D> __host__ __device__ constexpr unsigned dense_max_warps(void) { return D == 256 ? 8 : 12; }

/* ---- the kernel ---- */

/* The queries as one lane holds them: of query g the 16-byte chunks t, t + 4, ... (attention_dev.cuh); rows without a query are
 * zeros, and so score 0. */
template <int D> struct dense_queries {
    uint4 q[D / 32];
};

template <int D>
__device__ __forceinline__ void dense_load_queries(dense_queries<D> *all, const void *q, unsigned n_queries, unsigned lane) {
#pragma unroll
    for (int c = 0; c < D / 32; c++)
        all->q[c] = lane / 4 < n_queries ? ((const uint4 *)q)[lane / 4 * (D / 8) + lane % 4 + 4 * c] : make_uint4(0, 0, 0, 0);
}

/* N times 16 tokens from shared memory: k and v [16 N][D]. The largest score of all of them is looked for at once. */
template <typename T, int D, int N>
__device__ __forceinline__ void dense_parts(adm_tile_sum<D> *sum, const dense_queries<D> &queries, const char *k, const char *v,
                                            float scale_log2, unsigned n_valid, unsigned lane) {
    float s[4 * N];
    uint32_t p[2 * N];
    const char *row = k + lane / 4 * (D * 2) + lane % 4 * 16;
#pragma unroll
    for (int part = 0; part < N; part++) {
        float chain[2][2][4] = {}; /* two chains of products per half are done sooner than one */
#pragma unroll
        for (int c = 0; c < D / 32; c++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const uint4 x = *(const uint4 *)(row + (2 * part + half) * 8 * (D * 2) + c * 64), &q = queries.q[c];
                adm_mma<T>(chain[half][0], q.x, 0, q.y, 0, x.x, x.y);
                adm_mma<T>(chain[half][1], q.z, 0, q.w, 0, x.z, x.w);
            }
#pragma unroll
        for (int i = 0; i < 4; i++) s[4 * part + i] = chain[i / 2][0][i % 2] + chain[i / 2][1][i % 2];
    }
    adm_tile_softmax<T, D, N>(sum, s, scale_log2, n_valid, lane, p);
#pragma unroll
    for (int part = 0; part < N; part++) {
        uint4 rows[D / 64][4];
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int cs = 0; cs < D / 64; cs++)
                rows[cs][j] =
                    *(const uint4 *)(v + (16 * part + 2 * (lane % 4) + j % 2 + j / 2 * 8) * (D * 2) + lane / 4 * 16 + cs * 128);
        adm_tile_values<T, D>(sum, rows, p + 2 * part);
    }
}

/* A warp's tiles of one item: reads them, and asks for those that come later. */
template <typename T, int D, bool BULK>
__device__ __forceinline__ void dense_read(const adm_gpu_shape &s, const adm_gpu_buffers &buffers, const dense_cut &cut,
                                           const dense_heads &h, const dense_line &line, const dense_chunk &chunk,
                                           const dense_segment &g, const dense_queries<D> &queries, float scale_log2,
                                           dense_ring *ring, adm_tile_sum<D> *sum, unsigned lane) {
    const uint32_t tokens = cut.parts * ADM_TILE;
    for (uint32_t tile = g.first + chunk.first; tile < g.end; tile += chunk.step) {
        const char *k = dense_k_of(*ring, ring->stage);
        const uint32_t n_valid = g.length - tile * tokens;
        dense_await<BULK>(*ring, cut);
        for (uint32_t part = 0; part < cut.parts && part * ADM_TILE < n_valid;) {
            const char *k_part = k + part * dense_part_bytes<D>(), *v_part = k_part + ring->kv_bytes;
            if (D < 256 && part + 2 <= cut.parts) {
                dense_parts<T, D, 2>(sum, queries, k_part, v_part, scale_log2, n_valid - part * ADM_TILE, lane);
                part += 2;
            } else {
                dense_parts<T, D, 1>(sum, queries, k_part, v_part, scale_log2, n_valid - part * ADM_TILE, lane);
                part++;
            }
        }
        __syncwarp(); /* all lanes have read it */
        if (dense_one_to_ask(ring, line, chunk))
            dense_ask<D, BULK>(s, buffers, cut, h.passes, ring, chunk.step, ring->stage, lane);
        if (!BULK) adm_copy_commit();
        if (++ring->stage == cut.stages) ring->stage = 0, ring->parity ^= 1;
    }
}

/* Counts the tiles that a block's slice of an item now holds, in the workspace. True for the block that brings the last. */
static __device__ __forceinline__ bool dense_arrive(uint32_t *arrived, uint32_t n, uint32_t all, bool *i_am_last) {
    __syncthreads();
    if (threadIdx.x == 0) { /* its fence is for what the block wrote before the barrier */
        __threadfence();
        *i_am_last = atomicAdd(arrived, n) + n == all;
        if (*i_am_last) *arrived = 0;
        __threadfence();
    }
    __syncthreads();
    return *i_am_last;
}

/* The end of an item in a chunk: from the warps' sums to the result, or to the workspace. */
template <typename T, int D>
__device__ __forceinline__ void dense_finish(const dense_workspace &w, const dense_cut &cut, const dense_heads &h,
                                             const dense_line &line, const dense_chunk &chunk, const dense_segment &g,
                                             const adm_tile_sum<D> &sum, const dense_shared<D> &shared, unsigned n_queries,
                                             bool *i_am_last, T *out) {
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    /* The team has begun, and read what the segment before left. */
#if __CUDA_ARCH__ >= 900
    if (cut.team > 1) adm_cluster_wait();
#endif
    if (cut.team == 1) __syncthreads();
    adm_tile_store<D>(sum, shared.warps, n_queries, warp, lane);
    __syncthreads();
    dense_block_sum<D>(shared, n_warps, n_queries);
#if __CUDA_ARCH__ >= 900
    if (cut.team > 1) adm_cluster_meet();
#endif
    if (cut.team == 1) __syncthreads();
    const uint32_t begin = max(chunk.begin, g.item_begin), end = min(chunk.end, g.item_end);
    const bool whole = begin == g.item_begin && end == g.item_end;
    const size_t partial = 2 * (size_t)chunk.team + (chunk.begin < g.item_begin ? 1 : 0);
    const unsigned n_columns = n_queries * (D / 4) / cut.team;
    for (unsigned i = threadIdx.x; i < n_columns; i += blockDim.x) {
        const unsigned column = chunk.rank * n_columns + i, query = column / (D / 4);
        const dense_columns of_team = dense_team_sum<D>(shared, cut.team, column);
        if (whole) {
            dense_write<T>(out, column, of_team);
            continue;
        }
        *((float4 *)(w.partial_o + partial * ADM_TILE_QUERIES * D) + column) = of_team.o;
        if (i == 0 || column % (D / 4) == 0)
            w.partial_ml[(partial * cut.team + chunk.rank) * ADM_TILE_QUERIES + query] = make_float2(of_team.m, of_team.l);
    }
#if __CUDA_ARCH__ >= 900
    if (cut.team > 1) adm_cluster_arrive_relaxed();
#endif
    if (whole) return;
    uint32_t *arrived = w.arrived + ((size_t)g.b * h.items_per_sequence + g.item_of_sequence) * MAX_TEAM + chunk.rank;
    if (dense_arrive(arrived, end - begin, g.item_end - g.item_begin, i_am_last))
        /* Peers may still read the first warp's place; nobody reads the others'. */
        dense_merge<T, D>(w, line, cut, g, chunk.rank, n_columns, (dense_columns *)(shared.o + n_queries * D / 4),
                          (n_warps - 1) * n_queries * D * 4 / (unsigned)sizeof(dense_columns), out);
}

/* q (batch, n_q, d), K, V, length (batch) -> out (batch, n_q, d). Grid: any number of teams up to MAX_BLOCKS blocks. */
template <typename T, int D, bool BULK>
__global__ void __launch_bounds__(dense_max_warps<D>() * 32, 1)
    dense_kernel(adm_gpu_shape s, adm_gpu_buffers buffers, float scale_log2, dense_cut cut) {
    extern __shared__ __align__(128) char shared_bytes[];
    __shared__ bool i_am_last;
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    const dense_heads h = dense_heads_of(s.heads);

    adm_start_dependents();
    const dense_line line = dense_line_of(s, buffers.length, h, cut, lane);
    dense_chunk chunk = {blockIdx.x / cut.team, blockIdx.x % cut.team, 0, 0, 0, cut.team * n_warps};
    if (chunk.team >= line.n_teams) return;
    chunk.begin = dense_chunk_begin(line, chunk.team);
    chunk.end = dense_chunk_begin(line, chunk.team + 1);
    chunk.first = chunk.rank * n_warps + warp;

    dense_ring ring;
    ring.kv_bytes = cut.parts * dense_part_bytes<D>();
    const uint32_t ring_bytes = cut.stages * 2 * ring.kv_bytes;
    char *const sums = shared_bytes + n_warps * ring_bytes;
    ring.tiles = shared_bytes + warp * ring_bytes;
    ring.arrivals = (uint64_t *)(sums + dense_sum_bytes<D>(n_warps, h.n_queries)) + warp * cut.stages;
    dense_fill<D, BULK>(s, buffers, cut, h, line, chunk, &ring, lane);

    const dense_workspace workspace = dense_workspace_at(s, h, buffers.workspace);
    for (uint32_t at = chunk.begin; at < chunk.end;) {
        const dense_segment g = dense_segment_at(line, at, chunk.end);
        const unsigned kv_head = g.item_of_sequence / h.passes, pass = g.item_of_sequence % h.passes;
        const unsigned n_queries = min(h.group - pass * ADM_TILE_QUERIES, (unsigned)ADM_TILE_QUERIES);
        const size_t first_query = (size_t)g.b * s.heads.n_q_heads + kv_head * h.group + pass * ADM_TILE_QUERIES;
        dense_queries<D> queries;
        adm_tile_sum<D> sum;
        dense_load_queries<D>(&queries, (const T *)buffers.q + first_query * D, n_queries, lane);
        adm_tile_begin<D>(&sum);
        dense_read<T, D, BULK>(s, buffers, cut, h, line, chunk, g, queries, scale_log2, &ring, &sum, lane);
        dense_finish<T, D>(workspace, cut, h, line, chunk, g, sum, dense_shared_at<D>(sums, n_warps, n_queries), n_queries,
                           &i_am_last, (T *)buffers.out + first_query * D);
        at = min(g.item_end, chunk.end);
    }
#if __CUDA_ARCH__ >= 900
    if (cut.team > 1) adm_cluster_wait(); /* nobody reads this block's sums any more */
#endif
}

/* ---- launcher ---- */

struct dense_kernel_row {
    const void *kernel[2]; /* copies by every lane, bulk copies */
};

#define DENSE_ROW(T, D) {(const void *)dense_kernel<T, D, false>, (const void *)dense_kernel<T, D, true>}

static const void *dense_kernel_of(const adm_gpu_shape *s, bool bulk) {
    static const dense_kernel_row kernels[3][2] = {
        {DENSE_ROW(__half, 64), DENSE_ROW(__nv_bfloat16, 64)},
        {DENSE_ROW(__half, 128), DENSE_ROW(__nv_bfloat16, 128)},
        {DENSE_ROW(__half, 256), DENSE_ROW(__nv_bfloat16, 256)},
    };
    return kernels[adm_dim_index(s->heads.head_dim)][adm_dtype_index(s->dtype)].kernel[bulk];
}

static size_t dense_shared_bytes(const adm_gpu_shape *s, const adm_dense_tuning *t) {
    const unsigned n_queries = dense_heads_of(s->heads).n_queries, d = s->heads.head_dim;
    const size_t sums = d == 64    ? dense_sum_bytes<64>(t->n_warps, n_queries)
                        : d == 128 ? dense_sum_bytes<128>(t->n_warps, n_queries)
                                   : dense_sum_bytes<256>(t->n_warps, n_queries);
    return (size_t)t->n_warps * t->n_stages * t->tile_tokens * d * 2 * 2 + sums + t->n_warps * t->n_stages * sizeof(uint64_t);
}

extern "C" size_t adm_gpu_dense_workspace_bytes(const adm_gpu_shape *shape) {
    dense_heads h = dense_heads_of(shape->heads);
    return dense_arrived_bytes(*shape, h) +
           (size_t)2 * MAX_BLOCKS * ADM_TILE_QUERIES * (sizeof(float2) + shape->heads.head_dim * sizeof(float));
}

/* The launch parameters of a shape, where the caller leaves them open. Measured on three H200s, 2026-11-29 (kernels/LOG.md has
 * the search):
 *
 *   32 items and more     a block per SM by itself, 192 KiB on their way in it; of more than 2 GB two blocks
 *   fewer                 teams of 2: a merge has half as many partial results, in twice as many blocks
 *   up to 4, of few bytes latency is all: teams of 8, of which two fit an SM, so that the next launch's blocks begin early */
static adm_dense_tuning dense_usual(const adm_gpu_shape *s, unsigned n_sms, bool bulk) {
    const unsigned d = s->heads.head_dim, items = s->batch * dense_heads_of(s->heads).items_per_sequence;
    const double megabytes = 4e-6 * d * s->capacity * s->heads.n_kv_heads * s->batch;
    adm_dense_tuning t = {n_sms, 1, 8, 3, d == 64 ? 32u : 16u, !bulk};
    if (d == 256) t.n_warps = 4;
    if (!bulk) return t;
    if (items > 32 && items <= n_sms && megabytes > 2000 && d == 128) {
        t.n_blocks = 2 * (n_sms - n_sms / 32);
        t.n_warps = 4;
    }
    if (items >= 32) return t;
    t.team = 2;
    if (d == 128) t.n_stages = 2;
    if (items > 4 && megabytes > 200 && d == 128) {
        t.n_warps = 6;
        t.tile_tokens = 32;
    }
    if (items > 4) return t;
    t.n_blocks = n_sms - n_sms / 32;
    if (d == 64) {
        t.team = megabytes < 4 ? 8 : 4;
        t.n_blocks = megabytes < 4 ? n_sms / 5 : n_sms * 3 / 4;
    } else if (megabytes < (d == 256 ? 64 : 24)) {
        t.team = 8;
        t.n_warps = 4;
        t.n_stages = 2;
        if (d == 256) t.n_blocks = n_sms / 2;
    }
    return t;
}

/* Open parameters take their usual values; a ring that does not fit gets fewer stages, then fewer warps, if it may. */
static void dense_complete(const adm_gpu_shape *s, const adm_gpu_limits *limits, bool bulk, adm_dense_tuning *t) {
    const unsigned n_sms = (unsigned)limits->n_sms < MAX_BLOCKS / 2 ? (unsigned)limits->n_sms : MAX_BLOCKS / 2u;
    const adm_dense_tuning wanted = *t, usual = dense_usual(s, n_sms, bulk);
    if (t->team == 0) t->team = t->n_blocks == 0 || t->n_blocks % usual.team == 0 ? usual.team : 1;
    if (t->n_blocks == 0) t->n_blocks = usual.n_blocks / t->team * t->team;
    if (t->n_warps == 0) t->n_warps = usual.n_warps;
    if (t->n_stages == 0) t->n_stages = usual.n_stages;
    if (t->tile_tokens == 0) t->tile_tokens = usual.tile_tokens;
    while (wanted.n_stages == 0 && t->n_stages > 2 && dense_shared_bytes(s, t) > (size_t)limits->block_shared_bytes)
        t->n_stages--;
    while (wanted.n_warps == 0 && t->n_warps > 1 && dense_shared_bytes(s, t) > (size_t)limits->block_shared_bytes) t->n_warps--;
}

extern "C" adm_status adm_gpu_dense_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                          const adm_dense_tuning *wanted, adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    adm_dense_tuning t = *wanted;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_tile_alignment_check(buffers, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    const dense_heads h = dense_heads_of(shape->heads);
    if ((uint64_t)(shape->capacity / ADM_TILE + 1) * shape->batch * h.items_per_sequence >= UINT32_MAX)
        return adm_fail(err, ADM_EUNSUPPORTED, "dense attention: %u tokens, %u KV heads and batch %u are over 2^36 rows",
                        shape->capacity, shape->heads.n_kv_heads, shape->batch);
    const bool bulk = limits.compute_major >= 9 && !t.plain_copies;
    dense_complete(shape, &limits, bulk, &t);
    if (t.n_blocks > MAX_BLOCKS || t.n_blocks % t.team != 0 || t.team > MAX_TEAM || (t.team & (t.team - 1)) != 0 ||
        t.n_warps > (shape->heads.head_dim == 256 ? dense_max_warps<256>() : dense_max_warps<128>()) || t.n_stages < 2 ||
        t.n_stages > (bulk ? MAX_STAGES : 3) || (t.tile_tokens != 16 && t.tile_tokens != 32 && t.tile_tokens != 64))
        return adm_fail(
            err, ADM_EINPUT,
            "dense attention with %u blocks in teams of %u, %u warps, %u stages and tiles of %u tokens: dense.h has the "
            "limits",
            t.n_blocks, t.team, t.n_warps, t.n_stages, t.tile_tokens);
    if (t.team > 1 && limits.compute_major < 9)
        return adm_fail(err, ADM_EUNSUPPORTED, "dense attention in teams of %u: this device has no clusters of blocks", t.team);
    adm_gpu_grid grid = {};
    grid.blocks = dim3(t.n_blocks);
    grid.threads = t.n_warps * 32;
    grid.shared_bytes = dense_shared_bytes(shape, &t);
    grid.cluster = t.team > 1 ? t.team : 0;
    grid.dependent = true;
    grid.most_shared = true;
    if (grid.shared_bytes > (size_t)limits.block_shared_bytes)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "dense attention needs %zu bytes of shared memory per block and this device has %d", grid.shared_bytes,
                        limits.block_shared_bytes);
    float scale_log2 = shape->scale * 1.44269504f;
    dense_cut cut = {t.team, t.n_stages, t.tile_tokens / ADM_TILE};
    void *args[] = {(void *)shape, (void *)buffers, &scale_log2, &cut};
    return adm_gpu_launch("dense attention", dense_kernel_of(shape, bulk), grid, args, stream, err);
}

extern "C" adm_status adm_gpu_dense_launch(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    const adm_dense_tuning usual = {};
    return adm_gpu_dense_tuned(shape, buffers, &usual, stream, err);
}

extern "C" const adm_gpu_impl adm_gpu_dense_impl = {
    ADM_STAGE_DENSE,
    "split",
    "equal chunks of all tokens per team of blocks, 16 tokens per warp on the tensor cores",
    1u << ADM_STAGE_DENSE,
    ADM_GPU_ATTENTION_TOLERANCE,
    adm_gpu_dense_launch,
    adm_gpu_dense_workspace_bytes,
    0};
