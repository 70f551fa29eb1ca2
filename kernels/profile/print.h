/* print.h: what `adamas profile` shows of a finished run. */
#ifndef ADM_KERNELS_PROFILE_PRINT_H
#define ADM_KERNELS_PROFILE_PRINT_H

#include "core/cli/command.h"
#include "core/contract/trace.h"
#include "kernels/profile/run.h"

/* Tables of a run's stages and of its steps against dense attention, or one JSON document; on stdout. */
adm_status adm_profile_print_run(const adm_common *common, const adm_profile_options *options, const adm_trace *trace,
                                 adm_store *store, int64_t run_id, const adm_profile_tally *tally, adm_error *err);

#endif
