-- 10.sql: from version 9 to 10: sweeps over many machines.
--
--   run (shard 1 of n) ┐
--   run (shard 2 of n) ┼─ `adamas db merge` ──> run ──< shard          one joined run; which machine measured which part
--   ...                ┘                         └───< measurement     measurement.of_shard names the part
--
-- Runs of one sweep have the same sweep_id. A joined run has it too, and no shard of its own; it is complete when no part is missing.

ALTER TABLE run ADD COLUMN sweep_id TEXT; -- hash of the grid, the build and the inputs; NULL: no sweep. Of a joined run: its first part's
ALTER TABLE run ADD COLUMN sweep_grid TEXT; -- hash of the grid alone
ALTER TABLE run ADD COLUMN sweep_parts TEXT; -- hash of how the grid is divided
ALTER TABLE run ADD COLUMN sweep_inputs TEXT; -- hash of the inputs' content
ALTER TABLE run ADD COLUMN sweep_build TEXT; -- version, commit and, of a changed checkout, the program's hash; a joined run's may be several
ALTER TABLE run ADD COLUMN shard INTEGER; -- which part of the grid, from 1; NULL: no sweep, or a joined run
ALTER TABLE run ADD COLUMN n_shards INTEGER; -- how many parts the grid has; NULL: no sweep

-- Of `adamas profile --gpus`: the runs of one call, of every GPU by itself and of all side by side.
ALTER TABLE run ADD COLUMN together_uuid TEXT; -- of that call; NULL: none
ALTER TABLE run ADD COLUMN n_together INTEGER; -- GPUs of the call that ran while this one did, with it; 1: it ran alone

CREATE INDEX run_by_sweep ON run (sweep_id, shard);

-- The parts of a joined run.
CREATE TABLE shard (
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    shard          INTEGER NOT NULL CHECK (shard >= 1),
    run_uuid       TEXT NOT NULL,                -- of the run that measured it
    sweep_id       TEXT NOT NULL,                -- of that run, and all that follows
    sweep_build    TEXT NOT NULL,
    git_commit     TEXT NOT NULL,
    started_utc    TEXT NOT NULL,
    finished_utc   TEXT,
    elapsed_ns     INTEGER,
    host_name      TEXT NOT NULL,
    cpu_model      TEXT NOT NULL,
    gpu_name       TEXT,                         -- NULL: no GPU was used
    gpu_uuid       TEXT,
    driver_version TEXT,
    n_rows         INTEGER NOT NULL,             -- measurements
    PRIMARY KEY (run_id, shard)
) STRICT, WITHOUT ROWID;

ALTER TABLE measurement ADD COLUMN of_shard INTEGER; -- of a joined run: the part that measured it; NULL: no joined run, or a figure of several parts
ALTER TABLE simulation ADD COLUMN of_shard INTEGER; -- likewise
ALTER TABLE event ADD COLUMN of_shard INTEGER; -- likewise
ALTER TABLE activity ADD COLUMN of_shard INTEGER; -- likewise

DROP VIEW quality_summary;
-- Quality of a policy over all steps, layers and heads. p50, p95 and p99 are plain percentiles of the values; `worst`
-- is the mean of the worst single head of a layer (lowest where higher is better, else highest). Public.
CREATE VIEW quality_summary (run_id, label, trace, policy, variant, seq_len, budget, metric, n, mean, p50, p95, p99,
                             worst, host, shard) AS
SELECT m.run_id, r.label, t.name, c.policy, c.variant, c.seq_len, c.budget, k.name, m.n, m.mean, m.median, m.p95, m.p99,
       (SELECT CASE k.better WHEN 'higher' THEN min(h.mean) ELSE max(h.mean) END
        FROM measurement h
        WHERE h.run_id = m.run_id AND h.config_id = m.config_id AND h.source = m.source AND ifnull(h.stage, '') = ''
          AND h.metric_id = m.metric_id AND h.layer IS NOT NULL AND h.head IS NOT NULL),
       ifnull(s.host_name, r.host_name), m.of_shard
FROM measurement m
JOIN run r USING (run_id)
JOIN config c USING (config_id)
JOIN metric k USING (metric_id)
JOIN trace t USING (trace_id)
LEFT JOIN shard s ON s.run_id = m.run_id AND s.shard = m.of_shard
WHERE m.stage IS NULL AND m.layer IS NULL AND m.head IS NULL AND m.status = 'ok';

DROP VIEW stage_summary;
CREATE VIEW stage_summary (run_id, label, source, stage, variant, q_heads, kv_heads, head_dim, seq_len, budget, batch,
                           metric, unit, n, median, p10, p90, status, reason, dtype, selection, cache, launch,
                           page_size, batch_lens, trace, config_id, host, gpu, gpu_uuid, shard) AS
SELECT m.run_id, r.label, m.source, m.stage, c.variant, c.n_q_heads, c.n_kv_heads, c.head_dim, c.seq_len, c.budget,
       c.batch, k.name, k.unit, m.n, m.median, m.p10, m.p90, m.status, m.reason, c.dtype, c.selection, c.cache, c.launch,
       c.page_size, c.batch_lens, t.name, c.config_id, ifnull(s.host_name, r.host_name), ifnull(s.gpu_name, r.gpu_name),
       ifnull(s.gpu_uuid, r.gpu_uuid), m.of_shard
FROM measurement m
JOIN run r USING (run_id)
JOIN config c USING (config_id)
JOIN metric k USING (metric_id)
LEFT JOIN trace t USING (trace_id)
LEFT JOIN shard s ON s.run_id = m.run_id AND s.shard = m.of_shard
WHERE m.stage IS NOT NULL AND m.layer IS NULL AND m.head IS NULL;
