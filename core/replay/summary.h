/* summary.h: what `adamas replay` prints when it is done. */
#ifndef ADM_CORE_REPLAY_SUMMARY_H
#define ADM_CORE_REPLAY_SUMMARY_H

#include "core/cli/command.h"
#include "core/store/store.h"

/* The run's medians, a line per length, policy, variant and budget, and notes on them, on standard output: a table, or with
 * common->json one document. uncounted: why counters were asked for and have no values, "" if they have. ADM_EENVIRONMENT when
 * standard output cannot be written. */
adm_status adm_replay_print_summary(adm_store *store, int64_t run_id, const adm_common *common, double elapsed_s,
                                    const char *uncounted, adm_error *err);

#endif
