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

enum { LINE_BYTES = 64, WEIGH_BLOCK = 256 };

/* How many of the n_block tokens from `first` on a query sees. */
static size_t seen(const adm_reference *r, size_t first, size_t n_block) {
    return r->n > first ? adm_min(r->n - first, n_block) : 0;
}

/* Scores of n_q queries, at most ADM_QUALITY_QUERIES, and the largest of each, a block of keys at a time. */
static void score_block_by_block(const adm_quality_impl *impl, adm_dtype dtype, const double *wide, uint32_t n_q, const char *k,
                                 size_t n_max, double scale, double *score, size_t stride, adm_reference *reference) {
    enum { BLOCK = 1024 }; /* scores that are in the first or second cache when their largest is looked for */
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

/* Scores that the next block will weigh: of so many queries the hardware foresees none. */
static void prefetch_scores(const double *score) {
    for (size_t at = 0; at < WEIGH_BLOCK; at += LINE_BYTES / sizeof *score) __builtin_prefetch(score + at, 0, 2);
}

/* Sums of weights and of weighted values, likewise. Weights live a block long. A token that a query does not see has the
 * weight 0, which leaves its sums as they are. */
static void weigh_block_by_block(const adm_quality_impl *impl, adm_dtype dtype, uint32_t n_q, const char *v, size_t n_max,
                                 adm_reference *reference, double *out) {
    enum { BLOCK = WEIGH_BLOCK, STRIDE = BLOCK + 8 }; /* so that queries' weights lie in different lines of the first cache */
    double weight[ADM_QUALITY_QUERIES * STRIDE];
    const uint32_t d = reference->head_dim;
    const size_t row_bytes = d * adm_dtype_bytes(dtype);
    for (size_t t = 0; t < n_max; t += BLOCK) {
        const size_t n_block = adm_min(n_max - t, BLOCK);
        for (uint32_t g = 0; g < n_q; g++) {
            adm_reference *r = &reference[g];
            const size_t n_seen = seen(r, t, n_block);
            prefetch_scores(r->score + t + BLOCK);
            if (n_seen > 0) r->total_weight += impl->weights(r->score + t, n_seen, r->largest, weight + g * STRIDE);
            memset(weight + g * STRIDE + n_seen, 0, (n_block - n_seen) * sizeof *weight);
        }
        impl->combine(dtype, v + t * row_bytes, NULL, n_block, d, weight, STRIDE, n_q, out);
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

/* --- Nested selections ---------------------------------------------------------------------------------------------- */

void adm_judging_take(adm_layout *layout, const adm_nested *nested, size_t max_widest, const adm_reference *reference,
                      uint32_t n_q, adm_judging *judging) {
    const size_t n_levels = nested->n_levels;
    *judging = (adm_judging){.nested = *nested, .reference = reference, .n_q = n_q};
    judging->weight = adm_layout_take(layout, n_q * max_widest, sizeof *judging->weight);
    judging->recall = adm_layout_take(layout, n_q * n_levels, sizeof *judging->recall);
    judging->kept = adm_layout_take(layout, n_q * n_levels, sizeof *judging->kept);
    judging->sum = adm_layout_take(layout, n_levels * n_q * reference->head_dim, sizeof *judging->sum);
    judging->summed = adm_layout_take(layout, n_levels, sizeof *judging->summed);
}

/* Where a level begins in the list. */
static size_t begin_of(const adm_nested *nested, size_t b) { return b > 0 ? nested->end[b - 1] : 0; }

void adm_judging_weigh(adm_judging *j, const adm_score_cut *cut, double *score) {
    const adm_nested *nested = &j->nested;
    const size_t n_levels = nested->n_levels;
    j->n_summed = j->widest = 0;
    while (j->n_summed < n_levels && nested->end[j->n_summed] < j->reference->n) j->widest = nested->end[j->n_summed++];
    for (uint32_t g = 0; g < j->n_q; g++) {
        const adm_reference *r = &j->reference[g];
        for (size_t i = 0; i < j->widest; i++) score[i] = r->score[nested->list[i]];
        for (size_t b = 0; b < j->n_summed; b++) {
            const size_t begin = begin_of(nested, b), end = nested->end[b];
            j->recall[g * n_levels + b] = recall_of(&cut[g * n_levels + b], score, end, r->n);
            j->kept[g * n_levels + b] = nested->impl->weights(score + begin, end - begin, r->largest,
                                                              j->weight + g * j->widest + begin);
        }
    }
}

/* Bytes of V in a block: they stay in a core's second cache (1 or 2 MiB) while every selection adds its rows of them. Measured
 * with 32 queries, two policies and budgets up to 8192 of 128K tokens on an EPYC 9004: see kernels/LOG.md. */
enum { SUM_BYTES = 512 << 10 };

/* Lines of the next block, asked for a few after each few rows: asked for at once, a core would wait for them. */
typedef struct asking {
    const char *line;
    size_t n_lines;   /* that are left */
    size_t per_rows;  /* lines after ADDED_ROWS rows */
} asking;

enum { ADDED_ROWS = 32 };

static void ask(asking *next, size_t n) {
    const size_t n_now = adm_min(n, next->n_lines);
    for (size_t i = 0; i < n_now; i++) __builtin_prefetch(next->line + i * LINE_BYTES, 0, 2);
    next->line += n_now * LINE_BYTES;
    next->n_lines -= n_now;
}

/* Adds the tokens before `end` that are not in yet. */
static void sum_up_to(adm_judging *j, size_t end, asking *next) {
    const adm_nested *nested = &j->nested;
    const uint32_t d = j->reference->head_dim;
    for (size_t b = 0; b < j->n_summed; b++) {
        size_t first = j->summed[b], last = first;
        while (last < nested->end[b] && nested->list[last] < end) last++;
        j->summed[b] = last;
        for (size_t n; first < last; first += n) {
            n = adm_min(last - first, next->n_lines > 0 ? ADDED_ROWS : last - first);
            ask(next, next->per_rows * n / ADDED_ROWS);
            nested->impl->combine(nested->dtype, nested->v, nested->list + first, n, d, j->weight + first, j->widest, j->n_q,
                                  j->sum + b * j->n_q * d);
        }
    }
}

void adm_judging_sum(adm_judging *judging, size_t n) {
    const adm_nested *nested = &judging->nested;
    size_t n_tokens = 0, n_rows = 0;
    if (n == 0) return;
    const size_t row_bytes = judging->reference->head_dim * adm_dtype_bytes(nested->dtype), block = SUM_BYTES / row_bytes;
    for (size_t i = 0; i < n; i++) {
        adm_judging *j = &judging[i];
        memset(j->sum, 0, j->n_summed * j->n_q * j->reference->head_dim * sizeof *j->sum);
        for (size_t b = 0; b < j->n_summed; b++) j->summed[b] = begin_of(&j->nested, b);
        n_tokens = j->widest > 0 && j->reference->n > n_tokens ? j->reference->n : n_tokens;
        n_rows += j->widest;
    }
    const bool most_rows = n_rows >= n_tokens; /* of a block: then all of the next is asked for, else each row by itself */
    for (size_t first = 0; first < n_tokens; first += block) {
        const size_t at = first + block, n_next = at < n_tokens && most_rows ? adm_min(n_tokens - at, block) : 0;
        asking next = {.line = (const char *)nested->v + at * row_bytes, .n_lines = n_next * row_bytes / LINE_BYTES};
        next.per_rows = next.n_lines * ADDED_ROWS / (n_rows * block / n_tokens + 1) + 1;
        for (size_t i = 0; i < n; i++) sum_up_to(&judging[i], at, &next);
        ask(&next, next.n_lines);
    }
}

/* Sum and weights of the first n tokens of the list by the selection's own largest score: see min_kept. */
static adm_quality judge_anew(const adm_nested *nested, const adm_reference *r, double recall, double kept, size_t n,
                              double *score) {
    double sum[ADM_MAX_HEAD_DIM] = {0}, log_mass;
    const double total = weigh_anew(nested->impl, r, nested->list, n, score, &log_mass);
    nested->impl->combine(nested->dtype, nested->v, nested->list, n, r->head_dim, score, n, 1, sum);
    adm_quality quality = round_and_judge(r, recall, kept, sum, total);
    quality.kl = -log_mass;
    return quality;
}

void adm_judging_finish(adm_judging *j, double *score, adm_quality *quality) {
    const adm_nested *nested = &j->nested;
    const size_t n_levels = nested->n_levels;
    for (uint32_t g = 0; g < j->n_q; g++) {
        const adm_reference *r = &j->reference[g];
        const uint32_t d = r->head_dim;
        double sum[ADM_MAX_HEAD_DIM] = {0}, kept = 0;
        for (size_t b = 0; b < n_levels; b++) {
            adm_quality *to = &quality[g * n_levels + b];
            if (b >= j->n_summed) {
                *to = adm_quality_of_dense(r);
                continue;
            }
            const double *own = j->sum + (b * j->n_q + g) * d, recall = j->recall[g * n_levels + b];
            for (uint32_t i = 0; i < d; i++) sum[i] += own[i];
            kept += j->kept[g * n_levels + b];
            if (kept >= min_kept) *to = round_and_judge(r, recall, kept, sum, kept);
            else *to = judge_anew(nested, r, recall, kept, nested->end[b], score);
        }
    }
}
