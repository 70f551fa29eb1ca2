-- 3.sql: from version 2 to 3: what ran on the GPU, and which samples were taken while it was throttled.

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
    CHECK (end_ns >= start_ns),
    CHECK ((kind = 'kernel') = (registers IS NOT NULL))
) STRICT;

CREATE INDEX activity_by_run ON activity (run_id, start_ns);

-- The GPU's clock event reasons (NVML's bits) that were active while the sample was taken; 0: none; NULL: not watched.
-- The GPU was throttled if any of 0x04 power cap, 0x08 hardware slowdown, 0x20 software thermal slowdown, 0x40 hardware thermal
-- slowdown or 0x80 power brake is set: throttle & 236 (ADM_THROTTLED in core/contract/probe.h).
ALTER TABLE sample ADD COLUMN throttle INTEGER;
