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
