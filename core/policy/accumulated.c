/* accumulated.c: the tokens that drew the most attention so far, and the last: H2O's score without its evictions. A budget b
 * keeps the most recent ceil(b / 2) tokens, and of the others those that drew the most.
 *
 *   drawn [n_q_heads][n_tokens]   what each token drew from the steps observed. In a replay those are the replayed steps of the
 *                                 length, before the present one, with dense attention; a model in the loop adds what the
 *                                 prompt paid, and its own steps pay only what they attend to
 *
 * No server could select so without keeping every key: a token that a selection leaves out goes on drawing attention in a
 * replay, and may come back. In the loop it draws nothing more while the scores of those kept grow, so it does not come back,
 * and the selection is that of h2o. */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/policy/policy.h"

typedef struct accumulated_scratch {
    adm_nested_scratch nested;
    double *ranking; /* [n_tokens] */
    uint32_t *rank, *order; /* [n_tokens] */
    uint8_t *taken; /* [n_tokens] */
    void *rank_scratch;
} accumulated_scratch;

static void describe(const adm_variant *variant, char *text) {
    (void)variant;
    snprintf(text, ADM_DESCRIPTION_BYTES, "half recent");
}

static adm_status open_drawn(adm_policy_state *state, adm_error *err) {
    return adm_alloc(&state->memory, state->setup->shape.n_q_heads * state->setup->n_tokens, sizeof(double), "attention drawn",
                     err);
}

static void close_drawn(adm_policy_state *state) { adm_free(&state->memory); }

static double *drawn_of(const adm_policy_state *state, size_t kv_head, uint32_t head) {
    const adm_shape *shape = &state->setup->shape;
    return (double *)state->memory + (kv_head * (shape->n_q_heads / shape->n_kv_heads) + head) * state->setup->n_tokens;
}

static void begin(adm_policy_state *state, size_t layer) {
    (void)layer;
    memset(state->memory, 0, state->setup->shape.n_q_heads * state->setup->n_tokens * sizeof(double));
}

static void add(adm_policy_state *state, const adm_policy_query *at, uint32_t head, const adm_attention_paid *paid) {
    double *drawn = drawn_of(state, at->kv_head, head);
    for (size_t j = 0; j < paid->n; j++) drawn[paid->index != NULL ? paid->index[j] : j] += paid->weight[j] / paid->total;
}

static void observe(adm_policy_state *state, const adm_policy_query *at, size_t variant, size_t level, uint32_t head,
                    const adm_attention_paid *paid) {
    (void)variant, (void)level; /* all variants see the same */
    add(state, at, head, paid);
}

static void *make_scratch(const adm_policy_state *state, adm_layout *layout) {
    const adm_policy_setup *setup = state->setup;
    const size_t n = setup->n_tokens;
    accumulated_scratch s, *own = adm_layout_take(layout, 1, sizeof *own);
    adm_nested_take(layout, n, setup->max_selected, setup->max_budgets, &s.nested);
    s.ranking = adm_layout_take(layout, n, sizeof *s.ranking);
    s.rank = adm_layout_take(layout, n, sizeof *s.rank);
    s.order = adm_layout_take(layout, n, sizeof *s.order);
    s.taken = adm_layout_take(layout, n, sizeof *s.taken);
    s.rank_scratch = adm_layout_take(layout, adm_rank_scratch_bytes(n), 1);
    if (own != NULL) *own = s;
    return own;
}

/* s->rank: the tokens by the attention that they drew from the head, or from all of its group. */
static void rank_tokens(const adm_policy_state *state, accumulated_scratch *s, const adm_policy_query *at, size_t variant,
                        uint32_t head) {
    const adm_shape *shape = &state->setup->shape;
    const bool grouped = state->variant[variant].selection == ADM_SELECT_GROUP;
    const uint32_t first = grouped ? 0 : head, n = grouped ? shape->n_q_heads / shape->n_kv_heads : 1;
    memset(s->ranking, 0, at->n_tokens * sizeof *s->ranking);
    for (uint32_t g = first; g < first + n; g++) {
        const double *drawn = drawn_of(state, at->kv_head, g);
        for (size_t t = 0; t < at->n_tokens; t++) s->ranking[t] += drawn[t];
    }
    adm_rank(s->ranking, at->n_tokens, s->rank_scratch, s->rank);
}

/* The first n of the order: the recent and the heavy in turn, an odd budget having one recent token more. */
static void order_first(accumulated_scratch *s, size_t n_tokens, size_t n, uint32_t *order) {
    size_t next = 0;
    memset(s->taken, 0, n_tokens);
    for (size_t i = 0; i < n; i++) {
        uint32_t token = (uint32_t)(n_tokens - 1 - i / 2);
        if (i % 2 == 1 || s->taken[token]) { /* else, and where that was in for its attention: the next by rank */
            while (s->taken[s->rank[next]]) next++;
            token = s->rank[next];
        }
        s->taken[token] = 1;
        order[i] = token;
    }
}

static void select_heavy(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant,
                         uint32_t head, const adm_budgets *budgets, adm_selected *selected) {
    accumulated_scratch *s = scratch;
    for (size_t b = 0; b < budgets->n; b++) selected->end[b] = adm_min(budgets->budget[b], at->n_tokens);
    rank_tokens(state, s, at, variant, head);
    order_first(s, at->n_tokens, selected->end[budgets->n - 1], s->order);
    adm_nested_from_order(&s->nested, budgets, s->order, at->n_tokens, selected);
}

static void order_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                      uint32_t *order) {
    (void)state, (void)variant, (void)head; /* the tokens are still ranked */
    order_first(scratch, at->n_tokens, at->n_tokens, order);
}

static const adm_setting settings[] = {ADM_SETTING_SELECT, {0}};

const adm_policy adm_policy_accumulated = {
    .name = "accumulated",
    .help = "the tokens that drew the most attention so far, and the last; nothing is evicted",
    .settings = settings,
    .observes = ADM_OBSERVES_DENSE,
    .describe = describe,
    .open = open_drawn,
    .close = close_drawn,
    .begin = begin,
    .scratch = make_scratch,
    .select = select_heavy,
    .order = order_all,
    .observe = observe,
    .observe_prompt = add,
};
