/* distance.cu: how far each token's codes are from each query head's, on bit planes.
 *
 *   planes [batch][n_kv_heads][capacity/32] tiles -> distance [batch][S][capacity]      both as gpu.h has them
 *
 *   sequence 0, KV head 0 | head 1 | ... | sequence 1, head 0 | ...      one line of loads of 4 KiB
 *   [ warp 0 )[ warp 1 )[ warp 2 )[ ...                                  equal ranges, whatever the lengths
 *
 * A warp has a ring of loads in shared memory, filled by bulk copies of its own. The first ones are on their way before the
 * kernel before this one has ended; only what holds the newest two tokens has to wait for it.
 *
 * Versions, us and share of the read limit, cold: 32 KV heads 32K, 128K; 8 KV heads 32K (H200; more: kernels/LOG.md)
 *   1  blocks of 8 warps x 4 tiles, loaded at once; L2 prefetches        10.9 (72%), 37.2 (84%); 6.1
 *   2  equal ranges of loads of 2 KiB, rings filled before the wait       9.5 (80%), 34.9 (88%); 5.3
 *   3  loads of 4 KiB, 2 blocks per SM: half the upkeep                   9.3 (82%), 34.3 (89%); 5.0 */
#include "kernels/distance/distance.h"
#include "kernels/distance/distance.cuh"
#include "kernels/encode/encode.cuh"

enum { DISTANCE_WARPS = 8, MAX_GROUP = 64 /* query heads per KV head */, LOAD_BYTES = 4096 };

/* A position in the line of loads. */
typedef struct distance_position {
    uint32_t b, kv_head, load;
    uint32_t length, n_loads; /* of sequence b */
} distance_position;

template <int W> struct distance_load {
    static const int tiles = LOAD_BYTES / (256 * W);
    static const int tokens = 32 * tiles;
};

template <int W>
static __device__ __forceinline__ void enter_sequence(const adm_gpu_shape &s, const uint32_t *length, distance_position *at) {
    at->length = at->n_loads = 0;
    while (at->b < s.batch && at->n_loads == 0) {
        at->length = length[at->b];
        at->n_loads = (at->length + distance_load<W>::tokens - 1) / distance_load<W>::tokens;
        if (at->n_loads == 0) at->b++;
    }
}

template <int W>
static __device__ __forceinline__ void advance(const adm_gpu_shape &s, const uint32_t *length, distance_position *at) {
    if (++at->load < at->n_loads) return;
    at->load = 0;
    if (++at->kv_head < s.heads.n_kv_heads) return;
    at->kv_head = 0;
    at->b++;
    enter_sequence<W>(s, length, at);
}

/* The first position of this warp's range of n loads; every lane the same. */
template <int W>
static __device__ __forceinline__ distance_position range_of(const adm_gpu_shape &s, const uint32_t *length, uint32_t warp,
                                                             uint32_t n_warps, uint32_t *n) {
    const uint32_t lane = threadIdx.x % 32, unit = distance_load<W>::tokens;
    uint64_t end[2], total = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) { /* lane l knows where sequences l and l + 32 end in the line */
        const uint32_t b = lane + 32 * i;
        uint64_t upto = b < s.batch ? (uint64_t)((length[b] + unit - 1) / unit) * s.heads.n_kv_heads : 0;
#pragma unroll
        for (int step = 1; step < 32; step *= 2) {
            const uint64_t other = __shfl_up_sync(ADM_FULL_WARP, upto, step);
            if (lane >= step) upto += other;
        }
        end[i] = total + upto;
        total += __shfl_sync(ADM_FULL_WARP, upto, 31);
    }
    const uint64_t first = warp * total / n_warps;
    *n = (uint32_t)((warp + 1) * total / n_warps - first);
    distance_position at = {};
    at.b = __popc(__ballot_sync(ADM_FULL_WARP, end[0] <= first)) + __popc(__ballot_sync(ADM_FULL_WARP, end[1] <= first));
    at.b = min(at.b, s.batch); /* sequences beyond the batch end where the line does */
    const uint32_t before = at.b == 0 ? 0 : at.b - 1;
    uint64_t start = __shfl_sync(ADM_FULL_WARP, before < 32 ? end[0] : end[1], before % 32);
    if (at.b == 0) start = 0;
    if (at.b < s.batch) {
        at.length = length[at.b];
        at.n_loads = (at.length + unit - 1) / unit;
        at.kv_head = (uint32_t)((first - start) / at.n_loads);
        at.load = (uint32_t)((first - start) % at.n_loads);
    }
    return at;
}

template <int W>
static __device__ __forceinline__ const unsigned char *codes_at(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                                const distance_position &at) {
    const size_t head = (size_t)at.b * s.heads.n_kv_heads + at.kv_head;
    return (const unsigned char *)(p.planes + head * (s.capacity / 32) * (64 * W)) + (size_t)at.load * LOAD_BYTES;
}

/* Tiles of a load that hold tokens. */
template <int W> static __device__ __forceinline__ uint32_t tiles_at(const distance_position &at) {
    return min((at.length + 31) / 32 - at.load * distance_load<W>::tiles, (uint32_t)distance_load<W>::tiles);
}

/* The planes of a KV head's queries, from their packed rows to shared memory of the warp. */
template <int W>
static __device__ __forceinline__ void load_queries(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                    const distance_position &at, uint32_t group, adm_query_planes<W> *query) {
    const size_t row = (size_t)at.b * (s.heads.n_q_heads + s.heads.n_kv_heads) + at.kv_head * group;
    const uint2 *packed = (const uint2 *)(p.packed + row * (8 * W));
    __syncwarp();
    for (uint32_t i = threadIdx.x % 32; i < group * W; i += 32) {
        const uint2 pair = packed[i];
        adm_query_word<W>(&query[i / W], i % W, adm_gather16(pair.x >> 1) | adm_gather16(pair.y >> 1) << 16,
                          adm_gather16(pair.x) | adm_gather16(pair.y) << 16);
    }
    __syncwarp();
}

/* planes (batch, n_kv, capacity/32 tiles), packed (rows, d/4) -> distance (batch, S, capacity). Grid: any number of blocks.
 * Dynamic shared memory: [warps][stages] loads, [warps][group] queries. Stored profiles know the kernel by this name. */
template <int W, int METRIC>
static __global__ void __launch_bounds__(32 * DISTANCE_WARPS)
    distance_pieces(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t stages) {
    const int n = distance_load<W>::tiles;
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads;
    const bool grouped = s.selection == ADM_SELECT_GROUP;
    adm_query_planes<W> *query = (adm_query_planes<W> *)(shared + DISTANCE_WARPS * stages * LOAD_BYTES) + warp * group;
    uint32_t n_left;
    adm_start_dependents();
    distance_position at = range_of<W>(s, p.length, blockIdx.x * DISTANCE_WARPS + warp, gridDim.x * DISTANCE_WARPS, &n_left);
#if __CUDA_ARCH__ >= 900
    __shared__ uint64_t barriers[DISTANCE_WARPS * 8];
    uint64_t *barrier = barriers + warp * 8;
    unsigned char *ring = shared + warp * stages * LOAD_BYTES;
    distance_position ahead = at;
    uint32_t n_ahead = 0; /* loads asked for so far */
    const uint32_t n_all = n_left;
    if (lane == 0) {
        for (uint32_t buffer = 0; buffer < stages; buffer++) adm_barrier_init(&barrier[buffer]);
        adm_barrier_fence();
        for (; n_ahead < min(stages, n_all) && adm_settled((ahead.load + 1) * distance_load<W>::tokens, ahead.length);
             n_ahead++) {
            adm_bulk_copy(ring + n_ahead * LOAD_BYTES, codes_at<W>(s, p, ahead), LOAD_BYTES, &barrier[n_ahead]);
            advance<W>(s, p.length, &ahead);
        }
    }
    adm_wait_for_predecessors();
    if (lane == 0)
        for (; n_ahead < min(stages, n_all); n_ahead++) {
            adm_bulk_copy(ring + n_ahead * LOAD_BYTES, codes_at<W>(s, p, ahead), tiles_at<W>(ahead) * (256 * W),
                          &barrier[n_ahead]);
            advance<W>(s, p.length, &ahead);
        }
    __syncwarp();
    uint32_t buffer = 0, parity = 0;
#else
    adm_wait_for_predecessors();
#endif
    for (bool new_head = true; n_left > 0; n_left--) {
        if (new_head) load_queries<W>(s, p, at, group, query);
        uint32_t high[n][W], low[n][W];
#if __CUDA_ARCH__ >= 900
        const uint32_t *tile = (const uint32_t *)(ring + buffer * LOAD_BYTES);
        adm_barrier_wait(&barrier[buffer], parity);
#pragma unroll
        for (int i = 0; i < n; i++) adm_read_tile<W>(tile + i * 64 * W, high[i], low[i]);
        __syncwarp();
        if (lane == 0 && n_ahead < n_all) {
            adm_bulk_copy(ring + buffer * LOAD_BYTES, codes_at<W>(s, p, ahead), tiles_at<W>(ahead) * (256 * W),
                          &barrier[buffer]);
            advance<W>(s, p.length, &ahead);
            n_ahead++;
        }
        if (++buffer == stages) buffer = 0, parity ^= 1;
#else
        const uint32_t *tile = (const uint32_t *)codes_at<W>(s, p, at);
#pragma unroll
        for (int i = 0; i < n; i++)
            if (i < tiles_at<W>(at)) adm_read_tile<W>(tile + i * 64 * W, high[i], low[i]);
#endif
        const uint32_t token = at.load * distance_load<W>::tokens + lane;
        const size_t heads = grouped ? s.heads.n_kv_heads : s.heads.n_q_heads;
        uint16_t *to = p.distance + (at.b * heads + (grouped ? at.kv_head : at.kv_head * group)) * s.capacity + token;
        uint32_t sum[n] = {};
        for (uint32_t g = 0; g < group; g++) {
            const adm_query_planes<W> q = query[g];
#pragma unroll
            for (int i = 0; i < n; i++) {
                const uint32_t d = adm_distance_of<W, METRIC>(q, high[i], low[i]);
                sum[i] = grouped ? sum[i] + d : d;
            }
            if (grouped && g + 1 < group) continue;
#pragma unroll
            for (int i = 0; i < n; i++)
                if (token + 32 * i < at.length) to[32 * i] = (uint16_t)sum[i];
            to += s.capacity;
        }
        advance<W>(s, p.length, &at);
        new_head = at.load == 0;
    }
}

typedef void distance_kernel(const adm_gpu_shape, const adm_gpu_buffers, uint32_t);

static adm_status launch(const char *what, distance_kernel *const kernels[3], const adm_gpu_shape *shape,
                         const adm_gpu_buffers *buffers, uint32_t blocks_per_sm, uint32_t stages, adm_gpu_stream stream,
                         adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (group > MAX_GROUP)
        return adm_fail(err, ADM_EUNSUPPORTED, "%s: %u query heads share a KV head; the kernel takes at most %d", what, group,
                        MAX_GROUP);
    if (stages < 1 || stages > 8) return adm_fail(err, ADM_EINPUT, "%s with a ring of %u loads: 1 to 8", what, stages);
    adm_gpu_grid grid = {};
    grid.blocks = dim3(blocks_per_sm * (uint32_t)limits.n_sms);
    grid.threads = 32 * DISTANCE_WARPS;
    grid.shared_bytes = DISTANCE_WARPS * (stages * LOAD_BYTES + group * (shape->heads.head_dim / 32) * 12);
    grid.dependent = true;
    void *args[] = {(void *)shape, (void *)buffers, &stages};
    return adm_gpu_launch(what, (const void *)kernels[adm_dim_index(shape->heads.head_dim)], grid, args, stream, err);
}

#define METRIC_TABLE(metric) {distance_pieces<2, metric>, distance_pieces<4, metric>, distance_pieces<8, metric>}

extern "C" adm_status adm_gpu_distance_l1_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                uint32_t blocks_per_sm, uint32_t stages, adm_gpu_stream stream,
                                                adm_error *err) {
    static distance_kernel *const kernels[3] = METRIC_TABLE(ADM_METRIC_L1);
    return launch("distance l1", kernels, shape, buffers, blocks_per_sm, stages, stream, err);
}

extern "C" adm_status adm_gpu_distance_l1(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                          adm_error *err) {
    return adm_gpu_distance_l1_tuned(shape, buffers, 2, 2, stream, err);
}

extern "C" adm_status adm_gpu_distance_xor(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    static distance_kernel *const kernels[3] = METRIC_TABLE(ADM_METRIC_XOR);
    return launch("distance xor", kernels, shape, buffers, 2, 2, stream, err);
}
