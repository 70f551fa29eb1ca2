/* run.h: runs the whole grid of a GPU profile, and stores what it saw. */
#ifndef ADM_KERNELS_PROFILE_RUN_H
#define ADM_KERNELS_PROFILE_RUN_H

#include "core/store/store.h"
#include "kernels/profile/grid/grid.h"

/* How the units of all configurations fared, each counted once however it was launched. */
typedef struct adm_profile_tally {
    size_t n_right;    /* checked, and as the host computes it */
    size_t n_failed;   /* wrong, or could not be run */
    size_t n_skipped;  /* not for this shape or device */
} adm_profile_tally;

/* Runs the whole grid on a device, into a run that was begun. A failed configuration is recorded and the grid goes on
 * while the context survives. */
adm_status adm_profile_run(const adm_profile_options *options, adm_gpu *gpu, adm_store *store, int64_t run_id,
                           adm_profile_tally *tally, adm_error *err);

#endif
