/* policy.h: the selection policies that Adamas is compared with. Each puts the tokens in an order; a budget attends to the
 * first of them, so that the selections of growing budgets hold one another. The newest token is always first.
 *
 *   streaming   the first tokens and the last            StreamingLLM, arXiv 2309.17453
 *   quest       the pages with the highest bound on q.k  Quest, arXiv 2406.10774
 *   h2o         the tokens with the most attention so far, and the last   H2O, arXiv 2306.14048
 *   random      any tokens: what a selection with no idea reaches
 *
 * Each function writes the first min(n_wanted, n_tokens) tokens of its order and returns how many. */
#ifndef ADM_CORE_POLICY_POLICY_H
#define ADM_CORE_POLICY_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/rng.h"

typedef enum adm_policy {
    ADM_POLICY_DENSE,
    ADM_POLICY_ORACLE,    /* exact top-k by q.k */
    ADM_POLICY_ADAMAS,
    ADM_POLICY_QUEST,
    ADM_POLICY_STREAMING,
    ADM_POLICY_H2O,       /* attention accumulated over the replayed steps of the length, from dense attention */
    ADM_POLICY_RANDOM,
    ADM_N_POLICIES
} adm_policy;

/* "dense", "oracle", "adamas", ... as the database spells them. */
const char *adm_policy_name(adm_policy policy);

/* Tokens that `streaming` always keeps from the start, as its authors do. */
enum { ADM_STREAMING_SINKS = 4, ADM_QUEST_PAGE = 16 };

/* A budget b keeps the first min(ADM_STREAMING_SINKS, b - 1) tokens and the most recent of the rest. */
size_t adm_streaming_order(size_t n_tokens, size_t n_wanted, uint32_t *order);

/* The newest token and then the others, every order equally likely. order: room for n_tokens. */
size_t adm_random_order(adm_rng *rng, size_t n_tokens, size_t n_wanted, uint32_t *order);

/* Quest's page bounds of one KV head: for each page of ADM_QUEST_PAGE tokens the smallest and the largest value of
 * every channel, bounds [n_pages][2][head_dim]. Takes in one token's key; tokens come in order from 0. */
void adm_quest_append(float *bounds, size_t token, const float *key, uint32_t head_dim);

/* Pages of a sequence. */
size_t adm_quest_pages(size_t n_tokens);

/* bound[p] += the upper bound of page p on q.k, sum_i max(q_i lo_i, q_i hi_i), for each page of the sequence. */
void adm_quest_add_bounds(const float *bounds, const float *q, uint32_t head_dim, size_t n_tokens, double *bound);

/* The tokens of whole pages, the newest page first, then by descending bound, the most recent page first among equals;
 * at least n_wanted tokens. Overwrites bound; scratch: adm_rank_scratch_bytes(n_pages); pages [n_pages]. */
size_t adm_quest_order(double *bound, size_t n_tokens, size_t n_wanted, void *scratch, uint32_t *pages, uint32_t *order);

/* Tokens in the first budget / ADM_QUEST_PAGE pages of that order; 0 for a budget below a page. */
size_t adm_quest_tokens(size_t n_tokens, size_t budget);

/* The smallest budget whose pages hold the first n_tokens_needed >= 1 tokens of that order. */
size_t adm_quest_budget(size_t n_tokens, size_t n_tokens_needed);

/* A budget b keeps the most recent ceil(b / 2) tokens, and of the others those that come first in rank [n_tokens], the
 * tokens ranked by the attention they drew so far (adm_rank()). taken: scratch of n_tokens bytes. */
size_t adm_h2o_order(const uint32_t *rank, size_t n_tokens, size_t n_wanted, uint8_t *taken, uint32_t *order);

#endif
