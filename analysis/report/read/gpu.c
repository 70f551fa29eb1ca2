/* gpu.c: what GPU runs measured, for a report's document: one row per unit, which is a stage's implementation in one
 * configuration, with its time and its byte and flop model. */
#include "analysis/report/read/gpu.h"
#include "analysis/report/read/ceilings.h"
#include "analysis/report/read/gpu_select.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "analysis/report/read/sql.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* --- Configurations and settings ------------------------------------------------------------------------------------ */

static const adm_rows_column config_columns[] = {
    {"policy", 's'},  {"variant", 's'}, {"n_q_heads", 'i'}, {"n_kv_heads", 'i'}, {"head_dim", 'i'}, {"dtype", 's'},
    {"seq_len", 'i'}, {"budget", 'i'},  {"batch", 'i'},     {"n_sinks", 'i'},    {"n_recent", 'i'}, {"selection", 's'},
    {"cache", 's'},   {"launch", 's'},  {"page_size", 'i'}, {"batch_lens", 's'}, {"inputs", 's'},   {"config_id", 'i'},
};

static const char config_sql[] =
    "SELECT c.policy, c.variant, c.n_q_heads, c.n_kv_heads, c.head_dim, c.dtype, c.seq_len, c.budget, c.batch, c.n_sinks, "
    "c.n_recent, c.selection, c.cache, c.launch, c.page_size, c.batch_lens, ifnull(t.kind || ' ' || t.name, 'random'), "
    "c.config_id FROM config c LEFT JOIN trace t USING (trace_id) "
    "WHERE c.config_id IN (SELECT m.config_id FROM measurement m WHERE m.run_id = ?1 UNION "
    "                      SELECT a.config_id FROM activity a WHERE a.run_id = ?1) ORDER BY c.config_id";

/* What the reader chooses a setting by: all that tells configurations apart but length, budget and implementation.
 * Selection, sinks and recent tokens are null where a stage does not depend on them. */
static const char *const setting_keys[] = {"n_q_heads", "n_kv_heads", "head_dim", "dtype",     "batch",   "cache",   "launch",
                                           "page_size", "batch_lens", "inputs",   "selection", "n_sinks", "n_recent"};
enum { N_FIRM = 10 }; /* the first so many must be equal; the others only where both sides have them */

static bool fits(const json_t *setting, const json_t *config) {
    for (size_t k = 0; k < COUNT(setting_keys); k++) {
        const json_t *a = json_object_get(setting, setting_keys[k]), *b = json_object_get(config, setting_keys[k]);
        if (k >= N_FIRM && (json_is_null(a) || json_is_null(b))) continue;
        if (!json_equal(a, b)) return false;
    }
    return true;
}

/* "32 query heads, 8 KV heads, d = 128, F16, batch 1, per head, cold L2, graph launches, random inputs": what tells
 * settings apart, in words between commas. */
static json_t *name_of(const json_t *config) {
    static const struct {
        const char *key, *before, *after;
    } words[] = {{"n_q_heads", "", " query heads"},
                 {"n_kv_heads", ", ", " KV heads"},
                 {"head_dim", ", d = ", ""},
                 {"dtype", ", ", ""},
                 {"batch", ", batch ", ""},
                 {"batch_lens", " of lengths ", ""},
                 {"page_size", ", pages of ", " tokens"},
                 {"n_sinks", ", ", " sinks"},
                 {"n_recent", ", ", " recent"},
                 {"selection", ", select per ", ""},
                 {"cache", ", ", " L2"},
                 {"launch", ", ", " launches"},
                 {"inputs", ", ", " inputs"}};
    char name[768] = "";
    size_t at = 0;
    for (size_t i = 0; i < COUNT(words); i++) {
        const json_t *value = json_object_get(config, words[i].key);
        char digits[24];
        const char *text = json_string_value(value);
        if (json_is_integer(value)) {
            bool is_default = json_integer_value(value) == 0 ||
                              (strcmp(words[i].key, "n_recent") == 0 && json_integer_value(value) == 1);
            if (is_default) continue;
            snprintf(digits, sizeof digits, "%lld", (long long)json_integer_value(value));
            text = digits;
        }
        if (text == NULL) continue;
        int n = snprintf(name + at, sizeof name - at, "%s%.150s%s", words[i].before, text, words[i].after);
        if (n > 0) at = at + (size_t)n < sizeof name ? at + (size_t)n : sizeof name - 1;
    }
    return adm_rows_string(name);
}

/* Adds the configuration's setting unless an equal one is there. Only whole steps have every choice made. */
static adm_status add_setting(json_t *settings, const json_t *config, size_t profile, adm_error *err) {
    size_t i;
    json_t *setting;
    json_array_foreach(settings, i,
                       setting) if (json_integer_value(json_object_get(setting, "profile")) == (json_int_t)profile &&
                                    fits(setting, config)) return ADM_OK;
    setting = json_pack("{s:I}", "profile", (json_int_t)profile);
    for (size_t k = 0; k < COUNT(setting_keys); k++)
        json_object_set(setting, setting_keys[k], json_object_get(config, setting_keys[k]));
    adm_status status = adm_rows_set(setting, "name", name_of(config), err);
    if (status == ADM_OK) return adm_rows_append(settings, setting, err);
    json_decref(setting);
    return status;
}

/* Appends the run's configurations; position[config_id] is the index of each. */
static adm_status read_configs(adm_store *store, json_t *document, size_t profile, int64_t run_id, json_t *position,
                               adm_error *err) {
    json_t *configs = json_object_get(document, "configs"), *settings = json_object_get(document, "settings"), *config;
    size_t first = json_array_size(configs), i;
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, config_sql, &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_rows_read(&query, config_columns, COUNT(config_columns), -1, configs, err);
    for (i = first; i < json_array_size(configs) && status == ADM_OK; i++) {
        char id[24];
        config = json_array_get(configs, i);
        snprintf(id, sizeof id, "%lld", (long long)json_integer_value(json_object_get(config, "config_id")));
        status = adm_rows_set(position, id, json_integer((json_int_t)i), err);
    }
    /* Those with a selection first: they are what the others are joined to. */
    for (int pass = 0; pass < 2; pass++)
        for (i = first; i < json_array_size(configs) && status == ADM_OK; i++) {
            config = json_array_get(configs, i);
            const char *policy = json_string_value(json_object_get(config, "policy"));
            bool is_device = strcmp(policy, "device") == 0 || strcmp(policy, "static") == 0;
            if (!is_device && json_is_null(json_object_get(config, "selection")) == (pass == 1))
                status = add_setting(settings, config, profile, err);
        }
    return status;
}

/* --- Units ---------------------------------------------------------------------------------------------------------- */

static const adm_rows_column unit_columns[] = {
    {"config_id", 'i'},
    {"stage", 's'},
    {"n", 'i'},
    {"median", 'd'},
    {"p10", 'd'},
    {"p90", 'd'},
    {"min", 'd'},
    {"max", 'd'},
    {"status", 's'},
    {"reason", 's'},
    {"bytes", 'd'},
    {"flops", 'd'},
    {"limit_ratio", 'd'},
    {"throttled_ratio", 'd'},
    {"floor_ns", 'd'},
    {"cold_l2_ratio", 'd'},
    {"median_ci_ratio", 'd'},
    {"place", 's'},
};

#define OF_UNIT(source, name, column)                                                                                    \
    "(SELECT x." column " FROM measurement x JOIN metric y USING (metric_id) WHERE x.run_id = m.run_id AND x.config_id " \
    "= m.config_id AND x.source = '" source "' AND x.stage = m.stage AND x.layer IS NULL AND x.head IS NULL AND y.name " \
    "= '" name "')"

/* In the order in which they were stored: the implementations of a stage as the registry has them. */
// clang-format off
static const char unit_sql[] =
    "SELECT m.config_id, m.stage, m.n, m.median, m.p10, m.p90, m.min, m.max, m.status, m.reason, "
    OF_UNIT("model", "model_bytes", "median") ", "
    OF_UNIT("model", "model_flops", "median") ", "
    OF_UNIT("gpu", "limit_ratio", "median") ", "
    OF_UNIT("gpu", "throttled_ratio", "median") ", "
    OF_UNIT("model", "floor_ns", "median") ", "
    OF_UNIT("model", "cold_l2_ratio", "median") ", "
    OF_UNIT("gpu", "median_ci_ratio", "median") ", " ADM_REPORT_PLACE
    " FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ? AND m.stage IS NOT NULL "
    "AND ((m.source = 'gpu' AND k.name = 'time_ns') OR (m.source = 'model' AND k.name = 'peer_time_ns')) "
    "AND m.layer IS NULL AND m.head IS NULL ORDER BY m.measurement_id";
// clang-format on

/* Replaces "config_id" by {"profile", "config"} in the rows from `first` on. */
static adm_status place_rows(json_t *rows, size_t first, size_t profile, const json_t *position, adm_error *err) {
    adm_status status = ADM_OK;
    for (size_t i = first; i < json_array_size(rows) && status == ADM_OK; i++) {
        char id[24];
        json_t *row = json_array_get(rows, i);
        snprintf(id, sizeof id, "%lld", (long long)json_integer_value(json_object_get(row, "config_id")));
        json_t *at = json_object_get(position, id);
        status = adm_rows_set(row, "profile", json_integer((json_int_t)profile), err);
        if (status == ADM_OK) status = adm_rows_set(row, "config", at != NULL ? json_incref(at) : json_null(), err);
        json_object_del(row, "config_id");
    }
    return status;
}

static adm_status read_units(adm_store *store, json_t *document, size_t profile, int64_t run_id, const json_t *position,
                             adm_error *err) {
    json_t *units = json_object_get(document, "units");
    size_t first = json_array_size(units);
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, unit_sql, &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_rows_read(&query, unit_columns, COUNT(unit_columns), -1, units, err);
    return status == ADM_OK ? place_rows(units, first, profile, position, err) : status;
}

/* --- Counters ------------------------------------------------------------------------------------------------------- */

/* All else that was measured of a unit itself, a row each; the unit's rows stand together. */
static const char counter_sql[] =
    "SELECT m.config_id, m.stage, k.name, m.n, m.median, m.status, m.reason FROM measurement m JOIN metric k USING (metric_id) "
    "WHERE m.run_id = ? AND m.source = 'gpu' AND m.stage IS NOT NULL AND m.layer IS NULL AND m.head IS NULL "
    "AND k.name NOT IN (" ADM_REPORT_TIME_METRICS ", " ADM_REPORT_DEVICE_METRICS
    ") AND k.name NOT LIKE 'phase\\_%' ESCAPE '\\' "
    "ORDER BY m.config_id, m.stage, m.measurement_id";

static json_t *new_counters(const adm_query *query) {
    return json_pack("{s:I, s:o, s:{}, s:{}, s:{}}", "config_id", (json_int_t)adm_query_int(query, 0), "stage",
                     adm_rows_string(adm_query_text(query, 1)), "value", "n", "missing");
}

static adm_status add_counter(const adm_query *query, json_t *counters, adm_error *err) {
    const char *name = adm_query_text(query, 2);
    bool is_there = strcmp(adm_query_text(query, 5), "ok") == 0;
    if (!is_there)
        return adm_rows_set(json_object_get(counters, "missing"), name, adm_rows_string(adm_query_text(query, 6)), err);
    adm_status status = adm_rows_set(json_object_get(counters, "value"), name, adm_rows_number(query, 4), err);
    if (status == ADM_OK && adm_query_int(query, 3) != 1)
        status = adm_rows_set(json_object_get(counters, "n"), name, json_integer((json_int_t)adm_query_int(query, 3)), err);
    return status;
}

static adm_status read_counters(adm_store *store, json_t *document, size_t profile, int64_t run_id, const json_t *position,
                                adm_error *err) {
    json_t *all = json_object_get(document, "counters"), *counters = NULL;
    size_t first = json_array_size(all);
    int64_t config_id = -1;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, counter_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (counters == NULL || adm_query_int(query, 0) != config_id ||
            strcmp(json_string_value(json_object_get(counters, "stage")), adm_query_text(query, 1)) != 0) {
            counters = new_counters(query);
            status = adm_rows_append(all, counters, err);
            config_id = adm_query_int(query, 0);
        }
        if (status == ADM_OK) status = add_counter(query, counters, err);
    }
    adm_query_close(&query);
    return status == ADM_OK ? place_rows(all, first, profile, position, err) : status;
}

/* --- Phases --------------------------------------------------------------------------------------------------------- */

static const adm_rows_column phase_columns[] = {
    {"config_id", 'i'}, {"phase", 's'}, {"n", 'i'}, {"median", 'd'}, {"p10", 'd'}, {"p90", 'd'}, {"max", 'd'},
};

/* What an instrumented step stamped: a row per phase, those of a step together and in their order. */
static const char phase_sql[] =
    "SELECT m.config_id, substr(k.name, 7, length(k.name) - 9), m.n, m.median, m.p10, m.p90, m.max FROM measurement m "
    "JOIN metric k USING (metric_id) WHERE m.run_id = ? AND m.source = 'gpu' AND m.stage = 'step' AND m.layer IS NULL "
    "AND m.head IS NULL AND m.status = 'ok' AND k.name LIKE 'phase\\_%\\_ns' ESCAPE '\\' "
    "ORDER BY m.config_id, m.measurement_id";

/* The rows of a run under document[name], each placed at its configuration. */
static adm_status read_placed(adm_store *store, json_t *document, const char *name, const char *sql,
                              const adm_rows_column *columns, size_t n_columns, size_t profile, int64_t run_id,
                              const json_t *position, adm_error *err) {
    json_t *rows = json_object_get(document, name);
    size_t first = json_array_size(rows);
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, sql, &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_rows_read(&query, columns, n_columns, -1, rows, err);
    return status == ADM_OK ? place_rows(rows, first, profile, position, err) : status;
}

static adm_status read_phases(adm_store *store, json_t *document, size_t profile, int64_t run_id, const json_t *position,
                              adm_error *err) {
    return read_placed(store, document, "phases", phase_sql, phase_columns, COUNT(phase_columns), profile, run_id, position,
                       err);
}

/* --- Timelines ------------------------------------------------------------------------------------------------------ */

static const adm_rows_column activity_columns[] = {
    {"config_id", 'i'}, {"step", 'i'},         {"n_steps", 'i'},  {"stage", 's'},     {"kind", 's'},
    {"name", 's'},      {"stream", 'i'},       {"start_ns", 'i'}, {"end_ns", 'i'},    {"bytes", 'i'},
    {"registers", 'i'}, {"shared_bytes", 'i'}, {"n_blocks", 'i'}, {"n_threads", 'i'},
};

/* Of every configuration with whole steps, the step of median duration; the first call only where there is no other, for it
 * may hold costs that never come again. Times count from the step's start. */
static const char activity_sql[] =
    "WITH span AS (SELECT a.config_id, a.step, min(a.start_ns) AS start_ns, max(a.end_ns) - min(a.start_ns) AS span_ns, "
    "              max(a.step) OVER (PARTITION BY a.config_id) AS last_step FROM activity a JOIN config c USING (config_id) "
    "              WHERE a.run_id = ?1 AND a.step IS NOT NULL AND a.config_id IN (SELECT e.config_id FROM event e "
    "              WHERE e.run_id = ?1 AND e.clock = 'gpu' AND e.kind = 'step') GROUP BY a.config_id, a.step), "
    "ranked AS (SELECT *, row_number() OVER w AS rank, count(*) OVER (PARTITION BY config_id) AS n_steps FROM span "
    "           WHERE step > 0 OR last_step = 0 WINDOW w AS (PARTITION BY config_id ORDER BY span_ns, step)) "
    "SELECT a.config_id, a.step, r.n_steps, a.stage, a.kind, a.name, a.stream, a.start_ns - r.start_ns, "
    "a.end_ns - r.start_ns, a.bytes, a.registers, a.static_shared_bytes + a.dynamic_shared_bytes, "
    "a.grid_x * a.grid_y * a.grid_z, a.block_x * a.block_y * a.block_z "
    "FROM ranked r JOIN activity a ON a.run_id = ?1 AND a.config_id = r.config_id AND a.step = r.step "
    "WHERE r.rank = (r.n_steps + 1) / 2 ORDER BY a.config_id, a.start_ns, a.end_ns, a.activity_id";

static adm_status read_timelines(adm_store *store, json_t *document, size_t profile, int64_t run_id, const json_t *position,
                                 adm_error *err) {
    return read_placed(store, document, "timelines", activity_sql, activity_columns, COUNT(activity_columns), profile, run_id,
                       position, err);
}

/* --- The headline --------------------------------------------------------------------------------------------------- */

/* How well a setting represents the others: first as the paper measured, then as most people would serve. */
static int rank_of(const json_t *setting) {
    const char *launch = json_string_value(json_object_get(setting, "launch"));
    const char *selection = json_string_value(json_object_get(setting, "selection"));
    const char *cache = json_string_value(json_object_get(setting, "cache"));
    const json_t *n_q = json_object_get(setting, "n_q_heads"), *n_kv = json_object_get(setting, "n_kv_heads");
    return 32 * (launch != NULL && strcmp(launch, "graph") == 0) + 16 * (cache != NULL && strcmp(cache, "cold") == 0) +
           8 * (selection != NULL && strcmp(selection, "head") == 0) +
           4 * (json_integer_value(json_object_get(setting, "batch")) == 1) +
           2 * json_is_null(json_object_get(setting, "page_size")) + json_equal(n_q, n_kv);
}

/* True if `value` is nearer to `wanted` on a logarithmic scale than `best`, of which 0 is none. */
static bool is_nearer(int64_t value, int64_t best, int64_t wanted) {
    double distance = fabs(log((double)value / (double)wanted));
    return best == 0 || distance < fabs(log((double)best / (double)wanted));
}

/* The setting, length and budget that a reader is shown first: of the whole steps measured the setting of the highest rank,
 * with the length and budget that the paper discusses most, or the nearest to it. */
static adm_status choose_headline(json_t *document, size_t profile, adm_error *err) {
    enum { LENGTH = 32768, BUDGET = 256 };
    json_t *settings = json_object_get(document, "settings"), *configs = json_object_get(document, "configs"), *unit;
    int64_t best = -1, length = 0, budget = 0;
    int best_rank = -1;
    size_t i, s;
    json_t *setting;
    json_array_foreach(settings, s, setting) {
        if (json_integer_value(json_object_get(setting, "profile")) != (json_int_t)profile) continue;
        int64_t length_here = 0, budget_here = 0;
        for (int pass = 0; pass < 2; pass++) json_array_foreach(json_object_get(document, "units"), i, unit) {
                const json_t *config = json_array_get(configs, (size_t)json_integer_value(json_object_get(unit, "config")));
                int64_t here = json_integer_value(json_object_get(config, "seq_len"));
                int64_t b = json_integer_value(json_object_get(config, "budget"));
                if (json_integer_value(json_object_get(unit, "profile")) != (json_int_t)profile || b == 0 ||
                    strcmp(json_string_value(json_object_get(unit, "stage")), "step") != 0 || !fits(setting, config))
                    continue;
                if (pass == 0 && is_nearer(here, length_here, LENGTH)) length_here = here;
                if (pass == 1 && here == length_here && is_nearer(b, budget_here, BUDGET)) budget_here = b;
            }
        if (length_here == 0 || rank_of(setting) <= best_rank) continue;
        best_rank = rank_of(setting);
        best = (int64_t)s;
        length = length_here;
        budget = budget_here;
    }
    if (best < 0) return ADM_OK;
    return adm_rows_set(
        json_array_get(json_object_get(document, "profiles"), profile), "headline",
        json_pack("{s:I, s:I, s:I}", "setting", (json_int_t)best, "seq_len", (json_int_t)length, "budget", (json_int_t)budget),
        err);
}

/* --- The device ----------------------------------------------------------------------------------------------------- */

/* What was measured of the device as a whole, such as its read limit: {"read_limit_bytes_per_s": value, ...}. */
static adm_status read_device(adm_store *store, json_t *profile, int64_t run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(
        store,
        "SELECT k.name, m.median FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
        "WHERE m.run_id = ? AND c.policy = 'device' AND m.stage IS NULL AND m.status = 'ok' ORDER BY m.measurement_id",
        &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_rows_set(profile, "device", json_object(), err);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        status = adm_rows_set(json_object_get(profile, "device"), adm_query_text(query, 0), adm_rows_number(query, 1), err);
    adm_query_close(&query);
    return status;
}

/* The arithmetic that the device could do at most, where its kind is known. */
static adm_status add_ceilings(adm_store *store, json_t *profile, int64_t run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_ceilings c = {0};
    adm_status status = adm_query_open(store, "SELECT ifnull(gpu_name, ''), ifnull(sm_clock_hz, 0) FROM run WHERE run_id = ?",
                                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) c = adm_ceilings_of(adm_query_text(query, 0), (double)adm_query_int(query, 1));
    adm_query_close(&query);
    if (status != ADM_OK || c.n_sms == 0) return status;
    return adm_rows_set(profile, "ceilings",
                        json_pack("{s:i, s:f, s:f}", "n_sms", c.n_sms, "fp32_flops_per_s", c.fp32_flops_per_s,
                                  "tensor_flops_per_s", c.tensor_flops_per_s),
                        err);
}

/* How the device was while its units were timed: over all units the lowest and highest reading, and in how many of them a
 * throttle was seen. */
static adm_status read_device_state(adm_store *store, json_t *profile, int64_t run_id, adm_error *err) {
    static const adm_rows_column columns[] = {{"metric", 's'}, {"unit", 's'},         {"n_units", 'i'}, {"min", 'd'},
                                              {"max", 'd'},    {"n_above_zero", 'i'}, {"reason", 's'}};
    json_t *rows = json_array();
    adm_query *query = NULL;
    adm_status status =
        adm_query_open(store,
                       "SELECT k.name, k.unit, count(m.median), min(m.min), max(m.max), sum(m.max > 0), max(m.reason) "
                       "FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ? AND m.source = 'gpu' "
                       "AND k.name IN (" ADM_REPORT_DEVICE_METRICS ") GROUP BY k.metric_id ORDER BY k.metric_id",
                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_rows_read(&query, columns, COUNT(columns), -1, rows, err);
    if (status == ADM_OK) return adm_rows_set(profile, "device_state", rows, err);
    json_decref(rows);
    return status;
}

static adm_status read_profile(adm_store *store, json_t *document, size_t index, adm_error *err) {
    json_t *profile = json_array_get(json_object_get(document, "profiles"), index), *position = json_object();
    int64_t run_id = json_integer_value(json_object_get(profile, "run_id"));
    adm_status status = read_device(store, profile, run_id, err);
    if (status == ADM_OK) status = add_ceilings(store, profile, run_id, err);
    if (status == ADM_OK) status = read_device_state(store, profile, run_id, err);
    if (status == ADM_OK) status = read_configs(store, document, index, run_id, position, err);
    int parts = (int)json_integer_value(json_object_get(profile, "parts"));
    if (status == ADM_OK && (parts & ADM_REPORT_TIMES)) status = read_units(store, document, index, run_id, position, err);
    if (status == ADM_OK && (parts & ADM_REPORT_PHASES)) status = read_phases(store, document, index, run_id, position, err);
    if (status == ADM_OK && (parts & ADM_REPORT_COUNTERS))
        status = read_counters(store, document, index, run_id, position, err);
    if (status == ADM_OK && (parts & ADM_REPORT_TIMELINE))
        status = read_timelines(store, document, index, run_id, position, err);
    if (status == ADM_OK) status = choose_headline(document, index, err);
    json_decref(position);
    return status;
}

adm_status adm_report_gpu_read(adm_store *store, json_t *document, adm_error *err) {
    static const char *const lists[] = {"configs", "settings", "units", "phases", "counters", "timelines"};
    adm_status status = ADM_OK;
    for (size_t i = 0; i < COUNT(lists) && status == ADM_OK; i++) status = adm_rows_set(document, lists[i], json_array(), err);
    size_t n_profiles = json_array_size(json_object_get(document, "profiles"));
    for (size_t i = 0; i < n_profiles && status == ADM_OK; i++) status = read_profile(store, document, i, err);
    return status;
}
