/* replay_record.c: what a segment of a replay keeps, and how it reaches the store. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/replay/replay_internal.h"

static const adm_metric quality_metric[N_QUALITY] = {
    [Q_RECALL] = {"recall", "ratio", "higher", "Share of the exact top-k tokens (by q.k) that were selected"},
    [Q_MASS] = {"mass", "ratio", "higher", "Softmax probability of the selected tokens under dense attention"},
    [Q_KL] = {"kl", "nats", "lower", "Kullback-Leibler divergence of sparse from dense attention: -ln(mass)"},
    [Q_TV] = {"tv", "ratio", "lower", "Total variation distance of sparse from dense attention: 1 - mass"},
    [Q_OUTPUT_REL_L2] = {"output_rel_l2", "ratio", "lower",
                         "Relative L2 error of the attention output against dense attention in double precision"},
    [Q_OUTPUT_COSINE] = {"output_cosine", "1", "higher", "Cosine of the attention output with the dense output"},
    [Q_ORACLE_GAP] = {"oracle_gap", "ratio", "lower", "output_rel_l2 minus that of the exact top-k at the same budget"},
    [Q_EPS_EXCEED] = {"eps_exceed", "ratio", "lower",
                      "Share of (step, head) whose output_rel_l2 is above the run's --eps; read the mean"},
    [Q_TIES] = {"ties", "tokens", "none", "Tokens tied at the distance where the budget runs out"},
};

static const adm_metric time_metric = {"time_ns", "ns", "lower",
                                       "Duration of a stage for one layer of one decode step, all heads"};
static const adm_metric encode_metric = {"encode_ns_per_key", "ns", "lower",
                                         "Duration of a stage in bulk encoding, per key row of one KV head"};
static const adm_metric loop_metric[2] = {
    {"core_loop_ns", "ns", "none", "A reference loop beside each time of a stage: longer where something else used the core"},
    {"encode_core_loop_ns", "ns", "none", "The same beside the times of bulk encoding"}};
static const adm_metric entropy_metric = {"bucket_entropy_bits", "bits", "higher",
                                          "Entropy of the key codes; 2 bits when all four occur equally often"};
static const adm_metric occupancy_metric[ADM_CODES] = {
    {"bucket_occupancy_0", "ratio", "none", "Share of key codes that are 0 (below the first threshold)"},
    {"bucket_occupancy_1", "ratio", "none", "Share of key codes that are 1"},
    {"bucket_occupancy_2", "ratio", "none", "Share of key codes that are 2"},
    {"bucket_occupancy_3", "ratio", "none", "Share of key codes that are 3 (above the third threshold)"},
    {"bucket_occupancy_4", "ratio", "none", "Share of key codes that are 4"},
    {"bucket_occupancy_5", "ratio", "none", "Share of key codes that are 5"},
    {"bucket_occupancy_6", "ratio", "none", "Share of key codes that are 6"},
    {"bucket_occupancy_7", "ratio", "none", "Share of key codes that are 7 (above the last threshold)"},
};

/* Ties are adamas's; the gap to the oracle is of those that are not exact. */
static bool policy_has(adm_policy policy, int metric) {
    if (metric == Q_TIES) return policy == ADM_POLICY_ADAMAS;
    return metric != Q_ORACLE_GAP || (policy != ADM_POLICY_DENSE && policy != ADM_POLICY_ORACLE);
}

/* What tells two configurations of one policy apart. */
static void variant_name(const adm_replay *r, const adm_row *row, char *name, size_t name_bytes) {
    char coding[ADM_CODING_NAME_BYTES];
    const char *grouped = row->selection == ADM_SELECT_GROUP ? ", per group" : "";
    switch (row->policy) {
    case ADM_POLICY_ADAMAS:
        adm_coding_name(&r->options.codings[row->coding], coding);
        snprintf(name, name_bytes, "%s", coding);
        break;
    case ADM_POLICY_QUEST: snprintf(name, name_bytes, "pages of %d%s", ADM_QUEST_PAGE, grouped); break;
    case ADM_POLICY_STREAMING: snprintf(name, name_bytes, "%d sinks%s", ADM_STREAMING_SINKS, grouped); break;
    case ADM_POLICY_H2O: snprintf(name, name_bytes, "half recent%s", grouped); break;
    case ADM_POLICY_RANDOM: snprintf(name, name_bytes, "seed %llu", (unsigned long long)r->options.seed); break;
    default: snprintf(name, name_bytes, "exact%s", grouped);
    }
}

/* --- Configurations ----------------------------------------------------------------------------------------------- */

static adm_config config_for(const adm_replay *r, const adm_segment *segment, const char *policy, const char *variant,
                             uint32_t budget) {
    return (adm_config){.trace_id = r->trace_id,
                        .policy = policy,
                        .variant = variant,
                        .shape = r->trace->shape,
                        .dtype = r->layer[0]->k_dtype,
                        .seq_len = segment->seq_len,
                        .budget = budget,
                        .batch = 1,
                        .n_sinks = -1,
                        .n_recent = -1,
                        .cache = "warm",
                        .launch = "host"};
}

/* The configuration of a row at a budget; 0: of what does not depend on one. */
static adm_status find_config(adm_replay *r, const adm_segment *segment, const adm_row *row, uint32_t budget, int64_t *id,
                              adm_error *err) {
    char variant[ADM_CODING_NAME_BYTES + 16];
    variant_name(r, row, variant, sizeof variant);
    adm_config config = config_for(r, segment, adm_policy_name(row->policy), variant, budget);
    config.cache = NULL; /* quality does not depend on it */
    if (row->policy == ADM_POLICY_ADAMAS) {
        config.n_sinks = (int32_t)r->options.codings[row->coding].n_sinks;
        config.n_recent = (int32_t)r->options.codings[row->coding].n_recent;
    }
    if (row->policy == ADM_POLICY_ADAMAS || row->selection == ADM_SELECT_GROUP)
        config.selection = adm_selection_name(row->selection);
    return adm_store_config(r->store, &config, id, err);
}

/* The budgets of a row: `dense` has none. */
static size_t budgets_of(const adm_replay *r, const adm_row *row) {
    return row->policy == ADM_POLICY_DENSE ? 1 : r->options.n_budgets;
}

/* Whether the row's values are wanted; the oracle's are computed in any case, for oracle_gap. */
static bool is_kept(const adm_replay *r, const adm_row *row) {
    if (!r->options.policy[row->policy]) return false;
    return row != &r->row[1] || r->options.select_head[row->policy] || !r->options.select_group[row->policy];
}

/* Slots of a row: counted with r->slot NULL, else taken from there on. */
static adm_status make_row_slots(adm_replay *r, const adm_segment *segment, adm_row *row, size_t *n_slots, adm_error *err) {
    adm_status status = ADM_OK;
    int64_t config_id = 0;
    for (size_t b = 0; is_kept(r, row) && status == ADM_OK && b < budgets_of(r, row); b++) {
        uint32_t budget = row->policy == ADM_POLICY_DENSE ? 0 : r->options.budgets[b];
        if (budget > 0 && !adm_is_possible(row->policy, budget)) continue;
        if (r->slot != NULL) status = find_config(r, segment, row, budget, &config_id, err);
        for (int metric = 0; metric < N_QUALITY; metric++) {
            if (!policy_has(row->policy, metric)) continue;
            size_t i = (*n_slots)++;
            if (r->slot == NULL) continue;
            r->slot[i].config_id = config_id;
            r->slot[i].metric = &quality_metric[metric];
            row->slot[b * N_QUALITY + (size_t)metric] = &r->slot[i];
        }
    }
    if (!is_kept(r, row) || row->policy == ADM_POLICY_DENSE || r->options.n_targets == 0) return status;
    if (r->slot != NULL && status == ADM_OK) status = find_config(r, segment, row, 0, &config_id, err);
    for (size_t t = 0; t < r->options.n_targets; t++) {
        size_t i = (*n_slots)++;
        if (r->slot == NULL) continue;
        r->slot[i].config_id = config_id;
        r->slot[i].metric = &r->target_metric[t];
        row->target[t] = &r->slot[i];
    }
    return status;
}

static adm_status make_all_slots(adm_replay *r, const adm_segment *segment, adm_error *err) {
    size_t n_slots = 0, n_taken = 0;
    adm_status status = ADM_OK;
    for (size_t i = 0; i < r->n_rows; i++) make_row_slots(r, segment, &r->row[i], &n_slots, NULL);
    status = adm_replay_make_slots(r, n_slots, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_rows; i++) {
        memset(r->row[i].slot, 0, r->options.n_budgets * N_QUALITY * sizeof *r->row[i].slot);
        memset(r->row[i].target, 0, r->options.n_targets * sizeof *r->row[i].target);
        status = make_row_slots(r, segment, &r->row[i], &n_taken, err);
    }
    return status;
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

/* Stages that are not run have none: their configurations would stand for nothing. */
static adm_status make_all_times(adm_replay *r, const adm_segment *segment, adm_error *err) {
    const adm_host_pipeline *p = r->options.pipeline;
    const struct {
        adm_stage stage;
        const char *variant;
        bool bulk;
    } fixed[] = {
        {ADM_STAGE_DENSE, p->dense->name, false},
        {ADM_STAGE_HADAMARD, p->hadamard->name, false},
        {ADM_STAGE_BUCKET, p->bucket->name, false},
        {ADM_STAGE_PACK, p->pack->name, false},
        {ADM_STAGE_APPEND, "copy", false},
        {ADM_STAGE_DISTANCE, p->distance->name, false},
        {ADM_STAGE_HADAMARD, p->hadamard->name, true},
        {ADM_STAGE_BUCKET, p->bucket->name, true},
        {ADM_STAGE_PACK, p->pack->name, true},
    };
    const struct {
        adm_stage stage;
        const char *variant;
    } by_budget[] = {
        {ADM_STAGE_TOPK, p->topk->name},
        {ADM_STAGE_ATTENTION, p->attention->name},
        {ADM_STAGE_STEP, "six"},
    };
    const size_t n_fixed = sizeof fixed / sizeof fixed[0], n_by_budget = sizeof by_budget / sizeof by_budget[0];
    if (r->options.n_timed_steps == 0) return ADM_OK;
    adm_status status = adm_alloc(&r->times, n_fixed + n_by_budget * r->options.n_budgets, sizeof *r->times,
                                  "stage times of a segment", err);
    const bool coded = adm_replay_times_codes(r);
    for (size_t i = 0; status == ADM_OK && i < n_fixed; i++)
        if (coded || fixed[i].stage == ADM_STAGE_DENSE)
            status = make_times(r, segment, fixed[i].stage, 0, fixed[i].bulk, fixed[i].variant, err);
    for (size_t b = 0; coded && b < r->options.n_budgets; b++)
        for (size_t i = 0; status == ADM_OK && i < n_by_budget; i++)
            status = make_times(r, segment, by_budget[i].stage, r->options.budgets[b], false, by_budget[i].variant, err);
    return status;
}

adm_status adm_replay_begin_segment(adm_replay *r, const adm_segment *segment, adm_error *err) {
    adm_status status = ADM_OK;
    adm_replay_drop_segment(r);
    if (r->options.n_counters == 0) status = make_all_slots(r, segment, err);
    if (status == ADM_OK) status = make_all_times(r, segment, err);
    /* The database is not locked while the segment is measured. */
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

void adm_replay_drop_segment(adm_replay *r) {
    adm_replay_drop_slots(r);
    for (size_t i = 0; i < r->n_times; i++) {
        free(r->times[i].sample_ns);
        free(r->times[i].loop_ns);
        free(r->times[i].count);
    }
    r->n_times = 0;
    adm_free(&r->times);
}

/* --- Times -------------------------------------------------------------------------------------------------------- */

adm_stage_times *adm_replay_times(adm_replay *r, adm_stage stage, uint32_t budget, bool bulk) {
    for (size_t i = 0; i < r->n_times; i++)
        if (r->times[i].stage == stage && r->times[i].budget == budget && r->times[i].bulk == bulk) return &r->times[i];
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
            r->sink_status = adm_fail(&r->sink_error, ADM_EENVIRONMENT, "times of stages: out of memory, %zu bytes were needed",
                                      larger * size);
        return false;
    }
    memcpy(array_address, &moved, sizeof moved);
    *capacity = larger;
    return true;
}

void adm_replay_keep_time(adm_replay *r, adm_stage_times *times, double ns, double loop_ns) {
    if (adm_replay_grow(r, &times->sample_ns, times->n, &times->capacity, sizeof *times->sample_ns))
        times->sample_ns[times->n++] = ns;
    if (adm_replay_grow(r, &times->loop_ns, times->n_loops, &times->loop_capacity, sizeof *times->loop_ns))
        times->loop_ns[times->n_loops++] = loop_ns;
}

/* --- Writing ------------------------------------------------------------------------------------------------------ */

static adm_status put(adm_replay *r, int64_t config_id, const char *stage, const adm_metric *metric, int32_t layer,
                      int32_t head, const adm_distribution *distribution, const double *samples, adm_error *err) {
    adm_measurement m = {.run_id = r->run_id,
                         .config_id = config_id,
                         .source = "host",
                         .stage = stage,
                         .layer = layer,
                         .head = head,
                         .metric = metric,
                         .distribution = distribution,
                         .status = "ok",
                         .samples = samples,
                         .n_samples = samples != NULL ? distribution->n : 0};
    return adm_store_measurement(r->store, &m, err);
}

static adm_status write_slot(adm_replay *r, adm_slot *slot, adm_bin *scratch, adm_error *err) {
    size_t n_heads = r->trace->shape.n_q_heads;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < r->n_layers * n_heads; i++)
        status = put(r, slot->config_id, NULL, slot->metric, (int32_t)r->layer[i / n_heads]->index, (int32_t)(i % n_heads),
                     &slot->of[i], NULL, err);
    adm_distribution pooled = adm_aggregate_result(&slot->pooled, scratch);
    return status == ADM_OK ? put(r, slot->config_id, NULL, slot->metric, -1, -1, &pooled, NULL, err) : status;
}

static adm_status write_slots(adm_replay *r, adm_error *err) {
    adm_bin *scratch = NULL;
    adm_status status = adm_alloc(&scratch, ADM_AGGREGATE_MAX_BINS, sizeof *scratch, "bins of a distribution", err);
    for (size_t i = 0; status == ADM_OK && i < r->n_slots; i++) status = write_slot(r, &r->slot[i], scratch, err);
    adm_free(&scratch);
    return status;
}

/* Budgets at which a row has no meaning: for each metric a measurement that says so. */
static adm_status write_impossible(adm_replay *r, const adm_segment *segment, const adm_row *row, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t b = 0; status == ADM_OK && b < budgets_of(r, row); b++) {
        if (row->policy == ADM_POLICY_DENSE || adm_is_possible(row->policy, r->options.budgets[b])) continue;
        int64_t config_id;
        status = find_config(r, segment, row, r->options.budgets[b], &config_id, err);
        for (int metric = 0; status == ADM_OK && metric < N_QUALITY; metric++) {
            adm_measurement m = {.run_id = r->run_id,
                                 .config_id = config_id,
                                 .source = "host",
                                 .layer = -1,
                                 .head = -1,
                                 .metric = &quality_metric[metric],
                                 .status = "skipped",
                                 .reason = "quest selects whole pages of 16 tokens"};
            if (policy_has(row->policy, metric)) status = adm_store_measurement(r->store, &m, err);
        }
    }
    return status;
}

/* One metric of the codes of the keys cached so far: a value a layer and KV head, and all of them pooled. code: whose
 * share, or -1 for the entropy. */
static adm_status write_code_metric(adm_replay *r, int64_t config_id, const adm_layer_codes *codes, int code, double *values,
                                    adm_error *err) {
    const adm_metric *metric = code >= 0 ? &occupancy_metric[code] : &entropy_metric;
    size_t n_kv = r->trace->shape.n_kv_heads, n_pooled = r->n_layers * n_kv;
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < n_pooled; i++) {
        const uint64_t *count = codes->n_codes + i * ADM_CODES;
        double all = 0, entropy = 0;
        for (int c = 0; c < ADM_CODES; c++) all += (double)count[c];
        for (int c = 0; c < ADM_CODES; c++)
            if (count[c] > 0) entropy -= (double)count[c] / all * log2((double)count[c] / all);
        values[i] = code >= 0 ? (double)count[code] / all : entropy;
        double one = values[i];
        adm_distribution distribution = adm_distribution_of(&one, 1);
        status = put(r, config_id, NULL, metric, (int32_t)r->layer[i / n_kv]->index, (int32_t)(i % n_kv), &distribution, NULL,
                     err);
    }
    if (status != ADM_OK) return status;
    adm_distribution pooled = adm_distribution_of(values, n_pooled);
    return put(r, config_id, NULL, metric, -1, -1, &pooled, NULL, err);
}

static adm_status write_codes(adm_replay *r, const adm_segment *segment, const adm_row *row, double *values, adm_error *err) {
    const adm_layer_codes *codes = &r->codes[r->codes_of[row->coding]];
    int64_t config_id;
    adm_status status = find_config(r, segment, row, 0, &config_id, err);
    for (int code = -1; status == ADM_OK && code < 1 << codes->coding->bits; code++)
        status = write_code_metric(r, config_id, codes, code, values, err);
    return status;
}

static adm_status write_all_codes(adm_replay *r, const adm_segment *segment, adm_error *err) {
    double *values = NULL;
    adm_status status = adm_alloc(&values, r->n_layers * r->trace->shape.n_kv_heads, sizeof *values, "code shares", err);
    for (size_t i = 0; status == ADM_OK && i < r->n_rows; i++)
        if (r->row[i].policy == ADM_POLICY_ADAMAS) status = write_codes(r, segment, &r->row[i], values, err);
    adm_free(&values);
    return status;
}

/* Whether one of the codings before c has its thresholds stored under the same name, and differs in forced tokens alone. */
static bool is_calibrated_before(const adm_replay *r, size_t c) {
    const adm_coding *codings = r->options.codings;
    for (size_t i = 0; adm_coding_is_contract(&codings[c]) && i < c; i++)
        if (adm_coding_is_contract(&codings[i]) && strcmp(codings[i].thresholds.text, codings[c].thresholds.text) == 0)
            return true;
    return false;
}

/* The thresholds of codings that have a layer's three. A variant of the contract goes by what it was asked for, others by
 * their full names. */
static adm_status write_calibration(adm_replay *r, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t c = 0; c < r->options.n_codings; c++) {
        const adm_coding *coding = &r->options.codings[c];
        char name[ADM_CODING_NAME_BYTES];
        adm_coding_name(coding, name);
        if (coding->bits != 2 || coding->thresholds.kind == ADM_THRESHOLDS_CHANNEL || is_calibrated_before(r, c)) continue;
        for (size_t layer = 0; status == ADM_OK && layer < r->n_layers; layer++)
            status = adm_store_calibration(r->store, r->run_id, r->trace_id,
                                           adm_coding_is_contract(coding) ? coding->thresholds.text : name,
                                           (int32_t)r->layer[layer]->index, r->book[c * r->n_layers + layer]->layer, err);
    }
    r->calibration_is_stored = status == ADM_OK;
    return status;
}

static adm_status write_values(adm_replay *r, const adm_stage_times *times, const adm_metric *metric, const double *values,
                               size_t n, adm_error *err) {
    double *sorted;
    adm_status status = adm_alloc(&sorted, n, sizeof *sorted, "stage times", err);
    if (status != ADM_OK) return status;
    memcpy(sorted, values, n * sizeof *sorted);
    adm_distribution distribution = adm_distribution_of(sorted, n);
    status = put(r, times->config_id, adm_stage_name(times->stage), metric, -1, -1, &distribution, values, err);
    adm_free(&sorted);
    return status;
}

static adm_status write_times(adm_replay *r, adm_error *err) {
    for (size_t i = 0; i < r->n_times; i++) {
        adm_stage_times *times = &r->times[i];
        if (times->n == 0) continue; /* nothing was timed, or nothing was left to encode in bulk */
        adm_status status = write_values(r, times, times->bulk ? &encode_metric : &time_metric, times->sample_ns, times->n,
                                         err);
        if (status == ADM_OK) status = write_values(r, times, &loop_metric[times->bulk], times->loop_ns, times->n_loops, err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

/* What went wrong where nothing could be returned. */
static adm_status sink_failure(const adm_replay *r, adm_error *err) {
    if (r->sink_status != ADM_OK && err != NULL) *err = r->sink_error;
    return r->sink_status;
}

static adm_status write_event(void *replay, const adm_range *range, uint64_t start_ns, uint64_t end_ns, adm_error *err) {
    const adm_replay *r = replay;
    return adm_store_event(r->store, r->run_id, range, "host", start_ns, end_ns, err);
}

static adm_status write_events(adm_replay *r, adm_error *err) {
    return r->events != NULL ? adm_event_spool_each(r->events, write_event, r, err) : ADM_OK;
}

adm_status adm_replay_end_session(adm_replay *r, adm_error *err) {
    adm_status status = sink_failure(r, err);
    if (status == ADM_OK) status = write_events(r, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

adm_status adm_replay_end_segment(adm_replay *r, const adm_segment *segment, adm_error *err) {
    adm_status status = sink_failure(r, err);
    if (status == ADM_OK && r->options.check_input != NULL) status = r->options.check_input(r->trace, err);
    if (status == ADM_OK && r->options.n_counters > 0) {
        status = adm_replay_write_counts(r, err);
        return status == ADM_OK ? adm_store_flush(r->store, err) : status;
    }
    if (status == ADM_OK && !r->calibration_is_stored) status = write_calibration(r, err);
    if (status == ADM_OK) status = write_slots(r, err);
    for (size_t i = 0; status == ADM_OK && i < r->n_rows; i++)
        if (is_kept(r, &r->row[i])) status = write_impossible(r, segment, &r->row[i], err);
    if (status == ADM_OK) status = write_all_codes(r, segment, err);
    if (status == ADM_OK) status = write_times(r, err);
    if (status == ADM_OK) status = write_events(r, err);
    return status == ADM_OK ? adm_store_flush(r->store, err) : status;
}

/* --- What the run holds already ------------------------------------------------------------------------------------ */

/* A segment's rows come in one batch, so that one row of it means all. */
adm_status adm_replay_find_stored(adm_replay *r, adm_error *err) {
    static const char sql[] =
        "SELECT DISTINCT c.seq_len FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
        "WHERE m.run_id = ? AND c.trace_id = ? AND (m.stage IS NULL) = ? AND k.name = ifnull(?, k.name)";
    const char *counter = r->options.n_counters > 0 ? r->options.counters[0].name : NULL;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(r->store, sql, &query, err, "iiis", r->run_id, r->trace_id, (int64_t)(counter == NULL),
                                       counter);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        for (size_t i = 0; i < r->n_segments; i++)
            if (r->segment[i].seq_len == adm_query_int(query, 0)) r->is_stored[i] = r->calibration_is_stored = true;
    adm_query_close(&query);
    return status;
}
