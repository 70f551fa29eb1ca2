/* shift.c: comparing two samples of processes. Numerical helpers are in quantile.c. */
#include "analysis/regress/statistics/shift.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/statistics/differences.h"
#include "analysis/regress/statistics/quantile.h"
#include "core/base/mem.h"

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

/* Counts of arrangements by U without ties, from the generating function prod (1 - x^(m+i)) / (1 - x^i); returns how many there
 * are in all. count holds m n + 1. */
static double count_arrangements(size_t m, size_t n, double *count) {
    size_t max = m * n;
    memset(count, 0, (max + 1) * sizeof *count);
    count[0] = 1;
    double total = 1;
    for (size_t i = 1; i <= n; i++) {
        for (size_t k = max; k >= m + i; k--) count[k] -= count[k - m - i];
        for (size_t k = i; k <= max; k++) count[k] += count[k - i];
        total = total * (double)(m + i) / (double)i;
    }
    return total;
}

/* P(U <= u) without ties. */
static double exact_tail(size_t m, size_t n, size_t u, double *count) {
    double total = count_arrangements(m, n, count), sum = 0;
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

/* --- The interval ------------------------------------------------------------------------------------------------- */

/* How many of the ordered differences lie outside of the interval on either side: the largest c with P(U < c) <= tail. 0: even
 * the whole range is not that sure. */
static adm_status differences_outside(size_t m, size_t n, double tail, size_t *c, adm_error *err) {
    *c = 0;
    if (m > EXACT_UP_TO || n > EXACT_UP_TO) {
        double pairs = (double)m * (double)n, deviation = sqrt(pairs * (double)(m + n + 1) / 12);
        *c = (size_t)fmax(0, floor(pairs / 2 - adm_normal_quantile(1 - tail) * deviation));
        return ADM_OK;
    }
    double *count = NULL, sum = 0;
    adm_status status = adm_alloc(&count, m * n + 1, sizeof *count, "ranks", err);
    if (status != ADM_OK) return status;
    double total = count_arrangements(m, n, count);
    while ((sum += count[*c] / total) <= tail) ++*c;
    adm_free(&count);
    return ADM_OK;
}

double adm_smallest_p(size_t n_base, size_t n_cand) {
    double log_ways = lgamma((double)(n_base + n_cand) + 1) - lgamma((double)n_base + 1) - lgamma((double)n_cand + 1);
    return fmin(1, 2 * exp(-log_ways));
}

static double median_of(const adm_process *process) {
    const double *v = process->sample;
    size_t n = process->n;
    return n % 2 == 1 ? log(v[n / 2]) : (log(v[n / 2 - 1]) + log(v[n / 2])) / 2;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

adm_status adm_shift_compare(const adm_process *base, size_t n_base, const adm_process *cand, size_t n_cand, double confidence,
                             adm_shift *out, adm_error *err) {
    *out = (adm_shift){.low = -INFINITY, .high = INFINITY, .p = 1};
    if (n_base == 0 || n_cand == 0) return adm_fail(err, ADM_EINTERNAL, "a side without processes cannot be compared");
    for (size_t i = 0; i < n_base + n_cand; i++)
        if ((i < n_base ? base[i] : cand[i - n_base]).n == 0)
            return adm_fail(err, ADM_EINTERNAL, "a process without samples cannot be compared");
    double *x = NULL, *scratch = NULL;
    size_t c = 0;
    adm_status status = adm_alloc(&x, n_base + n_cand, sizeof *x, "medians of processes", err);
    if (status == ADM_OK)
        status = adm_alloc(&scratch, adm_difference_scratch(n_base, n_cand), sizeof *scratch, "differences of processes", err);
    if (status != ADM_OK) goto done;
    double *y = x + n_base;
    for (size_t i = 0; i < n_base; i++) x[i] = median_of(&base[i]);
    for (size_t i = 0; i < n_cand; i++) y[i] = median_of(&cand[i]);
    adm_sort(x, n_base, sizeof *x, ascending);
    adm_sort(y, n_cand, sizeof *y, ascending);
    out->shift = adm_difference_median(x, n_base, y, n_cand, scratch);
    status = adm_mann_whitney(x, n_base, y, n_cand, &out->p, err);
    if (status == ADM_OK) status = differences_outside(n_base, n_cand, (1 - confidence) / 2, &c, err);
    if (status != ADM_OK || c == 0) goto done;
    out->low = adm_difference_select(x, n_base, y, n_cand, c - 1, scratch);
    out->high = adm_difference_select(x, n_base, y, n_cand, n_base * n_cand - c, scratch);
done:
    adm_free(&x);
    adm_free(&scratch);
    return status;
}
