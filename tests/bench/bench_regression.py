#!/usr/bin/env python3
"""How well regression tracking does on recorded noise, and what it costs; `ninja bench` runs it, seeds fixed.

    tests/bench/noise/*.tsv --> build/release/tests/bench_regression     false alarms, planted shifts, change points
    a made database of 1,000 runs x 500 series, 10 million samples --> adamas history, the public views

Prints one table: what, figure, goal. Exit status 1 if a goal is missed. --quick takes a tenth of the simulated checks and
leaves out the database. --against PROGRAM (another build) also times `compare` and `db gc` with it, in the same run: the goals
of these two are ratios.
"""
import argparse
import contextlib
import math
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM, BENCH = ROOT / "build/release/adamas", ROOT / "build/release/tests/bench_regression"
DATABASE = ROOT / "build/bench_regression.db"
STAGES = ("hadamard", "bucket", "pack", "distance", "topk", "attention")
N_RUNS, N_SERIES, N_SAMPLES = 1000, 500, 20
missed = []


def line(what, figure, goal, ok):
    """One row; a figure without a goal is for the reader."""
    print(f"  {what:<66} {figure:>22}   {goal}" + ("" if ok is None else "" if ok else "   MISSED"))
    if ok is False:
        missed.append(what)


def upper(k, n):
    """Upper 95% limit of a share of which k of n were seen (Wilson)."""
    z, p = 1.645, k / n
    return (p + z * z / (2 * n) + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)


# ---------------------------------------------------------------- statistics

def simulate(noise, seed, scale):
    out = subprocess.run([BENCH, noise, str(seed), str(scale)], check=True, capture_output=True, text=True).stdout
    return {words[0]: [float(word) for word in words[1:]] for words in map(str.split, out.splitlines())}


def share(k, n):
    return f"{100 * k / n:.2f}% of {n:.0f}"


def statistics(noise, seed, scale):
    """Goals hold for the check as a whole and, where noise lets ten processes decide, for every stage: a process's own
    scatter of 1.2% is as much as they can bear (z of 3.7 for one row of 54, and of 1.6 for 95%, times 0.46 of it, are 3%)."""
    r = simulate(noise, seed, scale)
    print(f"\n{noise.name}: {noise.read_text().splitlines()[0][2:]}")
    print(f"  {r['series'][0]:.0f} recorded series; a check is 6 stages x 9 configurations, ten processes per side, margin 1%")
    n = r["checks"][0]
    k = r["false_regressed"][0] + r["false_improved"][0]
    line("A/A: checks with a false regressed or improved", share(k, n), "at most 1%", k / n <= 0.01)
    scatter = {stage: r[f"change_{stage}"][4] for stage in STAGES}
    quiet = [stage for stage in STAGES if scatter[stage] <= 0.012]
    for stage in STAGES:
        n, found, rows, _ = r[f"slower_3_{stage}"]
        line(f"3% slower {stage} (a process's scatter {100 * scatter[stage]:.1f}%): found; rows found",
             f"{100 * found / n:.1f}%; "
             f"{100 * rows / n / 9:.1f}%", "95%" if stage in quiet else "none", found / n >= 0.95 if stage in quiet else None)
    n, equivalent = (sum(9 * r[f"slower_1_{stage}"][0] for stage in STAGES), sum(r[f"slower_1_{stage}"][3] for stage in STAGES))
    line("1% slower: rows called equivalent at a margin of 1%", share(equivalent, n), "at most 1%", equivalent / n <= 0.01)
    for stage in STAGES:
        n, near, _, _, _, n_quiet, near_quiet = r[f"change_{stage}"]
        if n_quiet:
            line(f"5% step of {stage} in 100 runs: found within 3 runs", f"{100 * near_quiet / n_quiet:.1f}%", "95%",
                 near_quiet / n_quiet >= 0.95)
        if n > n_quiet:
            line(f"... of {stage} in series that scatter by more than 1.2%",
                 f"{100 * (near - near_quiet) / (n - n_quiet):.1f}%", "none", None)
    n = sum(r[f"change_{stage}"][0] for stage in STAGES)
    for i, what in ((2, "pure noise"), (3, "noise of lag-1 correlation 0.3")):
        k = sum(r[f"change_{stage}"][i] for stage in STAGES)
        line(f"{what}: series with a false change point", share(k, n) + f" (< {100 * upper(k, n):.2f}%)", "at most 1%",
             k / n <= 0.01)


# ---------------------------------------------------------------- cost

MAKE = f"""
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;
INSERT INTO metric (metric_id, name, unit, better, description) VALUES (1, 'time_ns', 'ns', 'lower', ''),
  (2, 'recall', 'ratio', 'higher', '');
INSERT INTO trace (trace_id, xxh128, name, kind, model, file_bytes, n_tokens, n_steps, n_layers, n_q_heads,
  n_kv_heads, head_dim, softmax_scale, metadata) VALUES (1, 'x', 't', 'synthetic', '', 1, 1, 1, 1, 8, 8, 128, 1, '{{}}');
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {N_RUNS})
INSERT INTO run (run_id, run_uuid, command, status, started_utc, tool_version, git_commit, argv, seed, host_name, os, cpu_model,
  n_cpus, memory_bytes, compiler, gpu_reason) SELECT i, printf('%032d', i), 'profile', 'complete', printf('2026-%06d', i), '0',
  printf('%040x', i), '[]', 1, 'h', 'o', 'c', 2, 1, 'gcc', 'none' FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {N_SERIES})
INSERT INTO config (config_id, trace_id, policy, variant, n_q_heads, n_kv_heads, head_dim, dtype, seq_len, batch, launch)
  SELECT i, 1, 'adamas', 'v', 8, 8, 128, 'F16', 1024 * i, 1, 'host' FROM n;
-- A fifth of the series has a step of 5% somewhere; normal noise of 1% by the sum of twelve uniform numbers.
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {N_RUNS * N_SERIES} - 1),
  v AS (SELECT i, 1000.0 * (1 + 0.01 * ((random() & 65535) + (random() & 65535) + (random() & 65535) + (random() & 65535)
        - 131070) / 37837.0)
        * CASE WHEN i % {N_SERIES} % 5 = 0 AND i / {N_SERIES} > 100 + i % {N_SERIES} THEN 1.05 ELSE 1 END AS x FROM n)
INSERT INTO measurement (measurement_id, run_id, config_id, source, stage, metric_id, n, mean, min, p01, p05, p10, median, p90,
  p95, p99, max, status) SELECT i + 1, i / {N_SERIES} + 1, i % {N_SERIES} + 1, 'gpu', 'topk', 1, {N_SAMPLES},
  x, x, x, x, x, x, x, x, x, x, 'ok' FROM v;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {N_SAMPLES} - 1)
INSERT INTO sample (measurement_id, i, value) SELECT m.measurement_id, n.i, m.median FROM measurement m, n;
-- Quality of a policy over all heads and of each of eight heads, in every run.
WITH RECURSIVE n(i) AS (SELECT -1 UNION ALL SELECT i + 1 FROM n WHERE i < 7)
INSERT INTO measurement (run_id, config_id, source, layer, head, metric_id, n, mean, min, p01, p05, p10, median, p90, p95, p99,
  max, status) SELECT r.run_id, c.config_id, 'host', CASE WHEN i < 0 THEN NULL ELSE 0 END,
  CASE WHEN i < 0 THEN NULL ELSE i END, 2, 64, .9, .9, .9, .9, .9, .9, .9, .9, .9, .9, 'ok'
  FROM run r, config c, n WHERE c.config_id <= 10;
"""

VIEWS = {
    "stage_summary of one run": f"SELECT * FROM stage_summary WHERE run_id = {N_RUNS // 2}",
    "stage_summary, one series over all runs": "SELECT run_id, median FROM stage_summary WHERE config_id = 7 AND metric = "
                                               "'time_ns'",
    "stage_summary, medians of the newest 100 runs by length":
        f"SELECT seq_len, avg(median) FROM stage_summary WHERE run_id > {N_RUNS - 100} AND stage = 'topk' GROUP BY seq_len",
    "quality_summary of one run": f"SELECT * FROM quality_summary WHERE run_id = {N_RUNS // 2}",
    "quality_summary, all of it": "SELECT count(*), min(worst) FROM quality_summary",
    "stage_summary, all of it": "SELECT count(*), avg(median) FROM stage_summary",
}


def make_database():
    DATABASE.unlink(missing_ok=True)
    subprocess.run([PROGRAM, "db", "merge", "--db", DATABASE], check=True)
    with contextlib.closing(sqlite3.connect(DATABASE, isolation_level=None)) as db:
        db.executescript(MAKE)


# One process is one run of 100 times and 15 samples each; the candidate's are 2% slower in a tenth of them.
COMPARED = """
PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF;
INSERT INTO metric (metric_id, name, unit, better, description) VALUES (1, 'time_ns', 'ns', 'lower', '');
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {runs})
INSERT INTO run (run_id, run_uuid, label, command, status, started_utc, tool_version, git_commit, argv, seed, host_name, os,
  cpu_model, n_cpus, memory_bytes, compiler, gpu_reason) SELECT i, printf('%032d', i), CASE i % 2 WHEN 0 THEN 'base' ELSE 'cand'
  END, 'replay', 'complete', printf('2026-%06d', i), '0', 'unknown', '[]', 1, 'h', 'o', 'c', 2, 1, 'gcc', 'none' FROM n;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
INSERT INTO config (config_id, policy, variant, n_q_heads, n_kv_heads, head_dim, dtype, seq_len, batch, launch)
  SELECT i, 'adamas', 'v', 8, 8, 128, 'F16', 1024 * i, 1, 'host' FROM n;
INSERT INTO measurement (run_id, config_id, source, stage, metric_id, n, mean, min, p01, p05, p10, median, p90, p95, p99, max,
status)
  SELECT run_id, config_id, 'host', 'topk', 1, 15, x, x, x, x, x, x, x, x, x, x, 'ok' FROM (SELECT r.run_id, c.config_id,
  1000.0 * (1 + 0.005 * ((random() & 65535) + (random() & 65535) + (random() & 65535) + (random() & 65535) - 131070) / 37837.0)
  * CASE WHEN c.config_id % 10 = 0 AND r.label = 'cand' THEN 1.02 ELSE 1 END AS x FROM run r, config c);
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 14)
INSERT INTO sample (measurement_id, i, value) SELECT m.measurement_id, n.i, m.median * (1 + 0.001 * (n.i - 7)) FROM measurement
m, n;
"""


def timed(*command):
    start = time.monotonic()
    subprocess.run(command, check=False, capture_output=True)
    return time.monotonic() - start


def fill(database, program, script):
    """A database that this program has made, filled."""
    Path(database).unlink(missing_ok=True)
    subprocess.run([program, "db", "create", "--db", database, "--quiet"], check=True)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.executescript(script)


def compare_cost(against):
    """Grows with the processes, and beside another build."""
    seconds = {}
    for n in (50, 100, 200, 500):
        fill(DATABASE, PROGRAM, COMPARED.format(runs=2 * n))
        seconds[n] = min(timed(PROGRAM, "compare", "label:base", "label:cand", "--db", DATABASE, "--quiet") for _ in range(2))
    line(f"compare, 100 times, {', '.join(map(str, seconds))} processes per side",
         ", ".join(f"{s:.2f}" for s in seconds.values()) + " s", "500: under 10 s", seconds[500] < 10)
    line("... 500 against 50 processes: the time grows by", f"{seconds[500] / seconds[50]:.1f}", "at most 15",
         seconds[500] / seconds[50] <= 15)
    if against:
        fill(DATABASE, against, COMPARED.format(runs=1000))
        other = timed(against, "compare", "label:base", "label:cand", "--db", DATABASE, "--quiet")
        line(f"... 500 processes per side beside the other build's {other:.1f} s", f"{other / seconds[500]:.0f} times as fast",
             "at least 20", other / seconds[500] >= 20)
    DATABASE.unlink()


def gc_cost(against):
    """Of N_RUNS runs 200 stay, and the samples of 20 of them."""
    keep = ("db", "gc", "--keep", "200", "--keep-samples", "20", "--quiet", "--db", DATABASE)
    script = MAKE.replace(f"i < {N_SAMPLES} - 1)", "i < 34 - 1)").replace(f"'topk', 1, {N_SAMPLES},", "'topk', 1, 34,")
    fill(DATABASE, PROGRAM, script)
    ours = timed(PROGRAM, *keep)
    line(f"db gc of {N_RUNS:,} runs, {34 * N_RUNS * N_SERIES:,} samples", f"{ours:.1f} s", "none", None)
    if against:
        fill(DATABASE, against, script)
        other = timed(against, *keep)
        line(f"... beside the other build's {other:.1f} s", f"{ours / other:.2f} of its time", "at most 0.33",
             ours / other <= 1 / 3)
    DATABASE.unlink()


def cost():
    print(f"\ncost: {N_RUNS:,} runs x {N_SERIES} series, {N_RUNS * N_SERIES * N_SAMPLES:,} samples")
    make_database()
    start = time.monotonic()
    out = subprocess.run([PROGRAM, "history", "--db", DATABASE, "--metric", "time_ns"], check=True, capture_output=True,
                         text=True).stdout
    seconds = time.monotonic() - start
    line(f"adamas history ({out.splitlines()[-1]})", f"{seconds:.2f} s", "under 5 s", seconds < 5)
    with contextlib.closing(sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)) as db:
        for what, sql in VIEWS.items():
            seconds = math.inf
            for _ in range(3):  # the best of three: what else the machine does is not the query's
                start = time.monotonic()
                n = len(db.execute(sql).fetchall())
                seconds = min(seconds, time.monotonic() - start)
            line(f"{what} ({n} rows)", f"{seconds:.3f} s", "under 1 s", seconds < 1)
    print(f"  the file has {DATABASE.stat().st_size / 1e6:.0f} MB")
    DATABASE.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the checks, no database")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--against", help="another build's adamas, to time compare and db gc beside")
    options = parser.parse_args()
    os.chdir(ROOT)
    for program in (PROGRAM, BENCH):
        if not program.exists():
            sys.exit(f"bench_regression.py: {program.relative_to(ROOT)} is not built: run ninja")
    for noise in sorted((ROOT / "tests/bench/noise").glob("*.tsv")):
        statistics(noise, options.seed, 1 if options.quick else 10)
    if not options.quick:
        cost()
        compare_cost(options.against)
        gc_cost(options.against)
    print(f"\n{len(missed)} goals missed" + "".join(f"\n  {what}" for what in missed))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
