/* ranks.h: steps and dense attention shared by several GPUs of this host by KV heads, as `adamas profile --ranks` measures them.
 *
 *   ranks    sharded_step_ns    all_reduce_ns    sharded_total_ns      per layer of one decode step
 *     1      measured                            the same
 *     2      the slowest rank   of [batch][q heads * d] in fp16        both in one graph
 *
 * A row's configuration has the whole model's heads, and its variant the ranks: "grouped, 2 ranks". Every rank checks its part
 * against the host before anything is timed, and the all-reduce against the sum that it must be. */
#ifndef ADM_KERNELS_PROFILE_GPUS_RANKS_H
#define ADM_KERNELS_PROFILE_GPUS_RANKS_H

#include "core/cli/command.h"
#include "core/store/store.h"
#include "kernels/profile/run.h"

enum { ADM_MAX_RANKS = 16 };

/* Rank r of n works on device r. The options' stages other than step and dense are left out. */
adm_status adm_profile_ranks_run(const adm_profile_options *options, const uint32_t *ranks, size_t n_ranks, adm_store *store,
                                 int64_t run_id, adm_profile_tally *tally, adm_error *err);

/* What is left of the gain over dense attention at each number of ranks. */
adm_status adm_profile_ranks_print(const adm_common *common, adm_store *store, int64_t run_id, adm_error *err);

#endif
