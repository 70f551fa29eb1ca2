-- 11.sql: from version 10 to 11: decode steps of whole models, measured and predicted.

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
