/* observer.h: a GPU profile under observation. This room knows no probe: the caller of a profile attaches probes to four lists
 * and gives them the sinks of state.h, count.h and timeline.h.
 *
 *   session    from the first configuration to the last; and each unit's check      ranges for tools (NVTX)
 *   timing     each unit's timing                              the same, and the device's state
 *   counting   after the timing of a configuration: every unit once per pass, on set 0, with its state restored and the L2
 *              flushed (or warmed) before each                 GPU counters
 *   tracing    then every unit a few times in each launch mode, back to back, on set after set       GPU activities
 *
 * Nothing is timed while something counts or traces. What a probe cannot do is stored as skipped with its reason, and the
 * rest of the profile goes on. */
#ifndef ADM_KERNELS_PROFILE_OBSERVE_OBSERVER_H
#define ADM_KERNELS_PROFILE_OBSERVE_OBSERVER_H

#include "core/contract/probe.h"
#include "core/store/store.h"
#include "kernels/gpu/observe.h"
#include "kernels/profile/grid/grid.h"
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

/* What is observed: a configuration whose units are to be counted and traced. */
typedef struct adm_profile_subject {
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
} adm_profile_subject;

/* The range of a unit, as the probes see it. */
adm_range adm_profile_range_of(const adm_profile_unit *unit, uint32_t seq_len);

/* Sets the unit's budget and leaves on a set what the stages before it hand over. Does not wait. */
adm_status adm_profile_prepare_set(const adm_profile_subject *subject, const adm_profile_unit *unit, uint32_t set,
                                   adm_error *err);

#endif
