/* write.h: a comparison for people: text for a terminal, and Markdown. Text comes from databases and command lines and is
 * escaped. args.c writes the files. */
#ifndef ADM_ANALYSIS_REGRESS_COMPARE_WRITE_H
#define ADM_ANALYSIS_REGRESS_COMPARE_WRITE_H

#include "analysis/regress/compare/comparison.h"
#include "analysis/output/text.h"

/* One line: "2 regressed, 1 inconclusive, 0 improved, 51 equivalent of 54". With what could not be compared, if so. */
void adm_compare_headline(const adm_comparison *comparison, adm_text *out);

/* Every row that is not equivalent (`all`: every row), a line each, then the headline. */
void adm_compare_text(const adm_comparison *comparison, bool all, adm_text *out);

/* Headline, sides, a table of what changed or is open, and what is equivalent folded away. */
void adm_compare_markdown(const adm_comparison *comparison, adm_text *out);

#endif
