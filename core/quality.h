/* quality.h: how good a selection of tokens is, against dense attention in double precision.
 *
 * For one query: scores s_t = scale q.k_t, probabilities p_t = softmax(s)_t, dense output o = sum_t p_t v_t, all in
 * double. A selection S of tokens keeps the mass m = sum_{t in S} p_t; renormalised to S it is the distribution that
 * sparse attention uses. From that distribution to the full one the Kullback-Leibler divergence is -ln m and the total
 * variation distance 1 - m. */
#ifndef ADM_CORE_QUALITY_H
#define ADM_CORE_QUALITY_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/stage.h"

/* order [n]: 0 .. n-1 by descending score [n], equal scores the higher number (the more recent) first.
 * scratch: n * ADM_RANK_SCRATCH bytes. */
void adm_rank(const double *score, size_t n, void *scratch, uint32_t *order);

enum { ADM_RANK_SCRATCH = 16 };

/* The dense reference of one query over n tokens. Buffers are owned by the struct and reused from query to query. */
typedef struct adm_reference {
    size_t capacity;      /* tokens the buffers hold */
    size_t n;             /* tokens of the present query */
    uint32_t head_dim;
    double *score;        /* [n] */
    double *weight;       /* [n] exp(score - max) */
    double total_weight;  /* their sum, in ascending order of tokens */
    uint32_t *order;      /* [n] tokens by descending score; equal scores: the most recent first */
    void *scratch;        /* for sorting */
    double out[ADM_MAX_HEAD_DIM];
    double out_norm;
} adm_reference;

/* Buffers for up to `capacity` tokens; release with adm_reference_free(). */
adm_status adm_reference_create(size_t capacity, adm_reference **out, adm_error *err);
void adm_reference_free(adm_reference **reference);

/* Fills the reference for q [d] against k, v [n, d], n >= 1, all of one dtype each; finite values. */
void adm_reference_compute(adm_reference *reference, adm_dtype q_dtype, const void *q, adm_dtype k_dtype, const void *k,
                           adm_dtype v_dtype, const void *v, size_t n, uint32_t head_dim, double scale);

typedef struct adm_quality {
    double recall;         /* see adm_recall() */
    double mass;           /* m */
    double kl;             /* -ln m, nats */
    double tv;             /* 1 - m */
    double output_rel_l2;  /* |out - o| / |o|; 0 when both are zero, 1 when only o is */
    double output_cosine;  /* 1 when both are zero, 0 when one is */
} adm_quality;

/* Share of an exact top-k (by score) that the selection holds, k = n_selected. Where scores tie at the k-th place any
 * of the tied tokens makes an exact top-k, so each counts until the tied places are used up: the recall of an exact
 * top-k is 1, however it broke its ties. */
double adm_recall(const adm_reference *reference, const uint32_t *selected, size_t n_selected);

/* All of them for a selection (ascending tokens, 1..n of them) and the output [d] computed from it. */
adm_quality adm_quality_of(const adm_reference *reference, const uint32_t *selected, size_t n_selected,
                           const float *out);

/* Writes the exact top-k, ascending tokens, min(k, n) of them, and returns how many. */
size_t adm_oracle_select(const adm_reference *reference, size_t k, uint32_t *selected);

#endif
