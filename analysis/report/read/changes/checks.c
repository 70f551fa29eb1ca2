/* checks.c: reads what checks decided. */
#include "analysis/report/read/changes/checks.h"

#include "analysis/output/rows.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const adm_rows_column check_columns[] = {{"check", 's'},          {"made_utc", 's'},        {"baseline", 's'},
                                                {"candidate", 's'},      {"baseline_commit", 's'}, {"candidate_commit", 's'},
                                                {"verdict", 's'},        {"failure", 's'},         {"n_regressed", 'i'},
                                                {"n_inconclusive", 'i'}, {"n_improved", 'i'},      {"n_equivalent", 'i'}};

static const char checks_sql[] =
    "SELECT check_uuid, made_utc, baseline, candidate, baseline_commit, candidate_commit, CASE exit_code WHEN 0 THEN 'passed'"
    " WHEN 1 THEN 'regressed' WHEN 3 THEN 'inconclusive' ELSE 'crashed' END, failure, n_regressed, n_inconclusive, n_improved,"
    " n_equivalent FROM check_result ORDER BY made_utc DESC, check_result_id DESC";

static const adm_rows_column row_columns[] = {
    {"check", 's'},      {"verdict", 's'},     {"source", 's'},      {"stage", 's'},     {"policy", 's'},
    {"variant", 's'},    {"seq_len", 'i'},     {"budget", 'i'},      {"metric", 's'},    {"unit", 's'},
    {"baseline", 'd'},   {"candidate", 'd'},   {"shift_ratio", 'd'}, {"low_ratio", 'd'}, {"high_ratio", 'd'},
    {"n_baseline", 'i'}, {"n_candidate", 'i'}, {"why", 's'}};

/* Regressed first, then what is open, then what improved. */
static const char rows_sql[] =
    "SELECT k.check_uuid, r.verdict, r.source, r.stage, c.policy, c.variant, c.seq_len, c.budget, m.name, m.unit, r.baseline,"
    " r.candidate, r.shift_ratio, r.low_ratio, r.high_ratio, r.n_baseline, r.n_candidate, r.why FROM check_row r"
    " JOIN check_result k USING (check_result_id) JOIN config c USING (config_id) JOIN metric m USING (metric_id)"
    " WHERE r.verdict <> 'equivalent' ORDER BY k.made_utc DESC, k.check_result_id DESC,"
    " CASE r.verdict WHEN 'regressed' THEN 0 WHEN 'inconclusive' THEN 1 ELSE 2 END, r.check_row_id";

static adm_status read_list(adm_store *store, json_t *document, const char *key, const char *sql,
                            const adm_rows_column *columns, size_t n_columns, adm_error *err) {
    adm_query *query = NULL;
    adm_status status = adm_rows_set(document, key, json_array(), err);
    if (status == ADM_OK) status = adm_query_open(store, sql, &query, err, "");
    return status == ADM_OK ? adm_rows_read(&query, columns, n_columns, -1, json_object_get(document, key), err) : status;
}

adm_status adm_report_checks(adm_store *store, json_t *document, adm_error *err) {
    adm_status status = read_list(store, document, "checks", checks_sql, check_columns, COUNT(check_columns), err);
    return status == ADM_OK ? read_list(store, document, "check_rows", rows_sql, row_columns, COUNT(row_columns), err) : status;
}
