/* decode.c: what a token costs in a whole model; and what the cost model says of it. */
#include "analysis/report/read/decode.h"

#include <string.h>

#include "analysis/output/rows.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A figure of the same run, model and batch, and one of the step itself. */
#define OF_BATCH(name)                                                                                                    \
    "(SELECT x.median FROM measurement x JOIN config y USING (config_id) JOIN metric z USING (metric_id) WHERE x.run_id " \
    "= m.run_id AND y.variant = c.variant AND y.batch = c.batch AND z.name = '" name "' AND x.status = 'ok')"
#define OF_STEP(name)                                                                                                  \
    "(SELECT x.median FROM measurement x JOIN metric z USING (metric_id) WHERE x.run_id = m.run_id AND x.config_id = " \
    "m.config_id AND z.name = '" name "' AND x.status = 'ok')"

/* clang-format would indent the text behind a macro. */
/* clang-format off */
/* Of each step the latest: SQLite takes the other columns from the row that holds the maximum. A prediction belongs to the very
 * measurement that it was compared with. */
static const char steps_sql[] =
    "SELECT m.run_id, r.gpu_name, r.label LIKE 'recorded:%' AS is_recorded, c.variant, c.batch, c.seq_len, c.budget,"
    " nullif(ifnull(c.page_size, 0), 0), m.n, m.median, m.p10, m.p90, m.status, m.reason,"
    " " OF_STEP("attention_layers_ns") ", " OF_BATCH("linear_layers_ns") ", " OF_STEP("rest_of_step_ns") ","
    " " OF_BATCH("linear_limit_ratio") ","
    " (SELECT d.median FROM measurement d JOIN config e USING (config_id) WHERE d.run_id = m.run_id"
    "  AND d.metric_id = m.metric_id AND d.status = 'ok' AND e.policy = 'dense' AND e.variant = c.variant"
    "  AND e.batch = c.batch AND e.seq_len = c.seq_len AND e.page_size IS c.page_size) / m.median,"
    " c.batch * 1e9 / m.median,"
    " (SELECT w.predicted_ns FROM whole_validation w WHERE w.model = c.variant AND w.batch = c.batch"
    "  AND w.seq_len = c.seq_len AND w.budget = ifnull(c.budget, 0) AND w.page_size = ifnull(c.page_size, 0)"
    "  AND w.measured_ns = m.median ORDER BY w.run_id DESC LIMIT 1),"
    " max(r.started_utc || m.run_id)"
    " FROM measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) JOIN run r USING (run_id)"
    " WHERE k.name = 'token_time_ns' AND m.source = 'gpu' AND ((?1 = 0 AND r.status = 'complete') OR r.run_id = ?1)"
    " GROUP BY r.gpu_name, is_recorded, m.config_id"
    " ORDER BY is_recorded, r.gpu_name, c.variant, c.batch, c.page_size, c.seq_len, c.budget";
/* clang-format on */

static const adm_rows_column columns[] = {{"run_id", 'i'},    {"gpu", 's'},          {"is_recorded", 'i'},
                                          {"model", 's'},     {"batch", 'i'},        {"seq_len", 'i'},
                                          {"budget", 'i'},    {"page_size", 'i'},    {"n", 'i'},
                                          {"median", 'd'},    {"p10", 'd'},          {"p90", 'd'},
                                          {"status", 's'},    {"reason", 's'},       {"attention_ns", 'd'},
                                          {"linear_ns", 'd'}, {"rest_ns", 'd'},      {"linear_limit_ratio", 'd'},
                                          {"gain", 'd'},      {"tokens_per_s", 'd'}, {"predicted_ns", 'd'}};

/* The index of the row's GPU in "decodings", which it joins if it is new. */
static adm_status find_decoding(json_t *decodings, const json_t *row, size_t *index, adm_error *err) {
    const json_t *gpu = json_object_get(row, "gpu"), *is_recorded = json_object_get(row, "is_recorded");
    for (*index = 0; *index < json_array_size(decodings); ++*index) {
        const json_t *known = json_array_get(decodings, *index);
        if (json_equal(json_object_get(known, "gpu"), gpu) && json_equal(json_object_get(known, "is_recorded"), is_recorded))
            return ADM_OK;
    }
    return adm_rows_append(decodings, json_pack("{s:O, s:O}", "gpu", gpu, "is_recorded", is_recorded), err);
}

static adm_status read_steps(adm_store *store, int64_t run_id, json_t *document, adm_error *err) {
    json_t *decodings = json_object_get(document, "decodings"), *decoded = json_object_get(document, "decoded");
    adm_query *query = NULL;
    bool there = false;
    adm_status status = adm_query_open(store, steps_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &there, err)) == ADM_OK && there) {
        size_t index = 0;
        json_t *row = adm_rows_object(query, columns, COUNT(columns));
        status = adm_rows_append(decoded, row, err);
        if (status == ADM_OK) status = find_decoding(decodings, row, &index, err);
        if (status == ADM_OK) status = adm_rows_set(row, "decoding", json_integer((json_int_t)index), err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_report_decode_read(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *document,
                                  adm_error *err) {
    adm_status status = n_run_ids == 0 ? read_steps(store, 0, document, err) : ADM_OK;
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) status = read_steps(store, run_ids[i], document, err);
    return status;
}
