/* rank.c: tokens in the order of a score. */
#include "core/rank.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

/* --- All of them: a radix sort of 64-bit keys, 11 bits a pass, digits that all keys share left out ---------------- */

enum { DIGIT_BITS = 11, N_DIGITS = 6, N_VALUES = 1 << DIGIT_BITS };

typedef struct keyed_token {
    uint64_t key;
    uint32_t token;
} keyed_token;

_Static_assert(sizeof(keyed_token) <= sizeof(adm_ranked), "the scratch that callers allocate");

/* A key that ascends as the score descends. */
static uint64_t descending_key(double score) {
    uint64_t bits;
    score += 0.0; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 63 ? bits : ~bits & ~(UINT64_C(1) << 63);
}

static size_t digit_of(uint64_t key, int digit) { return key >> (digit * DIGIT_BITS) & (N_VALUES - 1); }

void adm_rank(const double *score, size_t n, void *scratch, uint32_t *order) {
    keyed_token *from = scratch, *to = from + n;
    uint32_t count[N_DIGITS][N_VALUES] = {0};
    for (size_t i = 0; i < n; i++) { /* the most recent first, and every pass is stable */
        from[i] = (keyed_token){descending_key(score[n - 1 - i]), (uint32_t)(n - 1 - i)};
        for (int digit = 0; digit < N_DIGITS; digit++) count[digit][digit_of(from[i].key, digit)]++;
    }
    for (int digit = 0; digit < N_DIGITS && n > 0; digit++) {
        if (count[digit][digit_of(from[0].key, digit)] == n) continue;
        uint32_t at = 0;
        for (size_t v = 0; v < N_VALUES; v++) {
            uint32_t here = count[digit][v];
            count[digit][v] = at;
            at += here;
        }
        for (size_t i = 0; i < n; i++) to[count[digit][digit_of(from[i].key, digit)]++] = from[i];
        keyed_token *sorted = to;
        to = from;
        from = sorted;
    }
    for (size_t i = 0; i < n; i++) order[i] = from[i].token;
}

/* --- The ends ------------------------------------------------------------------------------------------------------ */

enum { LANES = 8 }; /* so many independent chains, for one alone waits for itself */

double adm_largest(const double *score, size_t n) {
    double lane[LANES], largest = score[0];
    for (int i = 0; i < LANES; i++) lane[i] = score[0];
    size_t t = 0;
    for (; t + LANES <= n; t += LANES)
        for (int i = 0; i < LANES; i++) lane[i] = score[t + i] > lane[i] ? score[t + i] : lane[i];
    for (; t < n; t++) largest = score[t] > largest ? score[t] : largest;
    for (int i = 0; i < LANES; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
}

static double smallest_of(const double *score, size_t n) {
    double lane[LANES], smallest = score[0];
    for (int i = 0; i < LANES; i++) lane[i] = score[0];
    size_t t = 0;
    for (; t + LANES <= n; t += LANES)
        for (int i = 0; i < LANES; i++) lane[i] = score[t + i] < lane[i] ? score[t + i] : lane[i];
    for (; t < n; t++) smallest = score[t] < smallest ? score[t] : smallest;
    for (int i = 0; i < LANES; i++) smallest = lane[i] < smallest ? lane[i] : smallest;
    return smallest;
}

/* --- Only where it is cut ------------------------------------------------------------------------------------------ */

static inline bool comes_before(const adm_ranked *a, const adm_ranked *b) {
    return a->score > b->score || (a->score == b->score && a->token > b->token);
}

static void swap(adm_ranked *a, adm_ranked *b) {
    adm_ranked kept = *a;
    *a = *b;
    *b = kept;
}

/* Reorders so that the first k come before all others (Hoare's select). A strict order has no equal elements, so ties
 * cannot make it slow; the pivot is the middle of three. */
static void select_first(adm_ranked *a, size_t n, size_t k) {
    ptrdiff_t low = 0, high = (ptrdiff_t)n - 1, wanted = (ptrdiff_t)k - 1; /* in [low, high] */
    while (low < high) {
        adm_ranked *first = &a[low], *middle = &a[low + (high - low) / 2], *last = &a[high];
        if (comes_before(middle, first)) swap(middle, first);
        if (comes_before(last, middle)) swap(last, middle);
        if (comes_before(middle, first)) swap(middle, first);
        const adm_ranked pivot = *middle;
        ptrdiff_t i = low, j = high;
        while (i <= j) {
            while (comes_before(&a[i], &pivot)) i++;
            while (comes_before(&pivot, &a[j])) j--;
            if (i <= j) swap(&a[i++], &a[j--]);
        }
        if (wanted <= j) high = j;
        else if (wanted >= i) low = i;
        else return; /* between the halves lies the pivot alone */
    }
}

enum { N_BINS = 4096 };

/* Which of N_BINS equal parts between the largest and the smallest score: never falls as the score falls, however
 * the product rounds, so that whole bins can be left out. */
static inline size_t bin_of(double score, double largest, double per_score) {
    return (size_t)((largest - score) * per_score);
}

/* The tokens of the first bins that hold at least k between them. */
static size_t find_candidates(const double *score, size_t n, size_t k, uint32_t *candidates) {
    double largest = adm_largest(score, n), range = largest - smallest_of(score, n), per_score = (N_BINS - 1) / range;
    size_t n_found = 0;
    if (k >= n || !isfinite(range) || !isfinite(per_score)) {
        for (size_t t = 0; t < n; t++) candidates[t] = (uint32_t)t;
        return n;
    }
    uint32_t count[N_BINS] = {0};
    for (size_t t = 0; t < n; t++) count[bin_of(score[t], largest, per_score)]++;
    size_t last = 0;
    for (size_t held = count[0]; held < k; held += count[last]) last++;
    for (size_t t = 0; t < n; t++) {
        candidates[n_found] = (uint32_t)t;
        n_found += bin_of(score[t], largest, per_score) <= last;
    }
    return n_found;
}

size_t adm_rank_cut(const double *score, size_t n, adm_cut *cut, size_t n_cuts, void *scratch, uint32_t *candidates) {
    adm_ranked *ranked = scratch;
    size_t n_candidates = find_candidates(score, n, cut[n_cuts - 1].k, candidates), end = n_candidates;
    for (size_t j = 0; j < n_candidates; j++) ranked[j] = (adm_ranked){score[candidates[j]], candidates[j]};
    for (size_t c = n_cuts; c-- > 0;) {
        select_first(ranked, end, cut[c].k);
        end = cut[c].k;
        /* Not [k - 1] itself: selecting leaves the first k in no order. */
        adm_ranked last = ranked[0];
        for (size_t j = 1; j < end; j++)
            if (comes_before(&last, &ranked[j])) last = ranked[j];
        cut[c].score = last.score;
        cut[c].token = last.token;
        cut[c].n_tied = 0;
        for (size_t j = 0; j < end; j++) cut[c].n_tied += ranked[j].score == last.score;
    }
    return n_candidates;
}

size_t adm_rank_take(const double *score, const uint32_t *candidates, size_t n_candidates, const adm_cut *cut,
                     uint32_t *selected) {
    size_t n = 0;
    for (size_t j = 0; j < n_candidates && n < cut->k; j++) {
        uint32_t token = candidates[j];
        selected[n] = token;
        n += (score[token] > cut->score) | ((score[token] == cut->score) & (token >= cut->token));
    }
    return n;
}
