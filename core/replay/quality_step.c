/* quality_step.c: one KV head at one step. */
#include "core/replay/quality_step.h"

#include <string.h>

#include "core/base/minmax.h"

/* --- Scratch ------------------------------------------------------------------------------------------------------- */

void adm_step_scratch_take(const adm_session *s, const adm_policy_set *set, adm_layout *layout, adm_step_scratch *w) {
    const size_t n = s->trace->n_tokens, group = s->group, n_budgets = s->budgets.n;
    w->head = adm_layout_take(layout, group, sizeof *w->head);
    w->candidates = adm_layout_take(layout, group, sizeof *w->candidates);
    w->candidate = adm_layout_take(layout, group * n, sizeof *w->candidate);
    w->candidate_score = adm_layout_take(layout, group * n, sizeof *w->candidate_score);
    w->exact = adm_layout_take(layout, group * n_budgets, sizeof *w->exact);
    w->cut = adm_layout_take(layout, group * n_budgets, sizeof *w->cut);
    w->rank = adm_layout_take(layout, adm_rank_scratch_bytes(n), 1);
    w->order = adm_layout_take(layout, n, sizeof *w->order);
    w->weight = adm_layout_take(layout, n, sizeof *w->weight);
    adm_waiting_take(s, layout, &w->waiting);
    w->policy = adm_layout_take(layout, adm_policy_set_scratch_bytes(set), 1);
}

void adm_step_scratch_init(const adm_session *s, adm_step_scratch *w) {
    const size_t n = s->trace->n_tokens;
    for (size_t g = 0; g < s->group; g++)
        w->candidates[g] = (adm_candidates){0, w->candidate + g * n, w->candidate_score + g * n};
}

/* --- The exact top-k of each head ------------------------------------------------------------------------------------ */

/* Fills scratch->head: the cuts at every budget that leaves something out, which come first. */
static void find_exact(const adm_session *s, adm_step_scratch *w, const adm_quality_step *step) {
    const size_t n_tokens = step->query.n_tokens;
    size_t n_cuts = 0;
    while (n_cuts < s->budgets.n && s->budgets.budget[n_cuts] < n_tokens) n_cuts++;
    for (uint32_t g = 0; g < s->group; g++) {
        const adm_reference *reference = &step->reference[g];
        adm_score_cut *cut = w->exact + g * s->budgets.n;
        for (size_t b = 0; b < s->budgets.n; b++) cut[b] = (adm_score_cut){.k = adm_min(s->budgets.budget[b], n_tokens)};
        if (n_cuts > 0) adm_rank_cut(reference->score, n_tokens, cut, n_cuts, w->rank, &w->candidates[g]);
        w->head[g] = (adm_head_scores){.score = reference->score,
                                       .largest = reference->largest,
                                       .total_weight = reference->total_weight,
                                       .candidates = &w->candidates[g],
                                       .cut = cut,
                                       .n_cuts = n_cuts};
    }
}

/* --- A step ---------------------------------------------------------------------------------------------------------- */

/* The step as the functions below see it. */
typedef struct measuring {
    const adm_session *s;
    adm_policy_set *set;
    const adm_quality_record *record;
    adm_step_scratch *w;
    const adm_quality_step *step;
} measuring;

/* The smallest budget with which the row reaches each target; w->order is the row's order of all tokens. */
static void measure_targets(const measuring *m, size_t row, uint32_t head) {
    const adm_session *s = m->s;
    adm_step_scratch *w = m->w;
    const adm_reference *reference = &m->step->reference[head];
    const size_t n_tokens = m->step->query.n_tokens, kv_head = m->step->query.kv_head;
    s->options.quality->weights(reference->score, n_tokens, reference->largest, w->weight);
    for (size_t i = 0; i < s->options.n_targets; i++) {
        const adm_target *target = &s->options.targets[i];
        size_t k = 0;
        if (target->kind == ADM_TARGET_MASS) {
            double kept = 0;
            while (k < n_tokens && kept < target->value * reference->total_weight) kept += w->weight[w->order[k++]];
        } else {
            k = s->options.quality->within(m->step->layer->v_dtype, adm_session_values(s, m->step->layer, kv_head), w->order,
                                           n_tokens, reference->head_dim, w->weight, reference->out,
                                           target->value * reference->out_norm);
        }
        k = adm_policy_set_budget_for(m->set, w->policy, &m->step->query, row, k);
        adm_quality_record_put_target(m->record, row, i, kv_head * s->group + head, m->step->in_block, (double)k);
    }
}

/* The selections at some budgets, of query `head` or of n_q heads that share them. */
static void measure_budgets(const measuring *m, size_t row, uint32_t head, uint32_t n_q, const adm_budgets *budgets) {
    adm_step_scratch *w = m->w;
    const size_t kv_head = m->step->query.kv_head;
    size_t first = 0; /* budgets at which the row selects something */
    adm_waiting_room(&w->waiting, m->record, budgets, n_q, &w->selected);
    adm_policy_set_select(m->set, w->policy, &m->step->query, row, head, budgets, &w->selected);
    while (first < budgets->n && w->selected.end[first] == 0) first++;
    const size_t n_levels = budgets->n - first;
    const adm_nested nested = {.impl = m->s->options.quality,
                               .dtype = m->step->layer->v_dtype,
                               .v = adm_session_values(m->s, m->step->layer, kv_head),
                               .list = w->selected.list,
                               .end = w->selected.end + first,
                               .n_levels = n_levels};
    const adm_waiting_place place = {.row = row,
                                     .level = budgets->level + first,
                                     .kv_head = kv_head,
                                     .query = head,
                                     .step = m->step->in_block,
                                     .info = w->selected.info + first};
    if (n_levels == 0) return;
    for (uint32_t g = 0; g < n_q; g++)
        memcpy(w->cut + g * n_levels, w->head[head + g].cut + budgets->level + first, n_levels * sizeof *w->cut);
    adm_waiting_add(&w->waiting, &nested, m->step->reference + head, n_q, w->cut, &place);
}

/* What the row's own selection paid: the softmax over it. */
static void observe_own(const measuring *m, size_t row, size_t level, uint32_t head) {
    const adm_selected *selected = &m->w->selected;
    const size_t n = selected->end[0];
    double *weight = m->w->weight;
    for (size_t j = 0; j < n; j++) weight[j] = m->step->reference[head].score[selected->list[j]];
    const double total = m->s->options.quality->weights(weight, n, adm_largest(weight, n), weight);
    adm_policy_set_observe(m->set, &m->step->query, row, level, head, &(adm_attention_paid){selected->list, n, weight, total});
}

/* A row whose selections do not nest. */
static void measure_one_by_one(const measuring *m, size_t row, uint32_t head, uint32_t n_q) {
    const adm_budgets *all = &m->s->budgets;
    for (size_t b = 0; b < all->n; b++) {
        const adm_budgets one = {.budget = &all->budget[b], .n = 1, .widest = adm_min(all->budget[b], all->widest), .level = b};
        measure_budgets(m, row, head, n_q, &one);
        for (uint32_t g = 0; m->s->row[row].policy->observes == ADM_OBSERVES_OWN && g < n_q; g++)
            observe_own(m, row, b, head + g);
    }
}

static void measure_selection(const measuring *m, size_t row, uint32_t head, uint32_t n_q) {
    if (m->s->row[row].policy->order == NULL) {
        measure_one_by_one(m, row, head, n_q);
        return;
    }
    measure_budgets(m, row, head, n_q, &m->s->budgets);
    if (m->s->options.n_targets == 0 || !m->s->is_kept[row]) return;
    adm_policy_set_order(m->set, m->w->policy, &m->step->query, row, head, m->w->order);
    for (uint32_t g = 0; g < n_q; g++) measure_targets(m, row, head + g);
}

/* Dense attention of a head. */
static adm_attention_paid find_paid(const measuring *m, uint32_t head) {
    const adm_reference *reference = &m->step->reference[head];
    m->s->options.quality->weights(reference->score, reference->n, reference->largest, m->w->weight);
    return (adm_attention_paid){NULL, reference->n, m->w->weight, reference->total_weight};
}

void adm_quality_step_observe_prompt(const adm_session *s, adm_policy_set *set, adm_step_scratch *w,
                                     const adm_quality_step *step) {
    const measuring m = {.s = s, .w = w, .step = step};
    for (uint32_t g = 0; g < s->group; g++) {
        const adm_attention_paid paid = find_paid(&m, g);
        adm_policy_set_observe_prompt(set, &step->query, g, &paid, true);
    }
}

void adm_quality_step_measure(const adm_session *s, adm_policy_set *set, const adm_quality_record *record, adm_step_scratch *w,
                              const adm_quality_step *given) {
    adm_quality_step step = *given;
    const measuring m = {s, set, record, w, &step};
    step.query.head = w->head;
    for (uint32_t g = 0; g < s->group; g++) {
        const adm_quality quality = adm_quality_of_dense(&step.reference[g]);
        adm_quality_record_put_quality(record, ADM_ROW_DENSE, 0, step.query.kv_head * s->group + g, step.in_block, &quality, 0,
                                       0);
    }
    find_exact(s, w, &step);
    for (size_t row = ADM_ROW_ORACLE; row < s->n_rows; row++) {
        if (s->row[row].policy->needs_prompt && !step.has_prompt) continue;
        const bool shared = s->row[row].selection == ADM_SELECT_GROUP || s->row[row].policy->ignores_queries;
        for (uint32_t g = 0; g < s->group; g += shared ? s->group : 1) measure_selection(&m, row, g, shared ? s->group : 1);
    }
    for (uint32_t g = 0; adm_policy_set_observes(set) && g < s->group; g++) {
        const adm_attention_paid paid = find_paid(&m, g);
        adm_policy_set_observe_dense(set, &step.query, g, &paid);
    }
}
