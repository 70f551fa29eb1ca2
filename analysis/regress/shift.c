/* shift.c: comparing two samples of processes. Numerical helpers are in quantile.c. */
#include "analysis/regress/shift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/quantile.h"
#include "core/base/mem.h"
#include "core/stats/rng.h"

double adm_hodges_lehmann(const double *x, size_t n_x, const double *y, size_t n_y, double *scratch) {
    double *d = scratch;
    for (size_t j = 0; j < n_y; j++)
        for (size_t i = 0; i < n_x; i++) *d++ = y[j] - x[i];
    return adm_median(scratch, n_x * n_y);
}

/* --- Mann-Whitney ------------------------------------------------------------------------------------------------- */

enum { EXACT_UP_TO = 50 };

typedef struct ranked {
    double value;
    int side;
} ranked;

static int by_value(const void *a, const void *b) {
    double x = ((const ranked *)a)->value, y = ((const ranked *)b)->value;
    return (x > y) - (x < y);
}

/* P(U <= u) without ties: counts of arrangements, from the generating function prod (1 - x^(m+i)) / (1 - x^i). */
static double exact_tail(size_t m, size_t n, size_t u, double *count) {
    size_t max = m * n;
    memset(count, 0, (max + 1) * sizeof *count);
    count[0] = 1;
    double total = 1;
    for (size_t i = 1; i <= n; i++) {
        for (size_t k = max; k >= m + i; k--) count[k] -= count[k - m - i];
        for (size_t k = i; k <= max; k++) count[k] += count[k - i];
        total = total * (double)(m + i) / (double)i;
    }
    double sum = 0;
    for (size_t k = 0; k <= u; k++) sum += count[k];
    return sum / total;
}

adm_status adm_mann_whitney(const double *x, size_t n_x, const double *y, size_t n_y, double *p, adm_error *err) {
    ranked *all = NULL;
    double *count = NULL;
    size_t n = n_x + n_y;
    *p = 1;
    if (n_x == 0 || n_y == 0) return ADM_OK;
    adm_status status = adm_alloc(&all, n, sizeof *all, "ranks", err);
    if (status == ADM_OK && n_x <= EXACT_UP_TO && n_y <= EXACT_UP_TO)
        status = adm_alloc(&count, n_x * n_y + 1, sizeof *count, "ranks", err);
    if (status != ADM_OK) goto done;
    for (size_t i = 0; i < n; i++) all[i] = i < n_x ? (ranked){x[i], 0} : (ranked){y[i - n_x], 1};
    adm_sort(all, n, sizeof *all, by_value);
    double rank_sum = 0, ties = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i + 1;
        while (end < n && all[end].value == all[i].value) end++;
        double t = (double)(end - i), rank = ((double)(i + 1) + (double)end) / 2;
        ties += t * t * t - t;
        for (; i < end; i++) rank_sum += all[i].side ? rank : 0;
    }
    double pairs = (double)n_x * (double)n_y, u = rank_sum - (double)n_y * (double)(n_y + 1) / 2;
    if (u > pairs / 2) u = pairs - u;
    if (ties == 0 && count != NULL) {
        *p = fmin(1, 2 * exact_tail(n_x, n_y, (size_t)(u + 0.25), count));
    } else {
        double N = (double)n, variance = pairs / 12 * (N + 1 - ties / (N * (N - 1)));
        if (variance > 0) *p = fmin(1, erfc(fmax(0, pairs / 2 - u - 0.5) / sqrt(2 * variance)));
    }
done:
    adm_free(&all);
    adm_free(&count);
    return status;
}

/* --- Families of tests -------------------------------------------------------------------------------------------- */

typedef struct indexed {
    double p;
    size_t at;
} indexed;

static int by_p(const void *a, const void *b) {
    double x = ((const indexed *)a)->p, y = ((const indexed *)b)->p;
    return (x > y) - (x < y);
}

adm_status adm_benjamini_hochberg(double *p, size_t n, adm_error *err) {
    indexed *order = NULL;
    adm_status status = adm_alloc(&order, n, sizeof *order, "p values", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < n; i++) order[i] = (indexed){p[i], i};
    adm_sort(order, n, sizeof *order, by_p);
    double smallest = 1;
    for (size_t i = n; i-- > 0;) {
        double adjusted = order[i].p * (double)n / (double)(i + 1);
        if (adjusted < smallest) smallest = adjusted;
        p[order[i].at] = smallest;
    }
    adm_free(&order);
    return ADM_OK;
}

/* --- Bootstrap ---------------------------------------------------------------------------------------------------- */

/* The median of n draws with replacement from n samples, without drawing them: the middle of n uniform numbers is
 * Beta((n+1)/2, (n+1)/2), here by Ulrich's method for symmetric beta variates (ACM TOMS 10(2), 1984). Exact for odd n; for
 * even n this is the continuous version between the two middle ones. log_sample: ascending. */
static double resampled_median(adm_rng *rng, const double *log_sample, size_t n) {
    double x, y, square;
    do {
        x = 2 * adm_rng_unit(rng) - 1;
        y = 2 * adm_rng_unit(rng) - 1;
        square = x * x + y * y;
    } while (square > 1 || square == 0);
    double u = 0.5 + 0.5 * sqrt(1 - pow(square, 2 / (double)n)) * x / sqrt(square);
    size_t at = (size_t)(u * (double)n);
    return log_sample[at < n ? at : n - 1];
}

static void resample(adm_rng *rng, const adm_process *side, size_t n, double *out) {
    for (size_t i = 0; i < n; i++) {
        const adm_process *process = &side[adm_rng_below(rng, n)];
        out[i] = resampled_median(rng, process->sample, process->n);
    }
}

static double median_of(const adm_process *process) {
    const double *v = process->sample;
    size_t n = process->n;
    return n % 2 == 1 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Both sides with the logarithms of their samples, in one block of memory: *all holds the processes, *value the samples. */
static adm_status take_logs(const adm_process *base, size_t n_base, const adm_process *cand, size_t n_cand, adm_process **all,
                            double **value, adm_error *err) {
    size_t n = n_base + n_cand, n_values = 0;
    for (size_t i = 0; i < n; i++) n_values += (i < n_base ? &base[i] : &cand[i - n_base])->n;
    adm_status status = adm_alloc(all, n, sizeof **all, "processes", err);
    if (status == ADM_OK) status = adm_alloc(value, n_values, sizeof **value, "logarithms of samples", err);
    if (status != ADM_OK) return status;
    double *at = *value;
    for (size_t i = 0; i < n; i++) {
        const adm_process *from = i < n_base ? &base[i] : &cand[i - n_base];
        (*all)[i] = (adm_process){at, from->n};
        for (size_t k = 0; k < from->n; k++) *at++ = log(from->sample[k]);
    }
    return ADM_OK;
}

static void interval(double *replicate, size_t n, double confidence, size_t n_base, size_t n_cand, adm_shift *s) {
    double tail = (1 - confidence) / 2;
    size_t k = (size_t)floor(tail * (double)(n + 1));
    k = k > 0 ? k - 1 : 0;
    double low = adm_select(replicate, n, k), high = adm_select(replicate, n, n - 1 - k);
    double n_min = (double)(n_base < n_cand ? n_base : n_cand);
    double wider = sqrt(n_min / (n_min - 1)) * adm_student_quantile(1 - tail, (double)(n_base + n_cand - 2)) /
                   adm_normal_quantile(1 - tail);
    s->low = s->shift - wider * fmax(0, s->shift - low);
    s->high = s->shift + wider * fmax(0, high - s->shift);
}

adm_status adm_shift_compare(const adm_process *base, size_t n_base, const adm_process *cand, size_t n_cand,
                             const adm_shift_options *o, adm_shift *out, adm_error *err) {
    *out = (adm_shift){.low = -INFINITY, .high = INFINITY, .p = 1};
    if (n_base == 0 || n_cand == 0) return adm_fail(err, ADM_EINTERNAL, "a side without processes cannot be compared");
    for (size_t i = 0; i < n_base + n_cand; i++)
        if ((i < n_base ? base[i] : cand[i - n_base]).n == 0)
            return adm_fail(err, ADM_EINTERNAL, "a process without samples cannot be compared");
    double *x = NULL, *scratch = NULL, *replicate = NULL, *value = NULL;
    adm_process *log_side = NULL;
    adm_status status = take_logs(base, n_base, cand, n_cand, &log_side, &value, err);
    if (status == ADM_OK) status = adm_alloc(&x, n_base + n_cand, sizeof *x, "medians of processes", err);
    if (status == ADM_OK) status = adm_alloc(&scratch, n_base * n_cand, sizeof *scratch, "differences of processes", err);
    if (status == ADM_OK) status = adm_alloc(&replicate, o->n_resamples, sizeof *replicate, "resamples", err);
    if (status != ADM_OK) goto done;
    double *y = x + n_base;
    for (size_t i = 0; i < n_base + n_cand; i++) x[i] = median_of(&log_side[i]);
    out->shift = adm_hodges_lehmann(x, n_base, y, n_cand, scratch);
    status = adm_mann_whitney(x, n_base, y, n_cand, &out->p, err);
    if (status != ADM_OK || n_base < 2 || n_cand < 2 || o->n_resamples == 0) goto done;
    adm_rng rng;
    adm_rng_seed(&rng, o->seed);
    for (uint32_t r = 0; r < o->n_resamples; r++) {
        resample(&rng, log_side, n_base, x);
        resample(&rng, log_side + n_base, n_cand, y);
        replicate[r] = adm_hodges_lehmann(x, n_base, y, n_cand, scratch);
    }
    interval(replicate, o->n_resamples, o->confidence, n_base, n_cand, out);
done:
    adm_free(&value);
    adm_free(&log_side);
    adm_free(&x);
    adm_free(&scratch);
    adm_free(&replicate);
    return status;
}
