#!/usr/bin/env python3
"""A/A checks on this machine, one after the other: false alarms, what stays undecided, exit codes, seconds.

    python3 tests/bench/bench_check.py [--checks 8] [--program build/release/adamas]

Each check runs the program against itself on the bundled session: 3 lengths, 7 budgets, some 90 times beside 171 figures of
quality. The goal is for a machine with two cores that does nothing else; the load is printed with each. Exit status 1 if it is
missed.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMMAND = ["replay", ROOT / "traces/smollm2-135m-kjv.safetensors", "--policies", "adamas", "--thresholds", "calibrated",
           "--seq-lens", "1024,2048,4096", "--budgets", "32,64,128,256,512,768,1024"]
MOST_SECONDS, MOST_OPEN = 60, .02


def one(program, folder, number):
    start = time.monotonic()
    call = [program, "check", "--baseline", program, "--db", folder / f"{number}.db", "--json", "--", *COMMAND]
    result = subprocess.run(call, check=False, capture_output=True, text=True)
    seconds = time.monotonic() - start
    if not result.stdout:
        sys.exit(result.stderr)
    document = json.loads(result.stdout)
    times = [row for row in document["rows"] if row["kind"] == "time"]
    n_open = sum(row["verdict"] == "inconclusive" for row in times)
    n_false = document["n_regressed"] + document["n_improved"]
    print(f"check {number}: exit {result.returncode}, {seconds:5.1f} s, {len(times)} times: {n_false} false alarms, {n_open} "
          f"undecided, {document['n_within_own_scatter']} only within the baseline's own scatter; up to "
          f"{max(row['n_baseline'] for row in times)} processes per side; load {os.getloadavg()[0]:.1f}", flush=True)
    for row in times:
        if row["verdict"] == "inconclusive":
            print(f"    {row['stage']}, {row['configuration']}: {row['time']['low_ratio']:+.2%} to "
                  f"{row['time']['high_ratio']:+.2%}")
    return n_false, n_open / len(times), result.returncode, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checks", type=int, default=8)
    parser.add_argument("--program", type=Path, default=ROOT / "build/release/adamas")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = [one(options.program.resolve(), Path(folder), i + 1) for i in range(options.checks)]
    n_false, shares, codes, seconds = zip(*seen, strict=True)
    reached = [sum(n_false) == 0, sum(shares) / len(shares) <= MOST_OPEN, not any(codes), max(seconds) <= MOST_SECONDS]
    print(f"{sum(n_false)} false alarms (goal 0); {sum(shares) / len(shares):.1%} undecided (goal {MOST_OPEN:.0%}); exit 0 in "
          f"{codes.count(0)} of {len(codes)} (goal all); longest {max(seconds):.0f} s (goal {MOST_SECONDS})")
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
