/* dense.c: attention to every token: what the others are measured against. */
#include <stdio.h>

#include "core/policy/policy.h"

static void describe(const adm_variant *variant, char *text) {
    (void)variant;
    snprintf(text, ADM_DESCRIPTION_BYTES, "exact");
}

/* For a model in the loop; a replay has the dense output anyway. */
static void select_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                       const adm_budgets *budgets, adm_selected *selected) {
    (void)state, (void)scratch, (void)variant, (void)head;
    for (size_t t = 0; t < at->n_tokens; t++) selected->list[t] = (uint32_t)t;
    for (size_t b = 0; b < budgets->n; b++) selected->end[b] = at->n_tokens;
}

const adm_policy adm_policy_dense = {
    .name = "dense",
    .help = "attention to every token",
    .attends_to_all = true,
    .is_exact = true,
    .ignores_queries = true,
    .describe = describe,
    .select = select_all,
};
