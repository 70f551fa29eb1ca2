/* attention.h: attention of one query over selected tokens, or over all of them. */
#ifndef ADM_KERNELS_ATTENTION_ATTENTION_H
#define ADM_KERNELS_ATTENTION_ATTENTION_H

#include "core/contract/stage.h"
#include "kernels/gpu/gpu.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Double precision throughout, the largest score subtracted before the exponential; only the result is rounded, to
 * float32. head_dim up to ADM_MAX_HEAD_DIM. Indices may come in any order and repeat. Infinities and NaNs in the input
 * follow IEEE arithmetic. index NULL and index 0..n-1 give the same bits. */
ADM_API adm_attention_fn adm_attention_reference;

#if defined(__x86_64__)
/* The same in another order of summation, equal up to the rounding to float32, and to each other to the last bit; for
 * head_dim 64, 128 and 256, on CPUs with adm_cpu_has_avx2() and adm_cpu_has_avx512(). */
ADM_API adm_attention_fn adm_attention_avx2;
ADM_API adm_attention_fn adm_attention_avx512;
#elif defined(__aarch64__)
ADM_API adm_attention_fn adm_attention_neon;
#endif

/* Compulsory traffic of one layer of one decode step. Each query head attends to n_selected tokens; the query heads of
 * a group attend to n_distinct different tokens between them, whose K and V rows are read once: n_selected when the
 * group shares its selection, up to n_selected times the group when every head selects for itself. Also counted: q, the
 * indices, the float32 output. Ignored: partial results of a split over the budget. */
double adm_attention_bytes(const adm_shape *shape, adm_dtype dtype, double n_selected, double n_distinct);

/* Multiply and add for q.k and for p.v; scale, compare, subtract, exponential and sum for each score. */
double adm_attention_flops(const adm_shape *shape, double n_selected);

/* Relative L2 that every GPU row with an attention may be off: over selected tokens, dense, a step. Weights are rounded to the
 * dtype for the tensor cores, and so is the result: half a unit in the last place each, 2^-9 of a value in BF16 and 2^-12 in
 * F16, 2^-8 together. The weights' errors average out over the tokens, and float32 sums and exponentials add far less. */
#define ADM_GPU_ATTENTION_TOLERANCE 0x1p-8

/* On a GPU (kernels/gpu/gpu.h): attention over the selected tokens, index [batch][n_q_heads][budget] with n_selected
 * [batch][n_q_heads] of them valid; any order, repetitions allowed. Reads q, k, v, page_table, index, n_selected; writes out.
 * No selected token gives zeros. Needs no workspace. q, k, v and out must be aligned to 16 bytes (ADM_EINPUT). */
adm_gpu_launch_fn adm_gpu_attention_launch;
extern const adm_gpu_impl adm_gpu_attention_impl;

/* The same with the launch parameters given, 0 for the default: `splits` blocks per query head, up to 8,
 * of `n_warps` warps, up to 16 (8 where head_dim is 256); ADM_EINPUT beyond. */
adm_status adm_gpu_attention_tuned(const adm_gpu_shape *shape, const adm_gpu_buffers *buffers, unsigned splits,
                                   unsigned n_warps, adm_gpu_stream stream, adm_error *err);

#ifdef __cplusplus
}
#endif

#endif
