/* tally.h: how candidates fared, and what a command makes of it. One rule for tune, replay and profile. */
#ifndef ADM_KERNELS_TUNE_TALLY_H
#define ADM_KERNELS_TUNE_TALLY_H

#include "kernels/tune/host/host_session.h"

/* Over every configuration in which they were judged. */
typedef struct adm_tune_tally {
    size_t n_right;
    size_t n_wrong;   /* against the contract */
    size_t n_lost;    /* this machine ran out of something while they were judged */
    size_t n_invalid; /* not compiled or not loaded: a wrong file */
    size_t n_skipped; /* this machine cannot judge them, or they do not take the shape */
    adm_error invalid, skipped; /* of the first: its name and the reason */
} adm_tune_tally;

void adm_tune_tally_add(adm_tune_tally *tally, const adm_candidate *candidate, const adm_tune_result *result);

/* The worst there was: wrong (ADM_EINTERNAL), lost (ADM_EENVIRONMENT), invalid (ADM_EINPUT), skipped (ADM_EUNSUPPORTED), else
 * ADM_OK. The error says how many, or names the first candidate and says why. */
adm_status adm_tune_tally_status(const adm_tune_tally *tally, adm_error *err);

/* The same for a command with more to do than to judge them: a skipped candidate is a row with its reason, and no failure. */
adm_status adm_tune_tally_failure(const adm_tune_tally *tally, adm_error *err);

#endif
