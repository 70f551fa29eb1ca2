-- 8.sql: how well the cost model predicts timings that it was not given.

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
