/* options.h: what a replay does, and whom it asks and tells meanwhile. Everything is borrowed. */
#ifndef ADM_CORE_REPLAY_SESSION_OPTIONS_H
#define ADM_CORE_REPLAY_SESSION_OPTIONS_H

#include "core/contract/probe.h"
#include "core/contract/trace.h"
#include "core/policy/policy.h"
#include "core/replay/session/only.h"
#include "core/replay/session/quality.h"
#include "core/replay/session/target.h"

typedef struct adm_replay_options {
    const adm_host_pipeline *pipeline;
    const adm_quality_impl *quality;
    size_t n_threads;           /* >= 1; fewer run where their scratch would pass 1 GiB */
    size_t max_held_bytes;      /* of one layer's codes in memory, fewer KV heads at a time if need be; 0: 64 MiB */
    uint32_t n_timed_steps;     /* of each length, in the stage pass; 0: no stage is timed */
    const uint32_t *budgets;    /* ascending, >= 1 */
    size_t n_budgets;
    const uint32_t *seq_lens;   /* ascending; none: the trace's own (see adm_replay_segments()) */
    size_t n_seq_lens;
    const uint32_t *layers;     /* the model's layer numbers; none: all of the trace */
    size_t n_layers;
    const adm_variant *variants; /* in the order of adm_sweep_parse(); stages are timed, by its rule, if the first of adamas
                                    is the contract (adm_coding_is_contract()) */
    size_t n_variants;
    uint32_t n_dense_layers;    /* the model's first layers attend densely: they are not replayed */
    double eps;                 /* of the metric eps_exceed */
    const adm_target *targets;
    size_t n_targets;
    const adm_only *only;       /* [n_only] the times to take, and no quality; n_only 0: all of both */
    size_t n_only;
    bool timeline;              /* keep every range as an event */
    const bool *is_elsewhere;   /* [segments of the trace] that another shard replays; NULL: none */
    const adm_counter *counters; /* of the counting probe: the replay then keeps what they count for each stage, and neither */
    size_t n_counters; /* quality nor times; 0: an ordinary replay */

    /* Each may be NULL. */
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total); /* units: layer steps */
    bool (*should_stop)(void); /* asked before every step and task, in the calling thread */
    adm_status (*check_input)(const adm_trace *trace, adm_error *err); /* before a segment is stored: fails if the trace is no
                                                                          longer what it was */
    adm_status (*identify_input)(const adm_trace *trace, adm_error *err); /* once, before the trace's xxh128, which it sets, is
                                                                             read */
    void *user;
} adm_replay_options;

#endif
