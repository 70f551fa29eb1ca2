/* print.c: tables and documents of decode steps. */
#include "kernels/decode/print.h"

#include <stdio.h>

#include "analysis/output/rows.h"
#include "core/base/print.h"
#include "core/cli/command.h"

static const double GIB = 0x1p30;

/* --- The plan ------------------------------------------------------------------------------------------------------- */

static json_t *plan_as_json(const adm_decode_plan *p, uint32_t batch, uint32_t capacity) {
    return json_pack("{s:i, s:i, s:f, s:f, s:f, s:f, s:f}", "batch", (int)batch, "seq_len", (int)capacity, "bytes",
                     (double)p->bytes, "weight_bytes", (double)p->weight_bytes, "cache_bytes", (double)p->cache_bytes,
                     "activation_bytes", (double)(p->activation_bytes + p->workspace_bytes), "linear_bytes", p->linear_bytes);
}

static void print_plan_rows(const adm_decode_job *job, const adm_decode_setup *setup, const adm_decode_plan *p) {
    adm_print("%5u %8u %8s %9.2f %9.2f %9.2f %12.2f %12.2f\n", setup->batch, setup->capacity, "dense", (double)p->bytes / GIB,
              (double)p->weight_bytes / GIB, (double)p->cache_bytes / GIB, p->linear_bytes / 1e9,
              adm_decode_attention_bytes(setup, setup->capacity, 0) / 1e9);
    for (size_t i = 0; i < job->n_budgets; i++)
        adm_print("%5s %8s %8u %9s %9s %9s %12.2f %12.2f\n", "", "", job->budgets[i], "", "", "", p->linear_bytes / 1e9,
                  adm_decode_attention_bytes(setup, setup->capacity, job->budgets[i]) / 1e9);
}

adm_status adm_decode_print_plan(const adm_decode_job *job, const adm_device_info *device, bool as_json, adm_error *err) {
    const adm_model *m = &job->setup.model;
    json_t *rows = json_array();
    adm_status status = ADM_OK;
    if (!as_json) {
        adm_print("%s: %u layers, %u query and %u KV heads of %u, hidden %u, F16", m->name, m->n_layers, m->shape.n_q_heads,
                  m->shape.n_kv_heads, m->shape.head_dim, m->hidden);
        if (m->n_ranks > 1) adm_print("; one rank of %u", m->n_ranks);
        if (device != NULL) adm_print("; %s has %.1f GiB", device->name, (double)device->memory_bytes / GIB);
        adm_print("\n%5s %8s %8s %9s %9s %9s %12s %12s\n", "batch", "tokens", "budget", "GiB", "weights", "K,V,codes",
                  "linear GB", "attention GB");
    }
    for (size_t b = 0; b < job->n_batches && status == ADM_OK; b++)
        for (size_t l = 0; l < job->n_seq_lens && status == ADM_OK; l++) {
            adm_decode_plan plan;
            adm_decode_setup setup = job->setup;
            setup.batch = job->batches[b];
            setup.capacity = job->seq_lens[l];
            setup.max_budget = job->n_budgets > 0 ? job->budgets[job->n_budgets - 1] : 0;
            status = adm_decode_plan_make(&setup, &plan, err);
            if (status == ADM_OK && as_json) json_array_append_new(rows, plan_as_json(&plan, setup.batch, setup.capacity));
            else if (status == ADM_OK) print_plan_rows(job, &setup, &plan);
        }
    if (status == ADM_OK && as_json)
        return adm_print_json(json_pack("{s:o, s:o}", "model", adm_rows_string(m->name), "plans", rows), err);
    json_decref(rows);
    if (status == ADM_OK) adm_print("A step reads the columns on the right at least; nothing was run.\n");
    return status;
}

/* --- Results -------------------------------------------------------------------------------------------------------- */

/* The dense step that a row compares with; NULL: not measured. */
static const adm_decode_row *dense_of(const adm_decode_result *r, const adm_decode_row *row) {
    for (size_t i = 0; i < r->n; i++)
        if (r->row[i].budget == 0 && r->row[i].batch == row->batch && r->row[i].seq_len == row->seq_len &&
            r->row[i].reason[0] == '\0')
            return &r->row[i];
    return NULL;
}

static void print_row(const adm_decode_result *r, const adm_decode_row *row) {
    char budget[16] = "dense", gain[16] = "";
    const adm_decode_row *dense = dense_of(r, row);
    if (row->budget > 0) snprintf(budget, sizeof budget, "%u", row->budget);
    if (row->reason[0] != '\0') {
        adm_print("%5u %8u %8s  not measured: %s\n", row->batch, row->seq_len, budget, row->reason);
        return;
    }
    if (row->budget > 0 && dense != NULL) snprintf(gain, sizeof gain, "%.2f", dense->token_ns / row->token_ns);
    adm_print("%5u %8u %8s %10.1f %6.2f %10.1f %10.1f %8.1f %8.1f %10.1f %7s  %s, %s\n", row->batch, row->seq_len, budget,
              row->token_ns / 1e3, 100 * row->token_ci, row->attention_ns / 1e3, row->linear_ns / 1e3, row->rest_ns / 1e3,
              row->others_ns / 1e3, row->batch / row->token_ns * 1e9, gain, row->step, row->linear);
}

static void print_shares(const adm_decode_result *r) {
    uint32_t batch = 0;
    for (size_t i = 0; i < r->n && r->read_bytes_per_s > 0; i++) {
        const adm_decode_row *row = &r->row[i];
        if (row->reason[0] != '\0' || row->batch == batch) continue;
        batch = row->batch;
        adm_print("matrix products at batch %u (%s): %.2f GB in %.1f us, %.1f%% of the read limit of %.2f TB/s\n", batch,
                  row->linear, row->linear_bytes / 1e9, row->linear_ns / 1e3,
                  100 * row->linear_bytes / row->linear_ns * 1e9 / r->read_bytes_per_s, r->read_bytes_per_s / 1e12);
    }
}

void adm_decode_print(const adm_decode_job *job, const adm_decode_result *r) {
    if (r->followed.n > 0)
        adm_print("%s: the token that the forward pass predicts at %u of %u positions\n", job->setup.model.name,
                  r->followed.n_same, r->followed.n);
    if (r->n_checks > 0)
        adm_print("checked against the host on %u small steps: q, k, v within %.1e, attention %.1e, logits %.1e; %u selections "
                  "equal\n",
                  r->n_checks, r->errors.rows, r->errors.attention, r->errors.logits, r->errors.n_selections);
    if (r->n == 0) return;
    adm_print("\n%s, one decode step, us\n%5s %8s %8s %10s %6s %10s %10s %8s %8s %10s %7s\n", job->setup.model.name, "batch",
              "tokens", "budget", "token", "+- %", "attention", "linear", "rest", "others", "tokens/s", "gain");
    for (size_t i = 0; i < r->n; i++) print_row(r, &r->row[i]);
    print_shares(r);
    if (r->cublas[0] != '\0') adm_print("cuBLAS %s\n", r->cublas);
    if (r->untraced[0] != '\0') adm_print("not traced: %s\n", r->untraced);
}

static json_t *row_as_json(const adm_decode_row *row) {
    json_t *budget = row->budget > 0 ? json_integer(row->budget) : json_null();
    if (row->reason[0] != '\0')
        return json_pack("{s:i, s:i, s:o, s:s, s:o}", "batch", (int)row->batch, "seq_len", (int)row->seq_len, "budget", budget,
                         "status", "skipped", "reason", adm_rows_string(row->reason));
    return json_pack("{s:i, s:i, s:o, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:s}", "batch", (int)row->batch, "seq_len",
                     (int)row->seq_len, "budget", budget, "status", "ok", "token_ns", row->token_ns, "token_ci_ratio",
                     row->token_ci, "attention_ns", row->attention_ns, "linear_ns", row->linear_ns, "rest_ns", row->rest_ns,
                     "others_ns", row->others_ns, "step", row->step, "linear", row->linear);
}

json_t *adm_decode_json(const adm_decode_job *job, const adm_decode_result *r, int64_t run_id) {
    json_t *rows = json_array();
    for (size_t i = 0; i < r->n; i++)
        if (json_array_append_new(rows, row_as_json(&r->row[i])) != 0) {
            json_decref(rows);
            return NULL;
        }
    return json_pack("{s:I, s:o, s:f, s:{s:i, s:f, s:f, s:f, s:i}, s:{s:i, s:i}, s:o}", "run_id", (json_int_t)run_id, "model",
                     adm_rows_string(job->setup.model.name), "read_bytes_per_s", r->read_bytes_per_s, "checks", "n",
                     (int)r->n_checks, "rows", r->errors.rows, "attention", r->errors.attention, "logits", r->errors.logits,
                     "n_selections", (int)r->errors.n_selections, "followed", "n", (int)r->followed.n, "n_same",
                     (int)r->followed.n_same, "steps", rows);
}
