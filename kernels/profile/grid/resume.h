/* resume.h: where the unfinished profile of a shard goes on. */
#ifndef ADM_KERNELS_PROFILE_GRID_RESUME_H
#define ADM_KERNELS_PROFILE_GRID_RESUME_H

#include "core/store/store.h"
#include "kernels/profile/grid/grid.h"

/* Configurations run in order, so that those before the last one with rows are complete. What there is of the last is removed:
 * it may be half of it. *has_start is false where nothing is left, and the profile begins from the beginning. */
adm_status adm_profile_resume(const adm_profile_options *options, adm_store *store, int64_t run_id, adm_profile_start *start,
                              bool *has_start, adm_error *err);

#endif
