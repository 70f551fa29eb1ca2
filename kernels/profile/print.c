/* print.c: what `adamas profile` shows of a finished run. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/base/mem.h"
#include "core/base/print.h"
#include "core/base/printable.h"
#include "core/policy/coding.h"
#include "core/stats/ratio.h"
#include "kernels/profile/grid/plan_print.h"
#include "kernels/profile/print.h"

/* --- A run -------------------------------------------------------------------------------------------------------- */

/* A time and the figures that go with it; the metrics of one configuration and stage become columns. */
#define OTHER(name)                                                                                      \
    "(SELECT l.median FROM stage_summary l WHERE l.run_id = t.run_id AND l.config_id = t.config_id AND " \
    "l.stage = t.stage AND l.metric = '" name "')"

static const char stages_sql[] =
    "SELECT t.seq_len, t.kv_heads, t.batch, t.launch, t.dtype, ifnull(t.page_size, 0), t.stage, t.variant, t.budget, t.median,"
    " t.n, t.status, t.reason, " OTHER("limit_ratio") ", " OTHER("floor_ns") ", " OTHER("cold_l2_ratio") ", " OTHER(
        "median_ci_ratio") " FROM stage_summary t WHERE t.run_id = ? AND t.metric = 'time_ns'"
                           " ORDER BY t.launch, t.dtype DESC, t.page_size, t.seq_len, t.kv_heads, t.batch, t.budget,"
                           " t.stage, t.variant";

/* Dense attention is the fastest known for the configuration: ours, or another's that is recorded for it. */
/* clang-format would indent the text behind a macro. */
/* clang-format off */
static const char steps_sql[] =
    "SELECT t.seq_len, t.kv_heads, t.batch, t.launch, t.dtype, ifnull(t.page_size, 0), t.variant, t.budget, t.median,"
    " d.median, d.median / t.median, " OTHER("floor_ns") ", t.n, t.p10, t.p90, " OTHER("median_ci_ratio") ", d.n, d.p10, d.p90,"
    " (SELECT l.median FROM stage_summary l WHERE l.run_id = ?1 AND l.config_id = d.config_id AND l.stage = 'dense'"
    "   AND l.metric = 'median_ci_ratio'), d.variant, d.reason"
    " FROM stage_summary t JOIN (SELECT seq_len, kv_heads, batch, launch, dtype, ifnull(page_size, 0) AS page,"
    "   min(median) AS median, n, p10, p90, config_id, variant, reason FROM stage_summary WHERE run_id = ?1 AND stage = 'dense'"
    "   AND metric IN ('time_ns', 'peer_time_ns') AND status = 'ok'"
    "   GROUP BY 1, 2, 3, 4, 5, 6) d"
    " ON (t.seq_len, t.kv_heads, t.batch, t.launch, t.dtype, ifnull(t.page_size, 0)) ="
    "    (d.seq_len, d.kv_heads, d.batch, d.launch, d.dtype, d.page)"
    " WHERE t.run_id = ?1 AND t.stage = 'step' AND t.metric = 'time_ns' AND t.status = 'ok'"
    " ORDER BY t.launch, t.dtype DESC, t.page_size, t.seq_len, t.kv_heads, t.batch, t.budget, t.variant";
/* clang-format on */

static const char limit_sql[] = "SELECT m.median FROM measurement m JOIN metric k USING (metric_id)"
                                " WHERE m.run_id = ? AND k.name = 'read_limit_bytes_per_s' AND m.status = 'ok'";

static json_t *number_or_null(const adm_query *q, int column) {
    double value = adm_query_double(q, column);
    return adm_query_is_null(q, column) || !isfinite(value) ? json_null() : json_real(value);
}

static json_t *integer_or_null(const adm_query *q, int column) {
    return adm_query_is_null(q, column) ? json_null() : json_integer((json_int_t)adm_query_int(q, column));
}

static void print_number(const adm_query *q, int column, double factor, const char *format, const char *absent) {
    if (adm_query_is_null(q, column)) adm_print("%s", absent);
    else adm_print(format, adm_query_double(q, column) * factor);
}

/* The first six columns of both queries. */
static void print_configuration(const adm_query *q) {
    adm_print("%8" PRId64 " %3" PRId64 " %5" PRId64, adm_query_int(q, 0), adm_query_int(q, 1), adm_query_int(q, 2));
    if (adm_query_int(q, 5) > 0) adm_print(" %4" PRId64, adm_query_int(q, 5));
    else adm_print("    -");
    adm_print(" %-4s %-6s ", adm_query_text(q, 4), adm_query_text(q, 3));
}

static json_t *configuration_as_json(const adm_query *q) {
    return json_pack("{s:I, s:I, s:I, s:s, s:s, s:I}", "seq_len", (json_int_t)adm_query_int(q, 0), "kv_heads",
                     (json_int_t)adm_query_int(q, 1), "batch", (json_int_t)adm_query_int(q, 2), "launch", adm_query_text(q, 3),
                     "dtype", adm_query_text(q, 4), "page_size", (json_int_t)adm_query_int(q, 5));
}

/* What makes a time worth less: a cache not quite cold, a median not quite sure. */
static void print_stage(const adm_query *q) {
    print_configuration(q);
    adm_print("%-10s %-14s", adm_query_text(q, 6), adm_query_text(q, 7));
    print_number(q, 8, 1, " %7.0f", "        ");
    if (strcmp(adm_query_text(q, 11), "ok") != 0) {
        adm_print("  %s: %s\n", adm_query_text(q, 11), adm_query_text(q, 12));
        return;
    }
    print_number(q, 9, 1e-3, " %10.2f", "");
    print_number(q, 14, 1e-3, " %9.2f", "         -");
    print_number(q, 13, 100, " %7.1f", "       -");
    adm_print(" %5" PRId64, adm_query_int(q, 10));
    if (!adm_query_is_null(q, 15) && adm_query_double(q, 15) < 2)
        adm_print("  partly warm: %.1f times the L2", adm_query_double(q, 15));
    if (adm_query_double(q, 16) > 0.02) adm_print("  +-%.0f%%", adm_query_double(q, 16) * 100);
    adm_print("\n");
}

static json_t *stage_as_json(const adm_query *q) {
    json_t *row = configuration_as_json(q);
    json_t *rest = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:s, s:s}", "stage", adm_query_text(q, 6),
                             "variant", adm_query_text(q, 7), "budget", integer_or_null(q, 8), "median_ns",
                             number_or_null(q, 9), "floor_ns", number_or_null(q, 14), "limit_ratio", number_or_null(q, 13),
                             "cold_l2_ratio", number_or_null(q, 15), "median_ci_ratio", number_or_null(q, 16), "n",
                             (json_int_t)adm_query_int(q, 10), "status", adm_query_text(q, 11), "reason",
                             adm_query_text(q, 12));
    json_object_update(row, rest);
    json_decref(rest);
    return row;
}

static double number_or_nan(const adm_query *q, int column) {
    return adm_query_is_null(q, column) ? NAN : adm_query_double(q, column);
}

/* Of dense attention's time over the step's; it is of enough timings unless a run was cut short. */
static adm_ratio_interval speedup_interval(const adm_query *q) {
    const adm_timing_spread step = {adm_query_int(q, 12), number_or_nan(q, 8), number_or_nan(q, 13), number_or_nan(q, 14),
                                    number_or_nan(q, 15)};
    const adm_timing_spread dense = {adm_query_int(q, 16), number_or_nan(q, 9), number_or_nan(q, 17), number_or_nan(q, 18),
                                     number_or_nan(q, 19)};
    return adm_ratio_of_times(&dense, &step);
}

static void print_step(const adm_query *q) {
    const adm_ratio_interval interval = speedup_interval(q);
    char words[ADM_RATIO_WORDS_BYTES];
    adm_ratio_words(&interval, 1, 2, words);
    print_configuration(q);
    adm_print("%-14s %7" PRId64 " %10.2f %10.2f %8.2f", adm_query_text(q, 6), adm_query_int(q, 7),
              adm_query_double(q, 8) * 1e-3, adm_query_double(q, 9) * 1e-3, adm_query_double(q, 10));
    print_number(q, 11, 1e-3, " %9.2f", "         -");
    adm_print("  %s%s\n", adm_query_text(q, 20), words);
}

static json_t *step_as_json(const adm_query *q) {
    json_t *row = configuration_as_json(q);
    json_t *rest = json_pack("{s:s, s:o, s:o, s:o, s:s, s:s?, s:o, s:o}", "variant", adm_query_text(q, 6), "budget",
                             integer_or_null(q, 7), "median_ns", number_or_null(q, 8), "dense_ns", number_or_null(q, 9),
                             "dense_variant", adm_query_text(q, 20), "dense_source", adm_query_text(q, 21), "speedup",
                             number_or_null(q, 10), "floor_ns", number_or_null(q, 11));
    const adm_ratio_interval interval = speedup_interval(q);
    json_object_update(row, rest);
    json_decref(rest);
    if (interval.basis == ADM_RATIO_OF_ENOUGH) return row;
    const bool is_there = interval.basis != ADM_RATIO_NO_INTERVAL;
    json_object_set_new(row, "speedup_low", is_there ? json_real(interval.low) : json_null());
    json_object_set_new(row, "speedup_high", is_there ? json_real(interval.high) : json_null());
    json_object_set_new(row, "speedup_interval",
                        json_string(is_there ? adm_ratio_basis_words(interval.basis) : "n < 20, no interval"));
    return row;
}

/* Each row of a query printed, or appended to rows where that is not NULL. */
static adm_status each_row(adm_store *store, const char *sql, int64_t run_id, json_t *rows,
                           json_t *(*as_json)(const adm_query *), void (*print)(const adm_query *), const char *heading,
                           adm_error *err) {
    adm_query *query = NULL;
    bool row = false, any = false;
    adm_status status = adm_query_open(store, sql, &query, err, "i", run_id);
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (rows == NULL && !any) adm_print(heading, NULL); /* ours: a format without arguments */
        any = true;
        if (rows != NULL) json_array_append_new(rows, as_json(query));
        else print(query);
    }
    adm_query_close(&query);
    return status;
}

static adm_status read_limit(adm_store *store, int64_t run_id, double *bytes_per_s, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    *bytes_per_s = 0;
    adm_status status = adm_query_open(store, limit_sql, &query, err, "i", run_id);
    if (status == ADM_OK) status = adm_query_next(query, &row, err);
    if (status == ADM_OK && row) *bytes_per_s = adm_query_double(query, 0);
    adm_query_close(&query);
    return status;
}

static adm_status print_document(const adm_common *common, int64_t run_id, json_t *setting, double limit, json_t *stages,
                                 json_t *steps, adm_error *err) {
    char *path = NULL;
    const size_t path_bytes = strlen(common->db_path) + 4;
    adm_status status = adm_alloc(&path, path_bytes, 1, "a database's name", err);
    if (status != ADM_OK) return status;
    json_t *document = json_pack("{s:I, s:s, s:O, s:o, s:O, s:O}", "run_id", (json_int_t)run_id, "db",
                                 adm_printable(common->db_path, path, path_bytes), "setting", setting, "read_limit_bytes_per_s",
                                 limit > 0 ? json_real(limit) : json_null(), "stages", stages, "steps", steps);
    adm_free(&path);
    return adm_print_json(document, err);
}

adm_status adm_profile_print_run(const adm_common *common, const adm_profile_options *options, const adm_trace *trace,
                                 adm_store *store, int64_t run_id, const adm_profile_tally *tally, adm_error *err) {
#define CONFIGURATION "  tokens  KV batch page type launch "
    static const char stages_heading[] = CONFIGURATION
        "stage      variant         budget   time, us floor, us %% limit     n\n";
    static const char steps_heading[] = "\na whole step against the fastest dense attention known\n" CONFIGURATION
                                        "step            budget   time, us  dense, us    times floor, us  dense attention of\n";
    double limit = 0;
    json_t *stages = common->json ? json_array() : NULL, *steps = common->json ? json_array() : NULL;
    adm_status status = read_limit(store, run_id, &limit, err);
    if (status == ADM_OK && !common->json) {
        adm_print("run %" PRId64 " in %s: ", run_id, common->db_path);
        adm_profile_print_setting(options, trace);
        if (limit > 0)
            adm_print(
                "floor: the stage's compulsory bytes at %.3f TB/s, what a plain read reached in this run; %% limit: floor over "
                "time\n\n",
                limit * 1e-12);
        else adm_print("the device's read limit could not be measured: no floor, and no share of it\n\n");
    }
    if (status == ADM_OK) status = each_row(store, stages_sql, run_id, stages, stage_as_json, print_stage, stages_heading, err);
    if (!common->json && !options->check_only) adm_print("\n");
    if (!common->json)
        adm_print("%zu units are as the host computes them, %zu are not or could not be run, %zu are not for this shape or "
                  "device\n",
                  tally->n_right, tally->n_failed, tally->n_skipped);
    if (status == ADM_OK) status = each_row(store, steps_sql, run_id, steps, step_as_json, print_step, steps_heading, err);
    if (status == ADM_OK && common->json) {
        json_t *setting = adm_profile_setting_as_json(options, trace);
        json_object_set_new(setting, "checked",
                            json_pack("{s:I, s:I, s:I}", "right", (json_int_t)tally->n_right, "failed",
                                      (json_int_t)tally->n_failed, "skipped", (json_int_t)tally->n_skipped));
        status = print_document(common, run_id, setting, limit, stages, steps, err);
        json_decref(setting);
    }
    json_decref(stages);
    json_decref(steps);
    return status;
}
