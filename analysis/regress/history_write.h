/* history_write.h: a history for people and for programs. */
#ifndef ADM_ANALYSIS_REGRESS_HISTORY_WRITE_H
#define ADM_ANALYSIS_REGRESS_HISTORY_WRITE_H

#include <jansson.h>

#include "analysis/regress/checks.h"
#include "analysis/regress/commit_order.h"

/* All that `adamas history` found; borrowed. */
typedef struct adm_history_document {
    const adm_series_set *set;
    const adm_history *history;
    const adm_checks *checks;
    const adm_commit_order *order;
    const char *missing; /* why a gate would judge nothing; "" if it would not */
    bool all;            /* ignored changes too */
} adm_history_document;

/* Why nothing was judged: "" if something was. A kind of figure that is there and could nowhere be judged counts too. */
void adm_history_missing(const adm_history *history, const adm_checks *checks, size_t n_runs, char *out, size_t out_bytes);

void adm_history_print(const adm_history_document *document);

/* NULL when out of memory. */
json_t *adm_history_json(const adm_history_document *document);

#endif
