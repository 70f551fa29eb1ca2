/* record.h: a simulation as rows of the database. */
#ifndef ADM_ANALYSIS_SERVING_RECORD_H
#define ADM_ANALYSIS_SERVING_RECORD_H

#include "analysis/serving/outcome.h"
#include "analysis/serving/quality.h"
#include "core/store/store.h"

/* What a row of `simulation` says. Strings are borrowed; NULL where the schema allows it. */
typedef struct adm_simulation_row {
    int64_t run_id;
    const char *calibration_uuid, *model, *gpu, *trace, *trace_xxh128;
    size_t n_requests;
    const adm_plan *plan;
    const char *variant, *memory, *settings;
    const adm_quality_source *quality;
} adm_simulation_row;

adm_status adm_simulation_record(adm_store *store, const adm_simulation_row *row, const adm_outcome *outcome,
                                 const adm_step_time *time, adm_error *err);

#endif
