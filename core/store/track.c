/* track.c: writes the rows of regression tracking. */
#include "core/store/track.h"

#include <math.h>

#include "core/system/clock.h"
#include "core/store/row.h"

static void put_stage(adm_row *row, const char *stage) {
    if (stage == NULL || stage[0] == '\0') adm_row_null(row);
    else adm_row_text(row, stage);
}

static void put_series(adm_row *row, const adm_series_id *series) {
    adm_row_int(row, series->config_id);
    adm_row_text(row, series->source);
    put_stage(row, series->stage);
    adm_row_int(row, series->metric_id);
}

adm_status adm_store_check_run(adm_store *store, const char *run_uuid, const char *check_uuid, const char *side,
                               int64_t position, const char *subject, adm_error *err) {
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_CHECK_RUN, err);
    if (status != ADM_OK) return status;
    adm_row_text(&row, run_uuid);
    adm_row_text(&row, check_uuid);
    adm_row_text(&row, side);
    adm_row_int(&row, position);
    adm_row_text(&row, subject);
    status = adm_row_finish(&row, "recording a side of a check", err);
    if (status == ADM_OK && sqlite3_changes(store->db) != 1) {
        adm_store_rollback(store);
        status = adm_fail(err, ADM_EINTERNAL, "%s: there is no run %s to take into a check", store->path, run_uuid);
    }
    return status;
}

adm_status adm_store_check_result(adm_store *store, const adm_check_result *r, int64_t *check_result_id, adm_error *err) {
    char now[25];
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_CHECK_RESULT, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    adm_row_text(&row, r->check_uuid);
    adm_row_text(&row, now);
    adm_row_text(&row, r->baseline);
    adm_row_text(&row, r->candidate);
    adm_row_text(&row, r->baseline_commit);
    adm_row_text(&row, r->candidate_commit);
    adm_row_int(&row, r->exit_code);
    adm_row_text(&row, r->failure);
    adm_row_int(&row, (int64_t)(r->n_regressed + r->n_inconclusive + r->n_improved + r->n_equivalent));
    adm_row_int(&row, (int64_t)r->n_regressed);
    adm_row_int(&row, (int64_t)r->n_inconclusive);
    adm_row_int(&row, (int64_t)r->n_improved);
    adm_row_int(&row, (int64_t)r->n_equivalent);
    status = adm_row_finish(&row, "recording a check", err);
    if (status == ADM_OK) *check_result_id = adm_row_new_id(store);
    return status;
}

static void put_number(adm_row *row, double value) {
    if (isfinite(value)) adm_row_real(row, value);
    else adm_row_null(row);
}

adm_status adm_store_check_row(adm_store *store, const adm_check_row *r, adm_error *err) {
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_CHECK_ROW, err);
    if (status != ADM_OK) return status;
    const double numbers[] = {r->baseline, r->candidate, r->shift_ratio, r->low_ratio, r->high_ratio, r->p_adjusted};
    adm_row_int(&row, r->check_result_id);
    put_series(&row, &r->series);
    adm_row_text(&row, r->verdict);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) put_number(&row, numbers[i]);
    adm_row_real(&row, r->margin_ratio);
    adm_row_int(&row, (int64_t)r->n_baseline);
    adm_row_int(&row, (int64_t)r->n_candidate);
    adm_row_text(&row, r->why);
    return adm_row_finish(&row, "recording a row of a check", err);
}

adm_status adm_store_margin(adm_store *store, const adm_series_id *series, const adm_machine_id *machine, double margin_ratio,
                            int64_t n_processes, adm_error *err) {
    char now[25];
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_MARGIN, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    put_series(&row, series);
    adm_row_text(&row, machine->host_name);
    adm_row_text(&row, machine->cpu_model);
    put_stage(&row, machine->gpu_name);
    adm_row_real(&row, margin_ratio);
    adm_row_int(&row, n_processes);
    adm_row_text(&row, now);
    return adm_row_finish(&row, "recording a margin", err);
}

adm_status adm_store_acknowledge(adm_store *store, const adm_series_id *series, const char *run_uuid, const char *verdict,
                                 const char *who, const char *why, adm_error *err) {
    char now[25];
    adm_row row;
    adm_status status = adm_row_start(&row, store, ADM_SQL_ADD_ACKNOWLEDGEMENT, err);
    if (status != ADM_OK) return status;
    adm_clock_utc(now);
    put_series(&row, series);
    adm_row_text(&row, run_uuid);
    adm_row_text(&row, verdict);
    adm_row_text(&row, who);
    adm_row_text(&row, why);
    adm_row_text(&row, now);
    return adm_row_finish(&row, "recording an acknowledgement", err);
}
