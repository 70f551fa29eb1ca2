/* record.c: stores the verdicts of a check. */
#include "analysis/regress/compare/record.h"

#include <math.h>
#include <string.h>

#include "core/store/track.h"

/* The commit that all runs of a side are of; "" if there is none. */
static const char *commit_of(const adm_series_set *set) {
    for (size_t i = 1; i < set->n_runs; i++)
        if (strcmp(set->run[i].commit, set->run[0].commit) != 0) return "";
    return set->n_runs > 0 ? set->run[0].commit : "";
}

static adm_status record_row(const adm_compare_row *row, int64_t check_result_id, adm_store *store, adm_error *err) {
    const bool tested = row->figure == ADM_FIGURE_TIME && !isnan(row->p_adjusted);
    const adm_series *s = row->shown;
    const adm_check_row stored = {.check_result_id = check_result_id,
                                  .series = {s->config->id, s->metric->id, s->source, s->stage},
                                  .verdict = adm_verdict_name(row->verdict),
                                  .why = row->why,
                                  .baseline = row->base_value,
                                  .candidate = row->cand_value,
                                  .shift_ratio = tested                 ? expm1(row->shift.shift)
                                                 : row->base_value != 0 ? row->cand_value / row->base_value - 1
                                                                        : NAN,
                                  .low_ratio = tested && isfinite(row->shift.low) ? expm1(row->shift.low) : NAN,
                                  .high_ratio = tested ? expm1(row->shift.high) : NAN,
                                  .p_adjusted = row->p_adjusted,
                                  .margin_ratio = row->margin,
                                  .n_baseline = row->n_base,
                                  .n_candidate = row->n_cand};
    return adm_store_check_row(store, &stored, err);
}

adm_status adm_comparison_record(const adm_comparison *c, const adm_series_set *base, const adm_series_set *cand,
                                 adm_store *store, adm_error *err) {
    const bool failed = c->failure[0] != '\0';
    int64_t id = 0;
    const adm_check_result result = {.check_uuid = c->check_uuid,
                                     .baseline = c->subject[0],
                                     .candidate = c->subject[1],
                                     .baseline_commit = commit_of(base),
                                     .candidate_commit = commit_of(cand),
                                     .exit_code = failed ? 4 : adm_comparison_exit_code(c),
                                     .failure = failed ? c->failure : NULL,
                                     .n_regressed = c->n_verdicts[ADM_VERDICT_REGRESSED],
                                     .n_inconclusive = c->n_verdicts[ADM_VERDICT_INCONCLUSIVE],
                                     .n_improved = c->n_verdicts[ADM_VERDICT_IMPROVED],
                                     .n_equivalent = c->n_verdicts[ADM_VERDICT_EQUIVALENT]};
    adm_status status = adm_store_check_result(store, &result, &id, err);
    for (size_t i = 0; status == ADM_OK && i < c->n_rows; i++) status = record_row(&c->row[i], id, store, err);
    return status == ADM_OK ? adm_store_flush(store, err) : status;
}
