/* quality_step.h: one KV head at one step: what every row of the sweep selects at every budget, and how good that is. */
#ifndef ADM_CORE_REPLAY_QUALITY_STEP_H
#define ADM_CORE_REPLAY_QUALITY_STEP_H

#include "core/policy/policy_set.h"
#include "core/replay/waiting.h"

/* One thread's scratch. group: the query heads of a KV head; n: tokens of the trace. */
typedef struct adm_step_scratch {
    adm_head_scores *head;    /* [group] */
    adm_candidates *candidates; /* [group] of the exact top-k of each head */
    uint32_t *candidate;      /* [group][n] and */
    double *candidate_score;  /* [group][n]: theirs */
    adm_score_cut *exact;           /* [group][n_budgets] the exact top-k of each head */
    adm_score_cut *cut;             /* [group][n_budgets] those of the row at hand */
    void *rank;
    uint32_t *order;          /* [n] */
    double *weight;           /* [n] of one head, where they are wanted of every token */
    adm_selected selected;    /* of the row at hand, in the memory of */
    adm_waiting waiting;
    void *policy;             /* of the policies, one at a time */
} adm_step_scratch;

void adm_step_scratch_take(const adm_session *session, const adm_policy_set *set, adm_layout *layout,
                           adm_step_scratch *scratch);

/* Behind adm_step_scratch_take() with memory. */
void adm_step_scratch_init(const adm_session *session, adm_step_scratch *scratch);

typedef struct adm_quality_step {
    adm_policy_query query;         /* without scores, which come from the references */
    const adm_trace_layer *layer;
    const adm_reference *reference; /* [group] */
    size_t in_block;                /* the step's number in the block */
    bool has_prompt;                /* policies that need the prompt's attention have it */
} adm_quality_step;

/* Hands a query of the prompt to the policies that need them; of the step the query and the references. */
void adm_quality_step_observe_prompt(const adm_session *session, adm_policy_set *set, adm_step_scratch *scratch,
                                     const adm_quality_step *step);

/* Measures the step, and lets policies that look back observe it. set: the states of the session's rows. Selections wait for
 * their outputs: all steps are of one KV head, and their references stay where they are, until adm_waiting_finish(). */
void adm_quality_step_measure(const adm_session *session, adm_policy_set *set, const adm_quality_record *record,
                              adm_step_scratch *scratch, const adm_quality_step *step);

#endif
