/* profile_observe.h: a GPU profile under observation. Which probes there are is not known here: whoever runs a profile
 * attaches them to four lists, and gives them the sinks below.
 *
 *   session    from the first configuration to the last; and each unit's check      ranges for tools (NVTX)
 *   timing     each unit's timing                              the same, and the device's state
 *   counting   after the timing of a configuration: every unit once a pass, on set 0, state put back and L2 flushed (or
 *              warmed) before each                             GPU counters
 *   tracing    then every unit a few times in each launch mode, back to back, on set after set       GPU activities
 *
 * Nothing is timed while something counts or traces. What a probe cannot do is stored as skipped with its reason, and the
 * rest of the profile goes on. */
#ifndef ADM_KERNELS_PROFILE_PROFILE_OBSERVE_H
#define ADM_KERNELS_PROFILE_PROFILE_OBSERVE_H

#include "core/contract/probe.h"
#include "core/store/store.h"
#include "kernels/gpu/observe.h"
#include "kernels/profile/profile.h"
#include "kernels/registry.h"

typedef struct adm_profile_timeline adm_profile_timeline;

typedef struct adm_profile_observer {
    adm_probes session, timing, counting, tracing;  /* zero-initialised, then attached to */
    const adm_counter *counters;                    /* [n_counters] of the probe in `counting` */
    size_t n_counters;
    uint64_t (*n_dropped)(void *trace_user);        /* records that the last trace lost; NULL: not known */
    void *trace_user;
    char uncounted[320], untraced[320];             /* out: the first reason why not; "" for none */
    uint64_t counting_ns, tracing_ns;               /* out: wall time of all configurations */
    size_t n_configurations;                        /* out */

    /* The rest is adm_profile_*'s own. */
    adm_gpu *gpu;
    adm_store *store;
    int64_t run_id;
    adm_gpu_flusher *flusher;
    adm_status sink_status;                         /* the first failure inside a sink */
    adm_error sink_error;
    adm_device_state *state;                        /* [n_states] of the unit timed last */
    size_t n_states;
    char no_state[256];
    adm_range *range;                               /* [n_ranges] being counted; configuration 0 once delivered */
    size_t n_ranges;
    adm_profile_timeline *timeline;
} adm_profile_observer;

/* The sinks; user is the observer. */
adm_counter_sink adm_profile_counter_sink;
adm_activity_sink adm_profile_activity_sink;
adm_range_sink adm_profile_range_sink;   /* of the launching side, while tracing */
adm_state_sink adm_profile_state_sink;

/* Around adm_profile_run(). end() is fine after a failed begin(). */
adm_status adm_profile_observe_begin(adm_profile_observer *observer, adm_gpu *gpu, adm_store *store, int64_t run_id,
                                     adm_error *err);
void adm_profile_observe_end(adm_profile_observer *observer);

/* Around the check of one unit, and around its timing; observer NULL: nothing happens. */
void adm_profile_check_begin(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);
void adm_profile_check_end(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);
void adm_profile_timing_begin(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);
void adm_profile_timing_end(adm_profile_observer *observer, const adm_profile_unit *unit, uint32_t seq_len);

/* What NVML saw while the unit was timed: mark [n_samples] for adm_measurement.throttle, -1 where nothing was seen;
 * ends_ns [n_samples] are adm_clock_ns() at the end of each sample, the first began at start_ns. */
void adm_profile_throttle_marks(const adm_profile_observer *observer, uint64_t start_ns, const uint64_t *ends_ns,
                                size_t n_samples, int32_t *mark);

/* Stores the device's state during the unit timed last, under its configuration. */
adm_status adm_profile_put_state(adm_profile_observer *observer, int64_t config_id, adm_stage stage, adm_error *err);

/* A configuration whose units are to be counted and traced. */
typedef struct adm_profile_scene {
    adm_gpu_case *gpu_case;
    uint32_t n_sets;
    adm_select_rule rule;                 /* with any budget: that of a unit replaces it */
    const adm_profile_unit *pipeline;     /* the six stages, which put the state of a set back */
    bool cold;
    const bool *launch;                   /* [2] by adm_gpu_launch_mode */
    uint32_t seq_len;
    const double *timed_ns;               /* [n_units] median of a unit's timing, for counters that compare; 0: not timed */
    adm_config (*config)(void *user, const adm_profile_unit *unit, const char *launch);
    adm_work (*work)(void *user, const adm_profile_unit *unit, double *write_bytes);
    void *user;
} adm_profile_scene;

/* Counts and traces the units, as far as probes are attached. Fails only where the store does. */
adm_status adm_profile_observe(adm_profile_observer *observer, const adm_profile_scene *scene, const adm_profile_unit *units,
                               size_t n_units, adm_error *err);

#endif
