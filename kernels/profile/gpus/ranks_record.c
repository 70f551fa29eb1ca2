/* ranks_record.c: rows of sharded steps. */
#include "kernels/profile/gpus/ranks_record.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/stats/stats.h"
#include "kernels/gpu_work.h"

static const adm_metric step_metric = {
    "sharded_step_ns", "ns", "lower",
    "Duration of a stage for one layer of one decode step on the slowest rank, without all-reduce"};
static const adm_metric reduce_metric = {"all_reduce_ns", "ns", "lower",
                                         "Duration of an all-reduce of [batch][query heads * d] in fp16 over the ranks"};
static const adm_metric total_metric = {
    "sharded_total_ns", "ns", "lower",
    "Duration of a stage for one layer of one decode step on the slowest rank with the all-reduce behind it, in one graph"};
static const adm_metric spread_metric = {"rank_spread_ratio", "ratio", "none",
                                         "Median of the slowest rank over that of the fastest, less 1"};
static const adm_metric link_metric = {
    "link_limit_bytes_per_s", "bytes/s", "higher",
    "Bandwidth per rank and direction of an all-reduce of 64 MiB: 2 (n - 1) / n times its bytes"};
static const adm_metric link_bytes_metric = {"link_bytes", "bytes", "none",
                                             "What each rank must send for an all-reduce: 2 (n - 1) / n times the message"};
static const adm_metric link_floor_metric = {"link_floor_ns", "ns", "none",
                                             "Least duration of an all-reduce: its link_bytes at the measured link bandwidth"};
static const adm_metric bytes_metric = {"model_bytes", "bytes", "none",
                                        "Compulsory memory traffic of a stage for one layer of one decode step"};

static adm_config config_of(const adm_ranks_record *r, const adm_profile_case *c, const adm_profile_unit *unit,
                            const char *variant) {
    const adm_profile_options *o = r->o;
    const bool selects = unit != NULL && unit->stage == ADM_STAGE_STEP;
    return (adm_config){.policy = unit != NULL && unit->stage == ADM_STAGE_DENSE ? "dense" : "adamas",
                        .variant = variant,
                        .shape = {o->n_q_heads, c->n_kv_heads, o->head_dim},
                        .dtype = c->dtype,
                        .seq_len = c->seq_len,
                        .budget = unit != NULL ? unit->budget : 0,
                        .batch = c->batch,
                        .n_sinks = selects ? (int32_t)o->n_sinks : -1,
                        .n_recent = selects ? (int32_t)o->n_recent : -1,
                        .selection = selects ? adm_selection_name(o->selection) : NULL,
                        .cache = o->cold ? "cold" : "warm",
                        .launch = "graph",
                        .page_size = c->page_size};
}

static void name(char out[80], const char *what, int n_ranks) {
    snprintf(out, 80, "%s, %d rank%s", what, n_ranks, n_ranks > 1 ? "s" : "");
}

/* values are sorted by it; samples keeps the order. */
static adm_status put(adm_ranks_record *r, const adm_config *config, const char *source, const char *stage,
                      const adm_metric *metric, double *values, size_t n, const double *samples, adm_error *err) {
    adm_distribution distribution = adm_distribution_of(values, n);
    adm_measurement m = {.run_id = r->run_id,
                         .source = source,
                         .stage = stage,
                         .layer = -1,
                         .head = -1,
                         .metric = metric,
                         .distribution = &distribution,
                         .status = "ok",
                         .samples = samples,
                         .n_samples = samples != NULL ? n : 0};
    adm_status status = adm_store_config(r->store, config, &m.config_id, err);
    return status == ADM_OK ? adm_store_measurement(r->store, &m, err) : status;
}

static adm_status put_one(adm_ranks_record *r, const adm_config *config, const char *source, const char *stage,
                          const adm_metric *metric, double value, adm_error *err) {
    return put(r, config, source, stage, metric, &value, 1, NULL, err);
}

static adm_status put_times(adm_ranks_record *r, const adm_config *config, const char *stage, const adm_metric *metric,
                            const adm_rank_times *times, adm_error *err) {
    double *sorted = NULL;
    adm_status status = adm_alloc(&sorted, times->n, sizeof *sorted, "samples", err);
    if (status == ADM_OK) {
        memcpy(sorted, times->sample_ns, times->n * sizeof *sorted);
        status = put(r, config, "gpu", stage, metric, sorted, times->n, times->sample_ns, err);
    }
    adm_free(&sorted);
    return status;
}

static double link_bytes(int n_ranks, size_t n_elements) { return 2.0 * (n_ranks - 1) / n_ranks * 2.0 * (double)n_elements; }

static double median_of(const adm_rank_times *times) { return times->slowest_ns; /* of the slowest rank: all end together */ }

adm_status adm_ranks_put_link(adm_ranks_record *r, int n_ranks, size_t n_elements, const adm_rank_times *times,
                              adm_error *err) {
    char variant[80];
    name(variant, "link", n_ranks);
    const adm_config config = {.policy = "device",
                               .variant = variant,
                               .shape = {1, 1, r->o->head_dim},
                               .dtype = r->o->dtypes[0],
                               .batch = 1,
                               .n_sinks = -1,
                               .n_recent = -1,
                               .cache = "cold",
                               .launch = "graph"};
    r->link_bytes_per_s = link_bytes(n_ranks, n_elements) / median_of(times) * 1e9;
    adm_status status = put_one(r, &config, "gpu", NULL, &link_metric, r->link_bytes_per_s, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

adm_status adm_ranks_put_reduce(adm_ranks_record *r, const adm_profile_case *whole, int n_ranks, size_t n_elements,
                                const adm_rank_times *times, adm_error *err) {
    char variant[80];
    name(variant, "all-reduce", n_ranks);
    const adm_config config = config_of(r, whole, NULL, variant);
    const double bytes = link_bytes(n_ranks, n_elements);
    adm_status status = put_times(r, &config, "step", &reduce_metric, times, err);
    if (status == ADM_OK) status = put_one(r, &config, "model", "step", &link_bytes_metric, bytes, err);
    if (status == ADM_OK && r->link_bytes_per_s > 0)
        status = put_one(r, &config, "model", "step", &link_floor_metric, bytes / r->link_bytes_per_s * 1e9, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

/* Bytes that one rank moves. */
static double rank_bytes(const adm_ranks_record *r, const adm_profile_case *whole, const adm_profile_unit *unit, int n_ranks) {
    adm_gpu_shape shape = adm_profile_shape(r->o, whole);
    adm_gpu_load load = {0};
    shape.heads.n_q_heads /= (uint32_t)n_ranks;
    shape.heads.n_kv_heads /= (uint32_t)n_ranks;
    if (unit->budget > 0) shape.rule.budget = unit->budget;
    for (uint32_t b = 0; b < whole->batch; b++) {
        load.n_tokens += whole->length[b];
        load.n_selected += fmin(unit->budget, whole->length[b]);
    }
    load.n_distinct = load.n_selected;
    return adm_gpu_work(&shape, adm_profile_covers(unit), &load).bytes;
}

adm_status adm_ranks_put_step(adm_ranks_record *r, const adm_profile_case *whole, const adm_profile_unit *unit, int n_ranks,
                              const adm_rank_times *times, adm_error *err) {
    char variant[80];
    name(variant, unit->variant, n_ranks);
    const char *stage = adm_stage_name(unit->stage);
    const adm_config config = config_of(r, whole, unit, variant);
    adm_status status = put_times(r, &config, stage, &step_metric, times, err);
    if (status == ADM_OK) status = put_one(r, &config, "model", stage, &bytes_metric, rank_bytes(r, whole, unit, n_ranks), err);
    if (status == ADM_OK && n_ranks > 1)
        status = put_one(r, &config, "gpu", stage, &spread_metric, times->slowest_ns / times->fastest_ns - 1, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

adm_status adm_ranks_put_total(adm_ranks_record *r, const adm_profile_case *whole, const adm_profile_unit *unit, int n_ranks,
                               const adm_rank_times *times, adm_error *err) {
    char variant[80];
    name(variant, unit->variant, n_ranks);
    const adm_config config = config_of(r, whole, unit, variant);
    adm_status status = put_times(r, &config, adm_stage_name(unit->stage), &total_metric, times, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

adm_status adm_ranks_put_reason(adm_ranks_record *r, const adm_profile_case *whole, const adm_profile_unit *unit, int n_ranks,
                                adm_status why, const char *reason, adm_error *err) {
    char variant[80];
    name(variant, unit->variant, n_ranks);
    const adm_config config = config_of(r, whole, unit, variant);
    adm_measurement m = {.run_id = r->run_id,
                         .source = "gpu",
                         .stage = adm_stage_name(unit->stage),
                         .layer = -1,
                         .head = -1,
                         .metric = &step_metric,
                         .status = why == ADM_EUNSUPPORTED ? "skipped" : "failed",
                         .reason = reason};
    adm_status status = adm_store_config(r->store, &config, &m.config_id, err);
    if (status == ADM_OK) status = adm_store_measurement(r->store, &m, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}
