/* quality.c: finds a replay, and its figures. */
#include "analysis/serving/quality.h"

#include <stdio.h>

adm_status adm_quality_source_find(adm_store *store, int64_t run_id, adm_quality_source *source, adm_error *err) {
    static const char sql[] =
        "SELECT r.run_uuid, t.xxh128, t.name, t.model, c.variant, r.run_id, c.seq_len FROM run r JOIN measurement m "
        "USING (run_id) "
        "JOIN config c USING (config_id) JOIN trace t USING (trace_id) JOIN metric k USING (metric_id) "
        "WHERE r.command = 'replay' AND (r.run_id = ?1 OR (?1 = 0 AND r.status = 'complete')) AND c.policy = 'adamas' "
        "AND k.name = 'output_rel_l2' AND m.stage IS NULL AND m.layer IS NULL AND m.status = 'ok' "
        "ORDER BY r.started_utc DESC, r.run_id DESC, t.kind = 'real' DESC, c.seq_len DESC, c.variant = 'l1 calibrated' DESC, "
        "c.variant LIMIT 1";
    adm_query *query = NULL;
    bool there = false;
    *source = (adm_quality_source){0};
    adm_status status = adm_query_open(store, sql, &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &there, err);
    if (status == ADM_OK && there) {
        snprintf(source->run_uuid, sizeof source->run_uuid, "%s", adm_query_text(query, 0));
        snprintf(source->trace_xxh128, sizeof source->trace_xxh128, "%s", adm_query_text(query, 1));
        snprintf(source->trace, sizeof source->trace, "%s", adm_query_text(query, 2));
        snprintf(source->model, sizeof source->model, "%s", adm_query_text(query, 3));
        snprintf(source->variant, sizeof source->variant, "%s", adm_query_text(query, 4));
        source->run_id = adm_query_int(query, 5);
        source->seq_len = (uint32_t)adm_query_int(query, 6);
    }
    adm_query_close(&query);
    if (status == ADM_OK && !there && run_id > 0)
        return adm_fail(err, ADM_EINPUT, "--quality: run %lld is no replay that has quality figures of adamas",
                        (long long)run_id);
    return status;
}

adm_status adm_quality_source_value(adm_store *store, const adm_quality_source *s, uint32_t budget, const char *metric,
                                    bool *found, double *median, adm_error *err) {
    static const char sql[] =
        "SELECT m.median FROM measurement m JOIN config c USING (config_id) JOIN trace t USING (trace_id) "
        "JOIN metric k USING (metric_id) WHERE m.run_id = ? AND t.xxh128 = ? AND c.policy = 'adamas' AND c.variant = ? AND "
        "c.seq_len = ? AND c.budget = ? AND k.name = ? AND m.stage IS NULL AND m.layer IS NULL AND m.head IS NULL AND "
        "m.status = 'ok'";
    adm_query *query = NULL;
    *found = false;
    if (s->run_uuid[0] == '\0' || budget == 0) return ADM_OK;
    adm_status status = adm_query_open(store, sql, &query, err, "issiis", s->run_id, s->trace_xxh128, s->variant,
                                       (int64_t)s->seq_len, (int64_t)budget, metric);
    if (status == ADM_OK) status = adm_query_next(query, found, err);
    if (status == ADM_OK && *found) *median = adm_query_double(query, 0);
    adm_query_close(&query);
    return status;
}
