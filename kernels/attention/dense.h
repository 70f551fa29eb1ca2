/* dense.h: attention over every token (stage `dense`), the baseline that selecting has to beat. On the host it is attention.h
 * with index NULL. */
#ifndef ADM_KERNELS_ATTENTION_DENSE_H
#define ADM_KERNELS_ATTENTION_DENSE_H

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

/* The same with `n_blocks` blocks in the whole grid, up to 512; the default is one per SM, which is all that fit at once. */
adm_status adm_gpu_dense_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, unsigned n_blocks,
                               adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
