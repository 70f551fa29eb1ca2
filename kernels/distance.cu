/* distance.cu: how far each token's codes are from each query head's, on bit planes.
 *
 *   grid   x: pieces of the sequence, y: KV heads, z: sequences
 *   warp   a few tiles of 32 tokens, a lane a token: all loads first, 16 bytes each, then every query head of the group
 *
 * History (none is timed yet: tests/gpu_bench.cu prints the share of a plain read's bandwidth):
 *   1  as above; while earlier kernels drain, the codes are already on their way into L2 */
#include "kernels/distance.cuh"
#include "kernels/encode.cuh"

enum { DISTANCE_WARPS = 8, MAX_GROUP = 64 /* query heads a KV head */ };

/* Tiles a warp: as many as fill 32 registers a lane. */
template <int W> struct distance_tiles {
    static const int n = 16 / W;
};

/* One lane's words of one plane of a tile. */
template <int W> static __device__ __forceinline__ void load_plane(const uint32_t *plane, uint32_t (&words)[W]) {
    const uint32_t lane = threadIdx.x % 32;
    if (W == 2) {
        const uint2 x = __ldcs((const uint2 *)plane + lane);
        words[0] = x.x, words[1] = x.y;
    } else {
#pragma unroll
        for (int i = 0; i < W / 4; i++) {
            const uint4 x = __ldcs((const uint4 *)plane + lane * (W / 4) + i);
            words[4 * i] = x.x, words[4 * i + 1] = x.y, words[4 * i + 2] = x.z, words[4 * i + 3] = x.w;
        }
    }
}

template <int W, int METRIC>
static __global__ void __launch_bounds__(32 * DISTANCE_WARPS)
    distance_tokens(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    const int n = distance_tiles<W>::n;
    __shared__ __align__(16) adm_query_planes<W> query[MAX_GROUP];
    const uint32_t lane = threadIdx.x % 32, kv_head = blockIdx.y, b = blockIdx.z;
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads;
    const uint32_t tile = (blockIdx.x * DISTANCE_WARPS + threadIdx.x / 32) * n;
    const uint32_t *from = p.planes + ((size_t)(b * s.heads.n_kv_heads + kv_head) * (s.capacity / 32) + tile) * (64 * W);
    /* The codes of older tokens depend on no predecessor: start them towards L2. The length may be about to change, and
     * is a mere hint here; not through L1, which would keep it. */
    const uint32_t hint = min(__ldcg(&p.length[b]), s.capacity);
    for (uint32_t line = lane; line < n * 2u * W && (tile + line / (2 * W)) * 32 < hint; line += 32)
        adm_prefetch_l2(from + 32 * line);
    adm_wait_for_predecessors();
    const uint32_t length = p.length[b];

    uint32_t high[n][W] = {}, low[n][W] = {};
#pragma unroll
    for (int i = 0; i < n; i++)
        if ((tile + i) * 32 < length) {
            load_plane<W>(from + i * 64 * W, high[i]);
            load_plane<W>(from + i * 64 * W + 32 * W, low[i]);
        }
    const uint8_t *packed = p.packed + ((size_t)b * (s.heads.n_q_heads + s.heads.n_kv_heads) + kv_head * group) * (8 * W);
    for (uint32_t i = threadIdx.x; i < group * W; i += blockDim.x) {
        const uint2 pair = ((const uint2 *)packed)[i];
        adm_query_word<W>(&query[i / W], i % W, adm_gather16(pair.x >> 1) | adm_gather16(pair.y >> 1) << 16,
                          adm_gather16(pair.x) | adm_gather16(pair.y) << 16);
    }
    __syncthreads();
    for (uint32_t g = 0; g < group; g++) {
        const adm_query_planes<W> q = query[g];
        uint16_t *to = p.distance + (size_t)(b * s.heads.n_q_heads + kv_head * group + g) * s.capacity;
#pragma unroll
        for (int i = 0; i < n; i++) {
            const uint32_t token = (tile + i) * 32 + lane;
            const uint32_t d = adm_distance_of<W, METRIC>(q, high[i], low[i]);
            if (token < length) to[token] = (uint16_t)d;
        }
    }
}

typedef void distance_kernel(const adm_gpu_shape, const adm_gpu_buffers);

static adm_status launch(const char *what, distance_kernel *const kernels[3], const adm_gpu_shape *shape,
                         const adm_gpu_buffers *buffers, adm_gpu_stream stream, adm_error *err) {
    static const uint32_t tiles[3] = {distance_tiles<2>::n, distance_tiles<4>::n, distance_tiles<8>::n};
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status != ADM_OK) return status;
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (group > MAX_GROUP)
        return adm_fail(err, ADM_EUNSUPPORTED, "%s: %u query heads share a KV head; the kernel takes at most %d", what,
                        group, MAX_GROUP);
    const int d = adm_dim_index(shape->heads.head_dim);
    const uint32_t tokens = 32 * tiles[d] * DISTANCE_WARPS;
    adm_gpu_grid grid = {};
    grid.blocks = dim3((shape->capacity + tokens - 1) / tokens, shape->heads.n_kv_heads, shape->batch);
    grid.threads = 32 * DISTANCE_WARPS;
    grid.dependent = true;
    void *args[] = {(void *)shape, (void *)buffers};
    return adm_gpu_launch(what, (const void *)kernels[d], grid, args, stream, err);
}

extern "C" adm_status adm_gpu_distance_l1(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                          adm_gpu_stream stream, adm_error *err) {
    static distance_kernel *const kernels[3] = {distance_tokens<2, ADM_METRIC_L1>, distance_tokens<4, ADM_METRIC_L1>,
                                                distance_tokens<8, ADM_METRIC_L1>};
    return launch("distance l1", kernels, shape, buffers, stream, err);
}

extern "C" adm_status adm_gpu_distance_xor(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                           adm_gpu_stream stream, adm_error *err) {
    static distance_kernel *const kernels[3] = {distance_tokens<2, ADM_METRIC_XOR>, distance_tokens<4, ADM_METRIC_XOR>,
                                                distance_tokens<8, ADM_METRIC_XOR>};
    return launch("distance xor", kernels, shape, buffers, stream, err);
}
