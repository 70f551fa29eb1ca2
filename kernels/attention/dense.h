/* dense.h: attention over every token (stage `dense`), the baseline that selecting has to beat. On the host it is attention.h
 * with index NULL. */
#ifndef ADM_KERNELS_ATTENTION_DENSE_H
#define ADM_KERNELS_ATTENTION_DENSE_H

#include <stdbool.h>

#include "core/contract/stage.h"
#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As adm_attention_bytes() and adm_attention_flops() count: all K and V once, no indices. */
double adm_dense_bytes(const adm_shape *shape, adm_dtype dtype, double n_tokens);
double adm_dense_flops(const adm_shape *shape, double n_tokens);

/* On a GPU (kernels/gpu/gpu.h). Reads q, k, v, page_table, length; writes out. An empty sequence gives zeros. q, k, v and out
 * must be aligned to 16 bytes (ADM_EINPUT). A group of more than 8 query heads reads K and V once for every 8. */
adm_gpu_launch_fn adm_gpu_dense_launch;
size_t adm_gpu_dense_workspace_bytes(const adm_gpu_shape *shape);
extern const adm_gpu_impl adm_gpu_dense_impl;

/* Launch parameters, each 0 for the default. */
typedef struct adm_dense_tuning {
    unsigned n_blocks;    /* in the whole grid, a multiple of team, up to 512 */
    unsigned team; /* blocks that share their sums: 1, 2, 4 or 8; more than 1 needs clusters (compute capability 9.0) */
    unsigned n_warps; /* per block, up to 8 */
    unsigned n_stages; /* tiles on their way in each warp, 2 to 8; without bulk copies 2 or 3 */
    unsigned tile_tokens; /* 16, 32 or 64 */
    bool plain_copies; /* every lane copies, as on a device without bulk copies */
} adm_dense_tuning;

/* The same with launch parameters; ADM_EINPUT beyond those limits. */
adm_status adm_gpu_dense_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, const adm_dense_tuning *tuning,
                               adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
