/* streaming.c: the first tokens and the last, whatever the query: StreamingLLM, arXiv 2309.17453. A budget b keeps the first
 * min(4, b - 1) tokens, as its authors do, and the most recent of the rest. */
#include <stdio.h>

#include "core/base/minmax.h"
#include "core/policy/policy.h"

enum { SINKS = 4 };

typedef struct streaming_scratch {
    adm_nested_scratch nested;
    uint32_t *order; /* [max_selected] */
} streaming_scratch;

static void describe(const adm_variant *variant, char *text) {
    (void)variant;
    snprintf(text, ADM_DESCRIPTION_BYTES, "%d sinks", SINKS);
}

static void *make_scratch(const adm_policy_state *state, adm_layout *layout) {
    const adm_policy_setup *setup = state->setup;
    streaming_scratch s, *own = adm_layout_take(layout, 1, sizeof *own);
    adm_nested_take(layout, setup->n_tokens, setup->max_selected, setup->max_budgets, &s.nested);
    s.order = adm_layout_take(layout, setup->max_selected, sizeof *s.order);
    if (own != NULL) *own = s;
    return own;
}

/* The newest token, the sinks, then from the second newest on. */
static void order_first(size_t n_tokens, size_t n, uint32_t *order) {
    for (size_t i = 0; i < n; i++) order[i] = (uint32_t)(i == 0 ? n_tokens - 1 : i <= SINKS ? i - 1 : n_tokens + SINKS - 1 - i);
}

static void select_ends(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                        const adm_budgets *budgets, adm_selected *selected) {
    streaming_scratch *s = scratch;
    (void)state, (void)variant, (void)head;
    for (size_t b = 0; b < budgets->n; b++) selected->end[b] = adm_min(budgets->budget[b], at->n_tokens);
    order_first(at->n_tokens, selected->end[budgets->n - 1], s->order);
    adm_nested_from_order(&s->nested, budgets, s->order, at->n_tokens, selected);
}

static void order_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                      uint32_t *order) {
    (void)state, (void)scratch, (void)variant, (void)head;
    order_first(at->n_tokens, at->n_tokens, order);
}

static const adm_setting settings[] = {ADM_SETTING_SELECT, {0}};

const adm_policy adm_policy_streaming = {
    .name = "streaming",
    .help = "the first 4 tokens and the last ones (StreamingLLM)",
    .settings = settings,
    .ignores_queries = true,
    .describe = describe,
    .scratch = make_scratch,
    .select = select_ends,
    .order = order_all,
};
