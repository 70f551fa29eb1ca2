/* change_points.c: E-divisive means with a permutation test. */
#include "analysis/regress/statistics/change_points.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/statistics/quantile.h"
#include "analysis/regress/statistics/shift.h"
#include "core/base/mem.h"
#include "core/stats/rng.h"

/* What a search carries along; every array holds n values. */
typedef struct search {
    const adm_change_options *o;
    double *y;                      /* the values on their scale */
    double *clipped, *noise, *made, *scratch;
    adm_change_point *found;
    size_t n_found;
    double rho;                     /* lag-1 correlation of the whole series: parts of it are too short to tell */
    adm_rng rng;
} search;

/* The energy statistic of the best split of v [n]: k (n - k) / n times the squared difference of the means. */
static double best_split(const double *v, const size_t *group, size_t n, size_t min_points, size_t *at) {
    double total = 0, left = 0, best = 0;
    for (size_t i = 0; i < n; i++) total += v[i];
    double mean = total / (double)n;
    *at = 0;
    for (size_t k = 1; k + min_points <= n; k++) {
        left += v[k - 1] - mean;
        if (k < min_points || (group != NULL && group[k - 1] == group[k])) continue;
        /* With the mean taken out, left / k is one mean and -left / (n - k) the other. */
        double q = left * left * (double)n / ((double)k * (double)(n - k));
        if (q > best) {
            best = q;
            *at = k;
        }
    }
    return best;
}

/* Clips v [n] into out at 4 robust standard deviations from its median. */
static void clip(const double *v, size_t n, double *out, double *scratch) {
    adm_copy(scratch, v, n * sizeof *v);
    double median = adm_median(scratch, n);
    for (size_t i = 0; i < n; i++) scratch[i] = fabs(v[i] - median);
    double limit = 4 * 1.4826 * adm_median(scratch, n);
    for (size_t i = 0; i < n; i++) out[i] = limit > 0 ? fmin(fmax(v[i], median - limit), median + limit) : v[i];
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Mean square of v[i + lag] - v[i], without the largest twentieth, which is where the level changed. */
static double mean_square_step(const double *v, size_t n, size_t lag, double *scratch) {
    size_t n_steps = n - lag, n_kept = n_steps - n_steps / 20 - (n_steps > 8 ? 2 : 0);
    for (size_t i = 0; i < n_steps; i++) scratch[i] = (v[i + lag] - v[i]) * (v[i + lag] - v[i]);
    adm_sort(scratch, n_steps, sizeof *scratch, ascending);
    double sum = 0;
    for (size_t i = 0; i < n_kept; i++) sum += scratch[i];
    return sum / (double)n_kept;
}

/* Lag-1 correlation, one standard error up, within 0 and 0.65 (0.5 for a short series). From steps over one and two runs, whose
 * mean squares are as 1 - rho to 1 - rho^2: unlike the product of neighbours, they hardly see a change of level. */
static double correlation(const double *v, size_t n, double *scratch) {
    if (n < 8) return 0;
    double one = mean_square_step(v, n, 1, scratch), two = mean_square_step(v, n, 2, scratch);
    if (one <= 0) return 0;
    return fmin(n < 50 ? 0.5 : 0.65, fmax(0, two / one - 1 + 1.25 / sqrt((double)n)));
}

/* Whether a statistic is beyond what the same noise without a change gives; stops as soon as it cannot be. */
static double permutation_p(search *s, const double *v, const size_t *group, size_t n, double statistic) {
    double rho = s->rho, mean = 0;
    size_t at, n_beyond = 0, n_allowed = (size_t)(s->o->level * (s->o->n_permutations + 1.0) + 1e-9);
    for (size_t i = 0; i < n; i++) mean += v[i] / (double)n;
    double spread = sqrt(1 - rho * rho);
    /* The first value has no predecessor; scaled to the spread of an innovation, it may be anywhere. */
    for (size_t i = 0; i < n; i++) s->noise[i] = i > 0 ? (v[i] - mean) - rho * (v[i - 1] - mean) : (v[0] - mean) * spread;
    for (uint32_t r = 0; r < s->o->n_permutations; r++) {
        for (size_t i = n; i > 1; i--) {
            size_t j = adm_rng_below(&s->rng, i);
            double other = s->noise[i - 1];
            s->noise[i - 1] = s->noise[j];
            s->noise[j] = other;
        }
        s->made[0] = s->noise[0] / spread;
        for (size_t i = 1; i < n; i++) s->made[i] = rho * s->made[i - 1] + s->noise[i];
        n_beyond += best_split(s->made, group, n, s->o->min_points, &at) >= statistic;
        if (n_beyond >= n_allowed) return 1;
    }
    return (double)(n_beyond + 1) / (s->o->n_permutations + 1.0);
}

static double median_of(search *s, size_t from, size_t to) {
    adm_copy(s->scratch, s->y + from, (to - from) * sizeof *s->y);
    return adm_median(s->scratch, to - from);
}

/* Whether each level has enough values of its own: two bad runs and a good one do not make three. */
static bool levels_are_real(search *s, size_t from, size_t at, size_t to) {
    double before = median_of(s, from, at), after = median_of(s, at, to), middle = (before + after) / 2;
    size_t n_before = 0, n_after = 0;
    for (size_t i = from; i < at; i++) n_before += (s->y[i] < middle) == (before < middle);
    for (size_t i = at; i < to; i++) n_after += (s->y[i] < middle) == (after < middle);
    return n_before >= s->o->min_points && n_after >= s->o->min_points;
}

/* The medians of the groups of [from, to), one each, into out. */
static size_t group_medians(search *s, size_t from, size_t to, double *out) {
    size_t n = 0;
    for (size_t i = from, end; i < to; i = end) {
        for (end = i + 1; end < to && s->o->group[end] == s->o->group[i];) end++;
        out[n++] = median_of(s, i, end);
    }
    return n;
}

/* Replicates of one commit share what their hour did to the machine, so ten of them are no ten witnesses: the two levels must
 * also differ by more than the medians of commits scatter. With fewer than two steps between commits of one level, nothing is
 * known about that. */
static bool groups_differ(search *s, size_t from, size_t at, size_t to) {
    if (s->o->group == NULL) return true;
    size_t n_before = group_medians(s, from, at, s->noise), n_after = group_medians(s, at, to, s->noise + n_before),
           n_steps = 0;
    if (n_before + n_after == to - from || n_before + n_after < 4) return true;
    for (size_t i = 1; i < n_before + n_after; i++)
        if (i != n_before) s->made[n_steps++] = fabs(s->noise[i] - s->noise[i - 1]);
    double deviation = 1.4826 * adm_median(s->made, n_steps) / sqrt(2);
    double width = deviation * sqrt(1 / (double)n_before + 1 / (double)n_after);
    double before = adm_median(s->noise, n_before), after = adm_median(s->noise + n_before, n_after);
    return fabs(after - before) > adm_student_quantile(0.999, (double)n_steps) * width;
}

/* Bisects [from, to), left part first, so that change points come in order. */
static void bisect(search *s, size_t from, size_t to) {
    const size_t *group = s->o->group != NULL ? s->o->group + from : NULL;
    size_t n = to - from, at;
    if (n < 2 * s->o->min_points) return;
    clip(s->y + from, n, s->clipped, s->scratch);
    double statistic = best_split(s->clipped, group, n, s->o->min_points, &at);
    /* Rounding leaves a little of a constant series. */
    double scale = 0;
    for (size_t i = 0; i < n; i++) scale = fmax(scale, fabs(s->clipped[i]));
    if (at == 0 || statistic <= 1e-18 * scale * scale) return;
    double p = permutation_p(s, s->clipped, group, n, statistic);
    if (p > s->o->level || !levels_are_real(s, from, from + at, to) || !groups_differ(s, from, from + at, to)) return;
    bisect(s, from, from + at);
    s->found[s->n_found++] = (adm_change_point){.at = from + at, .p = p};
    bisect(s, from + at, to);
}

/* Removes the smallest change until all are large enough. */
static void drop_small(search *s, size_t n, double min) {
    for (;;) {
        size_t smallest = 0;
        double size = INFINITY;
        for (size_t i = 0; i < s->n_found; i++) {
            size_t from = i > 0 ? s->found[i - 1].at : 0, to = i + 1 < s->n_found ? s->found[i + 1].at : n;
            double change = fabs(median_of(s, s->found[i].at, to) - median_of(s, from, s->found[i].at));
            if (change >= size) continue;
            size = change;
            smallest = i;
        }
        if (size >= min) return;
        s->n_found--;
        memmove(&s->found[smallest], &s->found[smallest + 1], (s->n_found - smallest) * sizeof *s->found);
    }
}

/* --- Drifts ------------------------------------------------------------------------------------------------------- */

/* The sum of distances from their median of y[from, to). */
static double error_of_level(search *s, size_t from, size_t to) {
    double level = median_of(s, from, to), sum = 0;
    for (size_t i = from; i < to; i++) sum += fabs(s->y[i] - level);
    return sum;
}

/* The same from a line: the median slope over half the length, and the median of what that leaves. *first and *last: its ends.
 * */
static double error_of_line(search *s, size_t from, size_t to, double *first, double *last) {
    size_t n = to - from, half = n / 2;
    for (size_t i = 0; i + half < n; i++) s->scratch[i] = (s->y[from + i + half] - s->y[from + i]) / (double)half;
    double slope = adm_median(s->scratch, n - half), sum = 0;
    for (size_t i = 0; i < n; i++) s->scratch[i] = s->y[from + i] - slope * (double)i;
    *first = adm_median(s->scratch, n);
    *last = *first + slope * (double)(n - 1);
    for (size_t i = 0; i < n; i++) sum += fabs(s->y[from + i] - *first - slope * (double)i);
    return sum;
}

static bool goes_up(search *s, size_t i) {
    return median_of(s, s->found[i].at, s->found[i].to) > median_of(s, s->found[i].from, s->found[i].at);
}

/* Replaces steps that follow one another in one direction by a drift where a line fits better than they do. */
static void join_drifts(search *s) {
    size_t kept = 0;
    for (size_t i = 0, end; i < s->n_found; i = end) {
        double first, last, steps = error_of_level(s, s->found[i].from, s->found[i].at);
        for (end = i + 1; end < s->n_found && goes_up(s, end) == goes_up(s, i);) end++;
        for (size_t k = i; k < end; k++) steps += error_of_level(s, s->found[k].at, s->found[k].to);
        const size_t from = s->found[i].from, to = s->found[end - 1].to;
        if (error_of_line(s, from, to, &first, &last) < steps) {
            s->found[kept] = s->found[i];
            s->found[kept].to = to;
            s->found[kept].is_drift = true;
            s->found[kept].before = first;
            s->found[kept++].after = last;
            continue;
        }
        for (size_t k = i; k < end; k++) s->found[kept++] = s->found[k];
    }
    s->n_found = kept;
}

/* Puts the values on the scale on which they are compared: logarithms, or units of *scale. Returns the smallest change. */
static double put_on_scale(search *s, const double *value, size_t n, bool *is_log, double *scale) {
    *scale = 1;
    *is_log = true;
    for (size_t i = 0; i < n; i++) *is_log &= value[i] > 0;
    if (*is_log) {
        for (size_t i = 0; i < n; i++) s->y[i] = log(value[i]);
        return log1p(s->o->min_ratio);
    }
    for (size_t i = 0; i < n; i++) s->scratch[i] = fabs(value[i]);
    double unit = adm_median(s->scratch, n);
    for (size_t i = 0; i < n; i++) s->y[i] = unit > 0 ? value[i] / unit : value[i];
    if (unit > 0) *scale = unit;
    return s->o->min_ratio;
}

adm_status adm_change_points(const double *value, size_t n, const adm_change_options *options, adm_change_point **out,
                             size_t *n_out, adm_error *err) {
    search s = {.o = options};
    bool is_log;
    *out = NULL;
    *n_out = 0;
    if (n < 2 * options->min_points) return ADM_OK;
    adm_status status = adm_alloc(&s.y, 5 * n, sizeof *s.y, "a series of runs", err);
    if (status == ADM_OK) status = adm_alloc(&s.found, n / options->min_points + 1, sizeof *s.found, "change points", err);
    if (status != ADM_OK) goto done;
    s.clipped = s.y + n;
    s.noise = s.y + 2 * n;
    s.made = s.y + 3 * n;
    s.scratch = s.y + 4 * n;
    adm_rng_seed(&s.rng, options->seed);
    double unit, min = put_on_scale(&s, value, n, &is_log, &unit);
    s.rho = correlation(s.y, n, s.scratch);
    bisect(&s, 0, n);
    drop_small(&s, n, min);
    for (size_t i = 0; i < s.n_found; i++) {
        s.found[i].from = i > 0 ? s.found[i - 1].at : 0;
        s.found[i].to = i + 1 < s.n_found ? s.found[i + 1].at : n;
    }
    join_drifts(&s);
    for (size_t i = 0; i < s.n_found; i++) {
        adm_change_point *c = &s.found[i];
        if (c->is_drift) {
            c->before = is_log ? exp(c->before) : c->before * unit;
            c->after = is_log ? exp(c->after) : c->after * unit;
            continue;
        }
        adm_copy(s.scratch, value + c->from, (c->at - c->from) * sizeof *value);
        c->before = adm_median(s.scratch, c->at - c->from);
        adm_copy(s.scratch, value + c->at, (c->to - c->at) * sizeof *value);
        c->after = adm_median(s.scratch, c->to - c->at);
    }
    *n_out = s.n_found;
    if (s.n_found > 0) {
        *out = s.found;
        s.found = NULL;
    }
done:
    adm_free(&s.y);
    adm_free(&s.found);
    return status;
}
