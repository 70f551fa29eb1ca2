/* stage_pass.h: steps of a session as a serving system would run them, one stage after the other in one thread, each bracketed
 * for the probes; and the bulk encoding between steps. After each step or chunk its stages are timed (stage_timer.h). What
 * comes out is not looked at: the quality pass selects the same tokens. */
#ifndef ADM_CORE_REPLAY_STAGE_PASS_H
#define ADM_CORE_REPLAY_STAGE_PASS_H

#include "core/replay/event_spool.h"
#include "core/replay/stage_record.h"
#include "core/replay/stage_timer.h"

/* Its scratch, and its own key codes. Rows of a layer step, in y, codes and packed alike:
 *
 *   [ query head 0 | query head 1 | ... | new key of KV head 0 | ... ]      n_q_heads + n_kv_heads rows */
typedef struct adm_stage_pass {
    const adm_session *session;
    const float *const *thresholds; /* [n_layers][3] of the session's contract */
    adm_probes *probes;
    adm_stage_record *record; /* where measurements go, and */
    adm_event_spool *events; /* ranges; NULL: nowhere */
    adm_advance *advance;
    adm_stage_timer timer;
    uint32_t seq_len; /* of the segment */
    bool is_timing; /* takes times; else runs under the probes */

    uint8_t **cache; /* [n_layers]: [n_kv_heads][n_tokens][d/4] */
    size_t n_encoded; /* tokens whose codes are in every cache */
    float *y; /* [rows][d], rows = max(n_q_heads + n_kv_heads, those of a chunk) */
    uint8_t *codes; /* the same rows */
    uint8_t *packed; /* [n_q_heads + n_kv_heads][d/4] */
    uint16_t *distance; /* [n_q_heads][n_tokens] */
    uint32_t *histogram;
    uint32_t *index; /* [n_q_heads][widest] selected tokens */
    uint32_t *n_selected; /* [n_q_heads] */
    double *score; /* [n_tokens] */
    float *out; /* [n_q_heads][d] */
} adm_stage_pass;

/* thresholds is borrowed, and not read while the session has no contract. record, events and advance likewise. */
adm_status adm_stage_pass_open(const adm_session *session, const float *const *thresholds, adm_stage_record *record,
                               adm_event_spool *events, adm_advance *advance, adm_stage_pass *pass, adm_error *err);
void adm_stage_pass_close(adm_stage_pass *pass);

/* Runs the stages of the segment's first steps under the probes. ADM_EINTERRUPTED when asked to stop. */
adm_status adm_stage_pass_run(adm_stage_pass *pass, adm_probes *probes, const adm_segment *segment, adm_error *err);

#endif
