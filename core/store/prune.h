/* prune.h: removing older runs, or only their raw samples. */
#ifndef ADM_CORE_STORE_PRUNE_H
#define ADM_CORE_STORE_PRUNE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/file/database.h"

typedef struct adm_prune_options {
    /* Newest finished runs to keep of each (command, label, host or pool, GPU), those of a few times by themselves; -1: all. */
    int64_t n_keep;
    int64_t n_keep_samples; /* of the newest so many of each, keep the raw samples; -1: of all */
    const char *keep_label; /* runs with this label are never touched; NULL: none */
} adm_prune_options;

typedef struct adm_prune_counts {
    int64_t n_runs, n_samples, n_configs, n_traces;
    int64_t bytes_before, bytes_after;
} adm_prune_counts;

/* Removes older runs, or only their samples, then configurations and traces that nothing refers to, and shrinks the
 * file. Runs labelled 'recorded:...' and runs still 'running' stay. With `dry_run` all of it is rolled
 * back after counting, and bytes_after is bytes_before. */
adm_status adm_store_prune(adm_store *store, const adm_prune_options *options, bool dry_run, adm_prune_counts *counts,
                           adm_error *err);

/* How many runs would be left. Nothing is changed. */
adm_status adm_store_prune_count(adm_store *store, const adm_prune_options *options, int64_t *n_left, adm_error *err);

#endif
