/* observe.c: brackets a profile's session, checks and timings; has its units counted (count.c) and traced (timeline.c). */
#include "kernels/profile/observe/observe.h"

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "kernels/profile/observe/count.h"
#include "kernels/profile/observe/timeline.h"

/* --- The session -------------------------------------------------------------------------------------------------- */

static const adm_range session_range = {.kind = ADM_RANGE_SESSION, .variant = "profile", .step = -1, .layer = -1};

adm_status adm_profile_observe_begin(adm_profile_observer *o, adm_gpu *gpu, adm_store *store, int64_t run_id, adm_error *err) {
    o->gpu = gpu;
    o->store = store;
    o->run_id = run_id;
    adm_status status = ADM_OK;
    if (o->counting.n_probes + o->tracing.n_probes > 0) status = adm_gpu_flusher_create(gpu, &o->flusher, err);
    if (status == ADM_OK && o->tracing.n_probes > 0) status = adm_profile_timeline_open(&o->timeline, err);
    if (status == ADM_OK) status = adm_probes_start(&o->session, err);
    if (status != ADM_OK) o->session.n_probes = 0; /* nothing for end() to stop */
    if (status == ADM_OK) status = adm_probes_start(&o->timing, err);
    if (status != ADM_OK) o->timing.n_probes = 0;
    adm_probes_begin(&o->session, &session_range);
    return status;
}

void adm_profile_observe_end(adm_profile_observer *o) {
    adm_probes_end(&o->session, &session_range);
    adm_probes_stop(&o->timing, NULL);
    adm_probes_stop(&o->session, NULL);
    adm_gpu_flusher_free(&o->flusher);
    adm_profile_timeline_close(&o->timeline);
    adm_free(&o->state);
}

/* --- Checks and timings ----------------------------------------------------------------------------------------- */

void adm_profile_check_begin(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    const adm_range range = adm_profile_range_of(unit, seq_len);
    if (o != NULL) adm_probes_begin(&o->session, &range);
}

void adm_profile_check_end(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    const adm_range range = adm_profile_range_of(unit, seq_len);
    if (o != NULL) adm_probes_end(&o->session, &range);
}

void adm_profile_timing_begin(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    if (o == NULL) return;
    const adm_range range = adm_profile_range_of(unit, seq_len);
    o->n_states = 0;
    o->no_state[0] = '\0';
    adm_probes_begin(&o->timing, &range);
}

void adm_profile_timing_end(adm_profile_observer *o, const adm_profile_unit *unit, uint32_t seq_len) {
    if (o == NULL) return;
    const adm_range range = adm_profile_range_of(unit, seq_len);
    adm_probes_end(&o->timing, &range);
}

adm_status adm_profile_observe(adm_profile_observer *o, const adm_profile_subject *subject, const adm_profile_unit *units,
                               size_t n_units, adm_error *err) {
    adm_status status = ADM_OK;
    if (o == NULL || n_units == 0) return ADM_OK;
    const uint64_t start_ns = adm_clock_ns();
    if (o->counting.n_probes > 0) status = adm_profile_count(o, subject, units, n_units, err);
    const uint64_t counted_ns = adm_clock_ns();
    if (status == ADM_OK && o->tracing.n_probes > 0) status = adm_profile_timeline_take(o, subject, units, n_units, err);
    o->counting_ns += counted_ns - start_ns;
    o->tracing_ns += adm_clock_ns() - counted_ns;
    o->n_configurations++;
    if (status == ADM_OK && o->sink_status != ADM_OK) {
        status = o->sink_status;
        if (err != NULL) *err = o->sink_error;
    }
    return status;
}
