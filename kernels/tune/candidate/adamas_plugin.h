/* adamas_plugin.h: everything a kernel of your own needs to be judged by `adamas tune`. Plain C, CUDA and C++ may include it;
 * it includes nothing of Adamas. `adamas kernel header` prints it.
 *
 * The short way: a .c or .cu file that includes this header and defines one of the functions below.
 *
 *     uint32_t adamas_topk(...) { ... }                     my_topk.c:   adamas tune --stage topk my_topk.c
 *     int adamas_gpu_topk(shape, buffers, stream) { ... }   my_topk.cu:  adamas tune --stage topk my_topk.cu
 *
 * The long way: a shared object that exports a table, `const adamas_plugin adamas_plugin_table`, with any number of
 * implementations, their limits and their parameters.
 *
 * Comments in a source file that tune reads ("//" or the like before them):
 *
 *     adamas: head_dim = 64, 128        shapes that it takes; without this line all of them
 *     adamas: dtype = f16               likewise
 *     adamas: flags = -O2 -ffast-math   given to the compiler
 *     adamas: BLOCK = 128, 256, 512     a parameter: BLOCK is defined as one of these values, and tune searches them */
#ifndef ADAMAS_PLUGIN_H
#define ADAMAS_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes whenever a struct or a function type below does. A table of another version is refused. */
#define ADAMAS_PLUGIN_VERSION 1

/* Element types of q, K and V. */
enum { ADAMAS_F32 = 0, ADAMAS_F16 = 1, ADAMAS_BF16 = 2 };

/* Which tokens top-k keeps: the newest token always; the first n_sinks; the last n_recent (0 means 1); then the nearest, up to
 * `budget` tokens in all. Ties at the boundary go to the most recent token. Sinks and recent tokens fit into the budget. */
typedef struct adamas_select_rule {
    uint32_t budget, n_sinks, n_recent;
} adamas_select_rule;

/* What top-k saw at its boundary; all zero where every selected token is a sink or recent. Where the budget takes all tokens,
 * the others still count as selected by rank: the boundary is the largest of their distances. */
typedef struct adamas_select_info {
    uint32_t boundary; /* the largest distance selected by rank, not by force */
    uint32_t n_tied;   /* unforced tokens at exactly that distance */
    uint32_t n_tied_in; /* how many of those were selected */
} adamas_select_info;

/* --- Host functions: one row, head or chunk per call. They allocate nothing, keep no state and start no thread. -------------
 * Buffers are contiguous. Those of void and uint8_t may be unaligned. */

/* y[r] = H_d x[r] / sqrt(d), Sylvester order, n_rows rows of head_dim elements of dtype. Bit for bit: widen to float32,
 * butterflies of stride 1, 2, 4 ... d/2 (a+b, a-b), then one multiplication by (float)(1/sqrt(d)). */
typedef void adamas_hadamard_fn(int dtype, const void *x, size_t n_rows, uint32_t head_dim, float *y);

/* codes[i] = (y[i] > t[0]) + (y[i] > t[1]) + (y[i] > t[2]); a NaN has code 0. */
typedef void adamas_bucket_fn(const float *y, size_t n, const float t[3], uint8_t *codes);

/* Element i of a row goes to bits 2(i%4) .. 2(i%4)+1 of byte i/4. codes [n_rows, d] -> packed [n_rows, d/4]. */
typedef void adamas_pack_fn(const uint8_t *codes, size_t n_rows, uint32_t head_dim, uint8_t *packed);

/* distance[t] = sum over the d elements of |q - k|, 2-bit codes as packed above: q [d/4], k [n_tokens, d/4]. */
typedef void adamas_distance_fn(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance);

/* Writes the min(budget, n_tokens) selected tokens in ascending order to index and returns how many. Distances are
 * 0..max_distance. histogram: max_distance + 1 counters of scratch, with anything in them. info may be NULL. */
typedef uint32_t adamas_topk_fn(const uint16_t *distance, size_t n_tokens, uint32_t max_distance,
                                const adamas_select_rule *rule, uint32_t *histogram, uint32_t *index, adamas_select_info *info);

/* out[d] = sum_j softmax_j(scale * q.k_j) v_j over the n tokens index[0..n-1], which may repeat and come in any order; over
 * tokens 0..n-1 where index is NULL (stage dense). q [d], k and v [*, d], all of dtype. score: n doubles of scratch. n = 0
 * gives zeros. Allowed: a relative L2 error of 2^-14 against double precision. */
typedef void adamas_attention_fn(int dtype, const void *q, const void *k, const void *v, const uint32_t *index, size_t n,
                                 uint32_t head_dim, double scale, double *score, float *out);

/* --- GPU launchers: one layer of one decode step of a whole batch per call ------------------------------------------------
 * S: selections per sequence: n_q_heads, or n_kv_heads where `group` is 1 and a distance is the sum over the group's heads. */
typedef struct adamas_gpu_shape {
    uint32_t n_q_heads, n_kv_heads, head_dim; /* query head h reads KV head h / (n_q_heads / n_kv_heads) */
    int32_t dtype; /* ADAMAS_F16 or ADAMAS_BF16 */
    uint32_t batch; /* sequences */
    uint32_t capacity; /* tokens of space per sequence, a multiple of 32 */
    uint32_t page_size, max_pages; /* 0: K and V are contiguous */
    adamas_select_rule rule;
    float threshold[3];
    float scale; /* of the softmax */
    int32_t group;
} adamas_gpu_shape;

/* Device pointers. Each stage reads and writes:
 *
 *   hadamard   q, k_new -> y [batch][n_q_heads + n_kv_heads][d]
 *   bucket     y -> code, the same rows
 *   pack       code -> packed, d/4 bytes per row
 *   append     k_new, v_new, packed -> k, v, planes at token length[b] - 1
 *   distance   packed, planes -> distance [batch][S][capacity], the first length[b] of each row
 *   topk       distance -> index [batch][S][budget] ascending, n_selected [batch][S]
 *   attention  q, k, v, index, n_selected -> out [batch][n_q_heads][d] of dtype
 *   step       all of these
 *   dense      q, k, v -> out
 *
 *   planes [batch][n_kv_heads][capacity/32] tiles of 32 tokens: high [32][d/32] words, then low [32][d/32]; bit j of word w
 *          is the high (low) bit of the code of element 32w + j
 *   k, v   [batch][n_kv_heads][capacity][d]; paged: token t of sequence b is row t % page_size of page
 *          page_table[b * max_pages + t / page_size] of [n_pages][n_kv_heads][page_size][d] */
typedef struct adamas_gpu_buffers {
    const void *q, *k_new, *v_new;
    void *k, *v;
    uint32_t *planes;
    const int32_t *page_table;
    const uint32_t *length; /* [batch] tokens, the new one included; 0: an empty sequence */
    float *y;
    uint8_t *code, *packed;
    uint16_t *distance;
    uint32_t *index, *n_selected;
    void *out;
    void *workspace; /* workspace_bytes(shape), zeroed before the first call; leave it as you need it next time */
} adamas_gpu_buffers;

/* cudaStream_t. */
typedef struct CUstream_st *adamas_stream;

/* Enqueues the stage on the stream and returns at once: 0, ADAMAS_UNSUPPORTED for a shape that it does not take, or a
 * cudaError_t. It is captured into CUDA graphs: no allocation, no synchronisation, no other stream that is not joined. */
typedef int adamas_gpu_fn(const adamas_gpu_shape *shape, const adamas_gpu_buffers *buffers, adamas_stream stream);
enum { ADAMAS_UNSUPPORTED = -1 };

/* --- The short way: define one of these --------------------------------------------------------------------------------- */

adamas_hadamard_fn adamas_hadamard;
adamas_bucket_fn adamas_bucket;
adamas_pack_fn adamas_pack;
adamas_distance_fn adamas_distance;
adamas_topk_fn adamas_topk;
adamas_attention_fn adamas_attention, adamas_dense;
adamas_gpu_fn adamas_gpu_hadamard, adamas_gpu_bucket, adamas_gpu_pack, adamas_gpu_append, adamas_gpu_distance, adamas_gpu_topk,
    adamas_gpu_attention, adamas_gpu_step, adamas_gpu_dense;
/* May be left out: bytes of workspace that the launcher needs. */
size_t adamas_gpu_workspace_bytes(const adamas_gpu_shape *shape);

/* --- The long way ------------------------------------------------------------------------------------------------------- */

enum { ADAMAS_MAX_PARAMETERS = 8 };

/* A parameter that tune may set, by a call of adamas_implementation.set before any launch. */
typedef struct adamas_parameter {
    const char *name;
    const int64_t *values; /* [n_values], the first is the default */
    uint32_t n_values;
} adamas_parameter;

typedef struct adamas_implementation {
    const char *stage; /* "topk", ... as in the list above */
    const char *name; /* letters, digits, '.', '_', '-'; unique in the table */
    const char *summary;
    uint32_t on_gpu; /* 0: `run` is the host function of the stage; 1: an adamas_gpu_fn */
    uint32_t head_dims; /* a sum of 64, 128, 256; 0: all */
    uint32_t dtypes; /* bits 1 << ADAMAS_F32 ...; 0: all */
    uint32_t max_tokens; /* 0: no limit */
    uint32_t n_parameters;
    const adamas_parameter *parameters;
    int (*set)(const int64_t *values); /* [n_parameters]; 0: accepted. NULL where there are none */
    void (*run)(void);
    size_t (*workspace_bytes)(const adamas_gpu_shape *shape); /* NULL: none */
} adamas_implementation;

typedef struct adamas_plugin {
    uint32_t version; /* ADAMAS_PLUGIN_VERSION */
    uint32_t bytes; /* sizeof(adamas_implementation) */
    uint32_t n_implementations;
    const adamas_implementation *implementations;
} adamas_plugin;

#if defined(__GNUC__)
extern const adamas_plugin adamas_plugin_table __attribute__((visibility("default")));
#endif

#ifdef __cplusplus
}
#endif

#endif
