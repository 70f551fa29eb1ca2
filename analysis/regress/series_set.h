/* series_set.h: measurements over many runs, in memory: what a comparison, a check and a history all start from.
 *
 *     series = (configuration, source, stage, metric), over all layers and heads
 *     runs       r0      r1      r2     ...      in the order in which they started, or of commits (commit_order.h)
 *     series 0  point   point    -               a point: one run's figures of one series
 *     series 1  point    -      point
 *
 * Series of two databases are the same if their keys are. Text and arrays belong to the set. */
#ifndef ADM_ANALYSIS_REGRESS_SERIES_SET_H
#define ADM_ANALYSIS_REGRESS_SERIES_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/store/store.h"

typedef struct adm_series_run {
    int64_t id;
    const char *uuid, *label, *command, *status, *commit, *started_utc;
    bool dirty;
    const char *host_name, *cpu_model, *gpu_name, *gpu_uuid, *driver, *cuda; /* "" where there is none */
    const char *commit_utc; /* when the commit was made; "": not known */
    const char *only;       /* --only-times of a process that a check added; "": the whole command */
    const char *machine;    /* label of a pool of like machines; "": none */
    size_t commit_at; /* equal for runs of one commit, ascending; set by adm_series_order_by_commit() (commit_order.h) */
    int64_t n_cpus;
    double power_limit_w; /* of the GPU; 0 where it is not known */
} adm_series_run;

typedef struct adm_series_config {
    int64_t id;
    const char *key; /* all that tells configurations apart, with the trace by its hash */
    const char *work; /* the key without variant and launch mode: the same work done in another way */
    const char *shape; /* for people: "trace t.safetensors, 9 query heads, 3 KV heads, d = 64, F16" */
    const char *title; /* for people, within one shape: "l1-avx512, 4096 tokens, budget 64" */
    const char *policy, *variant, *launch;
    int64_t seq_len, budget; /* budget 0: it depends on none */
    size_t rank; /* among the set's, by key */
} adm_series_config;

typedef struct adm_series_metric {
    int64_t id;
    const char *name, *unit, *better;
    size_t rank; /* among the set's, by name */
} adm_series_metric;

typedef struct adm_point {
    size_t run; /* index in runs */
    int64_t measurement_id;
    bool ok; /* it was measured; else why not is adm_series_reason() */
    /* For a time whose samples are bracketed by the loop of core/system/contention.h: */
    int64_t loop_id; /* the loop's measurement; 0: there is none */
    double max_loop_ns; /* the slowest loop of an uncontended core, from the fastest loop among the set's runs on that host */
    bool is_contended; /* more than half of the samples' loops were slower than that */
    bool failed; /* what was to be measured was wrong, or could not be run */
    double median, mean;
    int64_t n;
} adm_point;

typedef struct adm_series {
    const adm_series_config *config;
    const adm_series_metric *metric;
    const char *source, *stage; /* stage "": quality of the whole policy */
    const adm_point *point; /* in the order of runs */
    size_t n_points;
} adm_series;

typedef struct adm_series_set {
    adm_store *store; /* borrowed; samples and reasons are read from it when asked for */
    adm_series_run *run;
    adm_series_config *config;
    adm_series_metric *metric;
    adm_series *series; /* by key of configuration, source, stage, name of metric */
    adm_point *point;
    size_t n_runs, n_configs, n_metrics, n_series, n_points;
    struct adm_series_text *text; /* where all text is */
} adm_series_set;

/* A block of the set's text. */
struct adm_series_text {
    struct adm_series_text *next;
    size_t n_used, n_bytes;
    char bytes[];
};

void adm_series_free(adm_series_set *set);

/* Compares the identities of two series, of one set or of two: <0, 0, >0. */
int adm_series_order(const adm_series *a, const adm_series *b);

/* The series of a set with these properties, or NULL. */
const adm_series *adm_series_find(const adm_series_set *set, const char *work, const char *variant, const char *source,
                                  const char *stage, const char *metric);

#endif
