/* store_write.c: the rows of a run, and finding those that runs share (traces, configurations, metrics). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "core/base/clock.h"
#include "core/store/columns.h"
#include "core/store/store.h"
#include "core/store/store_row.h"
#include "core/store/store_track.h"
#include "core/base/version.h"

const adm_statement_text adm_store_sql[ADM_N_STATEMENTS] = {
    [ADM_SQL_ADD_RUN] = {.insert_into = &adm_run_table},
    [ADM_SQL_ADD_TRACE] = {.insert_into = &adm_trace_table},
    [ADM_SQL_FIND_CONFIG] = {.find_in = &adm_config_table},
    [ADM_SQL_ADD_CONFIG] = {.insert_into = &adm_config_table},
    [ADM_SQL_ADD_MEASUREMENT] = {.insert_into = &adm_measurement_table},
    [ADM_SQL_END_RUN] = {.sql = "UPDATE run SET status = ?, reason = ?, finished_utc = ?, elapsed_ns = ? WHERE run_id = ?"},
    [ADM_SQL_RESUME_RUN] = {.sql = "UPDATE run SET status = 'running', reason = NULL, finished_utc = NULL WHERE run_id = ?"},
    [ADM_SQL_FIND_TRACE] = {.sql = "SELECT trace_id FROM trace WHERE xxh128 = ?"},
    [ADM_SQL_FIND_METRIC] = {.sql = "SELECT metric_id, unit, better FROM metric WHERE name = ?"},
    [ADM_SQL_ADD_METRIC] = {.sql = "INSERT INTO metric (name, unit, better, description) VALUES (?, ?, ?, ?)"},
    [ADM_SQL_ADD_SAMPLE] = {.sql = "INSERT INTO sample (measurement_id, i, value, throttle) VALUES (?, ?, ?, ?)"},
    [ADM_SQL_ADD_CALIBRATION] =
        {.sql =
             "INSERT INTO calibration (run_id, trace_id, variant, layer, t0, t1, t2, xxh128) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_EVENT] =
        {.sql = "INSERT INTO event (run_id, config_id, kind, name, variant, step, layer, clock, start_ns, end_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_ACTIVITY] =
        {.sql = "INSERT INTO activity (run_id, config_id, stage, step, kind, name, stream, start_ns, end_ns, bytes, registers,"
                " static_shared_bytes, dynamic_shared_bytes, grid_x, grid_y, grid_z, block_x, block_y, block_z)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_CHECK_RUN] = {.sql = "INSERT INTO check_run (run_id, check_uuid, side, position, subject)"
                                      " SELECT run_id, ?2, ?3, ?4, ?5 FROM run WHERE run_uuid = ?1"},
    [ADM_SQL_ADD_MARGIN] =
        {.sql =
             "INSERT INTO margin (config_id, source, stage, metric_id, host_name, cpu_model, gpu_name, margin_ratio, n_processes,"
             " measured_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"},
    [ADM_SQL_ADD_ACKNOWLEDGEMENT] =
        {.sql = "INSERT INTO acknowledgement (config_id, source, stage, metric_id, run_uuid, verdict, who, why, made_utc)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"},
};

/* --- Runs --------------------------------------------------------------------------------------------------------- */

adm_status adm_new_uuid(char out[37], adm_error *err) {
    uint8_t b[16];
    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return adm_fail(err, ADM_EENVIRONMENT, "no random bytes for a UUID: %s", strerror(errno));
    b[6] = (uint8_t)(0x40 | (b[6] & 0x0f));
    b[8] = (uint8_t)(0x80 | (b[8] & 0x3f));
    snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2], b[3], b[4],
             b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
    return ADM_OK;
}

adm_status adm_store_begin_run(adm_store *store, const adm_run_info *info, int64_t *run_id, adm_error *err) {
    char uuid[37], now[25];
    adm_run_info run = *info;
    adm_row row;
    adm_status status = adm_new_uuid(uuid, err);
    if (status == ADM_OK) status = adm_row_start(&row, store, ADM_SQL_ADD_RUN, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    run.run_uuid = uuid;
    run.started_utc = now;
    run.status = "running";
    if (run.label == NULL) run.label = "";
    if (run.tool_version == NULL) run.tool_version = adm_version();
    if (run.git_commit == NULL) {
        run.git_commit = adm_git_commit();
        run.git_dirty = adm_git_dirty();
    }
    adm_row_struct(&row, &adm_run_table, &run);
    status = adm_row_finish(&row, "recording a run", err);
    if (status != ADM_OK) return status;
    *run_id = store->run_id = adm_row_new_id(store);
    store->run_started_ns = adm_clock_ns();
    return adm_store_flush(store, err);
}

adm_status adm_store_end_run(adm_store *store, int64_t run_id, const char *run_status, const char *reason, adm_error *err) {
    char now[25];
    adm_row row;
    if (strcmp(run_status, "complete") != 0) adm_store_rollback(store);
    adm_status status = adm_row_start(&row, store, ADM_SQL_END_RUN, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    adm_row_text(&row, run_status);
    adm_row_text(&row, reason);
    adm_row_text(&row, now);
    if (run_id == store->run_id) adm_row_int(&row, (int64_t)(adm_clock_ns() - store->run_started_ns));
    else adm_row_null(&row);
    adm_row_int(&row, run_id);
    status = adm_row_finish(&row, "recording the end of a run", err);
    if (status != ADM_OK) return status;
    if (sqlite3_changes(store->db) != 1) {
        adm_store_rollback(store);
        return adm_fail(err, ADM_EINTERNAL, "%s: there is no run %lld to end", store->path, (long long)run_id);
    }
    return adm_store_flush(store, err);
}

/* --- What runs share ---------------------------------------------------------------------------------------------- */

static void append_json_string(sqlite3_str *json, const char *text) {
    sqlite3_str_appendchar(json, 1, '"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\') sqlite3_str_appendf(json, "\\%c", *c);
        else if (*c < 0x20) sqlite3_str_appendf(json, "\\u%04x", *c);
        else sqlite3_str_appendchar(json, 1, (char)*c);
    }
    sqlite3_str_appendchar(json, 1, '"');
}

/* The metadata as a JSON object, to be released with sqlite3_free(); NULL when out of memory. */
static char *metadata_of(const adm_trace *trace) {
    sqlite3_str *json = sqlite3_str_new(NULL);
    sqlite3_str_appendchar(json, 1, '{');
    for (size_t i = 0; i < trace->n_meta; i++) {
        if (i > 0) sqlite3_str_appendall(json, ", ");
        append_json_string(json, trace->meta[i].key);
        sqlite3_str_appendall(json, ": ");
        append_json_string(json, trace->meta[i].value);
    }
    sqlite3_str_appendchar(json, 1, '}');
    return sqlite3_str_finish(json);
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
    char *metadata = metadata_of(trace);
    if (metadata == NULL) {
        adm_store_rollback(store);
        return adm_store_sqlite_error(store, SQLITE_NOMEM, "recording a trace", err);
    }
    adm_trace_row row = {.trace = *trace, .metadata_json = metadata};
    adm_status status = adm_store_trace_row(store, &row, trace_id, err);
    sqlite3_free(metadata);
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
        const char *unit = (const char *)sqlite3_column_text(row.statement, 1);
        const char *better = (const char *)sqlite3_column_text(row.statement, 2);
        bool same = unit != NULL && better != NULL && strcmp(unit, metric->unit) == 0 && strcmp(better, metric->better) == 0;
        *metric_id = sqlite3_column_int64(row.statement, 0);
        if (!same)
            adm_fail(err, ADM_EINTERNAL, "%s has the metric '%s' in %s (better: %s), not in %s (better: %s)", store->path,
                     metric->name, unit ? unit : "?", better ? better : "?", metric->unit, metric->better);
        adm_row_release(&row);
        if (!same) adm_store_rollback(store);
        return same ? ADM_OK : ADM_EINTERNAL;
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
    adm_row_text(&row, is_stage ? adm_stage_name(range->stage) : variant[0] != '\0' ? variant : kind);
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
    adm_row_text(&row, range != NULL && range->kind == ADM_RANGE_STAGE ? adm_stage_name(range->stage) : NULL);
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
