/* replay_select.c: what each policy selects, at every budget at once: selections that hold one another, smallest first
 * (adm_nested in core/replay/quality.h). */
#include <string.h>

#include "core/base/minmax.h"
#include "core/replay/replay_internal.h"

/* Of n tokens those from the last sink up to here compete; the others are in by force. */
static size_t competing_to(const adm_coding *coding, size_t n) {
    const size_t first = adm_min(coding->n_sinks, n);
    return n - first > coding->n_recent ? n - coding->n_recent : first;
}

/* --- The exact top-k of each head ------------------------------------------------------------------------------------ */

/* The sizes of all selections that leave something out, ascending, each once. */
static size_t sizes_of(const adm_replay *r, size_t n_tokens, adm_cut *cut) {
    size_t n = 0;
    for (size_t b = 0; b < r->options.n_budgets; b++) {
        size_t sizes[2] = {r->options.policy[ADM_POLICY_QUEST] ? adm_quest_tokens(n_tokens, r->options.budgets[b]) : 0,
                           r->options.budgets[b]};
        for (int i = 0; i < 2; i++) {
            size_t k = sizes[i], at = n;
            if (k == 0 || k >= n_tokens) continue;
            while (at > 0 && cut[at - 1].k > k) at--;
            if (at > 0 && cut[at - 1].k == k) continue;
            memmove(cut + at + 1, cut + at, (n - at) * sizeof *cut);
            cut[at] = (adm_cut){.k = k};
            n++;
        }
    }
    return n;
}

size_t adm_select_exact(const adm_replay *r, adm_worker *w, const adm_task_at *at) {
    size_t max_cuts = adm_replay_max_cuts(r), n_cuts = sizes_of(r, at->n_tokens, w->exact);
    for (uint32_t g = 0; n_cuts > 0 && g < adm_replay_group(r); g++) {
        if (g > 0) memcpy(w->exact + g * max_cuts, w->exact, n_cuts * sizeof *w->exact);
        adm_rank_cut(at->reference[g].score, at->n_tokens, w->exact + g * max_cuts, n_cuts, w->rank_scratch, &w->candidates[g]);
    }
    return n_cuts;
}

/* --- From the largest selection, split by the smallest budget that holds a token --------------------------------------- */

/* w->set holds the widest selection, n_now tokens, w->level the smallest budget that holds each. */
static void split(const adm_replay *r, adm_worker *w, size_t n_now) {
    for (size_t b = 0; b < r->options.n_budgets; b++) {
        w->end[b] = adm_min(r->options.budgets[b], n_now);
        w->next[b] = b > 0 ? w->end[b - 1] : 0;
    }
    for (size_t i = 0; i < n_now; i++) w->list[w->next[w->level[i]]++] = w->set[i];
}

/* What top-k sees at the boundary of each budget but the widest, whose is known: slots are the places that are not forced.
 * histogram [n_values]: the distances of the widest selection's tokens that compete. Of the tokens tied at the widest
 * boundary it holds a part. */
static void find_boundaries(const adm_replay *r, adm_worker *w, size_t n_forced, size_t n_competing, size_t n_values) {
    const adm_select_info widest = w->info[r->options.n_budgets - 1];
    size_t value = 0, below = 0;
    for (size_t b = 0; b + 1 < r->options.n_budgets; b++) {
        const size_t slots = adm_min(r->options.budgets[b] - n_forced, n_competing);
        w->info[b] = (adm_select_info){0};
        if (slots == 0) continue;
        while (value + 1 < n_values && below + w->histogram[value] < slots) below += w->histogram[value++];
        w->info[b] = (adm_select_info){(uint32_t)value, value == widest.boundary ? widest.n_tied : w->histogram[value],
                                       (uint32_t)(slots - below)};
    }
}

/* The budgets' selections are the beginnings of one order: forced tokens, then by distance, the most recent first among
 * equals. So a token's place in it says which budgets hold it. */
static void select_adamas(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, uint32_t head) {
    const size_t widest = r->options.n_budgets - 1;
    const adm_coding *coding = &r->options.codings[row->coding];
    const uint32_t most = adm_replay_distances(r, w, at, row->coding, head);
    const adm_select_rule rule = adm_coding_rule(coding, r->options.budgets[widest]);
    const size_t n_now = r->options.pipeline->topk->fn.topk(w->distance, at->n_tokens, most, &rule, w->histogram, w->set,
                                                            &w->info[widest]);
    const size_t first = adm_min(coding->n_sinks, n_now), last = competing_to(coding, n_now);
    const size_t n_values = (size_t)w->info[widest].boundary + 1;
    memset(w->histogram, 0, n_values * sizeof *w->histogram);
    for (size_t i = first; i < last; i++) w->histogram[w->near[i] = w->distance[w->set[i]]]++;
    find_boundaries(r, w, n_now - (last - first), last - first, n_values);
    uint32_t place = (uint32_t)(n_now - (last - first));
    for (size_t v = 0; v < n_values; v++) {
        const uint32_t here = w->histogram[v];
        w->histogram[v] = place;
        place += here;
    }
    memset(w->level, 0, n_now * sizeof *w->level);
    for (size_t i = last; i-- > first;) w->level[i] = r->level_of[w->histogram[w->near[i]]++];
    split(r, w, n_now);
}

/* The exact top-k by `score`; cut[b] at each budget below n. */
static void select_by_cuts(const adm_replay *r, adm_worker *w, const double *score, size_t n_tokens,
                           const adm_candidates *candidates, const adm_cut *cut) {
    const size_t widest = r->options.n_budgets - 1, n_now = adm_min(r->options.budgets[widest], n_tokens);
    size_t n_cuts = 0; /* that leave something of the set out */
    while (n_cuts < widest && r->options.budgets[n_cuts] < n_now) n_cuts++;
    adm_candidates set = {n_tokens, w->set, w->set_score};
    if (n_now < n_tokens) adm_rank_take(candidates, &cut[widest], &set);
    for (size_t t = 0; n_now == n_tokens && t < n_tokens; t++) {
        w->set[t] = (uint32_t)t;
        w->set_score[t] = score[t];
    }
    memset(w->level, 0, n_now * sizeof *w->level);
    for (size_t b = 0; b < n_cuts; b++) {
        size_t n_above = 0; /* or level with the cut: more than it keeps where scores tie, and then the token decides */
        for (size_t i = 0; i < n_now; i++) {
            const bool below = w->set_score[i] < cut[b].score;
            w->level[i] = (uint16_t)(w->level[i] + below);
            n_above += !below;
        }
        for (size_t i = 0; n_above > cut[b].k && i < n_now; i++)
            w->level[i] = (uint16_t)(w->level[i] + (w->set_score[i] == cut[b].score && w->set[i] < cut[b].token));
    }
    split(r, w, n_now);
}

static void select_oracle(const adm_replay *r, adm_worker *w, const adm_task_at *at, uint32_t head) {
    const adm_cut *exact = w->exact + head * adm_replay_max_cuts(r);
    for (size_t b = 0, c = 0; b < r->options.n_budgets && r->options.budgets[b] < at->n_tokens; b++) {
        while (exact[c].k != r->options.budgets[b]) c++;
        w->cut[b] = exact[c];
    }
    select_by_cuts(r, w, at->reference[head].score, at->n_tokens, &w->candidates[head], w->cut);
}

/* w->ranking: the softmax masses of the group, summed. */
static void sum_masses(const adm_replay *r, adm_worker *w, const adm_task_at *at) {
    memset(w->ranking, 0, at->n_tokens * sizeof *w->ranking);
    for (uint32_t g = 0; g < adm_replay_group(r); g++) {
        const adm_reference *reference = &at->reference[g];
        r->options.quality->weights(reference->score, at->n_tokens, reference->largest, w->weight);
        for (size_t t = 0; t < at->n_tokens; t++) w->ranking[t] += w->weight[t] / reference->total_weight;
    }
}

static void select_group_oracle(const adm_replay *r, adm_worker *w, const adm_task_at *at) {
    adm_candidates *candidates = &w->candidates[adm_replay_group(r)];
    size_t n_cuts = 0;
    sum_masses(r, w, at);
    while (n_cuts < r->options.n_budgets && r->options.budgets[n_cuts] < at->n_tokens) {
        w->cut[n_cuts] = (adm_cut){.k = r->options.budgets[n_cuts]};
        n_cuts++;
    }
    if (n_cuts > 0) adm_rank_cut(w->ranking, at->n_tokens, w->cut, n_cuts, w->rank_scratch, candidates);
    select_by_cuts(r, w, w->ranking, at->n_tokens, candidates, w->cut);
}

/* --- From an order ---------------------------------------------------------------------------------------------------- */

/* One of the streams of random numbers, which no other step, layer or head has. */
static void seed_stream(const adm_replay *r, const adm_task_at *at, uint32_t head, adm_rng *rng) {
    const uint64_t part[] = {at->step, at->l->index, at->kv_head * adm_replay_group(r) + head};
    uint64_t key = r->options.seed;
    for (int i = 0; i < 3; i++) key = (key ^ part[i]) * UINT64_C(0x9e3779b97f4a7c15) + (key >> 29);
    adm_rng_seed(rng, key);
}

/* The first n_wanted tokens, or some more, of the order of a policy that has one, in w->order. */
static void order_by_policy(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, uint32_t head,
                            size_t n_wanted) {
    const bool grouped = row->selection == ADM_SELECT_GROUP;
    const uint32_t d = r->trace->shape.head_dim, first = grouped ? 0 : head, n = grouped ? adm_replay_group(r) : 1;
    const size_t n_pages = adm_quest_pages(r->trace->n_tokens);
    adm_rng rng;
    switch (row->policy) {
    case ADM_POLICY_STREAMING: adm_streaming_order(at->n_tokens, n_wanted, w->order); return;
    case ADM_POLICY_QUEST:
        memset(w->ranking, 0, adm_quest_pages(at->n_tokens) * sizeof *w->ranking);
        for (uint32_t g = first; g < first + n; g++)
            adm_quest_add_bounds(r->page_bounds + at->kv_head * n_pages * 2 * d, at->q + g * d, d, at->n_tokens, w->ranking);
        adm_quest_order(w->ranking, at->n_tokens, n_wanted, w->rank_scratch, w->rank, w->order);
        return;
    case ADM_POLICY_H2O:
        memset(w->ranking, 0, at->n_tokens * sizeof *w->ranking);
        for (uint32_t g = first; g < first + n; g++) {
            const double *drawn = r->drawn + (at->kv_head * adm_replay_group(r) + g) * r->trace->n_tokens;
            for (size_t t = 0; t < at->n_tokens; t++) w->ranking[t] += drawn[t];
        }
        adm_rank(w->ranking, at->n_tokens, w->rank_scratch, w->rank);
        adm_h2o_order(w->rank, at->n_tokens, n_wanted, w->taken, w->order);
        return;
    default: seed_stream(r, at, head, &rng); adm_random_order(&rng, at->n_tokens, n_wanted, w->order);
    }
}

/* Writes order[0 .. n-1] to list, ascending: through a bit a token, for n is not small. */
static void write_ascending(adm_worker *w, const uint32_t *order, size_t n, size_t n_tokens, uint32_t *list) {
    for (size_t i = 0; i < n; i++) w->bits[order[i] / 64] |= UINT64_C(1) << order[i] % 64;
    for (size_t word = 0; n > 0 && word <= n_tokens / 64; word++)
        for (uint64_t rest = w->bits[word]; rest != 0; rest &= rest - 1)
            *list++ = (uint32_t)(64 * word) + (uint32_t)__builtin_ctzll(rest);
    if (n > 0) memset(w->bits, 0, (n_tokens / 64 + 1) * sizeof *w->bits);
}

static void select_by_order(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, uint32_t head) {
    size_t begin = 0;
    order_by_policy(r, w, at, row, head, r->widest);
    for (size_t b = 0; b < r->options.n_budgets; b++) {
        size_t budget = r->options.budgets[b];
        w->end[b] = row->policy == ADM_POLICY_QUEST ? adm_quest_tokens(at->n_tokens, budget) : adm_min(budget, at->n_tokens);
        write_ascending(w, w->order + begin, w->end[b] - begin, at->n_tokens, w->list + begin);
        begin = w->end[b];
    }
}

/* --- Public ----------------------------------------------------------------------------------------------------------- */

void adm_select_nested(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, uint32_t head) {
    if (row->policy == ADM_POLICY_ADAMAS) select_adamas(r, w, at, row, head);
    else if (row->policy != ADM_POLICY_ORACLE) select_by_order(r, w, at, row, head);
    else if (row->selection == ADM_SELECT_GROUP) select_group_oracle(r, w, at);
    else select_oracle(r, w, at, head);
}

/* Forced tokens first, whatever their order, since no budget goes without; then by distance, the most recent first. */
static void order_by_distance(const adm_coding *coding, adm_worker *w, const adm_task_at *at, uint32_t most) {
    size_t n = at->n_tokens, found = 0;
    const size_t first = adm_min(coding->n_sinks, n), last = competing_to(coding, n);
    for (size_t t = n; t-- > last;) w->order[found++] = (uint32_t)t;
    for (size_t t = 0; t < first; t++) w->order[found++] = (uint32_t)t;
    memset(w->histogram, 0, ((size_t)most + 1) * sizeof *w->histogram);
    for (size_t t = first; t < last; t++) w->histogram[w->distance[t]]++;
    for (size_t v = 0; v <= most; v++) {
        size_t here = w->histogram[v];
        w->histogram[v] = (uint32_t)found;
        found += here;
    }
    for (size_t t = last; t-- > first;) w->order[w->histogram[w->distance[t]]++] = (uint32_t)t;
}

void adm_select_order(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, uint32_t head) {
    if (row->policy == ADM_POLICY_ADAMAS) {
        const adm_coding *coding = &r->options.codings[row->coding];
        order_by_distance(
            coding, w, at,
            adm_coding_max_distance(coding, r->trace->shape.head_dim, adm_coding_queries(coding, &r->trace->shape)));
    } else if (row->policy != ADM_POLICY_ORACLE) {
        order_by_policy(r, w, at, row, head, at->n_tokens);
    } else { /* by group the masses are still in w->ranking */
        adm_rank(row->selection == ADM_SELECT_GROUP ? w->ranking : at->reference[head].score, at->n_tokens, w->rank_scratch,
                 w->order);
    }
}
