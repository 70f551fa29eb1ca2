/* policy.h: what a selection policy is: one file, core/policy/NAME.c, that defines `const adm_policy adm_policy_NAME`, and one
 * row of the table in policy.c.
 *
 *   item of --policies --settings--> variants, one for every combination of values       core/policy/sweep.h
 *   variants of one policy --open--> one state                                           core/policy/policy_set.h
 *     learn   once a layer, from the keys of the prompt (thresholds)
 *     begin   before a layer is taken up: its tokens are forgotten
 *     append  keys of the layer (codes, page bounds)
 *     select  for a query, at every budget at once
 *     observe what the tokens drew of the attention, where a policy looks back
 *
 * A replay and a model in the loop (core/contract/adamas.h) use the same states. */
#ifndef ADM_CORE_POLICY_POLICY_H
#define ADM_CORE_POLICY_POLICY_H

#include "core/base/layout.h"
#include "core/contract/stage.h"
#include "core/policy/nested.h"
#include "core/policy/rank.h"

typedef struct adm_policy adm_policy;

/* --- Variants ------------------------------------------------------------------------------------------------------ */

enum { ADM_SETTINGS_BYTES = 192, ADM_DESCRIPTION_BYTES = 160, ADM_VARIANT_NAME_BYTES = 176 };

/* A policy with every setting decided. All zeros but for the policy before its settings are read. */
typedef struct adm_variant {
    const adm_policy *policy;
    adm_selection selection; /* who shares a selection */
    union {
        max_align_t align;
        char bytes[ADM_SETTINGS_BYTES];
    } own; /* the policy's own settings */
} adm_variant;

/* One setting of a policy: `name=value` behind a colon in --policies. */
typedef struct adm_setting {
    const char *name;        /* "metric"; NULL ends the list */
    const char *values;      /* what a message says is allowed: "on or off" */
    const char *unset; /* the value where neither the item nor an option says; joined by `+`: several, which are compared */
    const char *unset_alone; /* the same where the item has no setting at all; NULL: as above */
    /* Sets what the value says; ADM_EINPUT with an empty error->text: the value is not one of `values`. */
    adm_status (*read)(adm_variant *variant, const char *value, adm_error *err);
} adm_setting;

/* The setting `select`: head or group. */
#define ADM_SETTING_SELECT {"select", "head or group", "head", NULL, adm_read_selection}
adm_status adm_read_selection(adm_variant *variant, const char *value, adm_error *err);

/* A whole number from 0 to 16777216 as the value of a setting. */
#define ADM_SETTING_NUMBER "a whole number from 0 to 16777216"
adm_status adm_read_number(const char *value, uint32_t *number);

/* The variant's name in the database: what the policy calls it, and ", per group". name: ADM_VARIANT_NAME_BYTES. */
void adm_variant_name(const adm_variant *variant, char *name);

/* --- A state, and what it sees --------------------------------------------------------------------------------------- */

/* What all states are opened with. Borrowed for as long as they live. */
typedef struct adm_policy_setup {
    const adm_host_pipeline *pipeline;
    adm_weights_fn *weights;
    adm_shape shape;
    size_t n_tokens; /* positions that can be appended */
    size_t n_held_heads; /* KV heads whose appended keys are held at once: a multiple of it and those behind; 0: all */
    size_t n_layers; /* that can be learnt */
    const uint32_t *layer_number; /* [n_layers] the model's; NULL: they count from 0 */
    size_t max_selected; /* tokens of a selection, at most, and budgets of one */
    size_t max_budgets;
} adm_policy_setup;

typedef struct adm_policy_state {
    const adm_policy *policy;
    const adm_policy_setup *setup;
    const adm_variant *variant; /* [n_variants] */
    size_t n_variants;
    void *memory; /* the policy's own */
} adm_policy_state;

/* Keys of one layer, [n_kv_heads][stride][d] of dtype: n tokens from `first` on. */
typedef struct adm_policy_keys {
    size_t layer; /* below setup->n_layers */
    adm_dtype dtype;
    const void *k;
    size_t stride, first, n;
    size_t kv_head; /* appending: the one meant */
    bool is_again; /* appending: they were appended before, and other heads in their place since */
} adm_policy_keys;

/* Where the keys of a KV head are held. */
static inline size_t adm_policy_place(const adm_policy_setup *setup, size_t kv_head) {
    return setup->n_held_heads > 0 ? kv_head % setup->n_held_heads : kv_head;
}

static inline size_t adm_policy_n_places(const adm_policy_setup *setup) {
    return setup->n_held_heads > 0 ? setup->n_held_heads : setup->shape.n_kv_heads;
}

/* Row `token` of a KV head. */
const void *adm_policy_key(const adm_policy_keys *keys, const adm_shape *shape, size_t kv_head, size_t token);

/* The dense attention of one query head. */
typedef struct adm_head_scores {
    const double *score; /* [n_tokens]: softmax scale times q.k */
    double largest, total_weight; /* the largest score; the sum of exp(score - largest) */
    const adm_candidates *candidates; /* the exact top-k at n_cuts sizes, where the caller has found it; else NULL */
    const adm_score_cut *cut;
    size_t n_cuts;
} adm_head_scores;

/* The query heads of one KV head at one step. They see the first n_tokens tokens; more may have been appended, since a replay
 * appends a layer at once, and a selection must not depend on those. */
typedef struct adm_policy_query {
    size_t layer; /* below setup->n_layers */
    uint32_t layer_index; /* the model's number of it; with the step it tells streams of random numbers apart */
    uint64_t step;
    size_t kv_head, n_tokens;
    const float *q, *y; /* [group][d]: the queries, and transformed */
    adm_policy_keys keys; /* of the layer and KV head; first and n unused */
    const adm_head_scores *head; /* [group]; NULL unless a policy needs_scores */
} adm_policy_query;

/* What a query head paid to tokens: weight[j] / total to index[j], or with index NULL to token j. */
typedef struct adm_attention_paid {
    const uint32_t *index;
    size_t n;
    const double *weight;
    double total;
} adm_attention_paid;

/* Whose attention a policy observes: once a step and head dense attention, or for each variant and budget that which its
 * selection paid. A model in the loop computes no dense attention, and hands in its own in both cases. */
typedef enum adm_observing { ADM_OBSERVES_NOTHING, ADM_OBSERVES_DENSE, ADM_OBSERVES_OWN } adm_observing;

/* What a variant is checked against before anything is opened. */
typedef struct adm_policy_limits {
    const char *input; /* the trace's path, for messages */
    adm_shape shape;
    uint32_t min_budget; /* the smallest that is asked for */
    size_t n_prompt; /* tokens before the first step */
} adm_policy_limits;

/* --- The row --------------------------------------------------------------------------------------------------------- */

/* Functions that are NULL do nothing, unless it says what they stand for. `head` counts the query heads of the KV head; where
 * the variant selects per group it is 0. scratch: memory of one thread, made by `scratch`; it keeps its content from select to
 * the order behind it. */
struct adm_policy {
    const char *name; /* as the command line and the database spell it */
    const char *help;
    const adm_setting *settings; /* NULL: none */
    bool attends_to_all; /* it has no budget */
    bool is_exact; /* others are measured against it: it has no oracle_gap */
    bool has_boundary; /* it fills adm_selected.info: it has the metric ties */
    bool ignores_queries; /* all query heads of a KV head get the same */
    bool needs_scores;
    adm_observing observes; /* but NOTHING: steps must come one after the other */
    bool needs_prompt; /* the attention of every query of the prompt; then every step from there on must come */

    adm_status (*complete)(adm_variant *variant, adm_error *err); /* behind the last setting */
    void (*describe)(const adm_variant *variant, char *text); /* ADM_DESCRIPTION_BYTES */
    adm_status (*check)(const adm_variant *variant, const adm_policy_limits *limits, adm_error *err);
    size_t (*min_budget)(const adm_variant *variant); /* NULL: 1 */
    const char *min_budget_reason; /* why a smaller one has no values */
    size_t noted_budget; /* below it the summary says, once, */
    const char *note; /* this */

    adm_status (*open)(adm_policy_state *state, adm_error *err); /* makes state->memory */
    void (*close)(adm_policy_state *state); /* also of what open() left half made */
    adm_status (*learn)(adm_policy_state *state, const adm_policy_keys *prompt, adm_error *err); /* layers in any thread */
    void (*begin)(adm_policy_state *state, size_t layer); /* of learnt layers one at a time is taken up */
    void (*append)(adm_policy_state *state, void *scratch, const adm_policy_keys *keys); /* KV heads and, from multiples of
                                     ADM_APPEND_STEP on, tokens in any thread; what is appended again replaces what was */
    void *(*scratch)(const adm_policy_state *state, adm_layout *layout); /* NULL: none */
    void (*select)(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                   const adm_budgets *budgets, adm_selected *selected);
    void (*order)(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                  uint32_t *order); /* all tokens: the first n are the selection of the budget n; behind select */
    size_t (*budget_for)(const adm_policy_state *state, const void *scratch, const adm_policy_query *at, size_t variant,
                         size_t n_needed); /* the smallest that selects the first tokens of that order; NULL: n_needed */
    const char
        *order_reason; /* without order: why there are no adaptive budgets. Then select is asked for one budget at a time */
    void (*observe)(adm_policy_state *state, const adm_policy_query *at, size_t variant, size_t level, uint32_t head,
                    const adm_attention_paid *paid); /* level: of the budget, as adm_budgets has it */
    void (*observe_prompt)(adm_policy_state *state, const adm_policy_query *at, uint32_t head, const adm_attention_paid *paid);
};

enum { ADM_APPEND_STEP = 16 };

/* The rows, in the order of help and of messages; NULL behind the last. */
const adm_policy *adm_policy_at(size_t i);

/* The row of that name, or NULL. */
const adm_policy *adm_policy_find(const char *name);

/* The row's min_budget, or 1. */
size_t adm_policy_min_budget(const adm_variant *variant);

#endif
