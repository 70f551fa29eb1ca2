/* topk.cu: the budget smallest distances of every row, several blocks a row, exact and in order (select.cuh).
 *
 *   distance [batch][S][capacity] -> index [batch][S][budget], n_selected [batch][S]        S: see gpu.h
 *
 *   cluster   one kernel: the blocks of a row form a cluster and read one another's histograms in shared memory
 *   two       two kernels: histograms to the workspace, then the select; for chips without clusters
 *
 * History (us on an H200, 32 rows, k = 256, cold: 32K / 128K):
 *   1  as above, 8 blocks of 512 threads a row                                                      8.9 / 18.7
 *      Stall samples: a fifth of the time 15 of 16 warps waited for the one that searched the cut. */
#include "kernels/select.cuh"

enum { TOPK_THREADS = 512, TOPK_WARPS = TOPK_THREADS / 32, MAX_SPLIT = 8 };

/* Largest distance + 1. */
static uint32_t n_bins_of(const adm_gpu_shape *s) {
    const uint32_t group = s->heads.n_q_heads / s->heads.n_kv_heads;
    return 3 * s->heads.head_dim * (s->selection == ADM_SELECT_GROUP ? group : 1) + 1;
}

/* Where a block's chunk lies: whole groups of 256 tokens. */
static __device__ __forceinline__ uint2 chunk_of(uint32_t length, uint32_t split, uint32_t rank) {
    const uint32_t tokens = ((length + split - 1) / split + 255) / 256 * 256;
    return make_uint2(min(rank * tokens, length), min((rank + 1) * tokens, length));
}

/* Four loads of 8 tokens in flight a thread. `kept`, where not NULL, gets a copy in shared memory. */
static __device__ __forceinline__ void count_chunk(const uint16_t *distance, uint32_t start, uint32_t end,
                                                   const adm_contest &c, uint32_t *histogram, uint16_t *kept) {
    for (uint32_t base = start + 8 * threadIdx.x; base < end; base += 4 * 8 * TOPK_THREADS) {
        uint4 x[4];
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t token = base + i * 8 * TOPK_THREADS;
            if (token < end) x[i] = *(const uint4 *)(distance + token);
        }
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t token = base + i * 8 * TOPK_THREADS;
            if (token >= end) break;
            if (kept != NULL) *(uint4 *)(kept + (token - start)) = x[i];
            adm_count8(histogram, x[i], token, c);
        }
    }
}

static __device__ __forceinline__ uint32_t row_length(const adm_gpu_shape &s, const adm_gpu_buffers &p, uint32_t row) {
    return p.length[row / (s.selection == ADM_SELECT_GROUP ? s.heads.n_kv_heads : s.heads.n_q_heads)];
}

/* Grid (split, rows), a cluster a row. Dynamic shared memory: kept_tokens of the chunk's distances, then three
 * histograms. */
static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_cluster(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins,
                 uint32_t kept_tokens) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(16) uint16_t kept[];
    __shared__ uint2 counts[TOPK_WARPS];
    __shared__ adm_cut cut;
    uint32_t *histogram = (uint32_t *)(kept + kept_tokens), *total = histogram + n_bins, *before = total + n_bins;
    const uint32_t split = gridDim.x, rank = adm_cluster_rank(), row = blockIdx.y;
    const adm_team team = {threadIdx.x / 32, TOPK_WARPS};
    adm_start_dependents();
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) histogram[bin] = 0;
    const uint32_t length = row_length(s, p, row);
    const adm_contest c = adm_contest_of(s.rule, length);
    const uint2 chunk = chunk_of(length, split, rank);
    const uint16_t *distance = p.distance + (size_t)row * s.capacity;
    const bool keep = chunk.y - chunk.x <= kept_tokens;
    __syncthreads();
    adm_wait_for_predecessors();
    count_chunk(distance, chunk.x, chunk.y, c, histogram, keep ? kept : NULL);
    adm_cluster_sync();
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) {
        uint32_t counted[MAX_SPLIT], all = 0, earlier = 0;
#pragma unroll
        for (uint32_t r = 0; r < MAX_SPLIT; r++) counted[r] = r < split ? adm_cluster_peer(histogram, r)[bin] : 0;
#pragma unroll
        for (uint32_t r = 0; r < MAX_SPLIT; r++) {
            all += counted[r];
            earlier += r < rank ? counted[r] : 0;
        }
        total[bin] = all;
        before[bin] = earlier;
    }
    adm_cluster_arrive(); /* this block is done with its neighbours' memory */
    __syncthreads();
    adm_find_cut(total, before, n_bins, c, chunk.x, team, counts, &cut);
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    uint32_t *index = p.index + (size_t)row * s.rule.budget;
    adm_write_winners(keep ? kept : distance + chunk.x, chunk.x, chunk.y, c, cut, team, counts,
                      [&](uint32_t place, uint32_t token) { index[place] = token; });
    adm_cluster_wait(); /* and they with its */
#endif
}

/* Grid (split, rows): each block's histogram, in dynamic shared memory, to the workspace [rows][split][n_bins]. */
static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_count(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins) {
    extern __shared__ __align__(16) uint32_t histogram[];
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    adm_start_dependents();
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) histogram[bin] = 0;
    const uint32_t length = row_length(s, p, row);
    const uint2 chunk = chunk_of(length, split, rank);
    __syncthreads();
    adm_wait_for_predecessors();
    count_chunk(p.distance + (size_t)row * s.capacity, chunk.x, chunk.y, adm_contest_of(s.rule, length), histogram, NULL);
    __syncthreads();
    uint32_t *to = (uint32_t *)p.workspace + ((size_t)row * split + rank) * n_bins;
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) to[bin] = histogram[bin];
}

static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_select(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t n_bins) {
    extern __shared__ __align__(16) uint32_t total[];
    __shared__ uint2 counts[TOPK_WARPS];
    __shared__ adm_cut cut;
    uint32_t *before = total + n_bins;
    const uint32_t split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    const adm_team team = {threadIdx.x / 32, TOPK_WARPS};
    adm_start_dependents();
    const uint32_t length = row_length(s, p, row);
    const adm_contest c = adm_contest_of(s.rule, length);
    const uint2 chunk = chunk_of(length, split, rank);
    const uint32_t *histograms = (const uint32_t *)p.workspace + (size_t)row * split * n_bins;
    adm_wait_for_predecessors();
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) {
        uint32_t counted[MAX_SPLIT], all = 0, earlier = 0;
#pragma unroll
        for (uint32_t r = 0; r < MAX_SPLIT; r++) counted[r] = r < split ? histograms[r * n_bins + bin] : 0;
#pragma unroll
        for (uint32_t r = 0; r < MAX_SPLIT; r++) {
            all += counted[r];
            earlier += r < rank ? counted[r] : 0;
        }
        total[bin] = all;
        before[bin] = earlier;
    }
    __syncthreads();
    adm_find_cut(total, before, n_bins, c, chunk.x, team, counts, &cut);
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    uint32_t *index = p.index + (size_t)row * s.rule.budget;
    adm_write_winners(p.distance + (size_t)row * s.capacity + chunk.x, chunk.x, chunk.y, c, cut, team, counts,
                      [&](uint32_t place, uint32_t token) { index[place] = token; });
}

/* ---- launchers ---- */

/* Blocks a row: enough to fill about 132 processors twice, but no chunk below 2,048 tokens. Of the shape alone, since
 * the workspace depends on it. */
static uint32_t split_of(const adm_gpu_shape *s) {
    const uint32_t n_rows = s->batch * adm_gpu_select_heads(s);
    uint32_t split = 1;
    while (split < MAX_SPLIT && 2 * split * n_rows <= 264 && s->capacity / (2 * split) >= 2048) split *= 2;
    return split;
}

static adm_gpu_grid grid_of(const adm_gpu_shape *shape, uint32_t split, size_t shared_bytes) {
    adm_gpu_grid grid = {};
    grid.blocks = dim3(split, shape->batch * adm_gpu_select_heads(shape));
    grid.threads = TOPK_THREADS;
    grid.shared_bytes = shared_bytes;
    grid.dependent = true;
    return grid;
}

/* A row's bins, three times over, must fit a block's shared memory, and the rows the grid's second dimension. */
static adm_status check(const adm_gpu_shape *shape, adm_gpu_limits *limits, adm_error *err) {
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(limits, err);
    if (status != ADM_OK) return status;
    const uint32_t n_rows = shape->batch * adm_gpu_select_heads(shape), n_bins = n_bins_of(shape);
    if (n_rows > 65535)
        return adm_fail(err, ADM_EUNSUPPORTED, "top-k of %u rows: the kernel takes at most 65535", n_rows);
    if (3 * n_bins * sizeof(uint32_t) + 1024 > (size_t)limits->block_shared_bytes)
        return adm_fail(err, ADM_EUNSUPPORTED, "top-k of distances up to %u: three histograms of them need %zu bytes of "
                        "shared memory, and a block of this device has %d", n_bins - 1, 3 * n_bins * sizeof(uint32_t),
                        limits->block_shared_bytes);
    return ADM_OK;
}

extern "C" adm_status adm_gpu_topk_cluster_split(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                 uint32_t split, adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = check(shape, &limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major < 9)
        return adm_fail(err, ADM_EUNSUPPORTED, "this top-k needs clusters of blocks, compute capability 9.0; the "
                        "device has %d.x: use the variant with two kernels", limits.compute_major);
    if (split > MAX_SPLIT || (split & (split - 1)) != 0)
        return adm_fail(err, ADM_EINPUT, "top-k with %u blocks a row: they are 1, 2, 4 or 8", split);
    if (split == 0) split = split_of(shape);
    uint32_t n_bins = n_bins_of(shape), kept_tokens = ((shape->capacity + split - 1) / split + 255) & ~255u;
    const size_t bins_bytes = 3 * n_bins * sizeof(uint32_t);
    if (bins_bytes + kept_tokens * sizeof(uint16_t) > 88 * 1024) kept_tokens = 0; /* two blocks a processor; read twice */
    adm_gpu_grid grid = grid_of(shape, split, bins_bytes + kept_tokens * sizeof(uint16_t));
    grid.cluster = split;
    void *args[] = {(void *)shape, (void *)buffers, &n_bins, &kept_tokens};
    return adm_gpu_launch("top-k", (const void *)topk_cluster, grid, args, stream, err);
}

extern "C" adm_status adm_gpu_topk_cluster(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                           adm_gpu_stream stream, adm_error *err) {
    return adm_gpu_topk_cluster_split(shape, buffers, 0, stream, err);
}

extern "C" size_t adm_gpu_topk_two_workspace_bytes(const adm_gpu_shape *shape) {
    return (size_t)shape->batch * adm_gpu_select_heads(shape) * split_of(shape) * n_bins_of(shape) * sizeof(uint32_t);
}

extern "C" adm_status adm_gpu_topk_two(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                       adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = check(shape, &limits, err);
    if (status != ADM_OK) return status;
    uint32_t n_bins = n_bins_of(shape);
    const size_t bytes = n_bins * sizeof(uint32_t);
    void *args[] = {(void *)shape, (void *)buffers, &n_bins};
    status = adm_gpu_launch("top-k, counting", (const void *)topk_count, grid_of(shape, split_of(shape), bytes), args,
                            stream, err);
    if (status != ADM_OK) return status;
    return adm_gpu_launch("top-k, selecting", (const void *)topk_select, grid_of(shape, split_of(shape), 2 * bytes), args,
                          stream, err);
}
