/* state.c: the device's state while a unit is timed; see state.h. */
#include "kernels/profile/observe/state.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"

void adm_profile_state_sink(void *observer, const adm_range *range, const adm_device_state *state, size_t n,
                            const char *reason) {
    adm_profile_observer *o = observer;
    (void)range;
    adm_free(&o->state);
    o->n_states = 0;
    snprintf(o->no_state, sizeof o->no_state, "%s", reason != NULL ? reason : "");
    if (n == 0) return;
    if (adm_alloc(&o->state, n, sizeof *o->state, "device states", NULL) != ADM_OK) {
        snprintf(o->no_state, sizeof o->no_state, "no memory was left to keep them");
        return;
    }
    memcpy(o->state, state, n * sizeof *state);
    o->n_states = n;
}

void adm_profile_throttle_marks(const adm_profile_observer *o, uint64_t start_ns, const uint64_t *ends_ns, size_t n_samples,
                                int32_t *mark) {
    size_t at = 0;
    for (size_t i = 0; i < n_samples; i++) {
        uint64_t from = i > 0 ? ends_ns[i - 1] : start_ns;
        mark[i] = -1;
        if (o == NULL || o->n_states == 0) continue;
        /* The last reading before the sample, those during it, and the first after it. */
        while (at + 1 < o->n_states && o->state[at + 1].at_ns <= from) at++;
        for (size_t s = at; s < o->n_states; s++) {
            if (o->state[s].throttle >= 0) mark[i] = (mark[i] < 0 ? 0 : mark[i]) | o->state[s].throttle;
            if (o->state[s].at_ns >= ends_ns[i]) break;
        }
    }
}

adm_status adm_profile_put_state(adm_profile_observer *o, int64_t config_id, adm_stage stage, adm_error *err) {
    static const adm_metric metric[] = {
        {"sm_clock_hz", "Hz", "none", "Clock of the SMs before, during and after the timing"},
        {"memory_clock_hz", "Hz", "none", "Clock of the device memory before, during and after the timing"},
        {"power_w", "W", "none",
         "Power drawn by the device before, during and after the timing. Caveat: a mean over the "
         "last second or less, by the device's own sensor"},
        {"temperature_c", "degC", "none", "Temperature of the device before, during and after the timing"},
        {"throttled_ratio", "ratio", "lower",
         "Share of the readings in which power, heat or a hardware signal held the "
         "clocks down"}};
    if (o == NULL || (o->n_states == 0 && o->no_state[0] == '\0')) return ADM_OK; /* nobody watches */
    double *values = NULL;
    adm_status status = adm_alloc(&values, 2 * o->n_states + 1, sizeof *values, "device states", err);
    for (size_t i = 0; status == ADM_OK && i < sizeof metric / sizeof metric[0]; i++) {
        size_t n = 0;
        for (size_t s = 0; s < o->n_states; s++) {
            const adm_device_state *state = &o->state[s];
            const double all[] = {state->sm_clock_hz, state->memory_clock_hz, state->power_w, state->temperature_c,
                                  state->throttle < 0 ? (double)NAN : (state->throttle & ADM_THROTTLED) != 0};
            if (!isnan(all[i])) values[n++] = all[i];
        }
        double *sorted = values + n;
        memcpy(sorted, values, n * sizeof *values);
        adm_distribution distribution = adm_distribution_of(sorted, n);
        adm_measurement m = {.run_id = o->run_id,
                             .config_id = config_id,
                             .source = "gpu",
                             .stage = adm_stage_name(stage),
                             .layer = -1,
                             .head = -1,
                             .metric = &metric[i],
                             .status = "skipped",
                             .reason = o->n_states == 0 ? o->no_state : "the device does not tell"};
        if (n > 0) {
            m.status = "ok";
            m.reason = NULL;
            m.distribution = &distribution;
            m.samples = values;
            m.n_samples = n;
        }
        status = adm_store_measurement(o->store, &m, err);
    }
    adm_free(&values);
    return status;
}
