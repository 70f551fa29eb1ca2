/* policy_set.c: the states of several policies. */
#include "core/policy/policy_set.h"

#include "core/base/mem.h"
#include "core/base/minmax.h"

struct adm_policy_set {
    adm_policy_setup setup;
    const adm_variant *variant;
    adm_policy_state *state; /* [n_states] */
    size_t n_states;
    size_t *state_of;        /* [n_variants] */
};

adm_status adm_policy_set_open(const adm_policy_setup *setup, const adm_variant *variants, size_t n, adm_policy_set **out,
                               adm_error *err) {
    adm_policy_set *set = NULL;
    *out = NULL;
    adm_status status = adm_alloc(&set, 1, sizeof *set, "policies", err);
    if (status != ADM_OK) return status;
    set->setup = *setup;
    set->variant = variants;
    status = adm_alloc(&set->state, n, sizeof *set->state, "policies", err);
    if (status == ADM_OK) status = adm_alloc(&set->state_of, n, sizeof *set->state_of, "policies", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) {
        adm_policy_state *last = set->n_states > 0 ? &set->state[set->n_states - 1] : NULL;
        if (last == NULL || last->policy != variants[i].policy) {
            last = &set->state[set->n_states++];
            *last = (adm_policy_state){.policy = variants[i].policy, .setup = &set->setup, .variant = &variants[i]};
        }
        last->n_variants++;
        set->state_of[i] = set->n_states - 1;
    }
    for (size_t i = 0; status == ADM_OK && i < set->n_states; i++)
        if (set->state[i].policy->open != NULL) status = set->state[i].policy->open(&set->state[i], err);
    if (status != ADM_OK) adm_policy_set_close(&set);
    *out = set;
    return status;
}

void adm_policy_set_close(adm_policy_set **address) {
    adm_policy_set *set = *address;
    if (set == NULL) return;
    for (size_t i = 0; i < set->n_states; i++)
        if (set->state[i].policy->close != NULL) set->state[i].policy->close(&set->state[i]);
    adm_free(&set->state);
    adm_free(&set->state_of);
    adm_free(address);
}

adm_status adm_policy_set_learn(adm_policy_set *set, const adm_policy_keys *prompt, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < set->n_states; i++)
        if (set->state[i].policy->learn != NULL) status = set->state[i].policy->learn(&set->state[i], prompt, err);
    return status;
}

void adm_policy_set_begin(adm_policy_set *set, size_t layer) {
    for (size_t i = 0; i < set->n_states; i++)
        if (set->state[i].policy->begin != NULL) set->state[i].policy->begin(&set->state[i], layer);
}

bool adm_policy_set_appends(const adm_policy_set *set) {
    for (size_t i = 0; i < set->n_states; i++)
        if (set->state[i].policy->append != NULL) return true;
    return false;
}

bool adm_policy_set_observes(const adm_policy_set *set) {
    for (size_t i = 0; i < set->n_states; i++)
        if (set->state[i].policy->observes != ADM_OBSERVES_NOTHING) return true;
    return false;
}

bool adm_policy_set_needs_prompt(const adm_policy_set *set) {
    for (size_t i = 0; i < set->n_states; i++)
        if (set->state[i].policy->needs_prompt) return true;
    return false;
}

bool adm_policy_set_needs_scores(const adm_policy_set *set) {
    for (size_t i = 0; i < set->n_states; i++)
        if (set->state[i].policy->needs_scores) return true;
    return false;
}

size_t adm_policy_set_scratch_bytes(const adm_policy_set *set) {
    size_t bytes = 0;
    for (size_t i = 0; i < set->n_states; i++) {
        adm_layout layout = {0};
        if (set->state[i].policy->scratch != NULL) set->state[i].policy->scratch(&set->state[i], &layout);
        bytes = layout.bytes > bytes ? layout.bytes : bytes;
    }
    return bytes;
}

/* Lays the state's arrays out in the memory that all states share. */
static void *scratch_of(const adm_policy_state *state, void *scratch) {
    adm_layout layout = {.base = scratch};
    return state->policy->scratch != NULL ? state->policy->scratch(state, &layout) : NULL;
}

void adm_policy_set_append(adm_policy_set *set, void *scratch, const adm_policy_keys *keys) {
    for (size_t i = 0; i < set->n_states; i++) {
        adm_policy_state *state = &set->state[i];
        if (state->policy->append != NULL) state->policy->append(state, scratch_of(state, scratch), keys);
    }
}

void adm_policy_set_observe_dense(adm_policy_set *set, const adm_policy_query *at, uint32_t head,
                                  const adm_attention_paid *paid) {
    for (size_t i = 0; i < set->n_states; i++)
        if (set->state[i].policy->observes == ADM_OBSERVES_DENSE)
            set->state[i].policy->observe(&set->state[i], at, 0, 0, head, paid);
}

void adm_policy_set_observe(adm_policy_set *set, const adm_policy_query *at, size_t i, size_t level, uint32_t head,
                            const adm_attention_paid *paid) {
    adm_policy_state *state = &set->state[set->state_of[i]];
    state->policy->observe(state, at, (size_t)(&set->variant[i] - state->variant), level, head, paid);
}

void adm_policy_set_observe_prompt(adm_policy_set *set, const adm_policy_query *at, uint32_t head,
                                   const adm_attention_paid *paid, bool only_needed) {
    for (size_t i = 0; i < set->n_states; i++) {
        const adm_policy *policy = set->state[i].policy;
        if (policy->observe_prompt != NULL && (policy->needs_prompt || !only_needed))
            policy->observe_prompt(&set->state[i], at, head, paid);
    }
}

const adm_policy_state *adm_policy_set_state(const adm_policy_set *set, size_t i, size_t *variant) {
    const adm_policy_state *state = &set->state[set->state_of[i]];
    *variant = (size_t)(&set->variant[i] - state->variant);
    return state;
}

void adm_policy_set_select(const adm_policy_set *set, void *scratch, const adm_policy_query *at, size_t i, uint32_t head,
                           const adm_budgets *budgets, adm_selected *selected) {
    size_t variant;
    const adm_policy_state *state = adm_policy_set_state(set, i, &variant);
    state->policy->select(state, scratch_of(state, scratch), at, variant, head, budgets, selected);
}

void adm_policy_set_order(const adm_policy_set *set, void *scratch, const adm_policy_query *at, size_t i, uint32_t head,
                          uint32_t *order) {
    size_t variant;
    const adm_policy_state *state = adm_policy_set_state(set, i, &variant);
    state->policy->order(state, scratch_of(state, scratch), at, variant, head, order);
}

size_t adm_policy_set_budget_for(const adm_policy_set *set, void *scratch, const adm_policy_query *at, size_t i,
                                 size_t n_needed) {
    size_t variant, budget = n_needed;
    const adm_policy_state *state = adm_policy_set_state(set, i, &variant);
    if (state->policy->budget_for != NULL)
        budget = state->policy->budget_for(state, scratch_of(state, scratch), at, variant, n_needed);
    const size_t min_budget = adm_policy_min_budget(&state->variant[variant]);
    return adm_min(budget < min_budget ? min_budget : budget, at->n_tokens);
}
