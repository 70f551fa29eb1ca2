/* summary.c: what `adamas replay` prints when it is done. */
#include "core/replay/summary.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/policy/policy.h"

static const char summary_sql[] =
    "SELECT trace, seq_len, policy, variant, budget,"
    "  max(CASE metric WHEN 'recall' THEN p50 END), max(CASE metric WHEN 'mass' THEN p50 END),"
    "  max(CASE metric WHEN 'output_rel_l2' THEN p50 END), max(n),"
    "  max(20, max(length(variant)) OVER ())" /* of the column */
    " FROM quality_summary WHERE run_id = ? AND metric IN ('recall', 'mass', 'output_rel_l2')"
    " GROUP BY trace, seq_len, policy, variant, budget"
    " ORDER BY trace, seq_len, CASE policy WHEN 'dense' THEN 0 WHEN 'oracle' THEN 1 ELSE 2 END, variant, budget";

static void print_head(int variant_width) {
    adm_print("\n%7s  %-11s %-*s %8s  %6s  %6s  %9s  %6s\n", "length", "policy", variant_width, "variant", "budget", "recall",
              "mass", "rel. L2", "n");
}

static void print_row(const adm_query *q, int variant_width) {
    char budget[16] = "all";
    if (adm_query_int(q, 4) > 0) snprintf(budget, sizeof budget, "%" PRId64, adm_query_int(q, 4));
    adm_print("%7" PRId64 "  %-11s %-*s %8s  %6.3f  %6.3f  %9.2e  %6" PRId64 "\n", adm_query_int(q, 1), adm_query_text(q, 2),
              variant_width, adm_query_text(q, 3), budget, adm_query_double(q, 5), adm_query_double(q, 6),
              adm_query_double(q, 7), adm_query_int(q, 8));
}

static json_t *row_as_json(const adm_query *q) {
    json_t *budget = adm_query_is_null(q, 4) ? json_null() : json_integer((json_int_t)adm_query_int(q, 4));
    return json_pack("{s:s, s:I, s:s, s:s, s:o, s:f, s:f, s:f, s:I}", "trace", adm_query_text(q, 0), "seq_len",
                     (json_int_t)adm_query_int(q, 1), "policy", adm_query_text(q, 2), "variant", adm_query_text(q, 3), "budget",
                     budget, "recall_p50", adm_query_double(q, 5), "mass_p50", adm_query_double(q, 6), "output_rel_l2_p50",
                     adm_query_double(q, 7), "n", (json_int_t)adm_query_int(q, 8));
}

/* --- What a reader of the table must know ---------------------------------------------------------------------------- */

static const char skipped_sql[] = "SELECT DISTINCT c.policy, m.reason FROM measurement m JOIN config c USING (config_id)"
                                  " WHERE m.run_id = ? AND m.stage IS NULL AND m.status = 'skipped' ORDER BY 1, 2";

static adm_status add_skipped(adm_store *store, int64_t run_id, json_t *notes, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store, skipped_sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row)
        json_array_append_new(notes,
                              json_sprintf("not measured of %s: %s", adm_query_text(query, 0), adm_query_text(query, 1)));
    adm_query_close(&query);
    return status;
}

/* What a policy's row says of small budgets, if the run has values at one. */
static adm_status add_note(adm_store *store, int64_t run_id, const adm_policy *policy, json_t *notes, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    adm_status status = adm_query_open(store,
                                       "SELECT 1 FROM quality_summary WHERE run_id = ? AND policy = ? AND budget < ? LIMIT 1",
                                       &query, err, "isi", run_id, policy->name, (int64_t)policy->noted_budget);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) json_array_append_new(notes, json_string(policy->note));
    adm_query_close(&query);
    return status;
}

static adm_status add_notes(adm_store *store, int64_t run_id, json_t *notes, adm_error *err) {
    const adm_policy *policy;
    adm_status status = add_skipped(store, run_id, notes, err);
    for (size_t i = 0; status == ADM_OK && (policy = adm_policy_at(i)) != NULL; i++)
        if (policy->note != NULL) status = add_note(store, run_id, policy, notes, err);
    return status;
}

/* --- Times ---------------------------------------------------------------------------------------------------------- */

static const char times_sql[] =
    "SELECT stage, variant, seq_len, ifnull(budget, 0), median, n, status, ifnull(reason, ''),"
    " max(12, max(length(variant)) OVER ()) FROM stage_summary"
    " WHERE run_id = ?1 AND source = 'host' AND metric = 'time_ns'"
    " AND (config_id IN (SELECT config_id FROM candidate WHERE run_id = ?1)) = ?2"
    " ORDER BY seq_len, CASE stage WHEN 'hadamard' THEN 0 WHEN 'bucket' THEN 1 WHEN 'pack' THEN 2 WHEN 'append' THEN 3"
    "  WHEN 'distance' THEN 4 WHEN 'topk' THEN 5 WHEN 'attention' THEN 6 WHEN 'step' THEN 7 ELSE 8 END, budget, variant";

/* Those of candidates come from another way of timing, and so from another table. */
enum { OF_THE_REPLAY, OF_CANDIDATES };

static json_t *time_as_json(const adm_query *q, bool of_candidates) {
    const bool ok = strcmp(adm_query_text(q, 6), "ok") == 0;
    return json_pack("{s:s, s:s, s:I, s:o, s:o, s:I, s:s, s:s, s:b}", "stage", adm_query_text(q, 0), "variant",
                     adm_query_text(q, 1), "seq_len", (json_int_t)adm_query_int(q, 2), "budget",
                     adm_query_int(q, 3) > 0 ? json_integer((json_int_t)adm_query_int(q, 3)) : json_null(), "median_ns",
                     ok ? json_real(adm_query_double(q, 4)) : json_null(), "n", (json_int_t)adm_query_int(q, 5), "status",
                     adm_query_text(q, 6), "reason", adm_query_text(q, 7), "own_process", of_candidates);
}

static void print_time(const adm_query *q, int width) {
    char budget[16] = "-";
    if (adm_query_int(q, 3) > 0) snprintf(budget, sizeof budget, "%" PRId64, adm_query_int(q, 3));
    adm_print("%7" PRId64 "  %-10s %-*s %8s  ", adm_query_int(q, 2), adm_query_text(q, 0), width, adm_query_text(q, 1), budget);
    if (strcmp(adm_query_text(q, 6), "ok") == 0)
        adm_print("%10.2f  %6" PRId64 "\n", adm_query_double(q, 4) * 1e-3, adm_query_int(q, 5));
    else adm_print("%s: %s\n", adm_query_text(q, 6), adm_query_text(q, 7));
}

/* One kind of the host's times, into an array; without JSON as a table too. */
static adm_status add_times(adm_store *store, int64_t run_id, int kind, bool is_json, json_t *times, adm_error *err) {
    adm_query *query = NULL;
    bool row = false, any = false;
    adm_status status = adm_query_open(store, times_sql, &query, err, "ii", run_id, (int64_t)kind);
    for (; status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row; any = true) {
        const int width = (int)adm_query_int(query, 8);
        if (!is_json && !any) adm_print("\n");
        if (!is_json && !any && kind == OF_CANDIDATES)
            adm_print("candidates and the rows beside them, each in a process of its own, with new inputs for every sample\n");
        if (!is_json && !any)
            adm_print("%7s  %-10s %-*s %8s  %10s  %6s\n", "length", "stage", width, "row", "budget", "median us", "n");
        json_array_append_new(times, time_as_json(query, kind == OF_CANDIDATES));
        if (!is_json) print_time(query, width);
    }
    adm_query_close(&query);
    return status;
}

/* The document of --json; printing NULL fails. */
static adm_status print_document(const adm_common *common, int64_t run_id, double elapsed_s, json_t *rows, json_t *times,
                                 json_t *notes, adm_error *err) {
    char *path = NULL;
    size_t path_bytes = strlen(common->db_path) + 4;
    adm_status status = adm_alloc(&path, path_bytes, 1, "a file name", err);
    if (status != ADM_OK) return status;
    json_t *document = json_pack("{s:I, s:s, s:f, s:O, s:O, s:O}", "run_id", (json_int_t)run_id, "db",
                                 adm_printable(common->db_path, path, path_bytes), "elapsed_s", elapsed_s, "quality", rows,
                                 "times", times, "notes", notes);
    adm_free(&path);
    return adm_print_json(document, err);
}

adm_status adm_replay_print_summary(adm_store *store, int64_t run_id, const adm_common *common, double elapsed_s,
                                    const char *uncounted, adm_error *err) {
    adm_query *query = NULL;
    adm_status status = adm_query_open(store, summary_sql, &query, err, "i", run_id);
    json_t *rows = json_array(), *times = json_array(), *notes = json_array();
    bool row = false, first = true;
    if (!common->json)
        adm_print("run %" PRId64 " in %s, %.1f s; medians over steps, layers and heads\n", run_id, common->db_path, elapsed_s);
    for (; status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row; first = false) {
        const int variant_width = (int)adm_query_int(query, 9);
        if (common->json) {
            json_array_append_new(rows, row_as_json(query));
            continue;
        }
        if (first) print_head(variant_width);
        print_row(query, variant_width);
    }
    adm_query_close(&query);
    for (int kind = OF_THE_REPLAY; kind <= OF_CANDIDATES && status == ADM_OK; kind++)
        status = add_times(store, run_id, kind, common->json, times, err);
    if (status == ADM_OK) status = add_notes(store, run_id, notes, err);
    if (uncounted[0] != '\0') json_array_append_new(notes, json_sprintf("not counted: %s", uncounted));
    for (size_t i = 0; !common->json && i < json_array_size(notes); i++)
        adm_print(i == 0 ? "\n%s\n" : "%s\n", json_string_value(json_array_get(notes, i)));
    if (status == ADM_OK && common->json) status = print_document(common, run_id, elapsed_s, rows, times, notes, err);
    json_decref(rows);
    json_decref(times);
    json_decref(notes);
    return status == ADM_OK ? adm_finish_output(err) : status;
}
