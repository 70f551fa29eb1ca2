/* side.c: reads the processes of one side, and leaves out those whose times say nothing about the program. */
#include "analysis/regress/compare/side.h"

#include "analysis/regress/statistics/judge.h"
#include "core/base/mem.h"
#include "core/contract/probe.h"

static adm_status is_throttled(const adm_series_set *set, const adm_point *point, bool *throttled, adm_error *err) {
    adm_query *q = NULL;
    bool row = false;
    *throttled = false;
    adm_status status = adm_query_open(
        set->store,
        "SELECT EXISTS (SELECT 1 FROM sample WHERE measurement_id = ?1 AND throttle & ?2) OR EXISTS (SELECT 1 FROM "
        "measurement m JOIN metric k USING (metric_id) JOIN measurement t ON t.measurement_id = ?1 WHERE m.run_id = t.run_id "
        "AND m.config_id = t.config_id AND m.stage IS t.stage AND k.name = 'throttled_ratio' AND m.median > 0)",
        &q, err, "ii", point->measurement_id, (int64_t)ADM_THROTTLED);
    if (status == ADM_OK) status = adm_query_next(q, &row, err);
    if (status == ADM_OK && row) *throttled = adm_query_int(q, 0) != 0;
    adm_query_close(&q);
    return status;
}

/* Contended processes are left out, unless too few others remain: then all are compared, and their scatter shows. */
static bool leaves_out_contended(const adm_series *series) {
    size_t n_alone = 0;
    for (size_t i = 0; i < series->n_points; i++) n_alone += series->point[i].ok && !series->point[i].is_contended;
    return n_alone >= ADM_MIN_PROCESSES;
}

adm_status adm_compare_read_side(const adm_series_set *set, const adm_series *series, const double *scale,
                                 adm_compare_side *side, adm_error *err) {
    const bool leave_out = leaves_out_contended(series);
    *side = (adm_compare_side){0};
    adm_status status = adm_alloc(&side->process, series->n_points, sizeof *side->process, "processes", err);
    if (status == ADM_OK) status = adm_alloc(&side->sample, series->n_points, sizeof *side->sample, "processes", err);
    if (status == ADM_OK) status = adm_alloc(&side->only, series->n_points, sizeof *side->only, "processes", err);
    for (size_t i = 0; status == ADM_OK && i < series->n_points; i++) {
        const adm_point *point = &series->point[i];
        bool throttled;
        if (!point->ok || (scale != NULL && !(scale[point->run] > 0))) {
            side->n_not_ok++;
            continue;
        }
        status = is_throttled(set, point, &throttled, err);
        if (status != ADM_OK) break;
        if (throttled || (leave_out && point->is_contended)) {
            side->n_throttled++;
            continue;
        }
        double **sample = &side->sample[side->n];
        adm_process *process = &side->process[side->n];
        size_t n_out;
        status = adm_series_samples(set, point, sample, &process->n, &n_out, err);
        side->n_samples_out += n_out;
        if (status != ADM_OK) break;
        for (size_t k = 0; scale != NULL && k < process->n; k++) (*sample)[k] *= scale[point->run];
        process->sample = *sample;
        side->only[side->n] = set->run[point->run].only;
        side->has_zero |= (*sample)[0] <= 0;
        side->n++;
    }
    if (status != ADM_OK) adm_compare_free_side(side);
    return status;
}

void adm_compare_free_side(adm_compare_side *side) {
    for (size_t i = 0; i < side->n; i++) adm_free(&side->sample[i]);
    adm_free(&side->sample);
    adm_free(&side->process);
    adm_free(&side->only);
    side->n = 0;
}
