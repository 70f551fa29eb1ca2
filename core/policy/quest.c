/* quest.c: whole pages of 16 tokens, those with the highest bound on q.k: Quest, arXiv 2406.10774.
 *
 *   bounds [n_held_heads][n_pages][2][d]   the smallest and the largest value of every channel in a page
 *   bound of a page on q.k               sum_i max(q_i low_i, q_i high_i); for a group the sum over its queries
 *
 * A budget b buys floor(b / 16) pages. Its authors' code has two rules (github.com/mit-han-lab/quest), which differ for the
 * page that the newest token is in:
 *
 *   rule=kernel       as their CUDA kernels: the newest page is always in, and the others are ranked for what is left. It costs
 *   a
 *                     page also where it is partial: a budget of 16 attends to 8.5 tokens on average, 48 to 40.5
 *   rule=evaluation   as their evaluation in PyTorch, from which the paper's accuracy comes: the newest page is ranked like any
 *                     other, so that the newest token may be left out; and at least 3 pages are taken, so that budgets below 48
 *                     have no values here, for they would attend to more than they say
 *
 * Equal bounds: the more recent page first; theirs leave that to the library. At or above the context length a budget selects
 * every token, as theirs do. Below 3 pages the rule `kernel` is no setting that the authors evaluate. */
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
    size_t n_pages; /* allocated */
} quest_memory;

typedef struct quest_scratch {
    adm_nested_scratch nested;
    float *key;      /* [d] */
    float *newest;   /* [2][d]: the bounds of the newest page, of the tokens that the query sees */
    double *bound;   /* [n_pages] */
    uint32_t *page;  /* [n_pages] in the order of the policy */
    uint32_t *order; /* [n_tokens] */
    void *rank;
} quest_scratch;

/* --- Settings ---------------------------------------------------------------------------------------------------------- */

typedef enum quest_rule { KERNEL, EVALUATION } quest_rule;

static quest_rule rule_of(const adm_variant *variant) { return *(const quest_rule *)variant->own.bytes; }

static adm_status read_rule(adm_variant *variant, const char *value, adm_error *err) {
    const bool evaluation = strcmp(value, "evaluation") == 0;
    (void)err;
    *(quest_rule *)variant->own.bytes = evaluation ? EVALUATION : KERNEL;
    return evaluation || strcmp(value, "kernel") == 0 ? ADM_OK : ADM_EINPUT;
}

static void describe(const adm_variant *variant, char *text) {
    snprintf(text, ADM_DESCRIPTION_BYTES, "pages of %d%s", PAGE, rule_of(variant) == EVALUATION ? ", evaluation's rule" : "");
}

/* --- Pages and budgets ------------------------------------------------------------------------------------------------ */

enum { EVALUATION_PAGES = 3 };

static size_t pages_of(size_t n_tokens) { return (n_tokens + PAGE - 1) / PAGE; }

static size_t min_budget(const adm_variant *variant) { return rule_of(variant) == EVALUATION ? EVALUATION_PAGES * PAGE : PAGE; }

/* --- The bounds ------------------------------------------------------------------------------------------------------- */

static adm_status open_bounds(adm_policy_state *state, adm_error *err) {
    const adm_policy_setup *setup = state->setup;
    quest_memory *m;
    adm_status status = adm_alloc(&state->memory, 1, sizeof *m, "page bounds of quest", err);
    if (status != ADM_OK) return status;
    m = state->memory;
    m->n_pages = pages_of(setup->n_tokens);
    return adm_alloc(&m->bounds, adm_policy_n_places(setup) * m->n_pages * 2 * setup->shape.head_dim, sizeof *m->bounds,
                     "page bounds of quest", err);
}

static void close_bounds(adm_policy_state *state) {
    quest_memory *m = state->memory;
    if (m != NULL) adm_free(&m->bounds);
    adm_free(&state->memory);
}

/* Takes tokens [first, end) into the bounds [2][d] of the page that they are in. key: scratch. */
static void take_in(float *bounds, const adm_policy_keys *keys, const adm_shape *shape, size_t first, size_t end, float *key) {
    const uint32_t d = shape->head_dim;
    float *low = bounds, *high = bounds + d;
    for (size_t token = first; token < end; token++) {
        const bool is_first = token % PAGE == 0;
        adm_to_f32(keys->dtype, adm_policy_key(keys, shape, keys->kv_head, token), d, key);
        for (uint32_t i = 0; i < d; i++) {
            if (is_first || key[i] < low[i]) low[i] = key[i];
            if (is_first || key[i] > high[i]) high[i] = key[i];
        }
    }
}

static void append(adm_policy_state *state, void *scratch, const adm_policy_keys *keys) {
    const quest_memory *m = state->memory;
    const quest_scratch *s = scratch;
    const adm_shape *shape = &state->setup->shape;
    const size_t end = keys->first + keys->n;
    for (size_t token = keys->first, next; token < end; token = next) {
        next = adm_min(token / PAGE * PAGE + PAGE, end);
        take_in(m->bounds + (adm_policy_place(state->setup, keys->kv_head) * m->n_pages + token / PAGE) * 2 * shape->head_dim,
                keys, shape, token, next, s->key);
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
    s.newest = adm_layout_take(layout, 2 * setup->shape.head_dim, sizeof *s.newest);
    s.bound = adm_layout_take(layout, n_pages, sizeof *s.bound);
    s.page = adm_layout_take(layout, n_pages, sizeof *s.page);
    s.order = adm_layout_take(layout, setup->n_tokens, sizeof *s.order);
    s.rank = adm_layout_take(layout, adm_rank_scratch_bytes(n_pages), 1);
    if (own != NULL) *own = s;
    return own;
}

/* s->page: the pages in the order in which budgets take them. */
static void rank_pages(const adm_policy_state *state, quest_scratch *s, const adm_policy_query *at, size_t variant,
                       uint32_t head) {
    const quest_memory *m = state->memory;
    const adm_shape *shape = &state->setup->shape;
    const bool grouped = state->variant[variant].selection == ADM_SELECT_GROUP;
    const uint32_t first = grouped ? 0 : head, n = grouped ? shape->n_q_heads / shape->n_kv_heads : 1, d = shape->head_dim;
    const size_t n_pages = pages_of(at->n_tokens);
    const bool is_forced = rule_of(&state->variant[variant]) == KERNEL; /* the newest page */
    memset(s->bound, 0, n_pages * sizeof *s->bound);
    if (!is_forced) take_in(s->newest, &at->keys, shape, (n_pages - 1) * PAGE, at->n_tokens, s->key);
    for (uint32_t g = first; g < first + n; g++) {
        add_bounds(m->bounds + adm_policy_place(state->setup, at->kv_head) * m->n_pages * 2 * d, at->q + g * d, d, n_pages - 1,
                   s->bound);
        if (!is_forced) add_bounds(s->newest, at->q + g * d, d, 1, &s->bound[n_pages - 1]);
    }
    if (is_forced) s->bound[n_pages - 1] = INFINITY;
    adm_rank(s->bound, n_pages, s->rank, s->page);
}

/* Appends a page's tokens to an order of n, the newest first, as everywhere. Returns how many there are then. */
static size_t add_page(size_t page, size_t n_tokens, uint32_t *order, size_t n) {
    size_t end = adm_min(page * PAGE + PAGE, n_tokens);
    while (end-- > page * PAGE) order[n++] = (uint32_t)end;
    return n;
}

static void select_pages(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant,
                         uint32_t head, const adm_budgets *budgets, adm_selected *selected) {
    quest_scratch *s = scratch;
    const size_t n_pages = pages_of(at->n_tokens), min = min_budget(&state->variant[variant]);
    size_t n = 0, taken = 0;
    rank_pages(state, s, at, variant, head);
    for (size_t b = 0; b < budgets->n; b++) {
        const size_t budget = budgets->budget[b];
        size_t wanted = budget >= at->n_tokens ? n_pages : budget >= min ? budget / PAGE : 0;
        for (; taken < wanted; taken++) n = add_page(s->page[taken], at->n_tokens, s->order, n);
        selected->end[b] = n;
    }
    adm_nested_from_order(&s->nested, budgets, s->order, at->n_tokens, selected);
}

static void order_all(const adm_policy_state *state, void *scratch, const adm_policy_query *at, size_t variant, uint32_t head,
                      uint32_t *order) {
    const quest_scratch *s = scratch; /* the pages are still ranked */
    (void)state, (void)variant, (void)head;
    for (size_t i = 0, n = 0; i < pages_of(at->n_tokens); i++) n = add_page(s->page[i], at->n_tokens, order, n);
}

static size_t budget_for(const adm_policy_state *state, const void *scratch, const adm_policy_query *at, size_t variant,
                         size_t n_needed) {
    const quest_scratch *s = scratch;
    size_t n = 0, pages = 0;
    (void)state, (void)variant;
    while (n < n_needed) {
        const size_t first = (size_t)s->page[pages++] * PAGE;
        n += adm_min(first + PAGE, at->n_tokens) - first;
    }
    return pages * PAGE;
}

static const adm_setting settings[] = {{"rule", "kernel or evaluation", "kernel", NULL, read_rule}, ADM_SETTING_SELECT, {0}};

const adm_policy adm_policy_quest = {
    .name = "quest",
    .help = "the pages of 16 tokens with the highest bound on q.k (Quest)",
    .settings = settings,
    .describe = describe,
    .min_budget = min_budget,
    .min_budget_reason = "quest selects whole pages of 16 tokens, and by its evaluation's rule at least 3 of them",
    .noted_budget = EVALUATION_PAGES * PAGE,
    .note = "quest below a budget of 48: its authors take at least 3 pages, of which the newest may be partial",
    .open = open_bounds,
    .close = close_bounds,
    .append = append,
    .scratch = make_scratch,
    .select = select_pages,
    .order = order_all,
    .budget_for = budget_for,
};
