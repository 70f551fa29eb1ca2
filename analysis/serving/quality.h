/* quality.h: which replay's quality figures go with a simulation's budgets. */
#ifndef ADM_ANALYSIS_SERVING_QUALITY_H
#define ADM_ANALYSIS_SERVING_QUALITY_H

#include "core/store/store.h"

/* A replay of `adamas` on one trace at one length. run_uuid "": there is none. */
typedef struct adm_quality_source {
    char run_uuid[40], trace_xxh128[33], trace[128], model[128], variant[128];
    int64_t run_id;
    uint32_t seq_len;
} adm_quality_source;

/* run_id 0: the latest complete replay; of its traces a real one, at the greatest length, the default codes first. It is no
 * failure to find none, unless run_id names one: ADM_EINPUT. */
adm_status adm_quality_source_find(adm_store *store, int64_t run_id, adm_quality_source *source, adm_error *err);

/* The median of a metric at a budget (0: of the budget there is none, dense); *found is false where the replay has none. */
adm_status adm_quality_source_value(adm_store *store, const adm_quality_source *source, uint32_t budget, const char *metric,
                                    bool *found, double *median, adm_error *err);

#endif
