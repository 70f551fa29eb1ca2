/* replay_candidates.h: kernels of one's own, and further rows of the registry, on the sessions of `adamas replay`: judged and
 * timed beside the rows that the replay uses, in processes of their own, on the queries, keys and values of the trace. */
#ifndef ADM_KERNELS_TUNE_REPLAY_CANDIDATES_H
#define ADM_KERNELS_TUNE_REPLAY_CANDIDATES_H

#include "core/replay/session/options.h"
#include "core/store/store.h"
#include "kernels/tune/bring.h"
#include "kernels/tune/tally.h"

typedef struct adm_replay_candidates {
    adm_tune_session *session; /* [n_sessions] one per stage */
    size_t n_sessions;
    adm_tune_tally tally;      /* candidates and rows, over all configurations */
} adm_replay_candidates;

/* Loads and compiles the candidates, and takes those rows of the other pipelines [n_others] that the replay's pipeline does not
 * use. ADM_EINPUT: a candidate of the GPU. Nothing to judge: n_sessions is 0. Release after a failure too. */
adm_status adm_replay_candidates_open(const adm_bring *bring, const adm_host_pipeline *pipeline,
                                      const adm_host_pipeline *others, size_t n_others, bool quiet, adm_replay_candidates *out,
                                      adm_error *err);
void adm_replay_candidates_close(adm_replay_candidates *candidates);

/* Judges all of them at every length and budget of a replay of this trace, but for lengths that another shard replays, and
 * stores what comes of it. */
adm_status adm_replay_candidates_run(adm_replay_candidates *candidates, const adm_trace *trace,
                                     const adm_replay_options *options, adm_store *store, int64_t run_id, adm_error *err);

#endif
