/* commit_order.h: runs in the order of their commits, whenever they were made.
 *
 *     started   r1(c3)  r2(c4)  r3(c2)  r4(c4)
 *     ordered   r3(c2)  r1(c3)  r2(c4)  r4(c4)      r2 and r4 are replicates: no change can lie between them
 *
 * Git's topological order decides where the repository around this folder knows the commits; another commit has the place that
 * its own date gives it; a run whose commit has no known date that of its start. A run of modified sources stands behind
 * the clean runs of its commit and is a replicate of none. */
#ifndef ADM_ANALYSIS_REGRESS_COMMIT_ORDER_H
#define ADM_ANALYSIS_REGRESS_COMMIT_ORDER_H

#include "analysis/regress/series_set.h"

/* How the runs found their places. */
typedef struct adm_commit_order {
    size_t n_by_git, n_by_date, n_by_start;
    char git_says[256]; /* why git was of no help; "" if it was, or was not needed */
} adm_commit_order;

/* Reorders set->run and the points of every series, and numbers the commits in run.commit_at. ADM_EENVIRONMENT: out of memory;
 * that git cannot be asked is no failure. */
adm_status adm_series_order_by_commit(adm_series_set *set, adm_commit_order *order, adm_error *err);

#endif
