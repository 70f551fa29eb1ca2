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
 *   3  loads of 4 KiB, 2 blocks per SM: half the upkeep                   9.3 (82%), 34.3 (89%); 5.0
 *   4  products of bits where query heads share a KV head                 8 KV heads 32K, 128K: 4.7, 13.1 -> 4.8, 11.2
 *   5  codes leave the L2 first; blocks and loads in flight by size        the same: 4.1, 11.1; asym4 4.4, 11.6
 *   6  distances leave by whole lines; four blocks fit an SM               the same: 3.4, 10.0; asym4 3.4, 10.3 */
#include "kernels/distance/distance.h"
#include "kernels/distance/distance.cuh"
#include "kernels/distance/loads.cuh"
#include "kernels/distance/products.cuh"
#include "kernels/encode/encode.cuh"

/* A warp's distances of a load from four heads, on their way to whole lines: a row of words per head. */
template <int W> struct distance_staged {
    static const int row = distance_load<W>::tokens / 2;
    static const int words = ADM_BIT_HEADS * row;
};

/* ---- by counts of bits ---- */

/* Rows of `packed` of a KV head's queries. */
template <int W, int METRIC>
static __device__ __forceinline__ const uint8_t *query_rows(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                            const distance_position &at, uint32_t group) {
    const size_t row = (size_t)at.b * (s.heads.n_q_heads + s.heads.n_kv_heads) + at.kv_head * group;
    return p.packed + row * (METRIC == ADM_METRIC_ASYM4 ? 16 * W : 8 * W);
}

/* A KV head's queries, from their packed rows to shared memory of the warp. */
template <int W>
static __device__ __forceinline__ void load_queries(const uint8_t *rows, uint32_t group, adm_query_planes<W> *query) {
    const uint2 *packed = (const uint2 *)rows;
    __syncwarp();
    for (uint32_t i = threadIdx.x % 32; i < group * W; i += 32) {
        const uint2 pair = packed[i];
        adm_query_word<W>(&query[i / W], i % W, adm_gather16(pair.x >> 1) | adm_gather16(pair.y >> 1) << 16,
                          adm_gather16(pair.x) | adm_gather16(pair.y) << 16);
    }
    __syncwarp();
}

/* A KV head's queries as planes: [group][ADM_BIT_PLANES][W], then [group] bases. */
template <int W, int METRIC>
static __device__ __forceinline__ void load_planes(const adm_gpu_shape &s, const adm_gpu_buffers &p,
                                                   const distance_position &at, uint32_t group, uint32_t *planes) {
    const uint8_t *rows = query_rows<W, METRIC>(s, p, at, group);
    int32_t *base = (int32_t *)(planes + group * (ADM_BIT_PLANES * W));
    __syncwarp();
    for (uint32_t from = 0; from < group * W; from += 32) {
        const uint32_t i = from + threadIdx.x % 32, last = min(i, group * W - 1), head = i / W, w = i % W;
        uint32_t plane[ADM_BIT_PLANES];
        int32_t sum;
        if (METRIC == ADM_METRIC_ASYM4) {
#pragma unroll
            for (int j = 0; j < ADM_BIT_PLANES; j++) plane[j] = ((const uint32_t *)rows)[last / W * (4 * W) + j * W + last % W];
            sum = (int32_t)adm_largest_of(plane[0], plane[1], plane[2], plane[3]);
        } else {
            const uint2 pair = ((const uint2 *)rows)[last];
            sum = adm_bit_planes<METRIC>(adm_gather16(pair.x >> 1) | adm_gather16(pair.y >> 1) << 16,
                                         adm_gather16(pair.x) | adm_gather16(pair.y) << 16, plane);
        }
#pragma unroll
        for (int step = 1; step < W; step *= 2) sum += __shfl_xor_sync(ADM_FULL_WARP, sum, step);
        if (i >= group * W) continue;
#pragma unroll
        for (int j = 0; j < ADM_BIT_PLANES; j++) planes[(head * ADM_BIT_PLANES + j) * W + w] = plane[j];
        if (w == 0) base[head] = sum;
    }
    __syncwarp();
}

/* planes (batch, n_kv, capacity/32 tiles), packed (rows, d/4; with asym4 d/2) -> distance (batch, S, capacity). Grid: any
 * number of blocks. Dynamic shared memory: [warps][stages] loads, [warps][group] queries. Stored profiles know the kernel by
 * this name. */
template <int W, int METRIC>
static __global__ void __launch_bounds__(32 * DISTANCE_WARPS)
    distance_pieces(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t stages) {
    const int n = distance_load<W>::tiles;
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads;
    const bool grouped = s.selection == ADM_SELECT_GROUP;
    const bool weighs = METRIC == ADM_METRIC_DOT || METRIC == ADM_METRIC_ASYM4;
    unsigned char *queries = shared + DISTANCE_WARPS * stages * LOAD_BYTES;
    adm_query_planes<W> *query = (adm_query_planes<W> *)queries + warp * group;
    uint32_t *planes = (uint32_t *)queries + warp * group * (ADM_BIT_PLANES * W + 1);
    uint32_t n_left;
    distance_ring ring;
    distance_position at = start_range<W>(s, p, stages, warp, shared, &ring, &n_left);
    for (bool new_head = true; n_left > 0; n_left--) {
        if (new_head && weighs) load_planes<W, METRIC>(s, p, at, group, planes);
        else if (new_head) load_queries<W>(query_rows<W, METRIC>(s, p, at, group), group, query);
        uint32_t high[n][W], low[n][W];
#if __CUDA_ARCH__ >= 900
        const uint32_t *tile = next_of_ring(ring);
#pragma unroll
        for (int i = 0; i < n; i++) adm_read_tile<W>(tile + i * 64 * W, high[i], low[i]);
        refill_ring<W>(s, p, &ring);
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
            adm_query_planes<W> q;
            adm_weights<W> weights;
            if (weighs) weights = adm_weights_at<W>(planes, g, group);
            else q = query[g];
#pragma unroll
            for (int i = 0; i < n; i++) {
                const uint32_t d = weighs ? adm_weighted_distance<W>(weights, high[i], low[i])
                                          : adm_distance_of<W, METRIC>(q, high[i], low[i]);
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

#if __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ < 1000

/* ---- by products of bits ---- */

static __device__ __forceinline__ uint32_t adm_select_heads_of(const adm_gpu_shape &s) {
    return s.selection == ADM_SELECT_GROUP ? s.heads.n_kv_heads : s.heads.n_q_heads;
}

/* A tile's codes: from a load in shared memory, or, before sm_90, from memory. */
template <int D> static __device__ __forceinline__ void codes_of(const uint32_t *tile, adm_bit_codes<D> *codes) {
#if __CUDA_ARCH__ >= 900
    adm_read_codes<D>(tile, codes);
#else
    adm_fetch_codes<D>(tile, codes);
#endif
}

/* Two distances of a lane, of tokens that are apart, into a word of two neighbours' of one head. */
template <int D> static __device__ __forceinline__ uint32_t neighbours(int32_t first, int32_t second) {
    if (D != 64) return adm_transposed((uint32_t)first | (uint32_t)second << 16);
    const bool even = threadIdx.x % 2 == 0;
    const uint32_t other = (uint32_t)__shfl_xor_sync(ADM_FULL_WARP, even ? second : first, 1);
    return even ? (uint32_t)first | other << 16 : other | (uint32_t)second << 16;
}

/* Which head of the four, and which token of the tile, a lane's word of pair i begins with. */
template <int D> static __device__ __forceinline__ uint32_t neighbours_head(int i) {
    const uint32_t lane = threadIdx.x % 32;
    return D == 64 ? 2 * i + lane % 4 / 2 : lane / 8;
}
template <int D> static __device__ __forceinline__ uint32_t neighbours_token(int i) {
    const uint32_t lane = threadIdx.x % 32;
    return D == 64 ? lane % 2 * 16 + lane / 4 * 2 : (uint32_t)i * 16 + lane / 4 % 2 * 8 + lane % 4 * 2;
}

/* Where word `word` of a head is staged. Heads' words lie in different banks. */
template <int W> static __device__ __forceinline__ uint32_t staged_at(uint32_t head, uint32_t word) {
    return head * distance_staged<W>::row + (word ^ head * 8);
}

/* Tile i of the load from the heads of q. */
template <int D, int METRIC>
static __device__ __forceinline__ void stage_tile(const adm_bit_codes<D> &codes, const adm_bit_query<D, METRIC> &q, int i,
                                                  uint32_t *staged) {
    int32_t first[ADM_BIT_PAIRS], second[ADM_BIT_PAIRS];
    adm_multiply_codes<D, METRIC>(codes, q, first, second);
#pragma unroll
    for (int u = 0; u < ADM_BIT_PAIRS; u++) {
        const int32_t base = adm_bit_base<D, METRIC>(q, u);
        const uint32_t at = (32 * i + neighbours_token<D>(u)) / 2;
        staged[staged_at<D / 32>(neighbours_head<D>(u), at)] = neighbours<D>(first[u] + base, second[u] + base);
    }
}

/* What is staged of n_heads, 16 bytes a lane. to: the first head's, of the load's first token, `token`. */
template <int W>
static __device__ __forceinline__ void store_staged(const uint32_t *staged, uint32_t n_heads, uint32_t token, uint32_t length,
                                                    size_t capacity, uint16_t *to) {
    const uint32_t n_parts = distance_load<W>::tokens / 8;
#pragma unroll
    for (uint32_t k = 0; k < ADM_BIT_HEADS * n_parts / 32; k++) {
        const uint32_t at = 32 * k + threadIdx.x % 32, head = at / n_parts, part = at % n_parts, mine = token + 8 * part;
        const uint32_t *from = staged + staged_at<W>(head, 4 * part);
        if (head >= n_heads || mine >= length) continue;
        if (mine + 8 <= length) {
            *(uint4 *)(to + head * capacity + 8 * part) = *(const uint4 *)from;
            continue;
        }
#pragma unroll 1
        for (uint32_t i = 0; mine + i < length; i++)
            to[head * capacity + 8 * part + i] = (uint16_t)(from[i / 2] >> 16 * (i % 2));
    }
}

/* The distances of a tile summed over the group, whose other heads' sums are in first and second too. token: the tile's
 * first. */
template <int D>
static __device__ __forceinline__ void store_group(int32_t (&first)[ADM_BIT_PAIRS], int32_t (&second)[ADM_BIT_PAIRS],
                                                   uint32_t token, uint32_t length, uint16_t *to) {
    const uint32_t lane = threadIdx.x % 32, w = lane % 4;
    if (D == 64) {
        int32_t one = first[0] + first[1], other = second[0] + second[1];
        one += __shfl_xor_sync(ADM_FULL_WARP, one, 2);
        other += __shfl_xor_sync(ADM_FULL_WARP, other, 2);
        const uint32_t mine = token + w / 2 * 16 + lane / 4 * 2 + w % 2;
        if (mine < length) to[mine] = (uint16_t)(w < 2 ? one : other);
    } else {
#pragma unroll
        for (int step = 1; step < 4; step *= 2)
#pragma unroll
            for (int i = 0; i < ADM_BIT_PAIRS; i++) {
                first[i] += __shfl_xor_sync(ADM_FULL_WARP, first[i], step);
                second[i] += __shfl_xor_sync(ADM_FULL_WARP, second[i], step);
            }
        const uint32_t mine = token + w / 2 * 16 + w % 2 * 8 + lane / 4;
        const int32_t one = w < 2 ? first[0] : first[1], other = w < 2 ? second[0] : second[1];
        if (mine < length) to[mine] = (uint16_t)(w % 2 == 0 ? one : other);
    }
}

/* A tile's distances, summed over the group. */
template <int D, int METRIC>
static __device__ __forceinline__ void sum_tile(const adm_bit_codes<D> &codes, adm_bit_query<D, METRIC> *q,
                                                const uint32_t *planes, uint32_t group, uint32_t token, uint32_t length,
                                                uint16_t *to) {
    const int32_t *base = (const int32_t *)(planes + group * (ADM_BIT_PLANES * (D / 32)));
    int32_t all_first[ADM_BIT_PAIRS] = {0, 0}, all_second[ADM_BIT_PAIRS] = {0, 0};
#pragma unroll 1
    for (uint32_t h = 0; h < group; h += ADM_BIT_HEADS) {
        const uint32_t n = min(group - h, (uint32_t)ADM_BIT_HEADS);
        int32_t first[ADM_BIT_PAIRS], second[ADM_BIT_PAIRS];
        if (group > ADM_BIT_HEADS) adm_bit_columns<D, METRIC>(planes + h * (ADM_BIT_PLANES * (D / 32)), D / 32, base + h, n, q);
        adm_multiply_codes<D, METRIC>(codes, *q, first, second);
#pragma unroll
        for (int i = 0; i < ADM_BIT_PAIRS; i++) {
            const int32_t its = adm_bit_base<D, METRIC>(*q, i);
            all_first[i] += first[i] + its, all_second[i] += second[i] + its;
        }
    }
    store_group<D>(all_first, all_second, token, length, to);
}

/* The same for a load: `token` is its first, and n_tiles of its tiles hold tokens. */
template <int D, int METRIC>
static __device__ __forceinline__ void sum_load(const uint32_t *tile, uint32_t n_tiles, adm_bit_query<D, METRIC> *q,
                                                const uint32_t *planes, uint32_t group, uint32_t token, uint32_t length,
                                                uint16_t *to) {
    adm_bit_codes<D> codes;
#pragma unroll 1
    for (uint32_t i = 0; i < n_tiles; i++) {
        codes_of<D>(tile + i * adm_bits<D>::tile_words, &codes);
        sum_tile<D, METRIC>(codes, q, planes, group, token + 32 * i, length, to);
    }
}

#endif

/* The same as distance_pieces by products of bits, on sm_80 to sm_90: before sm_90 codes go straight to registers. Dynamic
 * shared memory: [warps][stages] loads, [warps] distances of a load, [warps] queries' planes and bases. */
template <int W, int METRIC>
static __global__ void __launch_bounds__(32 * DISTANCE_WARPS, W == 8 ? 2 : 4)
    distance_products(const __grid_constant__ adm_gpu_shape s, const __grid_constant__ adm_gpu_buffers p, uint32_t stages) {
#if __CUDA_ARCH__ >= 800 && __CUDA_ARCH__ < 1000
    const int n = distance_load<W>::tiles, D = 32 * W;
    extern __shared__ __align__(128) unsigned char shared[];
    const uint32_t warp = __shfl_sync(ADM_FULL_WARP, threadIdx.x / 32, 0);
    const uint32_t group = s.heads.n_q_heads / s.heads.n_kv_heads;
    const bool together = s.selection == ADM_SELECT_GROUP;
    const size_t heads = adm_select_heads_of(s);
    uint32_t *all_staged = (uint32_t *)(shared + DISTANCE_WARPS * stages * LOAD_BYTES);
    uint32_t *staged = all_staged + warp * distance_staged<W>::words;
    uint32_t *planes = all_staged + DISTANCE_WARPS * distance_staged<W>::words + warp * group * (ADM_BIT_PLANES * W + 1);
    const int32_t *base = (const int32_t *)(planes + group * (ADM_BIT_PLANES * W));
    uint32_t n_left;
    distance_ring ring;
    distance_position at = start_range<W>(s, p, stages, warp, shared, &ring, &n_left);
    adm_bit_query<D, METRIC> q;
    for (bool new_head = true; n_left > 0; n_left--) {
        if (new_head) {
            load_planes<W, METRIC>(s, p, at, group, planes);
            adm_bit_columns<D, METRIC>(planes, W, base, min(group, (uint32_t)ADM_BIT_HEADS), &q);
        }
        const uint32_t token = at.load * distance_load<W>::tokens, n_tiles = tiles_at<W>(at);
        uint16_t *to = p.distance + (at.b * heads + at.kv_head * (heads / s.heads.n_kv_heads)) * s.capacity;
#if __CUDA_ARCH__ >= 900
        const uint32_t *tile = next_of_ring(ring);
#else
        const uint32_t *tile = (const uint32_t *)codes_at<W>(s, p, at);
#endif
        if (together) sum_load<D, METRIC>(tile, n_tiles, &q, planes, group, token, at.length, to);
#pragma unroll 1
        for (uint32_t h = 0; h < group && !together; h += ADM_BIT_HEADS) {
            const uint32_t n_heads = min(group - h, (uint32_t)ADM_BIT_HEADS);
            if (group > ADM_BIT_HEADS) adm_bit_columns<D, METRIC>(planes + h * (ADM_BIT_PLANES * W), W, base + h, n_heads, &q);
#pragma unroll
            for (int i = 0; i < n; i++) {
                if (i >= n_tiles) continue;
                adm_bit_codes<D> codes;
                codes_of<D>(tile + i * 64 * W, &codes);
                stage_tile<D, METRIC>(codes, q, i, staged);
            }
#if __CUDA_ARCH__ >= 900
            if (h + ADM_BIT_HEADS >= group) refill_ring<W>(s, p, &ring);
#endif
            __syncwarp();
            store_staged<W>(staged, n_heads, token, at.length, s.capacity, to + (size_t)h * s.capacity + token);
            __syncwarp();
        }
#if __CUDA_ARCH__ >= 900
        if (together) refill_ring<W>(s, p, &ring);
#endif
        advance<W>(s, p.length, &at);
        new_head = at.load == 0;
    }
#endif
}

typedef void distance_kernel(const adm_gpu_shape, const adm_gpu_buffers, uint32_t);

/* Which kernels serve a metric, by words of a plane: by counts, and by products, NULL where there are none. */
typedef struct distance_kernels {
    distance_kernel *counts[3], *products[3];
    adm_code_metric metric;
} distance_kernels;

/* By what: the faster for the shape, as far as the device can. */
typedef enum distance_way { AS_MEASURED, BY_COUNTS, BY_PRODUCTS } distance_way;

static bool weighs(adm_code_metric metric) { return metric == ADM_METRIC_DOT || metric == ADM_METRIC_ASYM4; }

/* m16n8k256 .and.popc is an instruction on compute capability 8.0 to 9.0 alone (products.cuh). Weights cost counts four times
 * as much as L1 does; with L1 counts are as fast only where query heads share no KV head (H200, d = 128; kernels/LOG.md). */
static bool by_products(const adm_gpu_limits *limits, const distance_kernels *kernels, int dim, uint32_t group,
                        distance_way way) {
    if (limits->compute_major < 8 || limits->compute_major > 9 || kernels->products[dim] == NULL || way == BY_COUNTS)
        return false;
    return way == BY_PRODUCTS || weighs(kernels->metric) || group > 1;
}

/* Blocks per SM and loads in flight per warp that were fastest on an H200 (kernels/LOG.md). By products: no more warps than
 * there are loads; as many warps as it takes to ask for all loads at once; then what keeps most bytes on their way, or, where
 * many query heads give more to do for each load, most warps. */
static void cut_up(const adm_gpu_shape *shape, const adm_gpu_limits *limits, bool products, uint32_t *blocks_per_sm,
                   uint32_t *stages) {
    const bool many_heads = shape->heads.n_q_heads / shape->heads.n_kv_heads > ADM_BIT_HEADS;
    const uint32_t tokens = LOAD_BYTES * 4 / shape->heads.head_dim; /* of a load */
    const uint64_t loads = (uint64_t)shape->batch * shape->heads.n_kv_heads * ((shape->capacity + tokens - 1) / tokens);
    const uint64_t warps = DISTANCE_WARPS * (uint64_t)limits->n_sms; /* a block per SM */
    *blocks_per_sm = *stages = 2;
    if (!products) return;
    if (loads <= warps) *blocks_per_sm = 1;
    else if (loads <= (many_heads ? 4 : 2) * warps) *stages = 1;
    else if (many_heads || loads > 10 * warps) *blocks_per_sm = 4, *stages = 1;
}

/* Of a warp's distances of a load, by words of a plane. */
static const uint32_t staged_bytes[3] = {4 * distance_staged<2>::words, 4 * distance_staged<4>::words,
                                         4 * distance_staged<8>::words};

static adm_status launch(const char *what, const distance_kernels *kernels, const adm_gpu_shape *shape,
                         const adm_gpu_buffers *buffers, uint32_t blocks_per_sm, uint32_t stages, distance_way way,
                         adm_gpu_stream stream, adm_error *err) {
    adm_gpu_limits limits;
    adm_status status = adm_gpu_shape_check(shape, err);
    if (status == ADM_OK) status = adm_gpu_limits_get(&limits, err);
    if (status != ADM_OK) return status;
    const int dim = adm_dim_index(shape->heads.head_dim);
    const uint32_t group = shape->heads.n_q_heads / shape->heads.n_kv_heads;
    if (group > MAX_GROUP)
        return adm_fail(err, ADM_EUNSUPPORTED, "%s: %u query heads share a KV head; the kernel takes at most %d", what, group,
                        MAX_GROUP);
    const bool products = by_products(&limits, kernels, dim, group, way);
    if (blocks_per_sm == 0) cut_up(shape, &limits, products, &blocks_per_sm, &stages);
    if (stages < 1 || stages > MAX_STAGES)
        return adm_fail(err, ADM_EINPUT, "%s with a ring of %u loads: 1 to %d", what, stages, MAX_STAGES);
    if ((kernels->metric == ADM_METRIC_ASYM4) != (shape->metric == ADM_METRIC_ASYM4))
        return adm_fail(err, ADM_EUNSUPPORTED, "%s: the codes are not made for this metric", what);
    adm_gpu_shape own = *shape;
    own.metric = kernels->metric;
    if (adm_gpu_max_distance(&own) > UINT16_MAX)
        return adm_fail(err, ADM_EUNSUPPORTED, "%s: the distances of %u query heads together may not fit 16 bits", what, group);
    const uint32_t query_bytes = products || weighs(kernels->metric) ? shape->heads.head_dim / 2 + 4
                                                                     : shape->heads.head_dim / 32 * 12;
    if (limits.compute_major < 9) stages = 0; /* no ring */
    adm_gpu_grid grid = {};
    grid.blocks = dim3(blocks_per_sm * (uint32_t)limits.n_sms);
    grid.threads = 32 * DISTANCE_WARPS;
    grid.shared_bytes = DISTANCE_WARPS * (stages * LOAD_BYTES + (products ? staged_bytes[dim] : 0) + group * query_bytes);
    if (grid.shared_bytes + 1024 > (size_t)limits.block_shared_bytes)
        return adm_fail(err, ADM_EUNSUPPORTED,
                        "%s: %zu bytes of shared memory for %u query heads; a block of this device has %d", what,
                        grid.shared_bytes, group, limits.block_shared_bytes);
    grid.dependent = true;
    void *args[] = {(void *)shape, (void *)buffers, &stages};
    return adm_gpu_launch(what, (const void *)(products ? kernels->products : kernels->counts)[dim], grid, args, stream, err);
}

#define COUNTS(metric) {distance_pieces<2, metric>, distance_pieces<4, metric>, distance_pieces<8, metric>}
#define PRODUCTS(metric) {distance_products<2, metric>, distance_products<4, metric>, distance_products<8, metric>}

static const distance_kernels l1_kernels = {COUNTS(ADM_METRIC_L1), PRODUCTS(ADM_METRIC_L1), ADM_METRIC_L1};
static const distance_kernels dot_kernels = {COUNTS(ADM_METRIC_DOT), PRODUCTS(ADM_METRIC_DOT), ADM_METRIC_DOT};
static const distance_kernels asym4_kernels = {COUNTS(ADM_METRIC_ASYM4), PRODUCTS(ADM_METRIC_ASYM4), ADM_METRIC_ASYM4};
static const distance_kernels xor_kernels = {COUNTS(ADM_METRIC_XOR), {NULL, NULL, NULL}, ADM_METRIC_XOR};

extern "C" adm_status adm_gpu_distance_l1_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                uint32_t blocks_per_sm, uint32_t stages, adm_gpu_stream stream,
                                                adm_error *err) {
    return launch("distance l1", &l1_kernels, shape, buffers, blocks_per_sm, stages, AS_MEASURED, stream, err);
}

extern "C" adm_status adm_gpu_distance_l1(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                          adm_error *err) {
    return adm_gpu_distance_l1_tuned(shape, buffers, 0, 0, stream, err);
}

extern "C" adm_status adm_gpu_distance_l1_counts(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                 adm_gpu_stream stream, adm_error *err) {
    return launch("distance l1 by counts", &l1_kernels, shape, buffers, 0, 0, BY_COUNTS, stream, err);
}

extern "C" adm_status adm_gpu_distance_dot(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    return launch("distance dot", &dot_kernels, shape, buffers, 0, 0, AS_MEASURED, stream, err);
}

extern "C" adm_status adm_gpu_distance_asym4_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers,
                                                   uint32_t blocks_per_sm, uint32_t stages, bool by_counts,
                                                   adm_gpu_stream stream, adm_error *err) {
    return launch("distance asym4", &asym4_kernels, shape, buffers, blocks_per_sm, stages, by_counts ? BY_COUNTS : BY_PRODUCTS,
                  stream, err);
}

extern "C" adm_status adm_gpu_distance_asym4(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                             adm_error *err) {
    return adm_gpu_distance_asym4_tuned(shape, buffers, 0, 0, false, stream, err);
}

extern "C" adm_status adm_gpu_distance_xor(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, adm_gpu_stream stream,
                                           adm_error *err) {
    return launch("distance xor", &xor_kernels, shape, buffers, 0, 0, BY_COUNTS, stream, err);
}
