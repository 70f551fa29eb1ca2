/* resume.c: where the unfinished profile of a shard goes on. */
#include "kernels/profile/grid/resume.h"

#include "core/store/remove.h"

static adm_status count_rows(adm_store *store, int64_t run_id, const adm_profile_case *c, int64_t *n, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(
        store,
        "SELECT count(*) FROM measurement JOIN config USING (config_id) WHERE run_id = ? AND seq_len = ? AND n_kv_heads = ? AND "
        "batch = ? AND ifnull(page_size, 0) = ? AND dtype = ? AND policy <> 'device'",
        &query, err, "iiiiis", run_id, (int64_t)c->seq_len, (int64_t)c->n_kv_heads, (int64_t)c->batch, (int64_t)c->page_size,
        adm_dtype_name(c->dtype));
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    *n = status == ADM_OK && row ? adm_query_int(query, 0) : 0;
    adm_query_close(&query);
    return status;
}

static adm_status read_limit(adm_store *store, int64_t run_id, double *bytes_per_s, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *bytes_per_s = 0;
    adm_status status = adm_query_open(store,
                                       "SELECT m.median FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ? "
                                       "AND k.name = 'read_limit_bytes_per_s' AND m.status = 'ok'",
                                       &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) *bytes_per_s = adm_query_double(query, 0);
    adm_query_close(&query);
    return status;
}

adm_status adm_profile_resume(const adm_profile_options *o, adm_store *store, int64_t run_id, adm_profile_start *start,
                              bool *has_start, adm_error *err) {
    adm_status status = ADM_OK;
    *has_start = false;
    *start = (adm_profile_start){0};
    /* Configurations by another metric look the same in the database: then everything is measured again. */
    for (size_t i = o->n_metrics == 1 ? adm_profile_n_cases(o) : 0; status == ADM_OK && i-- > 0;) {
        const adm_profile_case c = adm_profile_case_at(o, i);
        const adm_config like = {.shape = {o->n_q_heads, c.n_kv_heads, o->head_dim},
                                 .dtype = c.dtype,
                                 .seq_len = c.seq_len,
                                 .batch = c.batch,
                                 .page_size = c.page_size};
        int64_t n = 0;
        status = count_rows(store, run_id, &c, &n, err);
        if (status != ADM_OK || n == 0) continue;
        status = adm_store_remove_rows(store, run_id, &like, err);
        start->n_done = i;
        *has_start = true;
        break;
    }
    if (status == ADM_OK && *has_start) return read_limit(store, run_id, &start->read_limit, err);
    return status == ADM_OK ? adm_store_remove_rows(store, run_id, NULL, err) : status;
}
