/* nested.h: selections at several budgets, each of which holds the one before:
 *
 *   list   | level 0, ascending | level 1, ascending | ...     tokens
 *                               ^ end[0]             ^ end[1]
 *
 * The selection at budget b is list[0 .. end[b] - 1]. Three ways to them: from an order of the tokens, from cuts of a score,
 * and from one set of which each token's level is known. */
#ifndef ADM_CORE_POLICY_NESTED_H
#define ADM_CORE_POLICY_NESTED_H

#include "core/base/layout.h"
#include "core/contract/stage.h"
#include "core/policy/rank.h"

/* The budgets asked for, and the level of each position of an order: the first budget that holds it. */
typedef struct adm_budgets {
    const uint32_t *budget; /* [n] ascending, >= 1 */
    size_t n;
    size_t widest;            /* tokens of the largest selection: the smaller of the last budget and all tokens */
    const uint16_t *level_of; /* [widest]; NULL for one budget of a policy that is asked for one at a time */
    size_t level;             /* of budget[0] among all that are compared: 0 unless it is asked for by itself */
} adm_budgets;

/* Fills level_of [widest]. */
void adm_budgets_levels(const uint32_t *budget, size_t widest, uint16_t *level_of);

typedef struct adm_selected {
    uint32_t *list;        /* [max_selected] */
    size_t *end;           /* [n] of the budgets */
    adm_select_info *info; /* [n] what top-k saw at the boundary, of policies that have one */
} adm_selected;

/* Scratch of the functions below. */
typedef struct adm_nested_scratch {
    uint32_t *set;     /* [max_selected]: the widest selection, and */
    double *set_score; /* [max_selected] */
    uint16_t *level;   /* [max_selected]: the smallest budget that holds each */
    size_t *next;      /* [max_budgets]: how far each level is filled */
    uint64_t *bits;    /* [n_tokens / 64 + 1] */
} adm_nested_scratch;

void adm_nested_take(adm_layout *layout, size_t n_tokens, size_t max_selected, size_t max_budgets, adm_nested_scratch *scratch);

/* From scratch->set, n_set tokens, ascending, and their scratch->level. */
void adm_nested_from_set(const adm_nested_scratch *scratch, const adm_budgets *budgets, size_t n_set, adm_selected *selected);

/* The exact top-k by score [n_tokens]; cut [budgets below n_tokens] with what adm_rank_cut() found at them, and the candidates
 * that it left. */
void adm_nested_from_cuts(const adm_nested_scratch *scratch, const adm_budgets *budgets, const double *score, size_t n_tokens,
                          const adm_candidates *candidates, const adm_score_cut *cut, adm_selected *selected);

/* The first end[b] tokens of an order; selected->end is given. */
void adm_nested_from_order(const adm_nested_scratch *scratch, const adm_budgets *budgets, const uint32_t *order,
                           size_t n_tokens, adm_selected *selected);

#endif
