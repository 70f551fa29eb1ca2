/* load.c: reads a profile's timings into grids, and fits the skew of mixed lengths. */
#include "analysis/cost/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/mem.h"

/* One row of the profile. */
typedef struct row {
    adm_cost_grid key; /* without points */
    adm_cost_point point;
} row;

static const char rows_sql[] =
    "SELECT m.stage, c.variant, c.n_q_heads, c.n_kv_heads, c.head_dim, c.dtype, c.seq_len, ifnull(c.budget, 0), c.batch, "
    "ifnull(c.page_size, 0), m.median, c.batch_lens "
    "FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) "
    "WHERE m.run_id = ? AND k.name = 'time_ns' AND m.source = 'gpu' AND m.stage IS NOT NULL AND m.layer IS NULL "
    "AND m.head IS NULL AND m.status = 'ok' AND m.median > 0 AND c.launch = 'graph' AND ifnull(c.cache, 'cold') = 'cold' "
    "AND ifnull(c.selection, 'head') = 'head'";

static int stage_of(const char *stage, const char *variant) {
    if (strcmp(stage, "append") == 0 && strcmp(variant, "prompt") == 0) return ADM_COST_PROMPT;
    for (int s = 0; s < ADM_N_STAGES; s++)
        if (strcmp(adm_stage_name((adm_stage)s), stage) == 0) return s;
    return -1;
}

static void read_row(const adm_query *query, row *r) {
    *r = (row){.key = {.stage = stage_of(adm_query_text(query, 0), adm_query_text(query, 1)),
                       .shape = {(uint32_t)adm_query_int(query, 2), (uint32_t)adm_query_int(query, 3),
                                 (uint32_t)adm_query_int(query, 4)},
                       .element_bytes = strcmp(adm_query_text(query, 5), "F32") == 0 ? 4 : 2,
                       .page_size = (uint32_t)adm_query_int(query, 9)},
               .point = {{adm_query_double(query, 6), adm_query_double(query, 7), adm_query_double(query, 8)},
                         adm_query_double(query, 10)}};
    snprintf(r->key.variant, sizeof r->key.variant, "%s", adm_query_text(query, 1));
}

static int key_order(const adm_cost_grid *x, const adm_cost_grid *y) {
    const int64_t a[] = {x->stage, x->page_size, x->element_bytes, x->shape.n_q_heads, x->shape.n_kv_heads, x->shape.head_dim};
    const int64_t b[] = {y->stage, y->page_size, y->element_bytes, y->shape.n_q_heads, y->shape.n_kv_heads, y->shape.head_dim};
    for (size_t i = 0; i < sizeof a / sizeof a[0]; i++)
        if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
    return strcmp(x->variant, y->variant);
}

static int row_order(const void *a, const void *b) {
    const int keys = key_order(&((const row *)a)->key, &((const row *)b)->key);
    return keys != 0 ? keys : adm_cost_point_order(&((const row *)a)->point, &((const row *)b)->point);
}

static adm_status append(void *array, size_t *n, size_t *capacity, size_t size, const void *item, adm_error *err) {
    void **items = array;
    adm_status status = adm_grow(array, *n, capacity, size, "anchors of the cost model", err);
    if (status != ADM_OK) return status;
    memcpy((char *)*items + *n * size, item, size);
    ++*n;
    return ADM_OK;
}

/* --- The run and its device ----------------------------------------------------------------------------------------- */

static adm_status read_run(adm_store *store, int64_t run_id, adm_cost *cost, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    adm_status status =
        adm_query_open(store,
                       "SELECT r.run_uuid, r.label, ifnull(r.gpu_name, ''), (SELECT m.median FROM measurement m "
                       "JOIN metric k USING (metric_id) WHERE m.run_id = r.run_id AND k.name = "
                       "'read_limit_bytes_per_s' AND m.status = 'ok') FROM run r WHERE r.run_id = ?",
                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    if (status == ADM_OK && there) {
        cost->run_id = run_id;
        snprintf(cost->run_uuid, sizeof cost->run_uuid, "%s", adm_query_text(query, 0));
        snprintf(cost->label, sizeof cost->label, "%s", adm_query_text(query, 1));
        snprintf(cost->measured.name, sizeof cost->measured.name, "%s", adm_query_text(query, 2));
        cost->measured.read_bytes_per_s = adm_query_double(query, 3);
        adm_cost_device_sheet(&cost->measured);
    }
    adm_query_close(&query);
    if (status == ADM_OK && !there) return adm_fail(err, ADM_EINPUT, "--calibration: there is no run %lld", (long long)run_id);
    if (status == ADM_OK && !(cost->measured.read_bytes_per_s > 0))
        return adm_fail(err, ADM_EINPUT, "--calibration: run %lld '%s' has no read limit, so it is no profile of a GPU",
                        (long long)run_id, cost->label);
    return status;
}

/* --- Grids ---------------------------------------------------------------------------------------------------------- */

static adm_status make_grids(adm_cost *cost, row *rows, size_t n, adm_error *err) {
    adm_sort(rows, n, sizeof *rows, row_order);
    size_t n_grids = 0;
    for (size_t i = 0; i < n; i++) n_grids += i == 0 || key_order(&rows[i].key, &rows[i - 1].key) != 0;
    adm_status status = adm_alloc(&cost->point, n, sizeof *cost->point, "anchors of the cost model", err);
    if (status == ADM_OK) status = adm_alloc(&cost->grid, n_grids, sizeof *cost->grid, "grids of the cost model", err);
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        if (i == 0 || key_order(&rows[i].key, &rows[i - 1].key) != 0) {
            cost->grid[cost->n_grids] = rows[i].key;
            cost->grid[cost->n_grids].point = &cost->point[cost->n_points];
            cost->grid[cost->n_grids++].read_bytes_per_s = cost->measured.read_bytes_per_s;
        }
        adm_cost_grid *grid = &cost->grid[cost->n_grids - 1];
        if (grid->n > 0 && adm_cost_point_order(&grid->point[grid->n - 1], &rows[i].point) == 0) continue;
        cost->point[cost->n_points++] = rows[i].point;
        grid->n++;
    }
    return status;
}

/* --- Mixed lengths -------------------------------------------------------------------------------------------------- */

/* A measurement of a batch of mixed lengths: "1000,0,32768". */
typedef struct ragged {
    row row;
    double mean, longest, n;
} ragged;

static void read_lens(const char *text, ragged *r) {
    double sum = 0;
    for (char *end; *text != '\0'; text = *end == ',' ? end + 1 : end) {
        const double len = strtod(text, &end);
        if (end == text) break;
        sum += len;
        if (len > r->longest) r->longest = len;
        r->n++;
    }
    r->mean = r->n > 0 ? sum / r->n : 0;
}

/* The least-squares skew: time / (time without skew) - 1 against longest / mean - 1, through the origin. */
static void fit_skew(adm_cost *cost, const ragged *rows, size_t n) {
    double xy = 0, xx = 0;
    for (size_t i = 0; i < n; i++) {
        const ragged *r = &rows[i];
        if (r->mean <= 0 || r->longest <= r->mean) continue;
        adm_cost_question q = {r->row.key.stage,         r->row.key.variant,   r->row.key.shape,
                               r->row.key.element_bytes, r->row.key.page_size, {r->mean, r->row.point.at.budget, r->n}};
        adm_cost_answer mean, alone;
        if (adm_cost_ask(cost, &q, &mean, NULL) != ADM_OK) continue;
        q.at = (adm_cost_at){r->longest, r->row.point.at.budget, 1};
        if (adm_cost_ask(cost, &q, &alone, NULL) != ADM_OK) continue;
        const double without = adm_cost_mixed_ns(cost, mean.time.ns, alone.time.ns, r->longest, r->mean);
        const double x = r->longest / r->mean - 1;
        xy += x * (r->row.point.ns / without - 1);
        xx += x * x;
        cost->n_ragged++;
    }
    if (xx > 0 && xy > 0) cost->skew = xy / xx;
}

/* --- Whole models --------------------------------------------------------------------------------------------------- */

/* Of the run itself, and of whatever `adamas decode` measured on the same GPU; of two such measurements the later one. */
static const char whole_sql[] =
    "SELECT c.variant, instr('linear_layers_ns rest_of_step_ns token_time_ns', k.name), c.batch, c.seq_len, m.median, "
    "CASE c.policy WHEN 'dense' THEN 0 ELSE ifnull(c.budget, 0) END, ifnull(c.page_size, 0) "
    "FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) JOIN run r USING (run_id) "
    "WHERE (r.run_id = ?1 OR (r.command = 'decode' AND r.status = 'complete' AND r.gpu_name = ?2)) "
    "AND k.name IN ('linear_layers_ns', 'rest_of_step_ns', 'token_time_ns') AND m.status = 'ok' AND m.median > 0 "
    "ORDER BY k.name, c.variant, c.batch, c.seq_len, 6, 7, r.started_utc DESC, r.run_id DESC";

static bool same_whole(const adm_cost_whole *a, const adm_cost_whole *b) {
    return a->share == b->share && a->batch == b->batch && a->len == b->len && a->budget == b->budget &&
           a->page_size == b->page_size && strcmp(a->model, b->model) == 0;
}

static adm_status read_whole(adm_store *store, adm_cost *cost, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    size_t capacity = 0;
    adm_status status = adm_query_open(store, whole_sql, &query, err, "is", cost->run_id, cost->measured.name);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        const int64_t at = adm_query_int(query, 1);
        adm_cost_whole w = {.share = at == 1   ? ADM_COST_LINEAR
                                     : at < 20 ? ADM_COST_REST
                                               : ADM_COST_TOKEN,
                            .batch = adm_query_double(query, 2),
                            .len = adm_query_double(query, 3),
                            .ns = adm_query_double(query, 4),
                            .budget = (uint32_t)adm_query_int(query, 5),
                            .page_size = (uint32_t)adm_query_int(query, 6)};
        snprintf(w.model, sizeof w.model, "%s", adm_query_text(query, 0));
        if (cost->n_whole > 0 && same_whole(&cost->whole[cost->n_whole - 1], &w)) continue;
        status = append(&cost->whole, &cost->n_whole, &capacity, sizeof w, &w, err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_cost_load(adm_store *store, int64_t run_id, adm_cost *cost, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    row *rows = NULL;
    ragged *mixed = NULL;
    size_t n = 0, n_mixed = 0, capacity = 0, mixed_capacity = 0;
    *cost = (adm_cost){0};
    adm_status status = read_run(store, run_id, cost, err);
    if (status == ADM_OK) status = adm_query_open(store, rows_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        ragged r = {0};
        read_row(query, &r.row);
        if (r.row.key.stage < 0) continue;
        if (adm_query_is_null(query, 11)) status = append(&rows, &n, &capacity, sizeof r.row, &r.row, err);
        else {
            read_lens(adm_query_text(query, 11), &r);
            status = append(&mixed, &n_mixed, &mixed_capacity, sizeof r, &r, err);
        }
    }
    adm_query_close(&query);
    if (status == ADM_OK && n == 0)
        status =
            adm_fail(err, ADM_EINPUT,
                     "--calibration: run %lld '%s' has no timings of GPU stages (cold, as CUDA graphs, selection per head)",
                     (long long)run_id, cost->label);
    if (status == ADM_OK) status = make_grids(cost, rows, n, err);
    cost->device = cost->measured;
    if (status == ADM_OK) fit_skew(cost, mixed, n_mixed);
    if (status == ADM_OK) status = read_whole(store, cost, err);
    adm_free(&rows);
    adm_free(&mixed);
    if (status != ADM_OK) adm_cost_free(cost);
    return status;
}
