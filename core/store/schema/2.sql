-- 2.sql: from version 1 to 2: paged caches and mixed batches in config, and columns of stage_summary that show them.

ALTER TABLE config ADD COLUMN page_size INTEGER;  -- tokens per page of K and V; NULL: contiguous
ALTER TABLE config ADD COLUMN batch_lens TEXT;    -- tokens in each sequence, '1000,0,32768'; NULL: seq_len in every one

DROP INDEX config_identity;
CREATE UNIQUE INDEX config_identity ON config (
    ifnull(trace_id, 0), policy, variant, n_q_heads, n_kv_heads, head_dim, dtype, seq_len, ifnull(budget, 0), batch,
    ifnull(n_sinks, -1), ifnull(n_recent, -1), ifnull(selection, ''), ifnull(cache, ''), launch, ifnull(page_size, 0),
    ifnull(batch_lens, ''));

DROP VIEW stage_summary;
CREATE VIEW stage_summary (run_id, label, source, stage, variant, q_heads, kv_heads, head_dim, seq_len, budget, batch,
                           metric, unit, n, median, p10, p90, status, reason, dtype, selection, cache, launch,
                           page_size, batch_lens, trace, config_id) AS
SELECT m.run_id, r.label, m.source, m.stage, c.variant, c.n_q_heads, c.n_kv_heads, c.head_dim, c.seq_len, c.budget,
       c.batch, k.name, k.unit, m.n, m.median, m.p10, m.p90, m.status, m.reason, c.dtype, c.selection, c.cache, c.launch,
       c.page_size, c.batch_lens, t.name, c.config_id
FROM measurement m
JOIN run r USING (run_id)
JOIN config c USING (config_id)
JOIN metric k USING (metric_id)
LEFT JOIN trace t USING (trace_id)
WHERE m.stage IS NOT NULL AND m.layer IS NULL AND m.head IS NULL;
