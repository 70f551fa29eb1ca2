/* record.h: where a replay's measurements go. */
#ifndef ADM_CORE_REPLAY_SESSION_RECORD_H
#define ADM_CORE_REPLAY_SESSION_RECORD_H

#include "core/replay/session/session.h"
#include "core/store/store.h"

typedef struct adm_record {
    const adm_session *session;
    adm_store *store;
    int64_t run_id, trace_id;
} adm_record;

/* A configuration of the session at a segment; budget 0: of what does not depend on one. The variant is borrowed. */
adm_config adm_record_config(const adm_record *record, const adm_segment *segment, const char *policy, const char *variant,
                             uint32_t budget);

/* Finds or makes the configuration of a row at a budget, likewise. */
adm_status adm_record_row(const adm_record *record, const adm_segment *segment, const adm_variant *row, uint32_t budget,
                          int64_t *config_id, adm_error *err);

/* One measured distribution; stage NULL: quality; layer and head -1: over all; samples may be NULL. */
adm_status adm_record_put(const adm_record *record, int64_t config_id, const char *stage, const adm_metric *metric,
                          int32_t layer, int32_t head, const adm_distribution *distribution, const double *samples,
                          adm_error *err);

/* What was not measured, and why. */
adm_status adm_record_skip(const adm_record *record, int64_t config_id, const char *stage, const adm_metric *metric,
                           const char *reason, adm_error *err);

#endif
