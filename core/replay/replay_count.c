/* replay_count.c: what a counting pass keeps of a segment, and how it reaches the store: a measurement a stage and
 * counter, or the reason why there is none. Key encoding in bulk and `step`, which is a sum of stages, are not
 * counted. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/replay/replay_internal.h"

bool adm_replay_counts(const adm_replay *r) {
    for (size_t i = 0; i < r->options.n_counters; i++)
        if (r->options.counters[i].reason == NULL) return true;
    return false;
}

void adm_replay_counter_sink(void *replay, const adm_range *range, const double *value) {
    adm_replay *r = replay;
    adm_stage_times *times = r->now;
    size_t n = r->options.n_counters;
    if (range->kind != ADM_RANGE_STAGE || times == NULL || times->bulk) return;
    if (adm_replay_grow(r, &times->count, times->n_counted, &times->count_capacity, n * sizeof *value))
        memcpy(times->count + n * times->n_counted++, value, n * sizeof *value);
}

/* One counter of one stage. values: room for n_counted doubles, twice. */
static adm_status write_counter(adm_replay *r, const adm_stage_times *times, size_t counter, double *values, adm_error *err) {
    const adm_counter *c = &r->options.counters[counter];
    const adm_metric metric = {c->name, c->unit, c->better, c->description};
    double *samples = values, *sorted = values + times->n_counted;
    size_t n = 0;
    for (size_t i = 0; i < times->n_counted; i++) {
        double value = times->count[i * r->options.n_counters + counter];
        if (!isnan(value)) samples[n++] = value;
    }
    adm_measurement m = {.run_id = r->run_id,
                         .config_id = times->config_id,
                         .source = "host",
                         .stage = adm_stage_name(times->stage),
                         .layer = -1,
                         .head = -1,
                         .metric = &metric,
                         .status = "skipped",
                         .reason = c->reason};
    if (m.reason == NULL) m.reason = "the counter was never on for a whole stage: others shared it";
    adm_distribution distribution;
    if (n > 0) {
        memcpy(sorted, samples, n * sizeof *sorted);
        distribution = adm_distribution_of(sorted, n);
        m.distribution = &distribution;
        m.status = "ok";
        m.reason = NULL;
        m.samples = samples;
        m.n_samples = n;
    }
    return adm_store_measurement(r->store, &m, err);
}

static bool is_counted(const adm_stage_times *times) { return !times->bulk && times->stage != ADM_STAGE_STEP; }

adm_status adm_replay_write_counts(adm_replay *r, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = 0; status == ADM_OK && i < r->n_times; i++) {
        const adm_stage_times *times = &r->times[i];
        double *values = NULL;
        if (!is_counted(times)) continue;
        status = adm_alloc(&values, 2 * times->n_counted + 1, sizeof *values, "counts of a stage", err);
        for (size_t c = 0; status == ADM_OK && c < r->options.n_counters; c++) status = write_counter(r, times, c, values, err);
        adm_free(&values);
    }
    return status;
}
