/* explain.c: why a time changed, from what else the runs hold about that stage: clocks first, then launches,
 * instructions, bytes, occupancy and stalls, and what the compiler made of the stage's kernels.
 *
 * A figure is named if it moved by at least three tenths of what the time did, which is what it then accounts for if the
 * stage is bound by it. The first in the table is named as likely; the order is from cause to symptom. */
#include "analysis/regress/compare/explain.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/regress/compare/side.h"
#include "analysis/regress/statistics/quantile.h"
#include "core/base/mem.h"

static const struct {
    const char *metric; /* a name, or its beginning if it ends in '*' */
    const char *words;
    int sign;           /* of its change when it makes a stage slower; 0: either */
    bool is_share;      /* its difference counts, not its ratio */
} causes[] = {
    {"sm_clock_hz", "SM clock", -1, false},
    {"memory_clock_hz", "memory clock", -1, false},
    {"kernel_launches", "kernel launches", 1, false},
    {"smsp__inst_executed.sum", "instructions", 1, false},
    {"instructions", "instructions", 1, false},
    {"model_bytes", "modelled bytes", 1, false},
    {"dram__bytes_read.sum", "DRAM bytes read", 1, false},
    {"dram__bytes_write.sum", "DRAM bytes written", 1, false},
    {"lts__t_sectors_op_read.sum", "L2 sectors read", 1, false},
    {"l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum", "shared memory bank conflicts", 1, false},
    {"cache_misses", "cache misses", 1, false},
    {"cycles", "CPU cycles", 1, false},
    {"launch_gap_ns", "gaps between launches", 1, false},
    {"l2_read_hit_ratio", "L2 read hits", -1, true},
    {"achieved_occupancy_ratio", "occupancy", -1, true},
    {"sm__warps_active.avg.pct_of_peak_sustained_active", "occupancy (%)", -1, false},
    {"stall_*", NULL, 1, true},
};

/* Median over runs of a series; false if there is none. */
static bool median_of(const adm_series *s, double *value) {
    double small[64], *scratch = small;
    size_t n = 0;
    if (s == NULL || (s->n_points > 64 && adm_alloc(&scratch, s->n_points, sizeof *scratch, "values", NULL) != ADM_OK))
        return false;
    for (size_t i = 0; i < s->n_points; i++)
        if (s->point[i].ok) scratch[n++] = s->point[i].median;
    if (n > 0) *value = adm_median(scratch, n);
    if (scratch != small) adm_free(&scratch);
    return n > 0;
}

static bool same_stage(const adm_series *a, const adm_series *b) {
    return strcmp(a->stage, b->stage) == 0 && strcmp(a->config->work, b->config->work) == 0 &&
           strcmp(a->config->variant, b->config->variant) == 0;
}

/* What else a set says of a stage of one configuration: of its own launch mode, else of another, since counters are
 * taken with plain launches. */
static const adm_series *also_measured(const adm_series_set *set, const adm_series *time, const char *metric) {
    const adm_series *other = NULL;
    for (size_t i = 0; i < set->n_series; i++) {
        const adm_series *s = &set->series[i];
        if (strcmp(s->metric->name, metric) != 0 || !same_stage(s, time)) continue;
        if (s->config == time->config) return s;
        other = s;
    }
    return other;
}

/* --- Clocks ------------------------------------------------------------------------------------------------------- */

/* GHz by run of the set: nanoseconds times this are cycles. NULL if a run does not know its clock. */
static adm_status clock_of_runs(const adm_series_set *set, const adm_series *time, double **ghz, adm_error *err) {
    *ghz = NULL;
    const adm_series *clock = also_measured(set, time, "sm_clock_hz");
    if (clock == NULL || strcmp(time->source, "gpu") != 0) return ADM_OK;
    adm_status status = adm_alloc(ghz, set->n_runs, sizeof **ghz, "clocks", err);
    for (size_t i = 0; status == ADM_OK && i < clock->n_points; i++)
        if (clock->point[i].ok) (*ghz)[clock->point[i].run] = clock->point[i].median * 1e-9;
    for (size_t i = 0; status == ADM_OK && i < time->n_points; i++)
        if (!((*ghz)[time->point[i].run] > 0)) {
            adm_free(ghz);
            return ADM_OK;
        }
    return status;
}

static adm_status measure_cycles(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *o,
                                 adm_compare_row *row, adm_error *err) {
    double *ghz[2] = {NULL, NULL};
    adm_compare_side a = {0}, b = {0};
    adm_status status = clock_of_runs(base, row->base, &ghz[0], err);
    if (status == ADM_OK) status = clock_of_runs(cand, row->cand, &ghz[1], err);
    if (status == ADM_OK && ghz[0] != NULL && ghz[1] != NULL) {
        status = adm_compare_read_side(base, row->base, ghz[0], &a, err);
        if (status == ADM_OK) status = adm_compare_read_side(cand, row->cand, ghz[1], &b, err);
        if (status == ADM_OK && a.n >= o->min_processes && b.n >= o->min_processes) {
            status = adm_shift_compare(a.process, a.n, b.process, b.n, 0.99, &row->cycles, err);
            row->has_cycles = status == ADM_OK;
        }
    }
    adm_compare_free_side(&a);
    adm_compare_free_side(&b);
    adm_free(&ghz[0]);
    adm_free(&ghz[1]);
    return status;
}

/* A change of time that is none of cycles is the clock's doing, not the program's. */
static void blame_clock(adm_compare_row *row) {
    double margin = log1p(row->margin), time = row->shift.shift, cycles = row->cycles.shift;
    if (fabs(time) <= margin || fabs(cycles) > margin || fabs(cycles) > fabs(time) / 2) return;
    row->verdict = ADM_VERDICT_INCONCLUSIVE;
    adm_compare_say(row, "explained by clocks: time %+.1f%%, cycles %+.1f%%; ", 100 * expm1(time), 100 * expm1(cycles));
}

/* --- Causes ------------------------------------------------------------------------------------------------------- */

static bool fits(const char *pattern, const char *name) {
    size_t length = strlen(pattern);
    return pattern[length - 1] == '*' ? strncmp(pattern, name, length - 1) == 0 : strcmp(pattern, name) == 0;
}

/* Looks at one other figure of the stage; says what it did if that goes with the time's change. */
static bool consider(const adm_series_set *cand, const adm_series *s, size_t cause, adm_compare_row *row, int n_said) {
    double before, after;
    const adm_series *now = also_measured(cand, row->cand, s->metric->name);
    if (!median_of(s, &before) || !median_of(now, &after)) return false;
    double change = causes[cause].is_share ? after - before : before > 0 && after > 0 ? log(after / before) : 0;
    double expected = causes[cause].sign * (row->shift.shift > 0 ? 1 : -1);
    if (fabs(change) < fmax(0.3 * fabs(row->shift.shift), 0.005) || change * expected < 0) return false;
    adm_compare_say(row, "%s%s ",
                    n_said == 0   ? "likely: "
                    : n_said == 1 ? "also: "
                                  : "",
                    causes[cause].words != NULL ? causes[cause].words : s->metric->name);
    if (causes[cause].is_share) adm_compare_say(row, "%.3g to %.3g; ", before, after);
    else adm_compare_say(row, "%+.1f%%; ", 100 * expm1(change));
    return true;
}

static int name_causes(const adm_series_set *base, const adm_series_set *cand, adm_compare_row *row) {
    int n_said = 0, n_known = 0;
    for (size_t c = 0; c < sizeof causes / sizeof causes[0] && n_said < 3; c++)
        for (size_t i = 0; i < base->n_series && n_said < 3; i++) {
            const adm_series *s = &base->series[i];
            if (!fits(causes[c].metric, s->metric->name) || !same_stage(s, row->base)) continue;
            if (also_measured(base, row->base, s->metric->name) != s) continue; /* the other launch mode's */
            n_known += strcmp(s->metric->name, "model_bytes") != 0;
            n_said += consider(cand, s, c, row, n_said);
        }
    return n_said > 0 ? n_said : n_known > 0 ? 0 : -1;
}

/* Registers, shared memory and spills of the stage's kernels, where the two builds stored them and they differ. */
static int name_compiled(const adm_series_set *base, const adm_series_set *cand, adm_compare_row *row) {
    int n_said = 0;
    for (size_t i = 0; i < base->n_series && n_said < 2; i++) {
        const adm_series *s = &base->series[i];
        double before, after;
        if (strcmp(s->config->policy, "static") != 0 || strcmp(s->stage, row->base->stage) != 0) continue;
        const adm_series *now = adm_series_find(cand, s->config->work, s->config->variant, s->source, s->stage,
                                                s->metric->name);
        if (!median_of(s, &before) || !median_of(now, &after) || before == after) continue;
        if ((after > before) != (row->shift.shift > 0)) continue;
        adm_compare_say(row, "%s of %s %.0f to %.0f; ", s->metric->name, s->config->variant, before, after);
        n_said++;
    }
    return n_said;
}

adm_status adm_compare_explain(const adm_series_set *base, const adm_series_set *cand, const adm_compare_options *o,
                               adm_compare_row *row, adm_error *err) {
    if (isnan(row->p_adjusted) || fabs(row->shift.shift) <= log1p(row->margin) || row->verdict == ADM_VERDICT_EQUIVALENT)
        return ADM_OK;
    adm_status status = measure_cycles(base, cand, o, row, err);
    if (status != ADM_OK) return status;
    if (row->has_cycles) blame_clock(row);
    if (row->verdict == ADM_VERDICT_INCONCLUSIVE) return ADM_OK;
    int n_causes = name_causes(base, cand, row), n_compiled = name_compiled(base, cand, row);
    if (n_causes == 0 && n_compiled == 0) adm_compare_say(row, "no stored counter moved with it; ");
    if (n_causes < 0 && n_compiled == 0)
        adm_compare_say(row, "no counters are stored that could say why: --counters takes them; ");
    return ADM_OK;
}
