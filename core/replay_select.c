/* replay_select.c: what each policy selects, at every budget at once: selections that hold one another, smallest first
 * (adm_nested in core/quality.h). */
#include <string.h>

#include "core/replay_internal.h"

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

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
        w->n_candidates[g] = adm_rank_cut(w->reference[g].score, at->n_tokens, w->exact + g * max_cuts, n_cuts,
                                          w->rank_scratch, w->candidates + g * r->trace->n_tokens);
    }
    return n_cuts;
}

/* --- From the largest selection down --------------------------------------------------------------------------------- */

/* w->set holds the selection of budget b + 1, n_now tokens; w->subset the n positions in it that budget b keeps, ascending.
 * What b does not keep is b + 1's level. */
static void descend(adm_worker *w, size_t b, size_t n_now, size_t n) {
    uint32_t *level = w->list + n, behind = w->list[n_now];
    size_t kept = 0;
    w->end[b] = n;
    w->subset[n] = UINT32_MAX;
    for (size_t i = 0; i < n_now; i++) { /* without a branch: it would be mispredicted every other time */
        size_t in = w->subset[kept] == i;
        *level = w->set[i];
        level += 1 - in;
        w->set[kept] = w->set[i];
        kept += in;
    }
    w->list[n_now] = behind; /* a token that stays may have been written where the next level begins */
}

static void select_adamas(const adm_replay *r, adm_worker *w, const adm_task_at *at, const adm_row *row, uint32_t head) {
    adm_topk_fn *topk = r->options.pipeline->topk->fn.topk;
    uint32_t most = adm_replay_distances(r, w, row->coding, at->layer, at->kv_head, head, at->n_tokens);
    adm_select_rule rule = {0, r->options.n_sinks, r->options.n_recent};
    size_t b = r->options.n_budgets - 1, n_now;
    rule.budget = r->options.budgets[b];
    n_now = w->end[b] = topk(w->distance, at->n_tokens, most, &rule, w->histogram, w->set, &w->info[b]);
    while (b-- > 0) {
        for (size_t i = 0; i < n_now; i++) w->near[i] = w->distance[w->set[i]];
        rule.budget = r->options.budgets[b];
        size_t n = topk(w->near, n_now, most, &rule, w->histogram, w->subset, &w->info[b]);
        /* Of the tokens tied here, the wider selection may hold a part; it knows of them all. */
        const adm_select_info *wider = &w->info[b + 1];
        if (w->info[b].n_tied > 0 && wider->n_tied > 0 && w->info[b].boundary == wider->boundary)
            w->info[b].n_tied = wider->n_tied;
        descend(w, b, n_now, n);
        n_now = n;
    }
    memcpy(w->list, w->set, n_now * sizeof *w->list);
}

/* The exact top-k by `score`; cut[b] at each budget below n. */
static void select_by_cuts(const adm_replay *r, adm_worker *w, const double *score, size_t n_tokens,
                           const uint32_t *candidates, size_t n_candidates, const adm_cut *cut) {
    size_t b = r->options.n_budgets - 1, n_now = smaller(r->options.budgets[b], n_tokens);
    w->end[b] = n_now;
    if (n_now == n_tokens)
        for (size_t t = 0; t < n_tokens; t++) w->set[t] = (uint32_t)t;
    else adm_rank_take(score, candidates, n_candidates, &cut[b], w->set);
    while (b-- > 0) {
        size_t n = smaller(r->options.budgets[b], n_tokens), found = 0;
        for (size_t i = 0; i < n_now && found < n; i++) {
            double s = score[w->set[i]];
            w->subset[found] = (uint32_t)i;
            found += n == n_tokens || s > cut[b].score || (s == cut[b].score && w->set[i] >= cut[b].token);
        }
        descend(w, b, n_now, n);
        n_now = n;
    }
    memcpy(w->list, w->set, n_now * sizeof *w->list);
}

static void select_oracle(const adm_replay *r, adm_worker *w, const adm_task_at *at, uint32_t head) {
    const adm_cut *exact = w->exact + head * adm_replay_max_cuts(r);
    for (size_t b = 0, c = 0; b < r->options.n_budgets && r->options.budgets[b] < at->n_tokens; b++) {
        while (exact[c].k != r->options.budgets[b]) c++;
        w->cut[b] = exact[c];
    }
    select_by_cuts(r, w, w->reference[head].score, at->n_tokens, w->candidates + head * r->trace->n_tokens,
                   w->n_candidates[head], w->cut);
}

/* w->ranking: the softmax masses of the group, summed. */
static void sum_masses(adm_worker *w, size_t n_tokens, uint32_t group) {
    memset(w->ranking, 0, n_tokens * sizeof *w->ranking);
    for (uint32_t g = 0; g < group; g++)
        for (size_t t = 0; t < n_tokens; t++) w->ranking[t] += w->reference[g].weight[t] / w->reference[g].total_weight;
}

static void select_group_oracle(const adm_replay *r, adm_worker *w, const adm_task_at *at) {
    size_t n_cuts = 0, n_candidates = 0;
    sum_masses(w, at->n_tokens, adm_replay_group(r));
    while (n_cuts < r->options.n_budgets && r->options.budgets[n_cuts] < at->n_tokens) {
        w->cut[n_cuts] = (adm_cut){.k = r->options.budgets[n_cuts]};
        n_cuts++;
    }
    if (n_cuts > 0)
        n_candidates = adm_rank_cut(w->ranking, at->n_tokens, w->cut, n_cuts, w->rank_scratch, w->rank);
    select_by_cuts(r, w, w->ranking, at->n_tokens, w->rank, n_candidates, w->cut);
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
            adm_quest_add_bounds(r->page_bounds + at->kv_head * n_pages * 2 * d, w->q + g * d, d, at->n_tokens, w->ranking);
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
    default:
        seed_stream(r, at, head, &rng);
        adm_random_order(&rng, at->n_tokens, n_wanted, w->order);
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
        w->end[b] = row->policy == ADM_POLICY_QUEST ? adm_quest_tokens(at->n_tokens, budget) : smaller(budget, at->n_tokens);
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
static void order_by_distance(const adm_replay *r, adm_worker *w, const adm_task_at *at, uint32_t most) {
    size_t n = at->n_tokens, n_recent = r->options.n_recent > 0 ? r->options.n_recent : 1, found = 0;
    size_t first = smaller(r->options.n_sinks, n), last = n - first > n_recent ? n - n_recent : first;
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
        order_by_distance(r, w, at, adm_coding_max_distance(coding, r->trace->shape.head_dim,
                                                            adm_coding_queries(coding, &r->trace->shape)));
    } else if (row->policy != ADM_POLICY_ORACLE) {
        order_by_policy(r, w, at, row, head, at->n_tokens);
    } else { /* by group the masses are still in w->ranking */
        adm_rank(row->selection == ADM_SELECT_GROUP ? w->ranking : w->reference[head].score, at->n_tokens, w->rank_scratch,
                 w->order);
    }
}
