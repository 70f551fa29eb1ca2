/* rank_collect.h: the one pass of rank.c over all scores. */
#ifndef ADM_CORE_POLICY_RANK_COLLECT_H
#define ADM_CORE_POLICY_RANK_COLLECT_H

#include <stddef.h>
#include <stdint.h>

/* The tokens of score `min` and above, ascending, to token [n], and their scores to found [n]; what lies behind them is
 * overwritten, too. Returns how many. No score is a NaN. */
typedef size_t adm_rank_collect_fn(const double *score, size_t n, double min, uint32_t *token, double *found);

/* The fastest that this processor can run. */
adm_rank_collect_fn adm_rank_collect;

adm_rank_collect_fn adm_rank_collect_plain;
#if defined(__x86_64__)
adm_rank_collect_fn adm_rank_collect_avx512; /* where adm_cpu_has_avx512() */
#endif

#endif
