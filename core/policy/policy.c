/* policy.c: the selection policies that Adamas is compared with. */
#include "core/policy/policy.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/minmax.h"
#include "core/policy/rank.h"

const char *adm_policy_name(adm_policy policy) {
    static const char *const names[ADM_N_POLICIES] = {"dense", "oracle", "adamas", "quest", "streaming", "h2o", "random"};
    return policy < ADM_N_POLICIES ? names[policy] : "?";
}

size_t adm_streaming_order(size_t n_tokens, size_t n_wanted, uint32_t *order) {
    size_t n = adm_min(n_wanted, n_tokens);
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)(i == 0                     ? n_tokens - 1
                              : i <= ADM_STREAMING_SINKS ? i - 1
                                                         : n_tokens + ADM_STREAMING_SINKS - 1 - i);
    return n;
}

size_t adm_random_order(adm_rng *rng, size_t n_tokens, size_t n_wanted, uint32_t *order) {
    size_t n = adm_min(n_wanted, n_tokens);
    order[0] = (uint32_t)(n_tokens - 1);
    for (size_t t = 1; t < n_tokens; t++) order[t] = (uint32_t)(t - 1);
    for (size_t i = 1; i < n; i++) { /* Fisher and Yates, as far as is wanted */
        size_t j = i + (size_t)adm_rng_below(rng, n_tokens - i);
        uint32_t token = order[j];
        order[j] = order[i];
        order[i] = token;
    }
    return n;
}

/* --- Quest -------------------------------------------------------------------------------------------------------- */

void adm_quest_append(float *bounds, size_t token, const float *key, uint32_t head_dim) {
    float *low = bounds + token / ADM_QUEST_PAGE * 2 * head_dim, *high = low + head_dim;
    bool first = token % ADM_QUEST_PAGE == 0;
    for (uint32_t i = 0; i < head_dim; i++) {
        if (first || key[i] < low[i]) low[i] = key[i];
        if (first || key[i] > high[i]) high[i] = key[i];
    }
}

size_t adm_quest_pages(size_t n_tokens) { return (n_tokens + ADM_QUEST_PAGE - 1) / ADM_QUEST_PAGE; }

void adm_quest_add_bounds(const float *bounds, const float *q, uint32_t head_dim, size_t n_tokens, double *bound) {
    enum { LANES = 8 }; /* element i in sum i mod 8: head_dim is a multiple, and vectors can do it */
    for (size_t p = 0; p < adm_quest_pages(n_tokens); p++) {
        const float *low = bounds + p * 2 * head_dim, *high = low + head_dim;
        double sum[LANES] = {0};
        for (uint32_t i = 0; i < head_dim; i += LANES)
            for (uint32_t s = 0; s < LANES; s++) {
                double at_low = (double)q[i + s] * low[i + s], at_high = (double)q[i + s] * high[i + s];
                sum[s] += at_low > at_high ? at_low : at_high;
            }
        bound[p] += ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
    }
}

size_t adm_quest_order(double *bound, size_t n_tokens, size_t n_wanted, void *scratch, uint32_t *pages, uint32_t *order) {
    size_t n_pages = adm_quest_pages(n_tokens), n = 0;
    bound[n_pages - 1] = INFINITY;
    adm_rank(bound, n_pages, scratch, pages);
    for (size_t i = 0; i < n_pages && n < n_wanted; i++) {
        size_t first = (size_t)pages[i] * ADM_QUEST_PAGE, end = adm_min(first + ADM_QUEST_PAGE, n_tokens);
        while (end-- > first) order[n++] = (uint32_t)end; /* the newest token first, like everywhere */
    }
    return n;
}

/* Tokens of the newest page, which may be short. */
static size_t newest_page(size_t n_tokens) { return (n_tokens - 1) % ADM_QUEST_PAGE + 1; }

size_t adm_quest_tokens(size_t n_tokens, size_t budget) {
    size_t n_pages = adm_min(budget / ADM_QUEST_PAGE, adm_quest_pages(n_tokens));
    return n_pages == 0 ? 0 : newest_page(n_tokens) + (n_pages - 1) * ADM_QUEST_PAGE;
}

size_t adm_quest_budget(size_t n_tokens, size_t n_tokens_needed) {
    size_t newest = newest_page(n_tokens);
    if (n_tokens_needed <= newest) return ADM_QUEST_PAGE;
    return ADM_QUEST_PAGE * (1 + adm_quest_pages(n_tokens_needed - newest));
}

/* --- H2O ---------------------------------------------------------------------------------------------------------- */

size_t adm_h2o_order(const uint32_t *rank, size_t n_tokens, size_t n_wanted, uint8_t *taken, uint32_t *order) {
    size_t n = adm_min(n_wanted, n_tokens), next = 0;
    memset(taken, 0, n_tokens);
    for (size_t i = 0; i < n; i++) {
        uint32_t token = (uint32_t)(n_tokens - 1 - i / 2); /* an odd budget has one recent token more */
        if (i % 2 == 1 || taken[token]) { /* else, and where that was in for its attention: the next by rank */
            while (taken[rank[next]]) next++;
            token = rank[next];
        }
        taken[token] = 1;
        order[i] = token;
    }
    return n;
}
