/* trace_source.h: inputs of a timed case from a recorded session instead of random ones: the queries, keys, values, codes,
 * distances and selections of one layer at one length.
 *
 *   K, V      the layer's first n_tokens, the same for the whole session
 *   queries   of a step drawn anew for every sample
 *   codes, distances, selection    of those, by the registry's rows, with thresholds learnt from the layer's keys */
#ifndef ADM_KERNELS_TUNE_HOST_TRACE_SOURCE_H
#define ADM_KERNELS_TUNE_HOST_TRACE_SOURCE_H

#include "core/contract/trace.h"
#include "core/stats/rng.h"
#include "kernels/tune/host/host_case.h"

typedef struct adm_trace_source adm_trace_source;

/* Where in the trace. */
typedef struct adm_trace_place {
    const adm_trace_layer *layer;
    size_t first_step, n_steps; /* whose queries are drawn */
    uint32_t n_tokens;          /* 1 .. trace->n_tokens */
} adm_trace_place;

/* Encodes the layer's keys. The trace is borrowed. Release after a failure too. */
adm_status adm_trace_source_open(const adm_trace *trace, const adm_trace_place *place, adm_trace_source **out, adm_error *err);
void adm_trace_source_close(adm_trace_source **source);

/* The thresholds [3] of the layer's codes. */
const float *adm_trace_source_thresholds(const adm_trace_source *source);

/* Fills the inputs of every call of a timed case whose shape and length are the source's. refill: all but K, V and the codes of
 * keys, which are there already. */
void adm_trace_source_fill(adm_trace_source *source, adm_host_case *c, adm_rng *rng, bool refill);

#endif
