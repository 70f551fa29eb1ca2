/* series.c: reads runs, configurations, metrics and measurements into an adm_series_set. */
#include "analysis/regress/series.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analysis/regress/contended.h"
#include "core/base/mem.h"
#include "core/stats/stats.h"

/* --- Text --------------------------------------------------------------------------------------------------------- */

static const char *keep(adm_series_set *set, const char *text, adm_error *err) {
    size_t n = strlen(text) + 1;
    struct adm_series_text *block = set->text;
    if (block == NULL || block->n_bytes - block->n_used < n) {
        size_t n_bytes = n > 65536 ? n : 65536;
        if (adm_alloc(&block, 1, sizeof *block + n_bytes, "text of series", err) != ADM_OK) return NULL;
        block->n_bytes = n_bytes;
        block->next = set->text;
        set->text = block;
    }
    char *at = block->bytes + block->n_used;
    block->n_used += n;
    return memcpy(at, text, n);
}

/* Text of a column; *status becomes a failure when out of memory. */
static const char *column(adm_series_set *set, const adm_query *q, int i, adm_status *status, adm_error *err) {
    const char *text = *status == ADM_OK ? keep(set, adm_query_text(q, i), err) : "";
    if (text == NULL) *status = ADM_EENVIRONMENT;
    return text;
}

/* Grows an array so that one more element fits: 16 at first, then twice as many each time. */
static adm_status grow(void *array_address, size_t n, size_t size, const char *what, adm_error *err) {
    if (n != 0 && (n < 16 || (n & (n - 1)) != 0)) return ADM_OK;
    void *old, *larger;
    memcpy(&old, array_address, sizeof old);
    adm_status status = adm_alloc(&larger, n < 16 ? 16 : 2 * n, size, what, err);
    if (status != ADM_OK) return status;
    adm_copy(larger, old, n * size);
    memcpy(array_address, &larger, sizeof larger);
    adm_free(&old);
    return ADM_OK;
}

/* "[1,2,3]" for json_each(). */
static adm_status as_json(const int64_t *ids, size_t n, char **json, adm_error *err) {
    adm_status status = adm_alloc(json, n * 21 + 3, 1, "list of runs", err);
    if (status != ADM_OK) return status;
    char *at = *json;
    *at++ = '[';
    for (size_t i = 0; i < n; i++) at += sprintf(at, "%s%lld", i > 0 ? "," : "", (long long)ids[i]);
    strcpy(at, "]");
    return ADM_OK;
}

/* --- Runs --------------------------------------------------------------------------------------------------------- */

static const char runs_sql[] =
    "SELECT run_id, run_uuid, label, command, status, git_commit, started_utc, ifnull(git_dirty, 0), host_name, cpu_model,"
    " ifnull(gpu_name, ''), ifnull(gpu_uuid, ''), ifnull(driver_version, ''), ifnull(cuda_version, ''), n_cpus,"
    " (SELECT m.median FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = r.run_id AND k.name ="
    "  'power_limit_w' AND m.stage IS NULL LIMIT 1), ifnull(commit_utc, ''), ifnull(machine, ''), ifnull(only_times, '')"
    " FROM run r WHERE run_id IN (SELECT value FROM json_each(?)) ORDER BY started_utc, run_id";

static adm_status load_runs(adm_series_set *set, const char *json, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(set->store, runs_sql, &q, err, "s", json);
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row) {
        status = grow(&set->run, set->n_runs, sizeof *set->run, "runs", err);
        if (status != ADM_OK) break;
        adm_series_run *r = &set->run[set->n_runs++];
        *r = (adm_series_run){.id = adm_query_int(q, 0),
                              .dirty = adm_query_int(q, 7) != 0,
                              .n_cpus = adm_query_int(q, 14),
                              .power_limit_w = adm_query_double(q, 15)};
        const char **const texts[] = {&r->uuid, &r->label, &r->command, &r->status, &r->commit, &r->started_utc};
        for (int i = 0; i < 6; i++) *texts[i] = column(set, q, i + 1, &status, err);
        const char **const machine[] = {&r->host_name, &r->cpu_model, &r->gpu_name, &r->gpu_uuid, &r->driver, &r->cuda};
        for (int i = 0; i < 6; i++) *machine[i] = column(set, q, i + 8, &status, err);
        r->commit_utc = column(set, q, 16, &status, err);
        r->machine = column(set, q, 17, &status, err);
        r->only = column(set, q, 18, &status, err);
    }
    adm_query_close(&q);
    return status;
}

/* --- Configurations and metrics ----------------------------------------------------------------------------------- */

/* A configuration's identity and names. Columns that a later schema adds to config become part of the identity where they are
 * not NULL (other_columns_sql), so a new column keeps series apart by itself. */
static const char configs_sql[] =
    "SELECT c.config_id,"
    " printf('%%s|%%s|%%04d|%%04d|%%d|%%s|%%08d|%%08d|%%04d|%%d|%%d|%%s|%%s|%%d|%%s', ifnull(t.xxh128, ''), c.policy, "
    "c.n_q_heads, c.n_kv_heads,  c.head_dim, c.dtype, c.seq_len, ifnull(c.budget, 0), c.batch, ifnull(c.n_sinks, -1), "
    "ifnull(c.n_recent, -1),  ifnull(c.selection, ''), ifnull(c.cache, ''), ifnull(c.page_size, 0), ifnull(c.batch_lens, '')) "
    "|| %s, c.policy, c.variant, c.launch,"
    " CASE WHEN c.policy = 'static' THEN 'compiled kernels' ELSE printf('%%s%%d query heads, %%d KV heads, d = %%d, %%s',"
    "  CASE WHEN t.name IS NULL THEN '' ELSE 'trace ' || t.name || ', ' END, c.n_q_heads, c.n_kv_heads, c.head_dim, c.dtype)"
    "  END,"
    " CASE WHEN c.policy = 'static' THEN c.variant ELSE printf('%%s, %%d tokens%%s%%s%%s%%s', c.variant, c.seq_len,"
    "  CASE WHEN c.budget IS NULL THEN '' ELSE ', budget ' || c.budget END,"
    "  CASE WHEN c.batch = 1 THEN '' ELSE ', batch ' || c.batch END,"
    "  CASE WHEN c.page_size IS NULL THEN '' ELSE ', pages of ' || c.page_size END,"
    "  CASE WHEN c.selection = 'group' THEN ', group' ELSE '' END) END, c.seq_len, ifnull(c.budget, 0)"
    " FROM config c LEFT JOIN trace t USING (trace_id) ORDER BY c.config_id";

/* An expression: "|name=value" of each column that configs_sql does not name. */
static const char other_columns_sql[] =
    "SELECT ifnull(group_concat('CASE WHEN c.\"' || name || '\" IS NULL THEN '''' ELSE ''|' || name || '='' || c.\"' || name ||"
    " '\" END', ' || '), '''''') FROM pragma_table_info('config') WHERE name NOT IN ('config_id', 'trace_id', 'policy', "
    "'variant', 'n_q_heads', 'n_kv_heads', 'head_dim', 'dtype', 'seq_len', 'budget', 'batch', 'n_sinks', 'n_recent', "
    "'selection', 'cache', 'launch', 'page_size', 'batch_lens')";

/* configs_sql with that expression; to be released with adm_free(). */
static adm_status make_configs_sql(adm_store *store, char **sql, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, other_columns_sql, &q, err, "");
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK) {
        size_t size = sizeof configs_sql + strlen(adm_query_text(q, 0));
        status = adm_alloc(sql, size, 1, "a query", err);
        if (status == ADM_OK) snprintf(*sql, size, configs_sql, adm_query_text(q, 0));
    }
    adm_query_close(&q);
    return status;
}

static adm_status load_configs(adm_series_set *set, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    char *sql = NULL;
    adm_status status = make_configs_sql(set->store, &sql, err);
    if (status == ADM_OK) status = adm_query_open(set->store, sql, &q, err, "");
    adm_free(&sql);
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row) {
        char key[1024];
        status = grow(&set->config, set->n_configs, sizeof *set->config, "configurations", err);
        if (status != ADM_OK) break;
        adm_series_config *c = &set->config[set->n_configs++];
        c->id = adm_query_int(q, 0);
        c->seq_len = adm_query_int(q, 7);
        c->budget = adm_query_int(q, 8);
        const char **const texts[] = {&c->work, &c->policy, &c->variant, &c->launch, &c->shape, &c->title};
        for (int i = 0; i < 6; i++) *texts[i] = column(set, q, i + 1, &status, err);
        if (status != ADM_OK) break;
        snprintf(key, sizeof key, "%s|%s|%s", c->work, c->variant, c->launch);
        c->key = keep(set, key, err);
        if (c->key == NULL) status = ADM_EENVIRONMENT;
    }
    adm_query_close(&q);
    return status;
}

static adm_status load_metrics(adm_series_set *set, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(set->store, "SELECT metric_id, name, unit, better FROM metric ORDER BY metric_id", &q,
                                       err, "");
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row) {
        status = grow(&set->metric, set->n_metrics, sizeof *set->metric, "metrics", err);
        if (status != ADM_OK) break;
        adm_series_metric *m = &set->metric[set->n_metrics++];
        m->id = adm_query_int(q, 0);
        m->name = column(set, q, 1, &status, err);
        m->unit = column(set, q, 2, &status, err);
        m->better = column(set, q, 3, &status, err);
    }
    adm_query_close(&q);
    return status;
}

/* --- Measurements ------------------------------------------------------------------------------------------------- */

/* A measurement as read, before measurements are put into series. */
typedef struct raw {
    const adm_series_config *config;
    const adm_series_metric *metric;
    const char *source, *stage;
    adm_point point;
} raw;

static int by_id(const void *key, const void *element) {
    int64_t x, y;
    memcpy(&x, key, sizeof x);
    memcpy(&y, element, sizeof y); /* the id is the first member of each */
    return (x > y) - (x < y);
}

/* Sources and stages are few: each distinct text is kept once. */
static const char *intern(adm_series_set *set, const char *text, const char *known[32], size_t *n_known, adm_error *err) {
    for (size_t i = 0; i < *n_known; i++)
        if (strcmp(known[i], text) == 0) return known[i];
    const char *kept = keep(set, text, err);
    if (kept != NULL && *n_known < 32) known[(*n_known)++] = kept;
    return kept;
}

typedef struct run_position {
    int64_t id;
    size_t at;
} run_position;

static int by_position(const void *a, const void *b) { return by_id(a, b); }

static const char points_sql[] =
    "SELECT m.measurement_id, m.run_id, m.config_id, m.metric_id, m.source, ifnull(m.stage, ''), m.status = 'ok', m.median,"
    " m.mean, m.n, m.status = 'failed' FROM measurement m WHERE m.layer IS NULL AND m.head IS NULL AND m.run_id IN (SELECT "
    "value FROM json_each(?1)) AND (?2 IS NULL OR m.metric_id IN (SELECT metric_id FROM metric WHERE name IN "
    "(?2, '" ADM_TIME_LOOP "', '" ADM_ENCODE_LOOP "')))";

static adm_status load_raw(adm_series_set *set, const char *json, const char *only_metric, const run_position *position,
                           raw **out, size_t *n_out, adm_error *err) {
    const char *known[32];
    size_t n_known = 0;
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(set->store, points_sql, &q, err, "ss", json, only_metric);
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row) {
        status = grow(out, *n_out, sizeof **out, "measurements", err);
        if (status != ADM_OK) break;
        raw *r = &(*out)[*n_out];
        int64_t run = adm_query_int(q, 1), config = adm_query_int(q, 2), metric = adm_query_int(q, 3);
        const run_position *p = adm_search(&run, position, set->n_runs, sizeof *position, by_id);
        *r = (raw){.config = adm_search(&config, set->config, set->n_configs, sizeof *set->config, by_id),
                   .metric = adm_search(&metric, set->metric, set->n_metrics, sizeof *set->metric, by_id),
                   .source = intern(set, adm_query_text(q, 4), known, &n_known, err),
                   .stage = intern(set, adm_query_text(q, 5), known, &n_known, err),
                   .point = {.measurement_id = adm_query_int(q, 0),
                             .ok = adm_query_int(q, 6) != 0,
                             .failed = adm_query_int(q, 10) != 0,
                             .median = adm_query_double(q, 7),
                             .mean = adm_query_double(q, 8),
                             .n = adm_query_int(q, 9)}};
        if (r->source == NULL || r->stage == NULL) status = ADM_EENVIRONMENT;
        if (p == NULL || r->config == NULL || r->metric == NULL) continue; /* written since the other tables were read */
        r->point.run = p->at;
        (*n_out)++;
    }
    adm_query_close(&q);
    return status;
}

static int by_key(const void *a, const void *b) {
    return strcmp((*(adm_series_config *const *)a)->key, (*(adm_series_config *const *)b)->key);
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(adm_series_metric *const *)a)->name, (*(adm_series_metric *const *)b)->name);
}

/* Numbers instead of keys, which are long and much alike: half a million points are sorted by them. */
static adm_status rank_all(adm_series_set *set, adm_error *err) {
    void **order = NULL;
    size_t n = set->n_configs > set->n_metrics ? set->n_configs : set->n_metrics;
    adm_status status = adm_alloc(&order, n, sizeof *order, "configurations", err);
    if (status != ADM_OK) return status;
    for (size_t i = 0; i < set->n_configs; i++) order[i] = &set->config[i];
    adm_sort(order, set->n_configs, sizeof *order, by_key);
    for (size_t i = 0; i < set->n_configs; i++) ((adm_series_config *)order[i])->rank = i;
    for (size_t i = 0; i < set->n_metrics; i++) order[i] = &set->metric[i];
    adm_sort(order, set->n_metrics, sizeof *order, by_name);
    for (size_t i = 0; i < set->n_metrics; i++) ((adm_series_metric *)order[i])->rank = i;
    adm_free(&order);
    return ADM_OK;
}

static int compare_sizes(size_t a, size_t b) { return (a > b) - (a < b); }

/* The order of adm_series_order(), and within a series that of the runs. */
static int by_series(const void *x, const void *y) {
    const raw *a = x, *b = y;
    int order = compare_sizes(a->config->rank, b->config->rank);
    if (order == 0 && a->source != b->source) order = strcmp(a->source, b->source);
    if (order == 0 && a->stage != b->stage) order = strcmp(a->stage, b->stage);
    if (order == 0) order = compare_sizes(a->metric->rank, b->metric->rank);
    return order != 0 ? order : compare_sizes(a->point.run, b->point.run);
}

static bool same_series(const raw *a, const raw *b) {
    return a->config == b->config && a->metric == b->metric && a->source == b->source && a->stage == b->stage;
}

static adm_status make_series(adm_series_set *set, raw *raws, size_t n, adm_error *err) {
    adm_sort(raws, n, sizeof *raws, by_series);
    for (size_t i = 0; i < n; i++) set->n_series += i == 0 || !same_series(&raws[i - 1], &raws[i]);
    adm_status status = adm_alloc(&set->series, set->n_series, sizeof *set->series, "series", err);
    if (status == ADM_OK) status = adm_alloc(&set->point, n, sizeof *set->point, "points of series", err);
    if (status != ADM_OK) return status;
    set->n_points = n;
    for (size_t i = 0, at = 0; i < n; i++) {
        set->point[i] = raws[i].point;
        if (i > 0 && same_series(&raws[i - 1], &raws[i])) {
            set->series[at - 1].n_points++;
            continue;
        }
        set->series[at++] = (adm_series){.config = raws[i].config,
                                         .metric = raws[i].metric,
                                         .source = raws[i].source,
                                         .stage = raws[i].stage,
                                         .point = &set->point[i],
                                         .n_points = 1};
    }
    return ADM_OK;
}

adm_status adm_series_load(adm_store *store, const int64_t *run_ids, size_t n_run_ids, const char *only_metric,
                           adm_series_set *set, adm_error *err) {
    *set = (adm_series_set){.store = store};
    char *json = NULL;
    run_position *position = NULL;
    raw *raws = NULL;
    size_t n = 0;
    adm_status status = as_json(run_ids, n_run_ids, &json, err);
    if (status == ADM_OK) status = load_runs(set, json, err);
    if (status == ADM_OK) status = load_configs(set, err);
    if (status == ADM_OK) status = load_metrics(set, err);
    if (status == ADM_OK) status = rank_all(set, err);
    if (status == ADM_OK) status = adm_alloc(&position, set->n_runs, sizeof *position, "runs", err);
    for (size_t i = 0; status == ADM_OK && i < set->n_runs; i++) position[i] = (run_position){set->run[i].id, i};
    if (status == ADM_OK) adm_sort(position, set->n_runs, sizeof *position, by_position);
    if (status == ADM_OK) status = load_raw(set, json, only_metric, position, &raws, &n, err);
    if (status == ADM_OK) status = make_series(set, raws, n, err);
    if (status == ADM_OK) status = adm_series_mark_contended(set, err);
    adm_free(&json);
    adm_free(&position);
    adm_free(&raws);
    if (status != ADM_OK) adm_series_free(set);
    return status;
}

/* --- What is read later ------------------------------------------------------------------------------------------- */

adm_status adm_series_samples(const adm_series_set *set, const adm_point *point, double **values, size_t *n, size_t *n_left_out,
                              adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    *values = NULL;
    *n = *n_left_out = 0;
    adm_status status = adm_query_open(set->store,
                                       "SELECT s.value, NOT (?4 OR l.value IS NULL OR l.value <= ?3) FROM sample s"
                                       " LEFT JOIN sample l ON l.measurement_id = ?2 AND l.i = s.i"
                                       " WHERE s.measurement_id = ?1 ORDER BY s.value",
                                       &q, err, "iidi", point->measurement_id, point->loop_id, point->max_loop_ns,
                                       (int64_t)point->is_contended);
    while (status == ADM_OK && (status = adm_query_next(q, &row, err)) == ADM_OK && row) {
        if (adm_query_int(q, 1) != 0) {
            ++*n_left_out;
            continue;
        }
        status = grow(values, *n, sizeof **values, "samples", err);
        if (status == ADM_OK) (*values)[(*n)++] = adm_query_double(q, 0);
    }
    adm_query_close(&q);
    if (status == ADM_OK && *n == 0) {
        status = adm_alloc(values, 1, sizeof **values, "samples", err);
        if (status == ADM_OK) (*values)[(*n)++] = point->median;
    }
    if (status != ADM_OK) adm_free(values);
    return status;
}

adm_status adm_series_reason(const adm_series_set *set, const adm_point *point, char *out, size_t out_bytes, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    adm_status status = adm_query_open(set->store, "SELECT reason FROM measurement WHERE measurement_id = ?", &q, err, "i",
                                       point->measurement_id);
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    snprintf(out, out_bytes, "%s", status == ADM_OK && row ? adm_query_text(q, 0) : "");
    adm_query_close(&q);
    return status;
}
