/* cases.h: the same traffic through several ways to attend and to keep memory, side by side. */
#ifndef ADM_ANALYSIS_SERVING_CASES_H
#define ADM_ANALYSIS_SERVING_CASES_H

#include "analysis/serving/outcome.h"

/* What all cases share. Pointers are borrowed. */
typedef struct adm_setup {
    const adm_cost *cost;
    const adm_model *model;
    const adm_requests *requests;
    adm_engine engine;           /* contiguous, cache_bytes and token_bytes are set per case */
    const char *variant;         /* NULL: the fastest */
    double memory_share;         /* of the device's memory that the engine uses */
    double workspace_bytes;      /* for activations */
    double compute_share;
    uint64_t overhead_ns;
    adm_target_latency target;
    void (*on_case)(void *user); /* NULL, or called as each case ends, by any of the threads */
    void *user;
} adm_setup;

/* One case: plan and contiguous are given, the rest comes out. */
typedef struct adm_case {
    adm_plan plan;
    bool contiguous;
    double cache_bytes, token_bytes, kv_share;
    adm_step_time *time;
    adm_simulation simulation;
    adm_outcome outcome;
    adm_status status;
    adm_error err;
} adm_case;

/* Runs every case, on up to n_threads threads; the nanoseconds do not depend on how many. Fails with the first case that did.
 * adm_cases_free() takes back what the cases hold, on failure too. */
adm_status adm_cases_run(const adm_setup *setup, adm_case *cases, size_t n, size_t n_threads, bool (*should_stop)(void),
                         adm_error *err);
void adm_cases_free(adm_case *cases, size_t n);

#endif
