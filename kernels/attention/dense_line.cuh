/* dense_line.cuh: which tiles of a batch each block of dense.cu takes: the line of tiles, its teams and their chunks. dense.cu
 * has the drawing. */
#ifndef ADM_KERNELS_ATTENTION_DENSE_LINE_CUH
#define ADM_KERNELS_ATTENTION_DENSE_LINE_CUH

#include "kernels/gpu/common.cuh"
#include "kernels/attention/attention_dev.cuh"

enum { MAX_BLOCKS = 512, MAX_TEAM = 8, MAX_STAGES = 8 }; /* MAX_BLOCKS: as many as the workspace holds */

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
    return ((size_t)s.batch * h.items_per_sequence * MAX_TEAM * sizeof(uint32_t) + 255) / 256 * 256;
}

/* How a launch is cut. */
struct dense_cut {
    uint32_t team; /* blocks */
    uint32_t stages; /* of a warp's ring */
    uint32_t parts; /* of 16 tokens, in a tile */
};

/* Every lane of a warp knows two sequences: where they start in the line, and their tiles per item. An empty sequence has one
 * tile without tokens, so that some team writes its zeros. */
struct dense_line {
    uint32_t start[2], length[2], n_tiles[2];
    uint32_t each, longer; /* tiles of a team; the first `longer` teams have one more */
    uint32_t n_teams;
};

static __device__ __forceinline__ dense_line dense_line_of(const adm_gpu_shape &s, const uint32_t *length, const dense_heads &h,
                                                           const dense_cut &cut, unsigned lane) {
    dense_line line;
    uint32_t sum = 0;
    const uint32_t tokens = cut.parts * ADM_TILE;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        unsigned b = lane + 32 * i;
        line.length[i] = b < s.batch ? length[b] : 0;
        line.n_tiles[i] = b < s.batch ? max(1u, (line.length[i] + tokens - 1) / tokens) : 0;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t mine = line.n_tiles[i] * h.items_per_sequence, upto = mine;
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            uint32_t before = __shfl_up_sync(ADM_FULL_WARP, upto, d);
            if (lane >= d) upto += before;
        }
        line.start[i] = lane + 32 * i < s.batch ? sum + upto - mine : ~0u;
        sum += __shfl_sync(ADM_FULL_WARP, upto, 31);
    }
    /* Chunks that end where items end save partial results, if that leaves few blocks idle. */
    uint32_t items = s.batch * h.items_per_sequence, teams = gridDim.x / cut.team;
    if (items <= teams && teams / items * items * 16 >= teams * 15) teams = teams / items * items;
    line.n_teams = min(teams, sum);
    line.each = sum / line.n_teams;
    line.longer = sum % line.n_teams;
    return line;
}

/* The first tile of a team's chunk, and the team that holds a tile. */
static __device__ __forceinline__ uint32_t dense_chunk_begin(const dense_line &line, uint32_t team) {
    return team * line.each + min(team, line.longer);
}
static __device__ __forceinline__ uint32_t dense_team_of(const dense_line &line, uint32_t tile) {
    const uint32_t in_longer = line.longer * (line.each + 1);
    return tile < in_longer ? tile / (line.each + 1) : line.longer + (tile - in_longer) / line.each;
}

/* What a team does in one item. */
struct dense_segment {
    uint32_t b, item_of_sequence, length;
    uint32_t item_begin, item_end; /* tiles of the line */
    uint32_t first, end; /* tiles of the item; none of an empty sequence */
};

static __device__ __forceinline__ dense_segment dense_segment_at(const dense_line &line, uint32_t tile, uint32_t chunk_end) {
    dense_segment g;
    g.b = __popc(__ballot_sync(ADM_FULL_WARP, line.start[0] <= tile)) +
          __popc(__ballot_sync(ADM_FULL_WARP, line.start[1] <= tile)) - 1;
    uint32_t start = __shfl_sync(ADM_FULL_WARP, g.b < 32 ? line.start[0] : line.start[1], g.b % 32);
    uint32_t n_tiles = __shfl_sync(ADM_FULL_WARP, g.b < 32 ? line.n_tiles[0] : line.n_tiles[1], g.b % 32);
    g.item_of_sequence = (tile - start) / n_tiles;
    g.length = __shfl_sync(ADM_FULL_WARP, g.b < 32 ? line.length[0] : line.length[1], g.b % 32);
    g.item_begin = start + g.item_of_sequence * n_tiles;
    g.item_end = g.item_begin + n_tiles;
    g.first = tile - g.item_begin;
    g.end = g.length == 0 ? g.first : min(g.item_end, chunk_end) - g.item_begin;
    return g;
}

/* A team's chunk of the line. */
struct dense_chunk {
    uint32_t team, rank; /* and the block in it */
    uint32_t begin, end; /* tiles of the line */
    uint32_t first, step; /* a warp takes every step-th tile of an item, from the first on */
};

#endif
