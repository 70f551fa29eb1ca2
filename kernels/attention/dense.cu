/* dense.cu: attention over every token, the baseline that selecting has to beat; see dense.h.
 *
 *   q [batch][n_q_heads][d]    out [batch][n_q_heads][d]    length [batch]
 *
 *     sequence 0, KV head 0 | head 1 | ... | sequence 1, head 0 | ...      one line of tiles of 16 tokens; an item is a KV head
 *     [ block 0 )[ block 1 )[ block 2 )[ ...                               of a sequence; equal chunks, whatever the lengths
 *
 * Versions, us, d = 128, cold: 32 KV heads 32K / 128K; 8 KV heads 32K / 128K (more: kernels/LOG.md)
 *   1  one block per SM, 12 warps, a tile of K and V in flight in each               not timed
 *   2  operands ordered so that nothing is moved or waited for                       not timed
 *   3  the merge loads four partial results at once                                  H200 128.7 / 488.8; 38.9
 *   4  the first tiles to L2 before the wait; every warp adds up                     H200 126.2 / 478.7; 38.2
 *   5  the first tiles into registers before the wait                                H200 123.1 / 476.0; 36.0
 *   6  blocks that end where heads do       H200 123.6 / 476.5; 36.1, H100 179.3 / 703.6; 49.3 / 180.4
 *   7  teams of blocks per item      H100 177.8 / 698.9; 49.7 / 179.9, H200 128.1 / 493; 37.0 / 129 */
#include "kernels/attention/dense.h"
#include "kernels/attention/attention_dev.cuh"

/* How the line of tiles is shared:
 *
 * Every block takes an equal chunk of it. A chunk may end inside an item, or span some. Where all items are alike and the
 * blocks a multiple of them, a team of blocks takes the tiles of its item in turn, so that the device reads few long stretches
 * of memory rather than many:
 *
 *     item 0: tile 0 block 0 | tile 1 block 1 | ... | tile t-1 block t-1 | tile t block 0, next warp | ...
 *
 * A block that holds a whole item writes its result. Else its partial result goes to the workspace, and the block that arrives
 * last at an item adds up the partial results in the order of their blocks, so the result does not depend on who was last:
 *
 *   workspace   arrived [items] uint32, of an item's tiles, 0 between launches
 *               partial_ml [2 blocks][8 queries] float2    partial 2i of block i is of the item in which its chunk begins,
 *               partial_o  [2 blocks][8 queries][d] float  partial 2i + 1 of another in which it ends */

static const unsigned MAX_BLOCKS = 512; /* as many as the workspace holds */

/* Warps of the one block that an SM holds: as many as the registers of the tiles allow. */
template <int D> __host__ __device__ constexpr unsigned dense_warps(void) { return D == 64 ? 16 : D == 128 ? 12 : 8; }

/* How the heads are cut: a group of more than 8 queries takes several passes. */
struct dense_heads {
    unsigned group, n_queries, passes, items_per_sequence;
};

static __host__ __device__ inline dense_heads dense_heads_of(const adm_shape &s) {
    dense_heads h;
    h.group = s.n_q_heads / s.n_kv_heads;
    h.n_queries = h.group < ADM_TILE_QUERIES ? h.group : (unsigned)ADM_TILE_QUERIES;
    h.passes = (h.group + ADM_TILE_QUERIES - 1) / ADM_TILE_QUERIES;
    h.items_per_sequence = s.n_kv_heads * h.passes;
    return h;
}

static __host__ __device__ inline size_t dense_arrived_bytes(const adm_gpu_shape &s, const dense_heads &h) {
    return ((size_t)s.batch * h.items_per_sequence * sizeof(uint32_t) + 255) / 256 * 256;
}

/* The line of tiles. Every lane of a warp knows two sequences: where they start in the line, and their tiles per
 * item. An empty sequence has one tile without tokens, so that some block writes its zeros. */
struct dense_line {
    uint64_t start[2];
    uint32_t n_tiles[2];
    uint64_t total;
    uint32_t n_blocks; /* that share the line: each gets a tile */
    uint32_t team;     /* blocks that take the tiles of one item in turn; 1: a block's chunk is contiguous */
};

static __device__ __forceinline__ dense_line dense_line_of(const adm_gpu_shape &s, const uint32_t *length, const dense_heads &h,
                                                           unsigned lane) {
    dense_line line;
    uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        unsigned b = lane + 32 * i;
        line.n_tiles[i] = b < s.batch ? max(1u, (length[b] + ADM_TILE - 1) / ADM_TILE) : 0;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint64_t mine = (uint64_t)line.n_tiles[i] * h.items_per_sequence, upto = mine;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            uint64_t before = __shfl_up_sync(ADM_FULL_WARP, upto, d);
            if (lane >= d) upto += before;
        }
        line.start[i] = lane + 32 * i < s.batch ? sum + upto - mine : ~(uint64_t)0;
        sum += __shfl_sync(ADM_FULL_WARP, upto, 31);
    }
    line.total = sum;
    /* Chunks that end where items end save partial results, if that leaves few blocks idle. */
    uint32_t items = s.batch * h.items_per_sequence, blocks = gridDim.x;
    if (items <= blocks && blocks / items * items * 16 >= blocks * 15) blocks = blocks / items * items;
    line.n_blocks = (uint32_t)min((uint64_t)blocks, sum);
    const uint32_t any = __shfl_sync(ADM_FULL_WARP, line.n_tiles[0], 0);
    const bool differs = (lane < s.batch && line.n_tiles[0] != any) || (lane + 32 < s.batch && line.n_tiles[1] != any);
    const bool in_teams = !__any_sync(ADM_FULL_WARP, differs) && line.n_blocks > items && line.n_blocks % items == 0;
    line.team = in_teams ? line.n_blocks / items : 1;
    return line;
}

/* The first tile of a block's chunk, and the block that holds a tile. */
static __device__ __forceinline__ uint64_t dense_chunk_begin(const dense_line &line, uint32_t block) {
    return block * line.total / line.n_blocks;
}
static __device__ __forceinline__ uint32_t dense_block_of(const dense_line &line, uint64_t tile) {
    return (uint32_t)(((tile + 1) * line.n_blocks - 1) / line.total);
}

/* What a block does in one item: warp w takes the tiles first + w stride + i stride n_warps. */
struct dense_segment {
    uint32_t b, item_of_sequence;
    uint64_t item_begin, item_end; /* tiles of the line */
    uint32_t first, end, stride;   /* tiles of the item */
};

static __device__ __forceinline__ dense_segment dense_segment_at(const dense_line &line, uint64_t tile, uint64_t chunk_end) {
    dense_segment g;
    g.b = __popc(__ballot_sync(ADM_FULL_WARP, line.start[0] <= tile)) +
          __popc(__ballot_sync(ADM_FULL_WARP, line.start[1] <= tile)) - 1;
    uint64_t start = __shfl_sync(ADM_FULL_WARP, g.b < 32 ? line.start[0] : line.start[1], g.b % 32);
    uint32_t n_tiles = __shfl_sync(ADM_FULL_WARP, g.b < 32 ? line.n_tiles[0] : line.n_tiles[1], g.b % 32);
    g.item_of_sequence = (uint32_t)((tile - start) / n_tiles);
    g.item_begin = start + (uint64_t)g.item_of_sequence * n_tiles;
    g.item_end = g.item_begin + n_tiles;
    g.stride = line.team;
    g.first = line.team > 1 ? blockIdx.x % line.team : (uint32_t)(tile - g.item_begin);
    g.end = line.team > 1 ? n_tiles : (uint32_t)(min(g.item_end, chunk_end) - g.item_begin);
    return g;
}

/* The workspace, as pointers. */
struct dense_workspace {
    uint32_t *arrived;
    float2 *partial_ml;
    float *partial_o;
};

static __device__ __forceinline__ dense_workspace dense_workspace_at(const adm_gpu_shape &s, const dense_heads &h,
                                                                     void *workspace) {
    dense_workspace w;
    w.arrived = (uint32_t *)workspace;
    w.partial_ml = (float2 *)((char *)workspace + dense_arrived_bytes(s, h));
    w.partial_o = (float *)(w.partial_ml + 2 * MAX_BLOCKS * ADM_TILE_QUERIES);
    return w;
}

/* Adds up an item's partial results, in the order of their blocks. First the largest score of each query and the weights' sum,
 * a warp per query; then the block's threads take the row's columns, four elements each, several times over, each time a share
 * of the partial results; the shares then meet in shared memory:
 *   (largest score, 1 / sum) [8] float2 | o [threads] float4 */
template <typename T, int D>
__device__ void dense_merge(const dense_workspace &w, const dense_line &line, const dense_segment &g, unsigned n_queries,
                            char *shared, T *out) {
    const uint32_t first = dense_block_of(line, g.item_begin), n = dense_block_of(line, g.item_end - 1) - first + 1;
    const uint32_t first_position = dense_chunk_begin(line, first) < g.item_begin ? 1 : 0; /* no later chunk begins before */
    const unsigned lane = threadIdx.x % 32;
    auto row_of = [&](uint32_t i, unsigned query) {
        return (size_t)(2 * (first + i) + (i == 0 ? first_position : 0)) * ADM_TILE_QUERIES + query;
    };
    float2 *all = (float2 *)shared;
    for (unsigned query = threadIdx.x / 32; query < n_queries; query += blockDim.x / 32) {
        float m = -INFINITY, l = 0.0f;
        auto add = [&](float2 ml) {
            const float larger = fmaxf(m, ml.x);
            l = l * adm_partial_weight(m, l, larger) + ml.y * adm_partial_weight(ml.x, ml.y, larger);
            m = larger;
        };
        for (uint32_t i = lane; i < n; i += 32) add(__ldcg(w.partial_ml + row_of(i, query)));
#pragma unroll
        for (int step = 1; step < 32; step *= 2)
            add(make_float2(__shfl_xor_sync(ADM_FULL_WARP, m, step), __shfl_xor_sync(ADM_FULL_WARP, l, step)));
        if (lane == 0) all[query] = make_float2(m, l == 0.0f ? 0.0f : 1.0f / l); /* no token: zeros */
    }
    __syncthreads();
    float4 *sums = (float4 *)(shared + ADM_TILE_QUERIES * sizeof(float2));
    const unsigned columns = n_queries * (D / 4), shares = max(1u, blockDim.x / columns);
    for (unsigned begin = 0; begin < columns; begin += blockDim.x) {
        const unsigned column = begin + (shares > 1 ? threadIdx.x % columns : threadIdx.x), query = column / (D / 4);
        const unsigned share = shares > 1 ? threadIdx.x / columns : 0;
        float4 o = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (share < shares && column < columns) {
            const float2 of_all = all[query];
#pragma unroll 4
            for (uint32_t i = share; i < n; i += shares) {
                const size_t row = row_of(i, query);
                const float2 ml = __ldcg(w.partial_ml + row);
                const float4 x = __ldcg((const float4 *)(w.partial_o + row * D) + column % (D / 4));
                const float weight = adm_partial_weight(ml.x, ml.y, of_all.x) * of_all.y;
                o = make_float4(o.x + x.x * weight, o.y + x.y * weight, o.z + x.z * weight, o.w + x.w * weight);
            }
        }
        if (shares > 1) {
            sums[threadIdx.x] = o;
            __syncthreads();
            for (unsigned i = 1; share == 0 && i < shares; i++) {
                const float4 x = sums[i * columns + column];
                o = make_float4(o.x + x.x, o.y + x.y, o.z + x.z, o.w + x.w);
            }
        }
        if (share == 0 && column < columns)
            *(uint2 *)(out + column * 4) = make_uint2(adm_narrow2<T>(o.x, o.y), adm_narrow2<T>(o.z, o.w));
    }
}

/* q (batch, n_q, d), K, V, length (batch) -> out (batch, n_q, d). Grid: any number of blocks up to MAX_BLOCKS. */
template <typename T, int D>
__global__ void __launch_bounds__(dense_warps<D>() * 32, 1)
    dense_kernel(adm_gpu_shape s, adm_gpu_buffers buffers, float scale_log2) {
    extern __shared__ __align__(16) char shared_bytes[];
    __shared__ bool i_am_last;
    constexpr unsigned n_warps = dense_warps<D>();
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const dense_heads h = dense_heads_of(s.heads);

    adm_start_dependents();
    const dense_line line = dense_line_of(s, buffers.length, h, lane);
    if (blockIdx.x >= line.n_blocks) return;
    const dense_workspace workspace = dense_workspace_at(s, h, buffers.workspace);
    const uint64_t chunk_begin = dense_chunk_begin(line, blockIdx.x);
    const uint64_t chunk_end = dense_chunk_begin(line, blockIdx.x + 1);
    dense_segment g = dense_segment_at(line, chunk_begin, chunk_end);
    adm_tile_kv<D> kv;
    auto load = [&](const dense_segment &of, uint32_t tile, uint32_t length) {
        const uint32_t token = min(tile * ADM_TILE + lane % ADM_TILE, length - 1);
        const uint32_t row = adm_tile_row(s, buffers.page_table, of.b, of.item_of_sequence / h.passes, token);
        adm_tile_load_k<D>(&kv, buffers.k, row, lane);
        adm_tile_load_v<D>(&kv, buffers.v, row, lane);
    };
    /* The first tiles are on their way while the kernel before this one ends, but for what holds the newest two tokens. */
    const uint32_t first_tile = g.first + warp * g.stride;
    const bool early = first_tile < g.end && adm_settled((first_tile + 1) * ADM_TILE, buffers.length[g.b]);
    if (early) load(g, first_tile, buffers.length[g.b]);
    adm_wait_for_predecessors();

    for (uint64_t at = chunk_begin; at < chunk_end;) {
        if (at > chunk_begin) g = dense_segment_at(line, at, chunk_end);
        const unsigned kv_head = g.item_of_sequence / h.passes, pass = g.item_of_sequence % h.passes;
        const unsigned n_queries = min(h.group - pass * ADM_TILE_QUERIES, (unsigned)ADM_TILE_QUERIES);
        const size_t first_query = (size_t)g.b * s.heads.n_q_heads + kv_head * h.group + pass * ADM_TILE_QUERIES;
        const adm_tile_shared<D> shared = adm_tile_shared_at<D>(shared_bytes, n_warps, n_queries);
        const uint32_t length = buffers.length[g.b];
        auto row_of = [&](uint32_t tile) {
            uint32_t token = min(tile * ADM_TILE + lane % ADM_TILE, length - 1);
            return adm_tile_row(s, buffers.page_table, g.b, kv_head, token);
        };

        adm_tile_sum<D> sum;
        uint32_t tile = g.first + warp * g.stride;
        const uint32_t step = n_warps * g.stride;
        const uint32_t end = length == 0 ? 0 : g.end;
        if (tile < end && !(early && at == chunk_begin)) load(g, tile, length);
        __syncthreads(); /* the segment before is done with the shared memory */
        adm_tile_queries<T, D>((const T *)buffers.q + first_query * D, n_queries, shared.q);
        adm_tile_begin<D>(&sum);
        __syncthreads();
        if (tile < end) {
            float scores[4];
            uint32_t p[2];
            /* The last tile stands apart: loads under a condition would cost copies of registers still to be
             * loaded. */
            while (tile + step < end) {
                tile += step;
                const uint32_t row = row_of(tile);
                adm_tile_scores<T, D>(kv, shared.q, lane, scores);
                adm_tile_load_k<D>(&kv, buffers.k, row, lane);
                adm_tile_softmax<T, D>(&sum, scores, scale_log2, ADM_TILE, lane, p);
                adm_tile_values<T, D>(&sum, kv, p);
                adm_tile_load_v<D>(&kv, buffers.v, row, lane);
            }
            adm_tile_scores<T, D>(kv, shared.q, lane, scores);
            adm_tile_softmax<T, D>(&sum, scores, scale_log2, length - tile * ADM_TILE, lane, p);
            adm_tile_values<T, D>(&sum, kv, p);
        }
        adm_tile_store<D>(sum, shared, n_queries, warp, lane);
        __syncthreads();

        const bool whole = at == g.item_begin && chunk_end >= g.item_end;
        const size_t position = 2 * blockIdx.x + (chunk_begin < g.item_begin ? 1 : 0);
        T *out = (T *)buffers.out + first_query * D;
        for (unsigned i = threadIdx.x; i < n_queries * D; i += blockDim.x) {
            const adm_element partial = adm_tile_block_sum<D>(shared, n_warps, n_queries, i / D, i % D);
            if (whole) {
                out[i] = adm_element_result<T>(partial);
            } else {
                const size_t row = position * ADM_TILE_QUERIES + i / D;
                if (i % D == 0) workspace.partial_ml[row] = make_float2(partial.m, partial.l);
                workspace.partial_o[row * D + i % D] = partial.o;
            }
        }
        if (!whole) {
            __syncthreads();
            if (threadIdx.x == 0) { /* its fence is for what the block wrote before the barrier */
                uint32_t *arrived = workspace.arrived + (size_t)g.b * h.items_per_sequence + g.item_of_sequence;
                const uint32_t n = (uint32_t)(min(g.item_end, chunk_end) - at);
                const uint32_t all = (uint32_t)(g.item_end - g.item_begin);
                __threadfence();
                i_am_last = atomicAdd(arrived, n) + n == all;
                if (i_am_last) *arrived = 0;
                __threadfence();
            }
            __syncthreads();
            if (i_am_last) dense_merge<T, D>(workspace, line, g, n_queries, shared_bytes, out);
        }
        at = min(g.item_end, chunk_end);
    }
}

/* ---- launcher ---- */

struct dense_kernel_row {
    const void *kernel;
    unsigned n_warps;
};

static dense_kernel_row dense_kernel_of(const adm_gpu_shape *s) {
    static const void *const kernels[3][2] = {
        {(const void *)dense_kernel<__half, 64>, (const void *)dense_kernel<__nv_bfloat16, 64>},
        {(const void *)dense_kernel<__half, 128>, (const void *)dense_kernel<__nv_bfloat16, 128>},
        {(const void *)dense_kernel<__half, 256>, (const void *)dense_kernel<__nv_bfloat16, 256>},
    };
    static const unsigned n_warps[3] = {dense_warps<64>(), dense_warps<128>(), dense_warps<256>()};
    int d = adm_dim_index(s->heads.head_dim);
    return dense_kernel_row{kernels[d][adm_dtype_index(s->dtype)], n_warps[d]};
}

/* Of the warps' sums, or of what a merge needs, whichever is larger. */
static size_t dense_shared_bytes(const adm_gpu_shape *s, unsigned n_warps, unsigned n_queries) {
    size_t sums = s->heads.head_dim == 64    ? adm_tile_shared_bytes<64>(n_warps, n_queries)
                  : s->heads.head_dim == 128 ? adm_tile_shared_bytes<128>(n_warps, n_queries)
                                             : adm_tile_shared_bytes<256>(n_warps, n_queries);
    size_t shares = ADM_TILE_QUERIES * sizeof(float2) + n_warps * 32 * sizeof(float4);
    return sums > shares ? sums : shares;
}

extern "C" size_t adm_gpu_dense_workspace_bytes(const adm_gpu_shape *shape) {
    dense_heads h = dense_heads_of(shape->heads);
    return dense_arrived_bytes(*shape, h) +
           (size_t)2 * MAX_BLOCKS * ADM_TILE_QUERIES * (sizeof(float2) + shape->heads.head_dim * sizeof(float));
}

/* A block per SM, or up to a sixteenth fewer where chunks then end where items end. */
static unsigned usual_blocks(const adm_gpu_shape *s, unsigned n_sms) {
    const unsigned items = s->batch * dense_heads_of(s->heads).items_per_sequence, rounds = (items + n_sms - 1) / n_sms;
    const unsigned aligned = items <= n_sms ? n_sms / items * items : items % rounds == 0 ? items / rounds : n_sms;
    return aligned * 16 >= n_sms * 15 ? aligned : n_sms;
}

extern "C" adm_status adm_gpu_dense_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, unsigned n_blocks,
                                          adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_tile_alignment_check(buffers, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (n_blocks > MAX_BLOCKS)
        return adm_fail(err, ADM_EINPUT, "dense attention with %u blocks: at most %u", n_blocks, MAX_BLOCKS);
    if (n_blocks == 0)
        n_blocks = usual_blocks(shape, (unsigned)limits.n_sms < MAX_BLOCKS ? (unsigned)limits.n_sms : MAX_BLOCKS);
    dense_kernel_row row = dense_kernel_of(shape);
    adm_gpu_grid grid = {};
    grid.blocks = dim3(n_blocks);
    grid.threads = row.n_warps * 32;
    grid.shared_bytes = dense_shared_bytes(shape, row.n_warps, dense_heads_of(shape->heads).n_queries);
    grid.dependent = true;
    if (grid.shared_bytes > (size_t)limits.block_shared_bytes)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "dense attention needs %zu bytes of shared memory per block and this "
                        "device has %d",
                        grid.shared_bytes, limits.block_shared_bytes);
    float scale_log2 = shape->scale * 1.44269504f;
    void *args[] = {(void *)shape, (void *)buffers, &scale_log2};
    return adm_gpu_launch("dense attention", row.kernel, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_dense_launch(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    return adm_gpu_dense_tuned(shape, buffers, 0, stream, err);
}

/* The tolerance as in attention.cu. */
extern "C" const adm_gpu_impl adm_gpu_dense_impl = {
    ADM_STAGE_DENSE,
    "split",
    "equal chunks of all tokens per block, 16 tokens per warp on the tensor cores",
    1u << ADM_STAGE_DENSE,
    0x1p-7,
    adm_gpu_dense_launch,
    adm_gpu_dense_workspace_bytes};
