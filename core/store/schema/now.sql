-- now.sql: the database of Adamas Lab as it is today, version 12 (PRAGMA user_version). Written by
-- core/store/schema/write_now.py from the migrations 1.sql to 12.sql; ninja runs it. The program runs the
-- migrations, not this.
--
--   run ──< measurement >── config >── trace        one measurement: one metric of one stage (stage
--    │          │    └───── metric                  NULL: of quality) in one configuration
--    │          └──< sample                         raw values, in the order they were taken
--    ├──< calibration                               bucketing thresholds used, one row per layer
--    └──< event                                     ranges with start and end
--
-- Every column's unit is in its name, or in metric.unit for measured values. NULL means "does not apply" in config,
-- and "could not be measured" in measurement, where `reason` then says why; nothing is 0 because its value is missing.

CREATE TABLE run (
    run_id         INTEGER PRIMARY KEY,
    run_uuid       TEXT NOT NULL UNIQUE,
    label          TEXT NOT NULL DEFAULT '',     -- the user's; 'recorded:...' for a profile shipped with the project
    command        TEXT NOT NULL,                -- 'replay', 'profile', ...
    status         TEXT NOT NULL CHECK (status IN ('running', 'complete', 'interrupted', 'failed')),
    reason         TEXT,                         -- why it is interrupted or failed
    started_utc    TEXT NOT NULL,                -- ISO 8601, milliseconds
    finished_utc   TEXT,
    elapsed_ns     INTEGER,                      -- wall time of the run, monotonic clock
    tool_version   TEXT NOT NULL,
    git_commit     TEXT NOT NULL,                -- of the build; 'unknown' outside a checkout
    git_dirty      INTEGER CHECK (git_dirty IN (0, 1)),
    argv           TEXT NOT NULL,                -- JSON array of strings
    seed           INTEGER NOT NULL,
    host_name      TEXT NOT NULL,
    os             TEXT NOT NULL,
    cpu_model      TEXT NOT NULL,
    n_cpus         INTEGER NOT NULL,
    memory_bytes   INTEGER NOT NULL,
    compiler       TEXT NOT NULL,
    gpu_name       TEXT,                         -- NULL: the run used no GPU, and gpu_reason says why
    gpu_uuid       TEXT,
    gpu_reason     TEXT,
    driver_version TEXT,
    cuda_version   TEXT,
    sm_clock_hz    INTEGER,
    memory_clock_hz INTEGER,
    commit_utc     TEXT,                         -- the commit's date, UTC; NULL: not known
    machine        TEXT,                         -- label of a pool of like machines, from ADAMAS_MACHINE; NULL: none
    cpu_governor   TEXT,                         -- frequency governor, 'performance', or 'mixed'; NULL: not readable
    cpu_turbo      TEXT,                         -- frequency boost, 'on' or 'off'; NULL: not readable
    cpu_smt        TEXT,                         -- whether two threads share a core, 'on' or 'off'; NULL: not readable
    sweep_id       TEXT,                         -- hash of the grid, the build and the inputs; NULL: no sweep. Of a joined run: its first part's
    sweep_grid     TEXT,                         -- hash of the grid alone
    sweep_parts    TEXT,                         -- hash of how the grid is divided
    sweep_inputs   TEXT,                         -- hash of the inputs' content
    sweep_build    TEXT,                         -- version, commit and, of a changed checkout, the program's hash; a joined run's may be several
    shard          INTEGER,                      -- which part of the grid, from 1; NULL: no sweep, or a joined run
    n_shards       INTEGER,                      -- how many parts the grid has; NULL: no sweep
    together_uuid  TEXT,                         -- of that call; NULL: none
    n_together     INTEGER,                      -- GPUs of the call that ran while this one did, with it; 1: it ran alone
    only_times     TEXT,                         -- the times that it took alone, as --only-times of replay names them; NULL: all of its command
    CHECK (gpu_name IS NOT NULL OR gpu_reason IS NOT NULL)
) STRICT;

CREATE TABLE trace (
    trace_id       INTEGER PRIMARY KEY,
    xxh128         TEXT NOT NULL UNIQUE,         -- XXH3-128 of the file in hexadecimal (`xxhsum -H2`)
    name           TEXT NOT NULL,                -- file name without folders
    kind           TEXT NOT NULL CHECK (kind IN ('real', 'synthetic', 'unlabelled')),
    model          TEXT NOT NULL,                -- '' if the file does not say
    file_bytes     INTEGER NOT NULL,
    n_tokens       INTEGER NOT NULL,
    n_steps        INTEGER NOT NULL,
    n_layers       INTEGER NOT NULL,
    n_q_heads      INTEGER NOT NULL,
    n_kv_heads     INTEGER NOT NULL,
    head_dim       INTEGER NOT NULL,
    softmax_scale  REAL NOT NULL,
    metadata       TEXT NOT NULL                 -- JSON object of the file's own metadata
) STRICT;

CREATE TABLE config (
    config_id      INTEGER PRIMARY KEY,
    trace_id       INTEGER REFERENCES trace (trace_id), -- NULL: random inputs
    policy         TEXT NOT NULL,                -- 'dense', 'oracle', 'adamas', ...
    variant        TEXT NOT NULL,                -- a stage's implementation; a policy's metric and thresholds
    n_q_heads      INTEGER NOT NULL,
    n_kv_heads     INTEGER NOT NULL,
    head_dim       INTEGER NOT NULL,
    dtype          TEXT NOT NULL CHECK (dtype IN ('F16', 'BF16', 'F32')),
    seq_len        INTEGER NOT NULL,             -- tokens in the cache before the first step
    budget         INTEGER,                      -- tokens attended to; NULL where it does not matter
    batch          INTEGER NOT NULL,
    n_sinks        INTEGER,
    n_recent       INTEGER,
    selection      TEXT CHECK (selection IN ('head', 'group')),
    cache          TEXT CHECK (cache IN ('cold', 'warm')),
    launch         TEXT NOT NULL CHECK (launch IN ('host', 'stream', 'graph')),
    page_size      INTEGER,                      -- tokens per page of K and V; NULL: contiguous
    batch_lens     TEXT                          -- tokens in each sequence, '1000,0,32768'; NULL: seq_len in every one
) STRICT;

CREATE TABLE metric (
    metric_id      INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,
    unit           TEXT NOT NULL,                -- 'ns', 'bytes', 'ratio', '1' for a plain number, ...
    better         TEXT NOT NULL CHECK (better IN ('lower', 'higher', 'none')),
    description    TEXT NOT NULL
) STRICT;

CREATE TABLE measurement (
    measurement_id INTEGER PRIMARY KEY,
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    config_id      INTEGER NOT NULL REFERENCES config (config_id),
    source         TEXT NOT NULL CHECK (source IN ('host', 'gpu', 'model')),
    stage          TEXT CHECK (stage IN ('hadamard', 'bucket', 'pack', 'append', 'distance', 'topk', 'attention',
                                         'step', 'dense')), -- NULL: a quality metric of the whole policy
    layer          INTEGER,                      -- NULL: over all layers replayed
    head           INTEGER,                      -- query head (KV head for metrics of keys); NULL: over all heads
    metric_id      INTEGER NOT NULL REFERENCES metric (metric_id),
    n              INTEGER NOT NULL CHECK (n >= 0),
    mean           REAL,
    min            REAL,
    p01            REAL,
    p05            REAL,
    p10            REAL,
    median         REAL,
    p90            REAL,
    p95            REAL,
    p99            REAL,
    max            REAL,
    status         TEXT NOT NULL CHECK (status IN ('ok', 'skipped', 'failed')),
    reason         TEXT,
    of_shard       INTEGER,                      -- of a joined run: the part that measured it; NULL: no joined run, or a figure of several parts
    CHECK ((status = 'ok') = (median IS NOT NULL)),
    CHECK (status = 'ok' OR reason IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX measurement_identity ON measurement (
    run_id, config_id, source, ifnull(stage, ''), metric_id, ifnull(layer, -1), ifnull(head, -1));

CREATE TABLE sample (
    measurement_id INTEGER NOT NULL REFERENCES measurement (measurement_id) ON DELETE CASCADE,
    i              INTEGER NOT NULL,             -- order in which it was taken, from 0
    value          REAL NOT NULL,                -- in metric.unit
    -- The GPU's clock event reasons (NVML's bits) that were active while the sample was taken; 0: none; NULL: not watched.
    -- The GPU was throttled if any of 0x04 power cap, 0x08 hardware slowdown, 0x20 software thermal slowdown, 0x40 hardware thermal
    -- slowdown or 0x80 power brake is set: throttle & 236 (ADM_THROTTLED in core/contract/probe.h).
    throttle       INTEGER,
    PRIMARY KEY (measurement_id, i)
) STRICT, WITHOUT ROWID;

CREATE TABLE calibration (
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    trace_id       INTEGER NOT NULL REFERENCES trace (trace_id),
    variant        TEXT NOT NULL,                -- 'fixed:-10,0,10', 'calibrated'
    layer          INTEGER NOT NULL,
    t0             REAL NOT NULL,
    t1             REAL NOT NULL,
    t2             REAL NOT NULL,
    xxh128         TEXT NOT NULL,                -- of the three float32 values: equal for equal calibrations
    PRIMARY KEY (run_id, trace_id, variant, layer)
) STRICT, WITHOUT ROWID;

CREATE TABLE event (
    event_id       INTEGER PRIMARY KEY,
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    config_id      INTEGER REFERENCES config (config_id),
    kind           TEXT NOT NULL CHECK (kind IN ('session', 'step', 'layer', 'stage')),
    name           TEXT NOT NULL,                -- stage name, or the session's
    variant        TEXT NOT NULL,
    step           INTEGER,
    layer          INTEGER,
    clock          TEXT NOT NULL CHECK (clock IN ('host', 'gpu')),
    start_ns       INTEGER NOT NULL,             -- on that clock; only differences within a run are meaningful
    end_ns         INTEGER NOT NULL,
    of_shard       INTEGER,                      -- likewise
    CHECK (end_ns >= start_ns)
) STRICT;

CREATE INDEX event_by_run ON event (run_id, start_ns);

CREATE UNIQUE INDEX config_identity ON config (
    ifnull(trace_id, 0), policy, variant, n_q_heads, n_kv_heads, head_dim, dtype, seq_len, ifnull(budget, 0), batch,
    ifnull(n_sinks, -1), ifnull(n_recent, -1), ifnull(selection, ''), ifnull(cache, ''), launch, ifnull(page_size, 0),
    ifnull(batch_lens, ''));

-- What ran on the GPU, as CUPTI saw it: one row per kernel, memory copy or memset. Times are on the clock of the events whose
-- clock is 'gpu'.
CREATE TABLE activity (
    activity_id    INTEGER PRIMARY KEY,
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    config_id      INTEGER REFERENCES config (config_id), -- of the range that launched it; NULL: no range did
    stage          TEXT,                         -- of that range; NULL: no range
    step           INTEGER,                      -- which call of the configuration it belongs to, from 0
    kind           TEXT NOT NULL CHECK (kind IN ('kernel', 'memcpy', 'memset')),
    name           TEXT NOT NULL,                -- the kernel's; of a copy its direction: 'HtoD', 'DtoH', ...
    stream         INTEGER NOT NULL,             -- CUPTI's number for it
    start_ns       INTEGER NOT NULL,
    end_ns         INTEGER NOT NULL,
    bytes          INTEGER,                      -- copied or set; NULL for a kernel. All columns below are NULL for a copy or set
    registers      INTEGER,                      -- per thread
    static_shared_bytes INTEGER,                 -- per block
    dynamic_shared_bytes INTEGER,                -- per block
    grid_x         INTEGER,                      -- blocks
    grid_y         INTEGER,
    grid_z         INTEGER,
    block_x        INTEGER,                      -- threads
    block_y        INTEGER,
    block_z        INTEGER,
    of_shard       INTEGER,                      -- likewise
    CHECK (end_ns >= start_ns),
    CHECK ((kind = 'kernel') = (registers IS NOT NULL))
) STRICT;

CREATE INDEX activity_by_run ON activity (run_id, start_ns);

CREATE TABLE check_run (
    run_id         INTEGER PRIMARY KEY REFERENCES run (run_id) ON DELETE CASCADE,
    check_uuid     TEXT NOT NULL,                -- one interleaved check
    side           TEXT NOT NULL CHECK (side IN ('baseline', 'candidate')),
    position       INTEGER NOT NULL,             -- order in which the processes of the check ran, from 0
    subject        TEXT NOT NULL                 -- what was measured, as the user named it: a git ref or a program
) STRICT;

CREATE INDEX check_run_by_check ON check_run (check_uuid, position);

-- Measured by `adamas check --calibrate`; only the newest row per series and machine counts.
CREATE TABLE margin (
    margin_id      INTEGER PRIMARY KEY,
    config_id      INTEGER NOT NULL REFERENCES config (config_id),
    source         TEXT NOT NULL CHECK (source IN ('host', 'gpu', 'model')),
    stage          TEXT,                         -- as in measurement; NULL: quality
    metric_id      INTEGER NOT NULL REFERENCES metric (metric_id),
    host_name      TEXT NOT NULL,
    cpu_model      TEXT NOT NULL,
    gpu_name       TEXT,
    margin_ratio   REAL NOT NULL CHECK (margin_ratio > 0), -- as a share of the baseline's median
    n_processes    INTEGER NOT NULL,             -- processes of one program that it was measured with
    measured_utc   TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX margin_identity ON margin (
    config_id, source, ifnull(stage, ''), metric_id, host_name, cpu_model, ifnull(gpu_name, ''), measured_utc);

-- Only the newest row per series and run counts. It stays when the run is pruned, because it names the run by UUID.
CREATE TABLE acknowledgement (
    acknowledgement_id INTEGER PRIMARY KEY,
    config_id      INTEGER NOT NULL REFERENCES config (config_id),
    source         TEXT NOT NULL CHECK (source IN ('host', 'gpu', 'model')),
    stage          TEXT,
    metric_id      INTEGER NOT NULL REFERENCES metric (metric_id),
    run_uuid       TEXT NOT NULL,                -- the first run after the change
    verdict        TEXT NOT NULL CHECK (verdict IN ('acknowledged', 'ignored')),
    who            TEXT NOT NULL,
    why            TEXT NOT NULL,
    made_utc       TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX acknowledgement_identity ON acknowledgement (
    config_id, source, ifnull(stage, ''), metric_id, run_uuid, made_utc);

-- 6.sql: from version 5 to 6: tuning sessions (`adamas tune`): what each candidate was and how it fared, and the choice per device
-- and shape. Its times are measurements of the same run and configuration.
CREATE TABLE candidate (
    candidate_id   INTEGER PRIMARY KEY,
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    config_id      INTEGER NOT NULL REFERENCES config (config_id), -- config.variant names it
    stage          TEXT NOT NULL,
    version        INTEGER NOT NULL,             -- order in the session, from 1
    kind           TEXT NOT NULL CHECK (kind IN ('row', 'source', 'shared', 'module')), -- 'row': of our own registry
    path           TEXT,                         -- as it was named; NULL: a row
    xxh128         TEXT,                         -- of that file
    parameters     TEXT,                         -- 'BLOCK=128,STAGES=4'; NULL: none
    verdict        TEXT NOT NULL CHECK (verdict IN ('right', 'wrong', 'skipped', 'invalid')), -- 'invalid': could not be loaded
    reason         TEXT,                         -- unless right
    build_ns       INTEGER,                      -- the compiler's time; NULL: nothing was compiled
    registers      INTEGER,                      -- per thread; the largest of its kernels, as all below
    static_shared_bytes INTEGER,                 -- per block
    dynamic_shared_bytes INTEGER,                -- per block
    spill_bytes    INTEGER,                      -- stores and loads per thread
    threads        INTEGER,                      -- per block
    blocks         INTEGER,                      -- per grid
    blocks_per_sm  INTEGER,                      -- that fit at once
    occupancy_ratio REAL,                        -- share of an SM's warps
    limiter        TEXT,                         -- what keeps more blocks out
    made_utc       TEXT NOT NULL,
    CHECK ((verdict = 'right') = (reason IS NULL))
) STRICT;

CREATE INDEX candidate_by_run ON candidate (run_id, version);

-- Only the newest row per device, stage and shape counts.
CREATE TABLE tuned (
    tuned_id       INTEGER PRIMARY KEY,
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    config_id      INTEGER NOT NULL REFERENCES config (config_id),
    stage          TEXT NOT NULL,
    device         TEXT NOT NULL,                -- the GPU's name, or the processor's model
    path           TEXT,                         -- NULL: a row of the registry, config.variant
    xxh128         TEXT,
    parameters     TEXT,
    median_ns      REAL NOT NULL,
    default_ns     REAL,                         -- of the default in the same session; NULL: not measured
    made_utc       TEXT NOT NULL
) STRICT;

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
    settings       TEXT NOT NULL,                -- JSON object of all other options of the engine
    of_shard       INTEGER                       -- likewise
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

CREATE TABLE validation (
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    calibration_uuid TEXT NOT NULL,              -- the run whose timings were held out in part
    held_out       TEXT NOT NULL CHECK (held_out IN ('interior', 'row', 'frontier', 'batch', 'shape', 'other gpu')),
    stage          TEXT NOT NULL,                -- 'all': over all stages
    variant        TEXT NOT NULL,                -- '' with 'all'
    n              INTEGER NOT NULL CHECK (n > 0),
    mape_ratio     REAL NOT NULL,                -- mean of |prediction / measurement - 1|
    bias_ratio     REAL NOT NULL,                -- mean of prediction / measurement - 1
    p50_ratio      REAL NOT NULL,                -- of the absolute errors, as below
    p95_ratio      REAL NOT NULL,
    max_ratio      REAL NOT NULL,
    PRIMARY KEY (run_id, held_out, stage, variant)
) STRICT, WITHOUT ROWID;

-- Written when a check ends. Its runs are in check_run.
CREATE TABLE check_result (
    check_result_id INTEGER PRIMARY KEY,
    check_uuid     TEXT NOT NULL UNIQUE,
    made_utc       TEXT NOT NULL,
    baseline       TEXT NOT NULL,                -- as the user named it
    candidate      TEXT NOT NULL,
    baseline_commit TEXT NOT NULL,               -- '' if its runs are of several, or there are none
    candidate_commit TEXT NOT NULL,
    exit_code      INTEGER NOT NULL CHECK (exit_code IN (0, 1, 3, 4)), -- 0 passed, 1 regressed, 3 inconclusive, 4 crashed
    failure        TEXT,                         -- why nothing was compared
    n_rows         INTEGER NOT NULL,
    n_regressed    INTEGER NOT NULL,
    n_inconclusive INTEGER NOT NULL,
    n_improved     INTEGER NOT NULL,
    n_equivalent   INTEGER NOT NULL
) STRICT;

-- Ratios are candidate / baseline - 1; NULL where the row was not compared.
CREATE TABLE check_row (
    check_row_id   INTEGER PRIMARY KEY,
    check_result_id INTEGER NOT NULL REFERENCES check_result (check_result_id) ON DELETE CASCADE,
    config_id      INTEGER NOT NULL REFERENCES config (config_id),
    source         TEXT NOT NULL CHECK (source IN ('host', 'gpu', 'model')),
    stage          TEXT,                         -- as in measurement; NULL: quality
    metric_id      INTEGER NOT NULL REFERENCES metric (metric_id),
    verdict        TEXT NOT NULL CHECK (verdict IN ('regressed', 'inconclusive', 'improved', 'equivalent')),
    baseline       REAL,                         -- in metric.unit
    candidate      REAL,
    shift_ratio    REAL,
    low_ratio      REAL,                         -- of the 99% interval; NULL: not a time
    high_ratio     REAL,
    p_adjusted     REAL,
    margin_ratio   REAL NOT NULL,
    n_baseline     INTEGER NOT NULL,             -- processes judged
    n_candidate    INTEGER NOT NULL,
    why            TEXT NOT NULL
) STRICT;

CREATE INDEX check_row_by_check ON check_row (check_result_id);

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

-- By `adamas simulate --validate`: each step that `adamas decode` measured on the calibration's GPU, its own rest held out.
CREATE TABLE whole_validation (
    run_id         INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE,
    calibration_uuid TEXT NOT NULL,              -- the run whose timings are the anchors
    model          TEXT NOT NULL,
    batch          INTEGER NOT NULL CHECK (batch > 0),
    seq_len        INTEGER NOT NULL CHECK (seq_len > 0),
    budget         INTEGER NOT NULL,             -- tokens attended to; 0: dense
    page_size      INTEGER NOT NULL,             -- tokens; 0: contiguous
    measured_ns    REAL NOT NULL CHECK (measured_ns > 0), -- median of token_time_ns
    predicted_ns   REAL NOT NULL,
    PRIMARY KEY (run_id, model, batch, seq_len, budget, page_size)
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
