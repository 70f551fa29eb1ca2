/* runs_find.h: which runs a user means by a few words. */
#ifndef ADM_ANALYSIS_REGRESS_RUNS_FIND_H
#define ADM_ANALYSIS_REGRESS_RUNS_FIND_H

#include <stddef.h>
#include <stdint.h>
#include "core/base/error.h"
#include "core/store/store.h"

/* Runs named by a user: "12", "3-9,12", "label:NAME", "commit:PREFIX", "check:UUID:baseline", "all"; a bare word is a label.
 * Only complete runs are taken, and incomplete ones that are asked for by number are refused. *ids is freshly allocated in
 * the order of their start: adm_free(). ADM_EINPUT: no such run, with what there is. */
adm_status adm_runs_find(adm_store *store, const char *named, const char *database, int64_t **ids, size_t *n, adm_error *err);

#endif
