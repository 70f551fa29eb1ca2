/* validate_show.c: tables of errors. */
#include "analysis/serving/validate_show.h"

#include <stdio.h>

#include "analysis/output/rows.h"
#include "core/base/print.h"
#include "core/store/insert.h"

static const char *stage_name(const adm_validation_row *row) {
    return row->stage < 0 ? "all" : adm_cost_stage_name(row->stage);
}

/* What was aimed for, in percent; 0: nothing. */
static double goal_of(const adm_validation_row *row) {
    const bool step = row->stage == ADM_STAGE_STEP;
    if (row->what == ADM_HELD_INTERIOR) return step ? 4 : row->stage < 0 ? 3 : 0;
    return row->what == ADM_HELD_FRONTIER && row->stage < 0 ? 8 : 0;
}

static void print_picks(const adm_validation_picks *p) {
    adm_print("\nwith a whole length held out:\n");
    if (p->n_variants > 0)
        adm_print("  the fastest variant of the step is picked in %zu of %zu places; the worst pick is %.1f%% slower\n",
                  p->n_right_variants, p->n_variants, 100 * p->worst_variant_loss);
    if (p->n_budgets > 0)
        adm_print("  the largest budget that beats dense attention is found at %zu of %zu places, the next one at %zu\n",
                  p->n_right_budgets, p->n_budgets, p->n_near_budgets);
}

void adm_validation_print(const adm_cost *cost, const adm_cost *other, const adm_validation *v) {
    adm_print("anchors: run %lld '%s', %s, %zu timings", (long long)cost->run_id, cost->label, cost->measured.name,
              cost->n_points);
    if (other != NULL)
        adm_print("; other GPU: run %lld '%s', %s", (long long)other->run_id, other->label, other->measured.name);
    adm_print("\n\n%-10s %-10s %-10s %5s %8s %8s %8s %8s %8s   %s\n", "held out", "stage", "variant", "n", "MAPE %", "bias %",
              "p50 %", "p95 %", "max %", "goal");
    for (size_t i = 0; i < v->n; i++) {
        const adm_validation_row *r = &v->row[i];
        const double goal = goal_of(r);
        adm_print("%-10s %-10s %-10s %5zu %8.2f %+8.2f %8.2f %8.2f %8.2f", adm_held_out_name(r->what), stage_name(r),
                  r->variant, r->n, 100 * r->mape, 100 * r->bias, 100 * r->p50, 100 * r->p95, 100 * r->max);
        if (goal > 0) adm_print("   at most %g: %s", goal, 100 * r->mape <= goal ? "reached" : "missed");
        adm_print("\n");
    }
    print_picks(&v->picks);
}

json_t *adm_validation_json(const adm_cost *cost, const adm_cost *other, const adm_validation *v) {
    json_t *rows = json_array();
    for (size_t i = 0; i < v->n; i++) {
        const adm_validation_row *r = &v->row[i];
        if (json_array_append_new(rows, json_pack("{s:s, s:s, s:o, s:I, s:f, s:f, s:f, s:f, s:f}", "held_out",
                                                  adm_held_out_name(r->what), "stage", stage_name(r), "variant",
                                                  adm_rows_string(r->variant), "n", (json_int_t)r->n, "mape", r->mape, "bias",
                                                  r->bias, "p50", r->p50, "p95", r->p95, "max", r->max)) == 0)
            continue;
        json_decref(rows);
        return NULL;
    }
    const adm_validation_picks *p = &v->picks;
    return json_pack("{s:I, s:o, s:o, s:o, s:{s:I, s:I, s:f, s:I, s:I, s:I}}", "calibration_run", (json_int_t)cost->run_id,
                     "gpu", adm_rows_string(cost->measured.name), "other_gpu",
                     other != NULL ? adm_rows_string(other->measured.name) : json_null(), "rows", rows, "picks", "n_variants",
                     (json_int_t)p->n_variants, "n_right_variants", (json_int_t)p->n_right_variants, "worst_variant_loss",
                     p->worst_variant_loss, "n_budgets", (json_int_t)p->n_budgets, "n_right_budgets",
                     (json_int_t)p->n_right_budgets, "n_near_budgets", (json_int_t)p->n_near_budgets);
}

adm_status adm_validation_record(adm_store *store, int64_t run_id, const adm_cost *cost, const adm_validation *v,
                                 adm_error *err) {
    static const char *const columns[] = {"run_id",     "calibration_uuid", "held_out",  "stage",     "variant",  "n",
                                          "mape_ratio", "bias_ratio",       "p50_ratio", "p95_ratio", "max_ratio"};
    adm_insert *insert = NULL;
    adm_status status = adm_insert_open(store, "validation", columns, sizeof columns / sizeof columns[0], &insert, err);
    for (size_t i = 0; i < v->n && status == ADM_OK; i++) {
        const adm_validation_row *r = &v->row[i];
        const adm_value values[] = {
            {'i', {.i = run_id}},        {'s', {.s = cost->run_uuid}}, {'s', {.s = adm_held_out_name(r->what)}},
            {'s', {.s = stage_name(r)}}, {'s', {.s = r->variant}},     {'i', {.i = (int64_t)r->n}},
            {'d', {.d = r->mape}},       {'d', {.d = r->bias}},        {'d', {.d = r->p50}},
            {'d', {.d = r->p95}},        {'d', {.d = r->max}}};
        status = adm_insert_row(insert, values, NULL, err);
    }
    adm_insert_close(&insert);
    return status;
}
