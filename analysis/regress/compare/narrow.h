/* narrow.h: what the added processes of a check measure: the times that are still open, and nothing else.
 *
 *   processes 0 .. 19     B C C B ...   the whole command
 *   processes 20 .. 31    B C C B ...   the command --only-times topk@1024/32,topk@2048/64
 *
 * Both sides take the same times in equally many processes of each look, in the order ABBA. So whatever a shorter process does
 * to a time, it does to both sides alike: it can widen a row's interval, not shift it. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_NARROW_H
#define ADM_ANALYSIS_REGRESS_COMPARE_NARROW_H

#include "analysis/regress/check_run.h"
#include "analysis/regress/compare/comparison.h"

/* Makes the following processes measure the open rows alone, where the command and both programs can; else the whole command as
 * before. *narrowed says which. ADM_EINTERRUPTED. */
adm_status adm_compare_narrow(adm_check *check, const adm_comparison *comparison, bool *narrowed, adm_error *err);

#endif
