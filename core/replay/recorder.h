/* recorder.h: what a replay keeps, and how it reaches the store: a batch a segment, so that one row of a segment means all of
 * it. The passes put their measurements into `stages` and `quality`. */
#ifndef ADM_CORE_REPLAY_RECORDER_H
#define ADM_CORE_REPLAY_RECORDER_H

#include "core/policy/policy_set.h"
#include "core/replay/event_spool.h"
#include "core/replay/quality_record.h"
#include "core/replay/stage_record.h"

typedef struct adm_recorder {
    adm_record record;
    adm_stage_record stages;
    adm_quality_record quality;
    adm_event_spool *events; /* ranges of the present segment, written when it ends; NULL: no timeline */
    bool *is_stored;         /* [n_segments]: the run held it already, or another shard has it */
    bool thresholds_are_stored;
} adm_recorder;

/* Finds or makes the trace's row, and looks for what the run holds already. Close it also after a failure. */
adm_status adm_recorder_open(const adm_session *session, adm_store *store, int64_t run_id, adm_recorder *recorder,
                             adm_error *err);
void adm_recorder_close(adm_recorder *recorder);

/* Makes the segment's configurations, and frees the last segment's. The store is flushed: it is not locked while the segment is
 * measured. */
adm_status adm_recorder_begin_segment(adm_recorder *recorder, const adm_segment *segment, adm_error *err);

/* Writes and flushes what the segment measured. set: the states of the session's rows. */
adm_status adm_recorder_end_segment(adm_recorder *recorder, const adm_segment *segment, const adm_policy_set *set,
                                    adm_error *err);

/* Writes and flushes the events of the session itself. */
adm_status adm_recorder_end_session(adm_recorder *recorder, adm_error *err);

#endif
