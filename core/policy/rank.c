/* rank.c: tokens in the order of a score. */
#include "core/policy/rank.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/policy/rank_collect.h"

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
        for (size_t i = 0; i < LANES; i++) lane[i] = score[t + i] > lane[i] ? score[t + i] : lane[i];
    for (; t < n; t++) largest = score[t] > largest ? score[t] : largest;
    for (int i = 0; i < LANES; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
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

/* The tokens of score `min` and above, ascending. */
static void collect(const double *score, size_t n, double min, adm_candidates *candidates) {
    candidates->n = adm_rank_collect(score, n, min, candidates->token, candidates->score);
}

/* The last of a[0 .. n-1] in the order; selecting leaves them in none. */
static adm_ranked last_of(const adm_ranked *a, size_t n) {
    adm_ranked last = a[0];
    for (size_t j = 1; j < n; j++)
        if (comes_before(&last, &a[j])) last = a[j];
    return last;
}

enum { N_SAMPLES = 2048 };

/* A score that at least k tokens very probably have, and few more: that of the sample's token at k's position and four standard
 * deviations behind. -INFINITY where a sample says nothing. */
static double guess_min(const double *score, size_t n, size_t k) {
    adm_ranked sample[N_SAMPLES];
    const double expected = (double)k * N_SAMPLES / (double)n;
    size_t position = (size_t)(expected + 4 * sqrt(expected) + 8);
    if (n < 4 * N_SAMPLES || position >= N_SAMPLES) return -INFINITY;
    for (size_t i = 0; i < N_SAMPLES; i++) sample[i] = (adm_ranked){score[i * n / N_SAMPLES], (uint32_t)i};
    select_first(sample, N_SAMPLES, position);
    return last_of(sample, position).score;
}

/* A set of tokens that holds the first k: one pass, or, where the guess was wrong, all of them. */
static void find_candidates(const double *score, size_t n, size_t k, adm_candidates *candidates) {
    collect(score, n, k < n ? guess_min(score, n, k) : -INFINITY, candidates);
    if (candidates->n < k) collect(score, n, -INFINITY, candidates);
}

enum { N_BINS = 2048 };

/* Which of N_BINS equal intervals between the largest and the smallest score: never falls as the score falls, however the
 * product rounds, so that whole bins are in order. */
static inline size_t bin_of(double score, double largest, double per_score) {
    return per_score > 0 ? (size_t)((largest - score) * per_score) : 0;
}

/* Sorts the candidates by bin, each bin in any order: bin b is ranked[begin[b] .. begin[b + 1] - 1]. Scores that no bins can be
 * made of are all in the first. */
static void sort_into_bins(const adm_candidates *candidates, adm_ranked *ranked, uint32_t begin[N_BINS + 1]) {
    const size_t n = candidates->n;
    const double *score = candidates->score;
    double largest = adm_largest(score, n), smallest = largest;
    for (size_t j = 0; j < n; j++) smallest = score[j] < smallest ? score[j] : smallest;
    double per_score = (N_BINS - 1) / (largest - smallest);
    if (!isfinite(per_score)) per_score = 0; /* all alike; and where the largest is infinite it is 0 already */
    memset(begin, 0, (N_BINS + 1) * sizeof *begin);
    for (size_t j = 0; j < n; j++) begin[bin_of(score[j], largest, per_score)]++;
    for (size_t b = 0, end = 0; b <= N_BINS; b++) { /* the end of each bin, from which it is filled downwards */
        end += begin[b];
        begin[b] = (uint32_t)end;
    }
    for (size_t j = 0; j < n; j++)
        ranked[--begin[bin_of(score[j], largest, per_score)]] = (adm_ranked){score[j], candidates->token[j]};
}

void adm_rank_cut(const double *score, size_t n, adm_score_cut *cut, size_t n_cuts, void *scratch, adm_candidates *candidates) {
    adm_ranked *ranked = scratch;
    uint32_t begin[N_BINS + 1];
    find_candidates(score, n, cut[n_cuts - 1].k, candidates);
    size_t end = candidates->n, bin = N_BINS - 1;
    sort_into_bins(candidates, ranked, begin);
    for (size_t c = n_cuts; c-- > 0;) {
        while (begin[bin] >= cut[c].k) bin--;
        const size_t first = begin[bin], bin_end = begin[bin + 1];
        end = bin_end < end ? bin_end : end; /* of the bin, or of the wider cut in it */
        select_first(ranked + first, end - first, cut[c].k - first);
        end = cut[c].k;
        const adm_ranked last = last_of(ranked + first, end - first);
        cut[c].score = last.score;
        cut[c].token = last.token;
        cut[c].n_tied = 0;
        for (size_t j = first; j < end; j++) cut[c].n_tied += ranked[j].score == last.score;
    }
}

void adm_rank_take(const adm_candidates *candidates, const adm_score_cut *cut, adm_candidates *selected) {
    size_t n = 0;
    for (size_t j = 0; j < candidates->n && n < cut->k; j++) {
        const uint32_t token = candidates->token[j];
        const double score = candidates->score[j];
        selected->token[n] = token;
        selected->score[n] = score;
        n += (score > cut->score) | ((score == cut->score) & (token >= cut->token));
    }
    selected->n = n;
}
