/* load.h: the anchors of the cost model, from a profile's run in the database. */
#ifndef ADM_ANALYSIS_COST_LOAD_H
#define ADM_ANALYSIS_COST_LOAD_H

#include "analysis/cost/cost.h"
#include "core/store/store.h"

/* Loads the run's timings: cold, as CUDA graphs, selections per head. ADM_EINPUT: there is no such run, or it has no timings or
 * no read limit. Release with adm_cost_free(); empty on failure. */
adm_status adm_cost_load(adm_store *store, int64_t run_id, adm_cost *cost, adm_error *err);

#endif
