/* fleet_api.c: sweeps for other programs. */
#include "core/fleet/fleet_api.h"

#include <string.h>

#include "core/base/mem.h"
#include "core/fleet/fleet.h"
#include "core/store/fields.h"
#include "core/store/file/query.h"

/* --- Dividing ----------------------------------------------------------------------------------------------------- */

static adm_status check_items(const double *cost, const uint64_t *group, size_t n, const double *group_cost, size_t n_groups,
                              uint32_t n_shards, adm_error *err) {
    if (n_shards < 1 || n_shards > ADM_MAX_SHARDS)
        return adm_fail(err, ADM_EINPUT, "%u shards: 1 to %d are possible", n_shards, ADM_MAX_SHARDS);
    for (size_t i = 0; i < n; i++) {
        if (!(cost[i] >= 0 && cost[i] < 1e300)) return adm_fail(err, ADM_EINPUT, "item %zu costs %g", i, cost[i]);
        if (group[i] >= n_groups || (i > 0 && group[i] < group[i - 1]))
            return adm_fail(err, ADM_EINPUT, "item %zu is of group %llu of %zu: groups ascend from 0", i,
                            (unsigned long long)group[i], n_groups);
    }
    for (size_t g = 0; g < n_groups; g++)
        if (!(group_cost[g] >= 0 && group_cost[g] < 1e300))
            return adm_fail(err, ADM_EINPUT, "group %zu costs %g", g, group_cost[g]);
    return ADM_OK;
}

int adm_shards_split(const double *cost, const uint64_t *group, size_t n, const double *group_cost, size_t n_groups,
                     uint32_t n_shards, uint32_t *part, double *load, char *error, size_t error_bytes) {
    adm_error err;
    adm_shard_item *item = NULL;
    const bool is_given = cost != NULL && group != NULL && group_cost != NULL && part != NULL && load != NULL;
    adm_status status = is_given ? check_items(cost, group, n, group_cost, n_groups, n_shards, &err)
                                 : adm_fail(&err, ADM_EINPUT, "a pointer is NULL");
    if (status == ADM_OK) status = adm_alloc(&item, n, sizeof *item, "items of a sweep", &err);
    for (size_t i = 0; status == ADM_OK && i < n; i++) item[i] = (adm_shard_item){cost[i], (size_t)group[i]};
    if (status == ADM_OK) status = adm_shard_split(item, n, group_cost, n_shards, part, load, &err);
    adm_free(&item);
    return adm_answer(status, &err, error, error_bytes);
}

/* --- The run of a shard ------------------------------------------------------------------------------------------- */

static adm_status read_sweep(const adm_shard_of *of, adm_fleet *s, adm_error *err) {
    *s = (adm_fleet){0};
    if (of == NULL || of->shard == NULL || of->grid == NULL || of->inputs == NULL || of->program == NULL ||
        (of->part == NULL && of->n_parts > 0))
        return adm_fail(err, ADM_EINPUT, "a shard has its text, grid, inputs, program and parts, and one of them is NULL");
    s->program = of->program;
    adm_status status = adm_shard_parse(of->shard, &s->shard, err);
    if (status != ADM_OK) return status;
    adm_fleet_add_text(s, of->grid);
    adm_fleet_add_parts(s, of->part, of->n_parts);
    adm_fleet_add_input(s, of->inputs);
    return ADM_OK;
}

int adm_db_begin_shard(adm_store *store, const adm_shard_of *of, const adm_field *fields, size_t n_fields, int64_t *run_id,
                       int *is_resumed, char *error, size_t error_bytes) {
    adm_error err;
    adm_host_info host;
    adm_run_info info = {0};
    adm_fleet sweep;
    adm_fleet_run run;
    adm_status status = adm_run_of_fields(store, fields, n_fields, run_id != NULL ? (void *)is_resumed : NULL, &host, &info,
                                          &err);
    if (status == ADM_OK) status = read_sweep(of, &sweep, &err);
    if (status == ADM_OK) status = adm_fleet_begin(&sweep, store, &info, &run, &err);
    if (status == ADM_OK) {
        *run_id = run.run_id;
        *is_resumed = run.is_resumed;
    }
    return adm_answer(status, &err, error, error_bytes);
}

int adm_db_end_shard(adm_store *store, const adm_shard_of *of, int64_t run_id, const char *run_status, const char *reason,
                     char *error, size_t error_bytes) {
    adm_error err;
    adm_fleet sweep;
    adm_fleet_run run = {.run_id = run_id};
    adm_status status = ADM_OK;
    if (store == NULL || run_status == NULL) status = adm_fail(&err, ADM_EINPUT, "the database or the status is NULL");
    if (status == ADM_OK) status = read_sweep(of, &sweep, &err);
    if (status == ADM_OK) {
        adm_fleet_identify(&sweep);
        status = adm_fleet_end(&sweep, store, &run, run_status, reason, &err);
    }
    return adm_answer(status, &err, error, error_bytes);
}

int adm_db_values(adm_store *store, int64_t run_id, int64_t config_id, const char *source, const char *metric, double *values,
                  size_t capacity, size_t *n, char *error, size_t error_bytes) {
    adm_error err;
    adm_query *query = NULL;
    bool row = false;
    adm_status status = ADM_OK;
    if (store == NULL || source == NULL || metric == NULL || n == NULL || (values == NULL && capacity > 0))
        status = adm_fail(&err, ADM_EINPUT, "a pointer is NULL");
    else *n = 0;
    if (status == ADM_OK)
        status = adm_query_open(store,
                                "SELECT s.value FROM measurement m JOIN metric k USING (metric_id) JOIN sample s USING "
                                "(measurement_id) WHERE m.run_id = ? AND m.config_id = ? AND m.source = ? AND k.name = ? AND "
                                "m.stage IS NULL AND m.layer IS NULL AND m.head IS NULL ORDER BY s.i",
                                &query, &err, "iiss", run_id, config_id, source, metric);
    while (status == ADM_OK && (status = adm_query_next(query, &row, &err)) == ADM_OK && row) {
        if (*n < capacity) values[*n] = adm_query_double(query, 0);
        ++*n;
    }
    adm_query_close(&query);
    return adm_answer(status, &err, error, error_bytes);
}
