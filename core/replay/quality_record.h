/* quality_record.h: what the quality pass measured in the present segment: every metric of every row at every budget.
 *
 *   task:   value [head][step of the block]  --take_block-->  distributions of the layer  --take_layer-->  of the segment
 *
 * Tasks write to places of their own; distributions are made between rounds, in the order of heads and steps, so that no value
 * depends on the number of threads. */
#ifndef ADM_CORE_REPLAY_QUALITY_RECORD_H
#define ADM_CORE_REPLAY_QUALITY_RECORD_H

#include "core/stats/aggregate.h"
#include "core/system/threads.h"
#include "core/replay/session/quality.h"
#include "core/replay/session/record.h"

enum { Q_RECALL, Q_MASS, Q_KL, Q_TV, Q_OUTPUT_REL_L2, Q_OUTPUT_COSINE, Q_ORACLE_GAP, Q_EPS_EXCEED, Q_TIES, N_QUALITY };

/* Steps whose values wait to be taken into the distributions. */
enum { ADM_BLOCK_STEPS = 64 };

/* One metric of one configuration. */
typedef struct adm_slot {
    int64_t config_id;
    const adm_metric *metric;
    double *value;        /* [n_q_heads][ADM_BLOCK_STEPS] */
    adm_aggregate *head;  /* [n_q_heads] of the present layer */
    adm_distribution *of; /* [n_layers][n_q_heads] */
    adm_aggregate pooled; /* over layers and heads, */
    adm_distribution whole; /* its result, after the last layer */
    adm_status status;    /* of the task that took values in */
    adm_error err;
} adm_slot;

typedef struct adm_quality_record {
    const adm_session *session;
    adm_slot *slot;    /* [n_slots] */
    size_t n_slots;
    adm_slot **metric; /* [n_rows][n_budgets][N_QUALITY]; NULL: not kept. The row `dense` has one budget */
    adm_slot **target; /* [n_rows][n_targets] */
    adm_metric *target_metric;
    char (*target_name)[ADM_TARGET_NAME_BYTES];
} adm_quality_record;

adm_status adm_quality_record_open(const adm_session *session, adm_quality_record *quality, adm_error *err);
void adm_quality_record_close(adm_quality_record *quality);

/* Makes the segment's configurations and slots, and frees the last segment's. */
adm_status adm_quality_record_begin(adm_quality_record *quality, const adm_record *record, const adm_segment *segment,
                                    adm_error *err);

/* The values of a query head at step `step` of the block: value [N_QUALITY] of a row at a budget, or what it needs to reach a
 * target. What is not kept is passed over. Any thread; different heads and steps. */
void adm_quality_record_put(const adm_quality_record *quality, size_t row, size_t budget, size_t head, size_t step,
                            const double *value);
void adm_quality_record_put_quality(const adm_quality_record *quality, size_t row, size_t budget, size_t head, size_t step,
                                    const adm_quality *value, double oracle_gap, double n_tied);
void adm_quality_record_put_target(const adm_quality_record *quality, size_t row, size_t target, size_t head, size_t step,
                                   double value);

/* Takes the values of a block of n_steps steps in; puts those of a whole layer down. */
adm_status adm_quality_record_take_block(adm_quality_record *quality, adm_pool *pool, size_t n_steps, adm_error *err);
void adm_quality_record_take_layer(adm_quality_record *quality, adm_pool *pool, size_t layer);

/* Writes the segment's distributions, and for budgets at which a row has no meaning the reason. */
adm_status adm_quality_record_write(adm_quality_record *quality, const adm_record *record, const adm_segment *segment,
                                    adm_error *err);

#endif
