/* ratio.c: how sure a ratio of two median times is. */
#include "core/stats/ratio.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { LEAST_FOR_95 = 6 }; /* all values of 6 lie on one side of the median with a chance of 2 / 2^6 = 3%, of 5 with 6% */

static bool is_few(const adm_timing_spread *t) { return t != NULL && t->n < ADM_RATIO_ENOUGH; }

static bool has_median_interval(const adm_timing_spread *t) {
    return t == NULL || (t->n >= LEAST_FOR_95 && t->median_ci_ratio >= 0 && t->median_ci_ratio < 1);
}

static bool has_spread(const adm_timing_spread *t) { return t == NULL || (t->n >= 2 && t->p10 > 0 && t->p90 >= t->p10); }

/* One end of a side's interval: of a constant 1. */
static double end_of(const adm_timing_spread *t, adm_ratio_basis basis, bool is_high) {
    if (t == NULL) return 1;
    if (basis == ADM_RATIO_OF_SPREADS) return is_high ? t->p90 : t->p10;
    return t->median * (is_high ? 1 + t->median_ci_ratio : 1 - t->median_ci_ratio);
}

adm_ratio_interval adm_ratio_of_times(const adm_timing_spread *over, const adm_timing_spread *under) {
    adm_ratio_interval interval = {ADM_RATIO_OF_ENOUGH, 0, 0};
    if (!is_few(over) && !is_few(under)) return interval;
    if (has_median_interval(over) && has_median_interval(under)) interval.basis = ADM_RATIO_OF_MEDIANS;
    else if (has_spread(over) && has_spread(under)) interval.basis = ADM_RATIO_OF_SPREADS;
    else interval.basis = ADM_RATIO_NO_INTERVAL;
    if (interval.basis == ADM_RATIO_NO_INTERVAL) return interval;
    interval.low = end_of(over, interval.basis, false) / end_of(under, interval.basis, true);
    interval.high = end_of(over, interval.basis, true) / end_of(under, interval.basis, false);
    return interval;
}

const char *adm_ratio_basis_words(adm_ratio_basis basis) {
    if (basis == ADM_RATIO_OF_MEDIANS) return "from the medians' 95% intervals";
    return basis == ADM_RATIO_OF_SPREADS ? "from p10 and p90" : "";
}

void adm_ratio_words(const adm_ratio_interval *interval, double scale, int n_digits, char out[ADM_RATIO_WORDS_BYTES]) {
    out[0] = '\0';
    if (interval->basis == ADM_RATIO_NO_INTERVAL) snprintf(out, ADM_RATIO_WORDS_BYTES, " (n < 20, no interval)");
    else if (interval->basis != ADM_RATIO_OF_ENOUGH)
        snprintf(out, ADM_RATIO_WORDS_BYTES, " (%.*f to %.*f, %s)", n_digits, interval->low * scale, n_digits,
                 interval->high * scale, adm_ratio_basis_words(interval->basis));
}
