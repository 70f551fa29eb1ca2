/* policy.h: the selection policies that Adamas is compared with. Each writes the tokens it attends to, ascending, and
 * returns how many; all put the newest token in.
 *
 *   streaming   the first tokens and the last           StreamingLLM, arXiv 2309.17453
 *   quest       the pages with the highest bound on q.k  Quest, arXiv 2406.10774
 *   h2o         the tokens with the most attention so far, and the last   H2O, arXiv 2306.14048
 *   random      any tokens: what a selection with no idea reaches
 */
#ifndef ADM_CORE_POLICY_H
#define ADM_CORE_POLICY_H

#include <stddef.h>
#include <stdint.h>

#include "core/rng.h"

/* Tokens that `streaming` always keeps from the start, as its authors do. */
enum { ADM_STREAMING_SINKS = 4, ADM_QUEST_PAGE = 16 };

/* The first min(ADM_STREAMING_SINKS, budget - 1) tokens and the most recent of the rest. budget >= 1. */
size_t adm_streaming_select(size_t n_tokens, size_t budget, uint32_t *index);

/* The newest token and budget - 1 of the others, each set equally likely. */
size_t adm_random_select(adm_rng *rng, size_t n_tokens, size_t budget, uint32_t *index);

/* Quest's page bounds of one KV head: for each page of ADM_QUEST_PAGE tokens the smallest and the largest value of
 * every channel, bounds [n_pages][2][head_dim]. Takes in one token's key; tokens come in order from 0. */
void adm_quest_append(float *bounds, size_t token, const float *key, uint32_t head_dim);

/* Pages of a sequence. */
size_t adm_quest_pages(size_t n_tokens);

/* order [n_pages]: the pages by descending upper bound on q.k, sum_i max(q_i lo_i, q_i hi_i), the newest page first.
 * bound: n_pages doubles, scratch: n_pages * ADM_RANK_SCRATCH bytes. */
void adm_quest_rank(const float *bounds, const float *q, uint32_t head_dim, size_t n_tokens, double *bound,
                    void *scratch, uint32_t *order);

/* The tokens of the first budget / ADM_QUEST_PAGE pages of order. budget >= ADM_QUEST_PAGE. */
size_t adm_quest_select(const uint32_t *order, size_t n_tokens, size_t budget, uint32_t *index);

/* The most recent ceil(budget / 2) tokens, and of the others those that come first in order [n_tokens], the tokens ranked
 * by the attention they drew so far (adm_rank()). */
size_t adm_h2o_select(const uint32_t *order, size_t n_tokens, size_t budget, uint32_t *index);

#endif
