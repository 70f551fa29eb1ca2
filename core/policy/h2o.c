/* h2o.c: the heavy hitters and the most recent tokens; what is evicted is gone for good: H2O, arXiv 2306.14048, as in its
 * authors' code (github.com/FMInference/H2O, H2OKVCache_LayerWise).
 *
 *   prompt    every token's score is the sum of what the prompt's queries paid to it, in dense causal attention
 *   a step    the new token joins the cache with score 0
 *             where the cache then holds more than the budget b: of the tokens before the most recent ceil(b / 2) the one with
 *             the lowest score is evicted, the oldest of equals; at the first step so many that the floor(b / 2) highest stay
 *             the query attends to the cache, and each token's score grows by the softmax weight that it got there
 *
 * A score is a head's own, or with a selection per group the sum over the heads that share the cache. A cache depends on the
 * budget of every step before, so budgets do not nest and there is no adaptive budget.
 *
 * The same as theirs but for where the new token counts: they evict after a step down to hh_size + recent_size and attend to
 * one token more at the next. A budget of b here is their hh_size = floor(b / 2) and recent_size = ceil(b / 2) - 1. Their first
 * layers evict, too; here a model's first layers stay dense, as for every policy.
 *
 * A replay can do this only where the trace holds the query of every token up to the last step: it then computes the prompt's
 * attention. Of other traces h2o has no values. A model in the loop knows its prompt's attention (core/contract/adamas.h). */
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/policy/policy.h"

typedef struct held {
    uint32_t token;
    double score;
} held;

/* The cache of one variant at one budget: of a query head, or in the place of its first head of a group. */
typedef struct cache {
    bool is_made; /* from the prompt */
    size_t n;
    held *token; /* [max_selected + 1] ascending */
} cache;

typedef struct h2o_memory {
    double *prompt; /* [n_q_heads][n_tokens] */
    cache *cache; /* [n_variants][max_budgets][n_q_heads] */
    size_t n_caches;
    held *held; /* of all caches */
} h2o_memory;

typedef struct h2o_scratch {
    double *score; /* [n_tokens] */
    uint32_t *order; /* [n_tokens] */
    uint8_t *stays; /* [n_tokens] */
    void *rank;
} h2o_scratch;

static void describe(const adm_variant *variant, char *text) {
    (void)variant;
    snprintf(text, ADM_DESCRIPTION_BYTES, "half recent, evicting");
}

/* --- Memory ----------------------------------------------------------------------------------------------------------- */

static adm_status open_caches(adm_policy_state *state, adm_error *err) {
    const adm_policy_setup *setup = state->setup;
    const size_t n_heads = setup->shape.n_q_heads, capacity = setup->max_selected + 1;
    adm_status status = adm_alloc(&state->memory, 1, sizeof(h2o_memory), "caches of h2o", err);
    if (status != ADM_OK) return status;
    h2o_memory *m = state->memory;
    m->n_caches = state->n_variants * setup->max_budgets * n_heads;
    status = adm_alloc(&m->prompt, n_heads * setup->n_tokens, sizeof *m->prompt, "attention of the prompt", err);
    if (status == ADM_OK) status = adm_alloc(&m->cache, m->n_caches, sizeof *m->cache, "caches of h2o", err);
    if (status == ADM_OK) status = adm_alloc(&m->held, m->n_caches * capacity, sizeof *m->held, "caches of h2o", err);
    for (size_t i = 0; status == ADM_OK && i < m->n_caches; i++) m->cache[i].token = m->held + i * capacity;
    return status;
}

static void close_caches(adm_policy_state *state) {
    h2o_memory *m = state->memory;
    if (m == NULL) return;
    adm_free(&m->prompt);
    adm_free(&m->cache);
    adm_free(&m->held);
    adm_free(&state->memory);
}

static void begin(adm_policy_state *state, size_t layer) {
    h2o_memory *m = state->memory;
    (void)layer;
    memset(m->prompt, 0, state->setup->shape.n_q_heads * state->setup->n_tokens * sizeof *m->prompt);
    for (size_t i = 0; i < m->n_caches; i++) m->cache[i].is_made = false;
}

/* The query head of the layer that `head` of the KV head is. */
static size_t q_head_of(const adm_policy_state *state, const adm_policy_query *at, uint32_t head) {
    const adm_shape *shape = &state->setup->shape;
    return at->kv_head * (shape->n_q_heads / shape->n_kv_heads) + head;
}

static cache *cache_of(const adm_policy_state *state, const adm_policy_query *at, size_t variant, size_t level, uint32_t head) {
    const h2o_memory *m = state->memory;
    const uint32_t owner = state->variant[variant].selection == ADM_SELECT_GROUP ? 0 : head;
    const size_t n_heads = state->setup->shape.n_q_heads;
    return &m->cache[(variant * state->setup->max_budgets + level) * n_heads + q_head_of(state, at, owner)];
}

static void observe_prompt(adm_policy_state *state, const adm_policy_query *at, uint32_t head, const adm_attention_paid *paid) {
    double *prompt = ((const h2o_memory *)state->memory)->prompt + q_head_of(state, at, head) * state->setup->n_tokens;
    for (size_t t = 0; t < paid->n; t++) prompt[t] += paid->weight[t] / paid->total;
}

/* What a step paid to the cache, whose tokens are those that were selected. */
static void observe(adm_policy_state *state, const adm_policy_query *at, size_t variant, size_t level, uint32_t head,
                    const adm_attention_paid *paid) {
    const cache *c = cache_of(state, at, variant, level, head);
    for (size_t j = 0; j < c->n; j++) c->token[j].score += paid->weight[j] / paid->total;
}

/* --- Selecting -------------------------------------------------------------------------------------------------------- */

static void *make_scratch(const adm_policy_state *state, adm_layout *layout) {
    const size_t n = state->setup->n_tokens;
    h2o_scratch s, *own = adm_layout_take(layout, 1, sizeof *own);
    s.score = adm_layout_take(layout, n, sizeof *s.score);
    s.order = adm_layout_take(layout, n, sizeof *s.order);
    s.stays = adm_layout_take(layout, n, sizeof *s.stays);
    s.rank = adm_layout_take(layout, adm_rank_scratch_bytes(n), 1);
    if (own != NULL) *own = s;
    return own;
}

/* The cache before the first step, whose token is the newest of n_tokens: the prompt's heavy tokens and its recent ones. */
static void make_cache(const adm_policy_state *state, h2o_scratch *s, const adm_policy_query *at, size_t variant, uint32_t head,
                       size_t budget, cache *c) {
    const adm_shape *shape = &state->setup->shape;
    const bool grouped = state->variant[variant].selection == ADM_SELECT_GROUP;
    const uint32_t n_heads = grouped ? shape->n_q_heads / shape->n_kv_heads : 1, first = grouped ? 0 : head;
    const size_t n = at->n_tokens - 1, n_recent = adm_min((budget + 1) / 2 - 1, n), n_older = n - n_recent;
    memset(s->score, 0, n * sizeof *s->score);
    for (uint32_t g = first; g < first + n_heads; g++) {
        const double *prompt = ((const h2o_memory *)state->memory)->prompt + q_head_of(state, at, g) * state->setup->n_tokens;
        for (size_t t = 0; t < n; t++) s->score[t] += prompt[t];
    }
    memset(s->stays, 0, n_older);
    memset(s->stays + n_older, 1, n_recent);
    adm_rank(s->score, n_older, s->rank, s->order);
    for (size_t i = 0; i < adm_min(budget / 2, n_older); i++) s->stays[s->order[i]] = 1;
    *c = (cache){.is_made = true, .token = c->token};
    for (size_t t = 0; t < n; t++)
        if (s->stays[t]) c->token[c->n++] = (held){(uint32_t)t, s->score[t]};
}

/* The lightest of the tokens before the recent ones goes. */
static void evict(cache *c, size_t n_tokens, size_t budget) {
    const size_t first_recent = n_tokens - adm_min((budget + 1) / 2, n_tokens);
    size_t lightest = 0;
    for (size_t j = 1; j < c->n && c->token[j].token < first_recent; j++)
        if (c->token[j].score < c->token[lightest].score) lightest = j;
    memmove(c->token + lightest, c->token + lightest + 1, (c->n - lightest - 1) * sizeof *c->token);
    c->n--;
}

static void select_cached(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant,
                          uint32_t head, const adm_budgets *budgets, adm_selected *selected) {
    const size_t budget = budgets->budget[0];
    cache *c = cache_of(state, at, variant, budgets->level, head);
    if (!c->is_made) make_cache(state, scratch, at, variant, head, budget, c);
    c->token[c->n++] = (held){(uint32_t)(at->n_tokens - 1), 0};
    while (c->n > budget) evict(c, at->n_tokens, budget);
    for (size_t j = 0; j < c->n; j++) selected->list[j] = c->token[j].token;
    selected->end[0] = c->n;
}

static const adm_setting settings[] = {ADM_SETTING_SELECT, {0}};

const adm_policy adm_policy_h2o = {
    .name = "h2o",
    .help = "heavy hitters and the last tokens; what is evicted is gone (H2O)",
    .settings = settings,
    .observes = ADM_OBSERVES_OWN,
    .needs_prompt = true,
    .order_reason = "a cache of h2o depends on the budget of every step before: there is no smallest budget",
    .describe = describe,
    .open = open_caches,
    .close = close_caches,
    .begin = begin,
    .scratch = make_scratch,
    .select = select_cached,
    .observe = observe,
    .observe_prompt = observe_prompt,
};
