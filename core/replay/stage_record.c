/* stage_record.c: times and counts of stages. Bulk encoding of keys, and `step`, which is a sum of stages, are not counted. */
#include "core/replay/stage_record.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

static const adm_metric encode_metric = {"encode_ns_per_key", "ns", "lower",
                                         "Duration of a stage in bulk encoding, per key row of one KV head"};
static const adm_metric loop_metric[2] = {
    {"core_loop_ns", "ns", "none", "A reference loop beside each time of a stage: longer where something else used the core"},
    {"encode_core_loop_ns", "ns", "none", "The same beside the times of bulk encoding"}};

/* --- Configurations ------------------------------------------------------------------------------------------------ */

static adm_status make_times(adm_stage_record *s, const adm_record *record, const adm_segment *segment, adm_stage stage,
                             uint32_t budget, bool bulk, const char *variant, adm_error *err) {
    const adm_replay_options *o = &record->session->options;
    if (!adm_only_wants(o->only, o->n_only, stage, bulk, segment->seq_len, budget)) return ADM_OK;
    adm_stage_times *times = &s->times[s->n_times];
    const char *policy = stage == ADM_STAGE_DENSE ? "dense" : "adamas";
    adm_config config = adm_record_config(record, segment, policy, variant, budget);
    *times = (adm_stage_times){.stage = stage, .budget = budget, .bulk = bulk};
    adm_status status = adm_store_config(record->store, &config, &times->config_id, err);
    if (status == ADM_OK) s->n_times++;
    return status;
}

/* Stages that are not run or not wanted have none: their configurations would stand for nothing. */
adm_status adm_stage_record_begin(adm_stage_record *s, const adm_record *record, const adm_segment *segment, adm_error *err) {
    const adm_session *session = record->session;
    const adm_host_pipeline *p = session->options.pipeline;
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
    const bool coded = session->contract != NULL;
    adm_stage_record_clear(s);
    s->session = session;
    if (session->options.n_timed_steps == 0) return ADM_OK;
    adm_status status = adm_alloc(&s->times, n_fixed + n_by_budget * session->options.n_budgets, sizeof *s->times,
                                  "stage times of a segment", err);
    for (size_t i = 0; status == ADM_OK && i < n_fixed; i++)
        if (coded || fixed[i].stage == ADM_STAGE_DENSE)
            status = make_times(s, record, segment, fixed[i].stage, 0, fixed[i].bulk, fixed[i].variant, err);
    for (size_t b = 0; coded && b < session->options.n_budgets; b++)
        for (size_t i = 0; status == ADM_OK && i < n_by_budget; i++)
            status = make_times(s, record, segment, by_budget[i].stage, session->options.budgets[b], false,
                                by_budget[i].variant, err);
    return status;
}

void adm_stage_record_clear(adm_stage_record *s) {
    for (size_t i = 0; i < s->n_times; i++) {
        free(s->times[i].sample_ns);
        free(s->times[i].loop_ns);
        free(s->times[i].count);
    }
    s->n_times = 0;
    adm_free(&s->times);
}

/* --- Keeping ------------------------------------------------------------------------------------------------------- */

adm_stage_times *adm_stage_record_find(adm_stage_record *s, adm_stage stage, uint32_t budget, bool bulk) {
    for (size_t i = 0; i < s->n_times; i++)
        if (s->times[i].stage == stage && s->times[i].budget == budget && s->times[i].bulk == bulk) return &s->times[i];
    return NULL;
}

/* Makes the array, whose pointer's address is given, large enough for one more element; false when out of memory, which
 * adm_stage_record_write() reports. */
static bool grow(adm_stage_record *s, void *array_address, size_t n, size_t *capacity, size_t size) {
    if (n < *capacity) return true;
    size_t larger = *capacity > 0 ? 2 * *capacity : 256;
    void *array;
    memcpy(&array, array_address, sizeof array);
    void *moved = realloc(array, larger * size);
    if (moved == NULL) {
        if (s->status == ADM_OK)
            s->status = adm_fail(&s->err, ADM_EENVIRONMENT, "times of stages: out of memory, %zu bytes were needed",
                                 larger * size);
        return false;
    }
    memcpy(array_address, &moved, sizeof moved);
    *capacity = larger;
    return true;
}

void adm_stage_record_keep(adm_stage_record *s, adm_stage_times *times, double ns, double loop_ns) {
    if (grow(s, &times->sample_ns, times->n, &times->capacity, sizeof *times->sample_ns)) times->sample_ns[times->n++] = ns;
    if (grow(s, &times->loop_ns, times->n_loops, &times->loop_capacity, sizeof *times->loop_ns))
        times->loop_ns[times->n_loops++] = loop_ns;
}

void adm_stage_record_count(adm_stage_record *s, const adm_range *range, const double *value) {
    adm_stage_times *times = s->now;
    if (range->kind != ADM_RANGE_STAGE || times == NULL || times->bulk) return;
    const size_t n = s->session->options.n_counters;
    if (grow(s, &times->count, times->n_counted, &times->count_capacity, n * sizeof *value))
        memcpy(times->count + n * times->n_counted++, value, n * sizeof *value);
}

bool adm_stage_record_counts(const adm_session *session) {
    for (size_t i = 0; i < session->options.n_counters; i++)
        if (session->options.counters[i].reason == NULL) return true;
    return false;
}

/* --- Writing ------------------------------------------------------------------------------------------------------- */

static adm_status write_values(const adm_record *record, const adm_stage_times *times, const adm_metric *metric,
                               const double *values, size_t n, adm_error *err) {
    double *sorted;
    adm_status status = adm_alloc(&sorted, n, sizeof *sorted, "stage times", err);
    if (status != ADM_OK) return status;
    memcpy(sorted, values, n * sizeof *sorted);
    adm_distribution distribution = adm_distribution_of(sorted, n);
    status = adm_record_put(record, times->config_id, adm_stage_name(times->stage), metric, -1, -1, &distribution, values, err);
    adm_free(&sorted);
    return status;
}

static adm_status write_times(const adm_record *record, const adm_stage_times *times, adm_error *err) {
    if (times->n == 0) return ADM_OK; /* nothing was timed, or nothing was left to encode in bulk */
    const adm_metric *metric = times->bulk ? &encode_metric : &adm_metric_time;
    adm_status status = write_values(record, times, metric, times->sample_ns, times->n, err);
    return status == ADM_OK ? write_values(record, times, &loop_metric[times->bulk], times->loop_ns, times->n_loops, err)
                            : status;
}

/* One counter of one stage. values: room for n_counted doubles. */
static adm_status write_counter(const adm_record *record, const adm_stage_times *times, size_t counter, double *values,
                                adm_error *err) {
    const adm_replay_options *o = &record->session->options;
    const adm_counter *c = &o->counters[counter];
    const adm_metric metric = {c->name, c->unit, c->better, c->description};
    size_t n = 0;
    for (size_t i = 0; i < times->n_counted; i++) {
        const double value = times->count[i * o->n_counters + counter];
        if (!isnan(value)) values[n++] = value;
    }
    if (n > 0) return write_values(record, times, &metric, values, n, err);
    return adm_record_skip(record, times->config_id, adm_stage_name(times->stage), &metric,
                           c->reason != NULL ? c->reason : "the counter was never on for a whole stage: others shared it", err);
}

static adm_status write_counters(const adm_record *record, const adm_stage_times *times, adm_error *err) {
    double *values = NULL;
    if (times->bulk || times->stage == ADM_STAGE_STEP) return ADM_OK;
    adm_status status = adm_alloc(&values, times->n_counted + 1, sizeof *values, "counts of a stage", err);
    for (size_t c = 0; status == ADM_OK && c < record->session->options.n_counters; c++)
        status = write_counter(record, times, c, values, err);
    adm_free(&values);
    return status;
}

adm_status adm_stage_record_write(const adm_stage_record *s, const adm_record *record, adm_error *err) {
    adm_status status = s->status;
    if (status != ADM_OK && err != NULL) *err = s->err;
    for (size_t i = 0; status == ADM_OK && i < s->n_times; i++)
        status = record->session->options.n_counters > 0 ? write_counters(record, &s->times[i], err)
                                                         : write_times(record, &s->times[i], err);
    return status;
}
