/* record.c: writes a tuning session to the store; see record.h. */
#include "kernels/tune/record.h"

#include <stdio.h>
#include <string.h>

#include "core/system/clock.h"
#include "core/base/mem.h"
#include "core/stats/stats.h"
#include "core/store/insert.h"

void adm_candidate_parameters(const adm_candidate *c, char *out, size_t bytes) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t p = 0; p < c->n_parameters && used < bytes; p++)
        used += (size_t)snprintf(out + used, bytes - used, "%s%s=%lld", p > 0 ? "," : "", c->parameter[p].name,
                                 (long long)c->chosen[p]);
}

/* The variant: the name and the parameters it was run with. */
static void variant_of(const adm_candidate *c, char *out, size_t bytes) {
    char parameters[512];
    adm_candidate_parameters(c, parameters, sizeof parameters);
    snprintf(out, bytes, "%s%s%s", c->name, parameters[0] != '\0' ? " " : "", parameters);
}

static adm_config config_of(const adm_tune_record *r, const adm_candidate *c, const char *variant) {
    const bool selects = c->stage == ADM_STAGE_TOPK || c->stage == ADM_STAGE_ATTENTION || c->stage == ADM_STAGE_STEP;
    const adm_tune_options *o = r->options;
    return (adm_config){.trace_id = o->trace_id,
                        .policy = c->stage == ADM_STAGE_DENSE ? "dense" : "adamas",
                        .variant = variant,
                        .shape = o->shape,
                        .dtype = o->dtype,
                        .seq_len = o->seq_len > 0 ? o->seq_len : o->n_tokens,
                        .budget = selects ? o->rule.budget : 0,
                        .batch = o->batch > 0 ? o->batch : 1,
                        .n_sinks = selects ? (int32_t)o->rule.n_sinks : -1,
                        .n_recent = selects ? (int32_t)o->rule.n_recent : -1,
                        .selection = selects || c->stage == ADM_STAGE_DISTANCE ? adm_selection_name(o->selection) : NULL,
                        .cache = !c->on_gpu ? NULL
                                 : o->warm  ? "warm"
                                            : "cold",
                        .launch = !c->on_gpu  ? "host"
                                  : o->stream ? "stream"
                                              : "graph",
                        .page_size = o->page_size,
                        .batch_lens = o->batch_lens};
}

static adm_status put(adm_tune_record *r, const adm_candidate *c, int64_t config_id, const char *source,
                      const adm_metric *metric, double *values, size_t n, const double *samples, adm_error *err) {
    const adm_distribution distribution = adm_distribution_of(values, n);
    const adm_measurement m = {.run_id = r->run_id,
                               .config_id = config_id,
                               .source = source,
                               .stage = adm_stage_name(c->stage),
                               .layer = -1,
                               .head = -1,
                               .metric = metric,
                               .distribution = &distribution,
                               .status = "ok",
                               .samples = samples,
                               .n_samples = samples != NULL ? n : 0};
    return adm_store_measurement(r->store, &m, err);
}

static adm_status put_times(adm_tune_record *r, const adm_candidate *c, const adm_tune_result *result, int64_t config_id,
                            adm_error *err) {
    const char *source = c->on_gpu ? "gpu" : "host";
    double *sorted = NULL, spread = result->ci_ratio, floor_ns = result->floor_ns;
    adm_status status = adm_alloc(&sorted, result->n, sizeof *sorted, "samples", err);
    if (status == ADM_OK) {
        adm_copy(sorted, result->sample_ns, result->n * sizeof *sorted);
        status = put(r, c, config_id, source, &adm_metric_time, sorted, result->n, result->sample_ns, err);
    }
    if (status == ADM_OK) status = put(r, c, config_id, source, &adm_metric_spread, &spread, 1, NULL, err);
    if (status == ADM_OK && floor_ns > 0) status = put(r, c, config_id, "model", &adm_metric_floor, &floor_ns, 1, NULL, err);
    double bytes = result->model_bytes;
    if (status == ADM_OK && bytes > 0) status = put(r, c, config_id, "model", &adm_metric_bytes, &bytes, 1, NULL, err);
    for (size_t i = 0; status == ADM_OK && i < result->n; i++) sorted[i] = floor_ns / result->sample_ns[i];
    if (status == ADM_OK && c->on_gpu && floor_ns > 0)
        status = put(r, c, config_id, source, &adm_metric_limit, sorted, result->n, NULL, err);
    adm_free(&sorted);
    return status;
}

static adm_status put_reason(adm_tune_record *r, const adm_candidate *c, const adm_tune_result *result, int64_t config_id,
                             adm_error *err) {
    const adm_measurement m = {.run_id = r->run_id,
                               .config_id = config_id,
                               .source = c->on_gpu ? "gpu" : "host",
                               .stage = adm_stage_name(c->stage),
                               .layer = -1,
                               .head = -1,
                               .metric = &adm_metric_time,
                               .status = result->status == ADM_EUNSUPPORTED || result->status == ADM_OK ? "skipped" : "failed",
                               .reason = result->status == ADM_OK ? "only checked" : result->reason};
    return adm_store_measurement(r->store, &m, err);
}

static adm_value text_or_null(const char *text) {
    return text != NULL && text[0] != '\0' ? (adm_value){.type = 's', .s = text} : (adm_value){.type = 'n'};
}

static adm_value figure_or_null(int value) {
    return value >= 0 ? (adm_value){.type = 'i', .i = value} : (adm_value){.type = 'n'};
}

static const char *verdict_of(adm_status status) {
    switch (status) {
    case ADM_OK: return "right";
    case ADM_EINTERNAL: return "wrong";
    case ADM_EUNSUPPORTED: return "skipped";
    case ADM_EINTERRUPTED: return "skipped";
    default: return "invalid";
    }
}

/* Counters are taken launch by launch, so they belong to the stream's configuration, as those of a profile. */
static adm_status put_counters(adm_tune_record *r, const adm_candidate *c, const adm_tune_counted *counted, const char *variant,
                               adm_error *err) {
    int64_t config_id;
    adm_config config = config_of(r, c, variant);
    config.launch = "stream";
    adm_status status = adm_store_config(r->store, &config, &config_id, err);
    for (size_t i = 0; i < counted->n && status == ADM_OK; i++) {
        const adm_tune_counter *k = &counted->counter[i];
        const adm_metric metric = {k->name, k->unit, k->better, k->description};
        double value = k->value;
        const adm_distribution distribution = adm_distribution_of(&value, 1);
        const bool counts = k->reason[0] == '\0';
        const adm_measurement m = {.run_id = r->run_id,
                                   .config_id = config_id,
                                   .source = "gpu",
                                   .stage = adm_stage_name(c->stage),
                                   .layer = -1,
                                   .head = -1,
                                   .metric = &metric,
                                   .distribution = counts ? &distribution : NULL,
                                   .status = counts ? "ok" : "skipped",
                                   .reason = counts ? NULL : k->reason};
        status = adm_store_measurement(r->store, &m, err);
    }
    return status;
}

/* What the candidate was. */
static adm_status put_candidate(adm_tune_record *r, const adm_candidate *c, const adm_tune_result *result, int64_t config_id,
                                adm_error *err) {
    static const char *const columns[] = {"run_id",
                                          "config_id",
                                          "stage",
                                          "version",
                                          "kind",
                                          "path",
                                          "xxh128",
                                          "parameters",
                                          "verdict",
                                          "reason",
                                          "build_ns",
                                          "registers",
                                          "static_shared_bytes",
                                          "dynamic_shared_bytes",
                                          "spill_bytes",
                                          "threads",
                                          "blocks",
                                          "blocks_per_sm",
                                          "occupancy_ratio",
                                          "limiter",
                                          "made_utc"};
    static const char *const kinds[] = {"row", "source", "shared", "module"};
    const adm_tune_resources *s = result->resources.registers >= 0 ? &result->resources : &c->resources;
    char parameters[512], now[25];
    adm_insert *insert = NULL;
    adm_candidate_parameters(c, parameters, sizeof parameters);
    adm_clock_utc(now);
    const adm_value values[] = {
        {.type = 'i', .i = r->run_id},
        {.type = 'i', .i = config_id},
        {.type = 's', .s = adm_stage_name(c->stage)},
        {.type = 'i', .i = ++r->n_recorded},
        {.type = 's', .s = kinds[c->kind]},
        text_or_null(c->path),
        text_or_null(c->hash),
        text_or_null(parameters),
        {.type = 's', .s = verdict_of(result->status)},
        text_or_null(result->status == ADM_OK ? NULL : result->reason),
        c->build_s > 0 ? (adm_value){.type = 'i', .i = (int64_t)(c->build_s * 1e9)} : (adm_value){.type = 'n'},
        figure_or_null(s->registers),
        figure_or_null(s->static_shared_bytes),
        figure_or_null(s->dynamic_shared_bytes),
        figure_or_null(s->spill_bytes),
        figure_or_null(s->threads),
        figure_or_null(s->blocks),
        figure_or_null(s->blocks_per_sm),
        s->occupancy > 0 ? (adm_value){.type = 'd', .d = s->occupancy} : (adm_value){.type = 'n'},
        text_or_null(s->limiter),
        {.type = 's', .s = now},
    };
    adm_status status = adm_insert_open(r->store, "candidate", columns, sizeof columns / sizeof *columns, &insert, err);
    if (status == ADM_OK) status = adm_insert_row(insert, values, NULL, err);
    adm_insert_close(&insert);
    return status;
}

adm_status adm_tune_record_put(adm_tune_record *r, const adm_candidate *c, const adm_tune_result *result, adm_error *err) {
    int64_t config_id;
    char variant[ADM_CANDIDATE_NAME_BYTES + 512];
    variant_of(c, variant, sizeof variant);
    const adm_config config = config_of(r, c, variant);
    adm_status status = adm_store_config(r->store, &config, &config_id, err);
    if (status == ADM_OK && result->status == ADM_OK && result->n > 0) status = put_times(r, c, result, config_id, err);
    else if (status == ADM_OK) status = put_reason(r, c, result, config_id, err);
    if (status == ADM_OK && result->counted != NULL) status = put_counters(r, c, result->counted, variant, err);
    if (status == ADM_OK) status = put_candidate(r, c, result, config_id, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

adm_status adm_tune_record_winner(adm_tune_record *r, const adm_candidate *c, const adm_tune_result *result, double default_ns,
                                  adm_error *err) {
    static const char *const columns[] = {"run_id", "config_id",  "stage",     "device",     "path",
                                          "xxh128", "parameters", "median_ns", "default_ns", "made_utc"};
    char parameters[512], now[25];
    int64_t config_id;
    adm_insert *insert = NULL;
    char variant[ADM_CANDIDATE_NAME_BYTES + 512];
    variant_of(c, variant, sizeof variant);
    const adm_config config = config_of(r, c, variant);
    adm_candidate_parameters(c, parameters, sizeof parameters);
    adm_clock_utc(now);
    adm_status status = adm_store_config(r->store, &config, &config_id, err);
    const adm_value values[] = {
        {.type = 'i', .i = r->run_id},
        {.type = 'i', .i = config_id},
        {.type = 's', .s = adm_stage_name(c->stage)},
        {.type = 's', .s = r->device},
        text_or_null(c->path),
        text_or_null(c->hash),
        text_or_null(parameters),
        {.type = 'd', .d = result->median_ns},
        default_ns > 0 ? (adm_value){.type = 'd', .d = default_ns} : (adm_value){.type = 'n'},
        {.type = 's', .s = now},
    };
    if (status == ADM_OK) status = adm_insert_open(r->store, "tuned", columns, sizeof columns / sizeof *columns, &insert, err);
    if (status == ADM_OK) status = adm_insert_row(insert, values, NULL, err);
    adm_insert_close(&insert);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}
