/* segment.h: which steps of a trace are replayed as which sequence length. */
#ifndef ADM_CORE_REPLAY_SESSION_SEGMENT_H
#define ADM_CORE_REPLAY_SESSION_SEGMENT_H

#include <stdbool.h>

#include "core/contract/trace.h"

/* Steps [first_step, first_step + n_steps) of a trace, which are replayed as one sequence length. */
typedef struct adm_segment {
    uint32_t seq_len;
    size_t first_step, n_steps;
} adm_segment;

/* Finds the segments of a trace: one for each requested length, or, with n_seq_lens 0, as many as cover every step, each
 * starting at the first step that none before covers. ADM_EINPUT if a requested length has no step; the message lists where
 * the steps are. Release *segments with adm_free(). */
adm_status adm_replay_segments(const adm_trace *trace, const uint32_t *seq_lens, size_t n_seq_lens, adm_segment **segments,
                               size_t *n_segments, adm_error *err);

/* Tokens cached when the segment ends, and those before its first step. */
size_t adm_segment_tokens(const adm_trace *trace, const adm_segment *segment);
size_t adm_segment_prompt(const adm_trace *trace, const adm_segment *segment);

/* Whether the trace holds the query of every token up to the segment's last step. */
bool adm_segment_is_whole(const adm_trace *trace, const adm_segment *segment);

#endif
