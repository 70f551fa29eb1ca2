/* align.c: processes that measured different parts of a command, on one level. */
#include "analysis/regress/compare/align.h"

#include <math.h>
#include <string.h>

#include "analysis/regress/statistics/quantile.h"
#include "core/base/mem.h"

static double log_median(const adm_process *p) {
    return p->n % 2 == 1 ? log(p->sample[p->n / 2]) : (log(p->sample[p->n / 2 - 1]) + log(p->sample[p->n / 2])) / 2;
}

/* The median of a side's processes of a kind, logarithmic; false: it has none. */
static bool centre_of(const adm_compare_side *side, const char *only, double *scratch, double *centre) {
    size_t n = 0;
    for (size_t i = 0; i < side->n; i++)
        if (strcmp(side->only[i], only) == 0) scratch[n++] = log_median(&side->process[i]);
    if (n > 0) *centre = adm_median(scratch, n);
    return n > 0;
}

static bool are_of_one_kind(const adm_compare_side *base, const adm_compare_side *cand) {
    for (size_t i = 0; i < base->n; i++)
        if (strcmp(base->only[i], base->only[0]) != 0) return false;
    for (size_t i = 0; i < cand->n; i++)
        if (base->n > 0 && strcmp(cand->only[i], base->only[0]) != 0) return false;
    return true;
}

static void leave_out(adm_compare_side *side, size_t i) {
    adm_free(&side->sample[i]);
    side->n--;
    for (; i < side->n; i++) {
        side->sample[i] = side->sample[i + 1];
        side->process[i] = side->process[i + 1];
        side->only[i] = side->only[i + 1];
    }
}

/* The level to which processes of a kind are moved, less their own, into shift [side->n]; NAN: only one side has the kind. */
static void find_shifts(adm_compare_side *side, const adm_compare_side *base, const adm_compare_side *cand, double level,
                        double *shift, double *scratch) {
    for (size_t i = 0; i < side->n; i++) {
        double a, b;
        const bool both = centre_of(base, side->only[i], scratch, &a) && centre_of(cand, side->only[i], scratch, &b);
        shift[i] = both ? level - (a + b) / 2 : NAN;
    }
}

static void move(adm_compare_side *side, double *shift) {
    for (size_t i = 0, k = 0; i < side->n; k++) {
        if (isnan(shift[k])) {
            leave_out(side, i);
            continue;
        }
        for (size_t j = 0; j < side->process[i].n; j++) side->sample[i][j] *= exp(shift[k]);
        i++;
    }
}

adm_status adm_compare_align(adm_compare_side *base, adm_compare_side *cand, adm_error *err) {
    double *scratch = NULL, *shift[2] = {NULL, NULL}, level = 0;
    if (base->n == 0 || cand->n == 0 || base->has_zero || cand->has_zero || are_of_one_kind(base, cand)) return ADM_OK;
    adm_status status = adm_alloc(&scratch, base->n + cand->n, sizeof *scratch, "levels of processes", err);
    if (status == ADM_OK) status = adm_alloc(&shift[0], base->n, sizeof *shift[0], "levels of processes", err);
    if (status == ADM_OK) status = adm_alloc(&shift[1], cand->n, sizeof *shift[1], "levels of processes", err);
    bool has_level = false;
    for (size_t i = 0; status == ADM_OK && i < base->n && !has_level; i++) {
        double a, b;
        has_level = centre_of(base, base->only[i], scratch, &a) && centre_of(cand, base->only[i], scratch, &b);
        if (has_level) level = (a + b) / 2;
    }
    if (status == ADM_OK) find_shifts(base, base, cand, level, shift[0], scratch);
    if (status == ADM_OK) find_shifts(cand, base, cand, level, shift[1], scratch);
    if (status == ADM_OK) move(base, shift[0]);
    if (status == ADM_OK) move(cand, shift[1]);
    adm_free(&scratch);
    adm_free(&shift[0]);
    adm_free(&shift[1]);
    return status;
}
