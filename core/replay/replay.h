/* replay.h: replays a decode session on the host: runs the six stages of a step, times them, and measures how good the
 * selection is against dense attention in double precision.
 *
 *   session (one trace)
 *     segment (one sequence length L: the steps with L .. L + max(64, L/8) - 1 cached tokens before them)
 *       stage pass, one thread, under the probes: the first n_timed_steps steps                        stage_pass.h
 *         step, once under the probes and once more to time its stages                                stage_timer.h
 *           layer: hadamard, bucket, pack, append, distance, then per budget topk and attention; and dense
 *       quality pass, all threads: every step, layer by layer                                          quality_pass.h
 *         one task a few steps and KV head: their dense references together, then each step, every variant at every budget
 *     what is measured goes to the store, a batch a segment                                            recorder.h
 *
 * Stages are timed alone on the machine, so that their figures do not depend on the number of threads; and no value does
 * (core/system/threads.h). The tokens between two steps (and the prompt before the first) are encoded in bulk. Segments know
 * nothing of each other, so that a replay may leave out those that the run already holds. */
#ifndef ADM_CORE_REPLAY_REPLAY_H
#define ADM_CORE_REPLAY_REPLAY_H

#include "core/replay/session/options.h"
#include "core/replay/session/segment.h"
#include "core/store/store.h"

/* Checks the options against the trace: everything that adm_replay_open() would call ADM_EINPUT, without a store. */
adm_status adm_replay_check(const adm_trace *trace, const adm_replay_options *options, adm_error *err);

typedef struct adm_replay adm_replay;

/* Checks, calibrates, and allocates all that the replay needs. Everything given is borrowed until adm_replay_close(). The
 * trace's tensors must be finite. */
adm_status adm_replay_open(const adm_trace *trace, const adm_replay_options *options, adm_store *store, int64_t run_id,
                           adm_replay **out, adm_error *err);

/* The sink to give to a timing probe, with the adm_replay as its user pointer: the timeline's ranges. */
void adm_replay_range_sink(void *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns);

/* The sink to give to a counting probe, in the same way, when options.counters are that probe's. */
void adm_replay_counter_sink(void *replay, const adm_range *range, const double *value);

/* Runs, under the probes, every segment that the run does not already hold; where no counter of options.counters counts, it
 * runs no step and only stores the reasons. On ADM_EINTERRUPTED or failure the segments flushed so far are kept. */
adm_status adm_replay_run(adm_replay *replay, adm_probes *probes, adm_error *err);

void adm_replay_close(adm_replay **replay);

#endif
