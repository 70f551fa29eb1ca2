/* comparison.h: what a comparison is made with and what comes of it: options, rows, and the whole. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_COMPARISON_H
#define ADM_ANALYSIS_REGRESS_COMPARE_COMPARISON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analysis/regress/statistics/judge.h"
#include "analysis/regress/series.h"
#include "core/base/error.h"

typedef struct adm_compare_options {
    double margin;             /* of times without a calibrated one, 0.01 */
    bool margin_is_forced;     /* ... and of those with one */
    double alpha;              /* of adjusted p, 0.01; a check that looks more than once divides it */
    uint64_t seed;
    size_t min_processes;             /* processes per side; with fewer a time is not judged, ADM_MIN_PROCESSES */
    double most_own_margin;    /* a time that is undecided at its margin is equivalent within the baseline's own scatter, if
                                  that is at most this; 0: never */
    bool shares_runs;          /* two kernels of the same runs are compared: a run may be on both sides */
    bool across_machines;
    bool ignore_missing;       /* rows that only one side has do not count */
    const char *const *tolerance; /* "METRIC=RATIO", for counts and quality */
    size_t n_tolerances;
} adm_compare_options;

#define ADM_COMPARE_DEFAULTS {.margin = 0.01, .alpha = 0.01, .seed = 1, .min_processes = ADM_MIN_PROCESSES}

typedef struct adm_compare_row {
    const adm_series *base, *cand; /* one is NULL: only the other side has it */
    adm_figure figure;
    adm_verdict verdict;
    double base_value, cand_value; /* median of the processes' medians; of quality, of their means */
    size_t n_base, n_cand;         /* processes judged */
    size_t n_throttled;            /* processes left out, of both sides */
    size_t n_samples_out;          /* samples left out of the others, taken on a shared core */
    bool has_shift;                /* times: both sides have processes */
    bool is_open;                  /* inconclusive, and more processes may decide it */
    adm_shift shift;               /* times only */
    double p_adjusted;
    double margin;                 /* times: as a ratio; others: the tolerance */
    double own_margin;             /* what 95% of comparisons of the baseline with itself hold; 0: not asked for */
    bool is_within_own;            /* equivalent within that, which is then `margin` */
    bool has_cycles;               /* the same in cycles of the stage's clock */
    adm_shift cycles;
    const adm_series *shown;       /* whichever side there is */
    char why[512];                 /* "" if there is nothing to say */
} adm_compare_row;

typedef struct adm_comparison {
    adm_compare_row *row; /* regressed, inconclusive, improved, equivalent; by stage and configuration within each */
    size_t n_rows;
    size_t n_verdicts[4];
    size_t n_open;        /* rows that more processes may decide */
    size_t n_missing;     /* rows that only one side has */
    size_t n_within_own;  /* rows that are equivalent only within the baseline's own scatter */
    size_t n_times;       /* rows whose times were tested: p is adjusted over these */
    size_t n_throttled, n_samples_out; /* sums of the rows' */
    bool faster_but_less_accurate;
    char subject[2][160]; /* what the two sides are, for people; set by the caller */
    char machine[512];
    char check_uuid[40];  /* "" unless of an interleaved check */
    char failure[512];    /* why nothing could be compared; "" otherwise */
} adm_comparison;

/* NULL pointers inside are fine. */
void adm_comparison_free(adm_comparison *comparison);

/* 0: nothing regressed and nothing is open; 1: something regressed; 3: nothing regressed, something is inconclusive. */
int adm_comparison_exit_code(const adm_comparison *comparison);

/* With fewer processes per side than this, a baseline's own scatter says little. */
enum { ADM_MIN_OWN_PROCESSES = 16 };

/* The fewest processes per side with which one time among n_times that alone changed can reach alpha: its smallest p is
 * multiplied by n_times when it is adjusted. */
size_t adm_processes_needed(size_t n_times, double alpha);

/* What a row that only one side has is counted under: its configuration without the variant, such as "4096 tokens, budget 64".
 * */
const char *adm_compare_group_of(const adm_compare_row *row);

/* Appends a sentence to row->why; what does not fit is cut. */
void adm_compare_say(adm_compare_row *row, const char *format, ...) ADM_PRINTF(2, 3);

#endif
