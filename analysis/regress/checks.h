/* checks.h: the checks of a database: which failed, what regressed in them, and which runs belong to a history.
 *
 *     check A  passed      baseline o o o   candidate x x x   --> x x x belong to the series
 *     check B  regressed   baseline o o o   candidate x x x   --> no run does; what regressed is an open change of its own,
 *                                                                 until somebody acknowledges it, the same commit passes a
 *                                                                 later check, or a later check finds the series improved */
#ifndef ADM_ANALYSIS_REGRESS_CHECKS_H
#define ADM_ANALYSIS_REGRESS_CHECKS_H

#include "analysis/regress/history.h"

/* Which runs make up the series of a history; those of no check always do. */
typedef enum adm_sides {
    ADM_SIDES_PASSED,     /* and candidates of checks that did not fail */
    ADM_SIDES_CANDIDATES, /* and all candidates */
    ADM_SIDES_BASELINES,  /* and all baselines */
    ADM_SIDES_NONE        /* no other */
} adm_sides;

/* "passed", "candidates", "baselines", "none". ADM_EINPUT: another word. */
adm_status adm_sides_parse(const char *text, adm_sides *sides, adm_error *err);

/* What regressed in one failed check. */
typedef struct adm_failed_check {
    char uuid[64], made_utc[32], baseline[160], candidate[160];
    adm_series_set set[2]; /* its runs: baseline, candidate */
} adm_failed_check;

typedef struct adm_checks {
    adm_failed_check *failed;
    size_t n_failed, capacity;
    adm_history_change *change; /* the regressions of failed checks that are still open or acknowledged */
    const adm_failed_check **of; /* the check of each */
    size_t n_changes;
    size_t n_checks, n_judged;  /* n_judged: passed or regressed */
} adm_checks;

/* Judges a check whose verdict is not stored: the series of `cand` that regressed, *regressed [*n], freshly allocated. */
typedef struct adm_check_regression {
    const adm_series *series; /* of the candidate */
    double before, after, shift_ratio, p;
} adm_check_regression;
typedef adm_status adm_judge_check(const adm_series_set *base, const adm_series_set *cand, adm_check_regression **regressed,
                                   size_t *n, adm_error *err);

/* Reads the checks whose candidate is among these runs. */
adm_status adm_checks_find(adm_store *store, const int64_t *run_ids, size_t n_run_ids, const adm_history_options *options,
                           adm_judge_check *judge, adm_checks *out, adm_error *err);
void adm_checks_free(adm_checks *checks);

/* Keeps of run_ids [*n] those that belong to a history. checks may be NULL: then stored verdicts alone decide. */
adm_status adm_checks_select(adm_store *store, const adm_checks *checks, adm_sides sides, int64_t *run_ids, size_t *n,
                             adm_error *err);

#endif
