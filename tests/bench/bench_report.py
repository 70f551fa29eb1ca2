#!/usr/bin/env python3
"""What a report costs to write and to open: two programs on one database, in turns, and one program on a large database.

    bench_report.py [--old PROGRAM] [--new PROGRAM] [--db DATABASE] [--rounds N] [--large RUNS,SAMPLES]

Without --db a replay of the bundled trace and the recorded profiles are reported on. --old is a program of another commit, such
as build/check holds. Prints bytes, seconds, peak memory, milliseconds and ratios; needs Node, the npm packages and Chromium.
"""
import argparse
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRACE = ROOT / "traces/smollm2-135m-kjv.safetensors"


def run(program, *arguments):
    """Seconds, those of a processor, and the peak memory in MB."""
    start = time.monotonic()
    process = subprocess.Popen([program, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"bench_report.py: {program} {arguments[0]} ended with status {status}")
    return time.monotonic() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def open_pages(rounds, *pages):
    node = shutil.which("node") or sys.exit("bench_report.py: Node is needed")
    result = subprocess.run([node, str(ROOT / "web-report/tests/open_pages.mjs"), str(rounds), *map(str, pages)],
                            capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def make_demo(program, database):
    run(program, "db", "import", *sorted(ROOT.glob("analysis/recorded/*.json")), "--db", database, "-q")
    run(program, "replay", TRACE, "-p", "dense,oracle,adamas,quest,streaming", "-b", "16,32,64,128,256,512,1024", "--seq-lens",
        "1024,2048,4096", "--target", "mass=0.99", "--target", "output_rel_l2=0.05", "--db", database, "-q")


def make_large(program, database, n_runs, n_samples):
    """Copies one replay until there are that many runs and raw samples, each run a little different."""
    run(program, "replay", TRACE, "-p", "adamas,quest", "-b", "64,256", "--seq-lens", "1024,4096", "--db", database, "-q")
    connection = sqlite3.connect(database)
    (first,) = connection.execute("SELECT run_id FROM run").fetchone()
    columns = {table: [row[1] for row in connection.execute(f"PRAGMA table_info({table})")] for table in
               ("run", "measurement", "sample")}
    measured = connection.execute("SELECT * FROM measurement WHERE run_id = ?", (first,)).fetchall()
    (last,) = connection.execute("SELECT max(measurement_id) FROM measurement").fetchone()
    dice = random.Random(1)
    timed = [row[0] for row in connection.execute(
        "SELECT measurement_id FROM measurement m JOIN metric k USING (metric_id) WHERE run_id = ? AND k.name = 'time_ns' AND "
        "status = 'ok'", (first,))]
    per_time = max(1, n_samples // (n_runs * len(timed)))
    at = {name: columns["measurement"].index(name) for name in ("measurement_id", "run_id", "mean", "median")}
    for i in range(1, n_runs):
        names = [name for name in columns["run"] if name not in ("run_id", "run_uuid", "started_utc")]
        cursor = connection.execute(
            f"INSERT INTO run (run_uuid, started_utc, {', '.join(names)}) SELECT printf('00000000-0000-4000-8000-%012d', ?1), "
            "strftime('%Y-%m-%dT%H:%M:%fZ', started_utc, '+' || ?1 || ' minutes'), "
            f"{', '.join(names)} FROM run WHERE run_id = ?2",
            (i, first))
        rows, factor = [], 1 + dice.gauss(0, 0.003)
        for row in measured:
            row = list(row)
            row[at["measurement_id"]] += last * i
            row[at["run_id"]] = cursor.lastrowid
            row[at["median"]] = row[at["median"]] and row[at["median"]] * factor
            rows.append(row)
        connection.executemany(f"INSERT INTO measurement VALUES ({', '.join('?' * len(columns['measurement']))})", rows)
        connection.executemany(
            "INSERT INTO sample (measurement_id, i, value) VALUES (?, ?, ?)",
            ((one + last * i, s, 1000 * factor + s % 7) for one in timed for s in range(per_time)))
    connection.commit()
    counts = [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("run", "sample")]
    connection.close()
    return counts


def compare(options, folder):
    database = options.db or folder / "demo.db"
    if not options.db:
        make_demo(options.new, database)
    pages, cost = [], []
    for name, program in (("old", options.old), ("new", options.new)):
        pages.append(folder / f"{name}.html")
        cost.append(run(program, "report", "--db", database, "-o", pages[-1], "-q"))
    opened = open_pages(options.rounds, *pages)
    print(f"{'':5}{'bytes':>10}{'written, s':>12}{'CPU, s':>9}{'peak, MB':>10}{'load, ms':>10}"
          f"{'shown, ms':>11}{'elements':>10}")
    for name, page, (seconds, busy, peak), one in zip(("old", "new"), pages, cost, opened):
        print(f"{name:5}{page.stat().st_size:10}{seconds:12.2f}{busy:9.2f}{peak:10.0f}{one['load_ms']:10.0f}"
              f"{one['shown_ms']:11.0f}{one['elements']:10}")
    old, new = opened
    bytes_ratio = pages[1].stat().st_size / pages[0].stat().st_size
    print(f"new over old: bytes {bytes_ratio:.2f}, load {new['load_ms'] / old['load_ms']:.2f}, "
          f"shown {new['shown_ms'] / old['shown_ms']:.2f}; medians of {options.rounds} openings each, in turns")


def runs_and_samples(text):
    """Two whole numbers from 1 on, or what argparse says of a bad value."""
    try:
        n_runs, n_samples = map(int, text.split(","))
    except ValueError:
        n_runs = n_samples = 0
    if n_runs < 1 or n_samples < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not RUNS,SAMPLES such as 500,200")
    return n_runs, n_samples


def large(options, folder):
    n_runs, n_samples = options.large
    database, page = folder / "large.db", folder / "large.html"
    runs, samples = make_large(options.new, database, n_runs, n_samples)
    seconds, busy, peak = run(options.new, "report", "--db", database, "-o", page, "-q")
    (one,) = open_pages(3, page)
    print(f"{runs} runs, {samples} samples, {database.stat().st_size / 1e6:.0f} MB: "
          f"report of {page.stat().st_size / 1e6:.2f} MB written in {seconds:.2f} s ({busy:.2f} s of a processor) with "
          f"{peak:.0f} MB, "
          f"loads in {one['load_ms']:.0f} ms, shown in {one['shown_ms']:.0f} ms")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--old")
    parser.add_argument("--new", default=str(ROOT / "build/release/adamas"))
    parser.add_argument("--db", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", type=runs_and_samples, metavar="RUNS,SAMPLES", help="also report on a database of so many")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        if options.old:
            compare(options, Path(folder))
        if options.large:
            large(options, Path(folder))


if __name__ == "__main__":
    main()
