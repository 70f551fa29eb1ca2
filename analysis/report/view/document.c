/* document.c: reading the report's document. */
#include "analysis/report/view/document.h"

#include <math.h>
#include <string.h>

const char *adm_field_text(const json_t *row, const char *key) {
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}

int64_t adm_field_int(const json_t *row, const char *key) { return json_integer_value(json_object_get(row, key)); }

bool adm_field_number(const json_t *row, const char *key, double *value) {
    const json_t *field = json_object_get(row, key);
    if (!json_is_number(field)) return false;
    *value = json_number_value(field);
    return true;
}

const json_t *adm_document_rows(const json_t *document, const char *name) { return json_object_get(document, name); }

adm_timing_spread adm_row_spread(const json_t *row) {
    adm_timing_spread spread = {adm_field_int(row, "n"), NAN, NAN, NAN, NAN};
    adm_field_number(row, "median", &spread.median);
    adm_field_number(row, "p10", &spread.p10);
    adm_field_number(row, "p90", &spread.p90);
    adm_field_number(row, "median_ci_ratio", &spread.median_ci_ratio);
    return spread;
}

size_t adm_n_sessions(const json_t *document) { return json_array_size(json_object_get(document, "sessions")); }

/* The row of `table` whose `key` is that of the session. */
static const json_t *joined(const json_t *document, size_t session, const char *table, const char *key) {
    int64_t id = adm_field_int(json_array_get(json_object_get(document, "sessions"), session), key);
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(document, table), i, row) if (adm_field_int(row, key) == id) return row;
    return NULL;
}

const json_t *adm_session_run(const json_t *document, size_t session) { return joined(document, session, "runs", "run_id"); }

const json_t *adm_session_trace(const json_t *document, size_t session) {
    return joined(document, session, "traces", "trace_id");
}

bool adm_row_is(const json_t *row, size_t session, const char *metric) {
    return adm_field_int(row, "session") == (int64_t)session &&
           (metric == NULL || strcmp(adm_field_text(row, "metric"), metric) == 0);
}

const json_t *adm_metric_row(const json_t *document, const char *name) {
    size_t i;
    json_t *metric;
    json_array_foreach(json_object_get(document, "metrics"), i,
                       metric) if (strcmp(adm_field_text(metric, "name"), name) == 0) return metric;
    return NULL;
}

const char *adm_metric_unit(const json_t *document, const char *metric) {
    const json_t *row = adm_metric_row(document, metric);
    return row ? adm_field_text(row, "unit") : "1";
}

bool adm_document_is_empty(const json_t *document) {
    static const char *const lists[] = {"sessions", "profiles", "sketches", "decodings", "tunings", "servings", "evaluations"};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (json_array_size(adm_document_rows(document, lists[i])) > 0) return false;
    return true;
}

bool adm_run_is_shown(const json_t *document, int64_t run_id) {
    size_t i;
    json_t *run;
    json_array_foreach(adm_document_rows(document, "runs"), i, run) if (adm_field_int(run, "run_id") == run_id) return true;
    return false;
}
