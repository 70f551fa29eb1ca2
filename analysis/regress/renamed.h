/* renamed.h: series that go on under another name: a stage whose kernel was renamed or replaced is still that stage.
 *
 *     runs       0 1 2 3 4 5 6 7
 *     l1-avx2    o o o o               one series of eight points: the second begins where the first has ended, and no other
 *     l1-sse             o o o o       series of the same work begins or ends between them */
#ifndef ADM_ANALYSIS_REGRESS_RENAMED_H
#define ADM_ANALYSIS_REGRESS_RENAMED_H

#include "analysis/regress/series_set.h"

/* Whether two series are alike but for the name of the implementation. Quality and compiled figures never are. */
bool adm_series_same_but_variant(const adm_series *a, const adm_series *b);

/* next[i]: the index of the series that goes on with series i, SIZE_MAX for none; is_next[i]: it goes on with another. Both
 * [n_series], of the caller. ADM_EENVIRONMENT: out of memory. */
adm_status adm_series_find_renamed(const adm_series_set *set, size_t *next, bool *is_next, adm_error *err);

#endif
