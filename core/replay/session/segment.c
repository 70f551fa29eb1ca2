/* segment.c: which steps of a trace are replayed as which sequence length. */
#include "core/replay/session/segment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

/* Steps up to an eighth beyond a length still stand for it; short lengths take at least 64 steps' worth. */
static uint64_t segment_end(uint64_t seq_len) { return seq_len + (seq_len / 8 > 64 ? seq_len / 8 : 64); }

/* "1024-1087, 2048-2111": the positions of a trace as runs. */
static void describe_positions(const adm_trace *trace, char *text, size_t text_bytes) {
    size_t length = 0;
    text[0] = '\0';
    for (size_t s = 0; s < trace->n_steps && length < text_bytes;) {
        size_t last = s;
        while (last + 1 < trace->n_steps && trace->positions[last + 1] == trace->positions[last] + 1) last++;
        int written = snprintf(text + length, text_bytes - length, "%s%" PRId64 "-%" PRId64, s > 0 ? ", " : "",
                               trace->positions[s], trace->positions[last]);
        length += written > 0 ? (size_t)written : 0;
        s = last + 1;
    }
    if (length >= text_bytes) memcpy(text + text_bytes - 4, "...", 4);
}

adm_status adm_replay_segments(const adm_trace *trace, const uint32_t *seq_lens, size_t n_seq_lens, adm_segment **segments,
                               size_t *n_segments, adm_error *err) {
    *n_segments = 0;
    adm_status status = adm_alloc(segments, n_seq_lens > 0 ? n_seq_lens : trace->n_steps, sizeof **segments,
                                  "segments of the trace", err);
    if (status != ADM_OK) return status;
    size_t step = 0;
    for (size_t i = 0; n_seq_lens > 0 ? i < n_seq_lens : step < trace->n_steps; i++) {
        uint64_t seq_len = n_seq_lens > 0 ? seq_lens[i] : (uint64_t)trace->positions[step];
        uint64_t end = segment_end(seq_len);
        if (i + 1 < n_seq_lens && seq_lens[i + 1] < end) end = seq_lens[i + 1];
        while (step < trace->n_steps && (uint64_t)trace->positions[step] < seq_len) step++;
        adm_segment segment = {(uint32_t)seq_len, step, 0};
        while (step < trace->n_steps && (uint64_t)trace->positions[step] < end) step++;
        segment.n_steps = step - segment.first_step;
        if (segment.n_steps == 0) {
            char positions[256];
            describe_positions(trace, positions, sizeof positions);
            adm_free(segments);
            *n_segments = 0;
            return adm_fail(err, ADM_EINPUT,
                            "%s: no decode step has %" PRIu64 " to %" PRIu64 " cached tokens; its steps are at %s", trace->path,
                            seq_len, end - 1, positions);
        }
        (*segments)[(*n_segments)++] = segment;
    }
    return ADM_OK;
}

size_t adm_segment_tokens(const adm_trace *trace, const adm_segment *segment) {
    return (size_t)trace->positions[segment->first_step + segment->n_steps - 1] + 1;
}

size_t adm_segment_prompt(const adm_trace *trace, const adm_segment *segment) {
    return (size_t)trace->positions[segment->first_step];
}

/* Positions ascend strictly from 0 on, so that none is left out where the last is its own number. */
bool adm_segment_is_whole(const adm_trace *trace, const adm_segment *segment) {
    const size_t last = segment->first_step + segment->n_steps - 1;
    return trace->positions[last] == (int64_t)last;
}
