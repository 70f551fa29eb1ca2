/* write.c: the rows of a run, and finding those that runs share (traces, configurations, metrics). */
#include "core/store/write.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "core/base/mem.h"
#include "core/base/printable.h"
#include "core/store/columns.h"
#include "core/store/row.h"
#include "core/store/file/database_internal.h"

const adm_metric adm_metric_time = {"time_ns", "ns", "lower",
                                    "Duration of a stage for one layer of one decode step, all heads"};
const adm_metric adm_metric_bytes = {"model_bytes", "bytes", "none",
                                     "Compulsory memory traffic of a stage for one layer of one decode step"};
const adm_metric adm_metric_floor = {"floor_ns", "ns", "none",
                                     "Least duration of a stage: its compulsory traffic at the measured read bandwidth"};
const adm_metric adm_metric_limit = {"limit_ratio", "ratio", "higher",
                                     "Share of the device's measured read bandwidth that the byte model's traffic reaches"};
const adm_metric adm_metric_spread = {"median_ci_ratio", "ratio", "lower",
                                      "Half the 95% confidence interval of the median duration, over the median"};

/* --- What runs share ---------------------------------------------------------------------------------------------- */

/* The metadata as a JSON object, to be released with adm_free(). */
static adm_status metadata_of(const adm_trace *trace, char **json, adm_error *err) {
    size_t size = 3;
    for (size_t i = 0; i < trace->n_meta; i++)
        size += adm_json_string_bytes(trace->meta[i].key) + adm_json_string_bytes(trace->meta[i].value) + 4;
    adm_status status = adm_alloc(json, size, 1, "a trace's metadata", err);
    if (status != ADM_OK) return status;
    char *end = *json;
    *end++ = '{';
    for (size_t i = 0; i < trace->n_meta; i++) {
        if (i > 0) end = stpcpy(end, ", ");
        end = stpcpy(adm_json_string(trace->meta[i].key, end), ": ");
        end = adm_json_string(trace->meta[i].value, end);
    }
    strcpy(end, "}");
    return ADM_OK;
}

adm_status adm_store_trace_row(adm_store *store, const adm_trace_row *trace, int64_t *trace_id, adm_error *err) {
    const char *doing = "recording a trace";
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_FIND_TRACE, err);
    if (status != ADM_OK) return status;
    adm_row_text(&row, trace->trace.xxh128);
    status = adm_row_find(&row, trace_id, doing, err);
    if (status != ADM_OK || *trace_id != 0) return status;
    status = adm_row_start(&row, store, ADM_SQL_ADD_TRACE, err);
    if (status != ADM_OK) return status;
    adm_row_struct(&row, &adm_trace_table, trace);
    status = adm_row_finish(&row, doing, err);
    if (status == ADM_OK) *trace_id = adm_row_new_id(store);
    return status;
}

adm_status adm_store_trace(adm_store *store, const adm_trace *trace, int64_t *trace_id, adm_error *err) {
    char *metadata = NULL;
    adm_status status = metadata_of(trace, &metadata, err);
    adm_trace_row row = {.trace = *trace, .metadata_json = metadata};
    if (status == ADM_OK) status = adm_store_trace_row(store, &row, trace_id, err);
    else adm_store_rollback(store);
    adm_free(&metadata);
    return status;
}

adm_status adm_store_config(adm_store *store, const adm_config *config, int64_t *config_id, adm_error *err) {
    const char *doing = "recording a configuration";
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_FIND_CONFIG, err);
    if (status != ADM_OK) return status;
    adm_row_struct(&row, &adm_config_table, config);
    status = adm_row_find(&row, config_id, doing, err);
    if (status != ADM_OK || *config_id != 0) return status;
    status = adm_row_start(&row, store, ADM_SQL_ADD_CONFIG, err);
    if (status != ADM_OK) return status;
    adm_row_struct(&row, &adm_config_table, config);
    status = adm_row_finish(&row, doing, err);
    if (status == ADM_OK) *config_id = adm_row_new_id(store);
    return status;
}

/* The metric's row; one name means one unit and one direction, whichever program wrote it. */
static adm_status metric_id_of(adm_store *store, const adm_metric *metric, int64_t *metric_id, adm_error *err) {
    const char *doing = "recording a metric";
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_FIND_METRIC, err);
    if (status != ADM_OK) return status;
    adm_row_text(&row, metric->name);
    if (row.rc == SQLITE_OK) row.rc = sqlite3_step(row.statement);
    if (row.rc == SQLITE_ROW) {
        const char *unit = adm_store_text(row.statement, 1, &row.rc), *better = adm_store_text(row.statement, 2, &row.rc);
        if (row.rc != SQLITE_ROW) return adm_row_abandon(&row, doing, err);
        bool same = strcmp(unit, metric->unit) == 0 && strcmp(better, metric->better) == 0;
        *metric_id = sqlite3_column_int64(row.statement, 0);
        if (!same)
            adm_fail(err, ADM_EINPUT, "%s has the metric '%s' in %s (better: %s), not in %s (better: %s)", store->path,
                     metric->name, unit, better, metric->unit, metric->better);
        adm_row_release(&row);
        if (!same) adm_store_rollback(store);
        return same ? ADM_OK : ADM_EINPUT;
    }
    if (row.rc != SQLITE_DONE) return adm_row_abandon(&row, doing, err);
    adm_row_release(&row);
    status = adm_row_start(&row, store, ADM_SQL_ADD_METRIC, err);
    if (status != ADM_OK) return status;
    adm_row_text(&row, metric->name);
    adm_row_text(&row, metric->unit);
    adm_row_text(&row, metric->better);
    adm_row_text(&row, metric->description);
    status = adm_row_finish(&row, doing, err);
    if (status == ADM_OK) *metric_id = adm_row_new_id(store);
    return status;
}

/* --- Measurements ------------------------------------------------------------------------------------------------- */

/* SQLite would turn NaN into NULL without a word, and an empty distribution is all zeros that nobody measured. */
static adm_status check_measurement(const adm_measurement *m, adm_error *err) {
    const adm_distribution *d = m->distribution;
    if (d != NULL && d->n == 0)
        return adm_fail(err, ADM_EINTERNAL, "metric '%s': a distribution of no values; give none, and a reason",
                        m->metric->name);
    if (d != NULL) {
        const double figures[] = {d->mean, d->min, d->p01, d->p05, d->p10, d->median, d->p90, d->p95, d->p99, d->max};
        for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
            if (!isfinite(figures[i]))
                return adm_fail(err, ADM_EINTERNAL, "metric '%s': its distribution holds %f", m->metric->name, figures[i]);
    }
    for (size_t i = 0; i < m->n_samples; i++)
        if (!isfinite(m->samples[i]))
            return adm_fail(err, ADM_EINTERNAL, "metric '%s': sample %zu of %zu is %f", m->metric->name, i, m->n_samples,
                            m->samples[i]);
    return ADM_OK;
}

static adm_status add_samples(adm_store *store, int64_t measurement_id, const adm_measurement *m, adm_error *err) {
    for (size_t i = 0; i < m->n_samples; i++) {
        adm_row row;
        adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_SAMPLE, err);
        if (status != ADM_OK) return status;
        adm_row_int(&row, measurement_id);
        adm_row_int(&row, (int64_t)i);
        adm_row_real(&row, m->samples[i]);
        adm_row_int_unless(&row, m->throttle != NULL ? m->throttle[i] : -1, -1);
        status = adm_row_finish(&row, "writing samples", err);
        if (status != ADM_OK) return status;
    }
    return ADM_OK;
}

static const adm_distribution not_measured = {0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};

adm_status adm_store_measurement(adm_store *store, const adm_measurement *m, adm_error *err) {
    adm_measurement_row values = {.m = *m, .d = m->distribution != NULL ? *m->distribution : not_measured};
    int64_t metric_id = 0;
    adm_row row;
    adm_status status = check_measurement(m, err);
    if (status != ADM_OK) {
        adm_store_rollback(store);
        return status;
    }
    status = metric_id_of(store, m->metric, &metric_id, err);
    if (status == ADM_OK) status = adm_row_start(&row, store, ADM_SQL_ADD_MEASUREMENT, err);
    if (status != ADM_OK) return status;
    values.metric_id = metric_id;
    adm_row_struct(&row, &adm_measurement_table, &values);
    char doing[200];
    sqlite3_snprintf(sizeof doing, doing, "writing metric '%s' of run %lld, config %lld, %s stage %s, layer %d, head %d",
                     m->metric->name, m->run_id, m->config_id, m->source, m->stage ? m->stage : "none", m->layer, m->head);
    status = adm_row_finish(&row, doing, err);
    return status == ADM_OK ? add_samples(store, adm_row_new_id(store), m, err) : status;
}

adm_status adm_store_calibration(adm_store *store, int64_t run_id, int64_t trace_id, const char *variant, int32_t layer,
                                 const float thresholds[3], adm_error *err) {
    adm_row row;
    for (int i = 0; i < 3; i++)
        if (!isfinite(thresholds[i])) {
            adm_store_rollback(store);
            return adm_fail(err, ADM_EINTERNAL, "threshold %d of '%s', layer %d, is %f", i, variant, layer,
                            (double)thresholds[i]);
        }
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_CALIBRATION, err);
    if (status != ADM_OK) return status;
    XXH128_canonical_t hash;
    char hex[33];
    XXH128_canonicalFromHash(&hash, XXH3_128bits(thresholds, 3 * sizeof *thresholds));
    for (int i = 0; i < 16; i++) snprintf(hex + 2 * i, 3, "%02x", hash.digest[i]);
    adm_row_int(&row, run_id);
    adm_row_int(&row, trace_id);
    adm_row_text(&row, variant);
    adm_row_int(&row, layer);
    for (int i = 0; i < 3; i++) adm_row_real(&row, (double)thresholds[i]);
    adm_row_text(&row, hex);
    return adm_row_finish(&row, "writing thresholds", err);
}

/* Of a range that is a stage. */
static const char *name_of(const adm_range *range) { return range->part != NULL ? range->part : adm_stage_name(range->stage); }

adm_status adm_store_event(adm_store *store, int64_t run_id, const adm_range *range, const char *clock, uint64_t start_ns,
                           uint64_t end_ns, adm_error *err) {
    static const char *const kinds[] = {
        [ADM_RANGE_SESSION] = "session", [ADM_RANGE_STEP] = "step", [ADM_RANGE_LAYER] = "layer", [ADM_RANGE_STAGE] = "stage"};
    const char *kind = kinds[range->kind], *variant = range->variant != NULL ? range->variant : "";
    bool is_stage = range->kind == ADM_RANGE_STAGE;
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_EVENT, err);
    if (status != ADM_OK) return status;
    adm_row_int(&row, run_id);
    adm_row_int_unless(&row, range->config_id, 0);
    adm_row_text(&row, kind);
    adm_row_text(&row, is_stage ? name_of(range) : variant[0] != '\0' ? variant : kind);
    adm_row_text(&row, is_stage ? variant : "");
    adm_row_int_unless(&row, range->step, -1);
    adm_row_int_unless(&row, range->layer, -1);
    adm_row_text(&row, clock);
    adm_row_int(&row, (int64_t)start_ns);
    adm_row_int(&row, (int64_t)end_ns);
    return adm_row_finish(&row, "writing a range", err);
}

adm_status adm_store_activity(adm_store *store, int64_t run_id, const adm_range *range, const adm_activity *activity,
                              adm_error *err) {
    static const char *const kinds[] = {
        [ADM_ACTIVITY_KERNEL] = "kernel", [ADM_ACTIVITY_MEMCPY] = "memcpy", [ADM_ACTIVITY_MEMSET] = "memset"};
    bool is_kernel = activity->kind == ADM_ACTIVITY_KERNEL;
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_ACTIVITY, err);
    if (status != ADM_OK) return status;
    adm_row_int(&row, run_id);
    adm_row_int_unless(&row, range != NULL ? range->config_id : 0, 0);
    adm_row_text(&row, range != NULL && range->kind == ADM_RANGE_STAGE ? name_of(range) : NULL);
    adm_row_int_unless(&row, range != NULL ? range->step : -1, -1);
    adm_row_text(&row, kinds[activity->kind]);
    adm_row_text(&row, activity->name);
    adm_row_int(&row, activity->stream);
    adm_row_int(&row, (int64_t)activity->start_ns);
    adm_row_int(&row, (int64_t)activity->end_ns);
    if (is_kernel) {
        const uint32_t figures[] = {activity->registers,
                                    activity->static_shared_bytes,
                                    activity->dynamic_shared_bytes,
                                    activity->grid[0],
                                    activity->grid[1],
                                    activity->grid[2],
                                    activity->block[0],
                                    activity->block[1],
                                    activity->block[2]};
        adm_row_null(&row);
        for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) adm_row_int(&row, figures[i]);
    } else {
        adm_row_int(&row, (int64_t)activity->bytes); /* what is not bound stays NULL */
    }
    return adm_row_finish(&row, "writing a GPU activity", err);
}
