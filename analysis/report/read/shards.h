/* shards.h: of runs that `adamas db merge` joined: which machine measured which part. */
#ifndef ADM_ANALYSIS_REPORT_READ_SHARDS_H
#define ADM_ANALYSIS_REPORT_READ_SHARDS_H

#include <jansson.h>

#include "core/base/error.h"
#include "core/store/store.h"

/* Sets document["shards"]: a row per part of the shown runs, in the order of the runs and parts. Rows of "units", "stages" and
 * "quality" have the host and GPU in words as "place" (sql.h). */
adm_status adm_report_shards(adm_store *store, json_t *document, adm_error *err);

#endif
