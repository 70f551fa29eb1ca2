/* trace.h: a decode session (core/contract/trace.h) as the input of a GPU profile: chosen layers and lengths, in the type
 * that the kernels take, with each layer's thresholds. */
#ifndef ADM_KERNELS_PROFILE_GRID_TRACE_H
#define ADM_KERNELS_PROFILE_GRID_TRACE_H

#include "core/policy/calibration.h"
#include "core/policy/thresholds.h"
#include "core/contract/trace.h"
#include "core/store/store.h"
#include "kernels/profile/grid/grid.h"

typedef struct adm_profile_trace adm_profile_trace;

/* What of a trace is profiled. */
typedef struct adm_profile_trace_options {
    const uint32_t *layers; /* the model's layer numbers; none: all of the trace */
    size_t n_layers;
    const uint32_t *seq_lens; /* ascending, as adm_replay_segments() takes them; none: all its steps, likewise */
    size_t n_seq_lens;
    const adm_calibration *calibration; /* its thresholds for each layer, in place of these; NULL: none; borrowed */
    bool by_channel; /* also channels, for asym4 */
    adm_threshold_spec thresholds; /* learnt, where per layer, from the tokens before the first chosen step */
    adm_dtype dtype; /* F16 or BF16: tensors of another type are converted */
} adm_profile_trace_options;

/* Borrows the trace while it lives; it must be finite. ADM_EINPUT: a layer or length that the trace does not have, more
 * tokens than the kernels take, a value beyond F16, thresholds with nothing to learn from. */
adm_status adm_profile_trace_open(const adm_trace *trace, const adm_profile_trace_options *options, adm_profile_trace **out,
                                  adm_error *err);
void adm_profile_trace_close(adm_profile_trace **profile_trace);

/* The lengths, ascending; they live as long as the profile trace. */
const adm_profile_session *adm_profile_trace_sessions(const adm_profile_trace *profile_trace, size_t *n);

/* Stores the trace's row and the thresholds of each layer. */
adm_status adm_profile_trace_record(const adm_profile_trace *profile_trace, adm_store *store, int64_t run_id, int64_t *trace_id,
                                    adm_error *err);

#endif
