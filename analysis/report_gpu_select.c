/* report_gpu_select.c: which GPU profiles a report shows. */
#include <stdbool.h>
#include <string.h>

#include "analysis/report_gpu.h"
#include "analysis/report_rows.h"

/* What a profile can have: times of some stage, of whole steps, counters, a timeline. A run is shown for what no later run
 * of the same GPU and kind of inputs has. */
enum { TIMES = 1, STEPS = 2, COUNTERS = 4, TIMELINE = 8, ALL = 15, OF_TRACE = 16 };

/* Runs looked at, the latest first, and GPUs shown: enough for any machine, and a bound for a database of years. */
enum { MAX_RUNS = 200, MAX_PROFILES = 6 };

/* The metrics of a GPU stage that are not counters: times, and what the timeline says. */
#define NOT_COUNTERS                                                                                                   \
    ADM_REPORT_TIME_METRICS ", " ADM_REPORT_DEVICE_METRICS ", 'kernel_time_ns', 'launch_gap_ns', 'kernel_launches', "  \
                                                           "'activity_dropped'"

static const char has_sql[] =
    "SELECT 1 * EXISTS (SELECT 1 FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ?1 AND m.source = 'gpu' "
    "  AND m.stage IS NOT NULL AND k.name = 'time_ns')"
    " + 2 * EXISTS (SELECT 1 FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ?1 AND m.source = 'gpu' "
    "  AND m.stage = 'step' AND k.name = 'time_ns')"
    " + 4 * EXISTS (SELECT 1 FROM measurement m JOIN metric k USING (metric_id) WHERE m.run_id = ?1 AND m.source = 'gpu' "
    "  AND m.stage IS NOT NULL AND k.name NOT IN (" NOT_COUNTERS "))"
    " + 8 * EXISTS (SELECT 1 FROM activity WHERE run_id = ?1)"
    " + 16 * EXISTS (SELECT 1 FROM measurement m JOIN config c USING (config_id) WHERE m.run_id = ?1 "
    "  AND c.trace_id IS NOT NULL)";

static adm_status parts_of(adm_store *store, int64_t run_id, int *parts, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, has_sql, &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    *parts = status == ADM_OK && row ? (int)adm_query_int(query, 0) : 0;
    adm_query_close(&query);
    return status;
}

/* What the profiles chosen so far have of this GPU with this kind of inputs. */
static int parts_chosen(const json_t *profiles, const char *gpu, bool is_recorded, int of_trace) {
    int parts = 0;
    size_t i;
    json_t *profile;
    json_array_foreach(profiles, i, profile) {
        int here = (int)json_integer_value(json_object_get(profile, "parts"));
        if (json_is_true(json_object_get(profile, "is_recorded")) == is_recorded && (here & OF_TRACE) == of_trace &&
            strcmp(json_string_value(json_object_get(profile, "gpu")), gpu) == 0)
            parts |= here & ALL;
    }
    return parts;
}

/* Own GPUs before recorded ones, later runs before earlier. */
static const char runs_sql[] =
    "SELECT run_id, ifnull(gpu_name, ''), label LIKE 'recorded:%' FROM run WHERE command = 'profile' AND gpu_name IS NOT NULL "
    "AND (?1 = 0 OR run_id = ?1) ORDER BY label LIKE 'recorded:%', status = 'complete' DESC, started_utc DESC, run_id DESC";

/* `run_id` 0: all runs, and only those that add something. */
static adm_status choose(adm_store *store, int64_t run_id, json_t *profiles, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    int n_seen = 0;
    adm_status status = adm_query_open(store, runs_sql, &query, err, "i", run_id);
    while (status == ADM_OK && n_seen++ < MAX_RUNS && json_array_size(profiles) < MAX_PROFILES &&
           (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        const char *gpu = adm_query_text(query, 1);
        bool is_recorded = adm_query_int(query, 2) != 0;
        bool is_full = parts_chosen(profiles, gpu, is_recorded, 0) == ALL &&
                       parts_chosen(profiles, gpu, is_recorded, OF_TRACE) == ALL;
        if (run_id == 0 && is_full) continue;
        int parts;
        status = parts_of(store, adm_query_int(query, 0), &parts, err);
        int before = parts_chosen(profiles, gpu, is_recorded, parts & OF_TRACE);
        if (status != ADM_OK || (parts & ALL) == 0 || (run_id == 0 && (parts & ALL & ~before) == 0)) continue;
        json_t *profile = json_pack("{s:I, s:o, s:b, s:i}", "run_id", (json_int_t)adm_query_int(query, 0), "gpu",
                                    adm_report_string(gpu), "is_recorded", is_recorded, "parts", parts);
        status = adm_report_append(profiles, profile, err);
    }
    adm_query_close(&query);
    return status;
}

adm_status adm_report_gpu_select(adm_store *store, const uint32_t *run_ids, size_t n_run_ids, json_t *profiles,
                                 adm_error *err) {
    adm_status status = n_run_ids == 0 ? choose(store, 0, profiles, err) : ADM_OK;
    for (size_t i = 0; i < n_run_ids && status == ADM_OK; i++) status = choose(store, run_ids[i], profiles, err);
    return status;
}
