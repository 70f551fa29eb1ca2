/* quality.c: how good a selection of tokens is, against dense attention in double precision. */
#include "core/quality.h"

#include <math.h>
#include <stdlib.h>

#include "core/mem.h"

typedef struct scored_token {
    double score;
    uint32_t token;
} scored_token;

adm_status adm_reference_create(size_t capacity, adm_reference **out, adm_error *err) {
    adm_reference *r = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&r, 1, sizeof *r, "dense reference", err);
    if (status != ADM_OK) return status;
    r->capacity = capacity;
    status = adm_alloc(&r->score, capacity, sizeof *r->score, "scores of the dense reference", err);
    if (status == ADM_OK) status = adm_alloc(&r->weight, capacity, sizeof *r->weight, "weights of the dense reference", err);
    if (status == ADM_OK) status = adm_alloc(&r->order, capacity, sizeof *r->order, "ranking of the dense reference", err);
    if (status == ADM_OK)
        status = adm_alloc(&r->scratch, capacity, ADM_RANK_SCRATCH, "sorting the dense reference", err);
    if (status != ADM_OK) {
        adm_reference_free(&r);
        return status;
    }
    *out = r;
    return ADM_OK;
}

void adm_reference_free(adm_reference **reference) {
    if (*reference == NULL) return;
    adm_free(&(*reference)->score);
    adm_free(&(*reference)->weight);
    adm_free(&(*reference)->order);
    adm_free(&(*reference)->scratch);
    adm_free(reference);
}

static int by_score_then_recency(const void *a, const void *b) {
    const scored_token *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return (x->token < y->token) - (x->token > y->token);
}

void adm_rank(const double *score, size_t n, void *scratch, uint32_t *order) {
    _Static_assert(sizeof(scored_token) == ADM_RANK_SCRATCH, "what callers allocate");
    scored_token *scored = scratch;
    for (size_t t = 0; t < n; t++) scored[t] = (scored_token){score[t], (uint32_t)t};
    qsort(scored, n, sizeof *scored, by_score_then_recency);
    for (size_t t = 0; t < n; t++) order[t] = scored[t].token;
}

void adm_reference_compute(adm_reference *r, adm_dtype q_dtype, const void *q, adm_dtype k_dtype, const void *k,
                           adm_dtype v_dtype, const void *v, size_t n, uint32_t head_dim, double scale) {
    float query[ADM_MAX_HEAD_DIM], row[ADM_MAX_HEAD_DIM];
    const unsigned char *k_bytes = k, *v_bytes = v;
    size_t k_row = head_dim * adm_dtype_bytes(k_dtype), v_row = head_dim * adm_dtype_bytes(v_dtype);
    r->n = n;
    r->head_dim = head_dim;

    adm_to_f32(q_dtype, q, head_dim, query);
    double largest = -INFINITY;
    for (size_t t = 0; t < n; t++) {
        adm_to_f32(k_dtype, k_bytes + t * k_row, head_dim, row);
        double dot = 0;
        for (uint32_t i = 0; i < head_dim; i++) dot += (double)query[i] * row[i];
        r->score[t] = dot * scale;
        if (r->score[t] > largest) largest = r->score[t];
    }

    r->total_weight = 0;
    for (uint32_t i = 0; i < head_dim; i++) r->out[i] = 0;
    for (size_t t = 0; t < n; t++) {
        double weight = exp(r->score[t] - largest);
        r->weight[t] = weight;
        r->total_weight += weight;
        adm_to_f32(v_dtype, v_bytes + t * v_row, head_dim, row);
        for (uint32_t i = 0; i < head_dim; i++) r->out[i] += weight * row[i];
    }
    double squares = 0;
    for (uint32_t i = 0; i < head_dim; i++) {
        r->out[i] /= r->total_weight;
        squares += r->out[i] * r->out[i];
    }
    r->out_norm = sqrt(squares);
    adm_rank(r->score, r->n, r->scratch, r->order);
}

double adm_recall(const adm_reference *r, const uint32_t *selected, size_t n_selected) {
    size_t k = n_selected;
    double kth = r->score[r->order[k - 1]];
    size_t first_tied = k - 1;
    while (first_tied > 0 && r->score[r->order[first_tied - 1]] == kth) first_tied--;
    size_t n_tied_places = k - first_tied, n_above = 0, n_tied = 0;
    for (size_t j = 0; j < n_selected; j++) {
        double score = r->score[selected[j]];
        n_above += score > kth;
        n_tied += score == kth;
    }
    return (double)(n_above + (n_tied < n_tied_places ? n_tied : n_tied_places)) / (double)k;
}

adm_quality adm_quality_of(const adm_reference *r, const uint32_t *selected, size_t n_selected, const float *out) {
    double kept = 0;
    for (size_t j = 0; j < n_selected; j++) kept += r->weight[selected[j]];
    double difference = 0, norm = 0, dot = 0;
    for (uint32_t i = 0; i < r->head_dim; i++) {
        double d = out[i] - r->out[i];
        difference += d * d;
        norm += (double)out[i] * out[i];
        dot += out[i] * r->out[i];
    }
    adm_quality quality;
    quality.recall = adm_recall(r, selected, n_selected);
    quality.mass = kept / r->total_weight;
    quality.kl = quality.mass < 1 ? -log(quality.mass) : 0; /* not -0 */
    quality.tv = 1 - quality.mass;
    if (r->out_norm > 0) {
        quality.output_rel_l2 = sqrt(difference) / r->out_norm;
        quality.output_cosine = norm > 0 ? dot / (sqrt(norm) * r->out_norm) : 0;
    } else {
        quality.output_rel_l2 = norm > 0 ? 1 : 0;
        quality.output_cosine = norm > 0 ? 0 : 1;
    }
    return quality;
}

static int ascending_token(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

size_t adm_oracle_select(const adm_reference *r, size_t k, uint32_t *selected) {
    if (k > r->n) k = r->n;
    for (size_t j = 0; j < k; j++) selected[j] = r->order[j];
    qsort(selected, k, sizeof *selected, ascending_token);
    return k;
}
