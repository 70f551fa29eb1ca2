/* record.h: what a tuning session leaves in the database: a time or a reason per candidate, a row of `candidate` with what it
 * was, and the winner in `tuned`. */
#ifndef ADM_KERNELS_TUNE_RECORD_H
#define ADM_KERNELS_TUNE_RECORD_H

#include "core/store/store.h"
#include "kernels/tune/host/host_session.h"

/* Where results go. */
typedef struct adm_tune_record {
    adm_store *store;
    int64_t run_id;
    const adm_tune_options *options;
    const char *device; /* the GPU's name, or the processor's model */
    int64_t n_recorded; /* candidates so far in this run: the next one's version is one more */
} adm_tune_record;

/* Stores one candidate's result and flushes. */
adm_status adm_tune_record_put(adm_tune_record *record, const adm_candidate *candidate, const adm_tune_result *result,
                               adm_error *err);

/* Stores the fastest of the right ones as the tuned choice for this device and shape, with the default's time (0: none was
 * measured). */
adm_status adm_tune_record_winner(adm_tune_record *record, const adm_candidate *candidate, const adm_tune_result *result,
                                  double default_ns, adm_error *err);

/* The chosen parameters: "BLOCK=128,STAGES=4"; "" for none. */
void adm_candidate_parameters(const adm_candidate *candidate, char *out, size_t bytes);

#endif
