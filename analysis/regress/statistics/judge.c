/* judge.c: kinds of figures, verdicts, margins. */
#include "analysis/regress/statistics/judge.h"

#include <math.h>
#include <string.h>

#include "analysis/regress/statistics/quantile.h"
#include "core/base/mem.h"
#include "core/stats/rng.h"

/* --- Kinds -------------------------------------------------------------------------------------------------------- */

/* By name; what is not here is told by its unit. Tolerances of counts cover what two executions of one binary differ by:
 * an interrupt's instructions, a page's first touch, ECC and refresh traffic. */
static const struct {
    const char *name;
    adm_figure figure;
    double tolerance;
} figures[] = {
    {"registers", ADM_FIGURE_COUNT, 0},
    {"static_shared_bytes", ADM_FIGURE_COUNT, 0},
    {"dynamic_shared_bytes", ADM_FIGURE_COUNT, 0},
    {"stack_bytes", ADM_FIGURE_COUNT, 0},
    {"spill_store_bytes", ADM_FIGURE_COUNT, 0},
    {"spill_load_bytes", ADM_FIGURE_COUNT, 0},
    {"kernel_launches", ADM_FIGURE_COUNT, 0},
    {"instructions", ADM_FIGURE_COUNT, 0.005},
    {"smsp__inst_executed.sum", ADM_FIGURE_COUNT, 0.005},
    {"dram__bytes_read.sum", ADM_FIGURE_COUNT, 0.02},
    {"lts__t_sectors_op_read.sum", ADM_FIGURE_COUNT, 0.02},
    /* Of time, but not the stage's own: gaps belong to the launching side, and the rest to the machine. */
    {"launch_gap_ns", ADM_FIGURE_CONTEXT, 0},
    {"kernel_time_ns", ADM_FIGURE_CONTEXT, 0},
    {"gpu__time_duration.sum", ADM_FIGURE_CONTEXT, 0},
};

/* Quality depends on the last bits of sums only: another order of additions, or another instruction set. */
static const double quality_tolerance = 0.001;

adm_figure adm_figure_of(const char *metric, const char *unit, const char *better, const char *stage, double *tolerance) {
    *tolerance = 0;
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        if (strcmp(figures[i].name, metric) == 0) {
            *tolerance = figures[i].tolerance;
            return figures[i].figure;
        }
    if (strcmp(better, "none") == 0) return ADM_FIGURE_CONTEXT;
    if (strcmp(unit, "ns") == 0 && strcmp(better, "lower") == 0) return ADM_FIGURE_TIME;
    /* Figures of no stage are of a policy, except the device's own, whose units are rates and physical ones. */
    static const char *const of_policies[] = {"ratio", "nats", "1", "bits", "tokens"};
    for (size_t i = 0; stage[0] == '\0' && i < sizeof of_policies / sizeof of_policies[0]; i++)
        if (strcmp(unit, of_policies[i]) == 0 && strcmp(metric, "throttled_ratio") != 0) {
            *tolerance = quality_tolerance;
            return ADM_FIGURE_QUALITY;
        }
    return ADM_FIGURE_CONTEXT;
}

/* --- Verdicts ----------------------------------------------------------------------------------------------------- */

const char *adm_verdict_name(adm_verdict verdict) {
    static const char *const names[] = {"equivalent", "improved", "regressed", "inconclusive"};
    return names[verdict];
}

adm_verdict adm_judge_time(const adm_shift *s, double p_adjusted, double margin, double alpha) {
    double up = log1p(margin), down = -up;
    if (p_adjusted <= alpha && s->low > 0 && s->shift > up) return ADM_VERDICT_REGRESSED;
    if (p_adjusted <= alpha && s->high < 0 && s->shift < down) return ADM_VERDICT_IMPROVED;
    if (s->low > down && s->high < up) return ADM_VERDICT_EQUIVALENT;
    return ADM_VERDICT_INCONCLUSIVE;
}

adm_verdict adm_judge_exact(double base, double cand, double tolerance, bool lower_is_better) {
    double scale = fmax(fabs(base), fabs(cand)), difference = cand - base;
    if (fabs(difference) <= tolerance * scale) return ADM_VERDICT_EQUIVALENT;
    return (difference > 0) == lower_is_better ? ADM_VERDICT_REGRESSED : ADM_VERDICT_IMPROVED;
}

/* --- Margins ------------------------------------------------------------------------------------------------------ */

adm_status adm_margin_from_itself(const adm_process *process, size_t n, double min, uint64_t seed, double *margin,
                                  adm_error *err) {
    enum { N_DRAWS = 100 };
    double reach[N_DRAWS] = {0};
    *margin = min;
    adm_process *side[2] = {NULL, NULL};
    adm_rng rng;
    adm_rng_seed(&rng, seed);
    adm_status status = adm_alloc(&side[0], n, sizeof *side[0], "processes", err);
    if (status == ADM_OK) status = adm_alloc(&side[1], n, sizeof *side[1], "processes", err);
    for (int draw = 0; status == ADM_OK && draw < N_DRAWS; draw++) {
        /* Of each four in a row two and two, as a check interleaves them, in any of the six ways. */
        static const uint8_t ways[6] = {0x3, 0x5, 0x6, 0x9, 0xa, 0xc};
        size_t m[2] = {0, 0};
        uint8_t way = 0;
        for (size_t i = 0; i < n; i++) {
            if (i % 4 == 0) way = ways[adm_rng_below(&rng, 6)];
            int to = way >> (i % 4) & 1;
            side[to][m[to]++] = process[i];
        }
        if (m[0] == 0 || m[1] == 0) continue; /* fewer than four: reach stays 0 */
        adm_shift shift;
        status = adm_shift_compare(side[0], m[0], side[1], m[1], 0.99, &shift, err);
        reach[draw] = fmax(-shift.low, shift.high);
    }
    if (status == ADM_OK) {
        double at = adm_select(reach, N_DRAWS, N_DRAWS * 95 / 100);
        *margin = fmax(min, expm1(at));
    }
    adm_free(&side[0]);
    adm_free(&side[1]);
    return status;
}
