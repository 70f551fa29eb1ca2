/* figures.h: what a run knows of one GPU stage in one configuration: its metrics by name, and what follows from them.
 *
 *   over_floor_ns         time_ns - floor_ns
 *   short_scoreboard_ns, barrier_ns, mio_throttle_ns, lg_throttle_ns, math_pipe_throttle_ns, wait_ns
 *                         the stall's share of the time: what is left without it is at least the rest
 *   extra_reads_ns        what bytes read beyond the model cost at the measured read bandwidth
 *   launch_cost_ns        0.5 us for each kernel of a call but the first
 *   registers, block_threads, grid_blocks    of the largest kernel of the timeline
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
    char label[128], gpu[128], variant[128];
    int64_t q_heads, kv_heads, head_dim, seq_len, batch, budget; /* budget 0: it does not matter */
    bool has_counters;
    adm_figures figures;
} adm_explained;

/* ADM_EINPUT: no run has such a stage, with what there is. */
adm_status adm_explain_read(adm_store *store, const adm_explain_subject *subject, adm_explained *out, adm_error *err);

#endif
