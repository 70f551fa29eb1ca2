/* recorded_samples.c: the raw samples of a recorded run's GPU times. */
#include "analysis/db/recorded_samples.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "core/store/insert.h"

/* --- Writing ---------------------------------------------------------------------------------------------------------- */

static const char samples_sql[] =
    "SELECT m.measurement_id, m.config_id, m.stage, s.value, s.throttle FROM measurement m JOIN metric k USING (metric_id) "
    "JOIN sample s USING (measurement_id) WHERE m.run_id = ? AND m.source = 'gpu' AND m.stage IS NOT NULL AND m.layer IS NULL "
    "AND m.head IS NULL AND k.name = 'time_ns' AND m.status = 'ok' ORDER BY m.measurement_id, s.i";

/* Writes what is gathered, and empties it. */
static adm_status put_line(json_t **line, bool is_watched, bool *first, FILE *out, adm_error *err) {
    adm_status status = ADM_OK;
    if (*line == NULL) return status;
    if (!is_watched) json_array_remove(*line, 3);
    fputs(*first ? "\n" : ",\n", out);
    *first = false;
    if (json_dumpf(*line, out, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(ADM_RECORDED_DIGITS)) != 0)
        status = adm_fail(err, ADM_EENVIRONMENT, "the samples could not be written: %s", strerror(errno));
    json_decref(*line);
    *line = NULL;
    return status;
}

adm_status adm_recorded_put_samples(adm_store *store, int64_t run_id, const json_t *position, FILE *out, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, first = true, is_watched = false;
    int64_t measurement_id = 0;
    json_t *line = NULL;
    adm_status status = adm_query_open(store, samples_sql, &query, err, "i", run_id);
    fputs(",\n\"samples\": [", out);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (line == NULL || adm_query_int(query, 0) != measurement_id) {
            char id[24];
            status = put_line(&line, is_watched, &first, out, err);
            snprintf(id, sizeof id, "%" PRId64, adm_query_int(query, 1));
            line = json_pack("[O, o, [], []]", json_object_get(position, id), adm_rows_string(adm_query_text(query, 2)));
            measurement_id = adm_query_int(query, 0);
            is_watched = false;
        }
        is_watched |= !adm_query_is_null(query, 4);
        if (status == ADM_OK)
            status = adm_rows_append(json_array_get(line, 2), adm_recorded_figure(adm_query_double(query, 3)), err);
        if (status == ADM_OK) status = adm_rows_append(json_array_get(line, 3), adm_recorded_json(query, 4, 'i'), err);
    }
    if (status == ADM_OK) status = put_line(&line, is_watched, &first, out, err);
    json_decref(line);
    adm_query_close(&query);
    fputs("]", out);
    return status;
}

/* --- Reading ---------------------------------------------------------------------------------------------------------- */

/* The time that a line is of, and how many samples it has. */
static adm_status find_time(adm_store *store, const adm_recorded_file *file, const json_t *line, int64_t run_id,
                            const int64_t *config_ids, size_t n_configs, int64_t *measurement_id, int64_t *n, adm_error *err) {
    const json_t *config = json_array_get(line, 0), *stage = json_array_get(line, 1);
    adm_query *query = NULL;
    bool row = false;
    if (!json_is_integer(config) || json_integer_value(config) < 0 || (size_t)json_integer_value(config) >= n_configs ||
        !json_is_string(stage))
        return adm_recorded_refuse(file, err, "it must be the position of a configuration, a stage and its samples");
    adm_status status =
        adm_query_open(store,
                       "SELECT m.measurement_id, m.n FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ? "
                       "AND m.config_id = ? AND m.stage = ? AND m.source = 'gpu' AND m.layer IS NULL AND m.head IS NULL "
                       "AND k.name = 'time_ns' AND m.status = 'ok'",
                       &query, err, "iis", run_id, config_ids[json_integer_value(config)], json_string_value(stage));
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) {
        *measurement_id = adm_query_int(query, 0);
        *n = adm_query_int(query, 1);
    }
    adm_query_close(&query);
    if (status == ADM_OK && !row)
        return adm_recorded_refuse(file, err, "the run has no time_ns of '%.40s' there", json_string_value(stage));
    return status;
}

static adm_status insert_line(adm_insert *insert, const adm_recorded_file *file, const json_t *line, int64_t measurement_id,
                              int64_t n, adm_error *err) {
    static const adm_recorded_column value = {"a sample", 'd', true}, mark = {"throttle", 'i', false};
    const json_t *values = json_array_get(line, 2), *marks = json_array_get(line, 3);
    if (!json_is_array(values) || (int64_t)json_array_size(values) != n || (marks != NULL && !json_is_array(marks)))
        return adm_recorded_refuse(file, err, "it has %zu samples, and n of its time is %" PRId64, json_array_size(values), n);
    adm_status status = ADM_OK;
    for (size_t i = 0; i < (size_t)n && status == ADM_OK; i++) {
        adm_value row[4] = {{.type = 'i', .i = measurement_id}, {.type = 'i', .i = (int64_t)i}};
        status = adm_recorded_field(file, json_array_get(values, i), &value, &row[2], err);
        if (status == ADM_OK) status = adm_recorded_field(file, json_array_get(marks, i), &mark, &row[3], err);
        if (status == ADM_OK) status = adm_insert_row(insert, row, NULL, err);
        if (status == ADM_EINPUT && i == 0 && json_is_number(json_array_get(values, 0)))
            return adm_recorded_refuse(file, err, "its time has samples already");
    }
    return status;
}

adm_status adm_recorded_read_samples(adm_store *store, adm_recorded_file *file, const json_t *samples, size_t run,
                                     int64_t run_id, const int64_t *config_ids, size_t n_configs, adm_error *err) {
    static const char *const columns[] = {"measurement_id", "i", "value", "throttle"};
    adm_insert *insert = NULL;
    size_t i;
    json_t *line;
    if (samples == NULL) return ADM_OK;
    snprintf(file->position, sizeof file->position, "runs[%zu].samples", run);
    if (!json_is_array(samples)) return adm_recorded_refuse(file, err, "it must be a list");
    adm_status status = adm_insert_open_foreign(store, "sample", columns, 4, &insert, err);
    json_array_foreach((json_t *)samples, i, line) {
        int64_t measurement_id = 0, n = 0;
        if (status != ADM_OK) break;
        snprintf(file->position, sizeof file->position, "runs[%zu].samples[%zu]", run, i);
        status = find_time(store, file, line, run_id, config_ids, n_configs, &measurement_id, &n, err);
        if (status == ADM_OK) status = insert_line(insert, file, line, measurement_id, n, err);
    }
    adm_insert_close(&insert);
    return status;
}
