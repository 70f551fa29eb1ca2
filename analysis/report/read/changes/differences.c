/* differences.c: compares a baseline's runs with the report's. */
#include "analysis/report/read/changes/differences.h"

#include <stdio.h>
#include <string.h>

#include "analysis/output/rows.h"
#include "analysis/regress/compare/compare.h"
#include "analysis/regress/compare/export.h"
#include "core/base/mem.h"
#include "core/store/runs_find.h"

typedef struct runs {
    int64_t *ids;
    size_t n;
} runs;

/* The complete runs that started after the baseline's last. */
static adm_status find_later(adm_store *store, const runs *base, runs *out, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(
        store,
        "SELECT run_id, count(*) OVER () FROM run WHERE status = 'complete' AND label NOT LIKE 'recorded:%' AND started_utc > "
        "(SELECT started_utc FROM run WHERE run_id = ?) ORDER BY started_utc, run_id",
        &query, err, "i", base->ids[base->n - 1]);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (out->n == 0) status = adm_alloc(&out->ids, (size_t)adm_query_int(query, 1), sizeof *out->ids, "runs", err);
        if (status == ADM_OK) out->ids[out->n++] = adm_query_int(query, 0);
    }
    adm_query_close(&query);
    if (status == ADM_OK && out->n == 0)
        return adm_fail(err, ADM_EINPUT,
                        "--baseline: no complete run started after run %lld, the baseline's last; --run names the other side",
                        (long long)base->ids[base->n - 1]);
    return status;
}

static adm_status take(const uint32_t *run_ids, size_t n, runs *out, adm_error *err) {
    adm_status status = adm_alloc(&out->ids, n, sizeof *out->ids, "runs", err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) out->ids[out->n++] = run_ids[i];
    return status;
}

/* --- Rows that only one side has ------------------------------------------------------------------------------------ */

/* The entry of this side and group, new if it is not there. */
static json_t *group_entry(json_t *groups, const char *side, const char *group) {
    json_t *entry;
    size_t i;
    json_array_foreach(groups, i,
                       entry) if (strcmp(json_string_value(json_object_get(entry, "side")), side) == 0 &&
                                  strcmp(json_string_value(json_object_get(entry, "group")), group) == 0) return entry;
    json_array_append_new(groups,
                          json_pack("{s:s, s:o, s:I}", "side", side, "group", adm_rows_string(group), "n", (json_int_t)0));
    return json_array_get(groups, json_array_size(groups) - 1);
}

/* Replaces the comparison's rows by those that both sides have, and counts the others by group. */
static adm_status split_rows(const adm_comparison *c, json_t *differences, adm_error *err) {
    json_t *all = json_object_get(differences, "rows"), *both = json_array(), *groups = json_array();
    for (size_t i = 0; i < c->n_rows; i++) {
        const adm_compare_row *row = &c->row[i];
        if (row->base != NULL && row->cand != NULL) {
            if (row->verdict == ADM_VERDICT_INCONCLUSIVE && row->why[0] == '\0')
                json_object_set_new(json_array_get(all, i), "why",
                                    json_sprintf("the interval reaches beyond the margin of \u00b1%.2g%%: more runs may decide",
                                                 100 * row->margin));
            json_array_append(both, json_array_get(all, i));
            continue;
        }
        json_t *entry = group_entry(groups, row->base == NULL ? "candidate" : "baseline", adm_compare_group_of(row));
        json_object_set_new(entry, "n", json_integer(json_integer_value(json_object_get(entry, "n")) + 1));
    }
    adm_status status = adm_rows_set(differences, "rows", both, err);
    return status == ADM_OK ? adm_rows_set(differences, "only_one_side", groups, err) : status;
}

static void name_side(const char *words, const runs *r, char *out, size_t n_bytes) {
    if (r->n == 1) snprintf(out, n_bytes, "%.80s (run %lld)", words, (long long)r->ids[0]);
    else
        snprintf(out, n_bytes, "%.80s (%zu runs, %lld to %lld)", words, r->n, (long long)r->ids[0],
                 (long long)r->ids[r->n - 1]);
}

static adm_status compare(adm_store *store, const char *baseline, const runs *base, const runs *cand, bool named,
                          json_t *document, adm_error *err) {
    adm_compare_options options = ADM_COMPARE_DEFAULTS;
    adm_series_set sets[2] = {0};
    adm_comparison comparison = {0};
    adm_status status = adm_series_load(store, base->ids, base->n, NULL, &sets[0], err);
    if (status == ADM_OK) status = adm_series_load(store, cand->ids, cand->n, NULL, &sets[1], err);
    if (status == ADM_OK) status = adm_compare(&sets[0], &sets[1], &options, &comparison, err);
    if (status == ADM_OK) {
        name_side(baseline, base, comparison.subject[0], sizeof comparison.subject[0]);
        name_side(named ? "the runs shown" : "the runs since", cand, comparison.subject[1], sizeof comparison.subject[1]);
        json_t *differences = adm_compare_json(&comparison);
        status = adm_rows_set(document, "differences", differences, err);
        if (status == ADM_OK) status = split_rows(&comparison, differences, err);
    }
    adm_comparison_free(&comparison);
    adm_series_free(&sets[0]);
    adm_series_free(&sets[1]);
    return status;
}

adm_status adm_report_differences(adm_store *store, const char *database, const char *baseline, const uint32_t *run_ids,
                                  size_t n_run_ids, json_t *document, adm_error *err) {
    runs base = {0}, cand = {0};
    if (baseline == NULL) return adm_rows_set(document, "differences", json_null(), err);
    adm_status status = adm_runs_find(store, baseline, ADM_RUNS_COMPLETE, database, &base.ids, &base.n, err);
    if (status == ADM_OK) status = n_run_ids > 0 ? take(run_ids, n_run_ids, &cand, err) : find_later(store, &base, &cand, err);
    if (status == ADM_OK) status = compare(store, baseline, &base, &cand, n_run_ids > 0, document, err);
    adm_free(&base.ids);
    adm_free(&cand.ids);
    return status;
}
