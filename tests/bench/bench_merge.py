#!/usr/bin/env python3
"""What `adamas db merge` takes: many shards of one sweep, and one large database by two programs in turns.

    bench_merge.py --shards 1000 [--rows 2000] [--killed 10]
    bench_merge.py --runs 1000 --samples 16800000 --old PROGRAM [--rounds 3]

Shards: one real shard of the fake GPU, copied: each has its own configurations, rows and samples. A process that writes to
--killed of them is ended by kill -9. Checks that every row is there and every killed shard is named. Runs: one replay, copied;
both programs merge their database into a new one. Prints wall and processor seconds, peak memory and ratios. --keep FOLDER
keeps the files, and uses those that are there.
"""
import argparse
import json
import os
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "build/release"
TRACE = ROOT / "traces/smollm2-135m-kjv.safetensors"
GRID = ["--seq-lens", "100,200", "--budgets", "16,64", "--heads", "4", "--kv-heads", "2", "--head-dim", "64", "--cap-ms", "2"]
SAMPLES_PER_TIME = 20
ROWS_PER_CONFIG = 20  # two times with samples, and 18 figures


def run(*words, code=0):
    """Wall and processor seconds, peak memory in MB, what was printed."""
    start = time.monotonic()
    process = subprocess.Popen([*map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != code:
        sys.exit(f"bench_merge.py: {' '.join(map(str, words[:3]))} ended with {process.returncode}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, out


def insert(db, table, rows):
    names = list(rows[0])
    db.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
                   [[row[name] for name in names] for row in rows])


def rows_of(db, sql):
    cursor = db.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor]


# ---------------------------------------------------------------- shards

def make_template(path, n_rows, n_shards):
    """A shard's database whose one run has n_rows measurements."""
    run(RELEASE / "tests/adamas-fake-gpu", "profile", *GRID, "--shard", f"1/{n_shards}", "--db", path, "--quiet")
    with sqlite3.connect(path) as db:
        (config,) = rows_of(db, "SELECT * FROM config WHERE policy <> 'device' LIMIT 1")
        measured = rows_of(db, "SELECT m.* FROM measurement m JOIN metric USING (metric_id) WHERE name = 'time_ns' AND "
                               "status = 'ok' LIMIT 1")[0]
        metrics = [row[0] for row in db.execute("SELECT metric_id FROM metric ORDER BY name = 'time_ns' DESC")]
        keys = [(source, stage, metric) for stage in ("step", "dense", "distance", "topk") for source in ("gpu", "model")
                for metric in metrics]
        for table in ("event", "activity", "sample", "measurement", "config"):
            db.execute(f"DELETE FROM {table}")
        n_configs = n_rows // ROWS_PER_CONFIG
        insert(db, "config", [config | {"config_id": i + 1, "seq_len": 1000 + i} for i in range(n_configs)])
        rows = [measured | {"measurement_id": i * ROWS_PER_CONFIG + k + 1, "config_id": i + 1, "source": keys[k][0],
                            "stage": keys[k][1], "metric_id": keys[k][2]}
                for i in range(n_configs) for k in range(ROWS_PER_CONFIG)]
        insert(db, "measurement", rows)
        db.executemany("INSERT INTO sample (measurement_id, i, value) VALUES (?, ?, ?)",
                       [(row["measurement_id"], s, 1000.0 + s) for row in rows if row["measurement_id"] % 10 == 1
                        for s in range(SAMPLES_PER_TIME)])
    db.close()


def make_shards(folder, n, n_rows, killed):
    folder.mkdir()
    template = folder.parent / "template.db"
    make_template(template, n_rows, n)
    for i in range(1, n + 1):
        shutil.copy(template, folder / f"{i}.db")
        db = sqlite3.connect(folder / f"{i}.db")
        with db:
            db.execute("PRAGMA synchronous = OFF")
            db.execute("UPDATE run SET run_uuid = printf('00000000-0000-4000-8000-%012d', ?1), shard = ?1, host_name = ?2", (
                i, f"node{i % 50}"))
            db.execute("UPDATE config SET seq_len = seq_len + 1000 * ?", (i,))
            db.execute("UPDATE measurement SET median = median + ?", (i / n,))
        db.close()
    template.unlink()
    kill_writers([folder / f"{i}.db" for i in sorted(killed)])


WRITER = """
import sqlite3, sys, time
dbs = [sqlite3.connect(path, isolation_level=None) for path in sys.argv[1:]]
for db in dbs:
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("UPDATE run SET status = 'running', finished_utc = NULL, elapsed_ns = NULL")
    db.execute("BEGIN")
    db.execute("DELETE FROM sample")
print("writing", flush=True)
time.sleep(1000)
"""


def kill_writers(paths):
    """Each of these shards runs, its newest batch is not yet committed, and its process is gone."""
    if not paths:
        return
    with subprocess.Popen([sys.executable, "-c", WRITER, *map(str, paths)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    left = [path for path in paths if not Path(f"{path}-wal").stat().st_size]
    if left:
        sys.exit(f"bench_merge.py: {left[0]} was not left as a kill leaves it")


def merge_shards(options, folder):
    n, shards, joined = options.shards, folder / f"shards-{options.shards}-{options.rows}", folder / "joined.db"
    killed = {1 + i * n // options.killed for i in range(options.killed)}
    if not shards.exists():
        make_shards(shards, n, options.rows, killed)
    joined.unlink(missing_ok=True)
    wall, processor, peak, out = run(options.new, "db", "merge", shards, "--db", joined, "--json", code=3 if killed else 0)
    (sweep,) = (row for row in json.loads(out) if "sweep" in row)
    db = sqlite3.connect(joined)
    (n_rows,), (n_samples,) = (db.execute(f"SELECT count(*) FROM {table}").fetchone() for table in ("measurement", "sample"))
    db.close()
    named = {row["shard"] for row in sweep["left"]}
    want = (n - len(killed)) * options.rows
    print(f"{n} shards of {options.rows} rows, {len(killed)} killed: {wall:.1f} s wall, {processor:.1f} s processor, "
          f"{peak:.0f} MB; {n_rows} rows, {n_samples} samples, {joined.stat().st_size / 1e6:.0f} MB; {len(named)} named")
    if n_rows != want or named != killed or n_samples != want // 10 * SAMPLES_PER_TIME:
        sys.exit(f"bench_merge.py: {want} rows were to be there, and {sorted(killed)} to be named")


# ---------------------------------------------------------------- runs

def make_runs(program, path, n_runs, n_samples):
    """One replay by that program, copied until there are so many runs and samples."""
    run(program, "replay", TRACE, "-p", "adamas,quest", "-b", "64,256", "--seq-lens", "1024,4096", "--db", path, "-q")
    db = sqlite3.connect(path)
    (one,) = rows_of(db, "SELECT * FROM run")
    measured = rows_of(db, "SELECT * FROM measurement")
    last = max(row["measurement_id"] for row in measured)
    timed = [row[0] for row in db.execute("SELECT measurement_id FROM measurement m JOIN metric k USING (metric_id) WHERE "
                                          "k.name = 'time_ns' AND status = 'ok' AND layer IS NULL ORDER BY 1")]
    per_time = n_samples // (n_runs * len(timed))
    with db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("DELETE FROM sample")
        for i in range(n_runs):
            if i > 0:
                insert(db, "run", [one | {"run_id": i + 1, "run_uuid": f"00000000-0000-4000-8000-{i:012}"}])
                insert(db, "measurement", [row | {"run_id": i + 1, "measurement_id": row["measurement_id"] + i * last}
                                           for row in measured])
            db.executemany("INSERT INTO sample (measurement_id, i, value) VALUES (?, ?, ?)",
                           ((m + i * last, s, 1000.3 + (s * 7 + i) % 13) for m in timed for s in range(per_time)))
    n = {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("run", "measurement", "sample")}
    db.close()
    return n


def merge_runs(options, folder):
    tables, programs = {}, {"old": options.old, "new": options.new}
    for name, program in programs.items():
        path = folder / f"{name}-{options.runs}.db"
        if path.exists():
            db = sqlite3.connect(path)
            tables[name] = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("run", "measurement", "sample")}
            db.close()
        else:
            tables[name] = make_runs(program, path, options.runs, options.samples)
        print(f"{name}: {', '.join(f'{n} {table}s' for table, n in tables[name].items())}, {path.stat().st_size / 1e6:.0f} MB",
              flush=True)
    seen = {name: [] for name in programs}
    for turn in range(options.rounds):
        for name in sorted(programs, reverse=turn % 2 == 0):
            merged = folder / "merged.db"
            merged.unlink(missing_ok=True)
            wall, processor, peak, _ = run(programs[name], "db", "merge", folder / f"{name}-{options.runs}.db", "--db", merged)
            seen[name].append((wall, processor, peak))
            print(f"{name}: {wall:.2f} s wall, {processor:.2f} s processor, {peak:.0f} MB", flush=True)
            db = sqlite3.connect(merged)
            if db.execute("SELECT count(*) FROM sample").fetchone()[0] != tables[name]["sample"]:
                sys.exit(f"bench_merge.py: {name} lost samples")
            db.close()
            merged.unlink()
    for k, what in enumerate(("wall", "processor")):
        old, new = (statistics.median(row[k] for row in seen[name]) for name in ("old", "new"))
        print(f"{what}: {old:.2f} s and {new:.2f} s, new over old {new / old:.3f}; medians of {options.rounds}, in turns")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--shards", type=int)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--killed", type=int, default=10)
    parser.add_argument("--runs", type=int)
    parser.add_argument("--samples", type=int, default=16_800_000)
    parser.add_argument("--old", help="a program of another commit, such as build/check holds")
    parser.add_argument("--new", default=str(RELEASE / "adamas"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if options.runs and not options.old:
        parser.error("--runs needs --old PROGRAM")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.shards:
            merge_shards(options, folder)
        if options.runs:
            merge_runs(options, folder)


if __name__ == "__main__":
    main()
