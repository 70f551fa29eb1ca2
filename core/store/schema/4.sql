-- 4.sql: from version 3 to 4: what regression tracking remembers.
--
--   run ──  check_run        which side of an interleaved check a run was on, and its position in it
--   config ──< margin        how far apart two samples of the same program lie on one machine
--   config ──< acknowledgement   what people said about a change point

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

-- One series through all runs, without its layers and heads.
CREATE INDEX measurement_overall ON measurement (config_id, metric_id, run_id) WHERE layer IS NULL AND head IS NULL;
