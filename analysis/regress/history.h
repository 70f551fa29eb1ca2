/* history.h: the change points of every series of a database, which commits they lie between, and what people said about them.
 *
 *   runs in the order of commits   split where the machine changes, as far as the figure depends on it (machines.h), each part
 *     o o o o o x x x x            by itself: another driver is another series, not a regression
 *             ^ change point       named by its series and the first run after it; never inside a commit */
#ifndef ADM_ANALYSIS_REGRESS_HISTORY_H
#define ADM_ANALYSIS_REGRESS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analysis/regress/statistics/change_points.h"
#include "analysis/regress/statistics/judge.h"
#include "analysis/regress/series.h"
#include "core/base/error.h"

typedef struct adm_history_options {
    double min_ratio;          /* smallest change of a time, 0.02 */
    const char *metric, *stage; /* NULL: all */
    const char *same_machine;  /* hosts whose names match this expression are one; NULL: none */
    uint64_t seed;
} adm_history_options;

#define ADM_HISTORY_DEFAULTS {.min_ratio = 0.02, .seed = 1}

typedef struct adm_history_change {
    char id[13];               /* hexadecimal, of series and run */
    const adm_series *series;  /* of the run after; a renamed one has another before */
    const adm_series_run *before_run, *after_run; /* the last run before, the first after; of a drift its first and last */
    const adm_series_run *named_run; /* the id and an acknowledgement name the change by this one */
    size_t n_before, n_after;  /* runs on either side, to the next change or the end */
    double before, after, p;
    bool is_worse, is_drift;
    char verdict[16];          /* "", "acknowledged", "ignored" */
    char who[64], why[256], made_utc[32];
} adm_history_change;

/* One kind of figure: how many parts of series there are, and how many were long enough to be judged. */
typedef struct adm_history_kind {
    size_t n_parts, n_judged;
} adm_history_kind;

typedef struct adm_history {
    adm_history_change *change; /* newest first */
    size_t n_changes, n_series, n_parts, n_short; /* n_short: parts with too few runs to tell */
    size_t n_renamed;           /* series that go on with another */
    size_t n_contended;         /* points left out, taken on a shared core */
    adm_history_kind kind[ADM_FIGURE_QUALITY + 1];
} adm_history;

/* Analyses a set of all its runs, ordered by adm_series_order_by_commit(); the set must outlive the history, which
 * adm_history_free() releases. */
adm_status adm_history_find(const adm_series_set *set, const adm_history_options *options, adm_history *out, adm_error *err);
void adm_history_free(adm_history *history);

/* What people said last about a series and one of these runs, into the change; nothing if nobody did. */
adm_status adm_history_said(adm_store *store, const adm_series *series, const char *const *run_uuids, size_t n_run_uuids,
                            adm_history_change *change, adm_error *err);

/* The id of a change: of its series and a UUID. */
void adm_history_id(const adm_series *series, const char *uuid, char id[13]);

#endif
