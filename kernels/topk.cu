/* topk.cu: the budget smallest distances of every row, several blocks a row, exact and in order (select.cuh).
 *
 *   cluster   one kernel: the blocks of a row form a cluster and read one another's histograms in shared memory
 *   two       two kernels: histograms to the workspace, then the select; for chips without clusters
 *
 * History (none is timed yet: tests/gpu_bench.cu):
 *   1  as above */
#include "kernels/select.cuh"

enum { TOPK_THREADS = 512, TOPK_WARPS = TOPK_THREADS / 32, MAX_BINS = 3 * ADM_MAX_HEAD_DIM + 1, MAX_SPLIT = 8 };

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
    return p.length[row / s.heads.n_q_heads];
}

/* Grid (split, rows), a cluster a row. kept_tokens of a chunk fit the dynamic shared memory. */
static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_cluster(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p,
                 uint32_t kept_tokens) {
#if __CUDA_ARCH__ >= 900
    extern __shared__ __align__(16) uint16_t kept[];
    __shared__ uint32_t histogram[MAX_BINS], total[MAX_BINS], before[MAX_BINS], counts[2 * TOPK_WARPS];
    __shared__ adm_cut cut;
    const uint32_t n_bins = 3 * s.heads.head_dim + 1, split = gridDim.x, rank = adm_cluster_rank(), row = blockIdx.y;
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) histogram[bin] = 0;
    adm_wait_for_predecessors();
    const uint32_t length = row_length(s, p, row);
    const adm_contest c = adm_contest_of(s.rule, length);
    const uint2 chunk = chunk_of(length, split, rank);
    const uint16_t *distance = p.distance + (size_t)row * s.capacity;
    const bool keep = chunk.y - chunk.x <= kept_tokens;
    __syncthreads();
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
    if (threadIdx.x < 32) {
        const adm_cut found = adm_cut_of(total, before, n_bins, c, chunk.x);
        if (threadIdx.x == 0) cut = found;
    }
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    __syncthreads();
    adm_write_winners(keep ? kept : distance + chunk.x, chunk.x, chunk.y, c, cut, threadIdx.x / 32, TOPK_WARPS, counts,
                      p.index + (size_t)row * s.rule.budget);
    adm_cluster_wait(); /* and they with its */
#endif
}

/* Grid (split, rows): each block's histogram to the workspace [rows][split][n_bins]. */
static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_count(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    __shared__ uint32_t histogram[MAX_BINS];
    const uint32_t n_bins = 3 * s.heads.head_dim + 1, split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) histogram[bin] = 0;
    __syncthreads();
    adm_wait_for_predecessors();
    const uint32_t length = row_length(s, p, row);
    const uint2 chunk = chunk_of(length, split, rank);
    count_chunk(p.distance + (size_t)row * s.capacity, chunk.x, chunk.y, adm_contest_of(s.rule, length), histogram, NULL);
    __syncthreads();
    uint32_t *to = (uint32_t *)p.workspace + ((size_t)row * split + rank) * n_bins;
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) to[bin] = histogram[bin];
}

static __global__ void __launch_bounds__(TOPK_THREADS)
    topk_select(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p) {
    __shared__ uint32_t total[MAX_BINS], before[MAX_BINS], counts[2 * TOPK_WARPS];
    __shared__ adm_cut cut;
    const uint32_t n_bins = 3 * s.heads.head_dim + 1, split = gridDim.x, rank = blockIdx.x, row = blockIdx.y;
    adm_wait_for_predecessors();
    const uint32_t length = row_length(s, p, row);
    const adm_contest c = adm_contest_of(s.rule, length);
    const uint2 chunk = chunk_of(length, split, rank);
    const uint32_t *histograms = (const uint32_t *)p.workspace + (size_t)row * split * n_bins;
    for (uint32_t bin = threadIdx.x; bin < n_bins; bin += TOPK_THREADS) {
        uint32_t all = 0, earlier = 0;
        for (uint32_t r = 0; r < split; r++) {
            const uint32_t counted = histograms[r * n_bins + bin];
            all += counted;
            earlier += r < rank ? counted : 0;
        }
        total[bin] = all;
        before[bin] = earlier;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        const adm_cut found = adm_cut_of(total, before, n_bins, c, chunk.x);
        if (threadIdx.x == 0) cut = found;
    }
    if (rank == 0 && threadIdx.x == 0) p.n_selected[row] = min(s.rule.budget, length);
    __syncthreads();
    adm_write_winners(p.distance + (size_t)row * s.capacity + chunk.x, chunk.x, chunk.y, c, cut, threadIdx.x / 32,
                      TOPK_WARPS, counts, p.index + (size_t)row * s.rule.budget);
}

/* ---- launchers ---- */

/* Blocks a row: enough to fill about 132 processors twice, but no chunk below 2,048 tokens. Of the shape alone, since
 * the workspace depends on it. */
static uint32_t split_of(const adm_gpu_shape *s) {
    const uint32_t n_rows = s->batch * s->heads.n_q_heads;
    uint32_t split = 1;
    while (split < MAX_SPLIT && 2 * split * n_rows <= 264 && s->capacity / (2 * split) >= 2048) split *= 2;
    return split;
}

static adm_gpu_grid grid_of(const adm_gpu_shape *shape) {
    adm_gpu_grid grid = {};
    grid.blocks = dim3(split_of(shape), shape->batch * shape->heads.n_q_heads);
    grid.threads = TOPK_THREADS;
    grid.dependent = true;
    return grid;
}

static adm_status check(const adm_gpu_shape *shape, adm_error *err) {
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK && (uint64_t)shape->batch * shape->heads.n_q_heads > 65535)
        return adm_fail(err, ADM_EUNSUPPORTED, "top-k takes at most 65535 rows, not %u sequences of %u heads",
                        shape->batch, shape->heads.n_q_heads);
    return status;
}

extern "C" adm_status adm_gpu_topk_cluster(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                           adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    if (limits.compute_major < 9)
        return adm_fail(err, ADM_EUNSUPPORTED, "this top-k needs clusters of blocks, compute capability 9.0; the "
                        "device has %d.x: use the variant with two kernels", limits.compute_major);
    adm_gpu_grid grid = grid_of(shape);
    grid.cluster = grid.blocks.x;
    uint32_t kept_tokens = (shape->capacity + grid.cluster - 1) / grid.cluster + 255 & ~255u;
    if (kept_tokens > 40 * 1024) kept_tokens = 0; /* 80 KiB: two blocks a processor; longer chunks are read twice */
    grid.shared_bytes = kept_tokens * sizeof(uint16_t);
    void *args[] = {(void *)shape, (void *)buffers, &kept_tokens};
    return adm_gpu_launch("top-k", (const void *)topk_cluster, grid, args, stream, err);
}

extern "C" size_t adm_gpu_topk_two_workspace_bytes(const adm_gpu_shape *shape) {
    return (size_t)shape->batch * shape->heads.n_q_heads * split_of(shape) * (3 * shape->heads.head_dim + 1) *
           sizeof(uint32_t);
}

extern "C" adm_status adm_gpu_topk_two(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                       adm_error *err) {
    adm_status status = check(shape, err);
    if (status != ADM_OK) return status;
    void *args[] = {(void *)shape, (void *)buffers};
    status = adm_gpu_launch("top-k, counting", (const void *)topk_count, grid_of(shape), args, stream, err);
    if (status != ADM_OK) return status;
    return adm_gpu_launch("top-k, selecting", (const void *)topk_select, grid_of(shape), args, stream, err);
}
