/* plan.h: the memory of a whole model's decode steps and what a step reads, as arithmetic: no device is touched.
 *
 *   weights      embedding | output matrix, unless tied | per layer: qkv | output | gate and up, interleaved | down
 *   gains        per layer 2 and a last one, [hidden] float32; qkv's bias per layer
 *   cache        per layer: K | V | codes, of layers that select
 *   activations  residual | x | qkv | q | k_new | v_new | out | y | gate_up | inner | logits | index | ...
 *
 * Every region begins on a 256-byte boundary. */
#ifndef ADM_KERNELS_DECODE_PLAN_H
#define ADM_KERNELS_DECODE_PLAN_H

#include "core/contract/model.h"
#include "kernels/decode/ops.h"

typedef enum adm_decode_linear { ADM_LINEAR_AUTO, ADM_LINEAR_CUBLAS, ADM_LINEAR_OWN } adm_decode_linear;

/* What is decoded. */
typedef struct adm_decode_setup {
    adm_model model;
    float eps, rope_base;  /* of RMSNorm; of RoPE */
    uint32_t batch, capacity, page_size; /* capacity: the greatest length, the new token included; page_size 0: contiguous */
    uint32_t dense_layers; /* the first that attend densely where there is a budget */
    uint32_t max_budget;   /* 0: there is only dense attention, and no codes */
    adm_decode_linear linear;
    const char *variant;   /* of the step; NULL: the fastest that takes the shape */
    uint64_t seed;
} adm_decode_setup;

/* The four matrices of a layer, then the output matrix. */
typedef enum adm_decode_matrix {
    ADM_MATRIX_QKV,
    ADM_MATRIX_OUTPUT,
    ADM_MATRIX_GATE_UP,
    ADM_MATRIX_DOWN,
    ADM_MATRIX_HEAD,
    ADM_N_MATRICES
} adm_decode_matrix;

typedef struct adm_decode_plan {
    adm_decode_sizes sizes;
    uint32_t rows[ADM_N_MATRICES], columns[ADM_N_MATRICES];
    uint32_t n_sparse; /* layers with codes */
    size_t matrix[ADM_N_MATRICES], embedding, layer_bytes; /* offsets: of the first layer, of the head; bytes per layer */
    size_t weight_bytes, gain_bytes, kv_bytes, planes_bytes; /* kv_bytes: K of one layer; planes_bytes: of one layer */
    size_t cache_bytes, activation_bytes, workspace_bytes;
    size_t page_table_bytes, bytes;                        /* all of it */
    double linear_bytes;                                   /* weights that one step reads */
} adm_decode_plan;

/* Whether our own products serve a setup, so that its matrices are tiled; else cuBLAS. */
bool adm_decode_own(const adm_decode_setup *setup);

/* Bytes of a matrix of so many rows, which its tiles fill up. */
size_t adm_decode_matrix_bytes(const adm_decode_plan *plan, uint32_t rows, uint32_t columns);

/* ADM_EINPUT or ADM_EUNSUPPORTED for a setup that cannot be run, with the limit. */
adm_status adm_decode_plan_make(const adm_decode_setup *setup, adm_decode_plan *plan, adm_error *err);

/* The shape of an attention launch at a length and budget (0: dense); threshold: quartiles of the random keys. */
adm_gpu_shape adm_decode_shape(const adm_decode_setup *setup, uint32_t budget);

/* Bytes of K, V and codes that the attention of one step reads, over all layers, at least; budget 0: dense. */
double adm_decode_attention_bytes(const adm_decode_setup *setup, uint32_t length, uint32_t budget);

#endif
