/* dense_sum.cuh: sums of partial results, for dense.cu: of a block's warps, of a team's blocks, of an item's teams. */
#ifndef ADM_KERNELS_ATTENTION_DENSE_SUM_CUH
#define ADM_KERNELS_ATTENTION_DENSE_SUM_CUH

#include "kernels/attention/dense_line.cuh"

/* The block's sums in shared memory, behind the rings. */
template <int D> struct dense_shared {
    adm_tile_shared<D> warps;
    float4 *o; /* [n_queries][D / 4], the block's, in the place of the first warp's */
    float2 *ml; /* [8] */
};

template <int D> __device__ __forceinline__ dense_shared<D> dense_shared_at(char *sums, unsigned n_warps, unsigned n_queries) {
    dense_shared<D> s;
    s.warps.o = (float *)sums;
    s.warps.m = s.warps.o + n_warps * n_queries * D;
    s.warps.l = s.warps.m + n_warps * ADM_TILE_QUERIES;
    s.o = (float4 *)s.warps.o;
    s.ml = (float2 *)(s.warps.l + n_warps * ADM_TILE_QUERIES);
    return s;
}

template <int D> __host__ __device__ constexpr unsigned dense_sum_bytes(unsigned n_warps, unsigned n_queries) {
    return n_warps * (n_queries * D + 2 * ADM_TILE_QUERIES) * 4 + ADM_TILE_QUERIES * 8;
}

/* Four columns of a sum of partial results, on the way. */
struct dense_columns {
    float4 o;
    float m, l;
};

/* Adds N partial results at once. Those that are not there have l = 0. */
template <int N> __device__ __forceinline__ void dense_add(dense_columns *sum, const float2 ml[N], const float4 o[N]) {
    float m = sum->m;
#pragma unroll
    for (int i = 0; i < N; i++) m = fmaxf(m, ml[i].x);
    float weight = adm_partial_weight(sum->m, sum->l, m);
    sum->l *= weight;
    sum->o = make_float4(sum->o.x * weight, sum->o.y * weight, sum->o.z * weight, sum->o.w * weight);
#pragma unroll
    for (int i = 0; i < N; i++) {
        weight = adm_partial_weight(ml[i].x, ml[i].y, m);
        sum->l += ml[i].y * weight;
        sum->o = make_float4(sum->o.x + o[i].x * weight, sum->o.y + o[i].y * weight, sum->o.z + o[i].z * weight,
                             sum->o.w + o[i].w * weight);
    }
    sum->m = m;
}

static __device__ __forceinline__ dense_columns dense_no_columns(void) {
    dense_columns none = {make_float4(0.0f, 0.0f, 0.0f, 0.0f), -INFINITY, 0.0f};
    return none;
}

/* No token: zeros. */
template <typename T> __device__ __forceinline__ void dense_write(T *out, unsigned column, const dense_columns &sum) {
    const float scale = sum.l == 0.0f ? 0.0f : 1.0f / sum.l;
    *(uint2 *)(out + column * 4) = make_uint2(adm_narrow2<T>(sum.o.x * scale, sum.o.y * scale),
                                              adm_narrow2<T>(sum.o.z * scale, sum.o.w * scale));
}

/* The sums of the block's warps become the block's. A thread reads and writes the same columns. */
template <int D>
__device__ __forceinline__ void dense_block_sum(const dense_shared<D> &s, unsigned n_warps, unsigned n_queries) {
    for (unsigned column = threadIdx.x; column < n_queries * (D / 4); column += blockDim.x) {
        const unsigned query = column / (D / 4);
        dense_columns sum = dense_no_columns();
        for (unsigned w = 0; w < n_warps; w += 4) {
            float2 ml[4];
            float4 o[4];
#pragma unroll
            for (unsigned i = 0; i < 4; i++) {
                const bool there = w + i < n_warps;
                const unsigned at = there ? w + i : 0;
                ml[i] = make_float2(s.warps.m[at * ADM_TILE_QUERIES + query],
                                    there ? s.warps.l[at * ADM_TILE_QUERIES + query] : 0.0f);
                o[i] = ((const float4 *)s.warps.o)[at * n_queries * (D / 4) + column];
            }
            dense_add<4>(&sum, ml, o);
        }
        s.o[column] = sum.o;
        if (column % (D / 4) == 0) s.ml[query] = make_float2(sum.m, sum.l);
    }
}

/* The same shared variable in another block of the team. */
template <typename T> __device__ __forceinline__ const T *dense_peer(const T *shared, uint32_t rank) {
#if __CUDA_ARCH__ >= 900
    return adm_cluster_peer((T *)shared, rank);
#else
    return shared;
#endif
}

/* Four columns of the sum of the team's blocks. */
template <int D>
__device__ __forceinline__ dense_columns dense_team_sum(const dense_shared<D> &s, uint32_t n_blocks, unsigned column) {
    float2 ml[MAX_TEAM];
    float4 o[MAX_TEAM];
#pragma unroll
    for (uint32_t r = 0; r < MAX_TEAM; r++) {
        const bool there = r < n_blocks;
        ml[r] = there ? *dense_peer(s.ml + column / (D / 4), r) : make_float2(0.0f, 0.0f);
        o[r] = there ? *dense_peer(s.o + column, r) : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
    dense_columns sum = dense_no_columns();
    dense_add<MAX_TEAM>(&sum, ml, o);
    return sum;
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

/* Four columns of the sum of every shares-th partial result of an item, from the first of `share` on. */
template <int D>
__device__ __forceinline__ dense_columns dense_partial_sum(const dense_workspace &w, const dense_cut &cut, uint32_t first_team,
                                                           uint32_t first_position, uint32_t n, uint32_t share, uint32_t shares,
                                                           uint32_t slice, unsigned column) {
    dense_columns sum = dense_no_columns();
    for (uint32_t begin = share; begin < n; begin += 8 * shares) {
        float2 ml[8];
        float4 o[8];
#pragma unroll
        for (uint32_t j = 0; j < 8; j++) {
            const bool there = begin + j * shares < n;
            const uint32_t at = there ? begin + j * shares : begin;
            const size_t partial = 2 * (size_t)(first_team + at) + (at == 0 ? first_position : 0);
            ml[j] = __ldcg(w.partial_ml + (partial * cut.team + slice) * ADM_TILE_QUERIES + column / (D / 4));
            o[j] = __ldcg((const float4 *)(w.partial_o + partial * ADM_TILE_QUERIES * D) + column);
            if (!there) ml[j].y = 0.0f;
        }
        dense_add<8>(&sum, ml, o);
    }
    return sum;
}

/* A slice of an item's columns: the sum of its teams' partial results, in their order. Where there are more threads than
 * columns, each takes a share of the partial results; the shares meet in shared memory, for which `scratch` has room for
 * n_scratch. */
template <typename T, int D>
__device__ __forceinline__ void dense_merge(const dense_workspace &w, const dense_line &line, const dense_cut &cut,
                                            const dense_segment &g, uint32_t slice, unsigned n_columns, dense_columns *scratch,
                                            unsigned n_scratch, T *out) {
    const uint32_t first = dense_team_of(line, g.item_begin), n = dense_team_of(line, g.item_end - 1) - first + 1;
    const uint32_t first_position = dense_chunk_begin(line, first) < g.item_begin ? 1 : 0; /* no later chunk begins before */
    const unsigned shares = max(1u, min(min(blockDim.x, n_scratch) / n_columns, (n + 7) / 8));
    for (unsigned begin = 0; begin < n_columns; begin += blockDim.x) {
        const unsigned i = begin + threadIdx.x % (shares > 1 ? n_columns : blockDim.x), column = slice * n_columns + i;
        const unsigned share = shares > 1 ? threadIdx.x / n_columns : 0;
        const bool mine = i < n_columns && share < shares;
        dense_columns sum = dense_no_columns();
        if (mine) sum = dense_partial_sum<D>(w, cut, first, first_position, n, share, shares, slice, column);
        if (shares > 1) {
            if (mine) scratch[share * n_columns + i] = sum;
            __syncthreads();
            for (unsigned k = 1; share == 0 && k < shares; k++) {
                const dense_columns other = scratch[k * n_columns + i];
                const float2 ml[1] = {make_float2(other.m, other.l)};
                const float4 o[1] = {other.o};
                dense_add<1>(&sum, ml, o);
            }
        }
        if (mine && share == 0) dense_write<T>(out, column, sum);
    }
    if (shares > 1) __syncthreads(); /* the scratch is the next segment's */
}

#endif
