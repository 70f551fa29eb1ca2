/* compare.c: pairs the series of two sides, judges each, and puts the rows in order. */
#include "analysis/regress/compare/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/compare/align.h"
#include "analysis/regress/compare/explain.h"
#include "analysis/regress/compare/margin.h"
#include "analysis/regress/compare/refuse.h"
#include "analysis/regress/compare/side.h"
#include "analysis/regress/statistics/quantile.h"
#include "analysis/regress/renamed.h"
#include "core/base/mem.h"
#include "core/base/suggest.h"
#include "core/contract/probe.h"

/* --- Pairing ------------------------------------------------------------------------------------------------------ */

static bool judged(const adm_series *s) {
    double tolerance;
    return adm_figure_of(s->metric->name, s->metric->unit, s->metric->better, s->stage, &tolerance) != ADM_FIGURE_CONTEXT;
}

/* Series that are alike but for the name of the implementation, where each side has exactly one such. */
static void pair_renamed(adm_compare_row *row, size_t *n) {
    for (size_t i = 0; i < *n; i++) {
        if (row[i].base == NULL || row[i].cand != NULL) continue;
        size_t n_base = 0, n_cand = 0, at = 0;
        for (size_t j = 0; j < *n; j++) {
            if (row[j].cand == NULL && adm_series_same_but_variant(row[i].base, row[j].base)) n_base++;
            if (row[j].base == NULL && adm_series_same_but_variant(row[i].base, row[j].cand)) {
                n_cand++;
                at = j;
            }
        }
        if (n_base != 1 || n_cand != 1) continue;
        row[i].cand = row[at].cand;
        snprintf(row[i].why, sizeof row[i].why, "%s is now %s; ", row[i].base->config->variant, row[i].cand->config->variant);
        memmove(&row[at], &row[at + 1], (*n - at - 1) * sizeof *row);
        (*n)--;
        if (at < i) i--;
    }
}

static adm_status make_rows(const adm_series_set *base, const adm_series_set *cand, adm_comparison *out, adm_error *err) {
    adm_status status = adm_alloc(&out->row, base->n_series + cand->n_series, sizeof *out->row, "rows of a comparison", err);
    size_t i = 0, j = 0, n = 0;
    while (status == ADM_OK && (i < base->n_series || j < cand->n_series)) {
        const adm_series *a = i < base->n_series ? &base->series[i] : NULL, *b = j < cand->n_series ? &cand->series[j] : NULL;
        int order = a == NULL ? 1 : b == NULL ? -1 : adm_series_order(a, b);
        i += order <= 0;
        j += order >= 0;
        if (!judged(order <= 0 ? a : b)) continue;
        out->row[n++] = (adm_compare_row){.base = order <= 0 ? a : NULL, .cand = order >= 0 ? b : NULL, .p_adjusted = NAN};
    }
    if (status == ADM_OK) pair_renamed(out->row, &n);
    out->n_rows = n;
    return status;
}

/* --- Judging ------------------------------------------------------------------------------------------------------ */

static double median_over(const adm_series *s, bool use_mean, size_t *n, double *scratch) {
    *n = 0;
    for (size_t i = 0; i < s->n_points; i++)
        if (s->point[i].ok) scratch[(*n)++] = use_mean ? s->point[i].mean : s->point[i].median;
    return *n > 0 ? adm_median(scratch, *n) : NAN;
}

static adm_status judge_exact(const adm_compare_options *o, adm_compare_row *row, adm_error *err) {
    double *scratch = NULL;
    size_t n_most = row->base->n_points > row->cand->n_points ? row->base->n_points : row->cand->n_points;
    adm_status status = adm_alloc(&scratch, n_most, sizeof *scratch, "values", err);
    if (status != ADM_OK) return status;
    bool use_mean = row->figure == ADM_FIGURE_QUALITY;
    row->base_value = median_over(row->base, use_mean, &row->n_base, scratch);
    row->cand_value = median_over(row->cand, use_mean, &row->n_cand, scratch);
    adm_free(&scratch);
    const char *name = row->base->metric->name;
    for (size_t i = 0; i < o->n_tolerances; i++) {
        size_t length = strlen(name);
        if (strncmp(o->tolerance[i], name, length) == 0 && o->tolerance[i][length] == '=')
            row->margin = strtod(o->tolerance[i] + length + 1, NULL);
    }
    row->verdict = adm_judge_exact(row->base_value, row->cand_value, row->margin,
                                   strcmp(row->base->metric->better, "higher") != 0);
    return ADM_OK;
}

/* Reads both sides and measures the shift; the verdict waits for the family's p. */
static adm_status measure_time(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *o,
                               adm_compare_row *row, adm_error *err) {
    adm_compare_side a = {0}, b = {0};
    adm_status status = adm_compare_read_side(base, row->base, NULL, &a, err);
    if (status == ADM_OK) status = adm_compare_read_side(cand, row->cand, NULL, &b, err);
    if (status == ADM_OK) status = adm_compare_align(&a, &b, err);
    row->n_base = a.n;
    row->n_cand = b.n;
    row->n_throttled = a.n_throttled + b.n_throttled;
    row->n_samples_out = a.n_samples_out + b.n_samples_out;
    row->verdict = ADM_VERDICT_INCONCLUSIVE;
    if (status != ADM_OK) goto done;
    if (row->n_throttled > 0)
        adm_compare_say(row, "left out: %zu of %zu processes, throttled or on a shared core; ", row->n_throttled,
                        row->n_throttled + a.n + b.n);
    if (row->n_samples_out > 0)
        adm_compare_say(row, "left out: %zu sample%s from a shared core; ", row->n_samples_out,
                        row->n_samples_out == 1 ? "" : "s");
    row->is_open = true;
    if (a.has_zero || b.has_zero) {
        adm_compare_say(row, "some samples are 0: below the clock's resolution; ");
        row->is_open = false;
    } else if (a.n > 0 && b.n > 0) {
        status = adm_shift_compare(a.process, a.n, b.process, b.n, 0.99, &row->shift, err);
        row->has_shift = status == ADM_OK;
    }
    if (a.n < o->min_processes || b.n < o->min_processes)
        adm_compare_say(row, "at least %zu processes per side are needed; there are %zu and %zu; ", o->min_processes, a.n, b.n);
    else if (row->has_shift) row->p_adjusted = row->shift.p;
    const bool is_wide = row->shift.low <= -log1p(row->margin) || row->shift.high >= log1p(row->margin);
    if (status == ADM_OK && row->has_shift && is_wide && o->most_own_margin > 0 && a.n >= ADM_MIN_OWN_PROCESSES)
        status = adm_margin_from_itself(a.process, a.n, row->margin, o->seed, &row->own_margin, err);
done:
    adm_compare_free_side(&a);
    adm_compare_free_side(&b);
    return status;
}

static bool all_measured(const adm_series *s) {
    for (size_t i = 0; i < s->n_points; i++)
        if (!s->point[i].ok) return false;
    return true;
}

static bool none_measured(const adm_series *s) {
    for (size_t i = 0; i < s->n_points; i++)
        if (s->point[i].ok) return false;
    return true;
}

/* A stage that is missing on one side, or could not be measured there. */
static adm_status judge_missing(const adm_series_set *base, const adm_series_set *cand, adm_compare_row *row, adm_error *err) {
    const adm_series *there = row->base != NULL ? row->base : row->cand;
    row->verdict = ADM_VERDICT_INCONCLUSIVE;
    if (row->base == NULL || row->cand == NULL) {
        adm_compare_say(row, "the %s has no such row; ", row->base == NULL ? "baseline" : "candidate");
        row->n_base = row->base != NULL ? there->n_points : 0;
        row->n_cand = row->cand != NULL ? there->n_points : 0;
        return ADM_OK;
    }
    const struct {
        const adm_series_set *set;
        const adm_series *series;
        const char *name;
    } sides[2] = {{base, row->base, "baseline"}, {cand, row->cand, "candidate"}};
    for (int i = 0; i < 2; i++)
        for (size_t k = 0; k < sides[i].series->n_points; k++)
            if (!sides[i].series->point[k].ok) {
                char reason[200];
                adm_status status = adm_series_reason(sides[i].set, &sides[i].series->point[k], reason, sizeof reason, err);
                if (status != ADM_OK) return status;
                bool failed = sides[i].series->point[k].failed;
                adm_compare_say(row, "%s in the %s: %s; ", failed ? "failed" : "not measured", sides[i].name, reason);
                if (i == 1 && failed && all_measured(row->base)) row->verdict = ADM_VERDICT_REGRESSED; /* it was right before */
                break;
            }
    return ADM_OK;
}

static adm_status measure_row(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *o,
                              adm_compare_row *row, adm_error *err) {
    const adm_series *s = row->base != NULL ? row->base : row->cand;
    row->shown = row->cand != NULL ? row->cand : row->base;
    row->figure = adm_figure_of(s->metric->name, s->metric->unit, s->metric->better, s->stage, &row->margin);
    row->base_value = row->cand_value = NAN;
    if (row->base == NULL || row->cand == NULL || !all_measured(row->base) || !all_measured(row->cand))
        return judge_missing(base, cand, row, err);
    if (row->figure != ADM_FIGURE_TIME) return judge_exact(o, row, err);
    double *scratch = NULL;
    size_t n;
    adm_status status = adm_alloc(&scratch, row->base->n_points + row->cand->n_points, sizeof *scratch, "values", err);
    if (status != ADM_OK) return status;
    row->base_value = median_over(row->base, false, &n, scratch);
    row->cand_value = median_over(row->cand, false, &n, scratch);
    adm_free(&scratch);
    status = adm_compare_margin(base, o, row, err);
    return status == ADM_OK ? measure_time(base, cand, o, row, err) : status;
}

/* Nothing was found to differ, and the interval lies within what the baseline differs by from itself: this machine cannot tell
 * more. */
static void judge_by_own_margin(const adm_compare_options *o, adm_compare_row *row) {
    const double own = log1p(row->own_margin);
    if (row->own_margin <= 0 || row->own_margin > o->most_own_margin || row->p_adjusted <= o->alpha) return;
    if (row->shift.low <= -own || row->shift.high >= own) return;
    adm_compare_say(row, "not decided at %.3g%%: equivalent within %.2g%%, which the baseline differs by from itself; ",
                    100 * row->margin, 100 * row->own_margin);
    row->verdict = ADM_VERDICT_EQUIVALENT;
    row->margin = row->own_margin;
    row->is_within_own = true;
}

/* A row that changed by more than its margin, and could not be decided because there are too few processes, says so. */
static void say_if_too_few(const adm_compare_options *o, size_t n_times, adm_compare_row *row) {
    const size_t n = row->n_base < row->n_cand ? row->n_base : row->n_cand;
    const bool differs = row->shift.low > 0 || row->shift.high < 0;
    if (row->verdict != ADM_VERDICT_INCONCLUSIVE || !differs || fabs(row->shift.shift) <= log1p(row->margin)) return;
    if (adm_smallest_p(row->n_base, row->n_cand) * (double)n_times <= o->alpha) return;
    adm_compare_say(row, "%zu processes per side cannot reach %.2g%% among %zu times: %zu can; ", n, 100 * o->alpha, n_times,
                    adm_processes_needed(n_times, o->alpha));
}

/* Adjusts p over all times that could be tested, and decides them. */
static adm_status judge_family(const adm_compare_options *o, adm_comparison *c, adm_error *err) {
    double *p = NULL;
    adm_status status = adm_alloc(&p, c->n_rows, sizeof *p, "p values", err);
    if (status != ADM_OK) return status;
    size_t n = 0;
    for (size_t i = 0; i < c->n_rows; i++)
        if (!isnan(c->row[i].p_adjusted)) p[n++] = c->row[i].p_adjusted;
    status = adm_benjamini_hochberg(p, n, err);
    const size_t n_times = c->n_times = n;
    n = 0;
    for (size_t i = 0; status == ADM_OK && i < c->n_rows; i++) {
        adm_compare_row *row = &c->row[i];
        if (isnan(row->p_adjusted)) continue;
        row->p_adjusted = p[n++];
        row->verdict = adm_judge_time(&row->shift, row->p_adjusted, row->margin, o->alpha);
        if (row->verdict == ADM_VERDICT_INCONCLUSIVE) judge_by_own_margin(o, row);
        say_if_too_few(o, n_times, row);
    }
    adm_free(&p);
    return status;
}

/* --- The whole ---------------------------------------------------------------------------------------------------- */

static int by_importance(const void *x, const void *y) {
    static const int rank[] = {
        [ADM_VERDICT_REGRESSED] = 0, [ADM_VERDICT_INCONCLUSIVE] = 1, [ADM_VERDICT_IMPROVED] = 2, [ADM_VERDICT_EQUIVALENT] = 3};
    const adm_compare_row *a = x, *b = y;
    int order = rank[a->verdict] - rank[b->verdict];
    if (order == 0) order = strcmp(a->shown->source, b->shown->source);
    if (order == 0) order = strcmp(a->shown->stage, b->shown->stage);
    if (order == 0) order = strcmp(a->shown->metric->name, b->shown->metric->name);
    return order != 0 ? order : adm_series_order(a->shown, b->shown);
}

/* What neither side could measure says nothing of a difference; a candidate that failed where the baseline did not, does. */
static void drop_unmeasured(adm_comparison *c) {
    size_t n = 0;
    for (size_t i = 0; i < c->n_rows; i++) {
        const adm_compare_row *row = &c->row[i];
        if (row->base != NULL && row->cand != NULL && none_measured(row->base) && none_measured(row->cand)) continue;
        c->row[n++] = *row;
    }
    c->n_rows = n;
}

static void drop_missing(adm_comparison *c) {
    size_t n = 0;
    for (size_t i = 0; i < c->n_rows; i++)
        if (c->row[i].base != NULL && c->row[i].cand != NULL) c->row[n++] = c->row[i];
    c->n_rows = n;
}

static void sum_up(adm_comparison *out) {
    bool faster = false, less_accurate = false;
    for (size_t i = 0; i < out->n_rows; i++) {
        adm_compare_row *row = &out->row[i];
        row->is_open &= row->verdict == ADM_VERDICT_INCONCLUSIVE;
        out->n_verdicts[row->verdict]++;
        out->n_open += row->is_open;
        out->n_missing += row->base == NULL || row->cand == NULL;
        out->n_within_own += row->is_within_own;
        out->n_throttled += row->n_throttled;
        out->n_samples_out += row->n_samples_out;
        faster |= row->figure == ADM_FIGURE_TIME && row->verdict == ADM_VERDICT_IMPROVED;
        less_accurate |= row->figure == ADM_FIGURE_QUALITY && row->verdict == ADM_VERDICT_REGRESSED;
    }
    out->faster_but_less_accurate = faster && less_accurate;
}

/* A tolerance for a metric that neither side has would be ignored in silence. */
static adm_status check_tolerances(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *o,
                                   adm_error *err) {
    const adm_series_set *const sides[] = {base, cand};
    const char **names = NULL;
    char typed[128], meant[ADM_DID_YOU_MEAN_BYTES];
    adm_status status = adm_alloc(&names, base->n_metrics + cand->n_metrics + 1, sizeof *names, "names of metrics", err);
    for (size_t t = 0; status == ADM_OK && t < o->n_tolerances; t++) {
        bool is_there = false;
        size_t n = 0;
        snprintf(typed, sizeof typed, "%.*s", (int)strcspn(o->tolerance[t], "="), o->tolerance[t]);
        for (int side = 0; side < 2; side++)
            for (size_t i = 0; i < sides[side]->n_metrics; i++) {
                names[n++] = sides[side]->metric[i].name;
                is_there |= strcmp(sides[side]->metric[i].name, typed) == 0;
            }
        if (!is_there)
            status = adm_fail(err, ADM_EINPUT, "--tolerance: neither side has the metric '%s'%s", typed,
                              adm_did_you_mean(typed, names, n, meant));
    }
    adm_free(&names);
    return status;
}

adm_status adm_compare(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *o,
                       adm_comparison *out, adm_error *err) {
    adm_status status = make_rows(base, cand, out, err);
    if (status == ADM_OK) drop_unmeasured(out);
    if (status == ADM_OK) status = adm_compare_refuse(base, cand, o, out, err);
    if (status == ADM_OK) status = check_tolerances(base, cand, o, err);
    if (status == ADM_OK && o->ignore_missing) drop_missing(out);
    for (size_t i = 0; status == ADM_OK && i < out->n_rows; i++) status = measure_row(base, cand, o, &out->row[i], err);
    if (status == ADM_OK) status = judge_family(o, out, err);
    for (size_t i = 0; status == ADM_OK && i < out->n_rows; i++) {
        adm_compare_row *row = &out->row[i];
        if (row->figure == ADM_FIGURE_TIME && row->base != NULL && row->cand != NULL)
            status = adm_compare_explain(base, cand, o, row, err);
        size_t length = strlen(row->why);
        if (length > 2 && strcmp(row->why + length - 2, "; ") == 0) row->why[length - 2] = '\0';
    }
    if (status != ADM_OK) return status;
    sum_up(out);
    adm_sort(out->row, out->n_rows, sizeof *out->row, by_importance);
    return ADM_OK;
}
