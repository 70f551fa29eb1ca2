/* shards.c: of runs that `adamas db merge` joined: which machine measured which part. */
#include "analysis/report/read/shards.h"

#include "analysis/output/rows.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const adm_rows_column columns[] = {{"run_id", 'i'},   {"shard", 'i'},    {"host", 's'},       {"cpu_model", 's'},
                                          {"gpu_name", 's'}, {"gpu_uuid", 's'}, {"git_commit", 's'}, {"build", 's'},
                                          {"kind", 's'},     {"n_rows", 'i'}};

/* The kind is what `db merge` compares: the GPU of a profile, nothing of a simulation, else the processor. */
static const char sql[] =
    "SELECT s.run_id, s.shard, s.host_name, s.cpu_model, s.gpu_name, s.gpu_uuid, s.git_commit, s.sweep_build, CASE r.command "
    "WHEN 'profile' THEN ifnull(s.gpu_name, '') WHEN 'simulate' THEN '' ELSE s.cpu_model END, s.n_rows "
    "FROM shard s JOIN run r USING (run_id) WHERE s.run_id = ? ORDER BY s.shard";

adm_status adm_report_shards(adm_store *store, json_t *document, adm_error *err) {
    json_t *shards = json_array(), *run;
    adm_status status = adm_rows_set(document, "shards", shards, err);
    size_t i;
    json_array_foreach(json_object_get(document, "runs"), i, run) {
        adm_query *query = NULL;
        if (status != ADM_OK) break;
        status = adm_query_open(store, sql, &query, err, "i", json_integer_value(json_object_get(run, "run_id")));
        if (status == ADM_OK) status = adm_rows_read(&query, columns, COUNT(columns), -1, shards, err);
    }
    return status;
}
