/* replay.h: replays a decode session on the host: runs the six stages of a step, times them, and measures how good the
 * selection is against dense attention in double precision.
 *
 *   session (one trace)
 *     segment (one sequence length L: the steps with L .. L + max(64, L/8) - 1 cached tokens before them)
 *       stage pass, one thread, under the probes: the first n_timed_steps steps
 *         step, once under the probes and once more to time its stages, see replay_time.c
 *           layer: hadamard, bucket, pack, append, distance, then per budget topk and attention; and dense
 *       quality pass, all threads: every step, layer by layer
 *         one task a few steps and KV head: their dense references together, then each step, every policy at every budget
 *
 * Stages are timed alone on the machine, so that their figures do not depend on the number of threads; and no value does
 * (core/base/threads.h). The tokens between two steps (and the prompt before the first) are encoded in bulk. What is measured
 * goes to the store, a batch a segment. Segments know nothing of each other, so that a replay may leave out those that the
 * run already holds. */
#ifndef ADM_CORE_REPLAY_REPLAY_H
#define ADM_CORE_REPLAY_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/policy/coding.h"
#include "core/policy/policy.h"
#include "core/base/error.h"
#include "core/contract/probe.h"
#include "core/replay/quality.h"
#include "core/contract/stage.h"
#include "core/store/store.h"
#include "core/contract/trace.h"

/* An adaptive budget: the smallest at which a policy's selection for a head and step reaches a value. */
typedef enum adm_target_kind { ADM_TARGET_MASS, ADM_TARGET_OUTPUT_REL_L2 } adm_target_kind;

typedef struct adm_target {
    adm_target_kind kind;
    double value;      /* mass at least, or output_rel_l2 at most */
} adm_target;

/* Parses "mass=0.99" or "output_rel_l2=0.05". ADM_EINPUT: another metric, or a value outside (0, 1]. */
adm_status adm_target_parse(const char *text, adm_target *target, adm_error *err);

enum { ADM_TARGET_NAME_BYTES = 64 };

/* The metric under which the database has it: "budget_for_mass_0.99". name: ADM_TARGET_NAME_BYTES. */
void adm_target_name(const adm_target *target, char *name);

typedef struct adm_replay_options {
    const adm_host_pipeline *pipeline;
    const adm_quality_impl *quality;
    size_t n_threads;                     /* >= 1; fewer run where their scratch would pass 1 GiB */
    uint32_t n_timed_steps;               /* of each length, in the stage pass; 0: no stage is timed */
    const uint32_t *budgets;              /* ascending, >= 1 */
    size_t n_budgets;
    const uint32_t *seq_lens;             /* ascending; none: the trace's own (see adm_replay_segments()) */
    size_t n_seq_lens;
    const uint32_t *layers;               /* the model's layer numbers; none: all of the trace */
    size_t n_layers;
    bool policy[ADM_N_POLICIES];
    bool select_group[ADM_N_POLICIES];    /* of oracle, quest, streaming and h2o: a selection per GQA group, and ... */
    bool select_head[ADM_N_POLICIES];     /* ... per head; neither counts as per head */
    const adm_coding *codings; /* the variants of `adamas`; stages are timed, by its rule, if the first is the contract */
    size_t n_codings;
    uint32_t n_dense_layers; /* the model's first layers attend densely: they are not replayed */
    double eps; /* of the metric eps_exceed */
    const adm_target *targets;
    size_t n_targets;
    uint64_t seed; /* of `random` */
    bool timeline; /* keep every range as an event */
    const adm_counter *counters; /* of the counting probe: the replay then keeps what they count for each */
    size_t n_counters; /* stage, and neither quality nor times; 0: an ordinary replay */
    void (*on_progress)(void *user, uint64_t n_done, uint64_t n_total); /* may be NULL; units: layer steps */
    bool (*should_stop)(void); /* may be NULL; asked before every step and task, in the calling thread */
    adm_status (*check_input)(const adm_trace *trace, adm_error *err); /* may be NULL; asked before a segment is stored:
                                                                          fails if the trace is no longer what it was */
    adm_status (*identify_input)(const adm_trace *trace, adm_error *err); /* may be NULL; asked once, before the trace's xxh128
                                                                             is read, which it sets */
    void *user;
} adm_replay_options;

/* Steps [first, first + n) of a trace that are replayed as one sequence length. */
typedef struct adm_segment {
    uint32_t seq_len;
    size_t first_step, n_steps;
} adm_segment;

/* Finds the segments of a trace: one for each requested length, or, with n_seq_lens 0, as many as cover every step,
 * each starting at the first step that none before covers. ADM_EINPUT if a requested length has no step; the message
 * lists where the steps are. Release *segments with adm_free(). */
adm_status adm_replay_segments(const adm_trace *trace, const uint32_t *seq_lens, size_t n_seq_lens, adm_segment **segments,
                               size_t *n_segments, adm_error *err);

/* Checks the options against the trace: everything that adm_replay_open() would call ADM_EINPUT, without a store. */
adm_status adm_replay_check(const adm_trace *trace, const adm_replay_options *options, adm_error *err);

typedef struct adm_replay adm_replay;

/* Checks, calibrates, and allocates all that the replay needs. Everything given is borrowed until adm_replay_close().
 * The trace's tensors must be finite. */
adm_status adm_replay_open(const adm_trace *trace, const adm_replay_options *options, adm_store *store, int64_t run_id,
                           adm_replay **out, adm_error *err);

/* The sink to give to a timing probe, with the adm_replay as its user pointer: the timeline's ranges. */
void adm_replay_range_sink(void *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns);

/* The sink to give to a counting probe, in the same way, when options.counters are that probe's. */
void adm_replay_counter_sink(void *replay, const adm_range *range, const double *value);

/* Runs the session under the probes, but for the segments that the run holds already; where no counter of options.counters counts, it runs no step and only stores the
 * reasons. On ADM_EINTERRUPTED or failure the segments flushed so far are kept. */
adm_status adm_replay_run(adm_replay *replay, adm_probes *probes, adm_error *err);

/* Segments that the run held already and that were left out. */
size_t adm_replay_n_resumed(const adm_replay *replay);

void adm_replay_close(adm_replay **replay);

#endif
