/* rank.h: tokens in the order of a score: all of them, or only where the order is cut at a few budgets.
 *
 * The order is the same everywhere: descending score, equal scores the higher number (the more recent) first. It is
 * strict, so "the first k" is one set, and the sets of ascending k are nested. No score is a NaN; -0 equals 0. */
#ifndef ADM_CORE_POLICY_RANK_H
#define ADM_CORE_POLICY_RANK_H

#include <stddef.h>
#include <stdint.h>

/* The largest of n >= 1 scores. */
double adm_largest(const double *score, size_t n);

/* A token of the order, and the scratch of the functions below: n of them. */
typedef struct adm_ranked {
    double score;
    uint32_t token;
} adm_ranked;

/* Bytes of scratch that n tokens need. */
static inline size_t adm_rank_scratch_bytes(size_t n) { return 2 * n * sizeof(adm_ranked); }

/* order [n]: all tokens in order. Sorted by radix: the time is proportional to n. */
void adm_rank(const double *score, size_t n, void *scratch, uint32_t *order);

/* Where the order is cut: its k-th token and that token's score. */
typedef struct adm_score_cut {
    size_t k;      /* given, 1 .. n */
    double score;  /* found */
    uint32_t token;
    size_t n_tied; /* found: how many of the first k have that score */
} adm_score_cut;

/* Tokens, ascending, and their scores beside them: to look those up again among the scores of all would miss the cache. */
typedef struct adm_candidates {
    size_t n;
    uint32_t *token;  /* [as many as there are tokens] */
    double *score;    /* likewise */
} adm_candidates;

/* Finds the cuts at n_cuts >= 1 ascending k. Fills `candidates` with a set that holds the first cut[n_cuts - 1].k tokens and
 * perhaps more. Does not sort: the time is proportional to n, and to the widest cut. */
void adm_rank_cut(const double *score, size_t n, adm_score_cut *cut, size_t n_cuts, void *scratch, adm_candidates *candidates);

/* Keeps of the candidates the cut.k tokens up to the cut, in `selected`, which may be the candidates themselves. */
void adm_rank_take(const adm_candidates *candidates, const adm_score_cut *cut, adm_candidates *selected);

#endif
