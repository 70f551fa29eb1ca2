/* step_time.h: how long one engine step of the whole model takes, fast enough to ask a million times: attention is asked of the
 * cost model once for a table of batches and lengths, and read from straight lines between its knots. The knots hold every
 * measured length, so that nothing is lost between them. */
#ifndef ADM_ANALYSIS_SERVING_STEP_TIME_H
#define ADM_ANALYSIS_SERVING_STEP_TIME_H

#include "analysis/cost/linear.h"
#include "analysis/serving/plan.h"

/* What a step does. */
typedef struct adm_step {
    uint32_t n_decode; /* sequences that get one token each */
    uint64_t decode_tokens; /* tokens in their caches, summed */
    uint64_t longest; /* of them */
    uint32_t n_prompt_tokens; /* of prompt chunks */
    uint32_t n_sampled; /* sequences that end the step with a token */
    double prompt_pairs; /* of a chunk's token and a token before or at it */
    double prompt_keys; /* tokens in the caches of the chunks' sequences, the chunks' own included */
} adm_step;

/* What a step's time is made of. */
typedef enum adm_step_part {
    ADM_PART_DENSE, /* decode attention of dense layers */
    ADM_PART_SPARSE, /* decode steps of Adamas */
    ADM_PART_LINEAR, /* matrix products */
    ADM_PART_REST, /* norms, sampling, gaps */
    ADM_PART_PROMPT, /* attention of prompts */
    ADM_PART_ENCODE, /* codes of prompts */
    ADM_PART_EXCHANGE, /* between ranks */
    ADM_N_PARTS
} adm_step_part;

/* "dense", "step", "linear", "rest", "prompt_attention", "encode", "exchange". */
const char *adm_step_part_name(adm_step_part part);

/* How often each rule was the weakest behind a part's time, for how long, and how far it reached. */
typedef struct adm_rule_use {
    uint64_t n, ns;
    double reach;
} adm_rule_use;

typedef struct adm_step_time adm_step_time;

typedef struct adm_step_options {
    const adm_model *model;
    const adm_plan *plan;
    const char *variant; /* of the step; NULL: the fastest at each point */
    uint32_t page_size; /* 0: contiguous */
    double compute_share; /* of the data sheet's peak that matrix products reach */
    uint64_t overhead_ns; /* of every step, outside the GPU's work */
    bool one_rank; /* without what ranks exchange */
} adm_step_options;

/* ADM_EINPUT without an anchor. The cost model is borrowed. */
adm_status adm_step_time_create(const adm_cost *cost, const adm_step_options *options, adm_step_time **out, adm_error *err);
void adm_step_time_free(adm_step_time **time);

/* Nanoseconds of a step, and adds to the uses. */
uint64_t adm_step_time_of(adm_step_time *time, const adm_step *step);

/* [ADM_N_PARTS][ADM_N_COST_RULES] */
const adm_rule_use (*adm_step_time_uses(const adm_step_time *time))[ADM_N_COST_RULES];

/* The variants of the step that the table took, "fused" or "fused, six"; "" without sparse layers. */
const char *adm_step_time_variants(const adm_step_time *time);

#endif
