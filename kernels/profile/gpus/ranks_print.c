/* ranks_print.c: the table of `adamas profile --ranks`. */
#include <inttypes.h>
#include <jansson.h>

#include "core/base/print.h"
#include "core/base/printable.h"
#include "kernels/profile/gpus/ranks.h"

/* One metric of a row's configuration; and of the all-reduce and of dense attention over as many ranks. */
#define OF_ROW(name) \
    "(SELECT x.median FROM stage_summary x WHERE x.run_id = ?1 AND x.config_id = t.config_id AND x.metric = '" name "')"
#define SAME_SHAPE                                                                                                              \
    "x.run_id = ?1 AND (x.q_heads, x.kv_heads, x.seq_len, x.batch, x.dtype, ifnull(x.page_size, 0)) = (t.q_heads, t.kv_heads, " \
    "t.seq_len, t.batch, t.dtype, ifnull(t.page_size, 0)) AND x.variant LIKE '%, ' || t.ranks || ' rank%'"

static const char rows_sql[] =
    "WITH t AS (SELECT *, CAST(substr(variant, instr(variant, ', ') + 2) AS INTEGER) AS ranks FROM stage_summary WHERE run_id = ?1 "
    "AND metric = 'sharded_step_ns') "
    "SELECT t.q_heads, t.kv_heads, t.seq_len, t.batch, ifnull(t.budget, 0), t.stage, t.variant, t.ranks, t.median, "
    "(SELECT x.median FROM stage_summary x WHERE " SAME_SHAPE " AND x.metric = 'all_reduce_ns'), " OF_ROW(
        "sharded_total_ns") ", "
                            "(SELECT min(x.median) FROM stage_summary x WHERE " SAME_SHAPE
                            " AND x.stage = 'dense' AND x.metric = 'sharded_total_ns'), " OF_ROW(
                                "rank_spread_ratio") ", t.n, t.status, t.reason FROM t ORDER BY 1, 2, 3, 4, t.stage, 5, 7";

static void print_us(const adm_query *q, int column) {
    if (adm_query_is_null(q, column)) adm_print(" %9s", "-");
    else adm_print(" %9.2f", adm_query_double(q, column) * 1e-3);
}

static void print_row(const adm_query *q) {
    adm_print("%3" PRId64 "/%-3" PRId64 " %7" PRId64 " %5" PRId64, adm_query_int(q, 0), adm_query_int(q, 1),
              adm_query_int(q, 2), adm_query_int(q, 3));
    if (adm_query_int(q, 4) > 0) adm_print(" %6" PRId64, adm_query_int(q, 4));
    else adm_print(" %6s", "-");
    adm_print("  %-5s %-24s", adm_query_text(q, 5), adm_query_text(q, 6));
    if (adm_query_text(q, 14)[0] != 'o') {
        adm_print("  %s: %s\n", adm_query_text(q, 14), adm_query_text(q, 15));
        return;
    }
    for (int i = 8; i <= 10; i++) print_us(q, i);
    const double total = adm_query_double(q, 10), dense = adm_query_double(q, 11);
    if (total > 0 && dense > 0) adm_print("  %5.2fx", dense / total);
    else adm_print("  %6s", "-");
    if (adm_query_is_null(q, 12)) adm_print("  %6s", "-");
    else adm_print("  %5.1f%%", 100 * adm_query_double(q, 12));
    adm_print("  n %" PRId64 "\n", adm_query_int(q, 13));
}

static json_t *number(const adm_query *q, int column) {
    return adm_query_is_null(q, column) ? json_null() : json_real(adm_query_double(q, column));
}

static json_t *row_json(const adm_query *q) {
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, s:I, s:s}", "q_heads",
                     (json_int_t)adm_query_int(q, 0), "kv_heads", (json_int_t)adm_query_int(q, 1), "seq_len",
                     (json_int_t)adm_query_int(q, 2), "batch", (json_int_t)adm_query_int(q, 3), "budget",
                     (json_int_t)adm_query_int(q, 4), "stage", adm_query_text(q, 5), "variant", adm_query_text(q, 6), "ranks",
                     (json_int_t)adm_query_int(q, 7), "step_ns", number(q, 8), "all_reduce_ns", number(q, 9), "total_ns",
                     number(q, 10), "dense_total_ns", number(q, 11), "rank_spread_ratio", number(q, 12), "n",
                     (json_int_t)adm_query_int(q, 13), "status", adm_query_text(q, 14));
}

adm_status adm_profile_ranks_print(const adm_common *common, adm_store *store, int64_t run_id, adm_error *err) {
    adm_query *query = NULL;
    bool row = false;
    json_t *rows = json_array();
    adm_status status = adm_query_open(store, rows_sql, &query, err, "i", run_id);
    if (!common->json)
        adm_print(
            "heads/KV  tokens batch budget  stage variant                    step us    reduce us  both us    gain  spread\n");
    while (status == ADM_OK && (status = adm_query_next(query, &row, err)) == ADM_OK && row) {
        if (common->json) json_array_append_new(rows, row_json(query));
        else print_row(query);
    }
    adm_query_close(&query);
    if (status == ADM_OK && common->json)
        return adm_print_json(json_pack("{s:I, s:o}", "run_id", (json_int_t)run_id, "rows", rows), err);
    json_decref(rows);
    if (status == ADM_OK)
        adm_print(
            "both: step and all-reduce in one graph, on the slowest rank; gain: dense attention's both over it, over as many "
            "ranks\n");
    return status;
}
