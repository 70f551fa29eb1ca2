/* write.h: the rows of a run, and those that runs share (traces, configurations, metrics), into the store's batch. Part of
 * store.h. */
#ifndef ADM_CORE_STORE_WRITE_H
#define ADM_CORE_STORE_WRITE_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/error.h"
#include "core/stats/stats.h"
#include "core/contract/probe.h"
#include "core/contract/trace.h"

typedef struct adm_store adm_store;

/* Finds or inserts the trace's row by its hash. */
adm_status adm_store_trace(adm_store *store, const adm_trace *trace, int64_t *trace_id, adm_error *err);

/* The same with the trace's metadata as the text of a JSON object. */
typedef struct adm_trace_row {
    adm_trace trace;
    const char *metadata_json;
} adm_trace_row;

adm_status adm_store_trace_row(adm_store *store, const adm_trace_row *row, int64_t *trace_id, adm_error *err);

/* One configuration. 0 or NULL where the schema's column is nullable means NULL, except n_sinks and n_recent (-1). */
typedef struct adm_config {
    int64_t trace_id;
    const char *policy, *variant;
    adm_shape shape;
    adm_dtype dtype;
    uint32_t seq_len, budget, batch;
    int32_t n_sinks, n_recent;
    const char *selection, *cache, *launch;
    uint32_t page_size;
    const char *batch_lens;
} adm_config;

/* Finds or inserts the configuration. */
adm_status adm_store_config(adm_store *store, const adm_config *config, int64_t *config_id, adm_error *err);

/* A metric's row: name, unit, "lower" | "higher" | "none", one sentence. Finds by name or inserts; a known name with
 * another unit or direction is ADM_EINTERNAL. */
typedef struct adm_metric {
    const char *name, *unit, *better, *description;
} adm_metric;

/* Those of a stage that more than one command measures. */
extern const adm_metric adm_metric_time;   /* time_ns */
extern const adm_metric adm_metric_bytes;  /* model_bytes */
extern const adm_metric adm_metric_floor;  /* floor_ns */
extern const adm_metric adm_metric_limit;  /* limit_ratio */
extern const adm_metric adm_metric_spread; /* median_ci_ratio */

typedef struct adm_measurement {
    int64_t run_id, config_id;
    const char *source;         /* "host", "gpu", "model" */
    const char *stage;          /* NULL: quality */
    int32_t layer, head;        /* -1: over all */
    const adm_metric *metric;
    const adm_distribution *distribution; /* NULL when not measured: then status and reason say so */
    const char *status;         /* "ok", "skipped", "failed" */
    const char *reason;         /* NULL when ok, or where a recorded figure comes from */
    const double *samples;      /* raw values to keep in order, or NULL */
    size_t n_samples;
    const int32_t *throttle;    /* [n_samples] NVML's clock event reasons at each, -1 not watched; NULL: none was */
} adm_measurement;

/* Appends to the batch. ADM_EINTERNAL: a second measurement with the same identity in one run, a figure or sample that
 * is not finite, a distribution of no values, a status that does not go with what is given. */
adm_status adm_store_measurement(adm_store *store, const adm_measurement *measurement, adm_error *err);

/* Finite thresholds used for one layer of a trace. */
adm_status adm_store_calibration(adm_store *store, int64_t run_id, int64_t trace_id, const char *variant, int32_t layer,
                                 const float thresholds[3], adm_error *err);

/* A finished range. clock is "host" or "gpu". */
adm_status adm_store_event(adm_store *store, int64_t run_id, const adm_range *range, const char *clock, uint64_t start_ns,
                           uint64_t end_ns, adm_error *err);

/* What ran on the GPU inside a range, which gives configuration, stage and step; range NULL: in none that is known. */
adm_status adm_store_activity(adm_store *store, int64_t run_id, const adm_range *range, const adm_activity *activity,
                              adm_error *err);

#endif
