/* recorded_export.c: runs of a database as a text file. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/db/recorded_export.h"
#include "analysis/db/recorded_samples.h"
#include "analysis/db/recorded_table.h"
#include "analysis/output/rows.h"
#include "core/base/json_read.h"
#include "core/base/json_text.h"
#include "core/base/mem.h"

/* Real numbers are exact, but for measured figures. */
enum {
    EXACT = JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII,
    MEASURED = EXACT | JSON_REAL_PRECISION(ADM_RECORDED_DIGITS)
};

typedef struct writer {
    adm_store *store;
    FILE *out;
    const char *label; /* NULL: each run's own */
    bool with_samples;
    adm_recorded_table run, trace, metric, config, calibration, event, activity;
} writer;

/* --- Parts of the document ------------------------------------------------------------------------------------------- */

/* Writes a value and releases it. */
static adm_status put_as(const writer *w, json_t *value, size_t flags, adm_error *err) {
    if (value == NULL) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while exporting runs");
    int failed = json_dumpf(value, w->out, flags);
    json_decref(value);
    return failed ? adm_fail(err, ADM_EENVIRONMENT, "the runs could not be written: %s", strerror(errno)) : ADM_OK;
}

static adm_status put(const writer *w, json_t *value, adm_error *err) { return put_as(w, value, EXACT, err); }

/* "," between the rows of a list, and each row on a line of its own. */
static void put_comma(const writer *w, bool *first) {
    fputs(*first ? "\n" : ",\n", w->out);
    *first = false;
}

/* The present row, its first column taken as the table's first, as an array; `before` (taken) goes first. Nulls at its end
 * are left out. */
static json_t *row_of(const adm_query *query, const adm_recorded_table *table, json_t *before) {
    json_t *row = json_array();
    bool ok = json_array_append_new(row, before) == 0;
    for (size_t i = 0; i < table->n_columns; i++)
        ok &= json_array_append_new(row, adm_recorded_json(query, (int)i, table->column[i].type)) == 0;
    size_t n = json_array_size(row);
    while (n > 1 && json_is_null(json_array_get(row, n - 1))) json_array_remove(row, --n);
    if (ok) return row;
    json_decref(row);
    return NULL;
}

static json_t *object_of(const adm_query *query, const adm_recorded_table *table) {
    json_t *object = json_object();
    bool ok = true;
    for (size_t i = 0; i < table->n_columns; i++)
        ok &= json_object_set_new(object, table->column[i].name, adm_recorded_json(query, (int)i, table->column[i].type)) == 0;
    if (ok) return object;
    json_decref(object);
    return NULL;
}

/* Opens "SELECT columns of the table, of the row r, and `rest`" for one run. */
static adm_status open_rows(const writer *w, const adm_recorded_table *table, const char *rest, int64_t run_id,
                            adm_query **query, adm_error *err) {
    char sql[2048], *columns = adm_recorded_column_list(table, "r.");
    int n = columns != NULL ? snprintf(sql, sizeof sql, "SELECT %s%s", columns, rest) : -1;
    adm_free(&columns);
    if (n < 0) return adm_fail(err, ADM_EENVIRONMENT, "out of memory while exporting runs");
    if ((size_t)n >= sizeof sql) return adm_fail(err, ADM_EINTERNAL, "table %s has too many columns", table->name);
    return adm_query_open(w->store, sql, query, err, "i", run_id);
}

/* "config_columns": ["trace", "policy", ...] */
static adm_status put_columns(const writer *w, const adm_recorded_table *table, const char *before, adm_error *err) {
    json_t *names = json_array();
    bool ok = before == NULL || json_array_append_new(names, json_string(before)) == 0;
    for (size_t i = 0; i < table->n_columns; i++) ok &= json_array_append_new(names, json_string(table->column[i].name)) == 0;
    fprintf(w->out, ",\n\"%s_columns\": ", table->name);
    if (ok) return put(w, names, err);
    json_decref(names);
    return put(w, NULL, err);
}

/* --- What runs share ------------------------------------------------------------------------------------------------ */

/* The table's rows that any of the runs uses, each once, as objects on a line each. `of_run` selects the ids of a run. */
static adm_status put_shared(const writer *w, const adm_recorded_table *table, const char *of_run, const uint32_t *run_ids,
                             size_t n_run_ids, adm_error *err) {
    char rest[512];
    json_t *seen = json_object();
    bool first = true;
    adm_status status = ADM_OK;
    snprintf(rest, sizeof rest, ", r.%s_id FROM %s r WHERE r.%s_id IN (%s) ORDER BY r.%s_id", table->name, table->name,
             table->name, of_run, table->name);
    fprintf(w->out, ",\n\"%ss\": [", table->name);
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) {
        adm_query *query = NULL;
        bool row = false;
        status = open_rows(w, table, rest, run_ids[i], &query, err);
        while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
            char id[24];
            snprintf(id, sizeof id, "%" PRId64, adm_query_int(query, (int)table->n_columns));
            if (json_object_get(seen, id) != NULL) continue;
            status = adm_rows_set(seen, id, json_true(), err);
            if (status != ADM_OK) break;
            put_comma(w, &first);
            status = put(w, object_of(query, table), err);
        }
        adm_query_close(&query);
    }
    json_decref(seen);
    fputs(first ? "]" : "\n]", w->out);
    return status;
}

/* --- One run -------------------------------------------------------------------------------------------------------- */

/* What the run is called: the label asked for, its own, its GPU or its CPU; "recorded:" before it, once. */
static json_t *label_of(const writer *w, const json_t *run) {
    static const char prefix[] = "recorded:", *const keys[] = {"label", "gpu_name", "cpu_model"};
    const char *name = w->label;
    for (size_t i = 0; i < 3 && (name == NULL || name[0] == '\0'); i++) name = json_string_value(json_object_get(run, keys[i]));
    bool has_prefix = strncmp(name != NULL ? name : "", prefix, sizeof prefix - 1) == 0;
    return json_sprintf("%s%s", has_prefix ? "" : prefix, name != NULL ? name : "");
}

/* The command line without the folders of the machine: of "/folder/x.db" and "--db=/folder/x.db" what follows the last
 * slash. What is no list of texts stays as it is. */
static json_t *shown_argv(const json_t *argv) {
    const char *words = json_string_value(argv) != NULL ? json_string_value(argv) : "";
    adm_json_fault why;
    json_t *list = adm_json_read(words, strlen(words), &why), *word;
    if (list == NULL) return why.no_memory ? NULL : json_copy((json_t *)argv);
    int failed = 0;
    size_t i;
    json_array_foreach(list, i, word) {
        const char *text = json_string_value(word), *equals = text != NULL ? strchr(text, '=') : NULL;
        const char *path = equals != NULL ? equals + 1 : text, *slash = path != NULL ? strrchr(path, '/') : NULL;
        if (slash != NULL && path[0] == '/')
            failed |= json_array_set_new(list, i, json_sprintf("%.*s%s", (int)(path - text), text, slash + 1));
    }
    char *text = NULL;
    adm_error ignored; /* the caller's says that memory ran out */
    if (!failed) adm_json_text(list, JSON_COMPACT, "a run's arguments", &text, &ignored);
    json_t *shown = text != NULL ? json_string(text) : NULL;
    adm_free(&text);
    json_decref(list);
    return shown;
}

static adm_status put_run_row(const writer *w, int64_t run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, first = true;
    json_t *run = NULL;
    adm_status status = open_rows(w, &w->run, " FROM run r WHERE r.run_id = ?", run_id, &query, err);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) {
        run = object_of(query, &w->run);
        if (run == NULL || json_object_set_new(run, "label", label_of(w, run)) != 0 ||
            json_object_set_new(run, "argv", shown_argv(json_object_get(run, "argv"))) != 0)
            status = adm_fail(err, ADM_EENVIRONMENT, "out of memory while exporting runs");
    }
    adm_query_close(&query);
    const char *key;
    json_t *value;
    fputs("{\"run\": {", w->out);
    json_object_foreach(run, key, value) {
        put_comma(w, &first);
        fprintf(w->out, "\"%s\": ", key);
        if (status == ADM_OK) status = put(w, json_incref(value), err);
    }
    fputs("},", w->out);
    json_decref(run);
    return status;
}

enum { SOURCE, STAGE, LAYER, HEAD, METRIC, STATUS, REASON, N, FIGURES };

/* A measurement in the shortest form that keeps it: a value, [n, value], [n, ten figures] or [status, reason]. */
static json_t *measurement_of(const adm_query *query) {
    bool is_ok = strcmp(adm_query_text(query, STATUS), "ok") == 0, is_same = true;
    for (int i = 1; i < ADM_RECORDED_N_FIGURES; i++)
        is_same &= adm_recorded_rounded(adm_query_double(query, FIGURES + i)) ==
                   adm_recorded_rounded(adm_query_double(query, FIGURES));
    if (is_ok && is_same && adm_query_int(query, N) == 1) return adm_recorded_figure(adm_query_double(query, FIGURES));
    json_t *row = json_array();
    bool ok = json_array_append_new(row, adm_recorded_json(query, is_ok ? N : STATUS, is_ok ? 'i' : 's')) == 0;
    if (!is_ok) ok &= json_array_append_new(row, adm_recorded_json(query, REASON, 's')) == 0;
    for (int i = 0; is_ok && i < (is_same ? 1 : ADM_RECORDED_N_FIGURES); i++)
        ok &= json_array_append_new(row, adm_recorded_figure(adm_query_double(query, FIGURES + i))) == 0;
    if (ok) return row;
    json_decref(row);
    return NULL;
}

/* What a line of measurements has in common, as the beginning of the line: ["gpu","topk", or ["host",null,14,5, */
static json_t *line_of(const adm_query *query) {
    static const char types[] = "ssii";
    bool has_place = !adm_query_is_null(query, LAYER) || !adm_query_is_null(query, HEAD), ok = true;
    json_t *line = json_array();
    for (int i = SOURCE; i <= (has_place ? HEAD : STAGE); i++)
        ok &= json_array_append_new(line, adm_recorded_json(query, i, types[i])) == 0;
    if (ok) return line;
    json_decref(line);
    return NULL;
}

static adm_status put_line_start(const writer *w, const json_t *line, bool *first_line, adm_error *err) {
    adm_status status = ADM_OK;
    put_comma(w, first_line);
    fputs("[", w->out);
    for (size_t i = 0; i < json_array_size(line) && status == ADM_OK; i++) {
        status = put(w, json_incref(json_array_get(line, i)), err);
        fputs(",", w->out);
    }
    fputs("{", w->out);
    return status;
}

/* One line for each source, stage, layer and head, in the order of their first rows. */
static const char measurements_sql[] =
    "SELECT m.source, m.stage, m.layer, m.head, k.name, m.status, m.reason, m.n, m.mean, m.min, m.p01, m.p05, m.p10, m.median, "
    "m.p90, m.p95, m.p99, m.max FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ? AND m.config_id = ? "
    "ORDER BY min(m.measurement_id) OVER (PARTITION BY m.source, m.stage, m.layer, m.head), m.measurement_id";

static adm_status put_measurements(const writer *w, int64_t run_id, int64_t config_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, first_line = true, first = true;
    json_t *line = NULL;
    adm_status status = adm_query_open(w->store, measurements_sql, &query, err, "ii", run_id, config_id);
    fputs(", \"measurements\": [", w->out);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        json_t *here = line_of(query);
        if (here == NULL) {
            status = put(w, NULL, err);
        } else if (line == NULL || !json_equal(here, line)) {
            if (line != NULL) fputs("}]", w->out);
            json_decref(line);
            line = json_incref(here);
            status = put_line_start(w, line, &first_line, err);
            first = true;
        }
        json_decref(here);
        if (!first) fputs(",", w->out);
        first = false;
        if (status == ADM_OK) status = put(w, adm_recorded_json(query, METRIC, 's'), err);
        fputs(":", w->out);
        if (status == ADM_OK) status = put_as(w, measurement_of(query), MEASURED, err);
    }
    adm_query_close(&query);
    fputs(line != NULL ? "}]]}" : "]}", w->out);
    json_decref(line);
    return status;
}

/* Every configuration that the run measured, or has a timeline of, by its first row. Its position goes into `position` under
 * its id. */
static adm_status put_configs(const writer *w, int64_t run_id, json_t *position, adm_error *err) {
    static const char rest[] =
        ", t.xxh128, r.config_id FROM (SELECT config_id, min(at) AS at FROM "
        "(SELECT config_id, measurement_id AS at FROM measurement WHERE run_id = ?1 UNION ALL "
        " SELECT config_id, 0x1000000000000 + event_id FROM event WHERE run_id = ?1 UNION ALL "
        " SELECT config_id, 0x2000000000000 + activity_id FROM activity WHERE run_id = ?1) GROUP BY config_id) f "
        "JOIN config r USING (config_id) LEFT JOIN trace t ON t.trace_id = r.trace_id ORDER BY f.at";
    adm_query *query = NULL;
    bool row = false, first = true;
    adm_status status = open_rows(w, &w->config, rest, run_id, &query, err);
    fputs("\n\"configs\": [", w->out);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        char id[24];
        int n = (int)w->config.n_columns;
        snprintf(id, sizeof id, "%" PRId64, adm_query_int(query, n + 1));
        status = adm_rows_set(position, id, json_integer((json_int_t)json_object_size(position)), err);
        put_comma(w, &first);
        fputs("{\"config\": ", w->out);
        if (status == ADM_OK) status = put(w, row_of(query, &w->config, adm_recorded_json(query, n, 's')), err);
        if (status == ADM_OK) status = put_measurements(w, run_id, adm_query_int(query, n + 1), err);
    }
    adm_query_close(&query);
    fputs("]", w->out);
    return status;
}

static adm_status put_calibrations(const writer *w, int64_t run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, first = true;
    adm_status status = open_rows(w, &w->calibration,
                                  ", t.xxh128 FROM calibration r JOIN trace t USING (trace_id) "
                                  "WHERE r.run_id = ? ORDER BY r.trace_id, r.variant, r.layer",
                                  run_id, &query, err);
    /* calibration.xxh128 is the thresholds' hash; t.xxh128 the trace's. */
    fputs("\n\"calibrations\": [", w->out);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        put_comma(w, &first);
        status = put(w, row_of(query, &w->calibration, adm_recorded_json(query, (int)w->calibration.n_columns, 's')), err);
    }
    adm_query_close(&query);
    fputs("],", w->out);
    return status;
}

/* Moves the column of this name by -origin. */
static void shift(const adm_recorded_table *table, json_t *row, const char *column, int64_t origin) {
    for (size_t i = 0; row != NULL && i < table->n_columns; i++)
        if (strcmp(table->column[i].name, column) == 0) {
            json_t *value = json_array_get(row, i + 1);
            if (json_is_integer(value)) json_integer_set(value, json_integer_value(value) - origin);
        }
}

/* The rows of event or activity, whose times count from the first of both. */
static adm_status put_timeline(const writer *w, const adm_recorded_table *table, const char *list, int64_t run_id,
                               const json_t *position, adm_error *err) {
    char rest[400];
    adm_query *query = NULL;
    bool row = false, first = true;
    int n = (int)table->n_columns;
    snprintf(rest, sizeof rest,
             ", r.config_id, (SELECT min(start_ns) FROM (SELECT start_ns FROM event WHERE run_id = ?1 "
             "UNION ALL SELECT start_ns FROM activity WHERE run_id = ?1)) "
             "FROM %s r WHERE r.run_id = ?1 ORDER BY r.%s_id",
             table->name, table->name);
    adm_status status = open_rows(w, table, rest, run_id, &query, err);
    fprintf(w->out, ",\n\"%s\": [", list);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        char id[24];
        snprintf(id, sizeof id, "%" PRId64, adm_query_int(query, n));
        json_t *config = json_object_get(position, id);
        json_t *event = row_of(query, table, config != NULL ? json_incref(config) : json_null());
        shift(table, event, "start_ns", adm_query_int(query, n + 1));
        shift(table, event, "end_ns", adm_query_int(query, n + 1));
        put_comma(w, &first);
        status = put(w, event, err);
    }
    adm_query_close(&query);
    fputs("]", w->out);
    return status;
}

static adm_status put_run(const writer *w, int64_t run_id, adm_error *err) {
    json_t *position = json_object();
    adm_status status = put_run_row(w, run_id, err);
    if (status == ADM_OK) status = put_calibrations(w, run_id, err);
    if (status == ADM_OK) status = put_configs(w, run_id, position, err);
    if (status == ADM_OK) status = put_timeline(w, &w->event, "events", run_id, position, err);
    if (status == ADM_OK) status = put_timeline(w, &w->activity, "activities", run_id, position, err);
    if (status == ADM_OK && w->with_samples) status = adm_recorded_put_samples(w->store, run_id, position, w->out, err);
    fputs("}", w->out);
    json_decref(position);
    return status;
}

/* --- The whole ------------------------------------------------------------------------------------------------------ */

static adm_status check_run(adm_store *store, uint32_t run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, "SELECT status FROM run WHERE run_id = ?", &query, err, "i", (int64_t)run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && !row) status = adm_fail(err, ADM_EINPUT, "the database holds no run %u", run_id);
    else if (status == ADM_OK && strcmp(adm_query_text(query, 0), "complete") != 0)
        status = adm_fail(err, ADM_EINPUT, "run %u is %s: only complete runs are worth keeping", run_id,
                          adm_query_text(query, 0));
    adm_query_close(&query);
    return status;
}

adm_status adm_recorded_export(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, const char *label,
                               bool with_samples, FILE *out, adm_error *err) {
    writer w = {.store = store, .out = out, .label = label, .with_samples = with_samples};
    const struct {
        const char *name;
        adm_recorded_table *table;
    } tables[] = {{"run", &w.run},
                  {"trace", &w.trace},
                  {"metric", &w.metric},
                  {"config", &w.config},
                  {"calibration", &w.calibration},
                  {"event", &w.event},
                  {"activity", &w.activity}};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) status = check_run(store, run_ids[i], err);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0] && status == ADM_OK; i++)
        status = adm_recorded_table_read(store, tables[i].name, tables[i].table, err);
    if (status != ADM_OK) return status;
    fputs("{\"format\": \"" ADM_RECORDED_FORMAT "\"", out);
    status = put_columns(&w, &w.config, "trace", err);
    if (status == ADM_OK) status = put_columns(&w, &w.calibration, "trace", err);
    if (status == ADM_OK) status = put_columns(&w, &w.event, "config", err);
    if (status == ADM_OK) status = put_columns(&w, &w.activity, "config", err);
    if (status == ADM_OK)
        status = put_shared(&w, &w.trace,
                            "SELECT c.trace_id FROM config c WHERE c.config_id IN "
                            "(SELECT m.config_id FROM measurement m WHERE m.run_id = ?1 UNION "
                            " SELECT e.config_id FROM event e WHERE e.run_id = ?1 UNION "
                            " SELECT a.config_id FROM activity a WHERE a.run_id = ?1) UNION "
                            "SELECT b.trace_id FROM calibration b WHERE b.run_id = ?1",
                            run_ids, n_run_ids, err);
    if (status == ADM_OK)
        status = put_shared(&w, &w.metric, "SELECT m.metric_id FROM measurement m WHERE m.run_id = ?1", run_ids, n_run_ids,
                            err);
    fputs(",\n\"runs\": [", out);
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) {
        fputs(i > 0 ? ",\n" : "\n", out);
        status = put_run(&w, run_ids[i], err);
    }
    if (status == ADM_OK) fputs("\n]}\n", out);
    return status;
}
