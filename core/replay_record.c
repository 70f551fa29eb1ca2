/* replay_record.c: what a segment of a replay keeps, and how it reaches the store. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "core/replay_internal.h"

static const adm_metric quality_metric[N_QUALITY] = {
    [Q_RECALL] = {"recall", "ratio", "higher", "Share of the exact top-k tokens (by q.k) that were selected"},
    [Q_MASS] = {"mass", "ratio", "higher", "Softmax probability of the selected tokens under dense attention"},
    [Q_KL] = {"kl", "nats", "lower", "Kullback-Leibler divergence of sparse from dense attention: -ln(mass)"},
    [Q_TV] = {"tv", "ratio", "lower", "Total variation distance of sparse from dense attention: 1 - mass"},
    [Q_OUTPUT_REL_L2] = {"output_rel_l2", "ratio", "lower",
                         "Relative L2 error of the attention output against dense attention in double precision"},
    [Q_OUTPUT_COSINE] = {"output_cosine", "1", "higher", "Cosine of the attention output with the dense output"},
    [Q_ORACLE_GAP] = {"oracle_gap", "ratio", "lower",
                      "output_rel_l2 minus that of the exact top-k at the same budget"},
    [Q_EPS_EXCEED] = {"eps_exceed", "ratio", "lower",
                      "Share of (step, head) whose output_rel_l2 is above the run's --eps; read the mean"},
    [Q_TIES] = {"ties", "tokens", "none", "Tokens tied at the distance where the budget runs out"},
};

static const adm_metric time_metric = {"time_ns", "ns", "lower", "Duration of a stage for one layer of one decode step, all heads"};
static const adm_metric encode_metric = {"encode_ns_per_key", "ns", "lower", "Duration of a stage in bulk encoding, per key row of one KV head"};
static const adm_metric entropy_metric = {"bucket_entropy_bits", "bits", "higher", "Entropy of the key codes; 2 bits when all four occur equally often"};
static const adm_metric occupancy_metric[4] = {
    {"bucket_occupancy_0", "ratio", "none", "Share of key codes that are 0 (below the first threshold)"},
    {"bucket_occupancy_1", "ratio", "none", "Share of key codes that are 1"},
    {"bucket_occupancy_2", "ratio", "none", "Share of key codes that are 2"},
    {"bucket_occupancy_3", "ratio", "none", "Share of key codes that are 3 (above the last threshold)"},
};

/* Ties are adamas's; the gap to the oracle is of those that are not exact. */
static bool policy_has(adm_policy policy, int metric) {
    if (metric == Q_TIES) return policy == ADM_POLICY_ADAMAS;
    return metric != Q_ORACLE_GAP || (policy != ADM_POLICY_DENSE && policy != ADM_POLICY_ORACLE);
}

/* What tells two configurations of one policy apart. */
static void variant_name(const adm_replay *r, adm_policy policy, size_t v, char *name, size_t name_bytes) {
    switch (policy) {
    case ADM_POLICY_ADAMAS:
        snprintf(name, name_bytes, "%s %s", r->options.pipeline->distance->metric, r->options.thresholds[v].text);
        break;
    case ADM_POLICY_QUEST: snprintf(name, name_bytes, "pages of %d", ADM_QUEST_PAGE); break;
    case ADM_POLICY_STREAMING: snprintf(name, name_bytes, "%d sinks", ADM_STREAMING_SINKS); break;
    case ADM_POLICY_H2O: snprintf(name, name_bytes, "half recent"); break;
    case ADM_POLICY_RANDOM: snprintf(name, name_bytes, "seed %llu", (unsigned long long)r->options.seed); break;
    default: snprintf(name, name_bytes, "exact");
    }
}

/* --- Configurations ----------------------------------------------------------------------------------------------- */

static adm_config config_for(const adm_replay *r, const adm_segment *segment, const char *policy, const char *variant,
                             uint32_t budget) {
    return (adm_config){.trace_id = r->trace_id, .policy = policy, .variant = variant, .shape = r->trace->shape,
                        .dtype = r->layer[0]->k_dtype, .seq_len = segment->seq_len, .budget = budget, .batch = 1,
                        .n_sinks = -1, .n_recent = -1, .cache = "warm", .launch = "host"};
}

static adm_status make_arm(adm_replay *r, const adm_segment *segment, adm_arm *arm, adm_policy policy, size_t b,
                           size_t v, adm_error *err) {
    char variant[128];
    variant_name(r, policy, v, variant, sizeof variant);
    uint32_t budget = policy == ADM_POLICY_DENSE ? 0 : r->options.budgets[b];
    adm_config config = config_for(r, segment, adm_policy_name(policy), variant, budget);
    config.cache = NULL; /* quality does not depend on it */
    if (policy == ADM_POLICY_ADAMAS) {
        config.n_sinks = (int32_t)r->options.n_sinks;
        config.n_recent = r->options.n_recent > 0 ? (int32_t)r->options.n_recent : 1; /* the newest always */
        config.selection = "head";
    }
    *arm = (adm_arm){.policy = policy, .budget = budget, .variant = v};
    adm_status status = ADM_OK;
    if (r->options.policy[policy]) status = adm_store_config(r->store, &config, &arm->config_id, err);
    if (status != ADM_OK) return status;
    return adm_alloc(&arm->value, N_QUALITY * r->n_layers * r->trace->shape.n_q_heads * segment->n_steps,
                     sizeof *arm->value, "quality values of a segment", err);
}

static adm_status make_times(adm_replay *r, const adm_segment *segment, adm_stage stage, uint32_t budget, bool bulk,
                             const char *variant, adm_error *err) {
    adm_stage_times *times = &r->times[r->n_times];
    const char *policy = stage == ADM_STAGE_DENSE ? "dense" : "adamas";
    adm_config config = config_for(r, segment, policy, variant, budget);
    *times = (adm_stage_times){.stage = stage, .budget = budget, .bulk = bulk};
    adm_status status = adm_store_config(r->store, &config, &times->config_id, err);
    if (status == ADM_OK) r->n_times++;
    return status;
}

static adm_status make_all_times(adm_replay *r, const adm_segment *segment, adm_error *err) {
    const adm_host_pipeline *p = r->options.pipeline;
    const struct { adm_stage stage; const char *variant; bool bulk; } fixed[] = {
        {ADM_STAGE_DENSE, p->dense->name, false},       {ADM_STAGE_HADAMARD, p->hadamard->name, false},
        {ADM_STAGE_BUCKET, p->bucket->name, false},     {ADM_STAGE_PACK, p->pack->name, false},
        {ADM_STAGE_APPEND, "copy", false},              {ADM_STAGE_DISTANCE, p->distance->name, false},
        {ADM_STAGE_HADAMARD, p->hadamard->name, true},  {ADM_STAGE_BUCKET, p->bucket->name, true},
        {ADM_STAGE_PACK, p->pack->name, true},
    };
    const struct { adm_stage stage; const char *variant; } by_budget[] = {
        {ADM_STAGE_TOPK, p->topk->name}, {ADM_STAGE_ATTENTION, p->attention->name}, {ADM_STAGE_STEP, "six"},
    };
    const size_t n_fixed = sizeof fixed / sizeof fixed[0], n_by_budget = sizeof by_budget / sizeof by_budget[0];
    adm_status status = adm_alloc(&r->times, n_fixed + n_by_budget * r->options.n_budgets, sizeof *r->times,
                                  "stage times of a segment", err);
    for (size_t i = 0; status == ADM_OK && i < n_fixed; i++)
        status = make_times(r, segment, fixed[i].stage, 0, fixed[i].bulk, fixed[i].variant, err);
    for (size_t b = 0; b < r->options.n_budgets; b++)
        for (size_t i = 0; status == ADM_OK && i < n_by_budget; i++)
            status = make_times(r, segment, by_budget[i].stage, r->options.budgets[b], false, by_budget[i].variant, err);
    return status;
}

adm_status adm_replay_begin_segment(adm_replay *r, const adm_segment *segment, adm_error *err) {
    adm_replay_drop_segment(r);
    size_t n_budgets = r->options.n_budgets, n_arms = 1 + n_budgets * adm_replay_arm_rows(r);
    adm_status status = adm_alloc(&r->arm, n_arms, sizeof *r->arm, "policies of a segment", err);
    if (status != ADM_OK) return status;
    r->n_arms = n_arms;
    status = make_arm(r, segment, &r->arm[0], ADM_POLICY_DENSE, 0, 0, err);
    for (adm_policy p = ADM_POLICY_ORACLE; p < ADM_N_POLICIES; p++) {
        size_t n_variants = p == ADM_POLICY_ADAMAS ? r->options.n_thresholds : 1;
        for (size_t v = 0; v < n_variants; v++)
            for (size_t b = 0; status == ADM_OK && b < n_budgets; b++)
                status = make_arm(r, segment, adm_replay_arm(r, p, b, v), p, b, v, err);
    }
    if (status == ADM_OK) status = make_all_times(r, segment, err);
    /* The database is not locked while the segment is measured. */
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

void adm_replay_drop_segment(adm_replay *r) {
    for (size_t i = 0; i < r->n_arms; i++) adm_free(&r->arm[i].value);
    for (size_t i = 0; i < r->n_times; i++) {
        free(r->times[i].sample_ns);
        free(r->times[i].count);
    }
    r->n_arms = r->n_times = 0;
    adm_free(&r->arm);
    adm_free(&r->times);
}

/* --- Times -------------------------------------------------------------------------------------------------------- */

adm_stage_times *adm_replay_times(adm_replay *r, adm_stage stage, uint32_t budget, bool bulk) {
    for (size_t i = 0; i < r->n_times; i++)
        if (r->times[i].stage == stage && r->times[i].budget == budget && r->times[i].bulk == bulk)
            return &r->times[i];
    return NULL;
}

bool adm_replay_grow(adm_replay *r, void *array_address, size_t n, size_t *capacity, size_t size) {
    if (n < *capacity) return true;
    size_t larger = *capacity > 0 ? 2 * *capacity : 256;
    void *array;
    memcpy(&array, array_address, sizeof array);
    void *moved = realloc(array, larger * size);
    if (moved == NULL) {
        if (r->sink_status == ADM_OK)
            r->sink_status = adm_fail(&r->sink_error, ADM_EENVIRONMENT,
                                      "times of stages: out of memory, %zu bytes were needed", larger * size);
        return false;
    }
    memcpy(array_address, &moved, sizeof moved);
    *capacity = larger;
    return true;
}

void adm_replay_keep_time(adm_replay *r, adm_stage_times *times, double ns) {
    if (adm_replay_grow(r, &times->sample_ns, times->n, &times->capacity, sizeof *times->sample_ns))
        times->sample_ns[times->n++] = ns;
}

void adm_replay_keep_event(adm_replay *r, const adm_range *range, uint64_t start_ns, uint64_t end_ns) {
    if (adm_replay_grow(r, &r->event, r->n_events, &r->event_capacity, sizeof *r->event))
        r->event[r->n_events++] = (adm_event){*range, start_ns, end_ns};
}

/* --- Writing ------------------------------------------------------------------------------------------------------ */

/* Stores the distribution of n values, which it may reorder. */
static adm_status put(adm_replay *r, int64_t config_id, const char *stage, const adm_metric *metric, int32_t layer,
                      int32_t head, double *values, size_t n, const double *samples, adm_error *err) {
    adm_distribution distribution = adm_distribution_of(values, n);
    adm_measurement m = {.run_id = r->run_id, .config_id = config_id, .source = "host", .stage = stage, .layer = layer,
                         .head = head, .metric = metric, .distribution = &distribution, .status = "ok",
                         .samples = samples, .n_samples = samples != NULL ? n : 0};
    return adm_store_measurement(r->store, &m, err);
}

/* A budget at which the policy has no meaning: a row for each metric that says so. */
static adm_status write_impossible(adm_replay *r, const adm_arm *arm, adm_error *err) {
    adm_status status = ADM_OK;
    for (int metric = 0; status == ADM_OK && metric < N_QUALITY; metric++) {
        adm_measurement m = {.run_id = r->run_id, .config_id = arm->config_id, .source = "host", .layer = -1, .head = -1,
                             .metric = &quality_metric[metric], .status = "skipped",
                             .reason = "quest selects whole pages of 16 tokens"};
        if (policy_has(arm->policy, metric)) status = adm_store_measurement(r->store, &m, err);
    }
    return status;
}

static adm_status write_arm(adm_replay *r, const adm_segment *segment, const adm_arm *arm, double *scratch,
                            adm_error *err) {
    if (!adm_arm_is_possible(arm)) return write_impossible(r, arm, err);
    size_t n_heads = r->trace->shape.n_q_heads, n = segment->n_steps, n_pooled = r->n_layers * n_heads * n;
    for (int metric = 0; metric < N_QUALITY; metric++) {
        if (!policy_has(arm->policy, metric)) continue;
        for (size_t layer = 0; layer < r->n_layers; layer++)
            for (size_t head = 0; head < n_heads; head++) {
                const double *value = adm_arm_value(r, arm, segment, metric, layer, head, 0);
                memcpy(scratch, value, n * sizeof *scratch);
                adm_status status = put(r, arm->config_id, NULL, &quality_metric[metric],
                                        (int32_t)r->layer[layer]->index, (int32_t)head, scratch, n, NULL, err);
                if (status != ADM_OK) return status;
            }
        memcpy(scratch, adm_arm_value(r, arm, segment, metric, 0, 0, 0), n_pooled * sizeof *scratch);
        adm_status status = put(r, arm->config_id, NULL, &quality_metric[metric], -1, -1, scratch, n_pooled, NULL, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

/* The codes of the keys cached so far: a value a layer and KV head, and all of them pooled. */
static adm_status write_codes(adm_replay *r, const adm_segment *segment, size_t variant, double *scratch,
                              adm_error *err) {
    char name[128];
    variant_name(r, ADM_POLICY_ADAMAS, variant, name, sizeof name);
    adm_config config = config_for(r, segment, "adamas", name, 0);
    config.cache = NULL;
    int64_t config_id;
    adm_status status = adm_store_config(r->store, &config, &config_id, err);
    size_t n_kv = r->trace->shape.n_kv_heads, n_pooled = r->n_layers * n_kv;
    for (int metric = 0; status == ADM_OK && metric < 5; metric++) {
        const adm_metric *m = metric < 4 ? &occupancy_metric[metric] : &entropy_metric;
        for (size_t i = 0; status == ADM_OK && i < n_pooled; i++) {
            const uint64_t *count = r->cache[variant * r->n_layers + i / n_kv].n_codes + 4 * (i % n_kv);
            double all = (double)(count[0] + count[1] + count[2] + count[3]), entropy = 0;
            for (int c = 0; c < 4; c++)
                if (count[c] > 0) entropy -= (double)count[c] / all * log2((double)count[c] / all);
            double value = metric < 4 ? (double)count[metric] / all : entropy;
            scratch[i] = value;
            status = put(r, config_id, NULL, m, (int32_t)r->layer[i / n_kv]->index, (int32_t)(i % n_kv), &value, 1, NULL,
                         err);
        }
        if (status == ADM_OK) status = put(r, config_id, NULL, m, -1, -1, scratch, n_pooled, NULL, err);
    }
    return status;
}

static adm_status write_times(adm_replay *r, adm_error *err) {
    for (size_t i = 0; i < r->n_times; i++) {
        adm_stage_times *times = &r->times[i];
        if (times->n == 0) continue; /* nothing was timed, or nothing was left to encode in bulk */
        double *sorted;
        adm_status status = adm_alloc(&sorted, times->n, sizeof *sorted, "stage times", err);
        if (status != ADM_OK) return status;
        memcpy(sorted, times->sample_ns, times->n * sizeof *sorted);
        status = put(r, times->config_id, adm_stage_name(times->stage), times->bulk ? &encode_metric : &time_metric, -1,
                     -1, sorted, times->n, times->sample_ns, err);
        adm_free(&sorted);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

/* What went wrong where nothing could be returned. */
static adm_status sink_failure(const adm_replay *r, adm_error *err) {
    if (r->sink_status != ADM_OK && err != NULL) *err = r->sink_error;
    return r->sink_status;
}

static adm_status write_events(adm_replay *r, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < r->n_events; i++)
        status = adm_store_event(r->store, r->run_id, &r->event[i].range, "host", r->event[i].start_ns,
                                 r->event[i].end_ns, err);
    r->n_events = 0;
    return status;
}

adm_status adm_replay_end_session(adm_replay *r, adm_error *err) {
    adm_status status = sink_failure(r, err);
    if (status == ADM_OK) status = write_events(r, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

adm_status adm_replay_end_segment(adm_replay *r, const adm_segment *segment, adm_error *err) {
    double *scratch = NULL;
    size_t n_values = r->n_layers * r->trace->shape.n_q_heads * segment->n_steps;
    adm_status status = sink_failure(r, err);
    if (status == ADM_OK && r->options.n_counters > 0) {
        status = adm_replay_write_counts(r, err);
        return status == ADM_OK ? adm_store_flush(r->store, err) : status;
    }
    if (status == ADM_OK) status = adm_alloc(&scratch, n_values, sizeof *scratch, "values of a segment", err);
    for (size_t i = 0; status == ADM_OK && i < r->n_arms; i++)
        if (r->options.policy[r->arm[i].policy]) status = write_arm(r, segment, &r->arm[i], scratch, err);
    if (r->options.policy[ADM_POLICY_ADAMAS])
        for (size_t v = 0; status == ADM_OK && v < r->options.n_thresholds; v++)
            status = write_codes(r, segment, v, scratch, err);
    if (status == ADM_OK) status = write_times(r, err);
    if (status == ADM_OK) status = write_events(r, err);
    if (status == ADM_OK) status = adm_store_flush(r->store, err);
    adm_free(&scratch);
    return status;
}
