/* figures.h: what a run knows of one GPU stage in one configuration: its metrics by name, and what follows from them.
 *
 *   over_floor_ns         time_ns - floor_ns
 *   short_scoreboard_ns, barrier_ns, mio_throttle_ns, lg_throttle_ns, math_pipe_throttle_ns, wait_ns
 *                         the stall's share of the time: what is left without it is at least the rest
 *   has_stalls, top_stall_share    1 if stalls were counted, else 0; the share of the reason that warps wait for the most
 *   encode_apart_ns, encode_fused_ns    Hadamard to append as four launches, and as one, in the same configuration; of a stage
 *                         of the four, where that is less; encode_saved_ns: the stage's share of the difference
 *   has_encode_fused      1 where they are known, else 0
 *   extra_reads_ns        what bytes read beyond the model cost at the measured read bandwidth
 *   launch_cost_ns        0.5 us for each kernel of a call but the first
 *   registers, block_threads, grid_blocks    of the largest kernel of the timeline
 *   sm_active_share, sm_idle_ns    how much of the time an SM has a warp, over all SMs; and what is left of the time
 *   waves, last_wave_share, tail_ns    how often the grid fills the device, how full the last time is, and what that costs;
 *                         of the chips in figures.c
 *   phase_X_share         of the sum of a step's phases, which are phase_X_ns (`profile --phases`)
 *   six_ns, step_ns       the six stages one after another, and the fastest step, in the same configuration */
#ifndef ADM_ANALYSIS_EXPLAIN_FIGURES_H
#define ADM_ANALYSIS_EXPLAIN_FIGURES_H

#include <stdint.h>

#include "analysis/explain/rules.h"
#include "core/store/store.h"

/* What is explained. 0 or NULL: whichever the run has, the largest of it. */
typedef struct adm_explain_subject {
    int64_t run_id;          /* 0: the newest that has the stage on a GPU */
    const char *stage;
    const char *variant;     /* NULL: the fastest that computes L1 */
    uint32_t seq_len, kv_heads, batch, budget;
} adm_explain_subject;

/* What was found. */
typedef struct adm_explained {
    int64_t run_id;
    int64_t lender_id; /* the run of the same build and GPU that counters and timeline are of; 0: run_id has its own */
    int64_t stalls_kv_heads;     /* stalls alone are of that number of KV heads, all else equal; 0: they are of this one */
    char label[128], gpu[128], variant[128];
    int64_t q_heads, kv_heads, head_dim, seq_len, batch, budget; /* budget 0: it does not matter */
    bool has_counters, has_timeline, has_phases;
    adm_figures figures;
} adm_explained;

/* ADM_EINPUT: no run has such a stage, with what there is. */
adm_status adm_explain_read(adm_store *store, const adm_explain_subject *subject, adm_explained *out, adm_error *err);

#endif
