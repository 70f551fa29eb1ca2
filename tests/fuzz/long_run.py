#!/usr/bin/env python3
"""Runs the libFuzzer targets by run_fuzz.sh, each for as long as asked, and sums up all runs so far:

    tests/fuzz/long_run.py --seconds 3600 [--cores 2] [--only metrics] [--only database]

Per reader: executions, seconds, executions per second, features covered, findings. A run goes on from the corpora of the last;
corpora, findings and log.tsv are in build/fuzz/runs. A finding that was a fault of ours belongs in tests/fuzz/corpus/NAME with
its cure. Ends with 1 if this run found anything.
"""
import argparse
import collections
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from configure import FUZZERS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="per reader and core (default %(default)s)")
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--only", action="append", choices=FUZZERS, help="may be repeated")
    options = parser.parse_args()
    readers, out = options.only or FUZZERS, ROOT / "build/fuzz/runs"
    done = subprocess.run([ROOT / "tests/fuzz/run_fuzz.sh", str(options.seconds * len(readers)), str(options.cores), out,
                           *readers])
    runs, seconds = collections.Counter(), collections.Counter()
    for line in (out / "log.tsv").read_text().splitlines():
        name, _, n, took, *_ = line.split("\t")
        runs[name] += int(n)
        seconds[name] += int(took)
    print(f"all runs so far: {sum(runs.values()):,} executions in {sum(seconds.values()) / 3600:.1f} core-hours: "
          + ", ".join(f"{name} {n:,}" for name, n in runs.most_common()))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
