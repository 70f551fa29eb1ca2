/* sketches.c: what calibrations found, one row per trace and budget. */
#include "analysis/report/read/sketches.h"

#include "analysis/output/rows.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const adm_rows_column columns[] = {{"run_id", 'i'},     {"trace", 's'},  {"model", 's'}, {"kind", 's'},
                                          {"variant", 's'},    {"budget", 'i'}, {"n", 'i'},     {"mass", 'd'},
                                          {"exact_mass", 'd'}, {"l1_mass", 'd'}};

/* The mean over lengths is weighted by their steps, so that it is the mean over all held-out steps, layers and heads. The
 * calibration's own rows are told by their name, core/policy/calibration.h. */
static const char sql[] =
    "WITH kept AS (SELECT m.run_id, c.trace_id, c.budget, c.policy, c.variant, sum(m.n) AS n,"
    "                     sum(m.mean * m.n) / sum(m.n) AS mass"
    "              FROM run r JOIN measurement m USING (run_id) JOIN config c USING (config_id) JOIN metric k USING (metric_id)"
    "              WHERE r.command = 'calibrate' AND r.status = 'complete' AND k.name = 'mass' AND m.status = 'ok'"
    "                AND m.layer IS NULL AND (?1 = 0 OR m.run_id = ?1)"
    "              GROUP BY m.run_id, c.trace_id, c.budget, c.policy, c.variant) "
    "SELECT own.run_id, t.name, t.model, t.kind, own.variant, own.budget, own.n, own.mass, exact.mass, base.mass "
    "FROM kept own JOIN trace t USING (trace_id) "
    "LEFT JOIN kept exact ON exact.run_id = own.run_id AND exact.budget = own.budget AND exact.policy = 'oracle' "
    "LEFT JOIN kept base ON base.run_id = own.run_id AND base.budget = own.budget AND base.policy = 'adamas'"
    "  AND base.variant = 'l1 calibrated' "
    "WHERE own.policy = 'adamas' AND own.variant LIKE '%, calibration ________' "
    "  AND (?1 <> 0 OR own.run_id = (SELECT max(later.run_id) FROM kept later WHERE later.trace_id = own.trace_id)) "
    "ORDER BY t.kind <> 'real', t.name, own.run_id, own.budget";

static adm_status read_run(adm_store *store, int64_t run_id, json_t *sketches, adm_error *err) {
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, sql, &query, err, "i", run_id);
    return status == ADM_OK ? adm_rows_read(&query, columns, COUNT(columns), -1, sketches, err) : status;
}

adm_status adm_report_sketches_read(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *sketches,
                                    adm_error *err) {
    adm_status status = n_run_ids == 0 ? read_run(store, 0, sketches, err) : ADM_OK;
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) status = read_run(store, run_ids[i], sketches, err);
    return status;
}
