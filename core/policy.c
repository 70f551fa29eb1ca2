/* policy.c: the selection policies that Adamas is compared with. */
#include "core/policy.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/quality.h"

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

size_t adm_streaming_select(size_t n_tokens, size_t budget, uint32_t *index) {
    size_t n = smaller(budget, n_tokens), n_sinks = smaller(ADM_STREAMING_SINKS, n > 0 ? n - 1 : 0);
    for (size_t i = 0; i < n; i++) index[i] = (uint32_t)(i < n_sinks ? i : n_tokens - (n - i));
    return n;
}

size_t adm_random_select(adm_rng *rng, size_t n_tokens, size_t budget, uint32_t *index) {
    size_t n = smaller(budget, n_tokens), wanted = n > 0 ? n - 1 : 0, found = 0;
    /* Selection sampling (Knuth, The Art of Computer Programming 3.4.2, algorithm S): ascending, every set alike. */
    for (size_t t = 0; found < wanted; t++)
        if (adm_rng_below(rng, n_tokens - 1 - t) < wanted - found) index[found++] = (uint32_t)t;
    if (n > 0) index[found++] = (uint32_t)(n_tokens - 1);
    return found;
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

void adm_quest_rank(const float *bounds, const float *q, uint32_t head_dim, size_t n_tokens, double *bound,
                    void *scratch, uint32_t *order) {
    size_t n_pages = adm_quest_pages(n_tokens);
    for (size_t p = 0; p < n_pages; p++) {
        const float *low = bounds + p * 2 * head_dim, *high = low + head_dim;
        bound[p] = 0;
        for (uint32_t i = 0; i < head_dim; i++) {
            double at_low = (double)q[i] * low[i], at_high = (double)q[i] * high[i];
            bound[p] += at_low > at_high ? at_low : at_high;
        }
    }
    bound[n_pages - 1] = INFINITY;
    adm_rank(bound, n_pages, scratch, order);
}

static int ascending_token(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

size_t adm_quest_select(const uint32_t *order, size_t n_tokens, size_t budget, uint32_t *index) {
    size_t n_pages = smaller(budget / ADM_QUEST_PAGE, adm_quest_pages(n_tokens)), n = 0;
    for (size_t i = 0; i < n_pages; i++) {
        size_t first = (size_t)order[i] * ADM_QUEST_PAGE, end = smaller(first + ADM_QUEST_PAGE, n_tokens);
        for (size_t t = first; t < end; t++) index[n++] = (uint32_t)t;
    }
    qsort(index, n, sizeof *index, ascending_token);
    return n;
}

/* --- H2O ---------------------------------------------------------------------------------------------------------- */

size_t adm_h2o_select(const uint32_t *order, size_t n_tokens, size_t budget, uint32_t *index) {
    size_t n = smaller(budget, n_tokens), n_recent = (n + 1) / 2, n_older = n_tokens - n_recent, found = 0;
    for (size_t i = 0; found < n - n_recent; i++)
        if (order[i] < n_older) index[found++] = order[i];
    qsort(index, found, sizeof *index, ascending_token);
    for (size_t t = n_older; t < n_tokens; t++) index[found++] = (uint32_t)t;
    return found;
}
