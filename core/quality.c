/* quality.c: how good a selection of tokens is, against dense attention in double precision. */
#include "core/quality.h"

#include <math.h>
#include <string.h>

/* --- The plain loops ------------------------------------------------------------------------------------------------ */

static void load_row(adm_dtype dtype, const void *base, size_t row, uint32_t head_dim, float *out) {
    adm_to_f32(dtype, (const char *)base + row * head_dim * adm_dtype_bytes(dtype), head_dim, out);
}

static void scores(adm_dtype dtype, const double *q, uint32_t n_q, const void *k, size_t n, uint32_t head_dim,
                   double scale, double *score, size_t stride) {
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

static void combine(adm_dtype dtype, const void *v, const uint32_t *index, size_t n, uint32_t head_dim,
                    const double *weight, size_t stride, uint32_t n_q, double *out) {
    float row[ADM_MAX_HEAD_DIM];
    memset(out, 0, n_q * head_dim * sizeof *out);
    for (size_t j = 0; j < n; j++) {
        load_row(dtype, v, index != NULL ? index[j] : j, head_dim, row);
        for (uint32_t g = 0; g < n_q; g++)
            for (uint32_t i = 0; i < head_dim; i++) out[g * head_dim + i] += weight[g * stride + j] * (double)row[i];
    }
}

static size_t within(adm_dtype dtype, const void *v, const uint32_t *order, size_t n, uint32_t head_dim,
                     const double *weight, const double *o, double limit) {
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

const adm_quality_impl adm_quality_reference = {.name = "reference", .scores = scores, .weights = weights,
                                                .combine = combine, .within = within};

/* --- One query ------------------------------------------------------------------------------------------------------ */

void adm_reference_compute(const adm_quality_impl *impl, adm_dtype dtype, const void *q, uint32_t n_q, const void *k,
                           const void *v, size_t n, uint32_t head_dim, double scale, double *score, double *weight,
                           size_t stride, adm_reference *reference) {
    enum { AT_ONCE = 8 };
    double wide[AT_ONCE * ADM_MAX_HEAD_DIM], out[AT_ONCE * ADM_MAX_HEAD_DIM];
    for (uint32_t first = 0; first < n_q; first += AT_ONCE) {
        uint32_t n_now = n_q - first < AT_ONCE ? n_q - first : AT_ONCE;
        for (uint32_t g = 0; g < n_now; g++) {
            float row[ADM_MAX_HEAD_DIM];
            load_row(dtype, q, first + g, head_dim, row);
            for (uint32_t i = 0; i < head_dim; i++) wide[g * head_dim + i] = (double)row[i];
        }
        double *some_scores = score + first * stride, *some_weights = weight + first * stride;
        impl->scores(dtype, wide, n_now, k, n, head_dim, scale, some_scores, stride);
        for (uint32_t g = 0; g < n_now; g++) {
            adm_reference *r = &reference[first + g];
            *r = (adm_reference){.n = n, .head_dim = head_dim, .score = some_scores + g * stride,
                                 .weight = some_weights + g * stride};
            r->largest = adm_largest(r->score, n);
            r->total_weight = impl->weights(r->score, n, r->largest, r->weight);
        }
        impl->combine(dtype, v, NULL, n, head_dim, some_weights, stride, n_now, out);
        for (uint32_t g = 0; g < n_now; g++) {
            adm_reference *r = &reference[first + g];
            double squares = 0;
            for (uint32_t i = 0; i < head_dim; i++) {
                r->out[i] = out[g * head_dim + i] / r->total_weight;
                squares += r->out[i] * r->out[i];
            }
            r->out_norm = sqrt(squares);
        }
    }
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
static const double least_kept = 1e-260;

/* Weights against the selection's own largest score. Returns their sum; ln of the mass goes to *log_mass. */
static double weigh_anew(const adm_quality_impl *impl, const adm_reference *r, const uint32_t *list, size_t n,
                         double *gathered, double *log_mass) {
    for (size_t j = 0; j < n; j++) gathered[j] = r->score[list[j]];
    double largest = adm_largest(gathered, n), total = impl->weights(gathered, n, largest, gathered);
    *log_mass = largest - r->largest + log(total) - log(r->total_weight);
    return total;
}

static double recall_of(const adm_cut *cut, const double *score, size_t n) {
    size_t n_above = 0, n_tied = 0;
    for (size_t j = 0; j < n; j++) {
        n_above += score[j] > cut->score;
        n_tied += score[j] == cut->score;
    }
    return (double)(n_above + (n_tied < cut->n_tied ? n_tied : cut->n_tied)) / (double)n;
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
static adm_quality judge(const adm_nested *nested, const adm_reference *r, size_t n, const adm_cut *cut,
                         const double *score, const double *sum, double kept, double *scratch) {
    const adm_quality_impl *impl = nested->impl;
    double recall = recall_of(cut, score, n), anew[ADM_MAX_HEAD_DIM], log_mass;
    if (kept >= least_kept) return round_and_judge(r, recall, kept, sum, kept);
    double total = weigh_anew(impl, r, nested->list, n, scratch, &log_mass);
    impl->combine(nested->dtype, nested->v, nested->list, n, r->head_dim, scratch, n, 1, anew);
    adm_quality quality = round_and_judge(r, recall, kept, anew, total);
    quality.kl = -log_mass;
    return quality;
}

void adm_quality_of(const adm_nested *nested, const adm_reference *reference, uint32_t n_q, const adm_cut *cut,
                    double *scratch, adm_quality *quality) {
    enum { AT_ONCE = 8 };
    const uint32_t d = reference->head_dim;
    const size_t n_levels = nested->n_levels, widest = nested->end[n_levels - 1];
    double *weight = scratch, *score = weight + AT_ONCE * widest, *spare = score + widest;
    double sum[AT_ONCE * ADM_MAX_HEAD_DIM], level[AT_ONCE * ADM_MAX_HEAD_DIM];
    for (uint32_t first = 0; first < n_q; first += AT_ONCE) {
        const uint32_t n_now = n_q - first < AT_ONCE ? n_q - first : AT_ONCE;
        const adm_reference *some = reference + first;
        double kept[AT_ONCE] = {0};
        for (uint32_t g = 0; g < n_now; g++)
            for (size_t j = 0; j < widest; j++) weight[g * widest + j] = some[g].weight[nested->list[j]];
        memset(sum, 0, n_now * d * sizeof *sum);
        for (size_t b = 0, begin = 0; b < n_levels; begin = nested->end[b++]) {
            const size_t end = nested->end[b];
            if (end == reference->n) {
                for (uint32_t g = 0; g < n_now; g++) quality[(first + g) * n_levels + b] = adm_quality_of_dense(&some[g]);
                continue;
            }
            nested->impl->combine(nested->dtype, nested->v, nested->list + begin, end - begin, d, weight + begin,
                                  widest, n_now, level);
            for (uint32_t i = 0; i < n_now * d; i++) sum[i] += level[i];
            for (uint32_t g = 0; g < n_now; g++) {
                for (size_t j = begin; j < end; j++) kept[g] += weight[g * widest + j];
                for (size_t j = 0; j < end; j++) score[j] = some[g].score[nested->list[j]];
                quality[(first + g) * n_levels + b] = judge(nested, &some[g], end,
                                                            &cut[(first + g) * n_levels + b], score, sum + g * d, kept[g],
                                                            spare);
            }
        }
    }
}
