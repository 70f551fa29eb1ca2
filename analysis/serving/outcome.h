/* outcome.h: what a simulation is judged by: latencies, throughput, goodput and memory, as metrics of the database. */
#ifndef ADM_ANALYSIS_SERVING_OUTCOME_H
#define ADM_ANALYSIS_SERVING_OUTCOME_H

#include "analysis/serving/simulate.h"
#include "core/stats/stats.h"
#include "core/store/write.h"

/* A request is good if it is served within both. */
typedef struct adm_target_latency {
    uint64_t ttft_ns, tpot_ns;
} adm_target_latency;

enum { ADM_OUTCOME_METRICS = 18 };

/* One metric of a simulation. n 0: there is none, and `reason` says why. */
typedef struct adm_outcome_value {
    const adm_metric *metric;
    adm_distribution d; /* of a single figure: n 1, and it in every field */
    const char *reason;
} adm_outcome_value;

typedef struct adm_outcome {
    adm_outcome_value value[ADM_OUTCOME_METRICS]; /* in the order of adm_outcome_metric() */
} adm_outcome;

/* Places in adm_outcome.value of those that tables show. */
enum {
    ADM_OUT_TTFT,
    ADM_OUT_TPOT,
    ADM_OUT_E2E,
    ADM_OUT_TOKENS,
    ADM_OUT_REQUESTS,
    ADM_OUT_GOODPUT,
    ADM_OUT_GOOD_RATIO,
    ADM_OUT_KV_BYTES,
    ADM_OUT_CODE_BYTES,
    ADM_OUT_BATCH,
    ADM_OUT_BUSY,
    ADM_OUT_SHARED,
    ADM_OUT_SPAN,
    ADM_OUT_PREEMPTED,
    ADM_OUT_REFUSED,
    ADM_OUT_SERVED,
    ADM_OUT_STEPS,
    ADM_OUT_STEP
};

/* kv_share: of the bytes that a cached token takes, K's and V's; the rest are codes. */
adm_status adm_outcome_of(const adm_requests *requests, const adm_simulation *simulation, const adm_target_latency *target,
                          double kv_share, adm_outcome *outcome, adm_error *err);

#endif
