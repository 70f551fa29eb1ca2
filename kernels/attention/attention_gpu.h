/* attention_gpu.h: what attention.cu and dense.cu export to the registry, the tests and the tuner. */
#ifndef ADM_KERNELS_ATTENTION_ATTENTION_GPU_H
#define ADM_KERNELS_ATTENTION_ATTENTION_GPU_H

#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Attention over the selected tokens, index [batch][n_q_heads][budget] with n_selected [batch][n_q_heads] of
 * them valid; any order, repetitions allowed. Reads q, k, v, page_table, index, n_selected; writes out. No
 * selected token gives zeros. Needs no workspace. q, k, v and out must be aligned to 16 bytes (ADM_EINPUT). */
adm_gpu_launch_fn adm_gpu_attention_launch;

/* Attention over every token of each sequence. Reads q, k, v, page_table, length; writes out. An empty sequence
 * gives zeros. Alignment as above. A group of more than 8 query heads reads K and V once for every 8. */
adm_gpu_launch_fn adm_gpu_dense_launch;
size_t adm_gpu_dense_workspace_bytes(const adm_gpu_shape *shape);

extern const adm_gpu_impl adm_gpu_attention_impl, adm_gpu_dense_impl;

/* The same with the launch parameters given, 0 for the default: `splits` blocks a query head, a power of two up
 * to 8, of `n_warps` warps, up to 16 (8 where head_dim is 256); ADM_EINPUT beyond. */
adm_status adm_gpu_attention_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, unsigned splits,
                                   unsigned n_warps, adm_gpu_stream stream, adm_error *err);

/* `n_blocks`: blocks in the whole grid, up to 512; the default is one a multiprocessor, which is all that fit at
 * once. */
adm_status adm_gpu_dense_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, unsigned n_blocks,
                               adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
