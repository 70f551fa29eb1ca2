-- 7.sql: simulated serving: what traffic on what machine, what came out, and by which rules times were predicted.

CREATE TABLE simulation (
    simulation_id  INTEGER PRIMARY KEY,
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    calibration_uuid TEXT NOT NULL,              -- the run whose timings are the anchors
    quality_uuid   TEXT,                         -- the replay whose quality figures go with the budgets; NULL: there is none
    quality_trace  TEXT,                         -- xxh128 of its trace
    quality_seq_len INTEGER,                     -- tokens in its cache
    quality_variant TEXT,                        -- of the replayed policy: 'l1 calibrated'
    model          TEXT NOT NULL,
    gpu            TEXT NOT NULL,                -- as asked for: another one than the calibration's in a what-if
    trace          TEXT NOT NULL,                -- file name without folders, or the words that generated it
    trace_xxh128   TEXT,                         -- of the file; NULL: generated
    n_requests     INTEGER NOT NULL,
    policy         TEXT NOT NULL,                -- 'dense', 'adamas'
    variant        TEXT NOT NULL,                -- of the whole step: 'fused', 'fused, six'; '' for dense
    budget         INTEGER,                      -- tokens attended to; NULL: dense, or different by layer
    layer_budgets  TEXT,                         -- '0-1:dense,2-31:256' where they differ by layer
    memory         TEXT NOT NULL CHECK (memory IN ('paged', 'contiguous')),
    settings       TEXT NOT NULL                 -- JSON object of all other options of the engine
) STRICT;

CREATE INDEX simulation_by_run ON simulation (run_id);

CREATE TABLE simulation_metric (
    simulation_id  INTEGER NOT NULL REFERENCES simulation (simulation_id) ON DELETE CASCADE,
    metric_id      INTEGER NOT NULL REFERENCES metric (metric_id),
    n              INTEGER NOT NULL CHECK (n >= 0),
    mean           REAL,
    p50            REAL,
    p95            REAL,
    p99            REAL,
    max            REAL,
    reason         TEXT,                         -- why there is no value
    PRIMARY KEY (simulation_id, metric_id),
    CHECK ((n > 0) = (p50 IS NOT NULL)),
    CHECK (n > 0 OR reason IS NOT NULL)
) STRICT, WITHOUT ROWID;

-- Where a simulation's time went, and the weakest rule behind each part's predictions: 'measured' at an anchor, 'interpolated',
-- 'held' beyond the grid, 'other shape' from another head shape's anchors, 'bytes' at the read limit, 'flops' of the data sheet.
CREATE TABLE prediction (
    simulation_id  INTEGER NOT NULL REFERENCES simulation (simulation_id) ON DELETE CASCADE,
    part           TEXT NOT NULL,                -- 'dense', 'step', 'linear', 'rest', 'prompt_attention', 'encode', 'exchange'
    rule           TEXT NOT NULL CHECK (rule IN ('measured', 'interpolated', 'held', 'other shape', 'bytes', 'flops')),
    n              INTEGER NOT NULL,             -- steps
    time_ns        INTEGER NOT NULL,             -- simulated time of this part by this rule
    reach          REAL NOT NULL,                -- how far from an anchor at most, as a factor
    PRIMARY KEY (simulation_id, part, rule)
) STRICT, WITHOUT ROWID;

-- What a budget gives and what it costs: simulated latency, throughput and memory, and the replay's quality, one row per metric.
-- source: 'simulated' or 'replayed'; a replayed row's n is that of the replay, and dense attention loses nothing. Public.
CREATE VIEW frontier_summary (run_id, label, simulation_id, model, gpu, trace, policy, variant, budget, layer_budgets, memory,
                              source, metric, unit, n, mean, p50, p95, p99, reason, quality_model, quality_trace,
                              quality_seq_len, quality_variant) AS
SELECT s.run_id, r.label, s.simulation_id, s.model, s.gpu, s.trace, s.policy, s.variant, s.budget, s.layer_budgets, s.memory,
       'simulated', k.name, k.unit, m.n, m.mean, m.p50, m.p95, m.p99, m.reason, NULL, NULL, NULL, NULL
FROM simulation s
JOIN run r USING (run_id)
JOIN simulation_metric m USING (simulation_id)
JOIN metric k USING (metric_id)
UNION ALL
SELECT s.run_id, r.label, s.simulation_id, s.model, s.gpu, s.trace, s.policy, s.variant, s.budget, s.layer_budgets, s.memory,
       'replayed', k.name, k.unit, m.n, m.mean, m.median, m.p95, m.p99, m.reason, t.model, t.name, c.seq_len,
       c.variant
FROM simulation s
JOIN run r USING (run_id)
JOIN run q ON q.run_uuid = s.quality_uuid
JOIN trace t ON t.xxh128 = s.quality_trace
JOIN measurement m ON m.run_id = q.run_id AND m.stage IS NULL AND m.layer IS NULL AND m.head IS NULL AND m.status = 'ok'
JOIN config c ON c.config_id = m.config_id AND c.trace_id = t.trace_id AND c.policy = s.policy AND c.budget IS s.budget
             AND c.seq_len = s.quality_seq_len AND (s.policy = 'dense' OR c.variant = s.quality_variant)
JOIN metric k ON k.metric_id = m.metric_id AND k.name IN ('recall', 'mass', 'output_rel_l2')
WHERE s.layer_budgets IS NULL;
