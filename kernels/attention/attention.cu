/* attention.cu: attention over the selected tokens of each query head; see attention.h.
 *
 *   q     [batch][n_q_heads][d]                 out        [batch][n_q_heads][d]
 *   index [batch][S][budget]                    n_selected [batch][S]              S: see gpu.h
 *
 * Every query head selects for itself, so no K or V is shared, and at a budget of 256 a head reads 128 KiB (d = 128, float16).
 * The time is a chain of latencies, not bytes: launch, indices, K and V together, sum.
 *
 * Versions, us for 32 KV heads of 32K tokens, d = 128, cold, budget 256 / 1024 (more: kernels/LOG.md):
 *   1  K as the 16 rows of the first product, Q as its 8 columns                     not timed
 *   2  K as the columns, Q in shared memory in the operand's order                   H200 6.5 / 14.1
 *   3  queries first; every warp adds up; blocks push partial results to block 0     H200 5.4 / 8.7
 *   4  half of the SMs, one block of 16 warps on each                                H200 4.4 / 8.7, H100 5.1 / 10.1
 *   5  no fence of the whole device at the cluster barriers                          H100 4.7 / 9.8, H200 4.4 / 8.7
 *   6  three blocks per head where four would leave SMs without one                   H200 4.3 / 7.9
 *   7  sums without shuffles; six blocks of six warps per head                        H200 4.1 / 7.7 */
#include "core/base/minmax.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_dev.cuh"
#include "kernels/gpu/plant.cuh"

static const unsigned MAX_SPLITS = 8;

template <int D> __host__ __device__ constexpr int max_warps_of(void) { return D == 256 ? 8 : 16; }

/* ---- the query ---- */

/* Zeros where the operands of adm_tile_scores() have the rows of other queries, and what the block's threads hold of the one
 * query, 16 bytes each of the first D / 8. The caller synchronises. */
template <int D> static __device__ __forceinline__ void put_query(const uint4 &chunk, char *shared) {
    uint4 *operands = (uint4 *)shared;
    for (unsigned i = threadIdx.x; i < D; i += blockDim.x)
        if (i % 32 >= 4) operands[i / 32 * 64 + i % 32] = operands[i / 32 * 64 + 32 + i % 32] = make_uint4(0, 0, 0, 0);
    if (threadIdx.x >= D / 8) return;
    uint4 *at = operands + threadIdx.x / 4 * 64 + threadIdx.x % 4;
    at[0] = make_uint4(chunk.x, 0, chunk.y, 0);
    at[32] = make_uint4(chunk.z, 0, chunk.w, 0);
}

/* ---- sums ---- */

/* A warp's sum of the one query into shared memory. o [warps][D], ml [warps]: the largest score and the weights' sum. */
template <int D>
static __device__ __forceinline__ void put_sum(const adm_tile_sum<D> &sum, unsigned warp, unsigned lane, float *o, float2 *ml) {
    float l = sum.l;
    l += __shfl_xor_sync(ADM_FULL_WARP, l, 1);
    l += __shfl_xor_sync(ADM_FULL_WARP, l, 2);
    if (lane == 0) ml[warp] = make_float2(sum.m, l);
    if (lane % 4 != 0) return;
    float *row = o + warp * D + lane / 4 * 8;
#pragma unroll
    for (int cs = 0; cs < D / 64; cs++) {
        const float(*from)[4] = &sum.o[4 * cs];
        *(float4 *)(row + cs * 64) = make_float4(from[0][0], from[0][2], from[1][0], from[1][2]);
        *(float4 *)(row + cs * 64 + 4) = make_float4(from[2][0], from[2][2], from[3][0], from[3][2]);
    }
}

/* The sum of n partial results of an element, at most MAX. Each thread reads all largest scores for itself, and all there is
 * room for at once: shuffles, or a loop, would be a chain of latencies. */
template <int D, int MAX>
static __device__ __forceinline__ adm_element add_up(const float *o, const float2 *ml, unsigned n, unsigned element) {
    adm_element all = {0.0f, -INFINITY, 0.0f};
    float2 each[MAX];
    float value[MAX];
#pragma unroll
    for (unsigned i = 0; i < MAX; i++) {
        const unsigned at = min(i, n - 1);
        each[i] = make_float2(ml[at].x, i < n ? ml[at].y : 0.0f);
        value[i] = i < n ? o[at * D + element] : 0.0f;
        all.m = fmaxf(all.m, each[i].x);
    }
#pragma unroll
    for (unsigned i = 0; i < MAX; i++) {
        const float weight = adm_partial_weight(each[i].x, each[i].y, all.m);
        all.o += value[i] * weight;
        all.l += each[i].y * weight;
    }
    return all;
}

/* The same of the sums of a block's warps. */
template <int D>
static __device__ __forceinline__ adm_element add_up_warps(const float *o, const float2 *ml, unsigned n, unsigned element) {
    const int half = max_warps_of<D>() / 2;
    return n <= half ? add_up<D, half>(o, ml, n, element) : add_up<D, 2 * half>(o, ml, n, element);
}

/* q (batch, n_q, d), K, V, index (batch, S, budget), n_selected (batch, S) -> out (batch, n_q, d). Grid (splits, n_q, batch).
 * Dynamic shared memory: the query as operands, the warps' sums.
 *
 * A head's tiles go round the blocks of its cluster, then round the warps of a block: tile i of warp w of block
 * r is (i n_warps + w) n_blocks + r. At the usual budgets a warp has one tile, and all K and V are on their way
 * at once; where it never has more, LOOPS is false. The sums of a block's warps meet in its shared memory, those of the
 * cluster's blocks in that of block 0. */
template <typename T, int D, bool LOOPS>
__global__ void __launch_bounds__(32 * max_warps_of<D>(), 1)
    attention_kernel(adm_gpu_shape s, adm_gpu_buffers buffers, float scale_log2) {
    extern __shared__ __align__(16) char shared_bytes[];
    __shared__ float2 warp_ml[max_warps_of<D>()];
    float *warp_o = (float *)(shared_bytes + adm_query_bytes<D>());
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    const unsigned splits = gridDim.x, split = blockIdx.x, head = blockIdx.y, b = blockIdx.z;
    const unsigned row_of_head = b * s.heads.n_q_heads + head;
    const unsigned kv_head = head / (s.heads.n_q_heads / s.heads.n_kv_heads), budget = s.rule.budget;
    const unsigned selection = s.selection == ADM_SELECT_GROUP ? b * s.heads.n_kv_heads + kv_head : row_of_head;
    const uint32_t *index = buffers.index + (size_t)selection * budget;
    const uint4 *query = (const uint4 *)((const T *)buffers.q + (size_t)row_of_head * D);
    unsigned tile = warp * splits + split;
    const unsigned tile_step = n_warps * splits;

    adm_start_dependents();
#if __CUDA_ARCH__ >= 900
    __shared__ float partial_o[MAX_SPLITS][D];
    __shared__ float2 partial_ml[MAX_SPLITS];
    __shared__ uint64_t partials; /* counts what the blocks push into block 0's memory */
    if (splits > 1) {
        if (threadIdx.x == 0) {
            adm_barrier_init(&partials);
            adm_barrier_fence();
            adm_barrier_expect(&partials, (splits - 1) * (D + 2) * sizeof(float));
        }
        adm_cluster_arrive_relaxed();
        adm_cluster_wait(); /* block 0 has begun */
    }
#endif
    adm_wait_for_predecessors();
    ADM_PLANT_BEGIN
    /* The first indices are read before it is known how many of them are valid. */
    auto token_at = [&](unsigned i) { return i < budget ? index[i] : 0; };
    uint32_t token = token_at(tile * ADM_TILE + lane % ADM_TILE);
    const unsigned n = min(buffers.n_selected[selection], budget);
    const uint4 chunk = threadIdx.x < D / 8 ? query[threadIdx.x] : make_uint4(0, 0, 0, 0);
    /* A tile's positions beyond n repeat its first token, which is a row that may be read; its weight is 0. */
    auto row_of = [&](uint32_t token_read) {
        uint32_t valid = tile * ADM_TILE + lane % ADM_TILE < n ? token_read : 0xffffffffu;
        uint32_t first = __shfl_sync(ADM_FULL_WARP, valid, 0);
        if (valid == 0xffffffffu) valid = first;
        return adm_tile_row(s, buffers.page_table, b, kv_head, valid);
    };

    adm_tile_kv<D> kv;
    adm_tile_sum<D> sum;
    if (LOOPS) put_query<D>(chunk, shared_bytes); /* there are no registers to hold it */
    if (tile * ADM_TILE < n) {
        uint32_t row = row_of(token);
        adm_tile_load_k<D>(&kv, buffers.k, row, lane);
        adm_tile_load_v<D>(&kv, buffers.v, row, lane);
    }
    if (!LOOPS) put_query<D>(chunk, shared_bytes);
    adm_tile_begin<D>(&sum);
    __syncthreads();
    if (tile * ADM_TILE < n) {
        float scores[4];
        uint32_t p[2];
        /* The last tile stands apart: loads under a condition would cost copies of registers still to be
         * loaded. */
        while (LOOPS && (tile + tile_step) * ADM_TILE < n) {
            tile += tile_step;
            uint32_t row = row_of(token_at(tile * ADM_TILE + lane % ADM_TILE));
            adm_tile_scores<T, D>(kv, shared_bytes, lane, scores);
            adm_tile_load_k<D>(&kv, buffers.k, row, lane);
            adm_tile_softmax<T, D>(&sum, scores, scale_log2, ADM_TILE, lane, p);
            adm_tile_values<T, D>(&sum, kv, p);
            adm_tile_load_v<D>(&kv, buffers.v, row, lane);
        }
        adm_tile_scores<T, D>(kv, shared_bytes, lane, scores);
        adm_tile_softmax<T, D>(&sum, scores, scale_log2, n - tile * ADM_TILE, lane, p);
        adm_tile_values<T, D>(&sum, kv, p);
    }
    put_sum<D>(sum, warp, lane, warp_o, warp_ml);
    __syncthreads();
    ADM_PLANT_END

    T *out = (T *)buffers.out + (size_t)row_of_head * D;
    for (unsigned i = threadIdx.x; i < D; i += blockDim.x) {
        const adm_element partial = add_up_warps<D>(warp_o, warp_ml, n_warps, i);
        if (splits == 1) out[i] = adm_element_result<T>(partial);
#if __CUDA_ARCH__ >= 900
        else if (split == 0) {
            partial_o[0][i] = partial.o;
            if (i == 0) partial_ml[0] = make_float2(partial.m, partial.l);
        } else {
            adm_push(&partial_o[split][i], __float_as_uint(partial.o), 0, &partials);
            if (i > 0) continue;
            adm_push(&partial_ml[split].x, __float_as_uint(partial.m), 0, &partials);
            adm_push(&partial_ml[split].y, __float_as_uint(partial.l), 0, &partials);
        }
#endif
    }
#if __CUDA_ARCH__ >= 900
    if (splits == 1 || split > 0) return;
    __syncthreads(); /* what block 0 has is there */
    adm_barrier_wait_pushed(&partials, 0);
    for (unsigned i = threadIdx.x; i < D; i += blockDim.x)
        out[i] = adm_element_result<T>(splits <= 4 ? add_up<D, 4>(&partial_o[0][0], partial_ml, splits, i)
                                                   : add_up<D, MAX_SPLITS>(&partial_o[0][0], partial_ml, splits, i));
#endif
}

/* ---- launcher ---- */

#define LOOPING(T, d) {(const void *)attention_kernel<T, d, false>, (const void *)attention_kernel<T, d, true>}
static const void *const kernels[3][2][2] = {
    {LOOPING(__half, 64), LOOPING(__nv_bfloat16, 64)},
    {LOOPING(__half, 128), LOOPING(__nv_bfloat16, 128)},
    {LOOPING(__half, 256), LOOPING(__nv_bfloat16, 256)},
};

static unsigned shared_bytes_of(uint32_t head_dim, unsigned n_warps) {
    const unsigned query = head_dim == 64    ? adm_query_bytes<64>()
                           : head_dim == 128 ? adm_query_bytes<128>()
                                             : adm_query_bytes<256>();
    return query + n_warps * head_dim * (unsigned)sizeof(float);
}

typedef struct attention_cut {
    unsigned splits, n_warps;
} attention_cut;

/* What was fastest on an H200 at d = 128, where it is not the rule below (zeros). Many small blocks, of which two fit an SM,
 * while those of all heads fit so; clusters of 4 larger ones where each block has an SM; at small budgets, and for many heads,
 * a block per head. */
static attention_cut measured_cut(unsigned heads, unsigned tiles, unsigned n_sms) {
    const attention_cut by_rule = {0, 0};
    if (heads > n_sms || heads * 32 <= n_sms) return by_rule;
    if (heads * 2 > n_sms) return attention_cut{1, 16}; /* at a budget of 64 too */
    if (tiles <= 4 && heads * 8 > n_sms) return attention_cut{1, 12};
    if (tiles < 16) return by_rule;
    if (heads * 8 <= n_sms && tiles > 36) return attention_cut{6, 12};
    if (heads * 4 <= n_sms * 17 / 20) return attention_cut{4, 10};
    if (heads * 4 <= n_sms) return attention_cut{6, 6};
    if (heads * 16 <= n_sms * 5) return attention_cut{5, tiles > 36 ? 8u : 6u};
    return attention_cut{4, 6};
}

extern "C" adm_status adm_gpu_attention_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, unsigned splits,
                                              unsigned n_warps, adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_tile_alignment_check(buffers, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    const unsigned heads = shape->heads.n_q_heads * shape->batch;
    const unsigned tiles = (shape->rule.budget + ADM_TILE - 1) / ADM_TILE;
    const unsigned max_warps = shape->heads.head_dim == 256 ? 8 : 16;
    /* Where half of the SMs can hold all blocks, blocks that fill one each beat smaller ones, even if half of
     * their warps find nothing to do: no two share an SM, and the next kernel begins on the other half. Where
     * there are no clusters a head has one block. */
    if (splits == 0 && n_warps == 0 && shape->heads.head_dim == 128 && limits.compute_major >= 9) {
        const attention_cut cut = measured_cut(heads, tiles, (unsigned)limits.n_sms);
        splits = cut.splits, n_warps = cut.n_warps;
    }
    if (splits == 0)
        for (splits = 1; limits.compute_major >= 9 && splits < MAX_SPLITS && splits < tiles &&
                         heads * splits * 4 <= (unsigned)limits.n_sms;)
            splits *= 2;
    if (n_warps == 0)
        n_warps = heads * splits * 2 <= (unsigned)limits.n_sms ? max_warps
                                                               : (unsigned)adm_min((tiles + splits - 1) / splits, 8);
    if (splits > MAX_SPLITS || n_warps > max_warps)
        return adm_fail(err, ADM_EINPUT, "attention with %u splits and %u warps: splits are 1 to %u, and warps at most %u",
                        splits, n_warps, MAX_SPLITS, max_warps);
    if (splits > 1 && limits.compute_major < 9)
        return adm_fail(err, ADM_EUNSUPPORTED, "attention with %u splits: this device has no clusters of blocks", splits);
    adm_gpu_grid grid = {};
    grid.blocks = dim3(splits, shape->heads.n_q_heads, shape->batch);
    grid.threads = n_warps * 32;
    grid.shared_bytes = shared_bytes_of(shape->heads.head_dim, n_warps);
    grid.cluster = splits > 1 ? splits : 0;
    grid.dependent = true;
    float scale_log2 = shape->scale * 1.44269504f;
    void *args[] = {(void *)shape, (void *)buffers, &scale_log2};
    return adm_gpu_launch(
        "attention over selected tokens",
        kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)][tiles > splits * n_warps], grid, args,
        stream, err);
}

extern "C" adm_status adm_gpu_attention_launch(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                               adm_gpu_stream stream, adm_error *err) {
    return adm_gpu_attention_tuned(shape, buffers, 0, 0, stream, err);
}

extern "C" const adm_gpu_impl adm_gpu_attention_impl = {
    ADM_STAGE_ATTENTION,
    "cluster",
    "16 tokens per warp on the tensor cores, a cluster of blocks per query head",
    1u << ADM_STAGE_ATTENTION,
    ADM_GPU_ATTENTION_TOLERANCE,
    adm_gpu_attention_launch,
    NULL,
    0};
