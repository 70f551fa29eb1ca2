#!/usr/bin/env python3
"""The demo: replays the bundled real trace, writes the report, and sums up what the database now says.

    traces/*.safetensors -> adamas replay -> adamas.db -> adamas report -> report.html

Each run is appended to adamas.db, so its history stays; the summary is of the newest run. With --bench only the
host's stages are timed, on the longest context, into a database of their own. `./configure.py --setup demo` and
`ninja demo` call this; so may you, once build/release/adamas is there.
"""
import argparse
import contextlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PROGRAM = "build/release/adamas"
TRACE = "traces/smollm2-135m-kjv.safetensors"
BUDGETS = "16,32,64,128,256,512,1024"
SEQ_LENS = "1024,2048,4096"


def adamas(*arguments):
    print("$ " + " ".join([PROGRAM, *arguments]), flush=True)
    status = subprocess.call([PROGRAM, *arguments])
    if status:
        sys.exit(f"demo.py: adamas {arguments[0]} ended with status {status}")


def rows(database, query, *values):
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(query, values).fetchall()


def summarise(database):
    """Ten lines: accuracy by budget at the longest context, then the time of a decode step."""
    run, seq_len = rows(database, "SELECT run_id, max(seq_len) FROM quality_summary WHERE run_id = "
                                  "(SELECT max(run_id) FROM quality_summary)")[0]
    quality = {(f"{policy} {variant}".strip(), metric, budget): p50 for policy, variant, metric, budget, p50 in rows(
        database, "SELECT policy, coalesce(variant, ''), metric, budget, p50 FROM quality_summary WHERE run_id = ? "
        "AND seq_len = ? AND policy <> 'dense' AND metric IN ('recall', 'output_rel_l2')", run, seq_len)}
    columns = sorted({(metric, name) for name, metric, _ in quality}, reverse=True)
    print(f"run {run}, {seq_len} tokens of context; medians over layers, heads and steps")
    print("budget  " + "  ".join(f"{metric} {name}" for metric, name in columns))
    for budget in sorted({budget for _, _, budget in quality}):
        cells = [quality.get((name, metric, budget)) for metric, name in columns]
        print(f"{budget:>6}  " + "  ".join(
            f"{'-' if value is None else format(value, '.4f'):>{len(metric) + 1 + len(name)}}"
            for value, (metric, name) in zip(cells, columns)))
    times = rows(database, "SELECT stage, budget, median FROM stage_summary WHERE run_id = ? AND seq_len = ? AND "
                 "metric = 'time_ns' AND source = 'host' AND stage IN ('step', 'dense')", run, seq_len)
    print("; ".join(f"{stage} at budget {budget}: {median / 1e3:.1f} us" for stage, budget, median in times))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--bench", action="store_true", help="only time the host's stages, on the longest context")
    options = parser.parse_args()
    os.chdir(ROOT)
    adamas("replay", TRACE, "--budgets", BUDGETS, "--seq-lens", SEQ_LENS, "--db", "adamas.db")
    adamas("report", "--db", "adamas.db", "-o", "report.html")
    print()
    summarise("adamas.db")
    print(f"database: {ROOT / 'adamas.db'}\nreport:   {ROOT / 'report.html'}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("\ndemo.py: interrupted; adamas.db holds whole batches only", file=sys.stderr)
        sys.exit(130)
