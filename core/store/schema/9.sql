-- 9.sql: from version 8 to 9: what a check decided, when a commit was made, and how the machine was set.
--
--   check_result ──< check_row      one per check, and one per row that it judged
--   check_run.check_uuid            the runs of that check, each with its side

-- When the commit was made (committer date, ISO 8601, UTC): `history` orders by it where git does not know the commit.
ALTER TABLE run ADD COLUMN commit_utc TEXT; -- the commit's date, UTC; NULL: not known
ALTER TABLE run ADD COLUMN machine TEXT; -- label of a pool of like machines, from ADAMAS_MACHINE; NULL: none
ALTER TABLE run ADD COLUMN cpu_governor TEXT; -- frequency governor, 'performance', or 'mixed'; NULL: not readable
ALTER TABLE run ADD COLUMN cpu_turbo TEXT; -- frequency boost, 'on' or 'off'; NULL: not readable
ALTER TABLE run ADD COLUMN cpu_smt TEXT; -- whether two threads share a core, 'on' or 'off'; NULL: not readable

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
