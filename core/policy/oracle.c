/* oracle.c: the exact top-k: by q.k for a head, by the sum of the heads' softmax masses for a group. No selection of the same
 * size keeps more mass of a head; the newest token is not forced in. */
#include <stdio.h>
#include <string.h>

#include "core/policy/policy.h"

typedef struct oracle_scratch {
    adm_nested_scratch nested;
    double *mass, *weight; /* [n_tokens] of the group, and of one head */
    uint32_t *candidate;   /* [n_tokens] and */
    double *candidate_score;
    adm_score_cut *cut;          /* [max_budgets] */
    void *rank;
} oracle_scratch;

static void describe(const adm_variant *variant, char *text) {
    (void)variant;
    snprintf(text, ADM_DESCRIPTION_BYTES, "exact");
}

static void *make_scratch(const adm_policy_state *state, adm_layout *layout) {
    const adm_policy_setup *setup = state->setup;
    const size_t n = setup->n_tokens;
    oracle_scratch s, *own = adm_layout_take(layout, 1, sizeof *own);
    adm_nested_take(layout, n, setup->max_selected, setup->max_budgets, &s.nested);
    s.mass = adm_layout_take(layout, n, sizeof *s.mass);
    s.weight = adm_layout_take(layout, n, sizeof *s.weight);
    s.candidate = adm_layout_take(layout, n, sizeof *s.candidate);
    s.candidate_score = adm_layout_take(layout, n, sizeof *s.candidate_score);
    s.cut = adm_layout_take(layout, setup->max_budgets, sizeof *s.cut);
    s.rank = adm_layout_take(layout, adm_rank_scratch_bytes(n), 1);
    if (own != NULL) *own = s;
    return own;
}

static void sum_masses(const adm_policy_state *state, oracle_scratch *s, const adm_policy_query *at) {
    const adm_shape *shape = &state->setup->shape;
    memset(s->mass, 0, at->n_tokens * sizeof *s->mass);
    for (uint32_t g = 0; g < shape->n_q_heads / shape->n_kv_heads; g++) {
        const adm_head_scores *head = &at->head[g];
        state->setup->weights(head->score, at->n_tokens, head->largest, s->weight);
        for (size_t t = 0; t < at->n_tokens; t++) s->mass[t] += s->weight[t] / head->total_weight;
    }
}

/* The cuts at the budgets that leave something out, picked from those that the caller has found. */
static void pick_cuts(oracle_scratch *s, const adm_head_scores *head, const adm_budgets *budgets, size_t n_tokens) {
    for (size_t b = 0, c = 0; b < budgets->n && budgets->budget[b] < n_tokens; b++) {
        while (head->cut[c].k != budgets->budget[b]) c++;
        s->cut[b] = head->cut[c];
    }
}

static void find_cuts(oracle_scratch *s, const double *score, const adm_budgets *budgets, size_t n_tokens,
                      adm_candidates *candidates) {
    size_t n_cuts = 0;
    for (; n_cuts < budgets->n && budgets->budget[n_cuts] < n_tokens; n_cuts++)
        s->cut[n_cuts] = (adm_score_cut){.k = budgets->budget[n_cuts]};
    if (n_cuts > 0) adm_rank_cut(score, n_tokens, s->cut, n_cuts, s->rank, candidates);
}

static void select_top(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                       const adm_budgets *budgets, adm_selected *selected) {
    oracle_scratch *s = scratch;
    const bool grouped = state->variant[variant].selection == ADM_SELECT_GROUP;
    const double *score = grouped ? s->mass : at->head[head].score;
    adm_candidates found = {0, s->candidate, s->candidate_score};
    if (grouped) sum_masses(state, s, at);
    if (!grouped && at->head[head].candidates != NULL) {
        pick_cuts(s, &at->head[head], budgets, at->n_tokens);
        adm_nested_from_cuts(&s->nested, budgets, score, at->n_tokens, at->head[head].candidates, s->cut, selected);
        return;
    }
    find_cuts(s, score, budgets, at->n_tokens, &found);
    adm_nested_from_cuts(&s->nested, budgets, score, at->n_tokens, &found, s->cut, selected);
}

static void order_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                      uint32_t *order) {
    oracle_scratch *s = scratch; /* the masses of the group are still there */
    const bool grouped = state->variant[variant].selection == ADM_SELECT_GROUP;
    adm_rank(grouped ? s->mass : at->head[head].score, at->n_tokens, s->rank, order);
}

static const adm_setting settings[] = {ADM_SETTING_SELECT, {0}};

const adm_policy adm_policy_oracle = {
    .name = "oracle",
    .help = "the exact top-k: what any selection of that size could reach",
    .settings = settings,
    .is_exact = true,
    .needs_scores = true,
    .describe = describe,
    .scratch = make_scratch,
    .select = select_top,
    .order = order_all,
};
