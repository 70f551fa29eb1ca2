/* store_write.c: the rows of a run, and finding those that runs share (traces, configurations, metrics). Values are
 * bound in the order of the statement's columns. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "core/base/clock.h"
#include "core/store/store.h"
#include "core/store/store_row.h"
#include "core/store/store_track.h"
#include "core/base/version.h"

const char *const adm_store_sql[ADM_N_STATEMENTS] = {
    [ADM_SQL_ADD_RUN] =
        "INSERT INTO run (run_uuid, label, command, status, started_utc, tool_version, git_commit, git_dirty, argv, seed,"
        " host_name, os, cpu_model, n_cpus, memory_bytes, compiler, gpu_name, gpu_uuid, gpu_reason, driver_version,"
        " cuda_version, sm_clock_hz, memory_clock_hz)"
        " VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [ADM_SQL_END_RUN] = "UPDATE run SET status = ?, reason = ?, finished_utc = ?, elapsed_ns = ? WHERE run_id = ?",
    [ADM_SQL_RESUME_RUN] = "UPDATE run SET status = 'running', reason = NULL, finished_utc = NULL WHERE run_id = ?",
    [ADM_SQL_FIND_TRACE] = "SELECT trace_id FROM trace WHERE xxh128 = ?",
    [ADM_SQL_ADD_TRACE] =
        "INSERT INTO trace (xxh128, name, kind, model, file_bytes, n_tokens, n_steps, n_layers, n_q_heads, n_kv_heads,"
        " head_dim, softmax_scale, metadata) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    /* The expressions of the index config_identity, so that it is used. */
    [ADM_SQL_FIND_CONFIG] =
        "SELECT config_id FROM config WHERE ifnull(trace_id, 0) = ifnull(?, 0) AND policy = ? AND variant = ?"
        " AND n_q_heads = ? AND n_kv_heads = ? AND head_dim = ? AND dtype = ? AND seq_len = ?"
        " AND ifnull(budget, 0) = ifnull(?, 0) AND batch = ? AND ifnull(n_sinks, -1) = ifnull(?, -1)"
        " AND ifnull(n_recent, -1) = ifnull(?, -1) AND ifnull(selection, '') = ifnull(?, '')"
        " AND ifnull(cache, '') = ifnull(?, '') AND launch = ? AND ifnull(page_size, 0) = ifnull(?, 0)"
        " AND ifnull(batch_lens, '') = ifnull(?, '')",
    [ADM_SQL_ADD_CONFIG] =
        "INSERT INTO config (trace_id, policy, variant, n_q_heads, n_kv_heads, head_dim, dtype, seq_len, budget, batch,"
        " n_sinks, n_recent, selection, cache, launch, page_size, batch_lens)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [ADM_SQL_FIND_METRIC] = "SELECT metric_id, unit, better FROM metric WHERE name = ?",
    [ADM_SQL_ADD_METRIC] = "INSERT INTO metric (name, unit, better, description) VALUES (?, ?, ?, ?)",
    [ADM_SQL_ADD_MEASUREMENT] =
        "INSERT INTO measurement (run_id, config_id, source, stage, layer, head, metric_id, status, reason, n, mean, min,"
        " p01, p05, p10, median, p90, p95, p99, max) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [ADM_SQL_ADD_SAMPLE] = "INSERT INTO sample (measurement_id, i, value, throttle) VALUES (?, ?, ?, ?)",
    [ADM_SQL_ADD_CALIBRATION] =
        "INSERT INTO calibration (run_id, trace_id, variant, layer, t0, t1, t2, xxh128) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    [ADM_SQL_ADD_EVENT] = "INSERT INTO event (run_id, config_id, kind, name, variant, step, layer, clock, start_ns, end_ns)"
                          " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [ADM_SQL_ADD_ACTIVITY] =
        "INSERT INTO activity (run_id, config_id, stage, step, kind, name, stream, start_ns, end_ns, bytes, registers,"
        " static_shared_bytes, dynamic_shared_bytes, grid_x, grid_y, grid_z, block_x, block_y, block_z)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [ADM_SQL_ADD_CHECK_RUN] = "INSERT INTO check_run (run_id, check_uuid, side, position, subject)"
                              " SELECT run_id, ?2, ?3, ?4, ?5 FROM run WHERE run_uuid = ?1",
    [ADM_SQL_ADD_MARGIN] =
        "INSERT INTO margin (config_id, source, stage, metric_id, host_name, cpu_model, gpu_name, margin_ratio, n_processes,"
        " measured_utc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [ADM_SQL_ADD_ACKNOWLEDGEMENT] =
        "INSERT INTO acknowledgement (config_id, source, stage, metric_id, run_uuid, verdict, who, why, made_utc)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
    adm_row row;
    adm_status status = adm_new_uuid(uuid, err);
    if (status == ADM_OK) status = adm_row_start(&row, store, ADM_SQL_ADD_RUN, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    adm_row_text(&row, uuid);
    adm_row_text(&row, info->label != NULL ? info->label : "");
    adm_row_text(&row, info->command);
    adm_row_text(&row, now);
    adm_row_text(&row, adm_version());
    adm_row_text(&row, adm_git_commit());
    adm_row_int_unless(&row, adm_git_dirty(), -1);
    adm_row_text(&row, info->argv_json);
    adm_row_int(&row, info->seed);
    adm_row_text(&row, info->host_name);
    adm_row_text(&row, info->os);
    adm_row_text(&row, info->cpu_model);
    adm_row_int(&row, info->n_cpus);
    adm_row_int(&row, info->memory_bytes);
    adm_row_text(&row, info->compiler);
    adm_row_text(&row, info->gpu_name);
    adm_row_text(&row, info->gpu_uuid);
    adm_row_text(&row, info->gpu_reason);
    adm_row_text(&row, info->driver_version);
    adm_row_text(&row, info->cuda_version);
    adm_row_int_unless(&row, info->sm_clock_hz, 0);
    adm_row_int_unless(&row, info->memory_clock_hz, 0);
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

static void put_metadata(adm_row *row, const adm_trace *trace) {
    sqlite3_str *json = sqlite3_str_new(row->store->db);
    sqlite3_str_appendchar(json, 1, '{');
    for (size_t i = 0; i < trace->n_meta; i++) {
        if (i > 0) sqlite3_str_appendall(json, ", ");
        append_json_string(json, trace->meta[i].key);
        sqlite3_str_appendall(json, ": ");
        append_json_string(json, trace->meta[i].value);
    }
    sqlite3_str_appendchar(json, 1, '}');
    int rc = sqlite3_str_errcode(json);
    char *text = sqlite3_str_finish(json);
    if (row->rc == SQLITE_OK) row->rc = rc;
    adm_row_text(row, text);
    sqlite3_free(text);
}

adm_status adm_store_trace(adm_store *store, const adm_trace *trace, int64_t *trace_id, adm_error *err) {
    const char *doing = "recording a trace";
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_FIND_TRACE, err);
    if (status != ADM_OK) return status;
    adm_row_text(&row, trace->xxh128);
    status = adm_row_find(&row, trace_id, doing, err);
    if (status != ADM_OK || *trace_id != 0) return status;
    status = adm_row_start(&row, store, ADM_SQL_ADD_TRACE, err);
    if (status != ADM_OK) return status;
    adm_row_text(&row, trace->xxh128);
    adm_row_text(&row, trace->name);
    adm_row_text(&row, trace->kind);
    adm_row_text(&row, trace->model);
    adm_row_int(&row, (int64_t)trace->file_bytes);
    adm_row_int(&row, (int64_t)trace->n_tokens);
    adm_row_int(&row, (int64_t)trace->n_steps);
    adm_row_int(&row, (int64_t)trace->n_layers);
    adm_row_int(&row, trace->shape.n_q_heads);
    adm_row_int(&row, trace->shape.n_kv_heads);
    adm_row_int(&row, trace->shape.head_dim);
    adm_row_real(&row, trace->softmax_scale);
    put_metadata(&row, trace);
    status = adm_row_finish(&row, doing, err);
    if (status == ADM_OK) *trace_id = adm_row_new_id(store);
    return status;
}

static void put_config(adm_row *row, const adm_config *config) {
    adm_row_int_unless(row, config->trace_id, 0);
    adm_row_text(row, config->policy);
    adm_row_text(row, config->variant);
    adm_row_int(row, config->shape.n_q_heads);
    adm_row_int(row, config->shape.n_kv_heads);
    adm_row_int(row, config->shape.head_dim);
    adm_row_text(row, adm_dtype_name(config->dtype));
    adm_row_int(row, config->seq_len);
    adm_row_int_unless(row, config->budget, 0);
    adm_row_int(row, config->batch);
    adm_row_int_unless(row, config->n_sinks, -1);
    adm_row_int_unless(row, config->n_recent, -1);
    adm_row_text(row, config->selection);
    adm_row_text(row, config->cache);
    adm_row_text(row, config->launch);
    adm_row_int_unless(row, config->page_size, 0);
    adm_row_text(row, config->batch_lens);
}

adm_status adm_store_config(adm_store *store, const adm_config *config, int64_t *config_id, adm_error *err) {
    const char *doing = "recording a configuration";
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_FIND_CONFIG, err);
    if (status != ADM_OK) return status;
    put_config(&row, config);
    status = adm_row_find(&row, config_id, doing, err);
    if (status != ADM_OK || *config_id != 0) return status;
    status = adm_row_start(&row, store, ADM_SQL_ADD_CONFIG, err);
    if (status != ADM_OK) return status;
    put_config(&row, config);
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

static void put_distribution(adm_row *row, const adm_distribution *d) {
    adm_row_int(row, d != NULL ? (int64_t)d->n : 0);
    if (d == NULL) return;
    adm_row_real(row, d->mean);
    adm_row_real(row, d->min);
    adm_row_real(row, d->p01);
    adm_row_real(row, d->p05);
    adm_row_real(row, d->p10);
    adm_row_real(row, d->median);
    adm_row_real(row, d->p90);
    adm_row_real(row, d->p95);
    adm_row_real(row, d->p99);
    adm_row_real(row, d->max);
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

adm_status adm_store_measurement(adm_store *store, const adm_measurement *m, adm_error *err) {
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
    adm_row_int(&row, m->run_id);
    adm_row_int(&row, m->config_id);
    adm_row_text(&row, m->source);
    adm_row_text(&row, m->stage);
    adm_row_int_unless(&row, m->layer, -1);
    adm_row_int_unless(&row, m->head, -1);
    adm_row_int(&row, metric_id);
    adm_row_text(&row, m->status);
    adm_row_text(&row, m->reason);
    put_distribution(&row, m->distribution);
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
