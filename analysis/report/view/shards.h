/* shards.h: of joined runs: which machine measured a row, and a note where builds or machines meet. */
#ifndef ADM_ANALYSIS_REPORT_VIEW_SHARDS_H
#define ADM_ANALYSIS_REPORT_VIEW_SHARDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "analysis/output/text.h"

/* Whether the run was joined from shards. */
bool adm_run_is_joined(const json_t *document, int64_t run_id);

/* A paragraph on how many shards and machines a joined run is of, and a warning where they differ in build or kind; nothing
 * for other runs. */
void adm_write_joined(adm_text *page, const json_t *document, int64_t run_id);

/* A text cell with the host and GPU that measured the row, for a column "measured on". */
void adm_write_place_cell(adm_text *page, const json_t *row);

/* The shards of a joined run as a table. */
void adm_write_shards(adm_text *page, const json_t *document, int64_t run_id);

/* What a joined run mixes, in words for one line: "2 builds (…)"; "" if nothing. Returns out. */
enum { ADM_MIXED_BYTES = 512 };
const char *adm_mixed_words(const json_t *document, int64_t run_id, char out[ADM_MIXED_BYTES]);

#endif
