/* random.c: the newest token and then any others, every order equally likely: what a selection with no idea reaches. */
#include <stdio.h>
#include <stdlib.h>

#include "core/base/minmax.h"
#include "core/stats/rng.h"
#include "core/policy/policy.h"

typedef struct random_settings {
    uint64_t seed;
} random_settings;

typedef struct random_scratch {
    adm_nested_scratch nested;
    uint32_t *order; /* [n_tokens] */
} random_scratch;

static const random_settings *own_of(const adm_variant *variant) { return (const random_settings *)variant->own.bytes; }

static void describe(const adm_variant *variant, char *text) {
    snprintf(text, ADM_DESCRIPTION_BYTES, "seed %llu", (unsigned long long)own_of(variant)->seed);
}

static adm_status read_seed(adm_variant *variant, const char *value, adm_error *err) {
    random_settings *own = (random_settings *)variant->own.bytes;
    char *end;
    (void)err;
    own->seed = strtoull(value, &end, 10);
    return value[0] >= '0' && value[0] <= '9' && *end == '\0' && own->seed <= INT64_MAX ? ADM_OK : ADM_EINPUT;
}

static void *make_scratch(const adm_policy_state *state, adm_layout *layout) {
    const adm_policy_setup *setup = state->setup;
    random_scratch s, *own = adm_layout_take(layout, 1, sizeof *own);
    adm_nested_take(layout, setup->n_tokens, setup->max_selected, setup->max_budgets, &s.nested);
    s.order = adm_layout_take(layout, setup->n_tokens, sizeof *s.order);
    if (own != NULL) *own = s;
    return own;
}

/* One of the streams of random numbers, which no other step, layer or head has. */
static void seed_stream(const adm_policy_state *state, const adm_policy_query *at, size_t variant, uint32_t head,
                        adm_rng *rng) {
    const adm_shape *shape = &state->setup->shape;
    const uint64_t word[] = {at->step, at->layer_index, at->kv_head * (shape->n_q_heads / shape->n_kv_heads) + head};
    uint64_t key = own_of(&state->variant[variant])->seed;
    for (int i = 0; i < 3; i++) key = (key ^ word[i]) * UINT64_C(0x9e3779b97f4a7c15) + (key >> 29);
    adm_rng_seed(rng, key);
}

/* The first n of the order; order [n_tokens] becomes one of all tokens. */
static void order_first(adm_rng *rng, size_t n_tokens, size_t n, uint32_t *order) {
    order[0] = (uint32_t)(n_tokens - 1);
    for (size_t t = 1; t < n_tokens; t++) order[t] = (uint32_t)(t - 1);
    for (size_t i = 1; i < n; i++) { /* Fisher and Yates, as far as is wanted */
        size_t j = i + (size_t)adm_rng_below(rng, n_tokens - i);
        uint32_t token = order[j];
        order[j] = order[i];
        order[i] = token;
    }
}

static void select_any(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                       const adm_budgets *budgets, adm_selected *selected) {
    random_scratch *s = scratch;
    adm_rng rng;
    for (size_t b = 0; b < budgets->n; b++) selected->end[b] = adm_min(budgets->budget[b], at->n_tokens);
    seed_stream(state, at, variant, head, &rng);
    order_first(&rng, at->n_tokens, selected->end[budgets->n - 1], s->order);
    adm_nested_from_order(&s->nested, budgets, s->order, at->n_tokens, selected);
}

static void order_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                      uint32_t *order) {
    adm_rng rng;
    (void)scratch;
    seed_stream(state, at, variant, head, &rng);
    order_first(&rng, at->n_tokens, at->n_tokens, order);
}

static const adm_setting settings[] = {{"seed", "a whole number", "1", NULL, read_seed}, {0}};

const adm_policy adm_policy_random = {
    .name = "random",
    .help = "the newest token and any others: what a selection with no idea reaches",
    .settings = settings,
    .describe = describe,
    .scratch = make_scratch,
    .select = select_any,
    .order = order_all,
};
