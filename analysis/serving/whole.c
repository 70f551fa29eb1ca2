/* whole.c: predicts measured steps. */
#include "analysis/serving/whole.h"

#include <stdio.h>

#include "analysis/output/rows.h"
#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/store/insert.h"

static adm_status predict(const adm_cost *cost, const adm_model *model, double compute_share, const adm_cost_whole *w,
                          double *ns, adm_error *err) {
    adm_plan plan;
    adm_step_time *time;
    adm_cost others = *cost; /* that know nothing of this step but its matrix products */
    others.held_out = w;
    adm_plan_uniform(model, w->budget, ADM_DENSE_LAYERS, &plan);
    const adm_step_options options = {
        .model = model, .plan = &plan, .page_size = w->page_size, .compute_share = compute_share, .one_rank = true};
    adm_status status = adm_step_time_create(&others, &options, &time, err);
    if (status != ADM_OK) return status;
    const adm_step step = {.n_decode = (uint32_t)w->batch,
                           .decode_tokens = (uint64_t)(w->batch * w->len),
                           .longest = (uint64_t)w->len,
                           .n_sampled = (uint32_t)w->batch};
    *ns = (double)adm_step_time_of(time, &step);
    adm_step_time_free(&time);
    return ADM_OK;
}

adm_status adm_whole_compare(const adm_cost *cost, double compute_share, adm_whole_row **rows, size_t *n, adm_error *err) {
    adm_status status = adm_alloc(rows, cost->n_whole, sizeof **rows, "steps of whole models", err);
    *n = 0;
    for (size_t i = 0; i < cost->n_whole && status == ADM_OK; i++) {
        const adm_cost_whole *w = &cost->whole[i];
        const adm_model *model = adm_model_find(w->model);
        if (w->share != ADM_COST_TOKEN || model == NULL || w->batch < 1 || w->batch > 2048) continue;
        adm_whole_row *row = &(*rows)[(*n)++];
        row->measured = w;
        status = predict(cost, model, compute_share, w, &row->predicted_ns, err);
    }
    if (status != ADM_OK) adm_free(rows);
    return status;
}

adm_status adm_whole_record(adm_store *store, int64_t run_id, const adm_cost *cost, const adm_whole_row *rows, size_t n,
                            adm_error *err) {
    static const char *const columns[] = {"run_id", "calibration_uuid", "model",       "batch",       "seq_len",
                                          "budget", "page_size",        "measured_ns", "predicted_ns"};
    adm_insert *insert = NULL;
    adm_status status = adm_insert_open(store, "whole_validation", columns, sizeof columns / sizeof columns[0], &insert, err);
    for (size_t i = 0; i < n && status == ADM_OK; i++) {
        const adm_cost_whole *w = rows[i].measured;
        const adm_value values[] = {{'i', {.i = run_id}},
                                    {'s', {.s = cost->run_uuid}},
                                    {'s', {.s = w->model}},
                                    {'i', {.i = (int64_t)w->batch}},
                                    {'i', {.i = (int64_t)w->len}},
                                    {'i', {.i = w->budget}},
                                    {'i', {.i = w->page_size}},
                                    {'d', {.d = w->ns}},
                                    {'d', {.d = rows[i].predicted_ns}}};
        status = adm_insert_row(insert, values, NULL, err);
    }
    adm_insert_close(&insert);
    return status;
}

void adm_whole_print(const adm_whole_row *rows, size_t n) {
    double sum = 0;
    if (n == 0) {
        adm_print("\nno decode step of a whole model is in the calibration run (metric token_time_ns), so none is compared\n");
        return;
    }
    adm_print("\n%-16s %8s %6s %8s %12s %12s %8s\n", "whole model", "budget", "batch", "tokens", "measured us", "predicted us",
              "error %");
    for (size_t i = 0; i < n; i++) {
        const adm_cost_whole *w = rows[i].measured;
        const double error = rows[i].predicted_ns / w->ns - 1;
        char budget[16] = "dense";
        if (w->budget > 0) snprintf(budget, sizeof budget, "%u", w->budget);
        adm_print("%-16s %8s %6.0f %8.0f %12.1f %12.1f %+8.2f\n", w->model, budget, w->batch, w->len, w->ns / 1e3,
                  rows[i].predicted_ns / 1e3, 100 * error);
        sum += error < 0 ? -error : error;
    }
    adm_print("mean absolute error %.2f%% over %zu steps; the goal is 5%%\n", 100 * sum / (double)n, n);
}

json_t *adm_whole_json(const adm_whole_row *rows, size_t n) {
    json_t *all = json_array();
    for (size_t i = 0; i < n; i++) {
        const adm_cost_whole *w = rows[i].measured;
        json_t *row = json_pack("{s:o, s:i, s:f, s:f, s:f, s:f}", "model", adm_rows_string(w->model), "budget", (int)w->budget,
                                "batch", w->batch, "len", w->len, "measured_ns", w->ns, "predicted_ns", rows[i].predicted_ns);
        if (json_array_append_new(all, row) == 0) continue;
        json_decref(all);
        return NULL;
    }
    return all;
}
