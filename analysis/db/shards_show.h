/* shards_show.h: what `adamas db merge` says of the sweeps that it joined. */
#ifndef ADM_ANALYSIS_DB_SHARDS_SHOW_H
#define ADM_ANALYSIS_DB_SHARDS_SHOW_H

#include <jansson.h>
#include <stdbool.h>

#include "core/cli/command.h"
#include "core/fleet/collect.h"
#include "core/store/store.h"

/* One paragraph per sweep on standard output, or an object per sweep in the document. *is_whole is false if a shard of one is
 * missing. */
adm_status adm_shards_show(const adm_common *common, const adm_collection *collection, char *const *paths, adm_store *store,
                           json_t *document, bool *is_whole, adm_error *err);

#endif
