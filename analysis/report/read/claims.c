/* claims.c: each claim of the paper (arXiv 2510.18413), and a query for what this database has of it. */
#include "analysis/report/read/claims.h"

#include "analysis/output/rows.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Perplexity over dense attention's at one budget, with its interval; and the replay's output error. The default codes and
 * others. */
#define AT_BUDGET(budget)                                                                                                  \
    "SELECT * FROM (SELECT 'perplexity over dense' AS what, '1' AS unit, m.mean AS value, lo.mean AS low, hi.mean "        \
    "AS high, (SELECT x.n FROM measurement x JOIN metric y USING (metric_id) WHERE x.run_id = m.run_id AND "               \
    "x.config_id = m.config_id AND y.name = 'nll') AS n, t.model || ', ' || t.name || ', ' || c.seq_len || ' "             \
    "tokens, ' || c.variant AS place, m.run_id AS run FROM measurement m JOIN config c USING (config_id) JOIN "            \
    "trace t USING (trace_id) JOIN metric k USING (metric_id) LEFT JOIN measurement lo ON lo.run_id = m.run_id "           \
    "AND lo.config_id = m.config_id AND lo.metric_id = (SELECT metric_id FROM metric WHERE name = "                        \
    "'perplexity_ratio_ci95_low') LEFT JOIN measurement hi ON hi.run_id = m.run_id AND hi.config_id = m.config_id "        \
    "AND hi.metric_id = (SELECT metric_id FROM metric WHERE name = 'perplexity_ratio_ci95_high') WHERE k.name = "          \
    "'perplexity_ratio' AND c.policy = 'adamas' AND c.budget = " budget " AND m.status = 'ok' ORDER BY m.run_id DESC, "    \
    "t.name, m.mean LIMIT 3) UNION ALL SELECT * FROM (SELECT 'output error, median', 'ratio', m.median, m.p10, "           \
    "m.p90, m.n, t.model || ', ' || t.name || ', ' || c.seq_len || ' tokens, ' || c.variant, m.run_id FROM "               \
    "measurement m JOIN config c USING (config_id) JOIN trace t USING (trace_id) JOIN metric k USING (metric_id) "         \
    "WHERE k.name = 'output_rel_l2' AND c.policy = 'adamas' AND c.budget = " budget " AND m.stage IS NULL AND m.layer IS " \
    "NULL AND m.head IS NULL AND m.status = 'ok' AND t.kind = 'real' AND c.budget < c.seq_len ORDER BY m.run_id "          \
    "DESC, c.seq_len DESC, m.median LIMIT 2)"

static const char sparsity_sql[] =
    "WITH e AS (SELECT m.run_id, c.trace_id, c.seq_len, c.policy, c.variant, c.budget, m.median AS err, m.n FROM "
    "measurement m JOIN config c USING (config_id) JOIN metric k USING (metric_id) WHERE k.name = 'output_rel_l2' AND "
    "c.policy IN ('adamas', 'quest') AND c.budget < c.seq_len AND m.stage IS NULL AND m.layer IS NULL AND m.head IS "
    "NULL AND m.status = 'ok') SELECT 'budget of Quest over ours at no larger output error', '1', max(q.budget * 1.0 "
    "/ a.budget), NULL, NULL, min(a.n, q.n), t.model || ', ' || t.name || ', ' || a.seq_len || ' tokens, ' || "
    "a.variant, a.run_id FROM e a JOIN e q ON q.run_id = a.run_id AND q.trace_id = a.trace_id AND q.seq_len = "
    "a.seq_len AND q.policy = 'quest' AND a.policy = 'adamas' AND a.err <= q.err JOIN trace t ON t.trace_id = "
    "a.trace_id WHERE t.kind = 'real' GROUP BY a.run_id, a.trace_id, a.seq_len, a.variant ORDER BY a.run_id DESC, "
    "a.seq_len DESC, 3 DESC LIMIT 3";

static const char attention_sql[] =
    "SELECT 'dense over a step, ' || s.variant, '1', d.median / s.median, d.p10 / s.p90, d.p90 / s.p10, min(d.n, "
    "s.n), r.gpu_name || ', ' || s.kv_heads || ' KV heads, budget ' || s.budget || CASE WHEN r.label LIKE "
    "'recorded:%' THEN ', recorded' ELSE '' END, s.run_id FROM stage_summary s JOIN stage_summary d ON d.run_id = "
    "s.run_id AND d.stage = 'dense' AND d.metric = 'time_ns' AND d.q_heads = s.q_heads AND d.kv_heads = s.kv_heads "
    "AND d.head_dim = s.head_dim AND d.seq_len = s.seq_len AND d.batch = s.batch AND d.launch = s.launch AND d.cache "
    "IS s.cache AND d.status = 'ok' JOIN run r ON r.run_id = s.run_id WHERE s.stage = 'step' AND s.metric = 'time_ns' "
    "AND s.status = 'ok' AND s.source = 'gpu' AND s.seq_len = 32768 AND s.budget = 256 AND s.batch = 1 AND s.launch = "
    "'graph' AND s.kv_heads = 32 ORDER BY r.label LIKE 'recorded:%', s.run_id DESC, 3 DESC LIMIT 4";

/* Measured steps of a whole model, then simulated ones. */
static const char whole_sql[] =
    "SELECT * FROM (SELECT 'measured step, dense over budget ' || c.budget, '1', d.median / m.median, d.p10 / m.p90, "
    "d.p90 / m.p10, min(m.n, d.n), c.variant || ' on ' || r.gpu_name || ', batch ' || c.batch || CASE WHEN r.label LIKE "
    "'recorded:%' THEN ', recorded' ELSE '' END, m.run_id FROM measurement m JOIN config c USING (config_id) JOIN run r "
    "USING (run_id) JOIN measurement d ON d.run_id = m.run_id AND d.metric_id = m.metric_id AND d.status = 'ok' JOIN config e "
    "ON e.config_id = d.config_id AND e.policy = 'dense' AND e.variant = c.variant AND e.seq_len = c.seq_len AND e.batch = "
    "c.batch AND e.page_size IS c.page_size WHERE m.metric_id = (SELECT metric_id FROM metric WHERE name = 'token_time_ns') "
    "AND c.policy = 'adamas' AND c.seq_len = 32768 AND m.status = 'ok' AND m.median > 0 ORDER BY c.variant = 'llama-2-7b' "
    "DESC, r.label LIKE 'recorded:%', m.run_id DESC, c.batch, c.budget LIMIT 4) UNION ALL SELECT * FROM ("
    "SELECT 'simulated time per token, dense over budget ' || a.budget, '1', d.p50 / a.p50, NULL, NULL, a.n, a.model "
    "|| ' on ' || a.gpu || ', ' || a.trace || ', ' || a.memory, a.run_id FROM frontier_summary a JOIN "
    "frontier_summary d ON d.run_id = a.run_id AND d.model = a.model AND d.memory = a.memory AND d.policy = 'dense' "
    "AND d.metric = a.metric AND d.source = a.source WHERE a.metric = 'tpot_ns' AND a.source = 'simulated' AND "
    "a.policy = 'adamas' AND a.budget IS NOT NULL AND a.p50 > 0 "
    "ORDER BY a.model = 'llama-2-7b' DESC, a.run_id DESC, a.budget LIMIT 4)";

static const char perplexity_sql[] =
    "SELECT 'perplexity over dense, budget ' || c.budget, '1', m.mean, lo.mean, hi.mean, (SELECT x.n FROM measurement "
    "x JOIN metric y USING (metric_id) WHERE x.run_id = m.run_id AND x.config_id = m.config_id AND y.name = 'nll'), "
    "t.model || ', ' || t.name || ', ' || c.seq_len || ' tokens, ' || c.variant, m.run_id FROM measurement m JOIN "
    "config c USING (config_id) JOIN trace t USING (trace_id) JOIN metric k USING (metric_id) LEFT JOIN measurement "
    "lo ON lo.run_id = m.run_id AND lo.config_id = m.config_id AND lo.metric_id = (SELECT metric_id FROM metric WHERE "
    "name = 'perplexity_ratio_ci95_low') LEFT JOIN measurement hi ON hi.run_id = m.run_id AND hi.config_id = "
    "m.config_id AND hi.metric_id = (SELECT metric_id FROM metric WHERE name = 'perplexity_ratio_ci95_high') WHERE "
    "k.name = 'perplexity_ratio' AND c.policy = 'adamas' AND c.budget >= 256 AND m.status = 'ok' ORDER BY m.run_id "
    "DESC, t.name, c.budget, m.mean LIMIT 4";

/* `least`: the figure claimed, which a value reaches at or above it; 0: perplexity over dense decides, no worse than 1. */
static const struct claim {
    const char *claim, *paper, *sql, *command;
    double least;
} claims[] = {
    {"Matches full attention at a budget of 64", "LongBench, Vicuna-7B and Llama-3.1-8B", AT_BUDGET("64"),
     "python3 traces/model/evaluate.py, or adamas replay TRACE --budgets 64", 0},
    {"Near-lossless at a budget of 128", "LongBench", AT_BUDGET("128"),
     "python3 traces/model/evaluate.py, or adamas replay TRACE --budgets 128", 0},
    {"8 times the sparsity of Quest at equal quality", "LongBench", sparsity_sql,
     "adamas replay TRACE --policies quest,adamas --budgets 64,128,256,512,1024", 8},
    {"4.4 times faster self-attention at 32K tokens, budget 256", "A6000, 32 heads, d = 128", attention_sql,
     "adamas profile --seq-lens 32768 --budgets 256", 4.4},
    {"1.5 times faster end to end at 32K tokens", "A6000, Llama-2-7B", whole_sql,
     "adamas decode --model llama-2-7b --seq-lens 32768 --budgets 256; without a GPU adamas simulate --model llama-2-7b "
     "--budgets 256 --generate rate=0.02,input_tokens=32768,output_tokens=200",
     1.5},
    {"Perplexity no worse than full attention's", "PG19 at 32K: 6.82 dense, 6.88 at 512, 6.76 at 2048", perplexity_sql,
     "python3 traces/model/evaluate.py", 0},
};

static adm_status read_claim(adm_store *store, const struct claim *c, json_t *all, adm_error *err) {
    static const adm_rows_column columns[] = {{"what", 's'}, {"unit", 's'}, {"value", 'd'}, {"low", 'd'},
                                              {"high", 'd'}, {"n", 'i'},    {"place", 's'}, {"run_id", 'i'}};
    json_t *found = json_array();
    adm_query *query = NULL;
    adm_status status = adm_rows_append(all,
                                        json_pack("{s:s, s:s, s:s, s:o, s:o}", "claim", c->claim, "paper", c->paper, "command",
                                                  c->command, "least", c->least > 0 ? json_real(c->least) : json_null(),
                                                  "found", found),
                                        err);
    if (status == ADM_OK) status = adm_query_open(store, c->sql, &query, err, "");
    return status == ADM_OK ? adm_rows_read(&query, columns, COUNT(columns), -1, found, err) : status;
}

adm_status adm_report_claims_read(adm_store *store, json_t *document, adm_error *err) {
    json_t *all = json_array();
    adm_status status = adm_rows_set(document, "claims", all, err);
    for (size_t i = 0; i < COUNT(claims) && status == ADM_OK; i++) status = read_claim(store, &claims[i], all, err);
    return status;
}
