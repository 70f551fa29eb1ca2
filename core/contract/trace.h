/* trace.h: a decode session as the replay engine sees it: borrowed views of tensors, whoever read them.
 *
 * Step s has the query at token positions[s] and may attend to tokens 0 .. positions[s]; K and V hold n_tokens tokens,
 * positions[n_steps-1] < n_tokens. traces/format/trace_file.h fills this from a .safetensors file. */
#ifndef ADM_CORE_CONTRACT_TRACE_H
#define ADM_CORE_CONTRACT_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/floatfmt.h"
#include "core/contract/stage.h"

/* One captured layer. Tensors may be unaligned: read them through adm_to_f32(). */
typedef struct adm_trace_layer {
    uint32_t index;           /* the model's layer number */
    adm_dtype k_dtype, v_dtype, q_dtype, o_dtype;
    const void *k;            /* [n_kv_heads, n_tokens, head_dim], post-RoPE */
    const void *v;            /* [n_kv_heads, n_tokens, head_dim] */
    const void *q;            /* [n_steps, n_q_heads, head_dim], post-RoPE */
    const void *o;            /* [n_steps, n_q_heads, head_dim], the model's dense output, or NULL */
} adm_trace_layer;

typedef struct adm_trace_meta {
    const char *key, *value;  /* UTF-8, NUL-terminated */
} adm_trace_meta;

typedef struct adm_trace {
    const char *path;         /* as the user gave it */
    const char *name;         /* the file's base name */
    const char *kind;         /* "real", "synthetic", or "unlabelled" where the file does not say */
    const char *model;        /* "" if the file does not say */
    char xxh128[33];          /* XXH3-128 of the whole file, lower-case hex, as `xxhsum -H2` prints it */
    uint64_t file_bytes;
    adm_shape shape;
    double softmax_scale;
    size_t n_tokens;
    size_t n_steps;
    const int64_t *positions; /* [n_steps], strictly increasing */
    size_t n_layers;
    const adm_trace_layer *layers; /* ascending by index */
    size_t n_meta;
    const adm_trace_meta *meta;
} adm_trace;

#endif
