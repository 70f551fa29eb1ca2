/* search.h: the best of many parameter settings by successive halving (Jamieson and Talwalkar, 2016): all of them on one cheap
 * sample, the better third on three times as many, and so on; the finalists are then timed by the rules of any session.
 *
 *   27 settings x 1 sample -> 9 x 3 -> 3 finalists x 20 or more        114 samples, where timing all of them takes 540 */
#ifndef ADM_KERNELS_TUNE_SEARCH_H
#define ADM_KERNELS_TUNE_SEARCH_H

#include "kernels/tune/candidate/collect.h"

enum {
    ADM_SEARCH_FINALISTS = 3,
    ADM_SEARCH_KEEP = 3,
    ADM_SEARCH_FIRST_SAMPLES = 1,
    ADM_SEARCH_ENOUGH = 20,
    ADM_SEARCH_FEW = 9
};

/* Measures settings which[0..n-1] with `n_samples` each: ns[k] is the median of which[k], NAN if it is out. */
typedef adm_status adm_search_measure(void *user, const size_t *which, size_t n, size_t n_samples, double *ns, adm_error *err);

/* How many rounds it takes; each takes about as many samples. */
size_t adm_search_n_rounds(size_t n, size_t first_samples);

/* The finalists among n settings, best first, in finalist [ADM_SEARCH_FINALISTS]. first_samples: of the first round; where they
 * are enough for a median (ADM_SEARCH_ENOUGH), as on a GPU, whose samples cost less than a process, that round is the only one;
 * of more than ADM_SEARCH_FEW settings, those that it shows 3% behind the best are then no finalists: on an H200 a finalist
 * costs
 * 0.7 s, and a median of 20 samples strays by less than 1%.
 * n_measured: samples taken in all. */
adm_status adm_search_halve(size_t n, size_t first_samples, adm_search_measure *measure, void *user,
                            size_t finalist[ADM_SEARCH_FINALISTS], size_t *n_finalists, size_t *n_measured, adm_error *err);

/* How many settings the candidate's parameters have; 1 without parameters. */
size_t adm_search_n_settings(const adm_candidate *c);

/* Sets the candidate to setting i: the last parameter varies fastest. */
void adm_search_choose(adm_candidate *c, size_t i);

#endif
