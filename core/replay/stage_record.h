/* stage_record.h: what the stage pass measured in the present segment: times, or with a counting probe counts, of each
 * stage. */
#ifndef ADM_CORE_REPLAY_STAGE_RECORD_H
#define ADM_CORE_REPLAY_STAGE_RECORD_H

#include "core/replay/session/record.h"

/* Durations of one stage (at one budget, where it depends on one): a sample a layer step, or, for bulk encoding, a few a chunk
 * of key rows, divided by the rows. */
typedef struct adm_stage_times {
    adm_stage stage;
    uint32_t budget;
    bool bulk;
    int64_t config_id;
    size_t n, capacity;
    size_t n_loops, loop_capacity;
    double *loop_ns; /* [n_loops]: of the loop of core/system/contention.h beside each sample, the slower of two */
    double *sample_ns; /* [n] */
    size_t n_counted, count_capacity;
    double *count; /* [n_counted][n_counters], when counting */
} adm_stage_times;

typedef struct adm_stage_record {
    const adm_session *session;
    adm_stage_times *times;
    size_t n_times;
    adm_stage_times *now; /* where the running stage's counts go; NULL: they are not kept */
    adm_status status; /* the first failure inside a sink, which cannot return it, and what to say of it */
    adm_error err;
} adm_stage_record;

/* Makes the segment's configurations, and frees what the last segment's held. */
adm_status adm_stage_record_begin(adm_stage_record *stages, const adm_record *record, const adm_segment *segment,
                                  adm_error *err);
void adm_stage_record_clear(adm_stage_record *stages);

/* Where measurements of this stage at this budget go; NULL: nowhere, and it need not be timed. */
adm_stage_times *adm_stage_record_find(adm_stage_record *stages, adm_stage stage, uint32_t budget, bool bulk);

/* Appends a sample and its loop. */
void adm_stage_record_keep(adm_stage_record *stages, adm_stage_times *times, double ns, double loop_ns);

/* Appends the counts of a range to stages->now, if it is a stage's. */
void adm_stage_record_count(adm_stage_record *stages, const adm_range *range, const double *value);

/* Whether any of the options' counters counts. */
bool adm_stage_record_counts(const adm_session *session);

/* Writes times, or where the session has counters what was counted or why it was not. */
adm_status adm_stage_record_write(const adm_stage_record *stages, const adm_record *record, adm_error *err);

#endif
