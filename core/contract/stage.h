/* stage.h: the pipeline's contract: which stages there are, what each computes on the host, and how an implementation
 * of one is named. kernels/ holds the implementations; the replay engine and the probes know stages only through this.
 *
 *   query, new key [d]                                                  (any dtype)
 *      | hadamard    y = H x / sqrt(d)            float32 [d]
 *      | bucket      code = (y>t0)+(y>t1)+(y>t2)  uint8   [d], 0..3
 *      | pack        2 bits an element            uint8   [d/4]
 *      | append      the key's packed row joins the code cache [n_tokens, d/4]
 *      | distance    L1 over codes                uint16  [n_tokens], 0..3d
 *      | topk        the budget smallest          uint32  [n_selected], ascending tokens
 *      | attention   softmax over those tokens    float32 [d]
 *      v
 *   `step` is all of them for one layer of one decode step; `dense` is attention over every token, the baseline.
 *
 * Source: Adamas, arXiv 2510.18413. */
#ifndef ADM_CORE_CONTRACT_STAGE_H
#define ADM_CORE_CONTRACT_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/base/floatfmt.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum adm_stage {
    ADM_STAGE_HADAMARD,
    ADM_STAGE_BUCKET,
    ADM_STAGE_PACK,
    ADM_STAGE_APPEND,
    ADM_STAGE_DISTANCE,
    ADM_STAGE_TOPK,
    ADM_STAGE_ATTENTION,
    ADM_STAGE_STEP,
    ADM_STAGE_DENSE,
    ADM_N_STAGES
} adm_stage;

enum { ADM_MAX_HEAD_DIM = 256 };

/* A model's first layers attend densely unless the user says otherwise. */
enum { ADM_DENSE_LAYERS = 2 };

/* "hadamard", "bucket", ... as the database spells them; never NULL. */
const char *adm_stage_name(adm_stage stage);

/* All of them, in the order of adm_stage. */
void adm_stage_names(const char *names[ADM_N_STAGES]);

/* The heads of one layer. Query head h attends to KV head h / (n_q_heads / n_kv_heads). */
typedef struct adm_shape {
    uint32_t n_q_heads;
    uint32_t n_kv_heads;
    uint32_t head_dim;
} adm_shape;

/* ADM_EINPUT unless both head counts are 1..4096, KV heads divide query heads, and head_dim is 64, 128 or 256. */
adm_status adm_shape_check(const adm_shape *shape, adm_error *err);

/* The KV head that query head `q_head` reads. */
static inline uint32_t adm_kv_head(const adm_shape *shape, uint32_t q_head) {
    return q_head / (shape->n_q_heads / shape->n_kv_heads);
}

/* Which tokens top-k must keep. The newest token is always in; forced tokens count against the budget. */
typedef struct adm_select_rule {
    uint32_t budget;   /* tokens to attend to, >= 1; at or above the length it selects everything */
    uint32_t n_sinks;  /* the first n_sinks tokens are forced in */
    uint32_t n_recent; /* the last n_recent tokens are forced in; 0 means 1 */
} adm_select_rule;

/* ADM_EINPUT if the budget is 0 or smaller than sinks + recent. */
adm_status adm_select_rule_check(const adm_select_rule *rule, adm_error *err);

/* Who shares one selection: every query head has its own, or all query heads of a KV head have one, by the sum of their
 * distances. */
typedef enum adm_selection { ADM_SELECT_HEAD, ADM_SELECT_GROUP } adm_selection;

/* "head" or "group", as the database spells them; never NULL. */
const char *adm_selection_name(adm_selection selection);

/* What top-k saw at its boundary. */
typedef struct adm_select_info {
    uint32_t boundary;   /* the largest distance selected by rank (not by force) */
    uint32_t n_tied;     /* unforced tokens at exactly that distance */
    uint32_t n_tied_in;  /* how many of those were selected */
} adm_select_info;

/* --- One function type a stage. None allocates; none keeps state; all are safe to call from several threads. ------
 * Row-major, rows contiguous unless a stride is named. Buffers may be unaligned where the type is void or uint8. */

/* y[r] = H_d x[r] / sqrt(d), Sylvester order, for n_rows rows of head_dim elements of dtype.
 * The float32 result is part of the contract, since codes are compared bit for bit: widen to float32, butterflies of
 * stride 1, 2, 4, ... d/2 (a+b, a-b), then one multiplication by float32(1/sqrt(d)). */
typedef void adm_hadamard_fn(adm_dtype dtype, const void *x, size_t n_rows, uint32_t head_dim, float *y);

/* codes[i] = (y[i] > t[0]) + (y[i] > t[1]) + (y[i] > t[2]); t ascending. A NaN has code 0. */
typedef void adm_bucket_fn(const float *y, size_t n, const float t[3], uint8_t *codes);

/* Element i of a row goes to bits 2(i%4) .. 2(i%4)+1 of byte i/4. codes [n_rows, d] -> packed [n_rows, d/4]. */
typedef void adm_pack_fn(const uint8_t *codes, size_t n_rows, uint32_t head_dim, uint8_t *packed);

/* distance[t] = distance of the query's codes q [d/4] from token t's k [n_tokens, d/4]. With the metric asym4, q is the
 * query's planes [4][d/8] instead (core/contract/asym4.h). */
typedef void adm_distance_fn(const uint8_t *q, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint16_t *distance);

/* --- Variants of the codes, for comparison: the replay's other distances ------------------------------------------
 * Metrics for codes a, b in 0..m with m = 2^bits - 1, summed over the d elements; smaller is nearer:
 *
 *   l1           |a - b|                           the paper's and this project's contract
 *   xor          a ^ b as a number                 what the authors' released kernel computes: (1,2) scores 3
 *   l2           (a - b)^2
 *   sign         1 if the codes lie on different sides of the middle threshold
 *   dot          (m^2 - (2a - m)(2b - m)) / 2      the dot product of the codes as the odd numbers -m .. m, turned round;
 *                                                  an integer of at least 0 because a product of two odd numbers is odd
 *   asymmetric   q.(what the key's code stands for), turned round, with the float query. As an integer: each element's
 *                loss against its best code, scaled so that the largest possible sum is just below 65,536; rounding an
 *                element moves a sum by at most half a unit
 *
 *   asym4        a query of 4-bit integers against 2-bit keys, which are centred and scaled by channel: the query's largest
 *                possible score less the key's, 0 .. 24 d; core/contract/asym4.h
 *
 * With codes of 1 bit the first five are one: the Hamming distance. */
typedef enum adm_code_metric {
    ADM_METRIC_L1,
    ADM_METRIC_XOR,
    ADM_METRIC_L2,
    ADM_METRIC_SIGN,
    ADM_METRIC_DOT,
    ADM_METRIC_ASYMMETRIC,
    ADM_METRIC_ASYM4,
    ADM_N_CODE_METRICS
} adm_code_metric;

enum { ADM_MAX_CODE_BITS = 3 };

/* Rows to packed codes of 1, 2 or 3 bits, with thresholds t [2^bits - 1][d], ascending in the first index: element i's code,
 * the number of its thresholds that y is above, goes to bits bits*i .. of the little-endian row of bits*d/8 bytes. A NaN has
 * code 0. head_dim 64, 128 or 256. */
typedef void adm_encode_fn(const float *y, size_t n_rows, uint32_t head_dim, const float *t, uint32_t bits, uint8_t *packed);

/* distance[t] = sum_i table[i][code i of token t], table [d][2^bits], k [n_tokens, bits*d/8]: any metric, and any number
 * of queries at once (core/policy/codebook.h makes tables). No sum of a row's entries exceeds 65535. scratch: ADM_SCAN_SCRATCH
 * bytes, aligned for uint16_t. */
typedef void adm_scan_fn(const uint16_t *table, const uint8_t *k, size_t n_tokens, uint32_t head_dim, uint32_t bits,
                         void *scratch, uint16_t *distance);

enum { ADM_SCAN_SCRATCH = ADM_MAX_HEAD_DIM / 4 * 256 * 2 };

/* Writes the min(budget, n_tokens) selected tokens in ascending order to index and returns how many. Ties at the
 * boundary go to the most recent token. distance values are 0..max_distance. histogram: max_distance + 1 counters of
 * scratch. info may be NULL. n_tokens 0 selects nothing. The rule must pass adm_select_rule_check(). */
typedef uint32_t adm_topk_fn(const uint16_t *distance, size_t n_tokens, uint32_t max_distance, const adm_select_rule *rule,
                             uint32_t *histogram, uint32_t *index, adm_select_info *info);

/* out[d] = sum_j softmax_j(scale * q.k_j) v_j over the n tokens index[0..n-1], or over tokens 0..n-1 when index is
 * NULL. q [d], k and v [*, d], all of dtype. score: n doubles of scratch. n = 0 gives zeros. */
typedef void adm_attention_fn(adm_dtype dtype, const void *q, const void *k, const void *v, const uint32_t *index, size_t n,
                              uint32_t head_dim, double scale, double *score, float *out);

/* weight[t] = exp(score[t] - largest), and 0 below exp(-708); returns their sum. weight may be score. */
typedef double adm_weights_fn(const double *score, size_t n, double largest, double *weight);

/* A row of the registry (kernels/registry.h): one host implementation of one stage. */
typedef struct adm_host_impl {
    adm_stage stage;
    const char *name;     /* the `variant` in the database: "reference", "avx2", "l1-avx512", ... */
    const char *summary;  /* one line for --help and the report */
    const char *metric;   /* of a distance row: "l1", "xor", ..., whatever computes it; NULL in other stages */
    uint32_t bits;        /* of a distance row: the width of its codes; else 0 */
    bool (*is_available)(void); /* can this processor run it? NULL: always */
    uint32_t max_head_dim;
    double tolerance;     /* relative L2 error allowed against the reference; 0: bit for bit */
    union {
        adm_hadamard_fn *hadamard;
        adm_bucket_fn *bucket;
        adm_pack_fn *pack;
        adm_distance_fn *distance;
        adm_topk_fn *topk;
        adm_attention_fn *attention; /* also ADM_STAGE_DENSE */
    } fn;
} adm_host_impl;

/* The implementations a replay runs, one a stage. Borrowed from the registry, which is constant. */
typedef struct adm_host_pipeline {
    const adm_host_impl *hadamard, *bucket, *pack, *distance, *topk, *attention, *dense;
    adm_encode_fn *encode;  /* of the variants: bucket and pack in one */
    adm_scan_fn *scan;      /* and distance by table, */
    const adm_host_impl
        *code_distance[ADM_N_CODE_METRICS][ADM_MAX_CODE_BITS + 1]; /* unless directly: [metric][bits], or NULL */
} adm_host_pipeline;

#ifdef __cplusplus
}
#endif

#endif
