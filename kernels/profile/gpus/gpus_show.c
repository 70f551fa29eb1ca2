/* gpus_show.c: what `adamas profile --gpus` says of each GPU. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/stats/stats.h"
#include "core/store/store.h"
#include "kernels/profile/gpus/gpus.h"

enum { MAX_PAIRS = 8192 };

/* Times of one run against another's, row by row, as shares. */
typedef struct comparison {
    size_t n, n_steps;
    double median, min, max, step_median;
} comparison;

typedef struct gpu_figures {
    int64_t together_id, alone_id; /* runs; 0: there is none */
    double read_bytes_per_s, sm_hz, memory_hz, elapsed_s;
    comparison first, alone; /* together against the first GPU, and against this GPU alone */
} gpu_figures;

static adm_status find_run(adm_store *store, const char *together, const char *uuid, int64_t n, int64_t *run_id,
                           double *elapsed_s, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *run_id = 0;
    adm_status status =
        adm_query_open(store,
                       "SELECT run_id, ifnull(elapsed_ns, 0) FROM run WHERE together_uuid = ? AND gpu_uuid = ? AND "
                       "n_together = ?",
                       &query, err, "ssi", together, uuid, n);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) {
        *run_id = adm_query_int(query, 0);
        *elapsed_s = adm_query_double(query, 1) * 1e-9;
    }
    adm_query_close(&query);
    return status;
}

/* The median over a run's rows of a metric: a clock is a row per unit. */
static adm_status read_metric(adm_store *store, int64_t run_id, const char *metric, double *median, adm_error *err) {
    double values[MAX_PAIRS];
    size_t n = 0;
    adm_query *query = NULL;
    bool row = false;
    *median = 0;
    adm_status status =
        adm_query_open(store,
                       "SELECT m.median FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ? AND "
                       "k.name = ? AND m.status = 'ok'",
                       &query, err, "is", run_id, metric);
    while (status == ADM_OK && n < MAX_PAIRS && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        values[n++] = adm_query_double(query, 0);
    adm_query_close(&query);
    if (status == ADM_OK && n > 0) *median = adm_distribution_of(values, n).median;
    return status;
}

static adm_status compare(adm_store *store, int64_t run_id, int64_t base_id, comparison *c, adm_error *err) {
    double values[MAX_PAIRS], steps[MAX_PAIRS];
    adm_query *query = NULL;
    bool row = false;
    *c = (comparison){0};
    if (run_id == 0 || base_id == 0 || run_id == base_id) return ADM_OK;
    adm_status status = adm_query_open(
        store,
        "SELECT a.median / b.median - 1, a.stage = 'step' FROM measurement a JOIN measurement b ON b.run_id = ?2 AND "
        "b.config_id = "
        "a.config_id AND b.source = a.source AND b.stage = a.stage AND b.metric_id = a.metric_id AND b.status = 'ok' "
        "WHERE a.run_id "
        "= ?1 AND a.status = 'ok' AND a.metric_id = (SELECT metric_id FROM metric WHERE name = 'time_ns')",
        &query, err, "ii", run_id, base_id);
    while (status == ADM_OK && c->n < MAX_PAIRS && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        values[c->n++] = adm_query_double(query, 0);
        if (adm_query_int(query, 1)) steps[c->n_steps++] = adm_query_double(query, 0);
    }
    adm_query_close(&query);
    if (status == ADM_OK && c->n > 0) {
        const adm_distribution d = adm_distribution_of(values, c->n);
        c->median = d.median;
        c->min = d.min;
        c->max = d.max;
        if (c->n_steps > 0) c->step_median = adm_distribution_of(steps, c->n_steps).median;
    }
    return status;
}

static adm_status read_gpu(adm_store *store, const adm_gpus *g, int i, int64_t first_id, gpu_figures *f, adm_error *err) {
    double unused;
    *f = (gpu_figures){0};
    adm_status status = find_run(store, g->together, g->device[i].uuid, g->n, &f->together_id, &f->elapsed_s, err);
    if (status == ADM_OK && g->n > 1) status = find_run(store, g->together, g->device[i].uuid, 1, &f->alone_id, &unused, err);
    if (status == ADM_OK) status = read_metric(store, f->together_id, "read_limit_bytes_per_s", &f->read_bytes_per_s, err);
    if (status == ADM_OK) status = read_metric(store, f->together_id, "sm_clock_hz", &f->sm_hz, err);
    if (status == ADM_OK) status = read_metric(store, f->together_id, "memory_clock_hz", &f->memory_hz, err);
    if (status == ADM_OK) status = compare(store, f->together_id, first_id, &f->first, err);
    return status == ADM_OK ? compare(store, f->together_id, f->alone_id, &f->alone, err) : status;
}

static void print_comparison(const char *against, const comparison *c) {
    if (c->n == 0) return;
    adm_print("       %s: %+.2f%% in the median of %zu times (%+.1f to %+.1f%%)", against, 100 * c->median, c->n, 100 * c->min,
              100 * c->max);
    if (c->n_steps > 0) adm_print(", steps %+.2f%% (n %zu)", 100 * c->step_median, c->n_steps);
    adm_print("\n");
}

static void print_gpu(const adm_gpus *g, int i, const gpu_figures *f) {
    adm_print("GPU %-2d %s, run %" PRId64 ", %.1f s: read limit %.3f TB/s", g->number[i], g->device[i].uuid, f->together_id,
              f->elapsed_s, f->read_bytes_per_s * 1e-12);
    if (f->sm_hz > 0) adm_print(", SM clock %.0f MHz, memory clock %.0f MHz", f->sm_hz * 1e-6, f->memory_hz * 1e-6);
    adm_print("\n");
    print_comparison("against the first GPU", &f->first);
    print_comparison("together against alone", &f->alone);
}

static json_t *comparison_json(const comparison *c) {
    if (c->n == 0) return json_null();
    return json_pack("{s:I, s:f, s:f, s:f, s:I, s:o}", "n", (json_int_t)c->n, "median_ratio", c->median, "min_ratio", c->min,
                     "max_ratio", c->max, "n_steps", (json_int_t)c->n_steps, "step_median_ratio",
                     c->n_steps > 0 ? json_real(c->step_median) : json_null());
}

static json_t *gpu_json(const adm_gpus *g, int i, const gpu_figures *f) {
    return json_pack("{s:i, s:s, s:s, s:I, s:o, s:f, s:f, s:o, s:o, s:o, s:o}", "gpu", g->number[i], "uuid", g->device[i].uuid,
                     "name", g->device[i].name, "run_id", (json_int_t)f->together_id, "alone_run_id",
                     f->alone_id > 0 ? json_integer((json_int_t)f->alone_id) : json_null(), "elapsed_s", f->elapsed_s,
                     "read_limit_bytes_per_s", f->read_bytes_per_s, "sm_clock_hz",
                     f->sm_hz > 0 ? json_real(f->sm_hz) : json_null(), "memory_clock_hz",
                     f->memory_hz > 0 ? json_real(f->memory_hz) : json_null(), "against_first", comparison_json(&f->first),
                     "together_against_alone", comparison_json(&f->alone));
}

/* A split grid has no times to compare: each GPU measured others. */
static adm_status show_split(const adm_gpus *g, adm_store *store, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status =
        adm_query_open(store,
                       "SELECT r.run_id, s.shard, s.gpu_uuid, s.n_rows, s.elapsed_ns * 1e-9 FROM run r JOIN shard s "
                       "USING (run_id) WHERE r.together_uuid = ? ORDER BY 2",
                       &query, err, "s", g->together);
    json_t *list = json_array();
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (!g->common->json)
            adm_print("shard %" PRId64 " on %s: %" PRId64 " rows in %.1f s, in run %" PRId64 "\n", adm_query_int(query, 1),
                      adm_query_text(query, 2), adm_query_int(query, 3), adm_query_double(query, 4), adm_query_int(query, 0));
        json_array_append_new(list,
                              json_pack("{s:I, s:I, s:s, s:I, s:f}", "run_id", (json_int_t)adm_query_int(query, 0), "shard",
                                        (json_int_t)adm_query_int(query, 1), "uuid", adm_query_text(query, 2), "n_rows",
                                        (json_int_t)adm_query_int(query, 3), "elapsed_s", adm_query_double(query, 4)));
    }
    adm_query_close(&query);
    if (status == ADM_OK && g->common->json)
        return adm_print_json(json_pack("{s:s, s:o}", "together", g->together, "shards", list), err);
    json_decref(list);
    return status;
}

adm_status adm_gpus_show(const adm_gpus *g, adm_store *store, adm_error *err) {
    gpu_figures *f = NULL;
    if (g->split) return show_split(g, store, err);
    adm_status status = adm_alloc(&f, (size_t)g->n, sizeof *f, "figures of GPUs", err);
    json_t *list = json_array();
    for (int i = 0; status == ADM_OK && i < g->n; i++) {
        status = read_gpu(store, g, i, f[0].together_id, &f[i], err);
        if (status != ADM_OK) break;
        if (g->common->json) json_array_append_new(list, gpu_json(g, i, &f[i]));
        else print_gpu(g, i, &f[i]);
    }
    adm_free(&f);
    if (status == ADM_OK && g->common->json)
        return adm_print_json(json_pack("{s:s, s:o}", "together", g->together, "gpus", list), err);
    json_decref(list);
    return status == ADM_OK ? adm_finish_output(err) : status;
}
