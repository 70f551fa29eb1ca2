/* tuning.c: tuning sessions: what each candidate was, and how it fared. */
#include "analysis/report/read/tuning.h"

#include "analysis/output/rows.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Sessions shown; more are in the database. */
enum { MAX_TUNINGS = 4 };

static const adm_rows_column session_columns[] = {{"run_id", 'i'},   {"label", 's'},    {"started", 's'}, {"device", 's'},
                                                  {"stage", 's'},    {"seq_len", 'i'},  {"budget", 'i'},  {"q_heads", 'i'},
                                                  {"kv_heads", 'i'}, {"head_dim", 'i'}, {"dtype", 's'}};

static const char sessions_sql[] =
    "SELECT r.run_id, r.label, r.started_utc, ifnull(r.gpu_name, r.cpu_model), t.stage, c.seq_len, c.budget, c.n_q_heads,"
    " c.n_kv_heads, c.head_dim, c.dtype"
    " FROM run r JOIN candidate t USING (run_id) JOIN config c USING (config_id)"
    " WHERE t.candidate_id = (SELECT min(candidate_id) FROM candidate WHERE run_id = r.run_id AND kind <> 'row')"
    "  AND CASE ?1 WHEN 0 THEN r.run_id NOT IN (SELECT run_id FROM check_run) ELSE r.run_id = ?1 END"
    " ORDER BY r.started_utc DESC, r.run_id DESC";

static const adm_rows_column candidate_columns[] = {
    {"version", 'i'}, {"name", 's'},      {"kind", 's'},      {"hash", 's'},        {"verdict", 's'},
    {"reason", 's'},  {"build_ns", 'i'},  {"registers", 'i'}, {"spill_bytes", 'i'}, {"occupancy_ratio", 'd'},
    {"limiter", 's'}, {"median_ns", 'd'}, {"n", 'i'},         {"floor_ns", 'd'}};

#define OF_CONFIG(column, metric, source)                                                               \
    "(SELECT m." column " FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = t.run_id" \
    " AND m.config_id = t.config_id AND k.name = '" metric "' AND m.source " source " AND m.status = 'ok')"

/* clang-format would indent the text behind a macro. */
/* clang-format off */
static const char candidates_sql[] =
    "SELECT t.version, c.variant, t.kind, substr(t.xxh128, 1, 8), t.verdict, t.reason, t.build_ns, t.registers, t.spill_bytes,"
    " t.occupancy_ratio, t.limiter, " OF_CONFIG("median", "time_ns", "<> 'model'") ", "
    OF_CONFIG("n", "time_ns", "<> 'model'") ", " OF_CONFIG("median", "floor_ns", "= 'model'")
    " FROM candidate t JOIN config c USING (config_id) WHERE t.run_id = ? ORDER BY t.version";
/* clang-format on */

static adm_status choose(adm_store *store, int64_t run_id, json_t *tunings, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(store, sessions_sql, &query, err, "i", run_id);
    while (status == ADM_OK && json_array_size(tunings) < MAX_TUNINGS &&
           (status = adm_query_next(query, &there, err)) == ADM_OK && there)
        status = adm_rows_append(tunings, adm_rows_object(query, session_columns, COUNT(session_columns)), err);
    adm_query_close(&query);
    return status;
}

/* Each row has the index of its session as "tuning". */
static adm_status read_candidates(adm_store *store, json_t *tunings, size_t index, json_t *candidates, adm_error *err) {
    adm_query *query = NULL;
    bool there = false;
    const int64_t run_id = json_integer_value(json_object_get(json_array_get(tunings, index), "run_id"));
    adm_status status = adm_query_open(store, candidates_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        json_t *row = adm_rows_object(query, candidate_columns, COUNT(candidate_columns));
        if (row != NULL) json_object_set_new(row, "tuning", json_integer((json_int_t)index));
        status = adm_rows_append(candidates, row, err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_report_tuning_read(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *document,
                                  adm_error *err) {
    json_t *tunings = json_array(), *candidates = json_array();
    adm_status status = adm_rows_set(document, "tunings", tunings, err);
    if (status == ADM_OK) status = adm_rows_set(document, "candidates", candidates, err);
    else json_decref(candidates);
    if (status == ADM_OK && n_run_ids == 0) status = choose(store, 0, tunings, err);
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) status = choose(store, run_ids[i], tunings, err);
    for (size_t i = 0; i < json_array_size(tunings) && status == ADM_OK; i++)
        status = read_candidates(store, tunings, i, candidates, err);
    return status;
}
