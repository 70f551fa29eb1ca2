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
 *   7  sums without shuffles; six blocks of six warps per head                        H200 4.1 / 7.7
 *   8  whole lines of K; little to compute behind the wait; the next kernel later     H200 3.8 / 7.0 */
#include "core/base/minmax.h"
#include "kernels/attention/attention.h"
#include "kernels/attention/attention_one.cuh"
#include "kernels/gpu/plant.cuh"

static const unsigned MAX_SPLITS = 8;

template <int D> __host__ __device__ constexpr int max_warps_of(void) { return D == 256 ? 8 : 16; }

/* ---- sums ---- */

/* Partial results are added up 4, 8 or 16 at a time: as many as n needs. */
static __host__ __device__ constexpr unsigned slots_of(unsigned n) { return n <= 4 ? 4 : n <= 8 ? 8 : 16; }

/* Those that no one has: o [][D], ml [], from n to slots_of(n). */
template <int D> static __device__ __forceinline__ void put_none(unsigned n, float *o, float2 *ml) {
    const unsigned slots = slots_of(n);
    for (unsigned i = n * D + threadIdx.x; i < slots * D; i += blockDim.x) o[i] = 0.0f;
    if (threadIdx.x >= n && threadIdx.x < slots) ml[threadIdx.x] = make_float2(-INFINITY, 0.0f);
}

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

/* The sum of N partial results of an element. Each thread reads all largest scores for itself, and all at once: shuffles, or a
 * loop, would be a chain of latencies. */
template <int D, int N>
static __device__ __forceinline__ adm_element add_up(const float *o, const float2 *ml, unsigned element) {
    adm_element all = {0.0f, -INFINITY, 0.0f};
    float2 each[N];
    float value[N];
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        each[i] = ml[i];
        value[i] = o[i * D + element];
        all.m = fmaxf(all.m, each[i].x);
    }
#pragma unroll
    for (unsigned i = 0; i < N; i++) {
        const float weight = adm_partial_weight(each[i].x, each[i].y, all.m);
        all.o += value[i] * weight;
        all.l += each[i].y * weight;
    }
    return all;
}

/* The same of slots_of(n) partial results, at most MAX. */
template <int D, int MAX>
static __device__ __forceinline__ adm_element add_up_slots(const float *o, const float2 *ml, unsigned n, unsigned element) {
    if (n <= 4) return add_up<D, 4>(o, ml, element);
    return n <= 8 || MAX <= 8 ? add_up<D, 8>(o, ml, element) : add_up<D, MAX>(o, ml, element);
}

/* What the blocks of a head's cluster send to block 0, in shared memory. */
typedef struct attention_partials {
    float *o;       /* [MAX_SPLITS][D] */
    float2 *ml;     /* [MAX_SPLITS] */
    uint64_t *sent; /* counts what the others send */
} attention_partials;

/* Before anything is sent. */
template <int D> static __device__ __forceinline__ void expect_partials(unsigned splits, const attention_partials &partials) {
#if __CUDA_ARCH__ >= 900
    if (splits == 1) return;
    put_none<D>(splits, partials.o, partials.ml);
    if (threadIdx.x == 0) {
        adm_barrier_init(partials.sent);
        adm_barrier_fence();
        adm_barrier_expect(partials.sent, (splits - 1) * (D + 2) * sizeof(float));
    }
    adm_cluster_arrive_relaxed();
    adm_cluster_wait(); /* block 0 has begun */
#endif
}

/* The sums of a block's warps meet, then those of the cluster's blocks, in the memory of block 0. */
template <typename T, int D>
static __device__ __forceinline__ void finish(const float *warp_o, const float2 *warp_ml, unsigned n_warps, unsigned splits,
                                              unsigned split, const attention_partials &partials, T *out) {
    for (unsigned i = threadIdx.x; i < D; i += blockDim.x) {
        const adm_element partial = add_up_slots<D, max_warps_of<D>()>(warp_o, warp_ml, n_warps, i);
        if (splits == 1) out[i] = adm_element_result<T>(partial);
#if __CUDA_ARCH__ >= 900
        else if (split == 0) {
            partials.o[i] = partial.o;
            if (i == 0) partials.ml[0] = make_float2(partial.m, partial.l);
        } else {
            adm_push(&partials.o[split * D + i], __float_as_uint(partial.o), 0, partials.sent);
            if (i > 0) continue;
            adm_push(&partials.ml[split].x, __float_as_uint(partial.m), 0, partials.sent);
            adm_push(&partials.ml[split].y, __float_as_uint(partial.l), 0, partials.sent);
        }
#endif
    }
#if __CUDA_ARCH__ >= 900
    if (splits == 1 || split > 0) return;
    __syncthreads(); /* what block 0 has is there */
    adm_barrier_wait_pushed(partials.sent, 0);
    for (unsigned i = threadIdx.x; i < D; i += blockDim.x)
        out[i] = adm_element_result<T>(add_up_slots<D, MAX_SPLITS>(partials.o, partials.ml, splits, i));
#endif
}

/* ---- a warp's tiles ---- */

/* Which head a block serves. */
typedef struct attention_head {
    unsigned b, kv_head;
    size_t row, selection; /* of q and out, and of the index */
} attention_head;

static __device__ __forceinline__ attention_head head_of(const adm_gpu_shape &s) {
    attention_head head;
    head.b = blockIdx.z;
    head.kv_head = blockIdx.y / (s.heads.n_q_heads / s.heads.n_kv_heads);
    head.row = blockIdx.z * s.heads.n_q_heads + blockIdx.y;
    head.selection = s.selection == ADM_SELECT_GROUP ? head.b * s.heads.n_kv_heads + head.kv_head : head.row;
    return head;
}

/* The warp's tiles `tile`, tile + step, ... added up. LOOPS: there may be more than one. Waits for the kernel before, and lets
 * the next one in once it has asked for the first rows: earlier its blocks, and those of the one behind it, would take places
 * unevenly (kernels/LOG.md). */
template <typename T, int D, bool LOOPS>
static __device__ __forceinline__ void attend(const adm_gpu_shape &s, const adm_gpu_buffers &buffers,
                                              const attention_head &head, float scale_log2, unsigned tile, unsigned step,
                                              adm_tile_sum<D> *sum) {
    const unsigned lane = threadIdx.x % 32, budget = s.rule.budget;
    const uint32_t *index = buffers.index + head.selection * budget;
    const adm_one_rows rows = adm_one_rows_of<D>(s, buffers, head.b, head.kv_head, lane);
    const uint4 *query = (const uint4 *)((const T *)buffers.q + head.row * D) + lane % 8;
    const uint32_t *n_selected = buffers.n_selected + head.selection;
    const uint32_t *k_index = index + tile * ADM_TILE + lane / 4 % 4 * 4;
    const uint32_t *v_index = index + tile * ADM_TILE + adm_one_token(lane % 4, 0);
    const bool whole = (tile + 1) * ADM_TILE <= budget;
    adm_tile_begin<D>(sum);
#if __CUDA_ARCH__ >= 900
    if (whole) { /* so that the addresses are computed before the wait, and their pages known */
        adm_prefetch(k_index);
        adm_prefetch(v_index);
    }
    adm_prefetch(n_selected);
    adm_prefetch(query);
#endif
    adm_wait_for_predecessors();
    /* The first indices are read before it is known how many of them are valid. */
    adm_one_tokens tokens = {};
    if (whole) tokens = adm_one_read(k_index, v_index);
    const unsigned n = min(adm_load_word(n_selected), budget);
    uint4 q[D / 64];
    adm_one_load_query<D>(query, lane, q);
    const bool any = tile * ADM_TILE < n;
    adm_one_kv<D> kv;
    if (any) {
        if ((tile + 1) * ADM_TILE > n) tokens = adm_one_read_to(index, tile, n - 1, lane);
        adm_one_pages(s, buffers.page_table, head.b, head.kv_head, &tokens);
        adm_one_load_k<D>(&kv, rows, tokens);
        adm_one_load_v<D>(&kv, rows, tokens);
    }
    adm_start_dependents();
    if (!any) return;
    float scores[4];
    uint32_t p[2];
    /* The last tile stands apart: loads under a condition would cost copies of registers still to be loaded. */
    while (LOOPS && (tile + step) * ADM_TILE < n) {
        tile += step;
        tokens = adm_one_read_to(index, tile, n - 1, lane);
        adm_one_scores<T, D>(kv, q, lane, scores);
        adm_one_pages(s, buffers.page_table, head.b, head.kv_head, &tokens);
        adm_one_load_k<D>(&kv, rows, tokens);
        adm_one_softmax<T, D, false>(sum, scores, scale_log2, ADM_TILE, lane, p);
        adm_tile_values<T, D>(sum, kv.v, p);
        adm_one_load_v<D>(&kv, rows, tokens);
    }
    adm_one_scores<T, D>(kv, q, lane, scores);
    adm_one_softmax<T, D, !LOOPS>(sum, scores, scale_log2, n - tile * ADM_TILE, lane, p);
    adm_tile_values<T, D>(sum, kv.v, p);
}

/* q (batch, n_q, d), K, V, index (batch, S, budget), n_selected (batch, S) -> out (batch, n_q, d). Grid (splits, n_q, batch), a
 * cluster per head. Dynamic shared memory: the warps' sums, slots_of(warps) of them.
 *
 * A head's tiles go round the blocks of its cluster, then round the warps of a block: tile i of warp w of block r is
 * (i n_warps + w) n_blocks + r. At the usual budgets a warp has one tile, and all K and V are on their way at once; where it
 * never has more, LOOPS is false. */
template <typename T, int D, bool LOOPS, int MAX_WARPS>
__global__ void __launch_bounds__(32 * MAX_WARPS, 1)
    attention_kernel(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers buffers,
                     float scale_log2) {
    extern __shared__ __align__(16) float warp_o[];
    __shared__ float2 warp_ml[max_warps_of<D>()];
    __shared__ float partial_o[MAX_SPLITS][D];
    __shared__ float2 partial_ml[MAX_SPLITS];
    __shared__ uint64_t sent;
    const attention_partials partials = {&partial_o[0][0], partial_ml, &sent};
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    const unsigned splits = gridDim.x, split = blockIdx.x;
    const attention_head head = head_of(s);
    put_none<D>(n_warps, warp_o, warp_ml);
    expect_partials<D>(splits, partials);
    ADM_PLANT_BEGIN
    adm_tile_sum<D> sum;
    attend<T, D, LOOPS>(s, buffers, head, scale_log2, warp * splits + split, n_warps * splits, &sum);
    put_sum<D>(sum, warp, lane, warp_o, warp_ml);
    __syncthreads();
    ADM_PLANT_END
    finish<T, D>(warp_o, warp_ml, n_warps, splits, split, partials, (T *)buffers.out + head.row * D);
}

/* ---- launcher ---- */

/* By what a warp may have: one tile; more, with 168 registers, of which an SM has enough for 12 warps; more, with 128. */
enum { FEWER_WARPS = 12 };
#define LOOPING(T, d)                                                     \
    {(const void *)attention_kernel<T, d, false, max_warps_of<d>()>,      \
     (const void *)attention_kernel < T,                                  \
     d,                                                                   \
     true,                                                                \
     max_warps_of<d>() < FEWER_WARPS ? max_warps_of<d>() : FEWER_WARPS >, \
     (const void *)attention_kernel<T, d, true, max_warps_of<d>()>}
static const void *const kernels[3][2][3] = {
    {LOOPING(__half, 64), LOOPING(__nv_bfloat16, 64)},
    {LOOPING(__half, 128), LOOPING(__nv_bfloat16, 128)},
    {LOOPING(__half, 256), LOOPING(__nv_bfloat16, 256)},
};

typedef struct attention_cut {
    unsigned splits, n_warps;
} attention_cut;

/* What was fastest on an H200 at d = 128, where it is not the rule below (zeros). Up to 16 tiles have a warp each, four
 * to a block; beyond that what the SMs have registers for. Where there are many heads each has a block. */
static attention_cut measured_cut(unsigned heads, unsigned tiles, unsigned n_sms) {
    if (heads > n_sms || heads * 32 <= n_sms) return attention_cut{0, 0};
    if (heads * 2 > n_sms) return attention_cut{1, 16}; /* at a budget of 64 too */
    if (tiles <= 16) return attention_cut{tiles <= 4 ? 1u : tiles <= 8 ? 2u : 4u, 4};
    if (tiles <= 36 && heads * 4 <= n_sms) return attention_cut{6, 6};
    if (heads * 16 <= n_sms) return attention_cut{8, 8};
    if (heads * 8 <= n_sms) return attention_cut{6, 6};
    if (heads * 4 <= n_sms * 17 / 20) return attention_cut{4, 8};
    if (heads * 4 <= n_sms) return attention_cut{7, 5};
    if (heads * 16 <= n_sms * 5) return tiles <= 36 ? attention_cut{5, 6} : attention_cut{8, 4};
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
    grid.shared_bytes = slots_of(n_warps) * shape->heads.head_dim * sizeof(float);
    grid.cluster = splits > 1 ? splits : 0;
    grid.dependent = true;
    float scale_log2 = shape->scale * 1.44269504f;
    void *args[] = {(void *)shape, (void *)buffers, &scale_log2};
    const bool fit = heads * splits <= FEWER_WARPS / n_warps * (unsigned)limits.n_sms;
    const unsigned loops = tiles <= splits * n_warps ? 0 : fit ? 1 : 2;
    return adm_gpu_launch("attention over selected tokens",
                          kernels[adm_dim_index(shape->heads.head_dim)][adm_dtype_index(shape->dtype)][loops], grid, args,
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
