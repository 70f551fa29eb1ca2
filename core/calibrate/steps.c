/* steps.c: splits the steps of a trace. */
#include "core/calibrate/steps.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/replay/session/segment.h"

static adm_status make_room(const adm_trace *trace, size_t n_segments, adm_some_steps *s, adm_error *err) {
    *s = (adm_some_steps){.trace = *trace};
    s->trace.n_steps = 0;
    adm_status status = adm_alloc(&s->seq_len, n_segments, sizeof *s->seq_len, "lengths", err);
    if (status == ADM_OK) status = adm_alloc(&s->position, trace->n_steps, sizeof *s->position, "steps", err);
    if (status == ADM_OK) status = adm_alloc(&s->layer, trace->n_layers, sizeof *s->layer, "layers", err);
    if (status == ADM_OK) status = adm_alloc(&s->q, trace->n_layers, sizeof *s->q, "queries", err);
    for (size_t i = 0; status == ADM_OK && i < trace->n_layers; i++) {
        const size_t step_bytes = (size_t)trace->shape.n_q_heads * trace->shape.head_dim *
                                  adm_dtype_bytes(trace->layers[i].q_dtype);
        status = adm_alloc(&s->q[i], trace->n_steps, step_bytes, "queries", err);
        s->layer[i] = trace->layers[i];
        s->layer[i].q = s->q[i];
        s->layer[i].o = NULL;
    }
    s->trace.layers = s->layer;
    s->trace.positions = s->position;
    return status;
}

static void add_steps(const adm_trace *trace, uint32_t seq_len, size_t first, size_t n, adm_some_steps *s) {
    if (n == 0) return;
    s->seq_len[s->n_seq_lens++] = seq_len;
    memcpy(s->position + s->trace.n_steps, trace->positions + first, n * sizeof *s->position);
    for (size_t i = 0; i < trace->n_layers; i++) {
        const size_t step_bytes = (size_t)trace->shape.n_q_heads * trace->shape.head_dim *
                                  adm_dtype_bytes(trace->layers[i].q_dtype);
        memcpy((char *)s->q[i] + s->trace.n_steps * step_bytes, (const char *)trace->layers[i].q + first * step_bytes,
               n * step_bytes);
    }
    s->trace.n_steps += n;
}

adm_status adm_steps_split(const adm_trace *trace, adm_some_steps *fit, adm_some_steps *held_out, adm_error *err) {
    adm_segment *segment = NULL;
    size_t n_segments = 0;
    *fit = *held_out = (adm_some_steps){.n_seq_lens = 0};
    adm_status status = adm_replay_segments(trace, NULL, 0, &segment, &n_segments, err);
    if (status == ADM_OK) status = make_room(trace, n_segments, fit, err);
    if (status == ADM_OK) status = make_room(trace, n_segments, held_out, err);
    for (size_t i = 0; status == ADM_OK && i < n_segments; i++) {
        const size_t n_fit = (segment[i].n_steps + 1) / 2;
        add_steps(trace, segment[i].seq_len, segment[i].first_step, n_fit, fit);
        add_steps(trace, segment[i].seq_len, segment[i].first_step + n_fit, segment[i].n_steps - n_fit, held_out);
    }
    if (status == ADM_OK && held_out->trace.n_steps == 0)
        status = adm_fail(err, ADM_EINPUT,
                          "%s: %zu step%s, none of which can be held out: a length needs two steps or more, of which half are "
                          "fitted to and the others measured",
                          trace->path, trace->n_steps, trace->n_steps == 1 ? "" : "s");
    adm_free(&segment);
    return status;
}

void adm_steps_free(adm_some_steps *s) {
    for (size_t i = 0; s->q != NULL && i < s->trace.n_layers; i++) adm_free(&s->q[i]);
    adm_free(&s->q);
    adm_free(&s->layer);
    adm_free(&s->position);
    adm_free(&s->seq_len);
}
