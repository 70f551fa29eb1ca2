/* compare_write.h: a comparison as text for a terminal, Markdown, JUnit XML, JSON, and the JSON that GitHub's benchmark
 * action reads (tool: customSmallerIsBetter). Text comes from databases and command lines and is escaped. Nothing is
 * written to a file here: compare_args.c does that. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_WRITE_H
#define ADM_ANALYSIS_REGRESS_COMPARE_WRITE_H

#include <jansson.h>

#include "analysis/regress/compare.h"
#include "analysis/output/report_text.h"

/* One line: "2 regressed, 1 inconclusive, 0 improved, 51 equivalent of 54". With what could not be compared, if so. */
void adm_compare_headline(const adm_comparison *comparison, adm_text *out);

/* Every row that is not equivalent (`all`: every row), a line each, then the headline. */
void adm_compare_text(const adm_comparison *comparison, bool all, adm_text *out);

/* Headline, sides, a table of what changed or is open, and what is equivalent folded away. */
void adm_compare_markdown(const adm_comparison *comparison, adm_text *out);

/* A test case a row: regressed is a failure, inconclusive is skipped with its reason; a comparison that failed as a whole is
 * one error. */
void adm_compare_junit(const adm_comparison *comparison, adm_text *out);

/* NULL when out of memory. */
json_t *adm_compare_json(const adm_comparison *comparison);

/* [{"name", "unit", "value", "range", "extra"}] of the candidate's figures of which less is better. NULL when out of memory. */
json_t *adm_compare_benchmark_json(const adm_comparison *comparison);

#endif
