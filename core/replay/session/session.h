/* session.h: what is replayed: the trace, the options, and what follows from the two. It does not change while a replay runs,
 * and both passes and the recorder read it. */
#ifndef ADM_CORE_REPLAY_SESSION_H
#define ADM_CORE_REPLAY_SESSION_H

#include "core/policy/coding.h"
#include "core/replay/session/options.h"
#include "core/replay/session/segment.h"

/* Rows that are always measured, since others are measured against them. */
enum { ADM_ROW_DENSE, ADM_ROW_ORACLE, ADM_N_FIXED_ROWS };

typedef struct adm_session {
    const adm_trace *trace;
    adm_replay_options options;
    uint32_t group; /* query heads of a KV head */
    const adm_trace_layer **layer; /* [n_layers] those replayed */
    size_t n_layers;
    adm_segment *segment;
    size_t n_segments;
    adm_variant *row; /* [n_rows] what is measured: dense, the oracle of each head, then the other variants */
    bool *is_kept; /* [n_rows] its values are wanted */
    size_t n_rows;
    uint16_t *level_of;
    adm_budgets budgets;
    const adm_coding *contract; /* of row contract_row, the first of adamas; NULL: its stages are not timed */
    size_t contract_row;
} adm_session;

/* Checks the options against the trace. On failure the session is closed. */
adm_status adm_session_open(const adm_trace *trace, const adm_replay_options *options, adm_session *session, adm_error *err);
void adm_session_close(adm_session *session);

/* Rows of tensors, from token or step on. */
const unsigned char *adm_session_keys(const adm_session *session, const adm_trace_layer *layer, size_t kv_head, size_t token);
const unsigned char *adm_session_values(const adm_session *session, const adm_trace_layer *layer, size_t kv_head);
const unsigned char *adm_session_queries(const adm_session *session, const adm_trace_layer *layer, size_t step);

/* Layer steps done so far, for options.on_progress. */
typedef struct adm_advance {
    uint64_t n_done, n_total;
} adm_advance;

void adm_session_advance(const adm_session *session, adm_advance *advance, uint64_t n);

/* Whether quality is measured: not where it is counted, nor where a few times are all that is asked for. */
bool adm_session_takes_quality(const adm_session *session);

/* Layer steps of a segment. */
uint64_t adm_session_work(const adm_session *session, const adm_segment *segment);

/* Whether options.should_stop says so; what to say then. */
bool adm_session_should_stop(const adm_session *session);
adm_status adm_session_interrupted(const adm_session *session, const adm_segment *segment, adm_error *err);

#endif
