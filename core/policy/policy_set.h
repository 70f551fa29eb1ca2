/* policy_set.h: the states of several policies, a state for all variants of one, opened and fed together. */
#ifndef ADM_CORE_POLICY_POLICY_SET_H
#define ADM_CORE_POLICY_POLICY_SET_H

#include "core/policy/policy.h"

typedef struct adm_policy_set adm_policy_set;

/* variants [n], those of one policy one after the other, as adm_sweep_parse() gives them; borrowed. The setup is copied. */
adm_status adm_policy_set_open(const adm_policy_setup *setup, const adm_variant *variants, size_t n, adm_policy_set **out,
                               adm_error *err);
void adm_policy_set_close(adm_policy_set **set);

/* Each of the set's states in turn; see core/policy/policy.h. */
adm_status adm_policy_set_learn(adm_policy_set *set, const adm_policy_keys *prompt, adm_error *err);
void adm_policy_set_begin(adm_policy_set *set, size_t layer);

/* Whether any state takes keys in, observes, or needs scores. */
bool adm_policy_set_appends(const adm_policy_set *set);
bool adm_policy_set_observes(const adm_policy_set *set);
bool adm_policy_set_needs_prompt(const adm_policy_set *set);
bool adm_policy_set_needs_scores(const adm_policy_set *set);

/* One thread's scratch, for one state at a time: adm_policy_set_scratch_bytes() bytes, aligned as adm_alloc() does. */
size_t adm_policy_set_scratch_bytes(const adm_policy_set *set);
void adm_policy_set_append(adm_policy_set *set, void *scratch, const adm_policy_keys *keys);

/* Hands dense attention to every state that observes it; what variants[i] paid at a level to its state; what a query of the
 * prompt paid to every state that takes that in, or to those that need it. */
void adm_policy_set_observe_dense(adm_policy_set *set, const adm_policy_query *at, uint32_t head,
                                  const adm_attention_paid *paid);
void adm_policy_set_observe(adm_policy_set *set, const adm_policy_query *at, size_t i, size_t level, uint32_t head,
                            const adm_attention_paid *paid);
void adm_policy_set_observe_prompt(adm_policy_set *set, const adm_policy_query *at, uint32_t head,
                                   const adm_attention_paid *paid, bool only_needed);

/* The state of variants[i] and the variant's number in it. */
const adm_policy_state *adm_policy_set_state(const adm_policy_set *set, size_t i, size_t *variant);

void adm_policy_set_select(const adm_policy_set *set, void *scratch, const adm_policy_query *at, size_t i, uint32_t head,
                           const adm_budgets *budgets, adm_selected *selected);
void adm_policy_set_order(const adm_policy_set *set, void *scratch, const adm_policy_query *at, size_t i, uint32_t head,
                          uint32_t *order);

/* The smallest budget at which variants[i] selects the first n_needed tokens of the order just asked for; no more than all. */
size_t adm_policy_set_budget_for(const adm_policy_set *set, void *scratch, const adm_policy_query *at, size_t i,
                                 size_t n_needed);

#endif
