/* nested.c: selections at several budgets, each of which holds the one before. */
#include "core/policy/nested.h"

#include <string.h>

#include "core/base/minmax.h"

void adm_budgets_levels(const uint32_t *budget, size_t widest, uint16_t *level_of) {
    for (size_t position = 0, b = 0; position < widest; position++) {
        while (budget[b] <= position) b++;
        level_of[position] = (uint16_t)b;
    }
}

void adm_nested_take(adm_layout *layout, size_t n_tokens, size_t max_selected, size_t max_budgets,
                     adm_nested_scratch *scratch) {
    scratch->set = adm_layout_take(layout, max_selected, sizeof *scratch->set);
    scratch->set_score = adm_layout_take(layout, max_selected, sizeof *scratch->set_score);
    scratch->level = adm_layout_take(layout, max_selected, sizeof *scratch->level);
    scratch->next = adm_layout_take(layout, max_budgets, sizeof *scratch->next);
    scratch->bits = adm_layout_take(layout, n_tokens / 64 + 1, sizeof *scratch->bits);
}

void adm_nested_from_set(const adm_nested_scratch *scratch, const adm_budgets *budgets, size_t n_set, adm_selected *selected) {
    for (size_t b = 0; b < budgets->n; b++) {
        selected->end[b] = adm_min(budgets->budget[b], n_set);
        scratch->next[b] = b > 0 ? selected->end[b - 1] : 0;
    }
    for (size_t i = 0; i < n_set; i++) selected->list[scratch->next[scratch->level[i]]++] = scratch->set[i];
}

enum { LEVEL_BLOCK = 256, LANES = 8 }; /* tokens whose scores stay in the first cache; tokens at a time */

/* level[i]: how many cuts lie above score[i]. n_above[b] counts those at cut b or above. In doubles and lanes, so that the
 * compiler takes several at a time, whatever the instruction set. */
static void find_levels(const double *score, size_t n, const adm_score_cut *cut, size_t n_cuts, size_t *n_above,
                        uint16_t *level) {
    double wide[LEVEL_BLOCK] = {0};
    for (size_t b = 0; b < n_cuts; b++) {
        const double bound = cut[b].score;
        double n_below[LANES] = {0};
        size_t i = 0;
        for (; i + LANES <= n; i += LANES)
            for (size_t l = 0; l < LANES; l++) {
                const double below = score[i + l] < bound ? 1 : 0;
                wide[i + l] += below;
                n_below[l] += below;
            }
        for (; i < n; i++) {
            wide[i] += score[i] < bound;
            n_below[0] += score[i] < bound;
        }
        n_above[b] += n;
        for (size_t l = 0; l < LANES; l++) n_above[b] -= (size_t)n_below[l];
    }
    for (size_t i = 0; i < n; i++) level[i] = (uint16_t)wide[i];
}

void adm_nested_from_cuts(const adm_nested_scratch *scratch, const adm_budgets *budgets, const double *score, size_t n_tokens,
                          const adm_candidates *candidates, const adm_score_cut *cut, adm_selected *selected) {
    const size_t last = budgets->n - 1, n_set = adm_min(budgets->budget[last], n_tokens);
    uint32_t *set = scratch->set;
    double *set_score = scratch->set_score;
    uint16_t *level = scratch->level;
    size_t *n_above = scratch->next; /* which is free until the lists are written */
    size_t n_cuts = 0; /* that leave something of the set out */
    while (n_cuts < last && budgets->budget[n_cuts] < n_set) n_cuts++;
    adm_candidates taken = {n_tokens, set, set_score};
    if (n_set < n_tokens) adm_rank_take(candidates, &cut[last], &taken);
    for (size_t t = 0; n_set == n_tokens && t < n_tokens; t++) {
        set[t] = (uint32_t)t;
        set_score[t] = score[t];
    }
    memset(n_above, 0, n_cuts * sizeof *n_above);
    for (size_t i = 0; i < n_set; i += LEVEL_BLOCK)
        find_levels(set_score + i, adm_min(n_set - i, LEVEL_BLOCK), cut, n_cuts, n_above, level + i);
    for (size_t b = 0; b < n_cuts; b++) /* more than the cut keeps where scores tie, and then the token decides */
        for (size_t i = 0; n_above[b] > cut[b].k && i < n_set; i++)
            level[i] = (uint16_t)(level[i] + (set_score[i] == cut[b].score && set[i] < cut[b].token));
    adm_nested_from_set(scratch, budgets, n_set, selected);
}

/* Writes order[0 .. n-1] to list, ascending: through a bit a token, for n is not small. */
static void write_ascending(uint64_t *bits, const uint32_t *order, size_t n, size_t n_tokens, uint32_t *list) {
    if (n == 0) return;
    memset(bits, 0, (n_tokens / 64 + 1) * sizeof *bits);
    for (size_t i = 0; i < n; i++) bits[order[i] / 64] |= UINT64_C(1) << order[i] % 64;
    for (size_t word = 0; word <= n_tokens / 64; word++)
        for (uint64_t rest = bits[word]; rest != 0; rest &= rest - 1)
            *list++ = (uint32_t)(64 * word) + (uint32_t)__builtin_ctzll(rest);
}

void adm_nested_from_order(const adm_nested_scratch *scratch, const adm_budgets *budgets, const uint32_t *order,
                           size_t n_tokens, adm_selected *selected) {
    for (size_t b = 0, begin = 0; b < budgets->n; begin = selected->end[b++])
        write_ascending(scratch->bits, order + begin, selected->end[b] - begin, n_tokens, selected->list + begin);
}
