/* export.h: a comparison for other programs: JUnit XML, JSON, and the JSON that GitHub's benchmark action reads (tool:
 * customSmallerIsBetter). Text comes from databases and command lines and is escaped. args.c writes the files. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_EXPORT_H
#define ADM_ANALYSIS_REGRESS_COMPARE_EXPORT_H

#include <jansson.h>

#include "analysis/output/text.h"
#include "analysis/regress/compare/comparison.h"

/* One test case per row: regressed is a failure, inconclusive is skipped with its reason; a comparison that failed as a
 * whole is one error. */
void adm_compare_junit(const adm_comparison *comparison, adm_text *out);

/* NULL when out of memory. */
json_t *adm_compare_json(const adm_comparison *comparison);

/* [{"name", "unit", "value", "range", "extra"}] of the candidate's figures of which less is better. NULL when out of memory. */
json_t *adm_compare_benchmark_json(const adm_comparison *comparison);

#endif
