/* quest.c: whole pages of 16 tokens, those with the highest bound on q.k: Quest, arXiv 2406.10774.
 *
 *   bounds [n_kv_heads][n_pages][2][d]   the smallest and the largest value of every channel in a page
 *   bound of a page on q.k               sum_i max(q_i low_i, q_i high_i); for a group the sum over its queries
 *
 * The newest page is always in; then pages by descending bound, the most recent first among equals. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/minmax.h"
#include "core/policy/policy.h"

enum { PAGE = 16 };

_Static_assert(ADM_APPEND_STEP % PAGE == 0, "a page is appended by one thread, and from its first token on");

typedef struct quest_memory {
    float *bounds;
    size_t n_pages; /* that there is room for */
} quest_memory;

typedef struct quest_scratch {
    adm_nested_scratch nested;
    float *key;      /* [d] */
    double *bound;   /* [n_pages] */
    uint32_t *page;  /* [n_pages] in the order of the policy */
    uint32_t *order; /* [n_tokens] */
    void *rank;
} quest_scratch;

static void describe(const adm_variant *variant, char *text) {
    (void)variant;
    snprintf(text, ADM_DESCRIPTION_BYTES, "pages of %d", PAGE);
}

/* --- Pages and budgets ------------------------------------------------------------------------------------------------ */

static size_t pages_of(size_t n_tokens) { return (n_tokens + PAGE - 1) / PAGE; }

/* Tokens of the newest page, which may be short. */
static size_t newest_page(size_t n_tokens) { return (n_tokens - 1) % PAGE + 1; }

static size_t min_budget(const adm_variant *variant) {
    (void)variant;
    return PAGE;
}

static size_t n_selected(const adm_variant *variant, size_t n_tokens, size_t budget) {
    const size_t n_pages = adm_min(budget / PAGE, pages_of(n_tokens));
    (void)variant;
    return n_pages == 0 ? 0 : newest_page(n_tokens) + (n_pages - 1) * PAGE;
}

static size_t budget_for(const adm_variant *variant, size_t n_tokens, size_t n_needed) {
    const size_t newest = newest_page(n_tokens);
    (void)variant;
    return n_needed <= newest ? PAGE : PAGE * (1 + pages_of(n_needed - newest));
}

/* --- The bounds ------------------------------------------------------------------------------------------------------- */

static adm_status open_bounds(adm_policy_state *state, adm_error *err) {
    const adm_policy_setup *setup = state->setup;
    quest_memory *m;
    adm_status status = adm_alloc(&state->memory, 1, sizeof *m, "page bounds of quest", err);
    if (status != ADM_OK) return status;
    m = state->memory;
    m->n_pages = pages_of(setup->n_tokens);
    return adm_alloc(&m->bounds, setup->shape.n_kv_heads * m->n_pages * 2 * setup->shape.head_dim, sizeof *m->bounds,
                     "page bounds of quest", err);
}

static void close_bounds(adm_policy_state *state) {
    quest_memory *m = state->memory;
    if (m != NULL) adm_free(&m->bounds);
    adm_free(&state->memory);
}

static void append(adm_policy_state *state, void *scratch, const adm_policy_keys *keys) {
    const quest_memory *m = state->memory;
    const quest_scratch *s = scratch;
    const uint32_t d = state->setup->shape.head_dim;
    for (size_t token = keys->first; token < keys->first + keys->n; token++) {
        float *low = m->bounds + (keys->kv_head * m->n_pages + token / PAGE) * 2 * d, *high = low + d;
        const bool first = token % PAGE == 0;
        adm_to_f32(keys->dtype, adm_policy_key(keys, &state->setup->shape, keys->kv_head, token), d, s->key);
        for (uint32_t i = 0; i < d; i++) {
            if (first || s->key[i] < low[i]) low[i] = s->key[i];
            if (first || s->key[i] > high[i]) high[i] = s->key[i];
        }
    }
}

/* bound [n_pages] += the bounds for one query. */
static void add_bounds(const float *bounds, const float *q, uint32_t head_dim, size_t n_pages, double *bound) {
    enum { LANES = 8 }; /* element i in sum i mod 8: head_dim is a multiple, and vectors can do it */
    for (size_t p = 0; p < n_pages; p++) {
        const float *low = bounds + p * 2 * head_dim, *high = low + head_dim;
        double sum[LANES] = {0};
        for (uint32_t i = 0; i < head_dim; i += LANES)
            for (uint32_t l = 0; l < LANES; l++) {
                double at_low = (double)q[i + l] * low[i + l], at_high = (double)q[i + l] * high[i + l];
                sum[l] += at_low > at_high ? at_low : at_high;
            }
        bound[p] += ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
    }
}

/* --- Selecting -------------------------------------------------------------------------------------------------------- */

static void *make_scratch(const adm_policy_state *state, adm_layout *layout) {
    const adm_policy_setup *setup = state->setup;
    const size_t n_pages = pages_of(setup->n_tokens);
    quest_scratch s, *own = adm_layout_take(layout, 1, sizeof *own);
    adm_nested_take(layout, setup->n_tokens, setup->max_selected, setup->max_budgets, &s.nested);
    s.key = adm_layout_take(layout, setup->shape.head_dim, sizeof *s.key);
    s.bound = adm_layout_take(layout, n_pages, sizeof *s.bound);
    s.page = adm_layout_take(layout, n_pages, sizeof *s.page);
    s.order = adm_layout_take(layout, setup->n_tokens, sizeof *s.order);
    s.rank = adm_layout_take(layout, adm_rank_scratch_bytes(n_pages), 1);
    if (own != NULL) *own = s;
    return own;
}

static void rank_pages(const adm_policy_state *state, quest_scratch *s, const adm_policy_query *at, size_t variant,
                       uint32_t head) {
    const quest_memory *m = state->memory;
    const adm_shape *shape = &state->setup->shape;
    const bool grouped = state->variant[variant].selection == ADM_SELECT_GROUP;
    const uint32_t first = grouped ? 0 : head, n = grouped ? shape->n_q_heads / shape->n_kv_heads : 1, d = shape->head_dim;
    const size_t n_pages = pages_of(at->n_tokens);
    memset(s->bound, 0, n_pages * sizeof *s->bound);
    for (uint32_t g = first; g < first + n; g++)
        add_bounds(m->bounds + at->kv_head * m->n_pages * 2 * d, at->q + g * d, d, n_pages, s->bound);
    s->bound[n_pages - 1] = INFINITY;
    adm_rank(s->bound, n_pages, s->rank, s->page);
}

/* The tokens of the first pages, at least n_wanted; the newest of a page first, like everywhere. */
static void order_first(const quest_scratch *s, size_t n_tokens, size_t n_wanted, uint32_t *order) {
    for (size_t i = 0, n = 0; i < pages_of(n_tokens) && n < n_wanted; i++) {
        const size_t first = (size_t)s->page[i] * PAGE;
        size_t end = adm_min(first + PAGE, n_tokens);
        while (end-- > first) order[n++] = (uint32_t)end;
    }
}

static void select_pages(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant,
                         uint32_t head, const adm_budgets *budgets, adm_selected *selected) {
    quest_scratch *s = scratch;
    rank_pages(state, s, at, variant, head);
    for (size_t b = 0; b < budgets->n; b++)
        selected->end[b] = n_selected(&state->variant[variant], at->n_tokens, budgets->budget[b]);
    order_first(s, at->n_tokens, selected->end[budgets->n - 1], s->order);
    adm_nested_from_order(&s->nested, budgets, s->order, at->n_tokens, selected);
}

static void order_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                      uint32_t *order) {
    (void)state, (void)variant, (void)head; /* the pages are still ranked */
    order_first(scratch, at->n_tokens, at->n_tokens, order);
}

static const adm_setting settings[] = {ADM_SETTING_SELECT, {0}};

const adm_policy adm_policy_quest = {
    .name = "quest",
    .help = "the pages of 16 tokens with the highest bound on q.k (Quest)",
    .settings = settings,
    .describe = describe,
    .min_budget = min_budget,
    .min_budget_reason = "quest selects whole pages of 16 tokens",
    .n_selected = n_selected,
    .budget_for = budget_for,
    .open = open_bounds,
    .close = close_bounds,
    .append = append,
    .scratch = make_scratch,
    .select = select_pages,
    .order = order_all,
};
