/* quality.c: how good a selection of tokens is, against dense attention in double precision. */
#include "core/replay/session/quality.h"

#include <math.h>
#include <string.h>

#include "core/base/minmax.h"

/* --- The plain loops ------------------------------------------------------------------------------------------------ */

static void load_row(adm_dtype dtype, const void *base, size_t row, uint32_t head_dim, float *out) {
    adm_to_f32(dtype, (const char *)base + row * head_dim * adm_dtype_bytes(dtype), head_dim, out);
}

static void scores(adm_dtype dtype, const double *q, uint32_t n_q, const void *k, size_t n, uint32_t head_dim, double scale,
                   double *score, size_t stride) {
    float row[ADM_MAX_HEAD_DIM];
    for (size_t t = 0; t < n; t++) {
        load_row(dtype, k, t, head_dim, row);
        for (uint32_t g = 0; g < n_q; g++) {
            double dot = 0;
            for (uint32_t i = 0; i < head_dim; i++) dot += q[g * head_dim + i] * (double)row[i];
            score[g * stride + t] = scale * dot;
        }
    }
}

static double weights(const double *score, size_t n, double largest, double *weight) {
    double total = 0;
    for (size_t t = 0; t < n; t++) {
        double x = score[t] - largest;
        weight[t] = x < -708 ? 0 : exp(x);
        total += weight[t];
    }
    return total;
}

static void combine(adm_dtype dtype, const void *v, const uint32_t *index, size_t n, uint32_t head_dim, const double *weight,
                    size_t stride, uint32_t n_q, double *out) {
    float row[ADM_MAX_HEAD_DIM];
    for (size_t j = 0; j < n; j++) {
        load_row(dtype, v, index != NULL ? index[j] : j, head_dim, row);
        for (uint32_t g = 0; g < n_q; g++)
            for (uint32_t i = 0; i < head_dim; i++) out[g * head_dim + i] += weight[g * stride + j] * (double)row[i];
    }
}

static size_t within(adm_dtype dtype, const void *v, const uint32_t *order, size_t n, uint32_t head_dim, const double *weight,
                     const double *o, double limit) {
    float row[ADM_MAX_HEAD_DIM];
    double rest[ADM_MAX_HEAD_DIM] = {0}, total = 0;
    for (size_t j = 0; j < n; j++) {
        double w = weight[order[j]], squares = 0;
        load_row(dtype, v, order[j], head_dim, row);
        total += w;
        for (uint32_t i = 0; i < head_dim; i++) {
            rest[i] += w * ((double)row[i] - o[i]);
            squares += rest[i] * rest[i];
        }
        if (total > 0 && sqrt(squares) <= limit * total) return j + 1;
    }
    return n;
}

const adm_quality_impl adm_quality_reference = {
    .name = "reference", .scores = scores, .weights = weights, .combine = combine, .within = within};

/* --- One query ------------------------------------------------------------------------------------------------------ */

/* How many of the n_block tokens from `first` on a query sees. */
static size_t seen(const adm_reference *r, size_t first, size_t n_block) {
    return r->n > first ? adm_min(r->n - first, n_block) : 0;
}

/* Scores of n_q queries, at most ADM_QUALITY_QUERIES, and the largest of each, a block of keys at a time. */
static void score_block_by_block(const adm_quality_impl *impl, adm_dtype dtype, const double *wide, uint32_t n_q, const char *k,
                                 size_t n_max, double scale, double *score, size_t stride, adm_reference *reference) {
    enum { BLOCK = 512 }; /* scores that are in the first or second cache when their largest is looked for */
    const uint32_t d = reference->head_dim;
    const size_t row_bytes = d * adm_dtype_bytes(dtype);
    for (size_t t = 0; t < n_max; t += BLOCK) {
        const size_t n_block = adm_min(n_max - t, BLOCK);
        impl->scores(dtype, wide, n_q, k + t * row_bytes, n_block, d, scale, score + t, stride);
        for (uint32_t g = 0; g < n_q; g++) {
            const size_t n_seen = seen(&reference[g], t, n_block);
            const double largest = n_seen > 0 ? adm_largest(score + g * stride + t, n_seen) : 0;
            if (n_seen > 0 && (t == 0 || largest > reference[g].largest)) reference[g].largest = largest;
        }
    }
}

/* Sums of weights and of weighted values, likewise. Weights live a block long. A token that a query does not see has the
 * weight 0, which leaves its sums as they are. */
static void weigh_block_by_block(const adm_quality_impl *impl, adm_dtype dtype, uint32_t n_q, const char *v, size_t n_max,
                                 adm_reference *reference, double *out) {
    enum { BLOCK = 256 };
    double weight[ADM_QUALITY_QUERIES * BLOCK];
    const uint32_t d = reference->head_dim;
    const size_t row_bytes = d * adm_dtype_bytes(dtype);
    for (size_t t = 0; t < n_max; t += BLOCK) {
        const size_t n_block = adm_min(n_max - t, BLOCK);
        for (uint32_t g = 0; g < n_q; g++) {
            adm_reference *r = &reference[g];
            const size_t n_seen = seen(r, t, n_block);
            if (n_seen > 0) r->total_weight += impl->weights(r->score + t, n_seen, r->largest, weight + g * BLOCK);
            memset(weight + g * BLOCK + n_seen, 0, (n_block - n_seen) * sizeof *weight);
        }
        impl->combine(dtype, v + t * row_bytes, NULL, n_block, d, weight, BLOCK, n_q, out);
    }
}

static void compute_some(const adm_quality_impl *impl, adm_dtype dtype, const float *q, const size_t *n, uint32_t n_q,
                         const void *k, const void *v, uint32_t head_dim, double scale, double *score, size_t stride,
                         adm_reference *reference) {
    double wide[ADM_QUALITY_QUERIES * ADM_MAX_HEAD_DIM], out[ADM_QUALITY_QUERIES * ADM_MAX_HEAD_DIM] = {0};
    size_t n_max = 0;
    for (uint32_t g = 0; g < n_q; g++) {
        reference[g] = (adm_reference){.n = n[g], .head_dim = head_dim, .score = score + g * stride};
        n_max = n[g] > n_max ? n[g] : n_max;
    }
    for (uint32_t i = 0; i < n_q * head_dim; i++) wide[i] = (double)q[i];
    score_block_by_block(impl, dtype, wide, n_q, k, n_max, scale, score, stride, reference);
    weigh_block_by_block(impl, dtype, n_q, v, n_max, reference, out);
    for (uint32_t g = 0; g < n_q; g++) {
        adm_reference *r = &reference[g];
        double squares = 0;
        for (uint32_t i = 0; i < head_dim; i++) {
            r->out[i] = out[g * head_dim + i] / r->total_weight;
            squares += r->out[i] * r->out[i];
        }
        r->out_norm = sqrt(squares);
    }
}

void adm_reference_compute(const adm_quality_impl *impl, adm_dtype dtype, const float *q, const size_t *n, uint32_t n_q,
                           const void *k, const void *v, uint32_t head_dim, double scale, double *score, size_t stride,
                           adm_reference *reference) {
    for (uint32_t first = 0; first < n_q; first += ADM_QUALITY_QUERIES)
        compute_some(impl, dtype, q + first * head_dim, n + first, (uint32_t)adm_min(n_q - first, ADM_QUALITY_QUERIES), k, v,
                     head_dim, scale, score + first * stride, stride, reference + first);
}

/* What the selection kept of the softmax, and the rest that follows from it. */
static void set_mass(adm_quality *quality, const adm_reference *r, double kept) {
    /* Summed in another order than the total, nearly all of it may round to a little more. */
    quality->mass = kept < r->total_weight ? kept / r->total_weight : 1;
    quality->kl = quality->mass < 1 ? -log(quality->mass) : 0; /* not -0 */
    quality->tv = 1 - quality->mass;
}

static void set_output(adm_quality *quality, const adm_reference *r, const float *out) {
    double difference = 0, norm = 0, dot = 0;
    for (uint32_t i = 0; i < r->head_dim; i++) {
        double d = out[i] - r->out[i];
        difference += d * d;
        norm += (double)out[i] * out[i];
        dot += out[i] * r->out[i];
    }
    if (r->out_norm > 0) {
        quality->output_rel_l2 = sqrt(difference) / r->out_norm;
        quality->output_cosine = norm > 0 ? dot / (sqrt(norm) * r->out_norm) : 0;
    } else {
        quality->output_rel_l2 = norm > 0 ? 1 : 0;
        quality->output_cosine = norm > 0 ? 0 : 1;
    }
}

/* The largest weight is 1, and below e^-708 exp() gives 0. While the selection keeps this much, what was dropped of it is
 * at most e^-109 of that a token: nothing. Below, it is weighed anew. */
static const double min_kept = 1e-260;

/* Weights against the selection's own largest score. Returns their sum; ln of the mass goes to *log_mass. */
static double weigh_anew(const adm_quality_impl *impl, const adm_reference *r, const uint32_t *list, size_t n, double *gathered,
                         double *log_mass) {
    for (size_t j = 0; j < n; j++) gathered[j] = r->score[list[j]];
    double largest = adm_largest(gathered, n), total = impl->weights(gathered, n, largest, gathered);
    *log_mass = largest - r->largest + log(total) - log(r->total_weight);
    return total;
}

/* Of a selection of n < n_seen tokens. */
static double recall_of(const adm_score_cut *cut, const double *score, size_t n, size_t n_seen) {
    size_t n_above = 0, n_tied = 0;
    if (cut->k >= n_seen) return (double)n / (double)n_seen; /* every token is among the k */
    for (size_t j = 0; j < n; j++) {
        n_above += score[j] > cut->score;
        n_tied += score[j] == cut->score;
    }
    return (double)(n_above + (n_tied < cut->n_tied ? n_tied : cut->n_tied)) / (double)cut->k;
}

static adm_quality round_and_judge(const adm_reference *r, double recall, double kept, const double *sum, double divisor) {
    adm_quality quality;
    float rounded[ADM_MAX_HEAD_DIM];
    quality.recall = recall;
    set_mass(&quality, r, kept);
    for (uint32_t i = 0; i < r->head_dim; i++) rounded[i] = (float)(sum[i] / divisor);
    set_output(&quality, r, rounded);
    return quality;
}

adm_quality adm_quality_of_dense(const adm_reference *r) { return round_and_judge(r, 1, r->total_weight, r->out, 1); }

/* One query's metrics of the first n < r->n tokens of the list: sum and kept are theirs, weighted values and weights. */
static adm_quality judge(const adm_nested *nested, const adm_reference *r, size_t n, const adm_score_cut *cut,
                         const double *score, const double *sum, double kept, double *scratch) {
    const adm_quality_impl *impl = nested->impl;
    double recall = recall_of(cut, score, n, r->n), anew[ADM_MAX_HEAD_DIM], log_mass;
    if (kept >= min_kept) return round_and_judge(r, recall, kept, sum, kept);
    double total = weigh_anew(impl, r, nested->list, n, scratch, &log_mass);
    memset(anew, 0, sizeof anew);
    impl->combine(nested->dtype, nested->v, nested->list, n, r->head_dim, scratch, n, 1, anew);
    adm_quality quality = round_and_judge(r, recall, kept, anew, total);
    quality.kl = -log_mass;
    return quality;
}

/* Scores and weights of the list's tokens for one query; the weights' sums, a level each, go to kept. Nothing is gathered of
 * a level that holds every token. */
static void gather(const adm_nested *nested, const adm_reference *r, double *score, double *weight, double *kept) {
    for (size_t b = 0, begin = 0; b < nested->n_levels && nested->end[b] < r->n; begin = nested->end[b++]) {
        for (size_t j = begin; j < nested->end[b]; j++) score[j] = r->score[nested->list[j]];
        kept[b] = nested->impl->weights(score + begin, nested->end[b] - begin, r->largest, weight + begin);
    }
}

/* The first rows of V that level b will read: a level that is under way asks for its own, and nobody for its first. */
static void prefetch_level(const adm_nested *nested, size_t b, uint32_t head_dim) {
    enum { ROWS = 32, LINE_BYTES = 64 };
    if (b >= nested->n_levels) return;
    const size_t row_bytes = head_dim * adm_dtype_bytes(nested->dtype), begin = b > 0 ? nested->end[b - 1] : 0;
    for (size_t j = begin; j < nested->end[b] && j < begin + ROWS; j++) {
        const char *row = (const char *)nested->v + nested->list[j] * row_bytes;
        for (size_t at = 0; at < row_bytes; at += LINE_BYTES) __builtin_prefetch(row + at, 0, 2);
    }
}

/* At most AT_ONCE queries, which share the reading of V. */
enum { AT_ONCE = 8 };

static void judge_some(const adm_nested *nested, const adm_reference *reference, uint32_t n_q, const adm_score_cut *cut,
                       double *scratch, adm_quality *quality) {
    const uint32_t d = reference->head_dim;
    const size_t n_levels = nested->n_levels, widest = nested->end[n_levels - 1];
    double *score = scratch, *weight = score + AT_ONCE * widest, *kept = weight + AT_ONCE * widest;
    double *spare = kept + AT_ONCE * n_levels, sum[AT_ONCE * ADM_MAX_HEAD_DIM] = {0}, so_far[AT_ONCE] = {0};
    prefetch_level(nested, 0, d);
    for (uint32_t g = 0; g < n_q; g++)
        gather(nested, &reference[g], score + g * widest, weight + g * widest, kept + g * n_levels);
    for (size_t b = 0, begin = 0; b < n_levels; begin = nested->end[b++]) {
        const size_t end = nested->end[b];
        prefetch_level(nested, b + 1, d);
        if (end == reference->n) {
            for (uint32_t g = 0; g < n_q; g++) quality[g * n_levels + b] = adm_quality_of_dense(&reference[g]);
            continue;
        }
        nested->impl->combine(nested->dtype, nested->v, nested->list + begin, end - begin, d, weight + begin, widest, n_q, sum);
        for (uint32_t g = 0; g < n_q; g++) {
            so_far[g] += kept[g * n_levels + b];
            quality[g * n_levels + b] = judge(nested, &reference[g], end, &cut[g * n_levels + b], score + g * widest,
                                              sum + g * d, so_far[g], spare);
        }
    }
}

void adm_quality_of(const adm_nested *nested, const adm_reference *reference, uint32_t n_q, const adm_score_cut *cut,
                    double *scratch, adm_quality *quality) {
    for (uint32_t first = 0; first < n_q; first += AT_ONCE)
        judge_some(nested, reference + first, (uint32_t)adm_min(n_q - first, AT_ONCE), cut + first * nested->n_levels, scratch,
                   quality + first * nested->n_levels);
}
