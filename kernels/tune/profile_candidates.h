/* profile_candidates.h: kernels of one's own in the grid of `adamas profile`: `--candidate`, and with `--tuned` those that a
 * tuning session has chosen. They are judged before the profile opens the device, each in a process of its own. */
#ifndef ADM_KERNELS_TUNE_PROFILE_CANDIDATES_H
#define ADM_KERNELS_TUNE_PROFILE_CANDIDATES_H

#include <jansson.h>

#include "kernels/profile/run.h"
#include "kernels/tune/bring.h"
#include "kernels/tune/tally.h"

typedef struct adm_profile_candidates adm_profile_candidates;

typedef struct adm_profile_candidates_ask {
    const adm_bring *bring;
    const char *tuned_db;     /* --tuned: the database with the choices; NULL: without */
    int device;
    uint64_t seed;            /* of the inputs; 0: drawn after loading */
    bool quiet;
} adm_profile_candidates_ask;

/* What a dry run says of them: stage, name and file of each, as text or into document["candidates"]. ADM_EINPUT as for judging.
 * Needs no GPU. */
adm_status adm_profile_candidates_plan(const adm_profile_candidates_ask *ask, const adm_profile_options *options,
                                       json_t *document, adm_error *err);

/* Judges and times all of them over the grid, or a shard's part of it. *out is NULL where nothing is asked for; release it
 * after a failure too. ADM_EUNSUPPORTED: no GPU. ADM_EINPUT: a candidate of the host. */
adm_status adm_profile_candidates_judge(const adm_profile_candidates_ask *ask, const adm_profile_options *options,
                                        adm_profile_candidates **out, adm_error *err);

/* Stores times and reasons into a run, and adds to the tally of its units and to that of candidates alone. candidates: NULL:
 * nothing. */
adm_status adm_profile_candidates_record(adm_profile_candidates *candidates, adm_store *store, int64_t run_id,
                                         adm_profile_tally *units, adm_tune_tally *tally, adm_error *err);

void adm_profile_candidates_free(adm_profile_candidates **candidates);

#endif
