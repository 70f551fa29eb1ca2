/* steps.h: a trace with some of its steps alone: those to fit to, and those to measure on. */
#ifndef ADM_CORE_CALIBRATE_STEPS_H
#define ADM_CORE_CALIBRATE_STEPS_H

#include "core/contract/trace.h"

/* Steps of a trace as a trace. Keys and values are the trace's own; queries are copied. */
typedef struct adm_some_steps {
    adm_trace trace; /* name and hash are those of the whole */
    uint32_t *seq_len; /* [n_seq_lens] the lengths that have steps, as the whole trace has them */
    size_t n_seq_lens;
    adm_trace_layer *layer;
    int64_t *position;
    void **q; /* [n_layers] */
} adm_some_steps;

/* Splits every length's steps (core/replay/session/segment.h): the first half, and the middle one, is to fit to, the second is
 * held out. Steps next to each other are alike, which every second step would not notice. ADM_EINPUT if nothing is held out.
 * Release both, also after a failure. */
adm_status adm_steps_split(const adm_trace *trace, adm_some_steps *fit, adm_some_steps *held_out, adm_error *err);
void adm_steps_free(adm_some_steps *steps);

#endif
