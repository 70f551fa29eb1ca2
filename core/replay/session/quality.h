/* quality.h: how good a selection of tokens is, against dense attention in double precision.
 *
 * For one query: scores s_t = scale q.k_t, weights w_t = exp(s_t - max s), probabilities p_t = w_t / sum w, dense output
 * o = sum_t p_t v_t, all in double. A selection S of tokens keeps the mass m = sum_{t in S} p_t; renormalised to S it is
 * the distribution that sparse attention uses. From that distribution to the full one the Kullback-Leibler divergence is
 * -ln m and the total variation distance 1 - m.
 *
 * Scores are computed once a query and serve every selection: the output of sparse attention over S is
 * sum_{t in S} w_t v_t / sum_{t in S} w_t, so that only V is read again. Weights are not kept: an exponential of what is
 * selected costs less than a second array as long as the context, read from memory. */
#ifndef ADM_CORE_REPLAY_SESSION_QUALITY_H
#define ADM_CORE_REPLAY_SESSION_QUALITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/layout.h"
#include "core/contract/stage.h"
#include "core/policy/rank.h"

/* --- The work over all tokens: one function a loop, several implementations ---------------------------------------- */

enum { ADM_QUALITY_QUERIES = 32 }; /* of a call, at most */

/* score[g * stride + t] = scale q_g.k_t for n_q queries [n_q, d] and n keys [n, d] of dtype. The queries are float32 numbers,
 * so that products are exact; they are summed from element 0 on: all rows give the same bits. */
typedef void adm_scores_fn(adm_dtype dtype, const double *q, uint32_t n_q, const void *k, size_t n, uint32_t head_dim,
                           double scale, double *score, size_t stride);

/* out[g * d + i] += weight[g * stride + j] v[j][i] for one j after the other, over rows index[0 .. n-1] of v [*, d], or rows
 * 0 .. n-1 where index is NULL: so a sum may be taken up again, and what one query gets does not depend on the others. */
typedef void adm_combine_fn(adm_dtype dtype, const void *v, const uint32_t *index, size_t n, uint32_t head_dim,
                            const double *weight, size_t stride, uint32_t n_q, double *out);

/* The smallest k for which |sum_{j<k} w_j (v_j - o)| <= limit * sum_{j<k} w_j, over rows order[0 .. n-1] of v with
 * weights w_j = weight[order[j]]; n if there is none. That is the first k tokens of an order whose sparse output lies
 * within `limit` of o [d]; the difference is summed as such, so nothing cancels. */
typedef size_t adm_within_fn(adm_dtype dtype, const void *v, const uint32_t *order, size_t n, uint32_t head_dim,
                             const double *weight, const double *o, double limit);

/* A row of the registry (kernels/registry.h). Every product is a product of doubles and every sum a sum of doubles; rows
 * differ in whether a product that is added is rounded first, in the exponential, and in the order in which weights are
 * summed. What that may do to a result is derived in tests/core/replay/test_quality.c. */
typedef struct adm_quality_impl {
    const char *name;            /* "reference", "avx2", ... */
    bool (*is_available)(void);  /* NULL: always */
    adm_scores_fn *scores;
    adm_weights_fn *weights;
    adm_combine_fn *combine;
    adm_within_fn *within;
} adm_quality_impl;

/* Plain C, element by element. */
extern const adm_quality_impl adm_quality_reference;

/* --- One query ------------------------------------------------------------------------------------------------------ */

/* The dense reference of one query over n tokens. score is borrowed. */
typedef struct adm_reference {
    size_t n;
    uint32_t head_dim;
    const double *score;  /* [n] */
    double largest;       /* score */
    double total_weight;
    double out[ADM_MAX_HEAD_DIM];
    double out_norm;
} adm_reference;

/* Fills the references of n_q queries q [n_q, d] that read one KV head k, v [*, d] of dtype; query g sees its first n[g] >= 1
 * tokens. Everything is finite. score: [n_q][stride], stride >= the largest n; reference g borrows row g. K and V are read
 * once for ADM_QUALITY_QUERIES queries; what a query gets does not depend on those beside it. A stride that is a multiple of
 * 4 KiB maps all rows to the same lines of a cache. */
void adm_reference_compute(const adm_quality_impl *impl, adm_dtype dtype, const float *q, const size_t *n, uint32_t n_q,
                           const void *k, const void *v, uint32_t head_dim, double scale, double *score, size_t stride,
                           adm_reference *reference);

typedef struct adm_quality {
    double recall;         /* see below */
    double mass;           /* m */
    double kl;             /* -ln m, nats; finite even where m underflows */
    double tv;             /* 1 - m */
    double output_rel_l2;  /* |out - o| / |o|; 0 when both are zero, 1 when only o is */
    double output_cosine;  /* 1 when both are zero, 0 when one is */
} adm_quality;

/* Selections each of which holds the one before, as those of a policy at growing budgets do:
 *
 *   list   | level 0, ascending | level 1, ascending | ...     tokens
 *                               ^ end[0]             ^ end[1]
 *
 * Selection b is list[0 .. end[b] - 1]. So each row of V is added once for all of them. */
typedef struct adm_nested {
    const adm_quality_impl *impl;
    adm_dtype dtype;
    const void *v;         /* the KV head's values [n, d] */
    const uint32_t *list;
    const size_t *end;     /* [n_levels], ascending, the first >= 1 */
    size_t n_levels;
} adm_nested;

/* Nested selections that n_q queries share, on the way from weights to sums to metrics. Levels that hold every token need no
 * sums: the first n_summed levels, of `widest` tokens, are weighed and summed. */
typedef struct adm_judging {
    adm_nested nested;
    const adm_reference *reference; /* [n_q], borrowed */
    uint32_t n_q;
    size_t n_summed, widest;
    double *weight; /* [n_q][widest] */
    double *recall; /* [n_q][n_levels] */
    double *kept;   /* [n_q][n_levels]: the sum of each level's own weights */
    double *sum;    /* [n_levels][n_q][d]: of each level's own weighted values */
    size_t *summed; /* [n_levels] up to where of the list */
} adm_judging;

/* Fills a judging's fields and takes its arrays from the layout, for at most that many tokens, whatever the list is. */
void adm_judging_take(adm_layout *layout, const adm_nested *nested, size_t max_widest, const adm_reference *reference,
                      uint32_t n_q, adm_judging *judging);

/* Recall is the share of the exact top-k by score that the selection holds. k is the budget, or all tokens where those are
 * fewer, also where the selection is smaller. cut [n_q][n_levels]: the cuts of each query's scores at k (adm_rank_cut()), not
 * below the selection's size; of one at all tokens only k is looked at. Where scores tie at the k-th position any of the tied
 * tokens makes an exact top-k, so each counts until the tied positions are used up: the recall of an exact top-k is 1, however
 * it broke its ties. score: [max_widest] of scratch. */
void adm_judging_weigh(adm_judging *judging, const adm_score_cut *cut, double *score);

/* The sums of n judgings of one KV head, block by block of V, so that a block is read from memory once for all of them. What
 * one gets does not depend on the others. */
void adm_judging_sum(adm_judging *judging, size_t n);

/* quality [n_q][n_levels]: the metrics of each selection for each query; the output is that of sparse attention over it,
 * rounded to float32 as an attention kernel writes it. score: [max_widest] of scratch. */
void adm_judging_finish(adm_judging *judging, double *score, adm_quality *quality);

/* The metrics of selecting everything: only the rounding to float32 is left of them. */
adm_quality adm_quality_of_dense(const adm_reference *reference);

#endif
